"""The log of a run: where it goes, what may stand in it, and what becomes of old ones."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra import logs
from orchestra.logs import RunLog

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "made" / "logs"


@pytest.fixture
def run_log(folder: Path) -> Iterator[RunLog]:
    opened = RunLog("member", folder)
    yield opened
    opened.close()


def text_of(run_log: RunLog) -> str:
    assert run_log.path is not None
    return run_log.path.read_text(encoding="utf-8")


def test_the_folder_is_made_and_the_file_named_after_program_and_process(
    run_log: RunLog, folder: Path
) -> None:
    assert run_log.path == folder / f"member-{os.getpid()}.log"
    assert run_log.path.is_file()
    assert not run_log.problem


def test_a_line_has_time_level_thread_and_logger(run_log: RunLog) -> None:
    thread = threading.Thread(
        target=lambda: logging.getLogger("orchestra.reader").info("ready"), name="reader-7"
    )
    thread.start()
    thread.join()
    time, level, name, logger, message = text_of(run_log).split()
    assert time[10] == "T"
    assert (level, name, logger, message) == ("INFO", "reader-7", "orchestra.reader:", "ready")


def test_debug_is_for_those_who_ask(folder: Path) -> None:
    for verbosity, expected in ((0, ""), (1, ""), (2, "detail")):
        run_log = RunLog("member", folder / str(verbosity), verbosity=verbosity)
        logging.getLogger("orchestra.x").debug("detail")
        run_log.close()
        assert expected in text_of(run_log)
        assert bool(text_of(run_log)) is bool(expected)


@pytest.mark.parametrize(
    "hostile", ["a\n2026-01-01 INFO forged", "\x1b[31m", "\r", "\x85", "\u2028", "\x00", "\x7f"]
)
def test_no_remote_text_can_forge_a_line_or_colour_a_terminal(run_log: RunLog, hostile: str) -> None:
    logging.getLogger(f"member.peer -> {hostile}").info("said %s", hostile)
    text = text_of(run_log)
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()


def test_the_lines_of_a_traceback_do_not_pass_for_records(run_log: RunLog) -> None:
    try:
        raise ValueError("first\n2026-01-01T00:00:00 ERROR forged\x1b[2J")
    except ValueError:
        logging.getLogger("orchestra.x").exception("failed")
    first, *rest = text_of(run_log).rstrip("\n").split("\n")
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_a_long_message_is_cut(run_log: RunLog) -> None:
    logging.getLogger("orchestra.x").info("x" * 100_000)
    assert len(text_of(run_log)) < 5000


def test_a_folder_that_cannot_be_made_costs_one_note(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run_log = RunLog("member", tmp_path / "file" / "logs")
    try:
        assert run_log.path is None
        assert "no log file" in run_log.problem
        assert "--log-dir" in run_log.problem
        logging.getLogger("orchestra.x").info("goes nowhere")
    finally:
        run_log.close()


def test_close_gives_back_everything(folder: Path) -> None:
    before = (list(logging.getLogger().handlers), logging.getLogger().level, threading.excepthook)
    run_log = RunLog("member", folder)
    run_log.show_on_stderr("member", print, 0)
    run_log.close()
    run_log.close()
    assert (list(logging.getLogger().handlers), logging.getLogger().level, threading.excepthook) == before


def test_a_crashed_thread_is_in_the_log(run_log: RunLog) -> None:
    thread = threading.Thread(target=lambda: 1 // 0, name="writer-1")
    thread.start()
    thread.join()
    text = text_of(run_log)
    assert "thread writer-1 crashed" in text
    assert "ZeroDivisionError" in text.splitlines()[-1]


def test_the_file_is_rotated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "ROTATE_BYTES", 1000)
    run_log = RunLog("member", folder)
    for number in range(100):
        logging.getLogger("orchestra.x").info("line %d", number)
    run_log.close()
    assert len(list(folder.iterdir())) == 1 + logs.ROTATED_FILES
    assert all(path.stat().st_size <= 1000 for path in folder.iterdir())
    assert "line 99" in text_of(run_log)


class FullDisk(io.StringIO):
    """A file on a disk without room: what was written cannot be flushed, nor closed."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_any_more_costs_one_note(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    run_log = RunLog("member", folder)
    run_log.show_on_stderr("member", lines.append, 0)
    handler = run_log._handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.stream.close()
    handler.stream = FullDisk()
    for _ in range(3):
        logging.getLogger("orchestra.x").info("goes nowhere")
    logging.getLogger("orchestra.x").warning("still shown")
    run_log.close()
    assert lines == ["member: the log cannot be written: No space left on device", "member: still shown"]
    assert capsys.readouterr().err == ""


