"""A rehearsal from its plan to its outcome."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable

from orchestra.geometry import Geometry
from orchestra.rehearsal.clock import Clock
from orchestra.rehearsal.conductor import Conductor
from orchestra.rehearsal.host import Network
from orchestra.rehearsal.member import Member
from orchestra.rehearsal.outcome import MemberOutcome, Outcome
from orchestra.rehearsal.plan import Plan, bound_s
from orchestra.rehearsal.speech import Speech
from orchestra.rehearsal.tally import Parts, Timeline, Trace

OnProgress = Callable[[float, int, int], None]

PATIENCE_S = 300.0
"""When no block has come anywhere and nobody has joined for so long, and nobody is still to join, it has come
to a standstill."""
_STEPS = 500
"""In how many steps of the least time that it takes progress is told; but each second at least."""
LEAST_STEP_S = 0.01
"""Progress is told no more often than this, in virtual time."""
_LOOKS = 150
"""At how many moments of the least time that it takes the figures are looked at."""


def rehearse(plan: Plan, *, on_progress: OnProgress | None = None) -> Outcome:
    """Rehearse `plan`. `on_progress` hears the virtual time, how many have finished, and how many fetch."""
    collects = gc.isenabled()
    # What is made here is needed to the end: to look for garbage in it takes longer than all else.
    gc.disable()
    try:
        return _Rehearsal(plan, on_progress).run()
    finally:
        if collects:
            gc.enable()


class _Rehearsal:
    def __init__(self, plan: Plan, on_progress: OnProgress | None) -> None:
        self._plan = plan
        self._on_progress = on_progress
        self._geometry = Geometry(plan.size_bytes, plan.part_size_bytes)
        self._clock = Clock()
        self._rng = random.Random(plan.seed)  # noqa: S311 - it guards nothing, and is to be the same again
        self._trace = Trace()
        self._network = Network(
            self._clock,
            Speech(self._geometry),
            self._trace,
            latency_s=plan.latency_s,
            part_size_bytes=plan.part_size_bytes,
        )
        self._conductor = Conductor(self._clock, random.Random(self._rng.random()))  # noqa: S311
        self._parts = Parts(self._geometry.parts)
        starts_s = [group.joins_at_s + group.starts_within_s for group in plan.groups]
        least_s = max([bound_s(plan), *starts_s]) or 1.0
        self._timeline = Timeline(self._clock, least_s / _LOOKS, self._look)
        self._step_s = min(max(least_s / _STEPS, LEAST_STEP_S), 1.0)
        self._joins: list[tuple[float, int, random.Random]] = []
        self._members: dict[int, Member] = {}
        self._seeds: list[Member] = []
        self._fetching = 0
        self._unsettled: set[int] = set()
        self._finished = 0

    def run(self) -> Outcome:
        """To its end."""
        self._enter_joins()
        self._timeline.begin()
        self._clock.at(self._plan.limit_s, self._give_up, None)
        self._clock.after(self._step_s, self._each_step, None)
        if self._unsettled:
            self._clock.run()
        self._timeline.note()
        return Outcome(
            plan=self._plan,
            members=tuple(self._outcome(number) for number in range(len(self._joins))),
            timeline=tuple(self._timeline.moments),
            copies_out_s=self._parts.copies_out_s,
            ended_s=self._clock.now_s,
            messages=self._trace.messages,
            trace_sha1=self._trace.hexdigest(),
        )

    def _enter_joins(self) -> None:
        for group_number, group in enumerate(self._plan.groups):
            for _ in range(group.members):
                joins_s = group.joins_at_s + self._rng.uniform(0.0, group.starts_within_s)
                number = len(self._joins)
                self._joins.append((joins_s, group_number, random.Random(self._rng.random())))  # noqa: S311
                if not group.holds_all:
                    self._fetching += 1
                    self._unsettled.add(number)
                self._clock.at(joins_s, self._join, number)

    def _join(self, number: int) -> None:
        _, group_number, rng = self._joins[number]
        group = self._plan.groups[group_number]
        member = Member(
            number + 1,
            group,
            group_number,
            self._geometry,
            rng,
            network=self._network,
            conductor=self._conductor,
            parts=self._parts,
            settled=lambda _: self._settle(number),
        )
        self._members[number] = member
        if group.holds_all:
            self._seeds.append(member)
        self._network.moved_s = self._clock.now_s
        member.begin()

    def _outcome(self, number: int) -> MemberOutcome:
        if number in self._members:
            return self._members[number].outcome()
        joins_s, group_number, _ = self._joins[number]
        return MemberOutcome(group_number, joins_s, None, None, 0, 0, 0)

    def _look(self) -> tuple[int, int]:
        return self._parts.held, sum(member.uploaded_bytes for member in self._seeds)

    def _settle(self, number: int) -> None:
        if number in self._unsettled:
            self._unsettled.remove(number)
            self._finished += self._members[number].finished_s is not None
            if not self._unsettled:
                self._clock.stop()

    def _each_step(self, _: None) -> None:
        if self._on_progress is not None:
            self._on_progress(self._clock.now_s, self._finished, self._fetching)
        all_here = len(self._members) == len(self._joins)
        if all_here and self._clock.now_s - self._network.moved_s > PATIENCE_S:
            self._clock.stop()
        self._clock.after(self._step_s, self._each_step, None)

    def _give_up(self, _: None) -> None:
        self._clock.stop()
