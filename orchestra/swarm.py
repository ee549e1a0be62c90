"""The peers: who comes and goes, what they bring, and what the clock asks of us.

Pure; owned by the orchestrator, which passes in messages and the time. Policy
lives in the modules beside it: the picker and Downloads (what to ask), the
choker and Uploads (whom to answer), the doorway (whom to let in), the
conversation and the news (what is said).
"""

from __future__ import annotations

import random

from orchestra.conversation import Conversation
from orchestra.doorway import MAX_PEERS, Doorway, Links
from orchestra.downloads import Downloads
from orchestra.errors import RemoteProtocolError
from orchestra.geometry import Geometry
from orchestra.messages import Forget, Halves, Inbox, LinkUp, Lost, ReadFailed, Received, Write
from orchestra.news import News
from orchestra.peer import STALLED_S, Peer
from orchestra.pex import Exchange
from orchestra.picker import Picker
from orchestra.rate import Rate
from orchestra.service import UPLOAD_SLOTS, Service
from orchestra.uploads import Uploads
from orchestra.wire import KEEP_ALIVE, Blocks

EXTENT_BYTES = 256 * 1024
KEEP_ALIVE_S = 100.0
RARE = 8
"""With fewer holders that we know of than this a part is rare."""
SILENCE_S = 130.0


