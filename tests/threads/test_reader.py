"""The reader over a real file: batches of blocks ready to be sent, and what happens when it cannot read."""

from __future__ import annotations

import errno
import os
import queue
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra import reader as reader_module
from orchestra.checking import part_is_right
from orchestra.messages import Lost, Notice, Read, ReadFailed, Stop, ThreadEnded, Watch, Withdrawn
from orchestra.reader import Reader
from orchestra.score import Score
from orchestra.shipment import Shipment
from orchestra.storage import Storage
from orchestra.wire import BLOCK_BYTES, BlockSpan
from tests.fakes import PATIENCE_S, Reports, content, score_of

PART_BYTES = 20_000
DATA = content(5 * PART_BYTES - 77)
BUFFERS = 2


class Outbox:
    """Where shipments arrive; a full one refuses them."""

    def __init__(self) -> None:
        self.came: queue.SimpleQueue[Shipment] = queue.SimpleQueue()
        self.full = False

    def send(self, item: bytes | Shipment) -> bool:
        assert isinstance(item, Shipment)
        if not self.full:
            self.came.put(item)
        return not self.full

    def next(self) -> Shipment:
        return self.came.get(timeout=PATIENCE_S)


class Desk:
    """A reader of a file in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "piece.bin"
        self.path.write_bytes(DATA)
        self.storage = Storage(folder, "piece.bin", len(DATA))
        assert self.storage.open_installed()
        self.reports = Reports()
        self.reader = Reader(self.storage, score_of(DATA, PART_BYTES), BUFFERS, self.reports)
        self.reader.start()

    def ask(self, outbox: Outbox, *blocks: BlockSpan) -> None:
        self.reader.inbox.put(Read(7, outbox, list(blocks)))

    def stop(self) -> None:
        self.reader.inbox.put(Stop())
        self.reader.join(PATIENCE_S)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.stop()
    made.storage.close()


def messages(*blocks: BlockSpan) -> bytes:
    """What the peer is to receive (BEP 3)."""
    stream = b""
    for index, begin, length in blocks:
        start = index * PART_BYTES + begin
        stream += struct.pack(">IBII", 9 + length, 7, index, begin) + DATA[start : start + length]
    return stream


@pytest.mark.parametrize(
    "blocks",
    [
        [(0, 0, BLOCK_BYTES)],
        [(0, 0, BLOCK_BYTES), (0, BLOCK_BYTES, 3616), (1, 0, BLOCK_BYTES)],
        [(4, BLOCK_BYTES, 3539), (0, 5, 10), (2, 0, BLOCK_BYTES)],
        [(index % 4, 0, BLOCK_BYTES) for index in range(64)],
    ],
)
def test_the_blocks_of_a_read_arrive_as_one_shipment(desk: Desk, blocks: list[BlockSpan]) -> None:
    outbox = Outbox()
    desk.ask(outbox, *blocks)
    shipment = outbox.next()
    assert b"".join(shipment.slots) == messages(*blocks)
    assert shipment.payload_bytes == sum(length for _, _, length in blocks)


def test_memory_is_used_again_and_a_read_waits_until_some_is_free(desk: Desk) -> None:
    outbox = Outbox()
    for index in range(BUFFERS + 1):
        desk.ask(outbox, (index, 0, 100))
    held = [outbox.next() for _ in range(BUFFERS)]
    assert outbox.came.empty()
    held[0].give_back()
    third = outbox.next()
    assert third is held[0]
    assert b"".join(third.slots) == messages((BUFFERS, 0, 100))
    assert b"".join(held[1].slots) == messages((1, 0, 100)), "memory in use was written to"


def test_an_outbox_that_refuses_costs_no_memory(desk: Desk) -> None:
    full, good = Outbox(), Outbox()
    full.full = True
    for _ in range(3 * BUFFERS):
        desk.ask(full, (0, 0, 100))
    desk.ask(good, (1, 0, 100))
    assert b"".join(good.next().slots) == messages((1, 0, 100))


def test_a_file_that_has_become_shorter_is_reported_and_nothing_is_sent(desk: Desk) -> None:
    os.truncate(desk.path, PART_BYTES)
    outbox = Outbox()
    reasons = []
    for _ in range(3 * BUFFERS):
        desk.ask(outbox, (2, 0, 100), (0, 0, 100))
        failed = desk.reports.next(ReadFailed)
        assert (failed.key, failed.lost) == (7, [2])
        reasons.append(failed.reason)
    assert "ends at byte" in reasons[0]
    assert outbox.came.empty()
    desk.ask(outbox, (0, 0, 100))
    assert b"".join(outbox.next().slots) == messages((0, 0, 100))


# What is not to be taken on trust


def spoil(desk: Desk, index: int) -> None:
    """Change one byte in the middle of a part."""
    with desk.path.open("r+b") as file:
        file.seek(index * PART_BYTES + 700)
        file.write(bytes([DATA[index * PART_BYTES + 700] ^ 1]))


def count_verified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The parts that are hashed from now on."""
    verified: list[int] = []
    real = part_is_right

    def noted(read: Any, score: Score, index: int, memory: memoryview) -> bool:
        verified.append(index)
        return real(read, score, index, memory)

    monkeypatch.setattr(reader_module, "part_is_right", noted)
    return verified


