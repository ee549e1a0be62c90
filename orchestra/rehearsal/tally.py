"""What is written down of a rehearsal while it goes on: the trace, and how far all have come. Pure."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable

from orchestra.rehearsal.clock import Clock

MOST_MOMENTS = 400
_TRACED = 30_000
"""So many numbers go into the trace's SHA-1 at a time."""


class Trace:
    """A running SHA-1 over all that members are told, as numbers.

    Who notes much appends to `numbers` itself, four for each message, and calls `digest` now and then.
    """

    __slots__ = ("_digested", "_sha1", "numbers")

    def __init__(self) -> None:
        self.numbers: list[float] = []
        self._sha1 = hashlib.sha1()
        self._digested = 0

    @property
    def messages(self) -> int:
        """How many there were."""
        return (self._digested + len(self.numbers)) // 4

    def note(self, when_s: float, member: int, kind: int, number: int) -> None:
        """One message."""
        self.numbers += (when_s, member, kind, number)
        self.digest()

    def digest(self) -> None:
        """Put into the SHA-1 what was noted, if it is much."""
        if len(self.numbers) >= _TRACED:
            self._put()

    def hexdigest(self) -> str:
        """The SHA-1 so far."""
        self._put()
        return self._sha1.hexdigest()

    def _put(self) -> None:
        self._sha1.update(array("d", self.numbers).tobytes())
        self._digested += len(self.numbers)
        self.numbers.clear()


class Timeline:
    """Looks at the figures every `step_s`, and half as often each time that there are too many of them."""

    def __init__(self, clock: Clock, step_s: float, look: Callable[[], tuple[int, int]]) -> None:
        self._clock = clock
        self._step_s = step_s
        self._look = look
        self.moments: list[tuple[float, int, int]] = []

    def begin(self) -> None:
        """Look now, and again and again."""
        self._again(None)

    def note(self) -> None:
        """Look now."""
        self.moments.append((self._clock.now_s, *self._look()))

    def _again(self, _: None) -> None:
        self.note()
        if len(self.moments) >= MOST_MOMENTS:
            del self.moments[1::2]
            self._step_s *= 2
        self._clock.after(self._step_s, self._again, None)


class Parts:
    """Which parts those who fetch have got, all together."""

    def __init__(self, parts: int) -> None:
        self.held = 0
        self.copies_out_s: float | None = None
        self._unseen = set(range(parts))

    def got(self, indices: list[int], now_s: float) -> None:
        """A member that fetches has got these."""
        self.held += len(indices)
        if self._unseen:
            self._unseen.difference_update(indices)
            if not self._unseen:
                self.copies_out_s = now_s
