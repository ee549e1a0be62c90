"""Free riders: who takes of us and gives or shows nothing for it, and when these have their turn.

Pure; owned by Uploads. They get what is spare: what nobody else wants, and of a
complete member a share, since they may be honest all the same. While somebody
else wants something they are served one at a time. What was handed to the
system goes out to all alike, whoever comes first here: ten of them would get
five sixths of a full uplink beside two others, although they wait for their
turns.
"""

from __future__ import annotations

from orchestra.bitfield import Bitfield
from orchestra.geometry import Geometry
from orchestra.peer import Peer

TRUSTED_BYTES = 1 << 20
"""What a peer gets of us before we look at what it gives."""
FAIR_RETURN = 20
"""Who has given us less than this part of what it got has its turn when nobody else wants one."""
SILENT_BYTES = 256 << 10
"""What a peer gets of a complete member, beside a whole part, before that looks at what it shows of it."""
SHOWN_BYTES = 256 << 10
"""What a part stands for that it shows, at least: it shows some of many small ones."""
SILENT_SHARE = 3
"""Of what a complete member gives while others wait, those who show nothing get one part in so many."""
MAX_FAVOUR_BYTES = 1 << 20
"""No more than this is made up for, so that what was given long ago does not count."""
RIDE_S = 2.0
"""So long one of them is served, where that is one at a time, and then the next one."""
RIVALS_S = 1.0
"""It is one at a time while somebody else was given something so recently."""
STUCK_S = 0.5
"""A peer that has not taken a batch for so long is not waited for."""


class Riders:
    """What was given to whom of late; `have` is our own, and is only read."""

    def __init__(self, geometry: Geometry, have: Bitfield) -> None:
        self._geometry = geometry
        self._have = have
        self._favour_bytes = 0
        """What those who show nothing got beyond their share. Above 0 the others come first."""
        self._rider = -1
        """The one that was served last."""
        self._rides_until_s = 0.0
        self._rivals_until_s = 0.0

    def given(self, peer: Peer, length_bytes: int, now_s: float) -> None:
        """So much is on its way to `peer`."""
        rides_free = self._rides_free(peer)
        if self._have.complete:
            change = (SILENT_SHARE - 1) * length_bytes if rides_free else -length_bytes
            self._favour_bytes = min(max(self._favour_bytes + change, -MAX_FAVOUR_BYTES), MAX_FAVOUR_BYTES)
        if not rides_free:
            self._rivals_until_s = now_s + RIVALS_S
        elif self._rider != peer.key:
            self._rider, self._rides_until_s = peer.key, now_s + RIDE_S

    def may_have_a_turn(self, waiting: dict[int, Peer], served: dict[int, Peer], now_s: float) -> list[Peer]:
        """Those of `waiting`, in their order, who may be next; to those of `served` something is on its way.

        Nobody when there are only free riders, and another one is being served.
        """
        trusted_bytes = self._trusted_bytes
        # Most have not taken so much yet, and this is asked at each turn.
        riders = {
            key
            for key, peer in waiting.items()
            if peer.up.total_bytes >= trusted_bytes and self._rides_free(peer)
        }
        if not riders:
            return list(waiting.values())
        others_first = not self._have.complete or self._favour_bytes > 0
        if others_first and len(riders) < len(waiting):
            kept_back = riders
        elif now_s < self._rivals_until_s and self._is_served(waiting, served, now_s):
            kept_back = riders - {self._rider}
        else:
            kept_back = set()
        return [peer for key, peer in waiting.items() if key not in kept_back]

    def _is_served(self, waiting: dict[int, Peer], served: dict[int, Peer], now_s: float) -> bool:
        """Whether the turn of the one that was served last goes on."""
        if now_s >= self._rides_until_s:
            return False
        rider = served.get(self._rider)
        return self._rider in waiting if rider is None else now_s - rider.batch_sent_at_s < STUCK_S

    @property
    def _trusted_bytes(self) -> int:
        """What a peer gets of us before we look at what it gives or shows."""
        return SILENT_BYTES + self._geometry.part_size_bytes if self._have.complete else TRUSTED_BYTES

    def _rides_free(self, peer: Peer) -> bool:
        """True for one that took much of us and gave us next to nothing, while we need something.

        Once we need nothing: for one that shows less than half of what it took. Who takes part in a swarm
        says what it has, since others want to know.
        """
        taken_bytes = peer.up.total_bytes
        if taken_bytes < self._trusted_bytes:
            return False
        if self._have.complete:
            part_bytes = self._geometry.part_size_bytes
            shown_bytes = (peer.have.count - peer.began_parts) * max(SHOWN_BYTES, part_bytes)
            return 2 * shown_bytes + self._trusted_bytes < taken_bytes
        return FAIR_RETURN * peer.down.total_bytes < taken_bytes