def test_a_doubtful_part_is_hashed_before_it_is_sent_for_the_first_time_only(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = count_verified(monkeypatch)
    desk.reader.inbox.put(Watch(bytearray([1, 0, 1, 0, 0])))
    outbox = Outbox()
    for _ in range(2):
        desk.ask(outbox, (1, 0, 100), (2, 0, 100), (3, 0, 100))
        assert b"".join(outbox.next().slots) == messages((1, 0, 100), (2, 0, 100), (3, 0, 100))
    assert verified == [2]


def test_a_doubtful_part_that_is_wrong_is_not_sent_until_it_is_right(desk: Desk) -> None:
    spoil(desk, 2)
    desk.reader.inbox.put(Watch(bytearray([1, 0, 1, 0, 0])))
    outbox = Outbox()
    for _ in range(2):
        desk.ask(outbox, (1, 0, 100), (2, 0, 100))
        failed = desk.reports.next(ReadFailed)
        assert (failed.lost, failed.blocks) == ([2], [(1, 0, 100), (2, 0, 100)])
    assert outbox.came.empty()
    desk.path.write_bytes(DATA)
    desk.ask(outbox, (2, 0, 100))
    assert b"".join(outbox.next().slots) == messages((2, 0, 100))


@pytest.mark.fault("D7")
def test_once_the_file_has_changed_every_part_is_hashed_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = count_verified(monkeypatch)
    desk.reader.inbox.put(Watch(bytearray(), desk.storage.stamp()))
    outbox = Outbox()
    desk.ask(outbox, (2, 0, 100))
    outbox.next().give_back()
    assert verified == []
    spoil(desk, 2)
    desk.ask(outbox, (2, 0, 100), (3, 0, 100))
    assert "was changed: each part is checked again" in desk.reports.next(Notice).text
    assert desk.reports.next(ReadFailed).lost == [2]
    for _ in range(2):
        desk.ask(outbox, (3, 0, 100), (0, 0, 100))
        shipment = outbox.next()
        assert b"".join(shipment.slots) == messages((3, 0, 100), (0, 0, 100))
        shipment.give_back()
    assert verified == [2, 3, 0]


@pytest.mark.fault("D7")
def test_a_file_that_never_comes_to_rest_is_not_served(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough for one tick of the system's clock, so that each change shows.
    monkeypatch.setattr(reader_module, "SETTLE_S", 0.02)
    desk.reader.inbox.put(Watch(bytearray(), desk.storage.stamp()))
    read = Storage.read

    def changing(storage: Storage, views: list[memoryview], offset: int) -> None:
        read(storage, views, offset)
        os.utime(desk.path, ns=(1, time.time_ns()))

    monkeypatch.setattr(Storage, "read", changing)
    outbox = Outbox()
    desk.ask(outbox, (2, 0, 100))
    desk.reports.next(Notice)
    failed = desk.reports.next(ReadFailed)
    assert (failed.lost, failed.reason) == ([2], "the file keeps changing")
    assert outbox.came.empty()


@pytest.mark.fault("D4")
def test_a_part_that_cannot_be_read_is_named_among_those_that_can(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Storage.read

    def broken(storage: Storage, views: list[memoryview], offset: int) -> None:
        if offset <= 3 * PART_BYTES + 100 < offset + sum(map(len, views)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        read(storage, views, offset)

    monkeypatch.setattr(Storage, "read", broken)
    outbox = Outbox()
    blocks = [(2, BLOCK_BYTES, 3616), (3, 0, BLOCK_BYTES), (3, BLOCK_BYTES, 3616), (4, 0, BLOCK_BYTES)]
    desk.ask(outbox, *blocks)
    assert desk.reports.next(ReadFailed) == ReadFailed(7, blocks, [3], "[Errno 5] Input/output error")
    desk.ask(outbox, (4, 0, 100))
    assert b"".join(outbox.next().slots) == messages((4, 0, 100))


def fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next read from the disk fails."""
    read = Storage.read
    left = [1]

    def once(storage: Storage, views: list[memoryview], offset: int) -> None:
        if left and left.pop():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        read(storage, views, offset)

    monkeypatch.setattr(Storage, "read", once)


def test_a_read_that_fails_though_each_part_is_right_still_ends(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch)
    desk.ask(Outbox(), (1, 0, 100), (2, 0, 100))
    assert desk.reports.next(ReadFailed).lost == [1]


@pytest.mark.fault("D4")
def test_what_could_not_be_read_once_is_hashed_before_a_read_that_waits_already_brings_something(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(desk, 1)
    verified = count_verified(monkeypatch)
    fail_once(monkeypatch)
    outbox = Outbox()
    for blocks in ([(1, 0, 100)], [(1, 650, 100)], [(2, 0, 100)]):
        desk.ask(outbox, *blocks)
    assert [desk.reports.next(ReadFailed).lost for _ in range(2)] == [[1], [1]]
    assert b"".join(outbox.next().slots) == messages((2, 0, 100))
    assert verified == [1, 1]


def test_a_lost_part_is_withdrawn_behind_what_was_asked_for_before_and_not_trusted_afterwards(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = count_verified(monkeypatch)
    outbox = Outbox()
    desk.ask(outbox, (3, 0, 100))
    for _ in range(2):
        desk.reader.inbox.put(Lost(3))
        assert desk.reports.next(Withdrawn) == Withdrawn(3)
    assert not outbox.came.empty(), "what was read before is under way"
    outbox.next().give_back()
    for _ in range(2):
        desk.ask(outbox, (3, 0, 100))
        outbox.next().give_back()
    assert verified == [3]


def test_the_last_word_follows_what_was_asked_for_before(desk: Desk) -> None:
    outbox = Outbox()
    desk.ask(outbox, (0, 0, 100))
    desk.reader.inbox.put(Stop())
    outbox.next()
    assert desk.reports.next(ThreadEnded) == ThreadEnded("reader")
