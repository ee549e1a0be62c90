"""What a program says, and on which stream; the bar, drawn on a terminal that is emulated."""

from __future__ import annotations

import io
import json
import os
import threading

import pyte
import pytest

from orchestra import console as console_module
from orchestra.console import Console, OutputClosed
from orchestra.errors import StorageError


class Screen(io.StringIO):
    """A stderr that is a terminal of 80 columns, emulated."""

    def __init__(self, columns: int = 80) -> None:
        super().__init__()
        self.columns = columns
        self.screen = pyte.Screen(columns, 24)
        self._stream = pyte.Stream(self.screen)
        self.raw = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.raw += text
        self._stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]


class Broken(io.StringIO):
    """A stream whose every write fails with `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars and lines are due at every update; the terminal is one that can draw."""
    for name in ("BAR_DELAY_S", "BAR_INTERVAL_S", "LINE_INTERVAL_S"):
        monkeypatch.setattr(console_module, name, 0.0)
    monkeypatch.setenv("TERM", "xterm-256color")


def on_screen(columns: int = 80, *, color: bool = False) -> tuple[Console, Screen]:
    screen = Screen(columns)
    made = Console("member", stdout=io.StringIO(), stderr=screen, color=color)
    made.width = lambda: columns  # type: ignore[method-assign]
    return made, screen


def piped(*, json: bool = False, quiet: bool = False) -> tuple[Console, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Console("member", json=json, quiet=quiet, stdout=out, stderr=err), out, err


def test_for_people_lines_go_to_stdout_notes_to_stderr_and_events_nowhere() -> None:
    console, out, err = piped()
    console.say("written: x.orch")
    console.note("line 1 can be edited")
    console.event("composed", path="x.orch")
    assert out.getvalue() == "written: x.orch\n"
    assert err.getvalue() == "line 1 can be edited\n"


def test_with_json_stdout_is_one_object_a_line_event_first() -> None:
    console, out, err = piped(json=True)
    console.say("never")
    console.event("progress", parts=9, eta_s=None)
    console.fail("no such file: x", 4)
    lines = out.getvalue().splitlines()
    assert lines[0] == '{"event": "progress", "parts": 9, "eta_s": null}'
    assert json.loads(lines[1]) == {"event": "error", "message": "no such file: x", "exit_code": 4}
    assert err.getvalue() == "member: error: no such file: x\n"


def test_quiet_leaves_errors_only() -> None:
    console, out, err = piped(quiet=True)
    console.say("a")
    console.note("b")
    with console.bar(total=10) as bar:
        bar.update(5)
    console.fail("c", 1)
    assert (out.getvalue(), err.getvalue()) == ("", "member: error: c\n")


def test_an_error_is_one_line_whatever_is_in_it() -> None:
    console, _, err = piped()
    console.fail("bad name\n\x1b[31m\u2028red\x85", 3)
    assert err.getvalue() == "member: error: bad name\\x0a\\x1b[31m\\u2028red\\x85\n"


def test_an_event_with_a_lone_surrogate_is_still_json() -> None:
    console, out, _ = piped(json=True)
    console.event("composed", path=os.fsdecode(b"caf\xe9"))
    assert json.loads(out.getvalue())["path"] == "caf\udce9"


def test_an_event_may_have_a_field_called_name() -> None:
    console, out, _ = piped(json=True)
    console.event("composed", name="x.jpg")
    assert json.loads(out.getvalue()) == {"event": "composed", "name": "x.jpg"}


def test_a_stream_that_cannot_encode_escapes_instead_of_failing() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", newline="\n") as out:
        Console("member", stdout=out, stderr=io.StringIO()).say("写真 \udce9")
        assert raw.getvalue() == b"\\u5199\\u771f \\udce9\n"


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_a_stdout_whose_reader_has_left_ends_the_program(error: Exception) -> None:
    with pytest.raises(OutputClosed):
        Console("member", stdout=Broken(error), stderr=io.StringIO()).say("x")


def test_a_full_disk_behind_stdout_is_a_storage_error() -> None:
    full = Broken(OSError(28, "No space left on device"))
    with pytest.raises(StorageError, match="standard output: No space left"):
        Console("member", stdout=full, stderr=io.StringIO()).say("x")


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_why_it_ends_is_said_although_stdout_cannot_take_the_event(error: Exception) -> None:
    err = io.StringIO()
    Console("member", json=True, stdout=Broken(error), stderr=err).fail("x.orch: no such file", 4)
    assert err.getvalue() == "member: error: x.orch: no such file\n"


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "EIO"), ValueError("closed")])
def test_a_stderr_that_is_gone_is_ignored(error: Exception) -> None:
    console = Console("member", stdout=io.StringIO(), stderr=Broken(error))
    console.note("x")
    with console.bar(total=1) as bar:
        bar.update(1)


