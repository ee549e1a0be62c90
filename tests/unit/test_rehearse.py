"""conductor.py --rehearse around a hand-made outcome: progress, keys, what is printed and written."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from orchestra import rehearse as program
from orchestra.console import Console
from orchestra.errors import StorageError
from orchestra.rehearsal.outcome import Outcome
from orchestra.rehearsal.plan import Plan, bound_s
from tests.rehearsals import USUAL, options, outcome, scenario

OnProgress = Callable[[float, int, int], None]


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "EVENT_INTERVAL_S", 0.0)


def play(
    monkeypatch: pytest.MonkeyPatch, *words: str, steps: tuple[tuple[float, int], ...] = (), keys: str = ""
) -> tuple[int, list[dict[str, Any]]]:
    """Rehearse; the exit code and the events. `steps`: virtual time in bounds, and how many have it then."""

    def rehearsed(plan: Plan, *, on_progress: OnProgress) -> Outcome:
        for share, finished in steps:
            on_progress(share * bound_s(plan), finished, 10)
        return outcome(plan)

    class Keys:
        def __init__(self, on_key: Callable[[str], None]) -> None:
            self.on_key = on_key

        def __enter__(self) -> None:
            for key in keys:
                self.on_key(key)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(program, "rehearse", rehearsed)
    monkeypatch.setattr(program, "Keys", Keys)
    out = io.StringIO()
    console = Console("conductor", json=True, stdout=out, stderr=io.StringIO())
    code = program.perform(options(*USUAL, *words), console)
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.usefixtures("_at_once")
def test_it_tells_how_far_it_is_and_then_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    code, events = play(monkeypatch, steps=((0.5, 0), (1.0, 7)))
    assert code == 0
    assert [event["event"] for event in events] == ["progress"] * 3 + ["rehearsed"]
    assert [(event["finished"], event["members"]) for event in events[:3]] == [(0, 10), (0, 10), (7, 10)]
    assert events[-1]["finished"] == 10


def test_events_do_not_come_more_often_than_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    _, events = play(monkeypatch, steps=((0.5, 0),) * 1000)
    assert len(events) < 100


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("keys", ["q", "xQ"])
def test_q_ends_it_and_leaves_no_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys: str) -> None:
    report = str(tmp_path / "page.html")
    code, events = play(monkeypatch, "--report", report, steps=((0.5, 0),), keys=keys)
    assert code == 7
    assert events == [{"event": "stopped", "reason": "q"}]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_at_once")
def test_other_keys_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert play(monkeypatch, steps=((0.5, 0),), keys="xy ")[0] == 0


def test_the_report_is_written_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = tmp_path / "page.html"
    _, events = play(monkeypatch, "--report", str(report))
    assert events[-1]["report"] == str(report)
    assert "</html>" in report.read_text(encoding="utf-8")


def test_a_file_that_came_meanwhile_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = tmp_path / "page.html"
    monkeypatch.setattr(program, "check_place", lambda path, replace: report.write_text("mine"))
    with pytest.raises(StorageError, match="exists already"):
        play(monkeypatch, "--report", str(report))
    assert report.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.usefixtures("_at_once")
def test_the_bar_follows_the_time_and_then_those_who_have_it() -> None:
    class Bar:
        def __init__(self) -> None:
            self.shown: list[tuple[int, str]] = []

        def update(self, done: int, text: str = "") -> None:
            self.shown.append((done, text))

    bar, scene = Bar(), scenario()
    console = Console("conductor", stdout=io.StringIO(), stderr=io.StringIO())
    progress = program.Progress(scene, console, bar, SimpleQueue())  # type: ignore[arg-type]
    bound = bound_s(scene.plan)
    for virtual_s, finished in ((0.0, 0), (bound / 2, 1), (bound * 2, 9), (bound * 2.1, 10)):
        progress.show(virtual_s, finished, 10)
    assert [done for done, _ in bar.shown] == [0, 475, 950, 1000]
    assert bar.shown[1][1].endswith("1/10 complete")