class OnStderr:
    """What a person would see, for each verbosity."""

    def __init__(self, folder: Path, verbosity: int, *, quiet: bool = False) -> None:
        self.lines: list[str] = []
        run_log = RunLog("member", folder, verbosity=verbosity)
        run_log.show_on_stderr("member", self.lines.append, verbosity, quiet=quiet)
        log = logging.getLogger("orchestra.announcer")
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)("a-%s", level)
        logging.getLogger("waitress.queue").warning("Task queue depth is 7")
        logging.getLogger("orchestra.cli").critical("unexpected failure")
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("with traceback")
        run_log.close()


def test_by_default_warnings_are_shown_in_one_plain_line_each(folder: Path) -> None:
    assert OnStderr(folder, 0).lines == ["member: a-warning", "member: a-error", "member: with traceback"]


def test_quiet_shows_errors_only(folder: Path) -> None:
    assert OnStderr(folder, 0, quiet=True).lines == ["member: a-error", "member: with traceback"]


@pytest.mark.parametrize(("verbosity", "debug"), [(1, False), (2, True)])
def test_verbose_shows_more_with_tracebacks_and_libraries(folder: Path, verbosity: int, debug: bool) -> None:
    text = "\n".join(OnStderr(folder, verbosity).lines)
    assert ("a-debug" in text) is debug
    for part in (
        "a-info",
        "orchestra.announcer",
        "ValueError: why",
        "Task queue depth",
        "unexpected failure",
    ):
        assert part in text


def test_old_logs_go_and_the_newest_stay(folder: Path) -> None:
    folder.mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for age in range(30):
        # Process ids above the highest that a system gives: nobody has them.
        for name in (f"member-{2**30 + age}.log", f"member-{2**30 + age}.log.1"):
            (folder / name).touch()
            os.utime(folder / name, (1000 - age, 1000 - age))
    others = ["conductor-1073741824.log", "member-notes.log", "member-5.log.txt", "member.py"]
    for name in others:
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    logs.prune(folder, "member", 20)
    left = {path.name for path in folder.iterdir()}
    assert left == {f"member-{2**30 + age}.log{end}" for age in range(20) for end in ("", ".1")} | set(others)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete an open file anyway")
def test_the_log_of_a_running_program_is_kept_however_old(folder: Path) -> None:
    folder.mkdir(parents=True)
    running = folder / f"member-{os.getpid()}.log"
    running.touch()
    os.utime(running, (0, 0))
    logs.prune(folder, "member", 0)
    assert running.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1 here")
def test_sigusr1_writes_the_stacks_of_all_threads_even_after_a_rotation(folder: Path) -> None:
    code = f"""
import logging, os, signal, sys, threading
from pathlib import Path
from orchestra import logs
logs.ROTATE_BYTES = 500
run_log = logs.RunLog("member", Path({str(folder)!r}))
done = threading.Event()
def waits_here():
    done.wait()
thread = threading.Thread(target=waits_here)
thread.start()
for _ in range(9):
    logging.getLogger("orchestra.x").info("x" * 100)
os.kill(os.getpid(), signal.SIGUSR1)
done.set()
thread.join()
run_log.close()
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=30)
    text = "".join(path.read_text() for path in folder.iterdir())
    assert "waits_here" in text
    assert "Current thread" in text