def test_without_a_terminal_the_bar_is_lines_without_an_escape() -> None:
    console, out, err = piped()
    with console.bar(total=200, label="x.jpg") as bar:
        bar.update(50, "3 MB/s  2 members")
    assert err.getvalue().splitlines()[0] == "x.jpg  25%  50 B of 200 B  3 MB/s  2 members"
    assert "\x1b" not in err.getvalue()
    assert "\r" not in err.getvalue()
    assert out.getvalue() == ""


def test_lines_come_every_few_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "LINE_INTERVAL_S", 3600.0)
    console, _, err = piped()
    with console.bar(total=100) as bar:
        for done in range(100):
            bar.update(done)
    assert err.getvalue() == ""


def test_on_a_terminal_the_bar_shows_label_percent_amount_and_text() -> None:
    console, screen = on_screen()
    with console.bar(total=10_000_000, label="x.jpg") as bar:
        bar.update(5_000_000, "3 MB/s")
        (line,) = screen.lines()
        assert line.startswith("x.jpg  50% |####")
        assert line.endswith("|  5.00 MB of 10.0 MB  3 MB/s".replace("|  ", "| "))
    assert len(screen.lines()) == 1


def test_a_bar_may_show_the_percent_alone() -> None:
    console, screen = on_screen()
    with console.bar(total=1000, label="rehearsing", shows_amount=False) as bar:
        bar.update(500, "7 min  3/9 complete")
        (line,) = screen.lines()
        assert line.startswith("rehearsing  50% |####")
        assert line.endswith("| 7 min  3/9 complete")
    piped_console, _, err = piped()
    with piped_console.bar(total=1000, label="rehearsing", shows_amount=False) as bar:
        bar.update(500, "7 min")
    assert err.getvalue().splitlines()[0] == "rehearsing  50%  7 min"


@pytest.mark.parametrize("columns", [12, 20, 33, 80, 200])
@pytest.mark.parametrize("label", ["", "x.jpg", "写真と写真と写真.jpg", "n" * 240])
def test_the_bar_never_wraps(columns: int, label: str) -> None:
    console, screen = on_screen(columns)
    with console.bar(total=10_000_000, label=label) as bar:
        for done in range(0, 10_000_001, 1_000_000):
            bar.update(done, "3.21 MB/s  1 min 20 s left  写 members")
            assert len(screen.lines()) == 1
            assert "%" in screen.lines()[0]


def test_a_terminal_too_narrow_for_a_bar_gets_none() -> None:
    console, screen = on_screen(8)
    with console.bar(total=10) as bar:
        bar.update(5)
    assert screen.raw == ""


def test_lines_of_text_go_above_the_bar_and_leave_nothing_of_it() -> None:
    console, screen = on_screen()
    with console.bar(total=100, label="x.jpg", unit_bytes=False) as bar:
        bar.update(50)
        console.note("short")
        assert screen.lines() == ["short"]
        bar.update(60)
        assert screen.lines()[0] == "short"
        assert "60/100" in screen.lines()[1]


def test_a_log_line_of_another_thread_does_not_cut_the_bar() -> None:
    console, screen = on_screen()
    with console.bar(total=100) as bar:
        bar.update(50)
        other = threading.Thread(target=console.err, args=("warning",))
        other.start()
        other.join()
        bar.update(51)
    assert screen.lines()[0] == "warning"
    assert len(screen.lines()) == 2


def test_nothing_to_do_is_complete() -> None:
    console, screen = on_screen()
    with console.bar(total=0) as bar:
        bar.update(0)
    assert "100%" in screen.lines()[0]


def test_more_than_all_is_all() -> None:
    console, screen = on_screen()
    with console.bar(total=10) as bar:
        bar.update(11)
    assert "100%" in screen.lines()[0]


def test_an_exception_leaves_the_bar_where_it_was_and_the_next_line_below() -> None:
    console, screen = on_screen()
    with pytest.raises(RuntimeError), console.bar(total=10) as bar:  # noqa: PT012 - the bar is what is tested
        bar.update(5)
        raise RuntimeError
    console.fail("stopped", 7)
    assert "50%" in screen.lines()[0]
    assert screen.lines()[1] == "member: error: stopped"


def test_closing_twice_says_nothing_more() -> None:
    console, screen = on_screen()
    bar = console.bar(total=10)
    bar.update(5)
    bar.close()
    said = screen.raw
    bar.close()
    bar.update(6)
    assert screen.raw == said


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_screen(color=True)[0].color
    assert not on_screen(color=False)[0].color
    assert not piped()[0].color
    monkeypatch.setenv("NO_COLOR", "1")
    assert not on_screen(color=True)[0].color


@pytest.mark.parametrize("color", [True, False])
def test_only_a_bar_in_colour_has_escapes(color: bool) -> None:
    console, screen = on_screen(color=color)
    with console.bar(total=10) as bar:
        bar.update(5)
    assert ("\x1b[" in screen.raw) is color


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console, screen = on_screen()
    with console.bar(total=10) as bar:
        bar.update(5)
    assert "\r" not in screen.raw
    assert "50%" in screen.lines()[0]
