"""Reusable memory for the hot path: fresh memory costs more than the copy into it.

Any thread. A pool never makes more than `count` buffers, so it bounds memory,
and `take` blocks until one is free, which is how a slow disk slows the network.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Up to `count` things made by `make(pool)` when they are first needed; each goes back by `put`."""

    def __init__(self, count: int, make: Callable[[Pool[T]], T]) -> None:
        self._make = make
        self._free: queue.SimpleQueue[T] = queue.SimpleQueue()
        # One token for each that may still be made: a queue, so that any thread may take it.
        self._unmade: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._unmade.put(None)

    def take(self) -> T:
        """One that is free, with arbitrary contents; blocks while all are in use.

        Raises what `make` raises, when one is to be made.
        """
        try:
            return self._free.get_nowait()
        except queue.Empty:
            pass
        try:
            self._unmade.get_nowait()
        except queue.Empty:
            return self._free.get()
        try:
            return self._make(self)
        except BaseException:
            self._unmade.put(None)
            raise

    def put(self, item: T) -> None:
        """Give one back."""
        self._free.put(item)
