"""Neighbouring parts on their way from one peer: what is left to ask, and who sent what came.

Pure; owned by Downloads.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Flight:
    """Parts being fetched from one peer; mostly just one, several where parts are small.

    Blocks are named by their keys. `owner` is the key of the peer that they
    are asked of, None when that peer has left. The first parts of a flight may
    be judged, and even be missing again, before its last blocks arrive.
    """

    parts: range
    owner: int | None
    unasked: int
    """The first block that was never asked for; so are all from there to `end`."""
    end: int
    waiting: int
    """How many blocks have not arrived."""
    returned: list[int] = field(default_factory=list)
    """Blocks that were asked for, and given back."""
    sources: set[int] = field(default_factory=set)
    """Keys of the peers whose blocks were accepted."""
    pierced: bool = False
    """True when one of its parts was wrong, so that it may be in another flight by now."""
    asked_at_s: float = 0.0
    """When its owner was first asked for any of it."""
    recalled_at_s: float = 0.0
    """When its owner was asked not to send it; 0 when it was not, or has answered."""
    recalled_for: int = 0
    """Key of the peer that is to send it instead."""
    moves: int = 0
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
