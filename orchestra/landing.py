"""Where received bytes land: headers here, blocks there, side by side without a gap.

Pure memory and parsing, no socket. A stream of `piece` messages is 13 bytes of
header, 16384 of block, again and again. Received into a list of slots of just
these sizes (recvmsg scatters for free), the blocks end up next to one another:
four whole MiB are then one write, one object, instead of 256.

Whatever else comes shifts the pattern. From there on the bytes are put back
into the order in which they came and go through the Decoder; what is left of
the last message starts the next landing, which is in step again.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from orchestra import memory
from orchestra.decoder import Decoder
from orchestra.wire import BLOCK_BYTES, PIECE_HEADER_BYTES, Blocks, Message, MessageId

if TYPE_CHECKING:
    from orchestra.buffers import Pool

SLOTS = 256
MESSAGE_BYTES = PIECE_HEADER_BYTES + BLOCK_BYTES
_HEADER = struct.Struct(">IBII")
_PIECE_LENGTH = 9 + BLOCK_BYTES
_PIECE_ID = int(MessageId.PIECE)


class Landing:
    """Memory for SLOTS whole `piece` messages: `data` has the blocks. From a Pool, and given back to it."""

    __slots__ = ("_headers", "_pool", "_slots", "data")

    capacity_bytes = SLOTS * MESSAGE_BYTES

    def __init__(self, pool: Pool[Landing]) -> None:
        self._pool = pool
        self.data = memory.fresh(SLOTS * BLOCK_BYTES)
        self._headers = memoryview(bytearray(SLOTS * PIECE_HEADER_BYTES))
        self._slots: list[memoryview] = []
        for number in range(SLOTS):
            self._slots.append(self._headers[number * PIECE_HEADER_BYTES : (number + 1) * PIECE_HEADER_BYTES])
            self._slots.append(self.data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES])

    def give_back(self) -> None:
        """Return the memory to its pool; it must not be touched afterwards."""
        self._pool.put(self)

    def room(self, filled: int, messages: int = SLOTS) -> list[memoryview]:
        """The memory for what comes after the first `filled` bytes of the stream, in the stream's order.

        For so many `messages`, the rest of the one that they end in included, as far as there is memory: each
        costs time to hand to the system, whether it is filled or not.
        """
        number, over = divmod(filled, MESSAGE_BYTES)
        end = 2 * (number + messages)
        if over < PIECE_HEADER_BYTES:
            first = self._slots[2 * number : 2 * number + 1]
            return [slot[over:] for slot in first] + self._slots[2 * number + 1 : end]
        return [self._slots[2 * number + 1][over - PIECE_HEADER_BYTES :], *self._slots[2 * number + 2 : end]]

    def lay(self, stream: bytes) -> None:
        """Put `stream` at the start, as if it had been received first."""
        position = 0
        for slot in self._slots:
            piece = stream[position : position + len(slot)]
            if not piece:
                return
            slot[: len(piece)] = piece
            position += len(piece)

    def decode(self, filled: int, decoder: Decoder) -> tuple[list[Message], bytes]:
        """The whole messages in the first `filled` bytes of the stream, and the bytes after them.

        Raises RemoteProtocolError.
        """
        messages: list[Message] = []
        matched = self._blocks(filled // MESSAGE_BYTES, decoder, messages)
        rest = b"".join(self._stream(matched, filled - matched * MESSAGE_BYTES))
        if len(rest) < 4:
            return messages, rest
        others, used = decoder.decode(memoryview(rest), len(rest))
        return messages + others, rest[used:]

    def _blocks(self, whole: int, decoder: Decoder, messages: list[Message]) -> int:
        """Append runs of the full-sized blocks that stand in their slots; returns how many slots matched."""
        run: Blocks | None = None
        matched = start = 0
        run_end = -1
        for length, message_id, index, begin in _HEADER.iter_unpack(
            self._headers[: whole * PIECE_HEADER_BYTES]
        ):
            if length != _PIECE_LENGTH or message_id != _PIECE_ID:
                break
            offset = index * decoder.part_size_bytes + begin
            if offset != run_end:
                if run is not None:
                    self._close_run(run, start, matched)
                run = Blocks(offset, 0, [])
                messages.append(run)
                start = matched
            run_end = offset + BLOCK_BYTES
            matched += 1
        if run is not None:
            self._close_run(run, start, matched)
        return matched

    def _close_run(self, run: Blocks, start: int, stop: int) -> None:
        run.views.append(self.data[start * BLOCK_BYTES : stop * BLOCK_BYTES])
        run.length = (stop - start) * BLOCK_BYTES

    def _stream(self, number: int, length: int) -> list[memoryview]:
        """`length` bytes of the stream from slot `number` on, in the order in which they came."""
        views = []
        for slot in self._slots[2 * number :]:
            if length <= 0:
                break
            views.append(slot[:length])
            length -= len(slot)
        return views
