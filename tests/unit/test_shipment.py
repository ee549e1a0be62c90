"""A shipment is the exact bytes of `piece` messages, its blocks side by side for the disk."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest

from orchestra import shipment as shipment_module
from orchestra.buffers import Pool
from orchestra.shipment import MAX_BLOCKS, Shipment
from orchestra.wire import BLOCK_BYTES, BlockSpan
from tests.fakes import content

PART_BYTES = 20000
DATA = content(40 * PART_BYTES)
FULL = BLOCK_BYTES


def loaded(
    blocks: list[BlockSpan], shipment: Shipment | None = None
) -> tuple[Shipment, list[tuple[int, int]]]:
    """A shipment of these blocks, read from DATA; and what was read: (offset, length)."""
    shipment = shipment or Pool(1, Shipment).take()
    reads = []
    for offset, view in shipment.load(blocks, PART_BYTES):
        view[:] = DATA[offset : offset + len(view)]
        reads.append((offset, len(view)))
    return shipment, reads


def expected(blocks: list[BlockSpan]) -> bytes:
    """The messages, written down a second time (BEP 3)."""
    stream = b""
    for index, begin, length in blocks:
        start = index * PART_BYTES + begin
        stream += struct.pack(">IBII", 9 + length, 7, index, begin) + DATA[start : start + length]
    return stream


@pytest.mark.parametrize(
    ("blocks", "reads"),
    [
        ([(0, 0, FULL)], [(0, FULL)]),
        ([(3, 5, 1)], [(60005, 1)]),
        ([(0, 0, FULL), (0, FULL, 3616)], [(0, 20000)]),
        ([(0, 0, FULL), (0, FULL, 3616), (1, 0, FULL)], [(0, 36384)]),
        ([(2, 0, FULL), (0, 0, FULL)], [(40000, FULL), (0, FULL)]),
        ([(0, 0, 100), (0, 0, 100), (0, 50, 100)], [(0, 100), (0, 100), (50, 100)]),
    ],
)
def test_neighbours_are_read_in_one_piece(blocks: list[BlockSpan], reads: list[tuple[int, int]]) -> None:
    shipment, done = loaded(blocks)
    assert done == reads
    assert b"".join(shipment.slots) == expected(blocks)
    assert shipment.payload_bytes == sum(length for _, _, length in blocks)


@pytest.mark.fault("U2")
def test_shipments_of_every_length_leave_little_behind() -> None:
    shipment = Pool(1, Shipment).take()
    tracemalloc.start()
    try:
        for count in range(1, MAX_BLOCKS + 1):
            shipment.load([(number, 0, 1) for number in range(count)], PART_BYTES)
        shipment.load([(0, 0, 1)], PART_BYTES)
        # Its own: how much of its store of tuples Python has used up elsewhere is another matter.
        left = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, shipment_module.__file__)])
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in left.traces) <= 65536


@pytest.mark.parametrize("seed", range(10))
def test_any_batch_has_the_bytes_of_its_messages_also_when_the_memory_is_used_again(seed: int) -> None:
    rng = random.Random(seed)
    pool = Pool(1, Shipment)
    for _ in range(5):
        blocks = []
        for _ in range(rng.randrange(1, MAX_BLOCKS + 1)):
            begin = rng.choice((0, 0, FULL, rng.randrange(PART_BYTES)))
            longest = min(FULL, PART_BYTES - begin)
            blocks.append(
                (rng.randrange(40), begin, rng.choice((longest, longest, rng.randrange(longest) + 1)))
            )
        shipment, _ = loaded(blocks, pool.take())
        assert b"".join(shipment.slots) == expected(blocks)
        shipment.give_back()


def test_a_run_of_full_blocks_is_one_read_across_parts_and_may_follow_any_other_batch() -> None:
    part_bytes = 2 * FULL
    shipment = Pool(1, Shipment).take()
    for blocks in (
        [(1, FULL, FULL), (2, 0, FULL), (2, FULL, FULL)],
        [(1, 0, 5), (7, 0, FULL)],
        [(0, FULL, FULL), (0, 0, FULL)],
        [(0, 0, FULL), (0, FULL, FULL), (1, 0, FULL), (1, FULL, FULL)],
    ):
        reads = shipment.load(blocks, part_bytes)
        for offset, view in reads:
            view[:] = DATA[offset : offset + len(view)]
        stream = b"".join(shipment.slots)
        for index, begin, length in blocks:
            head = struct.pack(">IBII", 9 + length, 7, index, begin)
            start = index * part_bytes + begin
            assert stream.startswith(head + DATA[start : start + length])
            stream = stream[13 + length :]
        assert stream == b""
    assert [(offset, len(view)) for offset, view in reads] == [(0, 4 * FULL)]


def test_what_is_left_is_the_rest_of_the_stream() -> None:
    blocks = [(0, 0, FULL), (0, FULL, 3616), (5, 7, 10)]
    whole = expected(blocks)
    for sent in (0, 1, 12, 13, 14, 13 + FULL - 1, 13 + FULL, 13 + FULL + 13, len(whole) - 1, len(whole)):
        shipment, _ = loaded(blocks)
        assert shipment.left_bytes == len(whole)
        shipment.sent(sent)
        assert b"".join(shipment.slots) == whole[sent:]
        shipment.sent(min(5, shipment.left_bytes))
        assert b"".join(shipment.slots) == whole[sent + 5 :]
        assert shipment.left_bytes == len(b"".join(shipment.slots))
