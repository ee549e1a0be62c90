"""Targets for what peers say: the handshake, messages in all cuts, the extension handshake, peer exchange."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from typing import Any

from orchestra.addresses import can_dial
from orchestra.buffers import Pool
from orchestra.decoder import Decoder, missing_bytes
from orchestra.errors import RemoteProtocolError
from orchestra.extension import MOST_REQQ, decode_extension_handshake, encode_extension_handshake
from orchestra.landing import MESSAGE_BYTES, Landing
from orchestra.pex import Contacts, decode_contacts, encode_contacts
from orchestra.text import safe
from orchestra.wire import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    KEEP_ALIVE,
    MessageId,
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
from tests.fuzz.target import Target, outcome
from tests.fuzz.trackers import BENCODE_TOKENS

SHAPES = ((9, 16384), (100, 65536), (1, 1), (1000, 20000), (0, 16384), (70_000, 5))
"""Parts and part size of the compositions that decoders are asked about."""
OPENINGS = tuple(
    struct.pack(">IB", length, number)
    for number, length in (
        *((number, 1) for number in (0, 1, 2, 3, 14, 15)),
        *((number, 5) for number in (4, 13, 17)),
        *((number, 13) for number in (6, 8, 16)),
        (7, 9 + 16384),
        (7, 9 + 16385),
        (7, 10),
        (7, 9),
        (5, 3),
        (9, 3),
        (20, 2),
        (20, 40_000),
        (99, 1),
        (7, 2**31),
    )
)
_POOL: Pool[Landing] = Pool(1, Landing)
_Found = list[tuple[Any, ...]]


def _messages(rng: random.Random) -> bytes:
    block = (rng.randrange(12), rng.choice((0, 16384)), rng.choice((1, 16384, 16385)))
    return rng.choice(
        (
            encode_state(
                rng.choice((MessageId.CHOKE, MessageId.UNCHOKE, MessageId.INTERESTED, MessageId.HAVE_ALL))
            ),
            encode_haves([rng.randrange(120) for _ in range(rng.randrange(1, 5))]),
            encode_requests([block] * rng.randrange(1, 4)),
            encode_cancels([block]),
            encode_rejects([block, block]),
            encode_allowed_fast([1, 2]),
            encode_bitfield(rng.randbytes(rng.choice((2, 13)))),
            encode_extended(rng.randrange(3), rng.randbytes(rng.randrange(20))),
            struct.pack(">IBH", 3, 9, 6881),
            KEEP_ALIVE,
            struct.pack(">IBII", 9 + 7, 7, rng.randrange(9), 0) + rng.randbytes(7),
        )
    )


# Messages


def check_decoder(data: bytes) -> str:
    """Messages out of bytes: the same in one piece, in many, and through a landing; or RemoteProtocolError.

    The first byte chooses the composition, the second the size of the pieces.
    """
    choice, cut = (data + b"\0\0")[:2]
    return _check_stream(data[2:], choice, 1 + cut)


def check_landing(data: bytes) -> str:
    """The same with whole blocks: what the hot path takes. Each byte is a block or another message."""
    choice, cut = (data + b"\0\0")[:2]
    return _check_stream(b"".join(_pieces(data[2:])), choice, 1 + 97 * cut)


def _pieces(script: bytes) -> Iterable[bytes]:
    """Blocks, mostly one after the other; other messages; and now and then what is broken."""
    number = 0
    for place, byte in enumerate(script):
        if byte < 160:
            number = number + 1 if byte < 120 else byte % 7
            yield struct.pack(">IBII", 9 + BLOCK_BYTES, 7, number // 4, number % 4 * BLOCK_BYTES)
            yield bytes([byte]) * BLOCK_BYTES
        elif byte < 180:
            yield struct.pack(">IBII", 9 + byte, 7, 3, byte * 64) + bytes(byte)
        elif byte < 250:
            yield _messages(random.Random(byte))
        else:
            yield script[place : place + byte - 245]


def _check_stream(stream: bytes, choice: int, cut: int) -> str:
    parts, part_size_bytes = SHAPES[choice % len(SHAPES)]
    fast = bool(choice & 128)
    ways = [  # in one piece, in many, as a connection receives it
        _said(lambda: _at_once(stream, Decoder(parts, part_size_bytes, fast=fast))),
        _said(lambda: _in_pieces(stream, cut, Decoder(parts, part_size_bytes, fast=fast))),
        _said(lambda: _landed(stream, cut, Decoder(parts, part_size_bytes, fast=fast))),
    ]
    refused = [isinstance(way, str) for way in ways]
    assert len(set(refused)) == 1, ways
    if refused[0]:
        return str(ways[0])
    first, *others = [_told_apart(way) for way in ways if not isinstance(way, str)]
    assert others == [first, first]
    return " ".join(sorted({_word(item[0]) for items in first for item in items}))


def _word(kind: object) -> str:
    return kind if isinstance(kind, str) else type(kind).__name__


def _told_apart(found: _Found) -> tuple[_Found, _Found]:
    """Requests, and all else with what follows on as one.

    A run of blocks may go on behind requests that came in its midst: then these are told after it.
    """
    requests = [item for item in found if item[0] == "request"]
    return requests, rejoined([item for item in found if item[0] != "request"])


def _said(decode: Callable[[], _Found]) -> _Found | str:
    try:
        found = decode()
    except RemoteProtocolError as error:
        assert str(error).isprintable()
        return outcome(error)
    return found


def _at_once(stream: bytes, decoder: Decoder) -> _Found:
    messages, used = decoder.decode(memoryview(stream), len(stream))
    assert len(stream) - used < max(decoder.max_message_bytes, 4)
    assert missing_bytes(stream[used:]) >= 1
    return told(messages)


def _in_pieces(stream: bytes, cut: int, decoder: Decoder) -> _Found:
    """In pieces of `cut` bytes, long streams in larger ones: each byte is looked at a few times at most."""
    cut = max(cut, len(stream) // 64)
    rest, found = b"", []
    for start in range(0, len(stream), cut):
        piece = rest + stream[start : start + cut]
        messages, used = decoder.decode(memoryview(piece), len(piece))
        found += told(messages)
        rest = piece[used:]
    return found


def _landed(stream: bytes, cut: int, decoder: Decoder) -> _Found:
    """As a connection receives it."""
    cut = min(max(cut, len(stream) // 64), 60 * MESSAGE_BYTES)
    rest: bytes = b""
    found: _Found = []
    for start in range(0, len(stream), cut):
        data = stream[start : start + cut]
        landing = _POOL.take()
        try:
            landing.lay(rest)
            filled = len(rest)
            for slot in landing.room(filled):
                taken = data[: len(slot)]
                slot[: len(taken)] = taken
                data, filled = data[len(taken) :], filled + len(taken)
                if not data:
                    break
            assert not data, "no room"
            messages, rest = landing.decode(filled, decoder)
            found += told(messages)
        finally:
            landing.give_back()
    return found


def rejoined(found: _Found) -> _Found:
    """Bytes that follow one another as one, wherever the stream was cut."""
    joined: _Found = []
    runs: list[bytes] = []

    def close() -> None:
        if runs:
            joined[-1] = ("bytes", joined[-1][1], b"".join(runs))
            runs.clear()

    end = -1
    for item in found:
        if item[0] == "bytes" and isinstance(item[1], int) and isinstance(item[2], bytes):
            if runs and item[1] == end:
                runs.append(item[2])
            else:
                close()
                joined.append(item)
                runs.append(item[2])
            end = item[1] + len(item[2])
        else:
            close()
            joined.append(item)
    close()
    return joined


def make_stream(rng: random.Random) -> bytes:
    return rng.randbytes(2) + b"".join(_messages(rng) for _ in range(rng.randrange(1, 8)))


def make_script(rng: random.Random) -> bytes:
    return rng.randbytes(2) + bytes(
        rng.choices(range(256), weights=[9] * 160 + [1] * 96, k=rng.randrange(1, 12))
    )


# Handshakes and extensions


def check_handshake(data: bytes) -> str:
    """The first bytes of a connection."""
    try:
        handshake = decode_handshake(data)
    except RemoteProtocolError as error:
        return outcome(error)
    assert len(handshake.info_hash) == len(handshake.peer_id) == 20
    return f"handshake {handshake.speaks_fast} {handshake.speaks_extensions}"


def check_extension(data: bytes) -> str:
    """BEP 10's handshake: RemoteProtocolError, or values within their bounds."""
    try:
        hello = decode_extension_handshake(data)
    except RemoteProtocolError as error:
        return outcome(error)
    assert 0 <= hello.port < 65536
    assert 0 <= hello.max_requests <= MOST_REQQ
    assert hello.pex_id is None or 0 <= hello.pex_id < 256
    assert safe(hello.client, 60).isprintable()
    assert not hello.our_host or can_dial((hello.our_host, 1)) in (True, False)
    return f"{bool(hello.client)} {hello.port > 0} {hello.upload_only} {bool(hello.our_host)}"


