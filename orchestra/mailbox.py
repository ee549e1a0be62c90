"""A queue with an end to its patience: what the orchestrator reads its messages from.

Any thread. It holds up to `capacity` messages; then putting blocks, which is
how a busy orchestrator slows those who report to it. queue.Queue does the same
for several times the price: whoever waits in it is woken while the one who
woke it still holds its lock, and goes to sleep once more.
"""

from __future__ import annotations

import queue
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """First in, first out. Timeouts in seconds; None waits for ever."""

    def __init__(self, capacity: int) -> None:
        self._messages: queue.SimpleQueue[T] = queue.SimpleQueue()
        # One token for each message that there is room for.
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(capacity):
            self._room.put(None)

    def put(self, message: T, timeout_s: float | None = None) -> None:
        """Deliver `message` when there is room. Raises queue.Full when there was none for `timeout_s`."""
        try:
            self._room.get(timeout=timeout_s)
        except queue.Empty:
            raise queue.Full from None
        self._messages.put(message)

    def get(self, timeout_s: float | None = None) -> T:
        """The oldest message. Raises queue.Empty when none came for `timeout_s`.

        0 or less does not wait at all.
        """
        if timeout_s is not None and timeout_s <= 0:
            message = self._messages.get_nowait()
        else:
            message = self._messages.get(timeout=timeout_s)
        self._room.put(None)
        return message
