"""The conductor of a rehearsal: the real rules and replies, without HTTP. On the virtual clock."""

from __future__ import annotations

import random

from netutils import format_address
from orchestra.announce import AnnounceProblem, AnnounceQuery
from orchestra.announcereply import format_answer, parse_reply
from orchestra.messages import Announce, Announced, AnnounceFailed
from orchestra.registry import Registry
from orchestra.rehearsal.clock import Clock
from orchestra.tracker import SILENT_INTERVALS, Tracker

INTERVAL_S = 120
"""As conductor.py has it, unless told otherwise."""
_ADDRESS = ("conductor", 9999)


class Conductor:
    """Answers announces."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        registry = Registry(SILENT_INTERVALS * INTERVAL_S, rng=rng)
        self._tracker = Tracker(INTERVAL_S, registry=registry, clock=lambda: clock.now_s)

    def answer(
        self, message: Announce, *, host: str, peer_id: bytes, info_hash: bytes
    ) -> Announced | AnnounceFailed:
        """What the announcer of the member at `host` reports."""
        query = AnnounceQuery(
            info_hash=info_hash,
            peer_id=peer_id,
            port=message.port,
            uploaded_bytes=message.uploaded_bytes,
            downloaded_bytes=message.downloaded_bytes,
            left_bytes=message.left_bytes,
            event=message.event,
            wanted=message.wanted,
        )
        try:
            answer = self._tracker.announce(query, host)
        except AnnounceProblem as problem:
            return AnnounceFailed(message.event, str(problem))
        reply = parse_reply(format_answer(answer, compact=True), loopback=False)
        return Announced(
            conductor=format_address(_ADDRESS),
            event=message.event,
            members=reply.members,
            interval_s=reply.interval_s,
            min_interval_s=reply.min_interval_s,
            seeders=reply.seeders,
            leechers=reply.leechers,
        )
