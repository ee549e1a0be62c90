"""Telling peers of the parts that we get: at once, or once a second.

Pure; owned by the orchestrator. To tell a hundred peers of each part takes
longer than to fetch it. So those who have it themselves, or show no interest,
hear of many at a time; but who serves us learns at once what has come.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.geometry import neighbours
from orchestra.peer import Peer
from orchestra.wire import encode_haves


class News:
    """What we have got since `tell_the_rest`; each peer knows how much of it it has heard (`told`)."""

    def __init__(self) -> None:
        self._parts: list[int] = []

    def begin(self, peer: Peer) -> None:
        """A new peer, which learns from our bitfield what we have so far."""
        peer.told = len(self._parts)

    def tell(self, peers: Iterable[Peer], good: list[int], now_s: float) -> None:
        """We have got these parts: tell those who may want them at once."""
        self._parts += good
        runs = list(neighbours(good))
        encoded: dict[int, bytes] = {}
        for peer in peers:
            if peer.closing:
                continue
            # A complete peer wants nothing, so that our parts are no news to it.
            held = len(good) if peer.have.complete else sum(map(peer.have.count_in, runs))
            peer.wanted_parts -= held
            lacks_some = held < len(good)
            if (lacks_some and not peer.told_in_vain) or (peer.engaged and not peer.have.complete):
                self._catch_up(peer, encoded, now_s)
                peer.told_in_vain = lacks_some and not peer.wants

    def tell_the_rest(self, peers: Iterable[Peer], now_s: float) -> None:
        """Tell everybody what they have not heard yet, and forget it."""
        encoded: dict[int, bytes] = {}
        for peer in peers:
            if peer.told < len(self._parts) and not peer.have.complete and not peer.closing:
                self._catch_up(peer, encoded, now_s)
            peer.told = 0
        self._parts.clear()

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
