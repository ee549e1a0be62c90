"""Virtual time: what is to happen, in order. Pure."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Action = Callable[[Any], None]


class Clock:
    """Things happen in the order of their time; those of equal time in the order of their entry."""

    __slots__ = ("_entered", "_heap", "_running", "now_s")

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Action, Any]] = []
        self._entered = 0
        self._running = False

    def at(self, when_s: float, action: Action, argument: Any) -> None:
        """Call action(argument) at that time, or now if it has passed."""
        self._entered += 1
        heappush(self._heap, (max(when_s, self.now_s), self._entered, action, argument))

    def after(self, delay_s: float, action: Action, argument: Any) -> None:
        """Call action(argument) in so much time."""
        self.at(self.now_s + delay_s, action, argument)

    def run(self) -> None:
        """Let everything happen, until `stop`."""
        heap, pop = self._heap, heappop
        self._running = True
        while self._running and heap:
            self.now_s, _, action, argument = pop(heap)
            action(argument)

    def stop(self) -> None:
        """Nothing more shall happen."""
        self._running = False
