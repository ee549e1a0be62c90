"""How much of something one peer may do in a row: a bucket that fills up again with time.

Pure; each is owned by whoever counts with it. The clock is given.
"""

from __future__ import annotations


class Patience:
    """Lets `most` pass at once, and `again_s` more each second."""

    __slots__ = ("_again_s", "_left", "_most", "_since_s")

    def __init__(self, most: float, again_s: float) -> None:
        self._most = self._left = most
        self._again_s = again_s
        self._since_s: float | None = None

    def lasts(self, cost: float, now_s: float) -> bool:
        """Take `cost` off; False when that was more than is left."""
        if self._since_s is None:
            self._since_s = now_s
        self._left -= cost
        if self._left < 0:
            # Only now does time matter: nearly everybody stays below.
            gained = self._again_s * (now_s - self._since_s)
            self._left = min(self._most, self._left + cost + gained) - cost
            self._since_s = now_s
        return self._left >= 0
