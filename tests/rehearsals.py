"""Hand-made outcomes of rehearsals, for what tells of them. No swarm is behind them."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import conductor
from orchestra.rehearsal.options import Scenario, read_scenario
from orchestra.rehearsal.outcome import MemberOutcome, Outcome
from orchestra.rehearsal.plan import Plan, bound_s
from orchestra.rehearsal.result import Result

USUAL = ("--size", "100M", "--members", "10", "--up", "100M", "--down", "1G")


def options(*words: str) -> Namespace:
    """The conductor's command line with these words behind --rehearse."""
    return conductor.make_parser().parse([*words, "--rehearse"])


def scenario(*words: str, name: str = "") -> Scenario:
    """The usual scenario, and what the words change of it."""
    return replace(read_scenario(options(*USUAL, *words), None), name=name)


def outcome(plan: Plan, *, slowness: float = 1.1, finishing: float = 1.0) -> Outcome:
    """Everybody finishes one after the other from the bound on, the last at `slowness` bounds.

    But not those who die, and only that share (`finishing`) of the others. All upload as much as they can.
    """
    bound = bound_s(plan)
    first_s, last_s = bound * 1.02, bound * slowness
    number = sum(group.members for group in plan.groups if not group.holds_all)
    members: list[MemberOutcome] = []
    for place, group in enumerate(plan.groups):
        for nth in range(group.members):
            rank = (len(members)) / max(number, 1)
            dies = group.dies_at_share is not None
            done_s = None
            if not group.holds_all and not dies and nth < group.members * finishing:
                done_s = first_s + (last_s - first_s) * rank
            share = 1.07 if group.holds_all else 0.4 + 0.6 * rank
            members.append(
                MemberOutcome(
                    group=place,
                    joined_s=group.joins_at_s,
                    finished_s=done_s,
                    left_s=bound / 2 if dies else None,
                    uploaded_bytes=int(plan.size_bytes * share) if group.gives else 0,
                    downloaded_bytes=0 if group.holds_all else plan.size_bytes,
                    wasted_bytes=0,
                )
            )
    parts = number * -(-plan.size_bytes // plan.part_size_bytes)
    steps = [nth / 40 for nth in range(41)]
    return Outcome(
        plan=plan,
        members=tuple(members),
        timeline=tuple(
            (last_s * at, int(parts * at * at), int(plan.size_bytes * min(1.07, at * 1.4))) for at in steps
        ),
        copies_out_s=last_s * 0.72,
        ended_s=last_s,
        messages=123_456,
        trace_sha1="ab" * 20,
    )


def result(*words: str, name: str = "", slowness: float = 1.1, finishing: float = 1.0) -> Result:
    """A scenario with its hand-made outcome."""
    made = scenario(*words, name=name)
    return Result(made, outcome(made.rehearsed, slowness=slowness, finishing=finishing))
