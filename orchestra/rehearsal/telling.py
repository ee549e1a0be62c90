"""A result as lines for people and as the fields of a JSON event. Pure."""

from __future__ import annotations

from orchestra import humans
from orchestra.rehearsal.result import Result, apart, composition, machine_rows, sharer
from orchestra.text import safe

MOST_GROUPS = 4
"""With more groups than these, they are told together: only the page has a table of all."""


def result_fields(result: Result) -> dict[str, object]:
    """What the event `rehearsed` has. Times in seconds; null for what never came."""
    scenario, outcome = result.scenario, result.outcome
    return {
        "name": scenario.name,
        "size_bytes": scenario.plan.size_bytes,
        "part_size_bytes": scenario.plan.part_size_bytes,
        "parts": scenario.parts,
        "rehearsed_parts": scenario.rehearsed_parts,
        "rehearsed_bytes": scenario.rehearsed.size_bytes,
        "members": result.machines,
        "finished": result.finished,
        "bound_s": _rounded(result.bound_s),
        "median_s": _rounded(outcome.median_s),
        "last_s": _rounded(outcome.last_s),
        "median_ratio": _rounded(result.ratio(outcome.median_s)),
        "last_ratio": _rounded(result.ratio(outcome.last_s)),
        "sharer_copies": _rounded(result.sharer_copies),
        "sharer_bytes": result.sharer_bytes,
        "copy_out_s": _rounded(outcome.copies_out_s),
        "seed": scenario.plan.seed,
        "messages": outcome.messages,
        "trace_sha1": outcome.trace_sha1,
    }


def lines(result: Result) -> list[str]:
    """The result for people: what was rehearsed, then when who has it, then what it costs the sharer."""
    return [*_columns(_inputs(result)), "", *_columns(_results(result))]


def copies(number: float) -> str:
    """ "1.04 copies"."""
    return f"{number:.2f} copies"


def when(result: Result, time_s: float | None) -> str:
    """A time, and what it is in bounds: "7 min 50 s, 1.04 T*"."""
    ratio = result.ratio(time_s)
    if time_s is None:
        return "never"
    return humans.duration(time_s) + (f", {ratio:.2f} T*" if ratio is not None else "")


def finishers(result: Result) -> str:
    """How many have it in the end, and why others do not."""
    text = f"{result.finished:,} of {result.machines:,} machines"
    if result.cut_off:
        text += f", {result.cut_off:,} are cut off half-way"
    stuck = result.machines - result.finished - result.cut_off
    return text + (f", {stuck:,} never get all" if stuck else "")


def _inputs(result: Result) -> list[tuple[str, str]]:
    plan = result.scenario.plan
    rows = [(safe(result.scenario.name) or "a composition", composition(result.scenario))]
    rows += [("the sharer", sharer(plan)), *machine_rows(plan)]
    return [*rows, ("latency", f"{plan.latency_s * 1000:g} ms from one to another")]


def _results(result: Result) -> list[tuple[str, str]]:
    outcome = result.outcome
    rows = [
        ("the bound T*", f"{humans.duration(result.bound_s)}, set by {result.bound_by}"),
        ("half have it", when(result, outcome.median_s)),
        ("the last has it", when(result, outcome.last_s)),
    ]
    if 1 < len(result.groups) <= MOST_GROUPS:
        rows += [
            (f"  of {each.group.members:,}", f"{when(result, each.last_s)}: {apart(result, each.group)}")
            for each in result.groups
        ]
    if result.finished < result.machines:
        rows.append(("complete are", finishers(result)))
    out = outcome.copies_out_s
    whole = "never a whole one" if out is None else f"one is out whole after {humans.duration(out)}"
    sent = f"{copies(result.sharer_copies)}, {humans.size(result.sharer_bytes)}; {whole}"
    return [
        *rows,
        ("the sharer sends", sent),
        ("without a swarm", f"{humans.duration(result.alone_s)}: the sharer sends to each itself"),
    ]


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = max(humans.columns(name) for name, _ in rows)
    return [f"{name}{' ' * (width - humans.columns(name))}  {text}" for name, text in rows]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
