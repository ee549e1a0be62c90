"""A clock that counts only the time in which this process was awake.

A conductor that was stopped, or slept with its laptop, has heard nobody
meanwhile: to forget all members for their silence would be unfair, and cost
every swarm its meeting place. So a gap in its own time is left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST_GAP_S = 10.0
"""Asked at least once a second, the clock sees no longer gap than this but when the process stood still."""


class WakefulClock:
    """Monotonic seconds, without the gaps. Called at least once a second; any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_s = clock()
        self._slept_s = 0.0

    def __call__(self) -> float:
        """The time now."""
        with self._lock:
            now_s = self._clock()
            gap_s = now_s - self._last_s
            self._last_s = now_s
            if gap_s > LONGEST_GAP_S:
                self._slept_s += gap_s
            return now_s - self._slept_s
