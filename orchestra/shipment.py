"""What goes out: a batch of `piece` messages, headers and blocks in memory of their own.

Pure memory and packing, no socket and no file. The mirror image of a landing:
the blocks stand next to one another, so that neighbours are read in one call,
and the connection gathers headers and blocks into the stream while sending.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from orchestra import memory
from orchestra.wire import BLOCK_BYTES, PIECE_HEADER_BYTES, BlockSpan, MessageId

if TYPE_CHECKING:
    from orchestra.buffers import Pool

MAX_BLOCKS = 256
_PACKED_AT_ONCE = 64
"""A Struct of so many headers takes 8 KiB. MAX_BLOCKS is a multiple of it."""
_PIECE_ID = int(MessageId.PIECE)


class Shipment:
    """Memory for up to MAX_BLOCKS `piece` messages. From a Pool, and given back to it."""

    __slots__ = (
        "_data", "_header_views", "_headers", "_pool", "_whole_slots", "left_bytes", "payload_bytes", "slots",
    )  # fmt: skip

    def __init__(self, pool: Pool[Shipment]) -> None:
        self._pool = pool
        self._data = memory.fresh(MAX_BLOCKS * BLOCK_BYTES)
        self._headers = bytearray(MAX_BLOCKS * PIECE_HEADER_BYTES)
        headers = memoryview(self._headers)
        numbers = range(MAX_BLOCKS)
        self._header_views = [headers[n * PIECE_HEADER_BYTES : (n + 1) * PIECE_HEADER_BYTES] for n in numbers]
        # For the usual shipment: a run of full-sized blocks.
        self._whole_slots: list[memoryview] = []
        for n in numbers:
            self._whole_slots += (self._header_views[n], self._data[n * BLOCK_BYTES : (n + 1) * BLOCK_BYTES])
        self.slots: list[memoryview] = []
        """What is left to be sent of the messages, in order: header, block, header, block."""
        self.left_bytes = 0
        """How much that is."""
        self.payload_bytes = 0
        """Bytes of blocks alone, sent or not."""

    def give_back(self) -> None:
        """Return the memory to its pool; it must not be touched afterwards."""
        self._pool.put(self)

    def load(self, blocks: list[BlockSpan], part_size_bytes: int) -> list[tuple[int, memoryview]]:
        """Lay out the messages for `blocks`, of 1 to 16384 bytes each, and say what is to be read into them.

        Returns (offset in the composition, memory to fill) for each run of neighbouring blocks.
        """
        count = len(blocks)
        indices, begins, lengths = zip(*blocks, strict=True)
        for first in range(0, count, _PACKED_AT_ONCE):
            some = slice(first, first + _PACKED_AT_ONCE)
            self._pack(first, indices[some], begins[some], lengths[some])
        self.payload_bytes = sum(lengths)
        self.left_bytes = count * PIECE_HEADER_BYTES + self.payload_bytes
        offsets = [index * part_size_bytes + begin for index, begin in zip(indices, begins, strict=True)]
        one_run = list(range(offsets[0], offsets[0] + count * BLOCK_BYTES, BLOCK_BYTES))
        if offsets == one_run and self.payload_bytes == count * BLOCK_BYTES:
            self.slots = self._whole_slots[: 2 * count]
            return [(offsets[0], self._data[: self.payload_bytes])]
        return self._load_any(offsets, lengths)

    def _pack(
        self, first: int, indices: tuple[int, ...], begins: tuple[int, ...], lengths: tuple[int, ...]
    ) -> None:
        """Write these headers, from number `first` on."""
        count = len(lengths)
        shape = _shape(count)
        fields = [0, _PIECE_ID, 0, 0] * shape
        fields[0 : 4 * count : 4] = [9 + length for length in lengths]
        fields[2 : 4 * count : 4], fields[3 : 4 * count : 4] = indices, begins
        _headers(shape).pack_into(self._headers, first * PIECE_HEADER_BYTES, *fields)

    def _load_any(self, offsets: list[int], lengths: tuple[int, ...]) -> list[tuple[int, memoryview]]:
        """Blocks of any size, in any order."""
        self.slots = []
        reads: list[tuple[int, memoryview]] = []
        position = start = run_offset = 0
        run_end = -1
        for number, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
            if offset != run_end:
                if position > start:
                    reads.append((run_offset, self._data[start:position]))
                start, run_offset = position, offset
            run_end = offset + length
            self.slots.append(self._header_views[number])
            self.slots.append(self._data[position : position + length])
            position += length
        reads.append((run_offset, self._data[start:position]))
        return reads

    def sent(self, length_bytes: int) -> None:
        """So much of what was left has been sent."""
        self.left_bytes -= length_bytes
        for number, slot in enumerate(self.slots if self.left_bytes else ()):
            if length_bytes < len(slot):
                self.slots = [slot[length_bytes:], *self.slots[number + 1 :]]
                return
            length_bytes -= len(slot)
        self.slots = []


def _shape(count: int) -> int:
    """How many headers to make for so many blocks: a power of two."""
    return 1 << (count - 1).bit_length()


# One for each count would be 1 MiB in the end: they are large.
@lru_cache(maxsize=_PACKED_AT_ONCE.bit_length())
def _headers(count: int) -> struct.Struct:
    return struct.Struct(">" + "IBII" * count)
