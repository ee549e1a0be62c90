"""The peer wire protocol (BEP 3, BEP 6, BEP 10): its messages, and what we send; no socket anywhere.

Pure. The Decoder (decoder.py) reads what others send. Two shapes keep the hot
path short: neighbouring `piece` messages become one Blocks run whose views
point into the receiver's buffer, and neighbouring messages of one kind that
name blocks or parts become one list.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from orchestra.errors import RemoteProtocolError
from orchestra.kinds import kind

BLOCK_BYTES = 16384
"""What one request asks for; larger requests are refused by the field's clients."""

PROTOCOL = b"\x13BitTorrent protocol"
HANDSHAKE_BYTES = 68
MAX_EXTENDED_BYTES = 32768
KEEP_ALIVE = bytes(4)

EXTENSION_PROTOCOL_BIT = 1 << 20
"""Bit 20 from the right of the reserved bytes: BEP 10."""
FAST_BIT = 1 << 2
"""The third bit from the right of the reserved bytes: the fast extension, BEP 6."""
OUR_EXTENSIONS = EXTENSION_PROTOCOL_BIT | FAST_BIT
"""The reserved bytes of our handshake."""

BlockSpan = tuple[int, int, int]
"""Part index, begin within the part, length: all in bytes but the index."""


class MessageId(IntEnum):
    """The byte after the length prefix: BEP 3; BEP 5 for PORT, BEP 6 for 13 to 17, BEP 10 for EXTENDED."""

    CHOKE = 0
    UNCHOKE = 1
    INTERESTED = 2
    NOT_INTERESTED = 3
    HAVE = 4
    BITFIELD = 5
    REQUEST = 6
    PIECE = 7
    CANCEL = 8
    PORT = 9
    SUGGEST = 13
    HAVE_ALL = 14
    HAVE_NONE = 15
    REJECT = 16
    ALLOWED_FAST = 17
    EXTENDED = 20


@kind
class Choke(NamedTuple):
    """The peer will not answer our requests."""


@kind
class Unchoke(NamedTuple):
    """The peer will answer our requests."""


@kind
class Interested(NamedTuple):
    """The peer wants parts that we have."""


@kind
class NotInterested(NamedTuple):
    """The peer wants nothing that we have."""


@kind
class Haves(NamedTuple):
    """The peer has got these parts: one or more `have` messages in a row."""

    indices: list[int]


@kind
class BitfieldReceived(NamedTuple):
    """All that the peer has, one bit a part, the first part in the highest bit."""

    data: bytes


@kind
class Requests(NamedTuple):
    """The peer asks for these blocks, in this order."""

    blocks: list[BlockSpan]


@kind
class Cancels(NamedTuple):
    """The peer no longer wants these blocks."""

    blocks: list[BlockSpan]


class Blocks:
    """A run of the composition's bytes without a gap: one or more `piece` messages in a row.

    `offset` counts from the start of the composition, so that a run may go on
    from one part into the next. `views` point into the receiving buffer, in
    order; together they are `length` bytes. Not frozen only because the
    decoder grows it block by block before anybody else sees it.
    """

    __slots__ = ("length", "offset", "views")

    def __init__(self, offset: int, length: int, views: list[memoryview]) -> None:
        self.offset = offset
        self.length = length
        self.views = views

    def cut(self, start: int, length: int) -> list[memoryview]:
        """The `length` bytes from byte `start` of the run on."""
        found = []
        for view in self.views:
            if start < len(view) and length > 0:
                found.append(view[start : start + length])
                length -= len(found[-1])
            start = max(0, start - len(view))
        return found


@kind
class Port(NamedTuple):
    """The peer runs a DHT node on this UDP port (BEP 5)."""

    port: int


@kind
class Suggestions(NamedTuple):
    """The peer would rather be asked for these parts (BEP 6)."""

    indices: list[int]


@kind
class HaveAll(NamedTuple):
    """The peer has every part; instead of a bitfield (BEP 6)."""


@kind
class HaveNone(NamedTuple):
    """The peer has nothing; instead of a bitfield (BEP 6)."""


@kind
class Rejects(NamedTuple):
    """The peer will not send these blocks, which were asked of it (BEP 6)."""

    blocks: list[BlockSpan]


