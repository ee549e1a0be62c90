"""Whom we serve, and what they are shown: slots, chokes, and the only source's offers.

Pure; owned by the swarm. The choker and the sharer decide; here their decisions
become messages to peers.
"""

from __future__ import annotations

import random

from orchestra.bitfield import Bitfield
from orchestra.choker import ROUND_S, Choker, Standing
from orchestra.fast import ASKS_A_BLOCK, GRANTED_PARTS, GRANTS
from orchestra.geometry import Geometry
from orchestra.peer import Peer
from orchestra.picker import Picker
from orchestra.sharer import MAX_PARTS, STALLED_S, Sharer
from orchestra.uploads import Uploads
from orchestra.wire import (
    BlockSpan,
    MessageId,
    encode_allowed_fast,
    encode_bitfield,
    encode_haves,
    encode_state,
)

UPLOAD_SLOTS = 24
FIRST_WORD_S = 1.0
"""For so long a peer is waited for that has something to say first (BEP 6, BEP 10)."""
MUTE_S = 2.0
"""No offer is held longer for one that says nothing: a long way and a busy machine have had their time."""
MUTES_AT_ONCE = 4
"""How many of those are shown all at a time: of many parts that is half a megabyte for each."""


class Service:
    """Serves `peers`, the swarm's own."""

    def __init__(  # noqa: PLR0913 - what it works on, given once
        self,
        geometry: Geometry,
        picker: Picker,
        peers: dict[int, Peer],
        uploads: Uploads,
        *,
        extent_parts: int,
        rng: random.Random,
        now_s: float,
        slots: int,
    ) -> None:
        self._geometry = geometry
        self._picker = picker
        self._peers = peers
        self.uploads = uploads
        self._extent_parts = extent_parts
        self._rng = rng
        self._slots = slots
        self._choker = Choker(slots, rng)
        self._next_round_s = now_s
        self._sharer: Sharer | None = None
        self._other_sources = False
        self._leechers = 0

    # What peers are shown

    def expect(self, *, seeders: int, leechers: int) -> None:
        """The conductor's count, ourselves included."""
        self._leechers = leechers
        self._other_sources = seeders > self._picker.have.complete

    def greeting(self, peer: Peer, now_s: float) -> bytes:
        """What a new peer is told of our parts: all of them, or nothing yet if it is to live on offers."""
        have = self._picker.have
        if not self._is_alone(peer, now_s):
            self._share_sparingly()
        elif self._sharer is not None:
            self._show_all(now_s)
        if self._sharer is not None:
            self._sharer.add(peer.key)
            return b"" if peer.fast is None else encode_state(MessageId.HAVE_NONE)
        if peer.fast is None:
            return encode_bitfield(have.to_wire()) if have.count else b""
        if not have.count:
            return encode_state(MessageId.HAVE_NONE)
        return encode_state(MessageId.HAVE_ALL) if have.complete else encode_bitfield(have.to_wire())

    def hides_from(self, peer: Peer) -> bool:
        """True while `peer` is shown less than we have."""
        return self._sharer is not None and peer.key in self._sharer

    def welcomed(self, now_s: float) -> None:
        """A new peer has been greeted: it may get a slot at once."""
        if self._sharer is not None:
            self.rechoke(now_s)

    def _is_alone(self, peer: Peer, now_s: float) -> bool:
        """Whether nobody else seems to want anything. Who shakes hands and says nothing does not."""
        return self._leechers < 2 and not any(
            other is not peer and not other.closing and (other.has_spoken or _is_about_to_speak(other, now_s))
            for other in self._peers.values()
        )

    def _share_sparingly(self) -> None:
        """Begin to make offers, when we are the only source of it all."""
        parts = self._geometry.parts
        if self._sharer is not None or not self._picker.have.complete or parts > MAX_PARTS:
            return
        if self._other_sources:
            return
        out = Bitfield(parts)
        for index in range(parts):
            if self._picker.availability(index):
                out.add(index)
        if not out.complete:
            self._sharer = Sharer(out, self._extent_parts, self._rng)

    def asked(self, peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
        """`peer` requests blocks. Raises RemoteProtocolError for one that cannot be."""
        # First, since it refuses parts that are none.
        self.uploads.asked(peer, blocks, now_s)
        if self._sharer is not None and peer.key not in self._sharer and not peer.choked:
            self._sharer.asked(peer.key, {index for index, _, _ in blocks}, now_s)

    def heard(self, peer: Peer, indices: list[int], now_s: float) -> None:
        """`peer` has got these parts, which are new to us."""
        if peer.have.complete:
            self._other_sources = True
        if self._sharer is None:
            return
        changed = self._sharer.heard(peer.key, indices)
        hoarded = self._sharer.all_out and self._sharer.take_back_hoards(now_s)
        if self._sharer.all_out or self._other_sources:
            self._show_all(now_s)
        elif changed or hoarded:
            self.rechoke(now_s)

    def left(self, peer: Peer, now_s: float) -> None:
        """`peer` is gone, and its parts are not counted any more."""
        self.uploads.left(peer, now_s)
        if self._sharer is not None:
            lost = [index for index in peer.have.indices() if not self._picker.availability(index)]
            self._sharer.left(peer.key, lost)
        if not peer.choked or self._sharer is not None:
            self.rechoke(now_s)

    def _show_all(self, now_s: float) -> None:
        """The first copy is out, or somebody else has all: from now on we are one source among others."""
        sharer, self._sharer = self._sharer, None
        assert sharer is not None
        for peer in self._peers.values():
            self._show_the_rest(sharer, peer, now_s)
        self.rechoke(now_s)

    def _show_the_rest(self, sharer: Sharer, peer: Peer, now_s: float) -> None:
        hidden = [] if peer.closing else sharer.hidden(peer.key, peer.have)
        hidden = [index for index in hidden if index in self._picker.have]
        if hidden:
            peer.say(encode_haves(hidden), now_s)

    def lost(self, now_s: float) -> None:
        """We do not have all any more: what we still have is for everybody."""
        if self._sharer is not None:
            self._show_all(now_s)

    # Slots

    def tick(self, now_s: float) -> None:
        """What has to be done once in a while."""
        self.uploads.close_stuck(now_s)
        self.uploads.go_on(now_s)
        if self._sharer is not None:
            self._share_with_the_willing(self._sharer, now_s)
            self.rechoke(now_s)
        elif now_s >= self._next_round_s:
            self.rechoke(now_s)

    def _share_with_the_willing(self, sharer: Sharer, now_s: float) -> None:
        """Who leaves an offer lie, or says nothing, is shown all, and offered nothing any more: a crowd that
        only holds connections open must not hold all offers, and their slots, as well. Where nobody fetches
        at all, offers are of no use to anybody.
        """
        idle = sharer.expire(now_s, lambda key: self._is_busy(key, now_s))
        present = [peer for peer in self._peers.values() if peer.key in sharer and not peer.closing]
        mute = [peer.key for peer in present if not peer.has_spoken and now_s - peer.since_s >= MUTE_S]
        if (mute and not any(peer.has_spoken for peer in present)) or (
            idle and not any(self._is_busy(key, now_s) for key in self._peers)
        ):
            self._show_all(now_s)
            return
        for key in idle.union(mute[:MUTES_AT_ONCE]):
            self._show_the_rest(sharer, self._peers[key], now_s)
            sharer.left(key, ())
        if self._unchoked_count() < self._slots:
            sharer.spend_what_is_spare()

    def _is_busy(self, key: int, now_s: float) -> bool:
        """Whether it is fetching from us. One that takes nothing may be gone: a cut link does not say so."""
        peer = self._peers.get(key)
        if peer is None or (peer.reading and now_s - peer.batch_sent_at_s >= STALLED_S):
            return False
        return bool(peer.asked or peer.reading)

    def _unchoked_count(self) -> int:
        return len([peer for peer in self._peers.values() if not peer.choked and not peer.closing])

    def wavered(self, peer: Peer, now_s: float) -> None:
        """`peer` has gained or lost interest: it may get a slot that is free, or its own may be had."""
        if self._sharer is not None or not peer.choked or self._unchoked_count() < self._slots:
            self.rechoke(now_s)
        else:
            self._grant(now_s)

    def rechoke(self, now_s: float) -> None:
        """Decide anew who may ask us, and tell those for whom it changes."""
        if self._sharer is None:
            chosen = self._choose_by_rates(now_s)
        else:
            chosen = self._choose_by_offers(self._sharer)
        for peer in self._peers.values():
            if peer.choked == (peer.key in chosen) and not peer.closing:
                peer.choked = not peer.choked
                peer.say(encode_state(MessageId.CHOKE if peer.choked else MessageId.UNCHOKE), now_s)
                if peer.choked:
                    self.uploads.choke(peer, now_s)
        if self._sharer is not None:
            self._offer(self._sharer, now_s)
        else:
            self._grant(now_s)

    def _grant(self, now_s: float) -> None:
        """Let a few newcomers ask for some parts although they get no slot (BEP 6).

        Not while we are the only source: its uplink is what all wait for, and
        neighbours in one network would be granted the same parts.
        """
        newcomers = [
            (peer, peer.fast)
            for peer in self._peers.values()
            if peer.fast is not None and peer.choked and not peer.closing and peer.have.count < GRANTED_PARTS
        ]
        # Who has no slots for anybody gives nothing away either.
        room = GRANTS - sum(bool(fast.granted) for _, fast in newcomers) if self._slots else 0
        for peer, fast in newcomers:
            if room <= 0:
                return
            if fast.granted is None and peer.wants:
                parts = [
                    index for index in fast.canonical if index in self._picker.have and index not in peer.have
                ]
                fast.granted = {index: ASKS_A_BLOCK * self._geometry.part_blocks(index) for index in parts}
                if parts:
                    peer.say(encode_allowed_fast(parts), now_s)
                    room -= 1

    def _choose_by_rates(self, now_s: float) -> set[int]:
        new_round = now_s >= self._next_round_s
        if new_round:
            self._next_round_s = now_s + ROUND_S
        standings = [
            Standing(peer.key, peer.wants, peer.down.bytes_s(now_s), peer.up.bytes_s(now_s))
            for peer in self._peers.values()
            if peer.interested and not peer.closing
        ]
        return self._choker.decide(standings, complete=self._picker.wants_nothing, new_round=new_round)

    def _choose_by_offers(self, sharer: Sharer) -> set[int]:
        present = [peer for peer in self._peers.values() if not peer.closing]
        interested = [peer.key for peer in present if peer.wants]
        unchoked = {peer.key for peer in present if not peer.choked}
        mute = {peer.key for peer in present if not peer.has_spoken}
        return sharer.choose(interested, unchoked, self._slots, mute)

    def _offer(self, sharer: Sharer, now_s: float) -> None:
        for peer in self._peers.values():
            if peer.choked or peer.closing or peer.key not in sharer:
                continue
            parts_s = peer.up.bytes_s(now_s) / self._geometry.part_size_bytes
            offers = sharer.offer(peer.key, parts_s, now_s)
            if offers:
                peer.say(encode_haves(offers), now_s)


def _is_about_to_speak(peer: Peer, now_s: float) -> bool:
    """Whether its first word must be on its way. One that speaks BEP 3 alone may have none to say."""
    return (peer.fast is not None or peer.speaks_extensions) and now_s - peer.since_s < FIRST_WORD_S
