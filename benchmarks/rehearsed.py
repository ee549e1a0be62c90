"""`bench rehearsal`: swarms too large for one machine's processes, on the virtual clock, against their bound.

The scenarios' seeds are fixed, so that the figures of one version are the same
everywhere; only the time that a rehearsal takes is the machine's. Those that
are made in namespaces too stand beside what was measured there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from benchmarks.plan import Plan, chosen_names
from benchmarks.report import Report
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.tables import Mark, Table, number, ratio
from orchestra.rehearsal import plan as rehearsal
from orchestra.rehearsal.outcome import Outcome
from orchestra.rehearsal.plan import Group
from orchestra.rehearsal.run import rehearse

SIZE_BYTES = 64 << 20
PART_BYTES = 256 * 1024
PAYLOAD = 1448 / 1514
UP_BYTES_S, DOWN_BYTES_S = 5e6 * PAYLOAD, 10e6 * PAYLOAD
CROWD = 300
SHARER = Group(1, UP_BYTES_S, DOWN_BYTES_S, holds_all=True)


def crowd(*groups: Group) -> rehearsal.Plan:
    """One sharer, and these."""
    return rehearsal.Plan(SIZE_BYTES, PART_BYTES, (SHARER, *groups))


def members(number_of: int, *, up: float = 1.0, **habits: bool | float) -> Group:
    """So many machines with 40 Mbit/s up, times `up`, and 80 down."""
    return Group(number_of, up * UP_BYTES_S, DOWN_BYTES_S, **habits)  # type: ignore[arg-type]


SWARMS: dict[str, tuple[str, Callable[[], rehearsal.Plan]]] = {
    "flash-300": ("300 members that start together", lambda: crowd(members(CROWD))),
    "slow": (
        "half of 300 upload a tenth of the others",
        lambda: crowd(members(CROWD // 2, up=0.1), members(CROWD // 2)),
    ),
    "churn": (
        "300 leave when they are complete, a fifth of them die half-way",
        lambda: crowd(
            members(CROWD * 4 // 5, leaves_when_complete=True), members(CROWD // 5, dies_at_share=0.5)
        ),
    ),
    "free-riders": (
        "a fifth of 300 upload nothing",
        lambda: crowd(members(CROWD * 4 // 5), members(CROWD // 5, gives=False)),
    ),
    "flash-1000": ("1,000 members that start together", lambda: crowd(members(1_000))),
    "flash-10000": ("10,000 members that start together", lambda: crowd(members(10_000))),
}


def run(plan: Plan) -> Report:
    """Rehearse what was asked for: without names, all but the largest, which takes hours."""
    small = [name for name in SWARMS if name != "flash-10000"]
    names = chosen_names(list(SWARMS), plan.scenarios) if plan.scenarios else small
    outcomes: dict[str, Outcome] = {}
    rows = []
    for name in names:
        text, make = SWARMS[name]
        plan.tell(f"{name}: {text}")
        began_s = time.monotonic()
        outcome = outcomes[name] = rehearse(make())
        rows.append([f"{name}: {text}", *cells(outcome), number(time.monotonic() - began_s, 0)])
        plan.tell(", ".join(rows[-1]))
    heading = ["", "T*, s", "last / T*", "median / T*", "finished", "copies", "first copy / T*", "took, s"]
    tables = [Table("Rehearsed swarms: 64 MiB in 256 parts, 40 Mbit/s up, 80 down", heading, rows)]
    if not plan.scenarios:
        tables.append(namespace_table(plan))
    return Report(tables, marks=marks_of(outcomes))


def cells(outcome: Outcome) -> list[str]:
    """What stands in the table for one."""
    bound_s = outcome.bound_s
    fetching = [one for one in outcome.members if not outcome.plan.groups[one.group].holds_all]
    return [
        number(bound_s, 2),
        number(last(outcome)),
        number((outcome.median_s or math.nan) / bound_s),
        f"{len(outcome.finish_times_s)} of {len(fetching)}",
        number(outcome.seeder_copies),
        number((outcome.copies_out_s or math.nan) / bound_s),
    ]


def last(outcome: Outcome | None) -> float:
    """last / T* of a rehearsal; nan when there was none."""
    return math.nan if outcome is None or outcome.last_s is None else outcome.last_s / outcome.bound_s


def honest_s(outcome: Outcome | None) -> float:
    """When the last member that gives had all; nan when there was no rehearsal."""
    if outcome is None:
        return math.nan
    times = [one.finished_s for one in outcome.members if outcome.plan.groups[one.group].gives]
    return max((finished_s for finished_s in times if finished_s is not None), default=math.nan)


def marks_of(outcomes: dict[str, Outcome]) -> list[Mark]:
    """The marks for what was rehearsed."""
    one = outcomes.get
    thousand = one("flash-1000")
    marks = [
        Mark("1,000 members: last / T* (aim 1.10)", last(thousand), most=1.25),
        Mark(
            "1,000 members: copies that the sharer uploads (aim 1.05)",
            math.nan if thousand is None else thousand.seeder_copies,
            most=1.3,
        ),
        Mark("10,000 members: last / T* (aim 1.15)", last(one("flash-10000")), most=1.35),
        Mark("half on a tenth of the upload: last / T* (aim 1.2)", last(one("slow")), most=1.35),
        Mark("churn: last / T* (aim 1.25)", last(one("churn")), most=1.5),
        Mark(
            "a fifth free riders: the others' time / without them (aim 1.05)",
            ratio(honest_s(one("free-riders")), honest_s(one("flash-300"))),
            most=1.15,
        ),
    ]
    return [mark for mark in marks if not math.isnan(mark.value)]


def namespace_table(plan: Plan) -> Table:
    """The scenarios of `bench swarm` with ours alone, rehearsed."""
    rows = []
    for name, scenario in SCENARIOS.items():
        if not scenario.mixed:
            plan.tell(f"rehearsing {name}")
            rows.append([f"{name}: {scenario.text}", *cells(rehearse(plan_of(scenario)))])
    heading = ["", "T*, s", "last / T*", "median / T*", "finished", "copies", "first copy / T*"]
    return Table("The scenarios above, rehearsed", heading, rows)


def plan_of(
    scenario: Scenario, size_bytes: int = SIZE_BYTES, starts_within_s: float = rehearsal.START_S
) -> rehearsal.Plan:
    """A scenario of the namespaces as one of the virtual clock."""
    groups = [
        Group(
            1,
            _bytes_s(host.up_bit_s),
            _bytes_s(host.down_bit_s),
            starts_within_s=starts_within_s,
            holds_all=True,
            leaves_after_copies=scenario.leave_copies,
        )
        for host in scenario.seeders
    ]
    starts_s = scenario.starts_s(size_bytes)
    for host, start_s in zip(scenario.leechers, starts_s, strict=True):
        up_bytes_s, down_bytes_s = _bytes_s(host.up_bit_s), _bytes_s(host.down_bit_s)
        groups.append(Group(1, up_bytes_s, down_bytes_s, joins_at_s=start_s, starts_within_s=starts_within_s))
    return rehearsal.Plan(size_bytes, scenario.part_bytes, tuple(groups))


def _bytes_s(bit_s: float | None) -> float:
    return (bit_s or 10**9) / 8 * PAYLOAD
