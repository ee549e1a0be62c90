"""The peers: who is let in, what each of them says, and what we say to all.

Pure; owned by the orchestrator, which passes in messages and the time. Policy
lives in the modules beside it: the picker and Downloads (what to ask), the
choker and Uploads (whom to answer), the doorway (whom to let in).
"""

from __future__ import annotations

import logging
import random

from orchestra.bitfield import Bitfield
from orchestra.choker import ROUND_S, Choker, Standing
from orchestra.doorway import Doorway, Links
from orchestra.downloads import MAX_STRAY_BLOCKS, Downloads
from orchestra.errors import RemoteProtocolError
from orchestra.extension import HANDSHAKE_ID, decode_extension_handshake, encode_extension_handshake
from orchestra.geometry import Geometry, neighbours
from orchestra.messages import Forget, Inbox, LinkUp, Received, Write
from orchestra.peer import Peer
from orchestra.picker import Picker
from orchestra.rate import Rate
from orchestra.text import safe
from orchestra.uploads import MAX_ASKED, Uploads
from orchestra.wire import (
    KEEP_ALIVE,
    BitfieldReceived,
    Blocks,
    Cancels,
    Choke,
    Extended,
    Haves,
    Interested,
    Message,
    MessageId,
    NotInterested,
    Port,
    Requests,
    Unchoke,
    encode_bitfield,
    encode_extended,
    encode_haves,
    encode_state,
)

UPLOAD_SLOTS = 8
EXTENT_BYTES = 256 * 1024
KEEP_ALIVE_S = 100.0
SILENCE_S = 130.0
MAX_HELLOS = 16
"""Extension handshakes from one peer: BEP 10 lets it send another when something changes."""

_log = logging.getLogger("orchestra.swarm")


