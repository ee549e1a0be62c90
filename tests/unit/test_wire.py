"""The wire: exact bytes both ways, in pieces of any size, and nothing that breaks the rules."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.decoder import MAX_KEEP_ALIVES, Decoder
from orchestra.errors import RemoteProtocolError
from orchestra.wire import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    KEEP_ALIVE,
    MAX_EXTENDED_BYTES,
    AllowedFast,
    BitfieldReceived,
    Blocks,
    BlockSpan,
    Cancels,
    Choke,
    Extended,
    Handshake,
    HaveAll,
    HaveNone,
    Haves,
    Interested,
    Message,
    MessageId,
    NotInterested,
    Port,
    Rejects,
    Requests,
    Suggestions,
    Unchoke,
    decode_handshake,
    encode_allowed_fast,
    encode_bitfield,
    encode_cancels,
    encode_extended,
    encode_handshake,
    encode_haves,
    encode_rejects,
    encode_requests,
    encode_state,
)
from tests.fakes import told

PARTS, PART_BYTES = 11, 20000
BITFIELD = b"\xff\xe0"


def piece(index: int, begin: int, data: bytes) -> bytes:
    """A `piece` message, written down here a second time (BEP 3)."""
    return struct.pack(">IBII", 9 + len(data), 7, index, begin) + data


# Message as decoded, the exact bytes, and the bytes that our encoder makes (None: we never send it alone).
TABLE: list[tuple[Any, bytes, bytes | None]] = [
    (Choke(), b"\0\0\0\1\0", encode_state(MessageId.CHOKE)),
    (Unchoke(), b"\0\0\0\1\1", encode_state(MessageId.UNCHOKE)),
    (Interested(), b"\0\0\0\1\2", encode_state(MessageId.INTERESTED)),
    (NotInterested(), b"\0\0\0\1\3", encode_state(MessageId.NOT_INTERESTED)),
    (Haves([10]), b"\0\0\0\5\4\0\0\0\x0a", encode_haves([10])),
    (Haves([2, 1]), b"\0\0\0\5\4\0\0\0\2\0\0\0\5\4\0\0\0\1", encode_haves([2, 1])),
    (BitfieldReceived(BITFIELD), b"\0\0\0\3\5\xff\xe0", encode_bitfield(BITFIELD)),
    (
        Requests([(1, 2, 3)]),
        b"\0\0\0\x0d\6\0\0\0\1\0\0\0\2\0\0\0\3",
        encode_requests([(1, 2, 3)]),
    ),
    (
        Requests([(0, 0, 16384), (7, 16384, 3616)]),
        b"\0\0\0\x0d\6\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\0\x0d\6\0\0\0\7\0\0\x40\0\0\0\x0e\x20",
        encode_requests([(0, 0, 16384), (7, 16384, 3616)]),
    ),
    (Cancels([(1, 2, 3)]), b"\0\0\0\x0d\x08\0\0\0\1\0\0\0\2\0\0\0\3", encode_cancels([(1, 2, 3)])),
    (
        Cancels([(1, 2, 3), (4, 5, 6)]),
        b"\0\0\0\x0d\x08\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\x0d\x08\0\0\0\4\0\0\0\5\0\0\0\6",
        encode_cancels([(1, 2, 3), (4, 5, 6)]),
    ),
    (Blocks(20002, 1, [memoryview(b"x")]), b"\0\0\0\x0a\7\0\0\0\1\0\0\0\2x", None),
    (Port(6881), b"\0\0\0\3\x09\x1a\xe1", None),
    (Suggestions([9]), b"\0\0\0\5\x0d\0\0\0\x09", None),
    (Suggestions([9, 8]), b"\0\0\0\5\x0d\0\0\0\x09\0\0\0\5\x0d\0\0\0\x08", None),
    (HaveAll(), b"\0\0\0\1\x0e", encode_state(MessageId.HAVE_ALL)),
    (HaveNone(), b"\0\0\0\1\x0f", encode_state(MessageId.HAVE_NONE)),
    (Rejects([(1, 2, 3)]), b"\0\0\0\x0d\x10\0\0\0\1\0\0\0\2\0\0\0\3", encode_rejects([(1, 2, 3)])),
    (
        Rejects([(1, 2, 3), (4, 5, 6)]),
        b"\0\0\0\x0d\x10\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\x0d\x10\0\0\0\4\0\0\0\5\0\0\0\6",
        encode_rejects([(1, 2, 3), (4, 5, 6)]),
    ),
    (AllowedFast([7]), b"\0\0\0\5\x11\0\0\0\7", encode_allowed_fast([7])),
    (
        AllowedFast([7, 0]),
        b"\0\0\0\5\x11\0\0\0\7\0\0\0\5\x11\0\0\0\0",
        encode_allowed_fast([7, 0]),
    ),
    (Extended(0, b"de"), b"\0\0\0\4\x14\0de", encode_extended(0, b"de")),
    (Extended(3, b""), b"\0\0\0\2\x14\3", encode_extended(3, b"")),
]
NAMES = [f"{type(row[0]).__name__} {number}" for number, row in enumerate(TABLE)]


def fresh_decoder() -> Decoder:
    """One that takes every kind of message."""
    return Decoder(PARTS, PART_BYTES, fast=True)


def decode_all(data: bytes) -> list[Message]:
    """One call with everything; all of it must be used."""
    messages, used = fresh_decoder().decode(memoryview(data), len(data))
    assert used == len(data)
    return messages


def decode_cut(chunks: Iterable[bytes]) -> list[Message]:
    """As a connection does it: each chunk after what was left of the one before."""
    decoder, rest, found = fresh_decoder(), b"", []
    for chunk in chunks:
        data = rest + chunk
        messages, used = decoder.decode(memoryview(data), len(data))
        found += messages
        rest = data[used:]
    assert rest == b""
    return found


# Exact bytes


@pytest.mark.parametrize(("message", "data", "encoded"), TABLE, ids=NAMES)
def test_each_message_has_exactly_these_bytes(message: Message, data: bytes, encoded: bytes | None) -> None:
    assert told(decode_all(data)) == told([message])
    if encoded is not None:
        assert encoded == data


@pytest.mark.parametrize(("message", "data", "_encoded"), TABLE, ids=NAMES)
def test_each_message_may_come_byte_by_byte(message: Message, data: bytes, _encoded: bytes | None) -> None:
    chunks = [data[place : place + 1] for place in range(len(data))]
    assert told(decode_cut(chunks)) == told([message])


@pytest.mark.parametrize(("message", "data", "_encoded"), TABLE, ids=NAMES)
def test_bytes_behind_the_end_are_not_looked_at(
    message: Message, data: bytes, _encoded: bytes | None
) -> None:
    buffer = memoryview(data + b"\xff" * 40)
    messages, used = fresh_decoder().decode(buffer, len(data))
    assert told(messages) == told([message])
    assert used == len(data)


def test_a_keep_alive_is_used_up_without_a_message() -> None:
    assert decode_all(KEEP_ALIVE) == []
    assert decode_all(KEEP_ALIVE * MAX_KEEP_ALIVES) == []
    assert decode_all(KEEP_ALIVE * 7 + encode_haves([1]) + KEEP_ALIVE * 3 + encode_haves([2])) == [
        Haves([1]),
        Haves([2]),
    ]


@pytest.mark.fault("P12")
def test_a_flood_of_keep_alives_is_told_by_its_first_thousand() -> None:
    with pytest.raises(RemoteProtocolError, match="a flood of keep-alives"):
        decode_all(KEEP_ALIVE * (MAX_KEEP_ALIVES + 1))


def test_keep_alives_end_where_a_length_of_many_zeros_begins() -> None:
    data = KEEP_ALIVE * 5 + encode_haves([3])[:4]
    assert fresh_decoder().decode(memoryview(data), len(data)) == ([], 20)


def test_what_is_not_whole_is_left_for_the_next_call() -> None:
    stream = encode_state(MessageId.UNCHOKE) + encode_haves([1]) + piece(0, 0, b"abcd")
    for end in range(len(stream)):
        messages, used = fresh_decoder().decode(memoryview(stream), end)
        assert used <= end
        again = decode_all(stream[used:]) if used else decode_all(stream)
        assert told(messages) + told(again) == told(decode_all(stream))


# Runs of blocks


def test_neighbouring_blocks_make_one_run_that_goes_on_over_the_border_of_a_part() -> None:
    data = random.Random(1).randbytes(40000)
    stream = (
        piece(0, 0, data[:16384])
        + piece(0, 16384, data[16384:20000])
        + piece(1, 0, data[20000:36384])
        + piece(1, 16384, data[36384:40000])
    )
    [run] = decode_all(stream)
    assert isinstance(run, Blocks)
    assert (run.offset, run.length) == (0, 40000)
    assert [len(view) for view in run.views] == [16384, 3616, 16384, 3616]
    assert b"".join(run.views) == data


def test_a_gap_a_step_back_or_another_message_ends_a_run() -> None:
    runs = decode_all(piece(0, 0, b"ab") + piece(0, 3, b"cd") + piece(0, 5, b"e") + piece(0, 0, b"f"))
    assert [(run.offset, run.length) for run in runs if isinstance(run, Blocks)] == [(0, 2), (3, 3), (0, 1)]
    mixed = decode_all(piece(0, 0, b"ab") + encode_haves([1]) + piece(0, 2, b"cd"))
    assert [type(message) for message in mixed] == [Blocks, Haves, Blocks]


def test_messages_keep_their_order_among_blocks() -> None:
    stream = (
        encode_requests([(0, 0, 1)])
        + encode_state(MessageId.CHOKE)
        + encode_requests([(0, 1, 1), (0, 2, 1)])
        + piece(2, 0, b"x")
        + encode_requests([(0, 3, 1)])
        + encode_cancels([(0, 3, 1)])
        + encode_haves([1, 2])
        + encode_cancels([(0, 2, 1)])
    )
    kinds = [type(message) for message in decode_all(stream)]
    assert kinds == [Requests, Choke, Requests, Blocks, Requests, Cancels, Haves, Cancels]


def test_views_point_into_the_receivers_buffer() -> None:
    buffer = bytearray(piece(0, 0, b"abcd"))
    messages, _ = fresh_decoder().decode(memoryview(buffer), len(buffer))
    assert isinstance(messages[0], Blocks)
    buffer[13:17] = b"wxyz"
    assert bytes(messages[0].views[0]) == b"wxyz"


# What breaks the protocol

HEAD = struct.Struct(">IB")
WRONG_LENGTHS = [
    *((MessageId(message_id), length) for message_id in range(4) for length in (2, 5, 2**31)),
    *((MessageId.HAVE, length) for length in (1, 4, 6, 9)),
    *((MessageId.BITFIELD, length) for length in (1, 2, 4, 2**32 - 1)),
    *(
        (message_id, length)
        for message_id in (MessageId.REQUEST, MessageId.CANCEL)
        for length in (1, 12, 14, 17)
    ),
    *((MessageId.PIECE, length) for length in (1, 8, 9, 9 + BLOCK_BYTES + 1, 9 + 2 * BLOCK_BYTES)),
    *((MessageId.PORT, length) for length in (1, 2, 4)),
    *((MessageId.EXTENDED, length) for length in (1, 2 + MAX_EXTENDED_BYTES + 1)),
    *(
        (message_id, length)
        for message_id in (MessageId.SUGGEST, MessageId.ALLOWED_FAST)
        for length in (1, 4, 6, 9)
    ),
    *(
        (message_id, length)
        for message_id in (MessageId.HAVE_ALL, MessageId.HAVE_NONE)
        for length in (2, 5, 2**31)
    ),
    *((MessageId.REJECT, length) for length in (1, 12, 14, 17)),
]


@pytest.mark.parametrize(("message_id", "length"), WRONG_LENGTHS)
def test_a_wrong_length_is_refused_as_soon_as_the_type_is_known(message_id: MessageId, length: int) -> None:
    head = HEAD.pack(length, message_id)
    with pytest.raises(RemoteProtocolError, match=f"{message_id.name} of {length} bytes"):
        fresh_decoder().decode(memoryview(head), 5)
    whole = head + bytes(min(length - 1, 60))
    with pytest.raises(RemoteProtocolError, match=f"{message_id.name} of {length} bytes"):
        fresh_decoder().decode(memoryview(whole), len(whole))


RIGHT_LENGTHS = [
    *((message_id, 1) for message_id in range(4)),
    (4, 5),
    (5, 3),
    (6, 13),
    (8, 13),
    (7, 10),
    (7, 9 + BLOCK_BYTES),
    (9, 3),
    (13, 5),
    (14, 1),
    (15, 1),
    (16, 13),
    (17, 5),
    (20, 2),
    (20, 2 + MAX_EXTENDED_BYTES),
]


@pytest.mark.parametrize(("message_id", "length"), RIGHT_LENGTHS)
def test_the_smallest_and_the_largest_message_of_each_type_are_taken(message_id: int, length: int) -> None:
    data = HEAD.pack(length, message_id) + bytes(length - 1)
    assert len(decode_all(data)) == 1
    assert len(data) <= fresh_decoder().max_message_bytes


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 2**20 + 1, 40_000])
def test_a_length_that_no_message_has_is_refused_before_its_type_is_known(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"a message of {length} bytes"):
        fresh_decoder().decode(memoryview(struct.pack(">I", length)), 4)


def test_a_large_bitfield_widens_what_may_come() -> None:
    parts = 8 * 100_000
    data = encode_bitfield(bytes(100_000))
    decoder = Decoder(parts, 16384)
    assert decoder.decode(memoryview(data), 4) == ([], 0)
    assert decoder.decode(memoryview(data), len(data)) == ([BitfieldReceived(bytes(100_000))], len(data))


@pytest.mark.parametrize("message_id", [10, 12, 18, 19, 21, 255])
def test_a_type_that_nobody_agreed_on_is_refused(message_id: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"message id {message_id}"):
        fresh_decoder().decode(memoryview(HEAD.pack(1, message_id)), 5)


@pytest.mark.parametrize(("message_id", "length"), [(13, 5), (14, 1), (15, 1), (16, 13), (17, 5)])
def test_the_fast_extension_is_refused_unless_both_sides_speak_it(message_id: int, length: int) -> None:
    data = HEAD.pack(length, message_id) + bytes(length - 1)
    with pytest.raises(RemoteProtocolError, match=f"message id {message_id}"):
        Decoder(PARTS, PART_BYTES).decode(memoryview(data), len(data))
    assert len(decode_all(data)) == 1


@pytest.mark.parametrize(
    "before",
    [
        KEEP_ALIVE,
        encode_extended(0, b"de"),
        b"\0\0\0\3\x09\x1a\xe1",
        encode_bitfield(BITFIELD),
        encode_haves([1]),
    ],
)
def test_a_bitfield_may_come_at_any_time(before: bytes) -> None:
    # BEP 10 has its handshake first, and aria2 sends a bitfield again instead of many haves.
    field = encode_bitfield(BITFIELD)
    assert decode_all(before + field)[-1] == BitfieldReceived(BITFIELD)
    assert decode_cut([before, field])[-1] == BitfieldReceived(BITFIELD)


def test_messages_before_a_broken_one_do_not_hide_it() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_all(encode_haves([1]) + piece(0, 0, b"x") + HEAD.pack(2, MessageId.CHOKE))


# Handshake


def test_the_handshake_has_exactly_these_bytes() -> None:
    info_hash, peer_id = bytes(range(20)), b"-OR0100-abcdefghijkl"
    data = encode_handshake(info_hash, peer_id)
    assert data == b"\x13BitTorrent protocol" + b"\0\0\0\0\0\x10\0\x04" + info_hash + peer_id
    assert len(data) == HANDSHAKE_BYTES
    assert decode_handshake(data) == Handshake(0x100004, info_hash, peer_id)
    assert decode_handshake(data).speaks_extensions
    assert decode_handshake(data).speaks_fast


def test_reserved_bits_of_others_are_read() -> None:
    old = decode_handshake(b"\x13BitTorrent protocol" + bytes(48))
    assert not old.speaks_extensions
    assert not old.speaks_fast
    everything = decode_handshake(b"\x13BitTorrent protocol" + b"\xff" * 8 + bytes(40))
    assert everything.speaks_extensions
    assert everything.speaks_fast
    other = Handshake(0x100000 | 0x1 | 0x8, bytes(20), bytes(20))
    assert other.speaks_extensions
    assert not other.speaks_fast


@pytest.mark.parametrize(
    "data",
    [
        b"",
        (b"\x13BitTorrent protocol" + bytes(48))[:-1],
        b"\x13BitTorrent protocol" + bytes(49),
        b"\x00BitTorrent protocol" + bytes(48),
        b"\xffBitTorrent protocol" + bytes(48),
        b"\x13bittorrent protocol" + bytes(48),
        b"GET / HTTP/1.1\r\n" + bytes(52),
    ],
)
def test_what_is_no_handshake_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_handshake(data)


# Any bytes at all

indices = st.integers(0, 2**32 - 1)
spans: st.SearchStrategy[BlockSpan] = st.tuples(indices, indices, indices)
wire_messages = st.one_of(
    st.sampled_from([encode_state(MessageId(number)) for number in (0, 1, 2, 3, 14, 15)]),
    st.just(KEEP_ALIVE),
    st.lists(indices, min_size=1, max_size=3).map(encode_haves),
    st.lists(spans, min_size=1, max_size=3).map(encode_requests),
    st.lists(spans, min_size=1, max_size=2).map(encode_cancels),
    st.lists(spans, min_size=1, max_size=2).map(encode_rejects),
    st.lists(indices, min_size=1, max_size=3).map(encode_allowed_fast),
    st.lists(indices, min_size=1, max_size=2).map(
        lambda parts: b"".join(struct.pack(">IBI", 5, 13, index) for index in parts)
    ),
    st.builds(piece, st.integers(0, 2), st.integers(0, 8), st.binary(min_size=1, max_size=8)),
    st.builds(encode_extended, st.integers(0, 255), st.binary(max_size=8)),
)


@settings(deadline=None)
@given(st.booleans(), st.lists(wire_messages, max_size=12), st.data())
def test_any_split_of_a_stream_gives_the_same_messages(
    greets: bool, messages: list[bytes], data: st.DataObject
) -> None:
    stream = (encode_bitfield(BITFIELD) if greets else b"") + b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert told(decode_cut(chunks)) == told(decode_all(stream))


def broken(stream: bytes, flips: list[tuple[int, int]]) -> bytes:
    """The stream with some bytes exchanged."""
    changed = bytearray(stream)
    for place, value in flips:
        if changed:
            changed[place % len(changed)] = value
    return bytes(changed)


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.builds(
            broken,
            st.lists(wire_messages, max_size=6).map(b"".join),
            st.lists(st.tuples(indices, st.integers(0, 255)), max_size=4),
        ),
    )
)
def test_any_bytes_give_messages_or_a_protocol_error(data: bytes) -> None:
    decoder = fresh_decoder()
    try:
        messages, used = decoder.decode(memoryview(data), len(data))
    except RemoteProtocolError:
        return
    assert 0 <= used <= len(data)
    # What is left over is the beginning of one message, no longer than the longest that may come.
    if len(data) - used >= 4:
        (length,) = struct.unpack_from(">I", data, used)
        assert len(data) - used < 4 + length <= decoder.max_message_bytes
    told(messages)
