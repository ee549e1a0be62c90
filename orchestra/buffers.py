"""Reusable memory for the hot path: fresh memory costs more than the copy into it.

Any thread. A pool never makes more than `count` buffers, so it bounds memory,
and `take` blocks until one is free, which is how a slow disk slows the network.
"""

from __future__ import annotations

import queue

BUFFER_BYTES = 1 << 20


class PooledBuffer:
    """`data` is the memory. Whoever was handed it last gives it back, once."""

    __slots__ = ("_home", "data")

    def __init__(self, home: queue.SimpleQueue[PooledBuffer], length_bytes: int) -> None:
        self.data = bytearray(length_bytes)
        self._home = home

    def give_back(self) -> None:
        """Return the buffer to its pool; it must not be touched afterwards."""
        self._home.put(self)


class BufferPool:
    """Up to `count` buffers of `length_bytes`, made when they are first needed."""

    def __init__(self, count: int, length_bytes: int = BUFFER_BYTES) -> None:
        self.length_bytes = length_bytes
        self._free: queue.SimpleQueue[PooledBuffer] = queue.SimpleQueue()
        # One token for each buffer that may still be made; a SimpleQueue, so that any thread may take it.
        self._unmade: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._unmade.put(None)

    def take(self) -> PooledBuffer:
        """A buffer with arbitrary contents; blocks while all are in use."""
        try:
            return self._free.get_nowait()
        except queue.Empty:
            pass
        try:
            self._unmade.get_nowait()
        except queue.Empty:
            return self._free.get()
        return PooledBuffer(self._free, self.length_bytes)