class Swarm:
    """All peers of one composition, and the parts that we have of it."""

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
    ) -> None:
        self.peers: dict[int, Peer] = {}
        self.picker = Picker(geometry.parts, rng, extent_parts=EXTENT_BYTES // geometry.part_size_bytes)
        self.downloads = Downloads(
            geometry, self.picker, self.peers, ban=self._ban, forget=lambda index: writer.put(Forget(index))
        )
        self.doorway = Doorway(geometry.parts, peer_id, links, self.peers, rng)
        self.uploads = Uploads(geometry, self.picker.have, reader)
        self.down = Rate(now_s)
        self.listen_port = 0
        self._others_download = True
        self.sourced_at_s = now_s
        """When a peer last had something for us."""
        self._geometry = geometry
        self._writer = writer
        self._choker = Choker(UPLOAD_SLOTS, rng)
        self._next_round_s = now_s
        # What we have got since the last tick: each peer knows how much of it it has heard.
        self._news: list[int] = []

    @property
    def complete(self) -> bool:
        """True when we have every part."""
        return self.picker.have.complete

    # Coming and going

    def link_up(self, message: LinkUp, now_s: float) -> None:
        """A handshake succeeded: greet the peer with what we have (BEP 3) and who we are (BEP 10)."""
        peer = self.doorway.link_up(message, now_s)
        self.peers[peer.key] = peer
        peer.told = len(self._news)
        if peer.closing:
            return
        have = self.picker.have
        greeting = encode_bitfield(have.to_wire()) if have.count else b""
        if peer.speaks_extensions:
            hello = encode_extension_handshake(
                port=self.listen_port, max_requests=MAX_ASKED, your_host=peer.host
            )
            greeting += encode_extended(HANDSHAKE_ID, hello)
        if greeting:
            self._send(peer, greeting, now_s)

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
        if peer.counted:
            self.picker.discount_peer(peer.have)
        self.doorway.peer_left(peer, now_s, of_no_use=self.complete and peer.have.complete)
        self._fill_all(now_s)
        if not peer.choked:
            self.rechoke(now_s)

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
        interested = peer.interested
        try:
            if not peer.closing:
                peer.heard_at_s = now_s
                for said in message.messages:
                    if isinstance(said, Blocks):
                        runs += self._blocks(peer, said, now_s)
                        # Only now: what was taken of the last run is on its way to the writer.
                        _check_strays(peer)
                    else:
                        self._said(peer, said, now_s)
        except RemoteProtocolError as error:
            peer.close(str(error))
        if message.buffer is not None:
            if runs:
                self._writer.put(Write(message.buffer, runs))
            else:
                message.buffer.give_back()
        if peer.interested != interested:
            # Once for all that one receive brought: a peer that wavers shall not keep us busy.
            self.rechoke(now_s)
        self.downloads.fill(peer, now_s)

    def _blocks(self, peer: Peer, run: Blocks, now_s: float) -> list[Blocks]:
        accepted = self.downloads.accept(peer, run, now_s)
        length_bytes = sum(part.length for part in accepted)
        if length_bytes:
            peer.down.add(length_bytes, now_s)
            self.down.add(length_bytes, now_s)
        return accepted

    def _said(self, peer: Peer, message: Message, now_s: float) -> None:
        match message:
            case Requests(blocks):
                self.uploads.asked(peer, blocks, now_s)
            case Haves(indices):
                self._got_haves(peer, indices, now_s)
            case Cancels(blocks):
                self.uploads.cancelled(peer, blocks)
            case Choke():
                peer.choking_us = True
                if peer.engaged:
                    self.downloads.give_back(peer)
                    self._fill_all(now_s)
            case Unchoke():
                peer.choking_us = False
            case Interested():
                self._set_interested(peer, True, now_s)
            case NotInterested():
                self._set_interested(peer, False, now_s)
            case BitfieldReceived(data):
                self._got_bitfield(peer, data, now_s)
            case Extended(0, payload):
                self._got_extension_handshake(peer, payload)
            case Extended() | Port():
                pass  # No extension but the handshake was offered, and there is no DHT here.
            case _:
                raise AssertionError(f"not a wire message: {message!r}")

    def _got_bitfield(self, peer: Peer, data: bytes, now_s: float) -> None:
        said = Bitfield.from_wire(data, self._geometry.parts)
        if peer.have.count:
            # aria2 sends its bitfield again when it has much to tell: what is new in it counts as haves.
            self._got_haves(peer, said.beyond(peer.have), now_s)
            return
        peer.have = said
        peer.counted = not peer.have.complete
        if peer.counted:
            self.picker.count_peer(peer.have)
        peer.wanted_parts = self.picker.have.lacking(peer.have)
        self._show_interest(peer, now_s)

    def _got_haves(self, peer: Peer, indices: list[int], now_s: float) -> None:
        for index in indices:
            if index >= self._geometry.parts:
                raise RemoteProtocolError(f"have of part {index}, but there are {self._geometry.parts}")
            if peer.have.add(index):
                if peer.counted:
                    self.picker.count_part(index)
                peer.wanted_parts += index not in self.picker.have
        self._show_interest(peer, now_s)

    def _got_extension_handshake(self, peer: Peer, payload: bytes) -> None:
        peer.hellos += 1
        if peer.hellos > MAX_HELLOS:
            raise RemoteProtocolError("too many extension handshakes")
        hello = decode_extension_handshake(payload)
        peer.client = safe(hello.client, 60)
        if hello.max_requests:
            peer.max_requests = hello.max_requests
        _log.info("%s is %s", peer.host, peer.client)

    def _show_interest(self, peer: Peer, now_s: float) -> None:
        """Tell the peer when our interest changes; two complete members have nothing more to say."""
        if self.complete and peer.have.complete and self._geometry.parts:
            peer.close("both are complete")
            return
        wanted = peer.wanted_parts > 0
        if wanted != peer.interesting:
            peer.interesting = wanted
            self._send(
                peer, encode_state(MessageId.INTERESTED if wanted else MessageId.NOT_INTERESTED), now_s
            )

    # What we say to all

    def parts_written(self, good: list[int], bad: list[int], now_s: float) -> None:
        """The writer has checked parts: tell everybody of the good ones, fetch the bad ones again."""
        self.downloads.parts_good(good)
        for index in bad:
            self.downloads.part_bad(index)
        if good:
            self._tell(good, now_s)
        if bad:
            self._fill_all(now_s)

    def _tell(self, good: list[int], now_s: float) -> None:
        """We have got these parts: tell those who may want them at once, and the others once a second.

        To tell a hundred idle peers of each part takes longer than to fetch it.
        """
        self._news += good
        news, runs = b"", list(neighbours(good))
        for peer in list(self.peers.values()):
            if peer.closing:
                continue
            # A complete peer wants nothing, so that our parts are no news to it.
            held = len(good) if peer.have.complete else sum(map(peer.have.count_in, runs))
            peer.wanted_parts -= held
            if not peer.have.complete and not peer.told_in_vain:
                news = news or encode_haves(good)
                self._send(peer, news, now_s)
                peer.told = len(self._news)
                peer.told_in_vain = not peer.interested and held < len(good)
            self._show_interest(peer, now_s)

    def _tell_the_rest(self, now_s: float) -> None:
        """Tell everybody what they have not heard yet, and forget it."""
        encoded: dict[int, bytes] = {}
        for peer in self.peers.values():
            if peer.told < len(self._news) and not peer.have.complete and not peer.closing:
                if peer.told not in encoded:
                    encoded[peer.told] = encode_haves(self._news[peer.told :])
                self._send(peer, encoded[peer.told], now_s)
            peer.told = 0
        self._news.clear()

    def _set_interested(self, peer: Peer, interested: bool, now_s: float) -> None:
        peer.interested = interested
        peer.told_in_vain = False
        if peer.told < len(self._news) and not peer.have.complete:
            self._send(peer, encode_haves(self._news[peer.told :]), now_s)
            peer.told = len(self._news)

    def rechoke(self, now_s: float) -> None:
        """Decide anew who may ask us, and tell those for whom it changes."""
        new_round = now_s >= self._next_round_s
        if new_round:
            self._next_round_s = now_s + ROUND_S
        standings = [
            Standing(peer.key, peer.interested, peer.down.bytes_s(now_s), peer.up.bytes_s(now_s))
            for peer in self.peers.values()
            if not peer.closing
        ]
        chosen = self._choker.decide(standings, complete=self.complete, new_round=new_round)
        for peer in self.peers.values():
            if peer.choked == (peer.key in chosen) and not peer.closing:
                peer.choked = not peer.choked
                if peer.choked:
                    self.uploads.choke(peer)
                self._send(peer, encode_state(MessageId.CHOKE if peer.choked else MessageId.UNCHOKE), now_s)

    def tick(self, now_s: float) -> None:
        """What has to be done once in a while: dial, snub, drop the silent, keep alive, choke."""
        self._choose_order()
        self._tell_the_rest(now_s)
        for peer in list(self.peers.values()):
            if now_s - peer.heard_at_s > SILENCE_S:
                peer.close(f"silent for {SILENCE_S:.0f} s")
            elif now_s - peer.spoke_at_s > KEEP_ALIVE_S and not peer.closing:
                self._send(peer, KEEP_ALIVE, now_s)
        if self.downloads.find_snubs(now_s):
            self._fill_all(now_s)
        if now_s >= self._next_round_s:
            self.rechoke(now_s)
        if self.has_source:
            self.sourced_at_s = now_s
        self.doorway.dial_more(now_s)
        self._fill_all(now_s)

    def expect_others(self, *, others_download: bool) -> None:
        """The conductor's count: does anybody else download?"""
        self._others_download = others_download
        self._choose_order()

    def _choose_order(self) -> None:
        """In order is best for the disk and the whole-file hash, and harms nobody when we are alone."""
        others = any(peer.downloads_too for peer in self.peers.values())
        self.picker.in_order = not self._others_download and not others

    @property
    def has_source(self) -> bool:
        """True when somebody connected has something that we do not."""
        return any(peer.interesting and not peer.closing for peer in self.peers.values())

    def _fill_all(self, now_s: float) -> None:
        if not self.complete:
            for peer in self.peers.values():
                self.downloads.fill(peer, now_s)

    def _send(self, peer: Peer, data: bytes, now_s: float) -> None:
        peer.spoke_at_s = now_s
        if not peer.link.send(data):
            peer.close("too far behind")


def _check_strays(peer: Peer) -> None:
    if peer.stray_blocks > MAX_STRAY_BLOCKS:
        raise RemoteProtocolError("too many blocks that were not asked for")
