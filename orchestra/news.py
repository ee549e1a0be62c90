"""Telling peers of the parts that we get: a few of them at a time, all of them once a second.

Pure; owned by the orchestrator. Each message wakes a thread here and two there:
to tell a hundred peers of each part takes longer than to fetch it. So a few
hear at once, who can pass it on, and the others of many parts together; but who
serves us and wants nothing learns at once what has come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestra.geometry import neighbours
from orchestra.peer import Peer
from orchestra.wire import encode_haves

GATHER_S = 0.1
FEW = 4
"""So many peers are told something every GATHER_S, those first who have heard least. Only who serves us and
wants nothing of us is told at once: it may be the only source, which gives out more by what it hears."""

SHOWN_A_SECOND = 64
"""A complete peer wants nothing, but hears of so many: it sees that its blocks are not taken in vain."""


class News:
    """What we have got since `tell_the_rest`; each peer knows how much of it it has heard (`told`)."""

    def __init__(self) -> None:
        self._parts: list[int] = []
        self._told_at_s = float("-inf")
        self.due_s: float | None = None
        """When `tell_waiting` is to be called; None when nobody waits."""

    def begin(self, peer: Peer) -> None:
        """A new peer, which learns from our bitfield what we have so far."""
        peer.told = len(self._parts)

    def tell(self, peers: Collection[Peer], good: list[int], now_s: float) -> None:
        """We have got these parts: tell those who may want them, at once or with what comes soon."""
        self._parts += good
        runs = list(neighbours(good))
        encoded: dict[int, bytes] = {}
        number = len(good)
        some_wait = False
        for peer in peers:
            if peer.closing:
                continue
            # A complete peer wants nothing, so that our parts are no news to it.
            have = peer.have
            if have.count == have.parts:
                peer.wanted_parts -= number
                continue
            held = good[0] in have if number == 1 else sum(map(have.count_in, runs))
            if held:
                peer.wanted_parts -= held
            if peer.engaged and not peer.wants:
                self._catch_up(peer, encoded, now_s)
                peer.told_in_vain = held < number
            elif held < number and not peer.told_in_vain:
                some_wait = True
        if some_wait:
            self.due_s = max(now_s, self._told_at_s + GATHER_S)
            if now_s >= self.due_s:
                self.tell_waiting(peers, now_s)

    def tell_waiting(self, peers: Iterable[Peer], now_s: float) -> None:
        """Tell a few of those who may want it what came since they were last told."""
        waiting = [
            peer
            for peer in peers
            if not (peer.closing or peer.told_in_vain or peer.have.complete)
            and peer.have.without(self._parts[peer.told :])
        ]
        waiting.sort(key=lambda peer: peer.told)
        encoded: dict[int, bytes] = {}
        for peer in waiting[:FEW]:
            self._catch_up(peer, encoded, now_s)
            peer.told_in_vain = not peer.wants
        self._told_at_s = now_s
        self.due_s = now_s + GATHER_S if len(waiting) > FEW else None

    def tell_the_rest(self, peers: Iterable[Peer], now_s: float) -> None:
        """Tell everybody what they have not heard yet, and forget it."""
        encoded: dict[int, bytes] = {}
        for peer in peers:
            if peer.told < len(self._parts) and not peer.closing:
                if peer.have.complete:
                    peer.told = max(peer.told, len(self._parts) - SHOWN_A_SECOND)
                self._catch_up(peer, encoded, now_s)
            peer.told = 0
        self._parts.clear()
        self.due_s = None

    def catch_up(self, peer: Peer, now_s: float) -> None:
        """`peer` shows or loses interest: it hears at once what it has missed, and the next news too."""
        peer.told_in_vain = False
        if peer.told < len(self._parts) and not peer.have.complete:
            self._catch_up(peer, {}, now_s)

    def _catch_up(self, peer: Peer, encoded: dict[int, bytes], now_s: float) -> None:
        """Tell `peer` what it has not heard. `encoded`: what others hear now, by how much they had heard."""
        if peer.told not in encoded:
            encoded[peer.told] = encode_haves(self._parts[peer.told :])
        peer.say(encoded[peer.told], now_s)
        peer.told = len(self._parts)
