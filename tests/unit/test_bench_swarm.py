"""The pure parts of the swarm benchmark: bounds, links, what members say, marks, curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree as ET

import pytest

from benchmarks import clients, document, links, swarm
from benchmarks.clients import Cast, Client, Seat, parse_libtorrent, parse_ours
from benchmarks.composition import MIB, Composition
from benchmarks.crowd import Crowd, Ear, Player, figures_of
from benchmarks.curves import Curve, Panel, draw, steps
from benchmarks.links import MBIT, Batch, Host, building, payload_bytes_s, stale
from benchmarks.measure import Figures, Series, Skip
from benchmarks.plan import Plan
from benchmarks.processes import ROOT, Event, Process
from benchmarks.rehearsed import plan_of
from benchmarks.report import Report
from benchmarks.scenarios import SCENARIOS, SIZE_BYTES, Scenario, bound_s
from benchmarks.swarm import measure, median_run, panel_of, rehearsed_last, table_of
from benchmarks.swarmmarks import marks_of
from benchmarks.tables import Table, number
from benchmarks.timeline import Timeline
from orchestra.rehearsal import plan as rehearsal

# Scenarios and T*


def test_payload_is_what_is_left_of_a_full_frame() -> None:
    assert payload_bytes_s(40 * MBIT) == pytest.approx(5e6 * 1448 / 1514)


@pytest.mark.parametrize(
    ("seed", "ups", "downs", "expected_s"),
    [
        (10.0, [100.0] * 3, [50.0] * 3, 10.0),  # the source has to send it once
        (90.0, [100.0] * 3, [50.0, 50.0, 5.0], 20.0),  # the slowest download
        (10.0, [1.0] * 10, [50.0] * 10, 50.0),  # all uploads together
    ],
)
def test_the_bound_is_the_slowest_of_three(
    seed: float, ups: list[float], downs: list[float], expected_s: float
) -> None:
    assert bound_s(100, seed_bytes_s=seed, up_bytes_s=ups, down_bytes_s=downs) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("name", "expected_s"),
    [
        ("S1", 14.03),
        ("S2", 14.03),
        ("S3", 14.03),
        ("S4", 7.02),
        ("S5", 14.03),
        ("S1-20", 14.03),
        ("S1-30", 14.03),
    ],
)
def test_the_scenarios_have_the_bounds_that_the_marks_are_meant_for(name: str, expected_s: float) -> None:
    assert SCENARIOS[name].bound_s(64 * MIB) == pytest.approx(expected_s, abs=0.005)


def test_the_scenarios_have_the_members_that_their_names_say() -> None:
    counts = {name: (len(one.seeders), len(one.leechers)) for name, one in SCENARIOS.items()}
    assert counts == {
        "S1": (1, 10), "S2": (1, 10), "S3": (1, 10), "S4": (8, 1), "S5": (1, 10), "S1-16K": (1, 10),
        "S1-20": (1, 20), "S1-30": (1, 30), "mixed": (1, 10),
        "slow-10": (1, 10), "slow-20": (1, 20), "slow-30": (1, 30), "S4-up": (8, 1),
    }  # fmt: skip
    ups = [host.up_bit_s for host in SCENARIOS["S3"].leechers]
    assert (ups.count(10 * MBIT), ups.count(80 * MBIT)) == (5, 5)
    assert SIZE_BYTES == 64 * MIB
    for scenario in SCENARIOS.values():
        names = [host.name for host in (*scenario.seeders, *scenario.leechers)]
        assert len(set(names)) == len(names)


def test_the_late_ones_start_at_half_of_the_bound() -> None:
    late = SCENARIOS["S5"]
    assert late.starts_s(SIZE_BYTES) == [0.0] * 5 + [late.bound_s(SIZE_BYTES) / 2] * 5
    assert set(SCENARIOS["S1"].starts_s(SIZE_BYTES)) == {0.0}


# Links


def test_a_network_is_a_bridge_apart_with_a_shaped_port_for_each_host() -> None:
    assert building([Host("tracker"), Host("seed", 40 * MBIT, 80 * MBIT)], 7) == [
        Batch(
            "ip",
            "",
            (
                "netns add orchestra-swarm-7-switch",
                "netns add orchestra-swarm-7-tracker",
                "netns add orchestra-swarm-7-seed",
            ),
        ),
        Batch(
            "ip",
            "orchestra-swarm-7-switch",
            (
                "link add bridge0 type bridge",
                "link set bridge0 up",
                "link add port0 type veth peer name net0 netns orchestra-swarm-7-tracker",
                "link set port0 master bridge0 up",
                "link add port1 type veth peer name net0 netns orchestra-swarm-7-seed",
                "link set port1 master bridge0 up",
            ),
        ),
        Batch(
            "ip",
            "orchestra-swarm-7-tracker",
            ("link set lo up", "address add 10.77.0.1/16 dev net0", "link set net0 up"),
        ),
        Batch(
            "ip",
            "orchestra-swarm-7-seed",
            ("link set lo up", "address add 10.77.0.2/16 dev net0", "link set net0 up"),
        ),
        Batch(
            "tc",
            "orchestra-swarm-7-seed",
            ("qdisc add dev net0 root tbf rate 40000000bit burst 65536 latency 50ms",),
        ),
        Batch(
            "tc",
            "orchestra-swarm-7-switch",
            ("qdisc add dev port1 root tbf rate 80000000bit burst 65536 latency 50ms",),
        ),
    ]


def test_a_batch_is_called_in_its_namespace() -> None:
    assert Batch("tc", "it", ()).command == ["tc", "-netns", "it", "-batch", "-"]
    assert Batch("ip", "", ()).command == ["ip", "-batch", "-"]


def test_hosts_have_addresses_of_their_own_and_none_is_that_of_the_network() -> None:
    addresses = [links.address_of(number) for number in range(600)]
    assert len(set(addresses)) == 600
    assert addresses[0] == "10.77.0.1"
    assert addresses[255] == "10.77.1.0"  # in a /16 an address like any other


def test_what_a_process_that_is_gone_has_left_is_found_and_nothing_else() -> None:
    listed = (
        "orchestra-swarm-7-seed (id: 3)\norchestra-swarm-8-seed\nsomeone-7-seed\norchestra-swarm-7-switch\n"
    )
    assert stale(listed, [8, 9]) == ["orchestra-swarm-7-seed", "orchestra-swarm-7-switch"]
    assert stale(listed, [7, 8]) == []


def test_bytes_on_the_wire_are_those_of_the_bucket() -> None:
    assert links.sent_frame_bytes(json.dumps([{"kind": "tbf", "bytes": 1514}, {"kind": "x"}])) == 1514


@pytest.mark.parametrize(
    ("platform", "user", "path", "why"),
    [
        ("darwin", 0, "/bin/it", "only Linux"),
        ("linux", 1000, "/bin/it", "only root"),
        ("linux", 0, None, "ip and tc is not installed"),
    ],
)
def test_elsewhere_it_says_why_it_is_skipped(
    monkeypatch: pytest.MonkeyPatch, platform: str, user: int, path: str | None, why: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("os.geteuid", lambda: user, raising=False)
    monkeypatch.setattr("shutil.which", lambda _: path)
    with pytest.raises(Skip, match=why):
        links.check_possible()


# What members say


def line(event: str, **fields: object) -> bytes:
    return json.dumps({"event": event, **fields}).encode()


def test_a_member_is_up_when_it_listens_and_whole_with_its_last_part() -> None:
    progress = {"uploaded_bytes": 3, "downloaded_bytes": 5, "parts": 9, "rate_bytes_s": 1}
    assert parse_ours(line("listening", port=1)) == {"event": "up"}
    moved = {"event": "figures", "uploaded_bytes": 3}
    assert parse_ours(line("progress", **progress, parts_done=8)) == {**moved, "whole": False}
    assert parse_ours(line("progress", **progress, parts_done=9)) == {**moved, "whole": True}
    assert parse_ours(b"text") is None


def test_libtorrent_is_up_when_it_has_checked() -> None:
    assert parse_libtorrent(line("ready", port=1)) == {"event": "up"}
    assert parse_libtorrent(line("done")) == {"event": "done"}
    assert parse_libtorrent(b"text") is None


def test_a_timeline_notes_the_first_time_of_all() -> None:
    timeline = Timeline()
    for at_s, event in (
        (1.0, {"event": "up"}),
        (2.0, {"event": "figures", "uploaded_bytes": 10, "whole": False}),
        (3.0, {"event": "figures", "uploaded_bytes": 30, "whole": True}),
        (4.0, {"event": "up"}),
        (5.0, {"event": "done"}),
    ):
        timeline.take(at_s, event)
    assert (timeline.up_s, timeline.done_s) == (1.0, 3.0)
    assert timeline.uploaded_bytes == 30


def test_a_timeline_of_nothing_knows_nothing() -> None:
    silent = Timeline()
    assert not silent.done
    assert math.isnan(silent.uploaded_bytes)
    assert math.isnan(silent.reached_s(1))
    assert silent.uploaded_by(9.0) == 0.0


def test_a_copy_was_out_between_the_times_at_which_it_was_told() -> None:
    timeline = Timeline(uploads=[(1.0, 0), (2.0, 100), (3.0, 300)])
    assert timeline.reached_s(50) == 1.5
    assert timeline.reached_s(200) == 2.5
    assert math.isnan(timeline.reached_s(301))


def test_an_upload_goes_on_as_it_went_for_as_long_as_it_may_be_silent() -> None:
    timeline = Timeline(uploads=[(1.0, 0), (1.5, 100)])
    assert timeline.uploaded_by(1.5) == 100
    assert timeline.uploaded_by(1.75) == 150
    assert timeline.uploaded_by(60.0) == 200


# What comes of a swarm


class Talker:
    """A process that has said this so far."""

    def __init__(self) -> None:
        self.said: list[tuple[float, Event]] = []

    def events(self, since: int = 0) -> list[tuple[float, Event]]:
        return self.said[since:]


def player(client: Client = clients.OURS, timeline: Timeline | None = None) -> Player:
    return Player(1, client, cast("Process", Talker()), timeline=timeline or Timeline())


def crowd(
    seeders: list[Player], leechers: list[Player], *, name: str = "S1", size_bytes: int = 1000
) -> Crowd:
    return Crowd(SCENARIOS[name], size_bytes, seeders, leechers, {}, [])


def test_an_ear_hears_each_event_once_and_counts_from_the_gate() -> None:
    talker, one = Talker(), player()
    ear = Ear(cast("Process", talker), {"": one})
    talker.said = [(100.5, {"event": "up"}), (101.0, {"event": "figures", "uploaded_bytes": 1})]
    ear.hear(100.0)
    ear.hear(100.0)
    assert (one.timeline.up_s, one.timeline.uploads) == (0.5, [(1.0, 1)])


def test_one_who_asks_many_is_heard_for_each_by_its_address() -> None:
    talker, one, other = Talker(), player(), player()
    talker.said = [(1.0, {"event": "up", "host": "10.77.0.3"}), (1.0, {"event": "up", "host": "10.77.9.9"})]
    Ear(cast("Process", talker), {"10.77.0.2": one, "10.77.0.3": other}).hear(0.0)
    assert math.isnan(one.timeline.up_s)
    assert other.timeline.up_s == 1.0


def test_figures_are_over_the_bound_and_the_size() -> None:
    bound = SCENARIOS["S1"].bound_s(1000)
    seeder = player(timeline=Timeline(up_s=0.5, uploads=[(1.0, 500), (2.0, 1500)]))
    ends = [
        player(timeline=Timeline(up_s=0.25, done_s=end * bound, uploads=[(2.0, 500)])) for end in (3, 1, 2)
    ]
    ends[0].client = clients.STOCK
    came = figures_of(crowd([seeder], ends), wire_bytes=1514)
    expected = {
        "finished": 3, "last": 3, "median": 2, "up_s": 0.5, "copies": 1.5, "wire_copies": 1.448,
        "one_copy_s": 1.5, "sent": 1, "last ours": 2, "last libtorrent stock": 3,
        "done 1": 1, "done 2": 2, "done 3": 3,
    }  # fmt: skip
    assert came == pytest.approx(expected)


def test_who_has_not_finished_never_does() -> None:
    bound = SCENARIOS["S1"].bound_s(1000)
    came = figures_of(crowd([player()], [player(), player(timeline=Timeline(done_s=bound))]), wire_bytes=0)
    assert (came["finished"], came["last"], came["median"]) == (1, math.inf, math.inf)
    assert [name for name in came if name.startswith("done")] == ["done 1"]


def test_a_swarm_without_its_seeder_is_given_up_sooner() -> None:
    assert crowd([], [], name="S2", size_bytes=SIZE_BYTES).give_up_s == pytest.approx(74.03, abs=0.01)
    assert crowd([], [], name="S1", size_bytes=SIZE_BYTES).give_up_s > 100


# Who takes part


def seat(*, seeds: bool) -> Seat:
    place = Path("/there")
    return Seat(
        "10.77.0.2", place, place / "logs", place / "a.orch", place / "a.torrent", Path("/ours"), seeds
    )


def test_ours_is_started_as_anyone_would_from_the_checkout_that_was_named() -> None:
    _, *words = clients.OURS.command(seat(seeds=True))
    assert words == "/ours/member.py /there/a.orch --dir /there --json -q --log-dir /there/logs".split()


def test_only_the_seeder_super_seeds() -> None:
    swarm = next(swarm for swarm in clients.ALL if swarm.name == "libtorrent super-seeding")
    assert "--super-seed" in swarm.seeder.command(seat(seeds=True))
    assert "--super-seed" not in swarm.leecher(0).command(seat(seeds=False))


def test_in_a_mixed_swarm_the_leechers_take_turns() -> None:
    both = Cast("both", clients.OURS, [clients.OURS, clients.STOCK])
    assert [both.leecher(number).name for number in range(4)] == ["ours", "libtorrent stock"] * 2


# Tables, marks, curves


def figures(last: float, **more: float) -> Figures:
    return {"last": last, "copies": 1.1, "finished": 10.0, **more}


def series(*runs: Figures) -> Series:
    return Series(runs=list(runs))


def test_marks_are_those_of_the_scenarios_that_were_measured() -> None:
    marks = marks_of({"S1": {"ours": series(figures(1.2))}, "S1-20": {"ours": series(figures(1.3))}}, {})
    assert [(mark.text, round(mark.value, 3), mark.met) for mark in marks] == [
        ("S1: last / T* (aim 1.08)", 1.2, True),
        ("S1: copies that the seeder uploads (aim 1.03)", 1.1, True),
        ("S1-20: last / T*, more than with 10 leechers", 0.1, False),
    ]
    assert marks_of({"S1": {"aria2": series(figures(1.2))}}, {"S1": math.nan}) == []


def test_a_swarm_that_does_not_finish_does_not_meet_its_mark() -> None:
    marks = marks_of({"S2": {"ours": series(figures(math.inf, finished=9.0))}}, {})
    assert [mark.met for mark in marks] == [False, False]
    assert number(math.inf) == "never"


def test_what_was_measured_stands_beside_its_rehearsal() -> None:
    measured = {"S3": {"ours": series(figures(1.2))}, "S1-16K": {"ours": series(figures(1.26))}}
    marks = marks_of(measured, {"S3": 1.4, "S1-16K": 1.2, "S4-up": 1.5, "mixed": math.nan})
    assert [(mark.text, round(mark.value, 3), mark.most, mark.met) for mark in marks[-2:]] == [
        ("S3: last / T*, away from the 1.40 rehearsed", 0.143, 0.15, True),
        ("S1-16K: last / T*, away from the 1.20 rehearsed", 0.05, 0.15, True),
    ]
    assert len(marks) == 4


def test_a_rehearsal_in_which_some_never_finish_is_away_from_everything() -> None:
    for measured in (1.2, math.inf):
        marks = marks_of({"S2": {"ours": series(figures(measured))}}, {"S2": math.inf})
        assert not marks[-1].met


def test_what_was_not_measured_or_cannot_be_is_not_rehearsed(tmp_path: Path) -> None:
    plan = Plan(folder=tmp_path, runs=1, size_bytes=1 << 20, part_sizes=(), ours=ROOT)
    ours = {"ours": series(figures(1.2, up_s=0.5))}
    assert math.isnan(rehearsed_last(SCENARIOS["mixed"], ours, plan))
    assert math.isnan(rehearsed_last(SCENARIOS["S1"], {"aria2": series(figures(1.2, up_s=0.5))}, plan))
    assert math.isnan(rehearsed_last(SCENARIOS["S1"], {"ours": Series(skipped="no")}, plan))
    assert math.isnan(rehearsed_last(SCENARIOS["S1"], ours, replace(plan, ours=tmp_path)))


def test_it_is_rehearsed_with_the_starts_that_were_measured_and_over_the_same_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[rehearsal.Plan] = []

    def rehearse(made: rehearsal.Plan) -> SimpleNamespace:
        plans.append(made)
        finished = [4.0, 5.0, 6.0][made.seed - 1]
        return SimpleNamespace(finish_times_s=[1.0, finished][: 2 - (made.seed == 3)])

    monkeypatch.setattr(swarm, "rehearse", rehearse)
    plan = Plan(folder=tmp_path, runs=1, size_bytes=1 << 20, part_sizes=(), ours=ROOT)
    scenario = replace(SCENARIOS["S4-up"], leechers=SCENARIOS["S1"].leechers[:2])
    last = rehearsed_last(scenario, {"ours": series(figures(1.2, up_s=2.5))}, plan)
    assert last == pytest.approx(5.0 / scenario.bound_s(1 << 20))
    assert {group.starts_within_s for made in plans for group in made.groups} == {2.5}
    assert [(made.seed, made.size_bytes) for made in plans] == [(1, 1 << 20), (2, 1 << 20), (3, 1 << 20)]


def test_a_rehearsal_starts_as_slowly_as_what_it_stands_beside() -> None:
    plan = plan_of(SCENARIOS["S1"], SIZE_BYTES, 2.5)
    assert {group.starts_within_s for group in plan.groups} == {2.5}
    assert (plan.size_bytes, len(plan.groups)) == (SIZE_BYTES, 11)


def test_guests_in_a_mixed_swarm_are_compared_with_their_hosts() -> None:
    run = figures(1.5, **{"last ours": 1.0, "last libtorrent stock": 1.5})
    marks = marks_of({"mixed": {mixed.name: series(run) for mixed in clients.MIXED}}, {})
    assert [(round(mark.value, 3), mark.met) for mark in marks] == [(1.5, False), (0.667, True)]


def test_a_table_has_a_row_for_each_and_says_who_was_skipped() -> None:
    measured = {"ours": series(figures(1.25), figures(1.5)), "aria2": Series(skipped="not installed")}
    table = table_of(SCENARIOS["S1"], measured, SIZE_BYTES)
    assert table.rows[0][:3] == ["ours", "1.38", "1.25..1.50"]
    assert table.rows[1][0] == "aria2: skipped, not installed"
    assert {len(row) for row in table.rows} == {len(table.heading)}
    assert "T* = 14.03 s" in table.title


def test_a_curve_is_that_of_the_median_run() -> None:
    runs = [figures(last, finished=1.0, **{"done 1": last}) for last in (math.inf, 1.5, 1.2)]
    assert median_run(series(*runs)) == runs[1]
    panel = panel_of(SCENARIOS["S1"], {"ours": series(*runs), "aria2": Series(skipped="away")})
    assert panel == Panel("S1", 10, [Curve("ours", [1.5])])


def test_a_curve_rises_by_one_at_a_time() -> None:
    assert steps([1.0, 1.5]) == [(0.0, 0), (1.0, 0), (1.0, 1), (1.5, 1), (1.5, 2)]


def test_the_picture_has_a_panel_a_scenario_and_a_line_a_curve() -> None:
    panels = [
        Panel("S1", 2, [Curve("ours", [1.0, 1.5]), Curve("a < b", [2.0, 2.6])]),
        Panel("S2", 2, [Curve("ours", [])]),
    ]
    root = ET.fromstring(draw(panels))
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"S1", "S2", "ours", "a < b", "T*", "3", "2"} <= set(texts)
    lines = [element for element in root.iter() if element.tag.endswith("polyline")]
    assert len(lines) == 2 + 3 + 2 * 2  # the legend, the curves, the axes and T* of each panel
    corners = [
        tuple(map(float, corner.split(","))) for one in lines for corner in one.attrib["points"].split()
    ]
    assert all(0 <= x <= float(root.attrib["width"]) for x, _ in corners)
    assert all(0 <= y <= float(root.attrib["height"]) for _, y in corners)


# The document


def test_sections_are_written_apart_and_a_partial_report_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "swarm.md"
    path.write_text(
        "".join(
            f"<!-- {name}: begin -->\nold {name}\n<!-- {name}: end -->\n" for name in ("swarm", "S1", "S2")
        )
    )
    monkeypatch.setitem(document.DOCUMENTS, "swarm", path)
    monkeypatch.setattr(document, "conditions", lambda *_: "today")
    report = Report(
        [],
        note="all",
        curves=[Panel("S1", 1, [Curve("ours", [1.0])])],
        sections={"S1": Report([Table("new", ["", "s"], [["ours", "1"]])])},
        partial=True,
    )
    plan = Plan(tmp_path, 1, 1, ())
    document.write("swarm", report, plan)
    assert "**new**" in path.read_text()
    assert "old swarm" in path.read_text()
    assert "old S2" in path.read_text()
    assert not (tmp_path / "swarm.svg").exists()
    whole = Report([], note="all", curves=report.curves, sections=report.sections)
    document.write("swarm", whole, plan)
    assert "old swarm" not in path.read_text()
    assert "(swarm.svg)" in path.read_text()
    assert (tmp_path / "swarm.svg").read_text().startswith("<svg")


# How often each is run


@pytest.mark.parametrize(("peer_runs", "others_runs"), [(None, 3), (1, 1)])
def test_the_others_may_run_less_often_than_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer_runs: int | None, others_runs: int
) -> None:
    ran: list[str] = []

    def run_of(plan: Plan, scenario: Scenario, one: Cast, composition: Composition) -> Callable[[], Figures]:
        def run_once() -> Figures:
            ran.append(one.name)
            return {"other_load": 0.0}

        return run_once

    monkeypatch.setattr(swarm, "run_of", run_of)
    plan = Plan(tmp_path, 3, MIB, (), only=("ours", "aria2"), peer_runs=peer_runs)
    measured = measure(plan, SCENARIOS["S1"])
    assert {name: len(one.runs) for name, one in measured.items()} == {"ours": 3, "aria2": others_runs}
    assert sorted(ran) == ["aria2"] * others_runs + ["ours"] * 3


def test_each_scenario_has_its_place_in_the_document() -> None:
    text = document.SWARM.read_text(encoding="utf-8")
    assert [name for name in SCENARIOS if f"<!-- {name}: begin -->" not in text] == []
