"""What peers say, decoded once and heard by many; blocks without their bytes. Pure."""

from __future__ import annotations

from functools import lru_cache

from orchestra.decoder import Decoder
from orchestra.errors import RemoteProtocolError
from orchestra.geometry import Geometry
from orchestra.wire import BLOCK_BYTES, PIECE_HEADER_BYTES, Blocks, BlockSpan, Message

QUANTUM_BLOCKS = 4
REMEMBERED = 1000
"""How many different things that were said are kept."""

_NOTHING = memoryview(bytes(QUANTUM_BLOCKS * BLOCK_BYTES))


@lru_cache(maxsize=1024)
def _views(length_bytes: int) -> list[memoryview]:
    """The views of each run of this length: it belongs to all of them, and must not be changed."""
    return [_NOTHING[:length_bytes]]


class Speech:
    """Decodes what members say. The same words, said to a hundred peers, are decoded once."""

    def __init__(self, geometry: Geometry) -> None:
        self._decoder = Decoder(geometry.parts, geometry.part_size_bytes, fast=True)
        self._heard: dict[bytes, list[Message]] = {}

    def messages(self, data: bytes) -> list[Message]:
        """What whole messages mean; the list belongs to all who ask, and must not be changed."""
        said = self._heard.get(data)
        if said is None:
            said, used = self._decoder.decode(memoryview(data), len(data))
            if used != len(data):
                raise RemoteProtocolError("a member has sent half a message")
            if len(self._heard) >= REMEMBERED:
                self._heard.clear()
            self._heard[data] = said
        return said


class Cargo:
    """The blocks of one shipment, on their way out."""

    __slots__ = ("_blocks", "_next", "_part_size_bytes", "payload_bytes", "wire_bytes")

    def __init__(self, blocks: list[BlockSpan], part_size_bytes: int) -> None:
        self._blocks = blocks
        self._next = 0
        self._part_size_bytes = part_size_bytes
        self.payload_bytes = sum([length for _, _, length in blocks])
        self.wire_bytes = self.payload_bytes + PIECE_HEADER_BYTES * len(blocks)

    @property
    def empty(self) -> bool:
        """True when all blocks have been taken."""
        return self._next == len(self._blocks)

    def take(self, most: int, messages: list[Message]) -> tuple[int, int]:
        """Append the next blocks as runs; returns how many they are, and their bytes on the wire."""
        blocks = self._blocks[self._next : self._next + most]
        self._next += len(blocks)
        run: Blocks | None = None
        runs, run_end, payload_bytes = [], -1, 0
        for index, begin, length in blocks:
            offset = index * self._part_size_bytes + begin
            if offset == run_end and run is not None:
                run.length += length
            else:
                run = Blocks(offset, length, [])
                runs.append(run)
            run_end = offset + length
            payload_bytes += length
        for run in runs:
            run.views = _views(run.length)
        messages += runs
        return len(blocks), payload_bytes + PIECE_HEADER_BYTES * len(blocks)
