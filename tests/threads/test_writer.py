"""The writer over real files: what it finds, what it writes, what it says of each part, and how it ends."""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestra import digestfeed, pen
from orchestra import storage as storage_module
from orchestra import writer as writer_module
from orchestra.digestfeed import HURRIED_SHARE, STEP_BYTES
from orchestra.diskmessages import Along, DoneReading, Finish, ReadBack, Spoilt
from orchestra.errors import BusyError, StorageError
from orchestra.messages import (
    Checked,
    CheckProgress,
    Digest,
    DiskFailed,
    Forget,
    Install,
    Installed,
    PartsWritten,
    Stop,
    ThreadEnded,
    Write,
)
from orchestra.storage import Storage
from orchestra.underway import PartsUnderWay
from orchestra.wire import BLOCK_BYTES, Blocks
from orchestra.writer import STEPS, Writer
from tests.fakes import PATIENCE_S, CountingBuffer, Reports, blocks_message, content, score_of
from tests.swarms import wait_until

PART_BYTES = 40_000
DATA = content(5 * PART_BYTES - 123)
NAME = "piece.bin"


class Desk:
    """A folder and a writer for it, whose reports and whose words to the digest thread are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports = Reports()
        self.digest: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.buffers: list[CountingBuffer] = []
        self._running: list[tuple[Writer, Storage]] = []

    @property
    def part_path(self) -> Path:
        return self.folder / f"{NAME}.part"

    def start(
        self, data: bytes = DATA, part_bytes: int = PART_BYTES, *, force: bool = False, told: Any = None
    ) -> Writer:
        """Start the writer; `told` is in its inbox from the start."""
        storage = Storage(self.folder, NAME, len(data), force=force)
        writer = Writer(storage, score_of(data, part_bytes), self.digest, self.reports)
        if told is not None:
            writer.inbox.put(told)
        self._running.append((writer, storage))
        writer.start()
        return writer

    def write(self, writer: Writer, *runs: Blocks) -> CountingBuffer:
        """These runs in one message."""
        self.buffers.append(CountingBuffer())
        writer.inbox.put(Write(self.buffers[-1], list(runs)))
        return self.buffers[-1]

    def stop(self, writer: Writer) -> None:
        """Stop it, and drain what it said; afterwards all buffers but those that went along are back."""
        writer.inbox.put(Stop())
        self.reports.skip_to(ThreadEnded)
        assert self.reports.nothing_more
        writer.join(PATIENCE_S)

    def close(self) -> None:
        for writer, storage in self._running:
            if writer.is_alive():
                writer.inbox.put(Stop())
                writer.join(PATIENCE_S)
            storage.close()

    def along(self) -> list[Any]:
        """What the digest thread was told so far."""
        told = []
        while not self.digest.empty():
            told.append(self.digest.get())
        return told


@pytest.fixture(params=[pen.LEAST_BYTES, 1], ids=["by the writer", "by the pen"])
def desk(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(pen, "LEAST_BYTES", request.param)
    made = Desk(tmp_path / "download")
    made.folder.mkdir()
    yield made
    made.close()


def run(begin: int, length: int, data: bytes = DATA) -> Blocks:
    """Bytes of the composition as they come from the wire."""
    return blocks_message(data, begin, length)


# What is there


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


def _fails(*_: Any) -> None:
    raise StorageError("no")


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
        monkeypatch.setattr(Storage, "write", _fails)
        desk.write(writer, run(PART_BYTES, PART_BYTES))
        desk.reports.next(DiskFailed)
    wait_until(lambda: len(waits.times_s) > known, "a writer that waits for what comes next")
    assert waits.times_s[-1] != PATIENCE_S
    desk.stop(writer)
    assert reservation.steps == steps


def test_a_whole_file_is_found_installed_and_is_not_touched(desk: Desk) -> None:
    (desk.folder / NAME).write_bytes(DATA)
    writer = desk.start()
    checked = desk.reports.skip_to(Checked)
    assert (checked.right, checked.installed, checked.doubtful) == (bytearray(b"\1" * 5), True, False)
    desk.stop(writer)
    assert [path.name for path in desk.folder.iterdir()] == [NAME]


def test_a_part_file_keeps_its_right_parts(desk: Desk) -> None:
    held = bytearray(DATA[: 3 * PART_BYTES + 10])
    held[PART_BYTES + 5] ^= 1
    desk.part_path.write_bytes(held)
    desk.start()
    assert desk.reports.skip_to(Checked) == Checked(bytearray([1, 0, 1, 0, 0]), installed=False)


def test_a_different_file_of_the_same_size_is_a_storage_error_and_left_alone(desk: Desk) -> None:
    different = bytes(len(DATA))
    (desk.folder / NAME).write_bytes(different)
    writer = desk.start()
    failed = desk.reports.skip_to(DiskFailed)
    assert isinstance(failed.error, StorageError)
    assert "differs: use --force" in str(failed.error)
    desk.stop(writer)
    assert (desk.folder / NAME).read_bytes() == different
    assert not desk.part_path.exists()


def test_by_force_it_is_fetched_anew_and_replaced_at_the_end(desk: Desk) -> None:
    (desk.folder / NAME).write_bytes(bytes(len(DATA)))
    writer = desk.start(force=True)
    assert desk.reports.skip_to(Checked) == Checked(bytearray(5), installed=False)
    desk.write(writer, run(0, len(DATA)))
    desk.reports.next(PartsWritten)
    assert (desk.folder / NAME).read_bytes() == bytes(len(DATA))
    writer.inbox.put(Install())
    desk.reports.next(Installed)
    assert (desk.folder / NAME).read_bytes() == DATA


def test_a_second_member_of_the_same_file_is_busy(desk: Desk) -> None:
    desk.start()
    desk.reports.next(Checked)
    second = desk.start()
    assert isinstance(desk.reports.next(DiskFailed).error, BusyError)
    desk.stop(second)


def test_checking_shows_how_far_it_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "SHOW_S", 0.0)
    desk.part_path.write_bytes(DATA)
    desk.start()
    first = desk.reports.next(CheckProgress).checked_bytes
    assert 0 < first <= len(DATA)
    assert desk.reports.skip_to(Checked).right.count(1) == 5


@pytest.mark.parametrize("name", [NAME, f"{NAME}.part"])
def test_a_stop_while_it_checks_ends_it_without_a_verdict(desk: Desk, name: str) -> None:
    (desk.folder / name).write_bytes(DATA)
    writer = desk.start(told=Stop())
    desk.reports.next(ThreadEnded)
    assert desk.reports.nothing_more
    writer.join(PATIENCE_S)
    assert [path.name for path in desk.folder.iterdir()] == [name]
    assert (desk.folder / name).read_bytes() == DATA


def test_a_file_that_shrinks_while_it_is_checked_is_a_storage_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shrinking(*_: Any, **__: Any) -> bytearray:
        raise EOFError("the file ends at byte 7")

    monkeypatch.setattr(writer_module, "check_open_file", shrinking)
    (desk.folder / NAME).write_bytes(DATA)
    desk.start()
    error = desk.reports.next(DiskFailed).error
    assert isinstance(error, StorageError)
    assert "the file ends at byte 7" in str(error)


def test_a_disk_that_is_too_small_is_known_before_anything_is_asked_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_storage: Storage) -> None:
        raise StorageError("the disk is too full")

    monkeypatch.setattr(Storage, "check_room", refuse)
    writer = desk.start()
    assert "too full" in str(desk.reports.next(DiskFailed).error)
    desk.stop(writer)


# Writing


def test_everything_in_one_message_is_written_and_judged(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, len(DATA)))
    assert desk.reports.next(PartsWritten) == PartsWritten([0, 1, 2, 3, 4], [])
    assert desk.part_path.read_bytes() == DATA


def test_blocks_that_came_out_of_order_are_written_in_one_call_and_not_read_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets: list[int] = []
    write = Storage.write

    def noted(storage: Storage, views: list[memoryview], offset: int) -> None:
        offsets.append(offset)
        write(storage, views, offset)

    monkeypatch.setattr(Storage, "write", noted)
    monkeypatch.setattr(Storage, "read", lambda *_: pytest.fail("read back"))
    writer = desk.start()
    desk.reports.next(Checked)
    starts = list(range(0, len(DATA), BLOCK_BYTES))
    random.Random(1).shuffle(starts)
    desk.write(writer, *(run(begin, min(BLOCK_BYTES, len(DATA) - begin)) for begin in starts))
    assert desk.reports.next(PartsWritten) == PartsWritten([0, 1, 2, 3, 4], [])
    assert offsets == [0]
    assert desk.part_path.read_bytes() == DATA


def test_a_part_is_judged_when_its_last_block_is_there(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    for begin in (0, BLOCK_BYTES):
        desk.write(writer, run(PART_BYTES + begin, BLOCK_BYTES))
    desk.write(writer, run(PART_BYTES + 2 * BLOCK_BYTES, PART_BYTES - 2 * BLOCK_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([1], [])
    desk.stop(writer)
    assert desk.part_path.read_bytes()[PART_BYTES : 2 * PART_BYTES] == DATA[PART_BYTES : 2 * PART_BYTES]


def test_a_run_may_end_one_part_fill_another_and_begin_a_third(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, BLOCK_BYTES))
    desk.write(writer, run(BLOCK_BYTES, 2 * PART_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([0, 1], [])
    desk.write(writer, run(2 * PART_BYTES + BLOCK_BYTES, len(DATA) - 2 * PART_BYTES - BLOCK_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([2, 3, 4], [])
    assert desk.part_path.read_bytes() == DATA


def test_a_wrong_part_is_told_apart_from_the_right_ones(desk: Desk) -> None:
    wrong = bytearray(DATA)
    wrong[2 * PART_BYTES] ^= 1
    wrong[-1] ^= 1
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, len(DATA), bytes(wrong)))
    assert desk.reports.next(PartsWritten) == PartsWritten([0, 1, 3], [2, 4])
    desk.write(writer, run(2 * PART_BYTES, PART_BYTES), run(4 * PART_BYTES, PART_BYTES - 123))
    assert desk.reports.next(PartsWritten) == PartsWritten([2, 4], [])
    assert desk.part_path.read_bytes() == DATA


def test_what_was_forgotten_does_not_count_when_the_part_comes_anew(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, BLOCK_BYTES, bytes(len(DATA))))
    desk.write(writer, run(2 * BLOCK_BYTES, PART_BYTES - 2 * BLOCK_BYTES, bytes(len(DATA))))
    writer.inbox.put(Forget(0))
    writer.inbox.put(Forget(3))
    desk.write(writer, run(0, PART_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([0], [])


@pytest.mark.parametrize("part_bytes", [1000, 16384, 20_000, 40_000, 65_536, 1 << 20])
@pytest.mark.parametrize("seed", [1, 2])
def test_blocks_in_any_order_and_any_bundles_make_the_file(desk: Desk, part_bytes: int, seed: int) -> None:
    rng = random.Random(seed)
    writer = desk.start(part_bytes=part_bytes)
    parts = desk.reports.next(Checked).right
    spans = []
    for start in range(0, len(DATA), part_bytes):
        length = min(part_bytes, len(DATA) - start)
        spans += [(start + at, min(BLOCK_BYTES, length - at)) for at in range(0, length, BLOCK_BYTES)]
    if seed == 2:
        rng.shuffle(spans)
    while spans:
        count = rng.randrange(1, 9)
        desk.write(writer, *(run(*span) for span in spans[:count]))
        del spans[:count]
    good: list[int] = []
    while len(good) < len(parts):
        written = desk.reports.next(PartsWritten)
        assert written.bad == []
        good += written.good
    assert sorted(good) == list(range(len(parts)))
    desk.stop(writer)
    assert desk.part_path.read_bytes() == DATA
    went_along = [message.buffer for message in desk.along() if isinstance(message, Along)]
    assert all(buffer.returns == (buffer not in went_along) for buffer in desk.buffers)


# Along to the digest thread


def test_what_comes_in_order_from_the_start_goes_along_to_be_hashed(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    first = desk.write(writer, run(0, 30_000))
    second = desk.write(writer, run(30_000, 20_000))
    elsewhere = desk.write(writer, run(90_000, 1000))
    third = desk.write(writer, run(50_000, 10))
    desk.stop(writer)
    told = desk.along()
    assert told[-1] == Stop()
    assert [message.buffer for message in told[:-1]] == [first, second, third]
    hashed = hashlib.sha1(b"".join(view for message in told[:-1] for view in message.run.views))
    assert hashed.digest() == hashlib.sha1(DATA[:50_010]).digest()
    assert [buffer.returns for buffer in (first, second, elsewhere, third)] == [0, 0, 1, 0]


def test_while_blocks_wait_to_be_written_the_last_share_does_not_go_along(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    all_wait = threading.Event()
    write = Storage.write

    def write_then(storage: Storage, views: list[memoryview], offset: int) -> None:
        assert all_wait.wait(PATIENCE_S)
        write(storage, views, offset)

    monkeypatch.setattr(Storage, "write", write_then)
    starts = range(0, len(DATA), PART_BYTES)
    buffers = [desk.write(writer, run(start, min(PART_BYTES, len(DATA) - start))) for start in starts]
    for _ in range(2):
        writer.inbox.put(Forget(99))
    all_wait.set()
    for _ in starts:
        assert desk.reports.next(PartsWritten).bad == []
    desk.stop(writer)
    along = [message.run.offset for message in desk.along() if isinstance(message, Along)]
    assert along == [start for start in starts if start < HURRIED_SHARE * len(DATA)]
    assert [buffer.returns for buffer in buffers] == [start not in along for start in starts]


def all_written_from_the_end(desk: Desk) -> Writer:
    """A writer that has got every part, the last one first."""
    writer = desk.start()
    desk.reports.next(Checked)
    for start in reversed(range(0, len(DATA), PART_BYTES)):
        desk.write(writer, run(start, min(PART_BYTES, len(DATA) - start)))
        desk.reports.next(PartsWritten)
    return writer


def test_what_did_not_go_along_is_read_back_when_nothing_waits(desk: Desk) -> None:
    writer = all_written_from_the_end(desk)
    # The first part came in order; the others are on disk only.
    writer.inbox.put(Digest(3 * PART_BYTES))
    writer.inbox.put(Digest(len(DATA)))
    along = desk.digest.get(timeout=PATIENCE_S)
    assert along.run.offset == 0
    expected = along.run.length
    while isinstance(message := desk.digest.get(timeout=PATIENCE_S), ReadBack):
        assert message.span.start == expected
        assert len(message.span) <= STEP_BYTES
        expected = message.span.stop
        message.writer.put(DoneReading())
    assert message == Finish()
    assert expected == len(DATA)


def test_only_so_much_is_on_its_way_to_the_digest_thread(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digestfeed, "STEP_BYTES", PART_BYTES)
    writer = all_written_from_the_end(desk)
    writer.inbox.put(Digest(len(DATA)))
    steps = [desk.digest.get(timeout=PATIENCE_S) for _ in range(1 + STEPS)][1:]
    assert all(isinstance(step, ReadBack) for step in steps)
    # Whoever answers a message that came later has had its chance to send more.
    writer.inbox.put(Install(kept=True))
    desk.reports.next(Installed)
    assert desk.digest.empty()
    writer.inbox.put(DoneReading())
    assert isinstance(desk.digest.get(timeout=PATIENCE_S), ReadBack)


def test_a_file_that_the_digest_thread_cannot_read_is_a_storage_error_and_said_once(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    for _ in range(2):
        writer.inbox.put(DiskFailed(StorageError("reading failed")))
    assert str(desk.reports.next(DiskFailed).error) == "reading failed"
    desk.stop(writer)
    assert desk.reports.nothing_more


def test_after_a_wrong_part_what_went_along_is_spoilt_and_nothing_more_goes(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, PART_BYTES, bytes(len(DATA))))
    assert desk.reports.next(PartsWritten).bad == [0]
    again = desk.write(writer, run(0, PART_BYTES))
    on = desk.write(writer, run(PART_BYTES, PART_BYTES))
    desk.stop(writer)
    assert [type(message) for message in desk.along()] == [Along, Spoilt, Stop]
    assert again.returns == on.returns == 1


def test_after_a_wrong_part_elsewhere_nothing_goes_along_either(desk: Desk) -> None:
    # That part may be disputed now, and what comes of it may have to be forgotten.
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(PART_BYTES, PART_BYTES, bytes(len(DATA))))
    assert desk.reports.next(PartsWritten).bad == [1]
    buffer = desk.write(writer, run(0, PART_BYTES + BLOCK_BYTES))
    desk.stop(writer)
    assert Along not in [type(message) for message in desk.along()]
    assert buffer.returns == 1


# The end


def test_a_whole_composition_gets_its_name(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, len(DATA)))
    desk.reports.next(PartsWritten)
    writer.inbox.put(Install())
    assert desk.reports.next(Installed).path == str(desk.folder / NAME)
    assert [path.name for path in desk.folder.iterdir()] == [NAME]
    assert (desk.folder / NAME).read_bytes() == DATA


def test_an_empty_composition_is_installed_without_a_write(desk: Desk) -> None:
    writer = desk.start(data=b"")
    assert desk.reports.next(Checked) == Checked(bytearray(), installed=False)
    writer.inbox.put(Install())
    desk.reports.next(Installed)
    assert (desk.folder / NAME).read_bytes() == b""


def test_a_name_that_is_taken_meanwhile_is_a_storage_error(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    (desk.folder / NAME).write_bytes(b"mine")
    writer.inbox.put(Install())
    assert "differs" in str(desk.reports.next(DiskFailed).error)
    assert (desk.folder / NAME).read_bytes() == b"mine"


def test_a_disk_that_fails_is_told_once_and_buffers_still_come_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = desk.start()
    desk.reports.next(Checked)

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full, raising=False)
    first = desk.write(writer, run(PART_BYTES, PART_BYTES))
    second = desk.write(writer, run(0, PART_BYTES))
    writer.inbox.put(Stop())
    assert "the disk is full" in str(desk.reports.next(DiskFailed).error)
    desk.reports.next(ThreadEnded)
    assert desk.reports.nothing_more
    assert first.returns == second.returns == 1


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
    monkeypatch.setattr(Storage, "write", _fails)
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


def test_what_was_asked_for_before_stop_is_still_written(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, PART_BYTES))
    writer.inbox.put(Stop())
    assert desk.reports.next(PartsWritten) == PartsWritten([0], [])
    desk.reports.next(ThreadEnded)
    assert desk.part_path.read_bytes()[:PART_BYTES] == DATA[:PART_BYTES]


def test_its_thread_is_named_and_not_a_daemon(desk: Desk) -> None:
    writer = desk.start()
    assert writer.name == "writer"
    assert not writer.daemon
