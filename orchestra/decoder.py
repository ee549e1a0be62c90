"""Bytes of the peer wire in, messages out; no socket anywhere.

Pure. A Decoder turns whatever a connection received into messages, many in one
call, and says how much it consumed. Each length is checked against its message
type before anything is done with it.
"""

from __future__ import annotations

import struct

from orchestra.errors import RemoteProtocolError
from orchestra.wire import (
    BLOCK_BYTES,
    MAX_EXTENDED_BYTES,
    AllowedFast,
    BitfieldReceived,
    Blocks,
    BlockSpan,
    Cancels,
    Choke,
    Extended,
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
)

_ONE_BYTE: dict[int, Message] = {
    MessageId.CHOKE: Choke(),
    MessageId.UNCHOKE: Unchoke(),
    MessageId.INTERESTED: Interested(),
    MessageId.NOT_INTERESTED: NotInterested(),
    MessageId.HAVE_ALL: HaveAll(),
    MessageId.HAVE_NONE: HaveNone(),
}
_PART_LISTS: dict[int, type[Suggestions | AllowedFast]] = {
    MessageId.SUGGEST: Suggestions,
    MessageId.ALLOWED_FAST: AllowedFast,
}
_BLOCK_LISTS: dict[int, type[Cancels | Rejects]] = {MessageId.CANCEL: Cancels, MessageId.REJECT: Rejects}
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">IBII")
_BLOCK = struct.Struct(">IBIII")
_SPAN = struct.Struct(">III")
_PORT = struct.Struct(">H")
_KEEP_ALIVE = bytes(4)

_HAVE = struct.Struct(">IBI")
_HAVE_ID = int(MessageId.HAVE)
_REQUEST_ID = int(MessageId.REQUEST)
_PIECE_ID = int(MessageId.PIECE)

MAX_KEEP_ALIVES = 1000
"""In a row in one receive: a peer sends one in a minute or two, and a machine asleep for a day sends none."""


class Decoder:
    """Messages out of one connection's bytes.

    Owned by the receiver. `parts` bounds what a bitfield
    may be, `part_size_bytes` places a block in the composition; `fast`: both sides
    speak BEP 6. A bitfield may come at any time: BEP 3 has it first, but aria2
    repeats it instead of many haves.
    """

    def __init__(self, parts: int, part_size_bytes: int, *, fast: bool = False) -> None:
        self.part_size_bytes = part_size_bytes
        bitfield_length = 1 + (parts + 7) // 8
        self._lengths = {
            MessageId.BITFIELD: range(bitfield_length, bitfield_length + 1),
            MessageId.PIECE: range(10, 9 + BLOCK_BYTES + 1),
            MessageId.EXTENDED: range(2, 2 + MAX_EXTENDED_BYTES + 1),
            MessageId.PORT: range(3, 4),
            **dict.fromkeys(_ONE_BYTE, range(1, 2)),
            **dict.fromkeys([MessageId.HAVE, *_PART_LISTS], range(5, 6)),
            **dict.fromkeys([MessageId.REQUEST, *_BLOCK_LISTS], range(13, 14)),
        }
        if not fast:
            for message_id in range(MessageId.SUGGEST, MessageId.ALLOWED_FAST + 1):
                del self._lengths[message_id]
        self.max_message_bytes = 4 + max(lengths.stop - 1 for lengths in self._lengths.values())

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
            return _skip_keep_alives(buffer, position, end)
        if end - position < 5:
            if length > self.max_message_bytes:
                raise RemoteProtocolError(f"a message of {length} bytes")
            return position
        message_id: int = buffer[position + 4]
        self._check_length(message_id, length)
        if position + 4 + length > end:
            return position
        if message_id == _HAVE_ID:
            following, indices = _decode_haves(buffer, position, end)
            messages.append(Haves(indices))
            return following
        following = position + 4 + length
        self._take(message_id, buffer, position + 5, following, messages)
        return following

    @staticmethod
    def _take(message_id: int, buffer: memoryview, body: int, end: int, messages: list[Message]) -> None:
        """Append the message in buffer[body:end], or lengthen the last one by it."""
        last = messages[-1] if messages else None
        if message_id in _PART_LISTS:
            index: int = _LENGTH.unpack_from(buffer, body)[0]
            if isinstance(last, _PART_LISTS[message_id]):
                last.indices.append(index)
            else:
                messages.append(_PART_LISTS[message_id]([index]))
        elif message_id in _BLOCK_LISTS:
            block: BlockSpan = _SPAN.unpack_from(buffer, body)
            if isinstance(last, _BLOCK_LISTS[message_id]):
                last.blocks.append(block)
            else:
                messages.append(_BLOCK_LISTS[message_id]([block]))
        elif message_id in _ONE_BYTE:
            messages.append(_ONE_BYTE[message_id])
        elif message_id == MessageId.BITFIELD:
            messages.append(BitfieldReceived(bytes(buffer[body:end])))
        elif message_id == MessageId.PORT:
            messages.append(Port(_PORT.unpack_from(buffer, body)[0]))
        else:
            messages.append(Extended(buffer[body], bytes(buffer[body + 1 : end])))

    def _check_length(self, message_id: int, length: int) -> None:
        lengths = self._lengths.get(message_id)
        if lengths is None:
            raise RemoteProtocolError(f"message id {message_id}, which nobody agreed on")
        if length not in lengths:
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


def _skip_keep_alives(buffer: memoryview, position: int, end: int) -> int:
    """Where the keep-alives from `position` on end. Raises RemoteProtocolError when they are a flood."""
    if buffer[position + 4 : position + 8] != _KEEP_ALIVE:
        return position + 4
    rest = bytes(buffer[position : min(end, position + 4 * MAX_KEEP_ALIVES + 4)])
    count = (len(rest) - len(rest.lstrip(b"\0"))) // 4
    if count > MAX_KEEP_ALIVES:
        raise RemoteProtocolError("a flood of keep-alives")
    return position + 4 * count


def missing_bytes(rest: bytes) -> int:
    """How many bytes the message that begins with `rest` lacks, at least 1; 1 where that is not known."""
    if len(rest) < 4:
        return 1
    return max(1, 4 + int.from_bytes(rest[:4], "big") - len(rest))
