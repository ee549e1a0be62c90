"""Disk space is reserved when nobody has to wait for it."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

import pytest

from orchestra import storage as storage_module
from orchestra import writer as writer_module
from orchestra.messages import (
    Checked,
    DiskFailed,
    Install,
    Installed,
    PartsWritten,
)
from orchestra.storage import Storage
from tests.fakes import PATIENCE_S
from tests.swarms import wait_until
from tests.writerdesk import DATA, PART_BYTES, Desk, fails, run


def test_without_any_file_nothing_is_right_and_the_space_is_reserved(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "RESERVE_STEP_BYTES", PART_BYTES)
    writer = desk.start()
    assert desk.reports.next(Checked) == Checked(bytearray(5), installed=False)
    # It reserves when nothing else is to be done: a Stop that comes at once is heard first.
    wait_until(lambda: desk.part_path.stat().st_size == len(DATA), "space for all")
    desk.stop(writer)
    assert desk.part_path.read_bytes() == bytes(len(DATA))


class SlowReservation:
    """Each step to reserve space takes an hour of the writer's clock, and there is always more to reserve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        self._now_s = 0.0
        monkeypatch.setattr(writer_module, "MAX_RESERVE_AFTER_S", PATIENCE_S)
        monkeypatch.setattr(writer_module, "time", SimpleNamespace(monotonic=lambda: self._now_s))
        monkeypatch.setattr(Storage, "reserve_some", lambda _storage: self._step())

    def _step(self) -> bool:
        self.steps += 1
        self._now_s += 3600
        return True


def test_space_is_reserved_only_where_nothing_comes_for_as_long_as_that_takes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    reservation = SlowReservation(monkeypatch)
    writer = desk.start()
    desk.reports.next(Checked)
    # Nothing has come yet: nobody has to wait for it.
    wait_until(lambda: reservation.steps > 2, "steps one after the other")
    desk.write(writer, run(0, PART_BYTES))
    desk.reports.next(PartsWritten)
    steps = reservation.steps
    desk.write(writer, run(PART_BYTES, PART_BYTES))
    desk.reports.next(PartsWritten)
    desk.stop(writer)
    assert reservation.steps == steps


class Waits(queue.SimpleQueue[Any]):
    """An inbox that notes for how long its reader is about to wait, in seconds."""

    def __init__(self) -> None:
        self.times_s: list[float | None] = []

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        self.times_s.append(timeout)
        return super().get(block, timeout)


@pytest.mark.parametrize("ends", ["installed", "failed"])
def test_no_space_is_reserved_for_a_file_that_is_whole_or_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    # It would change the times of the file, by which it is known again.
    reservation = SlowReservation(monkeypatch)
    monkeypatch.setattr(queue, "SimpleQueue", Waits)
    writer = desk.start()
    desk.reports.next(Checked)
    waits = writer.inbox
    assert isinstance(waits, Waits)
    desk.write(writer, run(0, PART_BYTES))
    desk.reports.next(PartsWritten)
    wait_until(lambda: waits.times_s[-1:] == [PATIENCE_S], "a writer that waits for a while without messages")
    steps = reservation.steps
    known = len(waits.times_s)
    if ends == "installed":
        writer.inbox.put(Install())
        desk.reports.next(Installed)
    else:
        monkeypatch.setattr(Storage, "write", fails)
        desk.write(writer, run(PART_BYTES, PART_BYTES))
        desk.reports.next(DiskFailed)
    wait_until(lambda: len(waits.times_s) > known, "a writer that waits for what comes next")
    assert waits.times_s[-1] != PATIENCE_S
    desk.stop(writer)
    assert reservation.steps == steps
