"""What came of a rehearsal. Pure values."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from orchestra.rehearsal.plan import Plan, bound_s


@dataclass(frozen=True, slots=True)
class MemberOutcome:
    """One machine. `group` is its group's place in the plan, `finished_s` None when it never had all."""

    group: int
    joined_s: float
    finished_s: float | None
    left_s: float | None
    uploaded_bytes: int
    downloaded_bytes: int
    wasted_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole rehearsal.

    `copies_out_s`: when every part had been seen whole at some member that fetches, None if never.
    `timeline`: (time, parts held by all members that fetch together, bytes that those who held all had
    uploaded), at most some 400 moments, in order. `trace_sha1`: of all that every member was told, in order:
    equal for equal plans.
    """

    plan: Plan
    members: tuple[MemberOutcome, ...]
    timeline: tuple[tuple[float, int, int], ...]
    copies_out_s: float | None
    ended_s: float
    messages: int
    trace_sha1: str

    @property
    def bound_s(self) -> float:
        """See plan.bound_s."""
        return bound_s(self.plan)

    @property
    def finish_times_s(self) -> list[float]:
        """When each member that fetched had all, in order of time; those who never had are left out."""
        return sorted(
            member.finished_s
            for member in self.members
            if member.finished_s is not None and not self.plan.groups[member.group].holds_all
        )

    @property
    def median_s(self) -> float | None:
        """When half of those who finished had finished; None when nobody did."""
        times = self.finish_times_s
        return statistics.median(times) if times else None

    @property
    def last_s(self) -> float | None:
        """When the last of those who finished had finished; None when nobody did."""
        times = self.finish_times_s
        return times[-1] if times else None

    @property
    def seeder_copies(self) -> float:
        """What those who held all from the start uploaded together, in copies of the composition."""
        uploaded = sum(
            member.uploaded_bytes for member in self.members if self.plan.groups[member.group].holds_all
        )
        return uploaded / self.plan.size_bytes if self.plan.size_bytes else 0.0
