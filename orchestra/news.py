"""Telling peers of the parts that we get: at once, or many at a time.

Pure; owned by the orchestrator. To tell a hundred peers of each part takes
longer than to fetch it. So those who have it themselves, or show no interest,
hear of many at a time; but who serves us learns at once what has come.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.geometry import neighbours
from orchestra.peer import Peer
from orchestra.wire import encode_haves

GATHER_S = 0.05
"""Haves go out no more often than this, many together where parts are small. Only who serves us and wants
nothing of us is told at once: it may be the only source, which gives out more by what it hears."""
TOLD_A_SECOND = 100
"""No more peers than this are told something in a second: each message wakes a thread here and two there, so
that who has many would do little else. Each of 20 peers hears of what is common every 0.2 s."""
RARE_S = 0.1
"""What is rare waits no longer than this: among many peers, it is what there is to pass on."""

SHOWN_A_SECOND = 64
"""A complete peer wants nothing, but hears of so many: it sees that its blocks are not taken in vain."""


class News:
    """What we have got since `tell_the_rest`; each peer knows how much of it it has heard (`told`)."""

    def __init__(self) -> None:
        self._parts: list[int] = []
        self._told_at_s = self._next_at_s = float("-inf")
        self.due_s: float | None = None
        """When `tell_waiting` is to be called; None when nobody waits."""

    def begin(self, peer: Peer) -> None:
        """A new peer, which learns from our bitfield what we have so far."""
        peer.told = len(self._parts)

    def tell(self, peers: Iterable[Peer], good: list[int], now_s: float, *, rare: bool = False) -> None:
        """We have got these parts: tell those who may want them, at once or with what comes soon.

        What is `rare` does not wait for longer than RARE_S.
        """
        self._parts += good
        runs = list(neighbours(good))
        next_at_s = min(self._next_at_s, self._told_at_s + RARE_S) if rare else self._next_at_s
        at_once = now_s >= next_at_s
        told = 0
        encoded: dict[int, bytes] = {}
        number = len(good)
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
            lacks_some = held < number
            may_want = lacks_some and not peer.told_in_vain
            if (may_want and at_once) or (peer.engaged and not peer.wants):
                told += 1
                self._catch_up(peer, encoded, now_s)
                peer.told_in_vain = lacks_some and not peer.wants
            elif may_want:
                self.due_s = next_at_s if self.due_s is None else min(self.due_s, next_at_s)
        if at_once:
            self._rest(told, now_s)

    def tell_waiting(self, peers: Iterable[Peer], now_s: float) -> None:
        """Tell those who may want it what came since they were last told."""
        self.due_s = None
        told = 0
        encoded: dict[int, bytes] = {}
        for peer in peers:
            if peer.closing or peer.told_in_vain or peer.have.complete:
                continue
            if peer.have.without(self._parts[peer.told :]):
                told += 1
                self._catch_up(peer, encoded, now_s)
                peer.told_in_vain = not peer.wants
        self._rest(told, now_s)

    def _rest(self, told: int, now_s: float) -> None:
        """So many peers have just been told something: when is it the next ones' turn?"""
        self._told_at_s = now_s
        self._next_at_s = now_s + max(GATHER_S, told / TOLD_A_SECOND)

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