@kind
class AllowedFast(NamedTuple):
    """The peer gives these parts, once it has them, even while it chokes us (BEP 6)."""

    indices: list[int]


@kind
class Extended(NamedTuple):
    """A message of the extension protocol (BEP 10); id 0 is its handshake."""

    extended_id: int
    payload: bytes


Message = (
    Choke
    | Unchoke
    | Interested
    | NotInterested
    | Haves
    | BitfieldReceived
    | Requests
    | Cancels
    | Blocks
    | Port
    | Suggestions
    | HaveAll
    | HaveNone
    | Rejects
    | AllowedFast
    | Extended
)


@kind
class Handshake(NamedTuple):
    """The first 68 bytes of each side (BEP 3)."""

    reserved: int
    info_hash: bytes
    peer_id: bytes

    @property
    def speaks_extensions(self) -> bool:
        """True when the other side understands BEP 10."""
        return bool(self.reserved & EXTENSION_PROTOCOL_BIT)

    @property
    def speaks_fast(self) -> bool:
        """True when the other side understands BEP 6, as we do: then it is agreed on."""
        return bool(self.reserved & FAST_BIT)


def encode_handshake(info_hash: bytes, peer_id: bytes) -> bytes:
    """Our handshake: both arguments are 20 bytes."""
    return PROTOCOL + OUR_EXTENSIONS.to_bytes(8, "big") + info_hash + peer_id


def decode_handshake(data: bytes) -> Handshake:
    """Read 68 bytes. Raises RemoteProtocolError when they are not a handshake."""
    if len(data) != HANDSHAKE_BYTES or not data.startswith(PROTOCOL):
        raise RemoteProtocolError("not a BitTorrent handshake")
    return Handshake(int.from_bytes(data[20:28], "big"), data[28:48], data[48:68])


_LENGTH = struct.Struct(">I")
_HAVE = struct.Struct(">IBI")
_BLOCK = struct.Struct(">IBIII")
_REQUEST_ID = int(MessageId.REQUEST)


def encode_state(message_id: MessageId) -> bytes:
    """A message of its id alone: CHOKE, UNCHOKE, INTERESTED, NOT_INTERESTED, HAVE_ALL or HAVE_NONE."""
    return b"\0\0\0\1" + bytes((message_id,))


def encode_haves(indices: list[int]) -> bytes:
    """One `have` message a part, laid one after the other."""
    return _encode_parts(MessageId.HAVE, indices)


def encode_allowed_fast(indices: list[int]) -> bytes:
    """One `allowed fast` message a part (BEP 6)."""
    return _encode_parts(MessageId.ALLOWED_FAST, indices)


def _encode_parts(message_id: MessageId, indices: list[int]) -> bytes:
    pack, number = _HAVE.pack, int(message_id)
    return b"".join([pack(5, number, index) for index in indices])


def encode_bitfield(data: bytes) -> bytes:
    """`data`: one bit a part, the first part in the highest bit, spare bits zero."""
    return _LENGTH.pack(1 + len(data)) + bytes((MessageId.BITFIELD,)) + data


def encode_requests(blocks: list[BlockSpan]) -> bytes:
    """One `request` message a block, laid one after the other, to be sent in one call."""
    if not blocks:
        return b""
    fields = [13, _REQUEST_ID, 0, 0, 0] * len(blocks)
    fields[2::5], fields[3::5], fields[4::5] = zip(*blocks, strict=True)
    return struct.pack(">" + "IBIII" * len(blocks), *fields)


def encode_cancels(blocks: list[BlockSpan]) -> bytes:
    """One `cancel` message a block."""
    return _encode_blocks(MessageId.CANCEL, blocks)


def encode_rejects(blocks: list[BlockSpan]) -> bytes:
    """One `reject request` message a block (BEP 6)."""
    return _encode_blocks(MessageId.REJECT, blocks)


def _encode_blocks(message_id: MessageId, blocks: list[BlockSpan]) -> bytes:
    pack, number = _BLOCK.pack, int(message_id)
    return b"".join([pack(13, number, index, begin, length) for index, begin, length in blocks])


def encode_extended(extended_id: int, payload: bytes) -> bytes:
    """A message of the extension protocol (BEP 10)."""
    return _LENGTH.pack(2 + len(payload)) + bytes((MessageId.EXTENDED, extended_id)) + payload


PIECE_HEADER_BYTES = 13