def make_extension(rng: random.Random) -> bytes:
    host = rng.choice(("10.0.0.1", "::1", "name"))
    return encode_extension_handshake(
        port=rng.randrange(70_000),
        max_requests=rng.randrange(3000),
        your_host=host,
        upload_only=rng.random() < 0.5,
    )


def check_pex(data: bytes) -> str:
    """BEP 11: RemoteProtocolError, or contacts that are told on as they were told."""
    try:
        contacts = decode_contacts(data)
    except RemoteProtocolError as error:
        return outcome(error)
    again = decode_contacts(encode_contacts(contacts))
    assert again.added == contacts.added
    assert sorted(again.dropped) == sorted(contacts.dropped)
    return f"{min(len(contacts.added), 3)} added {min(len(contacts.dropped), 3)} dropped"


def make_pex(rng: random.Random) -> bytes:
    def hosts() -> list[tuple[str, int]]:
        return [
            (rng.choice(("10.0.0.1", "2001:db8::1", "127.0.0.1")), rng.randrange(65536))
            for _ in range(rng.randrange(3))
        ]

    return encode_contacts(Contacts({address: rng.randrange(256) for address in hosts()}, hosts()))


WIRES = (
    Target("decoder", check_decoder, make_stream, (*OPENINGS, KEEP_ALIVE), 2048),
    Target("landing", check_landing, make_script, (), 24),
    Target(
        "handshake",
        check_handshake,
        lambda rng: encode_handshake(rng.randbytes(20), rng.randbytes(20)),
        (),
        2 * HANDSHAKE_BYTES,
    ),
    Target(
        "extension",
        check_extension,
        make_extension,
        (*BENCODE_TOKENS, b"1:m", b"1:p", b"4:reqq", b"1:v", b"6:yourip"),
    ),
    Target(
        "pex",
        check_pex,
        make_pex,
        (*BENCODE_TOKENS, b"5:added", b"7:added.f", b"6:added6", b"7:dropped", b"8:dropped6"),
    ),
)
