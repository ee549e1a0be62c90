"""conductor.py --rehearse as a process: exit codes, events, keys, the page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.compositions import compose
from tests.programs import ROOT, Program, Programs
from tests.terminals import Terminal

SMALL = ("--rehearse", "--size", "1M", "--members", "4", "--up", "100M")
ENDLESS = ("--rehearse", "--size", "5G", "--members", "300", "--up", "100M")


def error_of(conductor: Program, exit_code: int) -> str:
    """Its one line on stderr, without its name; the event says the same."""
    assert conductor.wait() == exit_code
    error = conductor.events[-1]
    assert (error["event"], error["exit_code"]) == ("error", exit_code)
    assert conductor.stderr == f"conductor: error: {error['message']}\n"
    return str(error["message"])


def test_it_tells_in_events_how_long_it_takes(programs: Programs) -> None:
    code, conductor = programs.run("conductor", *SMALL)
    assert code == 0, conductor.story()
    *progress, rehearsed = conductor.events
    assert {event["event"] for event in progress} == {"progress"}
    assert rehearsed["event"] == "rehearsed"
    assert rehearsed["finished"] == rehearsed["members"] == 4
    assert rehearsed["last_s"] >= rehearsed["median_s"] >= rehearsed["bound_s"] > 0
    assert rehearsed["sharer_copies"] >= 1
    assert rehearsed["report"] is None
    assert conductor.noise == []
    assert conductor.stderr == ""


def test_it_tells_people_in_lines(programs: Programs) -> None:
    code, conductor = programs.run("conductor", *SMALL, json=False)
    assert code == 0
    said = "".join(conductor.noise)
    for words in ("4 machines", "100 Mbit/s up", "the bound T*", "half have it", "the sharer sends"):
        assert words in said
    assert conductor.stderr == ""


def test_the_same_command_is_the_same_rehearsal_and_another_seed_another(programs: Programs) -> None:
    traces = [
        programs.run("conductor", *SMALL, *words)[1].events[-1]["trace_sha1"]
        for words in ([], [], ["--seed", "2"])
    ]
    assert traces[0] == traces[1] != traces[2]


def test_an_orch_is_rehearsed_with_its_name_and_parts(programs: Programs) -> None:
    orch = compose(programs.folder, 300_000, 16384, name="café.bin").write_orch(programs.folder)
    words = ("--rehearse", orch, "--members", "3", "--up", "10M", "--report", "page.html")
    code, conductor = programs.run("conductor", *words)
    assert code == 0, conductor.story()
    rehearsed = conductor.events[-1]
    assert (rehearsed["name"], rehearsed["size_bytes"], rehearsed["parts"]) == ("café.bin", 300_000, 19)
    assert rehearsed["report"] == "page.html"
    page = ET.parse(programs.folder / "page.html").getroot()
    assert "café.bin" in [*page.itertext()]


# The report


def test_a_report_that_exists_is_replaced_only_with_force(programs: Programs) -> None:
    report = programs.folder / "page.html"
    report.write_text("mine")
    text = error_of(programs.start("conductor", *SMALL, "--report", report), 4)
    assert text == f"{report} exists already: use --force to replace it"
    assert report.read_text() == "mine"
    code, _ = programs.run("conductor", *SMALL, "--report", report, "--force")
    assert code == 0
    assert report.read_text().startswith("<!DOCTYPE html>")


def test_a_report_that_cannot_be_written_is_told_before_the_rehearsal(programs: Programs) -> None:
    conductor = programs.start("conductor", *ENDLESS, "--report", programs.folder / "no" / "page.html")
    assert error_of(conductor, 4).startswith("cannot write ")
    assert [event["event"] for event in conductor.events] == ["error"]


def test_the_orch_itself_is_not_taken_for_the_report(programs: Programs) -> None:
    orch = compose(programs.folder, 300_000, 16384).write_orch(programs.folder)
    before = orch.read_bytes()
    words = ("--rehearse", orch, "--members", "3", "--up", "10M", "--report", orch, "--force")
    assert "that is the .orch to be rehearsed" in error_of(programs.start("conductor", *words), 2)
    assert orch.read_bytes() == before


# How it ends early


def test_q_stops_it_with_exit_code_7_and_no_report(programs: Programs) -> None:
    with Terminal() as terminal:
        report = programs.folder / "page.html"
        conductor = programs.start("conductor", *ENDLESS, "--report", report, stdin=terminal.theirs)
        conductor.wait_for_event("progress")
        terminal.wait_for_keys()
        terminal.type("xq")
        assert conductor.wait() == 7
        assert conductor.events[-1] == {"event": "stopped", "reason": "q"}
        assert terminal.is_sane
    assert [path.name for path in programs.folder.iterdir()] == ["logs"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_by_that_signal(programs: Programs, signum: signal.Signals) -> None:
    conductor = programs.start("conductor", *ENDLESS, "--report", "page.html")
    conductor.wait_for_event("progress")
    conductor.signal(signum)
    assert conductor.wait() == -signum
    assert conductor.stderr == ""
    assert [path.name for path in programs.folder.iterdir()] == ["logs"]


# When it cannot


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--rehearse", "--members", "3"], 2, "nothing to rehearse"),
        (["--rehearse", "--size", "1M", "--members", "3"], 2, "a rehearsal needs --members and --up"),
        (
            ["--rehearse", "--size", "1M", "--members", "0", "--up", "1M"],
            2,
            'argument --members "0": a whole',
        ),
        ([*SMALL, "--up", "100MB"], 2, 'argument --up "100MB": write bits a second'),
        ([*SMALL, "--port", "1"], 2, "argument --port: is for conducting, without --rehearse"),
        (["--members", "3"], 2, "argument --members: goes with --rehearse"),
        (["--force"], 2, "argument --force: goes with --rehearse"),
        (["--rehearse", "missing.orch", "--members", "3", "--up", "1M"], 4, "missing.orch: cannot read"),
        (["--rehearse", ".", "--members", "3", "--up", "1M"], 3, ".: is a folder"),
        (["--rehearse", "a.orch", "b.orch"], 2, "unrecognized arguments"),
    ],
)
def test_what_cannot_be_is_one_line_and_its_exit_code(
    programs: Programs, words: list[str], code: int, text: str
) -> None:
    assert error_of(programs.start("conductor", *words), code).startswith(text)


def test_who_conducts_does_not_wait_for_the_rehearsal_to_be_imported(tmp_path: Path) -> None:
    script = (
        "import sys, conductor\n"
        "conductor.make_parser().parse([])\n"
        "print([name for name in sys.modules if 'rehears' in name or name == 'orchestra.orchestrator'])"
    )
    command = [sys.executable, "-c", script]
    shown = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert shown.stdout == "[]\n"


def test_the_help_says_what_rates_are(programs: Programs) -> None:
    code, conductor = programs.run("conductor", "--help", json=False, env={"COLUMNS": "300"})
    assert code == 0
    [up] = (line for line in conductor.noise if line.startswith("  --up "))
    assert "in bits a second on the wire: 100M" in up
