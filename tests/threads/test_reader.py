"""The reader over a real file: batches of blocks ready to be sent, and what happens when it cannot read."""

from __future__ import annotations

import os
import queue
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.messages import Read, ReadFailed, Stop, ThreadEnded
from orchestra.reader import Reader
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
    for _ in range(3 * BUFFERS):
        desk.ask(outbox, (2, 0, 100), (0, 0, 100))
        failed = desk.reports.next(ReadFailed)
        assert (failed.key, failed.lost) == (7, [2])
        assert "ends at byte" in failed.reason
    assert outbox.came.empty()
    desk.ask(outbox, (0, 0, 100))
    assert b"".join(outbox.next().slots) == messages((0, 0, 100))


def test_the_last_word_follows_what_was_asked_for_before(desk: Desk) -> None:
    outbox = Outbox()
    desk.ask(outbox, (0, 0, 100))
    desk.reader.inbox.put(Stop())
    outbox.next()
    assert desk.reports.next(ThreadEnded) == ThreadEnded("reader")
