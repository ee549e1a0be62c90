"""When to announce, and what: the conversation with the conductor as a clock (BEP 3).

Pure; owned by the orchestrator; the clock is given. One announce is under way
at a time. After a failure the next try comes after 1, 2, 4 ... 60 seconds,
give or take a quarter, so that a conductor that returns is not met by all its
members at once.
"""

from __future__ import annotations

import random

LONGEST_RETRY_S = 60.0
SHORTEST_INTERVAL_S = 1.0
LONGEST_INTERVAL_S = 3600.0


class AnnounceSchedule:
    """Says which event is due, if any.

    "started" comes first and is repeated until a conductor has taken it;
    "completed" follows once, if asked for; then regular announces ("").
    """

    def __init__(self, now_s: float, rng: random.Random) -> None:
        self._rng = rng
        self._event = "started"
        self._due_s = now_s
        self._last_s = now_s
        self._interval_s = 120.0
        self._min_interval_s = 10.0
        self.failures = 0
        """How many tries in a row have failed, 6 at the most."""
        self._under_way = False
        self._completed = False

    @property
    def due_s(self) -> float | None:
        """When the next announce is due; None while one is under way."""
        return None if self._under_way else self._due_s

    @property
    def known_to_conductor(self) -> bool:
        """True when a conductor has our `started`."""
        return self._event != "started"

    def take(self, now_s: float) -> str | None:
        """The event to announce now, or None when nothing is due."""
        if self._under_way or now_s < self._due_s:
            return None
        self._under_way = True
        self._last_s = now_s
        return self._event

    def completed(self, now_s: float) -> None:
        """The download is complete: say so as soon as possible."""
        self._completed = True
        if self._event == "":
            self._event = "completed"
            self._due_s = now_s

    def answered(self, event: str, interval_s: float, min_interval_s: float, now_s: float) -> None:
        """A conductor took the announce of `event`."""
        self._under_way = False
        self.failures = 0
        self._interval_s = min(max(interval_s, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
        self._min_interval_s = min(max(min_interval_s, SHORTEST_INTERVAL_S), self._interval_s)
        if event == "started":
            self._event = "completed" if self._completed else ""
        elif event == self._event:
            self._event = ""
        # An event may have become due while this announce was under way.
        self._due_s = now_s if self._event else now_s + self._interval_s

    def failed(self, now_s: float) -> None:
        """No conductor answered."""
        self._under_way = False
        wait_s = min(LONGEST_RETRY_S, 2.0**self.failures)
        self.failures = min(self.failures + 1, 6)
        self._due_s = now_s + wait_s * self._rng.uniform(0.75, 1.25)

    def hasten(self, now_s: float) -> None:
        """We have nobody to talk to: ask again as soon as the conductor allows it."""
        if not self._under_way and not self.failures:
            self._due_s = min(self._due_s, max(now_s, self._last_s + self._min_interval_s))
