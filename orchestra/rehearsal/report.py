"""A rehearsal as one page of HTML: no script, nothing from elsewhere, light and dark, fit for a phone. Pure.

The same result gives the same page, to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from orchestra import __version__, humans
from orchestra.rehearsal import charts
from orchestra.rehearsal.charts import Chart, number_axis, time_axis
from orchestra.rehearsal.result import Result, apart, composition, machine_rows, sharer
from orchestra.rehearsal.telling import MOST_GROUPS, copies, finishers, when
from orchestra.text import safe

Row = tuple[str, ...]

UNIT, KEPT_UNIT = " T*", "&#160;T*"
"""Stays on the line of its number."""

_COLOURS = ("c1", "c2", "c3", "c4")
"""Of groups: one for each of MOST_GROUPS."""
_HEADROOM = 1.06

_FETCHES_NOTHING = "default-src 'none'; style-src 'unsafe-inline'"
"""For whoever the page is passed on to, whatever a name in it says."""

_STYLE = """\
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2933;--dim:#5f6b7a;--grid:#e1e5ea;--card:#f4f6f8;
--c0:#b3541e;--c1:#2563a8;--c2:#17805a;--c3:#8447b8;--c4:#8a6d00}
@media(prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e6e9ed;--dim:#9aa7b4;--grid:#2e3741;--card:#1d232a;
--c0:#f0925a;--c1:#6cb0f5;--c2:#4fc38f;--c3:#c79cf2;--c4:#dcbb4a}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:68rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:break-word}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.5rem 0}.dim{color:var(--dim)}
.cards,.charts{display:grid;gap:1rem;margin:1rem 0}
.cards{grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr))}
.charts{grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem 2rem}
.card{background:var(--card);border-radius:.5rem;padding:.6rem .8rem}
.card b{display:block;font-size:1.35rem;line-height:1.3}.card span{color:var(--dim);font-size:.9rem}
figure{margin:0}figcaption{font-size:.9rem}figcaption b{display:block;font-size:1rem}
svg{display:block;width:100%;height:auto;font:13px system-ui,sans-serif}
svg text{fill:var(--ink)}svg .dim{fill:var(--dim)}
path{fill:none}.grid{stroke:var(--grid)}.line{stroke-width:2.2;stroke-linejoin:round}
.mark{stroke-width:1.4;stroke-dasharray:5 4}.area{stroke:none;fill-opacity:.18}
path.dim{stroke:var(--dim)}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}
text.c0{stroke:none;fill:var(--c0)}text.c1{stroke:none;fill:var(--c1)}
.area.c1,.bar.c1{stroke:none;fill:var(--c1)}.area.c0,.bar.c0{stroke:none;fill:var(--c0)}
.key{display:inline-block;margin-right:1rem}.key i{display:inline-block;width:1.2rem;height:0;
border-top:3px solid;margin-right:.4rem;vertical-align:middle}
.k1{border-color:var(--c1)!important}.k2{border-color:var(--c2)!important}.k3{border-color:var(--c3)!important}
.k4{border-color:var(--c4)!important}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.95rem}
th,td{text-align:left;vertical-align:top;padding:.25rem 1rem .25rem 0;border-bottom:1px solid var(--grid)}
th{font-weight:normal;color:var(--dim);white-space:nowrap}"""


def page(result: Result) -> str:
    """The whole page."""
    size = humans.size(result.scenario.plan.size_bytes)
    name = escape(safe(result.scenario.name) or f"A composition of {size}")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8"/>',
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
            f'<meta http-equiv="Content-Security-Policy" content="{_FETCHES_NOTHING}"/>',
            f"<title>Rehearsal: {name}</title>",
            f"<style>\n{_STYLE}\n</style>",
            "</head>",
            "<body>",
            f'<p class="dim">Rehearsal of a swarm</p>\n<h1>{name}</h1>',
            f"<p>{escape(_summary(result))}</p>",
            _cards(result),
            '<div class="charts">',
            *_figures(result),
            "</div>",
            '<div class="charts">',
            f"<section><h2>What was rehearsed</h2>{_table(_inputs(result))}</section>",
            f"<section><h2>What came of it</h2>{_table(_results(result))}</section>",
            "</div>",
            *_groups(result),
            *_notes(result),
            "</body>",
            "</html>\n",
        ]
    )


def _summary(result: Result) -> str:
    last_s = result.outcome.last_s
    if last_s is None:
        return f"None of {result.machines:,} machines would have it."
    who = "All" if result.finished == result.machines else f"{result.finished:,} of"
    return f"{who} {result.machines:,} machines would have it after {humans.duration(last_s)}."


def _cards(result: Result) -> str:
    outcome = result.outcome
    cards = [
        ("the last has it", outcome.last_s),
        ("half have it", outcome.median_s),
        ("the bound T*", result.bound_s),
    ]
    shown = [(humans.duration(time_s) if time_s is not None else "never", name) for name, time_s in cards]
    for place in (0, 1):
        ratio = result.ratio(cards[place][1])
        if ratio is not None:
            shown[place] = (shown[place][0], f"{shown[place][1]}: {ratio:.2f} T*")
    shown.append((copies(result.sharer_copies), "the sharer uploads"))
    inner = "".join(f'<div class="card"><b>{value}</b><span>{name}</span></div>' for value, name in shown)
    return f'<div class="cards">{inner}</div>'


# Charts


def _figures(result: Result) -> Iterable[str]:
    yield _figure(
        _completion(result),
        "Machines that have it all",
        "The dashed line is the bound: nobody can have all of them served sooner.",
        _keys(result),
    )
    yield _figure(
        _uploads(result),
        "What each machine uploads",
        "In copies of the composition, most first; the sharer apart at the left.",
    )
    yield _figure(_parts(result), "Parts", "Held by all machines that fetch together, of all that they want.")
    yield _figure(
        _sharer(result), "What the sharer has uploaded", "In copies of the composition. One is the least."
    )


def _figure(chart: Chart, title: str, text: str, keys: str = "") -> str:
    return f"<figure><figcaption><b>{title}</b>{text}{keys}</figcaption>\n{chart.svg()}</figure>"


def _longest_s(result: Result) -> float:
    """Until the last machine had it; where none had, until nothing more came."""
    timeline = result.outcome.timeline
    most = max((held for _, held, _ in timeline), default=0)
    still_s = next((time_s for time_s, held, _ in timeline if held == most), 0.0)
    last_s = result.outcome.last_s
    return max(result.bound_s, still_s if last_s is None else last_s) * _HEADROOM


def _mark_bound(chart: Chart, result: Result) -> None:
    chart.moment(result.bound_s, charts.moment_label("T*", result.bound_s), "c0")


def _curves(result: Result) -> list[int]:
    """The places in the plan of the groups that get a curve each, none when one curve is for all."""
    finishing = [
        place
        for place, group in enumerate(result.scenario.plan.groups)
        if not group.holds_all and group.dies_at_share is None
    ]
    return finishing if 1 < len(finishing) <= MOST_GROUPS else []


def _completion(result: Result) -> Chart:
    curves = _curves(result)
    most = max((group.group.members for group in result.groups), default=1) if curves else result.machines
    chart = Chart("Machines that have it all", time_axis(_longest_s(result)), _count_axis(most))
    _mark_bound(chart, result)
    for css, place in zip(_COLOURS, curves, strict=False):
        chart.line(_to_the_end(charts.stairs(result.finish_times_of(place)), chart), css)
    if not curves:
        points = _to_the_end(charts.stairs(result.finish_times_s), chart)
        chart.area(points, "c1")
        chart.line(points, "c1")
    return chart


def _count_axis(most: int) -> charts.Axis:
    axis = number_axis(most * _HEADROOM, "machines", "{:,.0f}".format)
    return charts.Axis(axis.top, axis.title, tuple(tick for tick in axis.ticks if tick[0] == round(tick[0])))


def _to_the_end(points: list[charts.Point], chart: Chart) -> list[charts.Point]:
    return [*points, (chart.x.top, points[-1][1])]


def _keys(result: Result) -> str:
    places = _curves(result)
    groups = [result.scenario.plan.groups[place] for place in places]
    keys = [
        f'<span class="key"><i class="k{number}"></i>{group.members:,}: {escape(apart(result, group))}</span>'
        for number, group in enumerate(groups, 1)
    ]
    return f"<br/>{' '.join(keys)}" if keys else ""


def _uploads(result: Result) -> Chart:
    uploads = result.uploads_copies
    room = max(2.0, len(uploads) / 20)
    top = max([result.sharer_copies, *uploads]) * _HEADROOM
    x = charts.Axis(room + len(uploads), f"{len(uploads):,} machines", ())
    chart = Chart("What each machine uploads", x, number_axis(top, "copies"))
    chart.bar(0, room * 0.6, result.sharer_copies, "c0", f"the sharer: {copies(result.sharer_copies)}")
    for first, end, value in charts.in_runs(uploads):
        chart.bar(room + first, room + end, value, "c1", charts.tip_of(first, end, value))
    return chart


def _parts(result: Result) -> Chart:
    wanted = result.machines * result.scenario.rehearsed_parts
    points = [(time_s, 100 * held / wanted) for time_s, held, _ in result.outcome.timeline]
    y = number_axis(100 * _HEADROOM, "percent", "{:g}%".format)
    chart = Chart("Parts held", time_axis(_longest_s(result)), y)
    _mark_bound(chart, result)
    chart.area(points, "c1")
    chart.line(points, "c1")
    return chart


def _sharer(result: Result) -> Chart:
    outcome = result.outcome
    points = [(time_s, result.copies(uploaded)) for time_s, _, uploaded in outcome.timeline]
    y = number_axis(max(1.0, result.sharer_copies) * 1.12, "copies")
    chart = Chart("What the sharer has uploaded", time_axis(_longest_s(result)), y)
    chart.level(1.0, "one copy", "dim")
    if outcome.copies_out_s is not None:
        chart.moment(
            outcome.copies_out_s, charts.moment_label("all out", outcome.copies_out_s), "c1", low=True
        )
    chart.line(points, "c1")
    return chart


# Tables


def _inputs(result: Result) -> list[Row]:
    plan = result.scenario.plan
    rows: list[Row] = [("composition", composition(result.scenario))]
    rows.append(("part size", f"{plan.part_size_bytes:,} bytes"))
    rows += [("the sharer", sharer(plan)), *machine_rows(plan)]
    rows.append(("latency", f"{plan.latency_s * 1000:g} ms from one to another"))
    return [*rows, ("seed", str(plan.seed))]


def _results(result: Result) -> list[Row]:
    outcome = result.outcome
    out_s = outcome.copies_out_s
    return [
        ("the bound T*", f"{humans.duration(result.bound_s)}, set by {result.bound_by}"),
        ("half have it", when(result, outcome.median_s)),
        ("the last has it", when(result, outcome.last_s)),
        ("complete", finishers(result)),
        ("the sharer uploads", f"{copies(result.sharer_copies)}, {humans.size(result.sharer_bytes)}"),
        ("one copy is out", "never" if out_s is None else humans.duration(out_s)),
        ("without a swarm", f"{humans.duration(result.alone_s)}: the sharer sends to each itself"),
        ("messages", f"{outcome.messages:,}"),
    ]


def _groups(result: Result) -> Iterable[str]:
    if len(result.groups) < 2:
        return
    yield "<h2>Group by group</h2>"
    head = ("machines", "who", "complete", "half have it", "the last has it", "each uploads")
    rows = [
        (
            f"{each.group.members:,}",
            apart(result, each.group),
            f"{each.finished:,}",
            when(result, each.median_s),
            when(result, each.last_s),
            copies(each.uploaded_copies),
        )
        for each in result.groups
    ]
    yield _table(rows, head)


def _table(rows: Iterable[Row], head: Row = ()) -> str:
    lines = [_row(head, "th")] if head else []
    for name, *cells in rows:
        lines.append(_row((name, *cells), "td", first="td" if head else "th"))
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _row(cells: Row, kind: str, first: str = "") -> str:
    kinds = [first or kind] + [kind] * (len(cells) - 1)
    inner = "".join(f"<{k}>{escape(cell)}</{k}>" for k, cell in zip(kinds, cells, strict=True))
    return f"<tr>{inner}</tr>".replace(UNIT, KEPT_UNIT)


def _notes(result: Result) -> Iterable[str]:
    yield "<h2>How to read it</h2>"
    yield (
        "<p>T* is the least time in which all machines can have it, whatever a program does: the longest of "
        "what the sharer needs to upload it once, what a machine needs to download it, and what all together "
        "need to upload it to all (Kumar and Ross, 2006). Rates are those of links: 1,448 of each 1,514 "
        "bytes on them are of the composition. The decisions are those of real members. Disks, processors "
        "and other traffic are not rehearsed.</p>"
    )
    scenario, trace = result.scenario, result.outcome.trace_sha1
    if scenario.rehearsed != scenario.plan:
        yield (
            f"<p>To be shorter, the rehearsal had {scenario.rehearsed_parts:,} parts of "
            f"{scenario.rehearsed.part_size_bytes:,} bytes: neighbouring parts were merged, and sizes and "
            "rates made smaller alike. That hardly changes the times.</p>"
        )
    yield f'<p class="dim">Orchestra {__version__}, conductor.py --rehearse; trace {trace}</p>'
