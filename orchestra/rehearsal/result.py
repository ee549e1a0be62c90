"""What a rehearsal tells whoever asked for it: the outcome in terms of the whole composition. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from orchestra import humans
from orchestra.rehearsal.options import Scenario, line_bits_s
from orchestra.rehearsal.outcome import MemberOutcome, Outcome
from orchestra.rehearsal.plan import START_S, Group, Plan, bound_s


@dataclass(frozen=True, slots=True)
class GroupResult:
    """How the machines of one group fared. Times are None when none of it finished; copies are means."""

    group: Group
    finished: int
    median_s: float | None
    last_s: float | None
    uploaded_copies: float


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario and its outcome. The sharer is the group that holds all, machines are those that fetch."""

    scenario: Scenario
    outcome: Outcome

    @property
    def bound_s(self) -> float:
        """See plan.bound_s."""
        return bound_s(self.scenario.plan)

    @property
    def bound_by(self) -> str:
        """What would have to be faster for a lower bound."""
        plan = self.scenario.plan
        sharer_bytes_s = sum(group.members * group.up_bytes_s for group in plan.groups if group.holds_all)
        if self.bound_s <= plan.size_bytes / sharer_bytes_s:
            return "the sharer's upload"
        own_s = [
            group.joins_at_s + plan.size_bytes / group.down_bytes_s
            for group in plan.groups
            if not group.holds_all
        ]
        if self.bound_s > max(own_s):
            return "what all upload together"
        return "who joins last" if any(group.joins_at_s for group in plan.groups) else "each one's download"

    @property
    def alone_s(self) -> float:
        """How long the sharer would take to send it to each of them itself."""
        plan = self.scenario.plan
        sharer_bytes_s = sum(group.members * group.up_bytes_s for group in plan.groups if group.holds_all)
        return self.machines * plan.size_bytes / sharer_bytes_s

    @property
    def machines(self) -> int:
        """Machines that fetch."""
        return self.scenario.machines

    @property
    def finish_times_s(self) -> list[float]:
        """When each machine that has it all had it, in order."""
        return self.outcome.finish_times_s

    @property
    def finished(self) -> int:
        """Machines that had it all in the end."""
        return len(self.finish_times_s)

    @property
    def cut_off(self) -> int:
        """Machines that were to die before they had it all, and did."""
        return sum(
            member.finished_s is None
            for member in self.outcome.members
            if self._group(member).dies_at_share is not None
        )

    def ratio(self, time_s: float | None) -> float | None:
        """`time_s` in bounds."""
        return None if time_s is None or not self.bound_s else time_s / self.bound_s

    @property
    def sharer_copies(self) -> float:
        """What the sharer uploaded, in copies of the composition."""
        return self.outcome.seeder_copies

    @property
    def sharer_bytes(self) -> int:
        """What the sharer uploaded."""
        return round(self.sharer_copies * self.scenario.plan.size_bytes)

    def copies(self, uploaded_bytes: float) -> float:
        """Bytes of the rehearsal in copies of the composition."""
        return uploaded_bytes / self.outcome.plan.size_bytes

    @property
    def uploads_copies(self) -> list[float]:
        """What each machine that fetches uploaded, most first."""
        uploaded = (
            member.uploaded_bytes for member in self.outcome.members if not self._group(member).holds_all
        )
        return sorted(map(self.copies, uploaded), reverse=True)

    def finish_times_of(self, group: int) -> list[float]:
        """When the machines of that group had it all, in order."""
        return sorted(
            member.finished_s
            for member in self.outcome.members
            if member.group == group and member.finished_s is not None
        )

    @property
    def groups(self) -> list[GroupResult]:
        """The groups that fetch, in the order of the plan."""
        found = []
        for place, group in enumerate(self.scenario.plan.groups):
            if group.holds_all:
                continue
            times = self.finish_times_of(place)
            uploaded = sum(each.uploaded_bytes for each in self.outcome.members if each.group == place)
            found.append(
                GroupResult(
                    group=group,
                    finished=len(times),
                    median_s=statistics.median(times) if times else None,
                    last_s=times[-1] if times else None,
                    uploaded_copies=self.copies(uploaded) / group.members,
                )
            )
        return found

    def _group(self, member: MemberOutcome) -> Group:
        return self.scenario.plan.groups[member.group]


# Words


def line_rate(bytes_s: float) -> str:
    """The link that carries so many payload bytes a second, as links are sold: "100 Mbit/s"."""
    value = line_bits_s(bytes_s) / 1000
    for unit in ("kbit/s", "Mbit/s", "Gbit/s"):
        if value < 999.5 or unit == "Gbit/s":
            break
        value /= 1000
    return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"


def sharer(plan: Plan) -> str:
    """The sharer in words: "1 Gbit/s up, leaves after 1.10 copies"."""
    [group] = (group for group in plan.groups if group.holds_all)
    text = f"{line_rate(group.up_bytes_s)} up"
    leaves = group.leaves_after_copies
    return text if leaves is None else f"{text}, leaves after {leaves:.2f} copies"


def machine_rows(plan: Plan) -> list[tuple[str, str]]:
    """Those who fetch in words: ("500 machines", "100 Mbit/s up ..."), ("of these 100", "upload nothing")."""
    fetching = [group for group in plan.groups if not group.holds_all]
    up_bytes_s = max(group.up_bytes_s for group in fetching)
    links = f"{line_rate(up_bytes_s)} up, {line_rate(fetching[0].down_bytes_s)} down"
    within_s = fetching[0].starts_within_s
    if within_s != START_S:
        within = humans.duration(within_s) if within_s >= 1 else f"{within_s * 1000:g} ms"
        links += f", start within {within}"
    if all(group.leaves_when_complete for group in fetching):
        links += ", each leaves when it is complete"
    counts: dict[str, int] = {}
    for group in fetching:
        for habit in _habits(group, up_bytes_s):
            counts[habit] = counts.get(habit, 0) + group.members
    number = sum(group.members for group in fetching)
    rows = [(f"{number:,} machine{'s' if number != 1 else ''}", links)]
    return rows + [(f"of these {count:,}", habit) for habit, count in counts.items()]


def apart(result: Result, group: Group) -> str:
    """What sets a group apart from the others that fetch: "upload nothing", "the rest"."""
    return ", ".join(_habits(group, max(each.group.up_bytes_s for each in result.groups))) or "the rest"


def _habits(group: Group, usual_up_bytes_s: float) -> list[str]:
    habits = []
    if group.up_bytes_s < usual_up_bytes_s:
        habits.append(f"only {line_rate(group.up_bytes_s)} up")
    if not group.gives:
        habits.append("upload nothing")
    if group.joins_at_s:
        habits.append(f"join after {humans.duration(group.joins_at_s)}")
    if group.dies_at_share is not None:
        habits.append("are cut off half-way")
    return habits


def composition(scenario: Scenario) -> str:
    """Size and parts: "5.37 GB in 10,240 parts, rehearsed as 1,024"."""
    plan = scenario.plan
    words = f"{humans.size(plan.size_bytes)} in {scenario.parts:,} part{'s' if scenario.parts != 1 else ''}"
    if scenario.rehearsed_parts != scenario.parts:
        words += f", rehearsed as {scenario.rehearsed_parts:,}"
    return words
