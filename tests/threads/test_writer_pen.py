"""The pen: what the writer hashes is written meanwhile, and nothing is told to be right before it is."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest

from orchestra import pen
from orchestra.messages import (
    Checked,
    DiskFailed,
    PartsWritten,
    Stop,
    ThreadEnded,
)
from orchestra.storage import Storage
from orchestra.underway import PartsUnderWay
from orchestra.wire import BLOCK_BYTES
from tests.fakes import PATIENCE_S
from tests.swarms import wait_until
from tests.writerdesk import DATA, PART_BYTES, Desk, fails, run


class Pace:
    """Lets nothing be written before the writer has hashed, waits, or reads back; notes in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self._went_on = threading.Event()
        monkeypatch.setattr(pen, "LEAST_BYTES", 1)
        self._wrap(monkeypatch, PartsUnderWay, "take", after=self._note("hashed"))
        self._wrap(monkeypatch, Storage, "read", before=self._note("read"))
        self._wrap(monkeypatch, pen.Pen, "wait", before=self._went_on.set)
        self._wrap(monkeypatch, Storage, "write", before=self._hold, after=self._note("written"))

    def _note(self, what: str) -> Callable[[], None]:
        def note() -> None:
            self.done.append(what)
            self._went_on.set()

        return note

    def _hold(self) -> None:
        assert self._went_on.wait(PATIENCE_S)

    @staticmethod
    def _wrap(
        monkeypatch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        plain = getattr(owner, name)

        def wrapped(*arguments: Any) -> Any:
            before()
            result = plain(*arguments)
            after()
            return result

        monkeypatch.setattr(owner, name, wrapped)

    def begin(self) -> None:
        """Forget what was done so far."""
        self.done.clear()
        self._went_on.clear()


def test_it_is_hashed_while_it_is_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(monkeypatch)
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, PART_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([0], [])
    assert pace.done == ["hashed", "written"]


def test_what_is_read_back_has_been_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(monkeypatch)
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(BLOCK_BYTES, BLOCK_BYTES))
    wait_until(lambda: pace.done == ["hashed", "written"], "the middle, written")
    pace.begin()
    desk.write(writer, run(0, BLOCK_BYTES), run(2 * BLOCK_BYTES, PART_BYTES - 2 * BLOCK_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([0], [])
    # The gap in the middle is read back with all that follows it, of which the last has come just now.
    assert (pace.done.count("written"), pace.done[-2:]) == (2, ["read", "hashed"])


def test_a_part_that_may_not_be_on_disk_is_not_told_to_be_right(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "write", fails)
    monkeypatch.setattr(pen, "LEAST_BYTES", 1)
    writer = desk.start()
    desk.reports.next(Checked)
    buffer = desk.write(writer, run(PART_BYTES, PART_BYTES))
    writer.inbox.put(Stop())
    assert str(desk.reports.next(DiskFailed).error) == "no"
    desk.reports.next(ThreadEnded)
    assert desk.reports.nothing_more
    assert buffer.returns == 1


def test_without_a_thread_to_spare_the_writer_writes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_thread: threading.Thread) -> None:
        raise OSError(errno.EAGAIN, "no thread to spare")

    monkeypatch.setattr(pen, "start_thread", none)
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, len(DATA)))
    assert desk.reports.next(PartsWritten) == PartsWritten([0, 1, 2, 3, 4], [])
    assert desk.part_path.read_bytes() == DATA


def test_what_ends_the_pen_ends_the_writer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Storage, "write", crash)
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, PART_BYTES))
    with pytest.raises(ZeroDivisionError):
        desk.reports.next(PartsWritten)
    writer.join(PATIENCE_S)
    assert [thread.name for thread in threading.enumerate() if thread.name == "pen"] == []
