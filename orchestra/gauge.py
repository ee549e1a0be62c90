"""How it goes, in figures: what main shows of the download and of what is passed on.

Pure; owned by the orchestrator; the clock is given.
"""

from __future__ import annotations

from orchestra.geometry import Geometry
from orchestra.messages import Progress
from orchestra.swarm import Swarm

PROGRESS_S = 0.5


class Gauge:
    """Reads a swarm's figures: at most twice a second, and at once when the last part is there."""

    def __init__(self, swarm: Swarm, geometry: Geometry, now_s: float) -> None:
        self._swarm = swarm
        self._geometry = geometry
        self._next_s = now_s
        self._last: Progress | None = None

    def read(self, now_s: float) -> Progress | None:
        """The figures, or None when it is too early or they say nothing new.

        While parts are missing they are news also when nothing has changed: it stands still.
        """
        have, last = self._swarm.picker.have, self._last
        just_done = have.complete and (last is None or last.parts_done < have.count)
        if now_s < self._next_s and not just_done:
            return None
        progress = self._figures(now_s, just_done=just_done)
        if progress == last and have.complete:
            return None
        self._last = progress
        self._next_s = now_s + PROGRESS_S
        return progress

    def _figures(self, now_s: float, *, just_done: bool) -> Progress:
        swarm, have = self._swarm, self._swarm.picker.have
        left_bytes = self.left_bytes()
        rate_bytes_s = int(swarm.down.bytes_s(now_s))
        return Progress(
            parts_done=have.count,
            parts=have.parts,
            downloaded_bytes=swarm.down.total_bytes,
            uploaded_bytes=swarm.uploads.total_bytes,
            rate_bytes_s=0 if have.complete and not just_done else rate_bytes_s,
            upload_bytes_s=int(sum(peer.up.bytes_s(now_s) for peer in swarm.peers.values())),
            members=len(swarm.peers),
            eta_s=0 if not left_bytes else left_bytes // rate_bytes_s if rate_bytes_s else -1,
        )

    def left_bytes(self) -> int:
        """Bytes of the parts that we do not have."""
        geometry, have = self._geometry, self._swarm.picker.have
        last = geometry.parts - 1
        if have.complete:
            return 0
        if last in have:
            return (geometry.parts - have.count) * geometry.part_size_bytes
        return (last - have.count) * geometry.part_size_bytes + geometry.part_length(last)
