"""Everything that one thread says to another, in one place.

Frozen, slotted dataclasses. Messages up to the orchestrator may block the
sender (that is TCP's back-pressure); messages down never block. On the hot
path one message carries a whole buffer, never one block. docs/threads.md
lists who sends what to whom, and the bounds of each queue.
"""

from __future__ import annotations

from dataclasses import dataclass

Address = tuple[str, int]
"""Host (a literal or a name) and port."""


# Orchestrator -> announcer


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the conductor how we stand, and ask for members (BEP 3).

    `event` is "started", "completed", "stopped", or "" for a regular announce.
    """

    event: str
    uploaded_bytes: int
    downloaded_bytes: int
    left_bytes: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End your thread: finish what must be finished, say your last word, return."""


# Announcer -> orchestrator


@dataclass(frozen=True, slots=True)
class Announced:
    """A conductor answered. `conductor` is "host:port"; counts are -1 where it gave none."""

    conductor: str
    event: str
    members: tuple[Address, ...]
    interval_s: float
    min_interval_s: float
    seeders: int
    leechers: int


@dataclass(frozen=True, slots=True)
class AnnounceFailed:
    """No conductor of the list answered. `reason` is safe to print."""

    event: str
    reason: str


@dataclass(frozen=True, slots=True)
class AnnouncerEnded:
    """The announcer's last word."""
