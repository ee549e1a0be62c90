"""Who may ask us for blocks: a bounded number of peers, one of them by chance (BEP 3).

Pure; owned by the orchestrator. While we download, slots go to those who give
us most; once we are complete, to those who take fastest, since they pass it on
soonest. One slot is optimistic: it moves to a random other peer every 30 s,
so that newcomers can show what they have.
"""

from __future__ import annotations

import random
from typing import NamedTuple

ROUND_S = 10.0
OPTIMISTIC_ROUNDS = 3


class Standing(NamedTuple):
    """What the choker knows of one connected peer; rates in bytes a second."""

    key: int
    interested: bool
    gives_bytes_s: float
    takes_bytes_s: float


class Choker:
    """Decides every ROUND_S who is unchoked; `slots` includes the optimistic one. 0: nobody ever."""

    def __init__(self, slots: int, rng: random.Random) -> None:
        self.slots = slots
        self._rng = rng
        self._rounds = 0
        self._optimistic = -1

    def decide(self, standings: list[Standing], *, complete: bool, new_round: bool) -> set[int]:
        """The keys to be unchoked from now on; all others are to be choked.

        `complete`: we have every part, so that what peers give does not count.
        `new_round`: ROUND_S have passed; False when only a slot has become free.
        """
        self._rounds += new_round
        if not self.slots:
            return set()
        interested = [standing for standing in standings if standing.interested]
        if len(interested) <= self.slots:
            return {standing.key for standing in interested}
        if complete:
            interested.sort(key=lambda standing: (-standing.takes_bytes_s, standing.key))
        else:
            interested.sort(key=lambda standing: (-standing.gives_bytes_s, standing.key))
        chosen = {standing.key for standing in interested[: self.slots - 1]}
        waiting = [standing.key for standing in interested if standing.key not in chosen]
        if self._optimistic not in waiting or (new_round and self._rounds % OPTIMISTIC_ROUNDS == 0):
            self._optimistic = self._rng.choice(waiting)
        chosen.add(self._optimistic)
        return chosen
