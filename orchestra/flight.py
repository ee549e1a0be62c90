"""Neighbouring parts on their way from one peer: what is left to ask, and who sent what came.

Pure; owned by Downloads.
"""

from __future__ import annotations


class Flight:
    """Parts being fetched from one peer; mostly just one, several where parts are small.

    Blocks are named by their keys. `owner` is the key of the peer that they
    are asked of, None when that peer has left. The first parts of a flight may
    be judged, and even be missing again, before its last blocks arrive.
    """

    __slots__ = (
        "asked_at_s",
        "end",
        "moves",
        "owner",
        "parts",
        "pierced",
        "recalled_at_s",
        "recalled_for",
        "returned",
        "sources",
        "unasked",
        "waiting",
    )

    def __init__(self, parts: range, owner: int | None, unasked: int, end: int, waiting: int) -> None:
        self.parts = parts
        self.owner = owner
        self.unasked = unasked
        """The first block that was never asked for; so are all from there to `end`."""
        self.end = end
        self.waiting = waiting
        """How many blocks have not arrived."""
        self.returned: list[int] = []
        """Blocks that were asked for, and given back."""
        self.sources: set[int] = set()
        """Keys of the peers whose blocks were accepted."""
        self.pierced = False
        """True when one of its parts was wrong, so that it may be in another flight by now."""
        self.asked_at_s = 0.0
        """When its owner was first asked for any of it."""
        self.recalled_at_s = 0.0
        """When its owner was asked not to send it; 0 when it was not, or has answered."""
        self.recalled_for = 0
        """Key of the peer that is to send it instead."""
        self.moves = 0
        """How often another peer was asked for it instead."""

    @property
    def askable(self) -> bool:
        """True when there are blocks that nobody owes us."""
        return bool(self.returned) or self.unasked < self.end

    def take(self, room: int) -> list[int]:
        """Up to `room` blocks to ask for now."""
        taken = self.returned[:room]
        del self.returned[:room]
        fresh = min(room - len(taken), self.end - self.unasked)
        taken += range(self.unasked, self.unasked + fresh)
        self.unasked += fresh
        return taken
