"""A landing says the same as the plain decoder, however the stream is cut, and puts blocks side by side."""

from __future__ import annotations

import random
import struct

import pytest

from orchestra.buffers import Pool
from orchestra.decoder import Decoder
from orchestra.errors import RemoteProtocolError
from orchestra.landing import MESSAGE_BYTES, SLOTS, Landing
from orchestra.wire import (
    BLOCK_BYTES,
    KEEP_ALIVE,
    Blocks,
    Message,
    MessageId,
    encode_bitfield,
    encode_cancels,
    encode_extended,
    encode_haves,
    encode_requests,
    encode_state,
)
from tests.fakes import told

PARTS, PART_BYTES = 100, 4 * BLOCK_BYTES
BITFIELD = encode_bitfield(bytes(13))


def piece(number: int, length: int = BLOCK_BYTES) -> bytes:
    """Block `number` of the composition, or its beginning, filled with a byte of its own."""
    index, block = divmod(number, 4)
    return struct.pack(">IBII", 9 + length, 7, index, block * BLOCK_BYTES) + bytes([number % 251]) * length


class Receiver:
    """What a connection does with its landings, and a network that cuts the stream."""

    def __init__(self) -> None:
        self.pool = Pool(1, Landing)
        self.decoder = Decoder(PARTS, PART_BYTES)
        self.rest = b""

    def receive(self, data: bytes) -> list[Message]:
        """One receive; `data` must fit."""
        landing = self.pool.take()
        landing.lay(self.rest)
        filled = len(self.rest)
        for slot in landing.room(filled):
            taken = data[: len(slot)]
            slot[: len(taken)] = taken
            data, filled = data[len(taken) :], filled + len(taken)
        assert not data, "no room"
        messages, self.rest = landing.decode(filled, self.decoder)
        landing.give_back()
        return messages

    def receive_all(self, stream: bytes, cuts: list[int]) -> list[tuple[object, ...]]:
        found = []
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            messages = self.receive(stream[begin:end])
            found += told(messages)
        assert self.rest == b""
        return found


def plainly(stream: bytes) -> list[tuple[object, ...]]:
    """What the decoder alone says."""
    messages, used = Decoder(PARTS, PART_BYTES).decode(memoryview(stream), len(stream))
    assert used == len(stream)
    return told(messages)


def rejoined(found: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Bytes that follow one another as one, also over the border of two receives."""
    joined: list[tuple[object, ...]] = []
    for item in found:
        last = joined[-1] if joined else ("",)
        if (
            item[0] == last[0] == "bytes"
            and isinstance(last[1], int)
            and isinstance(last[2], bytes)
            and isinstance(item[2], bytes)
            and last[1] + len(last[2]) == item[1]
        ):
            joined[-1] = ("bytes", last[1], last[2] + item[2])
        else:
            joined.append(item)
    return joined


def test_a_full_landing_of_neighbouring_blocks_is_one_run_of_one_view() -> None:
    [run] = Receiver().receive(b"".join(map(piece, range(SLOTS))))
    assert isinstance(run, Blocks)
    assert (run.offset, run.length, len(run.views)) == (0, SLOTS * BLOCK_BYTES, 1)
    assert bytes(run.views[0]) == b"".join(bytes([n % 251]) * BLOCK_BYTES for n in range(SLOTS))


def test_a_gap_between_blocks_ends_a_run() -> None:
    found = Receiver().receive(piece(0) + piece(1) + piece(3) + piece(2) + piece(10))
    runs = [
        (run.offset // BLOCK_BYTES, run.length // BLOCK_BYTES) for run in found if isinstance(run, Blocks)
    ]
    assert runs == [(0, 2), (3, 1), (2, 1), (10, 1)]


@pytest.mark.parametrize("seed", range(30))
def test_any_stream_in_any_cuts_says_what_the_decoder_says(seed: int) -> None:
    rng = random.Random(seed)
    others = [
        KEEP_ALIVE,
        encode_haves([1, 2]),
        encode_requests([(0, 0, 16384)]),
        encode_cancels([(0, 0, 16384)]),
        encode_state(MessageId.UNCHOKE),
        encode_extended(0, b"d" + bytes(rng.randrange(300)) + b"e"),
        piece(7, 3616),
        piece(9, 1),
    ]
    stream = BITFIELD if rng.random() < 0.5 else b""
    while len(stream) < SLOTS // 2 * MESSAGE_BYTES:
        first = rng.randrange(300)
        stream += b"".join(piece(number) for number in range(first, first + rng.randrange(1, 12)))
        stream += b"".join(rng.choices(others, k=rng.choice((0, 0, 1, 3))))
    cuts = sorted(rng.randrange(len(stream)) for _ in range(rng.choice((0, 1, 8, 60))))
    assert rejoined(Receiver().receive_all(stream, cuts)) == plainly(stream)


@pytest.mark.parametrize("odd", [KEEP_ALIVE, encode_haves([1]), piece(3, 100)])
def test_after_an_odd_message_the_next_landing_is_in_step_again(odd: bytes) -> None:
    receiver = Receiver()
    stream = odd + b"".join(map(piece, range(8)))
    receiver.receive(stream[: -BLOCK_BYTES - 5])
    assert 0 < len(receiver.rest) < MESSAGE_BYTES
    found = receiver.receive(stream[-BLOCK_BYTES - 5 :] + piece(8))
    [run] = found
    assert isinstance(run, Blocks)
    assert (run.offset // BLOCK_BYTES, len(run.views)) == (7, 1)


def test_there_is_room_for_whatever_was_left_over() -> None:
    landing = Pool(1, Landing).take()
    for filled in [
        0,
        1,
        12,
        13,
        14,
        MESSAGE_BYTES - 1,
        MESSAGE_BYTES,
        MESSAGE_BYTES + 5,
        5 * MESSAGE_BYTES + 13,
    ]:
        assert sum(map(len, landing.room(filled))) == Landing.capacity_bytes - filled
        assert all(map(len, landing.room(filled)))


def test_what_is_laid_is_read_back_as_if_received() -> None:
    landing = Pool(1, Landing).take()
    stream = b"".join(map(piece, range(3))) + encode_haves([5])
    landing.lay(stream)
    messages, rest = landing.decode(len(stream), Decoder(PARTS, PART_BYTES))
    assert rest == b""
    assert told(messages) == plainly(stream)


def test_an_oversized_block_is_refused_also_in_its_slot() -> None:
    head = struct.pack(">IBII", 9 + BLOCK_BYTES + 1, 7, 0, 0)
    with pytest.raises(RemoteProtocolError, match="PIECE"):
        Receiver().receive(head)
    with pytest.raises(RemoteProtocolError, match="PIECE"):
        Receiver().receive(piece(0) + head + bytes(BLOCK_BYTES))
