"""What the writer passes on to the digest thread: along, or to be read back."""

from __future__ import annotations

import hashlib
import threading

import pytest

from orchestra import digestfeed
from orchestra.digestfeed import HURRIED_SHARE, STEP_BYTES
from orchestra.diskmessages import Along, DoneReading, Finish, ReadBack, Spoilt
from orchestra.errors import StorageError
from orchestra.messages import (
    Checked,
    Digest,
    DiskFailed,
    Forget,
    Install,
    Installed,
    PartsWritten,
    Stop,
)
from orchestra.storage import Storage
from orchestra.wire import BLOCK_BYTES
from orchestra.writer import STEPS, Writer
from tests.fakes import PATIENCE_S
from tests.writerdesk import DATA, PART_BYTES, Desk, run


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
