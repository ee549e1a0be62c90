"""How fast something goes, from a clock that is given.

Pure. Bytes are added to the second that they fall in, and the rate is the mean
over the last whole seconds, so that one burst does not read as a trend.
"""

from __future__ import annotations


class Rate:
    """Bytes a second over the last `window_s` seconds."""

    __slots__ = ("_moved_bytes", "_since_s", "_slots", "_window_s", "total_bytes")

    def __init__(self, now_s: float, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._since_s = now_s
        # A list, which is small: there are two for each peer, and it never has more than a few dozen.
        self._slots: list[list[float]] = []
        self._moved_bytes = 0.0
        self.total_bytes = 0

    def add(self, length_bytes: int, now_s: float) -> None:
        """Count bytes that came or went at `now_s`; the clock never runs backwards."""
        self.total_bytes += length_bytes
        self._moved_bytes += length_bytes
        slots = self._slots
        # Slots of a quarter of a second keep the deque short however many calls come.
        if slots and now_s - slots[-1][0] < 0.25:
            slots[-1][1] += length_bytes
            return
        slots.append([now_s, length_bytes])
        self._forget(now_s)

    def bytes_s(self, now_s: float) -> float:
        """The mean over the window, or over the time since the start when that is shorter."""
        if not self._slots:
            return 0.0
        self._forget(now_s)
        if not self._slots:
            return 0.0
        elapsed_s = now_s - self._since_s
        if elapsed_s > self._window_s:
            return self._moved_bytes / self._window_s
        return self._moved_bytes / max(elapsed_s, 0.25)

    def _forget(self, now_s: float) -> None:
        slots, oldest_s = self._slots, now_s - self._window_s
        while slots and slots[0][0] < oldest_s:
            self._moved_bytes -= slots.pop(0)[1]
