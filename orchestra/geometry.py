"""How a composition divides into parts, and parts into blocks.

Pure and immutable. A block is named by one integer, its *block key*: blocks
are numbered part by part, as if each part had as many blocks as a full one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import filterfalse

from orchestra.wire import BLOCK_BYTES, BlockSpan


class Geometry:
    """Sizes in bytes. Immutable; a plain class, its numbers worked out once, since each block asks.

    `parts` = ceil(size / part size), 0 for an empty composition; `blocks_per_part`
    counts the blocks of a full part, of which the last one may have fewer.
    """

    __slots__ = ("blocks_per_part", "part_size_bytes", "parts", "size_bytes")

    def __init__(self, size_bytes: int, part_size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.part_size_bytes = part_size_bytes
        self.parts = -(-size_bytes // part_size_bytes)
        self.blocks_per_part = -(-part_size_bytes // BLOCK_BYTES)

    def part_length(self, index: int) -> int:
        """Bytes in part `index`; only the last one may be shorter."""
        return min(self.part_size_bytes, self.size_bytes - index * self.part_size_bytes)

    def part_blocks(self, index: int) -> int:
        """Blocks in part `index`."""
        return -(-self.part_length(index) // BLOCK_BYTES)

    def key(self, index: int, begin: int) -> int:
        """The key of the block that starts `begin` bytes into part `index`."""
        return index * self.blocks_per_part + begin // BLOCK_BYTES

    def span(self, key: int) -> BlockSpan:
        """Part index, begin and length of a block."""
        index, number = divmod(key, self.blocks_per_part)
        begin = number * BLOCK_BYTES
        return index, begin, min(BLOCK_BYTES, self.part_length(index) - begin)

    def spans(self, keys: list[int]) -> list[BlockSpan]:
        """`span` of each of `keys`."""
        per_part = self.blocks_per_part
        if self.part_size_bytes % BLOCK_BYTES or max(keys, default=0) // per_part == self.parts - 1:
            return [self.span(key) for key in keys]
        return [(key // per_part, key % per_part * BLOCK_BYTES, BLOCK_BYTES) for key in keys]

    def part_of(self, key: int) -> int:
        """The part that a block belongs to."""
        return key // self.blocks_per_part

    def offset(self, key: int) -> int:
        """Where a block starts in the composition; its size for the key past the last block."""
        index, number = divmod(key, self.blocks_per_part)
        return min(index * self.part_size_bytes + number * BLOCK_BYTES, self.size_bytes)

    def boundary_key(self, offset: int) -> int | None:
        """The key of the block that starts at `offset`, or the key past the last block at the very end;
        None where no block starts."""
        if offset == self.size_bytes and offset:
            last = self.parts - 1
            return last * self.blocks_per_part + self.part_blocks(last)
        index, begin = divmod(offset, self.part_size_bytes)
        return None if begin % BLOCK_BYTES or offset > self.size_bytes else self.key(index, begin)

    def run_keys(self, offset: int, length: int) -> range | None:
        """Keys of the blocks that make exactly these bytes; None when these are not whole blocks of ours."""
        first, end = self.boundary_key(offset), self.boundary_key(offset + length)
        return None if first is None or end is None or first >= end else range(first, end)

    def first_unheld(self, blocks: list[BlockSpan]) -> BlockSpan | None:
        """The first of `blocks`, at least one, that a peer may not ask for; None when it may ask for all."""
        indices, begins, lengths = zip(*blocks, strict=True)
        if (
            lengths.count(BLOCK_BYTES) == len(blocks)
            and max(indices) < self.parts - 1
            and max(begins) + BLOCK_BYTES <= self.part_size_bytes
        ):
            return None
        return next(filterfalse(self.holds, blocks), None)

    def holds(self, block: BlockSpan) -> bool:
        """True when a peer may ask for this block: inside its part, 1 to 16384 bytes."""
        index, begin, length = block
        return index < self.parts and 0 < length <= BLOCK_BYTES and begin + length <= self.part_length(index)


def neighbours(indices: list[int]) -> Iterator[range]:
    """`indices` in runs of numbers that follow one another."""
    if indices and indices == list(range(indices[0], indices[0] + len(indices))):
        yield range(indices[0], indices[0] + len(indices))
        return
    start = 0
    for place in range(1, len(indices) + 1):
        if place == len(indices) or indices[place] != indices[place - 1] + 1:
            yield range(indices[start], indices[place - 1] + 1)
            start = place
