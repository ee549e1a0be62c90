"""The marks that the project has set itself for a swarm on shaped links. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from benchmarks.clients import MIXED, OURS, STOCK
from benchmarks.measure import Series
from benchmarks.tables import Mark, number, percent, ratio

MOST = {"S1": 1.25, "S2": 1.25, "S3": 1.4, "S4": 1.05, "S5": 1.35, "S1-16K": 1.3}
AIMS = {"S1": 1.08, "S2": 1.15, "S3": 1.2, "S4": 1.02, "S5": 1.15, "S1-16K": 1.1}
"""last / T*: what it must be, and what it should be."""
MOST_COPIES, AIM_COPIES = 1.15, 1.03
LARGER = ("S1-20", "S1-30")
MOST_LARGER = 0.05
"""How much more last / T* may be than with 10 leechers."""
MARKED = {*MOST, *LARGER, "mixed"}
"""The scenarios that have marks."""
MOST_APART = 1.1
"""How much later than the other half one half of a mixed swarm may be done."""
MOST_AWAY = 0.15
"""How much the real last / T* may differ from that of the rehearsal."""


def marks_of(measured: Mapping[str, Mapping[str, Series]], rehearsed: Mapping[str, float]) -> list[Mark]:
    """Those of what was measured, by scenario and contender; `rehearsed`: last / T*, by scenario."""
    ours = {name: series[OURS.name] for name, series in measured.items() if OURS.name in series}
    last = {name: series.median("last") for name, series in ours.items()}
    marks = []
    for name, most in MOST.items():
        if name in ours:
            marks.append(Mark(f"{name}: last / T* (aim {AIMS[name]:.2f})", last[name], most=most))
    if "S1" in ours:
        copies = ours["S1"].median("copies")
        marks.append(Mark(f"S1: copies that the seeder uploads (aim {AIM_COPIES})", copies, most=MOST_COPIES))
    if "S2" in ours:
        marks.append(Mark("S2: leechers that finish", ours["S2"].median("finished"), least=10))
    for name in LARGER:
        if name in ours and "S1" in ours:
            more = last[name] - last["S1"]
            marks.append(Mark(f"{name}: last / T*, more than with 10 leechers", more, most=MOST_LARGER))
    for name, expected in rehearsed.items():
        if name in MARKED and not math.isnan(expected):
            away = abs(ratio(last[name], expected) - 1)
            text = f"{name}: last / T*, away from the {number(expected)} rehearsed"
            marks.append(Mark(text, math.inf if math.isnan(away) else away, most=MOST_AWAY, show=percent))
    return [*marks, *_mixed_marks(measured.get("mixed", {}))]


def _mixed_marks(series: Mapping[str, Series]) -> list[Mark]:
    """Guests are done as soon as their hosts: the hosts are those whose seeder it is."""
    marks = []
    for cast in MIXED:
        hosts, guests = (OURS, STOCK) if cast.seeder is OURS else (STOCK, OURS)
        one = series.get(cast.name, Series())
        apart = ratio(one.median(f"last {guests.name}"), one.median(f"last {hosts.name}"))
        if not math.isnan(apart):
            text = f"mixed: {guests.name} among {hosts.name}, last / last"
            marks.append(Mark(text, apart, most=MOST_APART))
    return marks