class Swarm:
    """All peers of one composition, and the parts that we have of it. `gives`: False unchokes nobody."""

    def __init__(  # noqa: PLR0913 - the ports that it speaks through, given once
        self,
        geometry: Geometry,
        peer_id: bytes,
        *,
        links: Links,
        writer: Inbox,
        reader: Inbox,
        rng: random.Random,
        now_s: float,
        gives: bool = True,
        max_peers: int = MAX_PEERS,
    ) -> None:
        self.peers: dict[int, Peer] = {}
        extent_parts = EXTENT_BYTES // geometry.part_size_bytes
        self.picker = Picker(geometry.parts, rng, extent_parts=extent_parts)
        self.downloads = Downloads(
            geometry, self.picker, self.peers, ban=self._ban, forget=lambda index: writer.put(Forget(index))
        )
        self.doorway = Doorway(geometry.parts, peer_id, links, self.peers, rng, max_peers=max_peers)
        self.uploads = Uploads(geometry, self.picker.have, reader, now_s)
        self.service = Service(
            geometry, self.picker, self.peers, self.uploads,
            extent_parts=extent_parts, rng=rng, now_s=now_s, slots=UPLOAD_SLOTS if gives else 0,
        )  # fmt: skip
        self.news = News()
        self.exchange = Exchange(self.peers, self.doorway.book)
        self.conversation = Conversation(
            geometry, self.picker, self.downloads, self.service, self.news, self.exchange
        )
        self.down = Rate(now_s)
        self.listen_port = 0
        self._others_download = True
        self.sourced_at_s = now_s
        """When a peer last had something for us."""
        self._writer = writer
        self._reader = reader

    @property
    def complete(self) -> bool:
        """True when there is nothing left to fetch."""
        return self.picker.wants_nothing

    def found(self, right: bytearray, halves: Halves) -> None:
        """At the start: what is on disk, as Checked has it."""
        for index, good in enumerate(right):
            if good:
                self.picker.mark_have(index)
        for index, runs in halves.items():
            self.downloads.resume(index, runs)

    # Coming and going

    def link_up(self, message: LinkUp, now_s: float) -> None:
        """A handshake succeeded: let the peer in, and greet it."""
        peer = self.doorway.link_up(message, now_s)
        self.peers[peer.key] = peer
        if not peer.closing:
            self.conversation.greet(peer, self.listen_port, now_s)

    def close_all(self, reason: str) -> None:
        """End every connection, half-open ones too."""
        self.doorway.close_half_open(reason)
        for peer in self.peers.values():
            peer.close(reason)

    def link_closed(self, key: int, now_s: float) -> None:
        """A connection's last word: forget the peer at once, and let others take over what it owed us."""
        if self.doorway.left(key, now_s):
            return
        peer = self.peers[key]
        self.downloads.give_back(peer)
        del self.peers[key]
        self.exchange.left(key)
        if peer.counted:
            self.picker.discount_peer(peer.have)
        self.doorway.peer_left(peer, now_s, of_no_use=self.conversation.is_over(peer))
        self.downloads.fill_all(now_s)
        self.service.left(peer, now_s)

    def _ban(self, key: int, index: int) -> None:
        peer = self.peers.get(key)
        if peer is not None:
            self.doorway.ban(peer, f"part {index} was wrong")
        else:
            self.doorway.ban_departed(key)

    # What peers say

    def received(self, message: Received, now_s: float) -> None:
        """Handle all that one receive brought; blocks go on to the writer in one message."""
        peer = self.peers[message.key]
        runs: list[Blocks] = []
        interested, upload_only = peer.interested, peer.upload_only
        try:
            if not peer.closing:
                peer.heard_at_s = now_s
                peer.has_spoken = peer.has_spoken or bool(message.messages)
                for said in message.messages:
                    if isinstance(said, Blocks):
                        runs += self._blocks(peer, said, now_s)
                        # Only now: what was taken of the last run is on its way to the writer.
                        if peer.stray_blocks:
                            _check_strays(peer)
                    else:
                        self.conversation.hear(peer, said, now_s)
        except RemoteProtocolError as error:
            peer.close(str(error))
        if message.buffer is not None:
            if runs:
                self._writer.put(Write(message.buffer, runs))
            else:
                message.buffer.give_back()
        if (peer.interested is not interested or peer.upload_only is not upload_only) and (
            peer.wants != (interested and not upload_only)
        ):
            # Once for all that one receive brought: a peer that wavers shall not keep us busy.
            self.service.wavered(peer, now_s)
        if self.downloads.freed:
            self.downloads.fill_all(now_s)
        else:
            self.downloads.fill(peer, now_s)

    def _blocks(self, peer: Peer, run: Blocks, now_s: float) -> list[Blocks]:
        accepted = self.downloads.accept(peer, run, now_s)
        length_bytes = sum([part.length for part in accepted])
        if length_bytes:
            peer.down.add(length_bytes, now_s)
            self.down.add(length_bytes, now_s)
        return accepted

    # What we say to all

    def parts_written(self, good: list[int], bad: list[int], now_s: float) -> None:
        """The writer has checked parts: tell everybody of the good ones, fetch the bad ones again."""
        self.downloads.parts_good(good)
        for index in bad:
            self.downloads.part_bad(index)
        if good:
            rare = any(self.picker.availability(index) < RARE for index in good)
            self.news.tell(self.peers.values(), good, now_s, rare=rare)
            if self.complete:
                for peer in self.peers.values():
                    if not peer.closing:
                        self.conversation.show_interest(peer, now_s)
        if bad:
            self.downloads.fill_all(now_s)

    def read_failed(self, message: ReadFailed, now_s: float, *, fetch: bool) -> list[int]:
        """A Read brought nothing. Which parts we have no more because of it.

        With `fetch` they come anew, once they are `withdrawn`.
        """
        lost = [index for index in message.lost if index in self.picker.have]
        for index in lost:
            self._writer.put(Lost(index))
            if fetch:
                self._reader.put(Lost(index))
                self.picker.mark_lost(index)
            else:
                self.picker.mark_gone(index)
            for peer in self.peers.values():
                self.conversation.tell_lost(peer, index, now_s)
            self.uploads.lost(index, self.peers.values(), now_s)
        if lost:
            self.service.lost(now_s)
        asker = self.peers.get(message.key)
        if asker is not None:
            self.uploads.unread(asker, message.blocks, now_s)
        if lost and fetch:
            for peer in self.peers.values():
                peer.wanted_parts += sum(index in peer.have for index in lost)
                if not peer.closing:
                    self.conversation.show_interest(peer, now_s)
        return lost

    def withdrawn(self, index: int, now_s: float) -> None:
        """Nobody reads a lost part any more: who has it may be asked for it."""
        self.picker.mark_missing(index)
        self.downloads.fill_all(now_s)

    def tick(self, now_s: float) -> None:
        """What has to be done once in a while: dial, snub, drop the silent, keep alive, choke."""
        self._choose_order()
        self.news.tell_the_rest(self.peers.values(), now_s)
        self.conversation.tell_wants(self.peers.values(), self.listen_port, now_s)
        for peer in list(self.peers.values()):
            if now_s - peer.heard_at_s > SILENCE_S:
                peer.close(f"silent for {SILENCE_S:.0f} s")
            elif now_s - peer.spoke_at_s > KEEP_ALIVE_S and not peer.closing:
                peer.say(KEEP_ALIVE, now_s)
        if self.downloads.find_snubs(now_s):
            self.downloads.fill_all(now_s)
        for peer in [peer for peer in self.peers.values() if peer.stalls(now_s)]:
            self.doorway.stalled(peer, now_s, f"owed us blocks for {STALLED_S:.0f} s, and sent none")
        self.conversation.settle_interest(self.peers.values(), now_s)
        self.service.tick(now_s)
        if self.has_source:
            self.sourced_at_s = now_s
        self.exchange.tick(now_s)
        self.doorway.tick(now_s)
        self.doorway.dial_more(now_s)
        self.downloads.fill_all(now_s)

    @property
    def due_s(self) -> float | None:
        """When `tell_waiting` is to be called; None when there is nothing to tell."""
        return self.news.due_s

    def tell_waiting(self, now_s: float) -> None:
        """Tell peers of the parts that were gathered for them, if it is time."""
        if self.news.due_s is not None and now_s >= self.news.due_s:
            self.news.tell_waiting(self.peers.values(), now_s)

    def expect_others(self, *, seeders: int, leechers: int) -> None:
        """The conductor's count, ourselves included."""
        self._others_download = leechers != (0 if self.complete else 1)
        self.service.expect(seeders=seeders, leechers=leechers)
        self._choose_order()

    def _choose_order(self) -> None:
        """In order is best for the disk and the whole-file hash, and harms nobody when we are alone."""
        others = any(peer.downloads_too for peer in self.peers.values())
        self.picker.in_order = not self._others_download and not others

    @property
    def has_source(self) -> bool:
        """True when somebody connected has something that we do not."""
        return any(peer.interesting and not peer.closing for peer in self.peers.values())


def _check_strays(peer: Peer) -> None:
    if peer.strays_too_much:
        raise RemoteProtocolError("too many blocks that were not asked for")
