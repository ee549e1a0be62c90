"""The peer wire protocol (BEP 3): bytes in, messages out; no socket anywhere.

Pure. A Decoder turns whatever a connection received into messages, many in one
call, and says how much it consumed. Two shapes keep the hot path short:
neighbouring `piece` messages become one Blocks run whose views point into the
receiver's buffer, and neighbouring `request`, `cancel` or `have` messages
become one list. Each length is checked against its message type before
anything is done with it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from orchestra.errors import RemoteProtocolError

BLOCK_BYTES = 16384
"""What one request asks for; larger requests are refused by the field's clients."""

PROTOCOL = b"\x13BitTorrent protocol"
HANDSHAKE_BYTES = 68
MAX_EXTENDED_BYTES = 32768
KEEP_ALIVE = bytes(4)

EXTENSION_PROTOCOL_BIT = 1 << 20
"""Bit 20 from the right of the reserved bytes: BEP 10."""

BlockSpan = tuple[int, int, int]
"""Part index, begin within the part, length: all in bytes but the index."""


class MessageId(IntEnum):
    """The byte after the length prefix (BEP 3, BEP 5 for PORT, BEP 10 for EXTENDED)."""

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
    EXTENDED = 20


@dataclass(frozen=True, slots=True)
class Choke:
    """The peer will not answer our requests."""


@dataclass(frozen=True, slots=True)
class Unchoke:
    """The peer will answer our requests."""


@dataclass(frozen=True, slots=True)
class Interested:
    """The peer wants parts that we have."""


@dataclass(frozen=True, slots=True)
class NotInterested:
    """The peer wants nothing that we have."""


@dataclass(frozen=True, slots=True)
class Haves:
    """The peer has got these parts: one or more `have` messages in a row."""

    indices: list[int]


@dataclass(frozen=True, slots=True)
class BitfieldReceived:
    """All that the peer has, one bit a part, the first part in the highest bit."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Requests:
    """The peer asks for these blocks, in this order."""

    blocks: list[BlockSpan]


@dataclass(frozen=True, slots=True)
class Cancels:
    """The peer no longer wants these blocks."""

    blocks: list[BlockSpan]


@dataclass(slots=True)
class Blocks:
    """A run of the composition's bytes without a gap: one or more `piece` messages in a row.

    `offset` counts from the start of the composition, so that a run may go on
    from one part into the next. `views` point into the receiving buffer, in
    order; together they are `length` bytes. Not frozen only because the
    decoder grows it block by block before anybody else sees it.
    """

    offset: int
    length: int
    views: list[memoryview]


@dataclass(frozen=True, slots=True)
class Port:
    """The peer runs a DHT node on this UDP port (BEP 5)."""

    port: int


@dataclass(frozen=True, slots=True)
class Extended:
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
    | Extended
)


@dataclass(frozen=True, slots=True)
class Handshake:
    """The first 68 bytes of each side (BEP 3)."""

    reserved: int
    info_hash: bytes
    peer_id: bytes

    @property
    def speaks_extensions(self) -> bool:
        """True when the other side understands BEP 10."""
        return bool(self.reserved & EXTENSION_PROTOCOL_BIT)


def encode_handshake(info_hash: bytes, peer_id: bytes) -> bytes:
    """Our handshake: both arguments are 20 bytes."""
    return PROTOCOL + EXTENSION_PROTOCOL_BIT.to_bytes(8, "big") + info_hash + peer_id


def decode_handshake(data: bytes) -> Handshake:
    """Read 68 bytes. Raises RemoteProtocolError when they are not a handshake."""
    if len(data) != HANDSHAKE_BYTES or not data.startswith(PROTOCOL):
        raise RemoteProtocolError("not a BitTorrent handshake")
    return Handshake(int.from_bytes(data[20:28], "big"), data[28:48], data[48:68])


_ONE_BYTE: dict[int, Message] = {
    MessageId.CHOKE: Choke(),
    MessageId.UNCHOKE: Unchoke(),
    MessageId.INTERESTED: Interested(),
    MessageId.NOT_INTERESTED: NotInterested(),
}
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">IBII")
_BLOCK = struct.Struct(">IBIII")
_HAVE = struct.Struct(">IBI")
_PORT = struct.Struct(">H")

_HAVE_ID = int(MessageId.HAVE)
_REQUEST_ID = int(MessageId.REQUEST)
_PIECE_ID = int(MessageId.PIECE)
_CANCEL_ID = int(MessageId.CANCEL)


class Decoder:
    """Messages out of one connection's bytes.

    Owned by the connection's receiving thread. `parts` bounds what a bitfield
    may be, `part_size_bytes` places a block in the composition. A bitfield may come
    at any time: BEP 3 has it first, but aria2 repeats it instead of many haves.
    """

    def __init__(self, parts: int, part_size_bytes: int) -> None:
        self.part_size_bytes = part_size_bytes
        self._bitfield_length = 1 + (parts + 7) // 8
        self.max_message_bytes = 4 + max(9 + BLOCK_BYTES, self._bitfield_length, 2 + MAX_EXTENDED_BYTES)

    def decode(self, buffer: memoryview, end: int) -> tuple[list[Message], int]:
        """All whole messages in buffer[:end], and the number of bytes that they took.

        Raises RemoteProtocolError as soon as a length prefix or a message
        breaks the protocol, even when the message has not arrived whole.
        """
        messages: list[Message] = []
        position = 0
        unpack_head = _HEAD.unpack_from
        part_size_bytes = self.part_size_bytes
        run: Blocks | None = None
        run_end = -1
        while end - position >= 4:
            if end - position >= 13:
                length, message_id, index, begin = unpack_head(buffer, position)
                if message_id == _PIECE_ID and 10 <= length <= 9 + BLOCK_BYTES:
                    following = position + 4 + length
                    if following > end:
                        break
                    block = buffer[position + 13 : following]
                    position = following
                    offset = index * part_size_bytes + begin
                    if run is not None and offset == run_end:
                        run.views.append(block)
                        run.length += length - 9
                    else:
                        run = Blocks(offset, length - 9, [block])
                        messages.append(run)
                    run_end = offset + length - 9
                    continue
                if length == 13 and message_id == _REQUEST_ID:
                    position, blocks = _decode_requests(buffer, position, end)
                    if not blocks:
                        break
                    messages.append(Requests(blocks))
                    continue
            run = None
            following = self._decode_other(buffer, position, end, messages)
            if following == position:
                break
            position = following
        return messages, position

    def _decode_other(self, buffer: memoryview, position: int, end: int, messages: list[Message]) -> int:
        """Decode one message at `position`; returns where the next begins, `position` if it is not whole."""
        length: int = _LENGTH.unpack_from(buffer, position)[0]
        if length == 0:
            return position + 4
        if end - position < 5:
            if length > self.max_message_bytes:
                raise RemoteProtocolError(f"a message of {length} bytes")
            return position
        message_id: int = buffer[position + 4]
        self._check_length(message_id, length)
        if position + 4 + length > end:
            return position
        body = position + 5
        following = position + 4 + length
        if message_id == _CANCEL_ID:
            _, _, index, begin, wanted = _BLOCK.unpack_from(buffer, position)
            last = messages[-1] if messages else None
            if isinstance(last, Cancels):
                last.blocks.append((index, begin, wanted))
            else:
                messages.append(Cancels([(index, begin, wanted)]))
        elif message_id == _HAVE_ID:
            following, indices = _decode_haves(buffer, position, end)
            messages.append(Haves(indices))
        elif message_id in _ONE_BYTE:
            messages.append(_ONE_BYTE[message_id])
        elif message_id == MessageId.BITFIELD:
            messages.append(BitfieldReceived(bytes(buffer[body:following])))
        elif message_id == MessageId.PORT:
            messages.append(Port(_PORT.unpack_from(buffer, body)[0]))
        else:
            messages.append(Extended(buffer[body], bytes(buffer[body + 1 : following])))
        return following

    def _check_length(self, message_id: int, length: int) -> None:
        if message_id <= MessageId.NOT_INTERESTED:
            fits = length == 1
        elif message_id == MessageId.HAVE:
            fits = length == 5
        elif message_id == MessageId.BITFIELD:
            fits = length == self._bitfield_length
        elif message_id in (MessageId.REQUEST, MessageId.CANCEL):
            fits = length == 13
        elif message_id == MessageId.PIECE:
            fits = 10 <= length <= 9 + BLOCK_BYTES
        elif message_id == MessageId.PORT:
            fits = length == 3
        elif message_id == MessageId.EXTENDED:
            fits = 2 <= length <= 2 + MAX_EXTENDED_BYTES
        else:
            raise RemoteProtocolError(f"message id {message_id}, which nobody agreed on")
        if not fits:
            raise RemoteProtocolError(f"{MessageId(message_id).name} of {length} bytes")


def _decode_requests(buffer: memoryview, position: int, end: int) -> tuple[int, list[BlockSpan]]:
    """All whole `request` messages in a row from `position` on, and where what follows them begins."""
    whole = (end - position) // _BLOCK.size
    blocks: list[BlockSpan] = []
    for length, message_id, index, begin, wanted in _BLOCK.iter_unpack(
        buffer[position : position + whole * _BLOCK.size]
    ):
        if length != 13 or message_id != _REQUEST_ID:
            break
        blocks.append((index, begin, wanted))
    return position + len(blocks) * _BLOCK.size, blocks


def _decode_haves(buffer: memoryview, position: int, end: int) -> tuple[int, list[int]]:
    """All whole `have` messages in a row from `position` on, and where what follows them begins."""
    whole = (end - position) // _HAVE.size
    indices: list[int] = []
    for length, message_id, index in _HAVE.iter_unpack(buffer[position : position + whole * _HAVE.size]):
        if length != 5 or message_id != _HAVE_ID:
            break
        indices.append(index)
    return position + len(indices) * _HAVE.size, indices


def encode_state(message_id: MessageId) -> bytes:
    """CHOKE, UNCHOKE, INTERESTED or NOT_INTERESTED."""
    return b"\0\0\0\1" + bytes((message_id,))


def encode_haves(indices: list[int]) -> bytes:
    """One `have` message a part, laid one after the other."""
    pack = _HAVE.pack
    return b"".join([pack(5, _HAVE_ID, index) for index in indices])


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
    pack = _BLOCK.pack
    return b"".join([pack(13, _CANCEL_ID, index, begin, length) for index, begin, length in blocks])


def encode_extended(extended_id: int, payload: bytes) -> bytes:
    """A message of the extension protocol (BEP 10)."""
    return _LENGTH.pack(2 + len(payload)) + bytes((MessageId.EXTENDED, extended_id)) + payload


PIECE_HEADER_BYTES = 13
