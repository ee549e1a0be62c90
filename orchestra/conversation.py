"""The talk with one peer: how we greet it, what it says, and what that changes.

Pure; owned by the orchestrator. Blocks are not heard here but by the swarm,
since they go on to the writer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from orchestra.bitfield import Bitfield
from orchestra.downloads import Downloads
from orchestra.errors import RemoteProtocolError
from orchestra.extension import (
    DONT_HAVE_ID,
    HANDSHAKE_ID,
    PEX_ID,
    UPLOAD_ONLY_ID,
    decode_extension_handshake,
    encode_extension_handshake,
)
from orchestra.geometry import Geometry
from orchestra.news import News
from orchestra.peer import Peer
from orchestra.pex import Exchange
from orchestra.picker import Picker
from orchestra.service import Service
from orchestra.text import safe
from orchestra.uploads import MAX_ASKED
from orchestra.wire import (
    AllowedFast,
    BitfieldReceived,
    Cancels,
    Choke,
    Extended,
    HaveAll,
    HaveNone,
    Haves,
    Interested,
    Message,
    MessageId,
    NotInterested,
    Port,
    Rejects,
    Requests,
    Suggestions,
    Unchoke,
    encode_extended,
    encode_state,
)

MAX_HELLOS = 16
"""Extension handshakes from one peer: BEP 10 lets it send another when something changes."""

SPARE_HAVES = 100

_log = logging.getLogger("orchestra.conversation")


class Conversation:
    """Hears every message but blocks, and answers where the answer is not for a policy to decide."""

    def __init__(
        self,
        geometry: Geometry,
        picker: Picker,
        downloads: Downloads,
        service: Service,
        news: News,
        exchange: Exchange,
    ) -> None:
        self._geometry = geometry
        self._picker = picker
        self._downloads = downloads
        self._service = service
        self._news = news
        self._exchange = exchange

    def greet(self, peer: Peer, listen_port: int, now_s: float) -> None:
        """Tell a new peer what we have (BEP 3) and who we are (BEP 10)."""
        self._news.begin(peer)
        greeting = self._service.greeting(peer, now_s)
        if peer.speaks_extensions:
            greeting += self._hello(peer, listen_port)
        if greeting:
            peer.say(greeting, now_s)
        self._service.welcomed(now_s)

    def _hello(self, peer: Peer, listen_port: int) -> bytes:
        # A peer to whom we show little must not take us for one that has and wants nothing.
        peer.told_upload_only = self._picker.wants_nothing and not self._service.hides_from(peer)
        hello = encode_extension_handshake(
            port=listen_port,
            max_requests=MAX_ASKED,
            your_host=peer.host,
            upload_only=peer.told_upload_only,
        )
        return encode_extended(HANDSHAKE_ID, hello)

    def tell_wants(self, peers: Iterable[Peer], listen_port: int, now_s: float) -> None:
        """Once we are complete: tell those who do not know yet that we want nothing (BEP 21)."""
        if not self._picker.wants_nothing:
            return
        for peer in peers:
            if peer.told_upload_only or not peer.speaks_extensions or peer.closing:
                continue
            if not self._service.hides_from(peer):
                peer.say(self._hello(peer, listen_port), now_s)

    def hear(self, peer: Peer, message: Message, now_s: float) -> None:
        """`peer` says this. Raises RemoteProtocolError when it may not."""
        match message:
            case Haves(indices):
                self._told_singly(peer, indices, now_s)
            case Requests(blocks):
                self._service.asked(peer, blocks, now_s)
            case Cancels(blocks):
                self._service.uploads.cancelled(peer, blocks, now_s)
            case Rejects(blocks):
                self._downloads.rejected(peer, blocks, now_s)
            case AllowedFast(indices) | Suggestions(indices):
                if not peer.waverings.lasts(len(indices), now_s):
                    raise RemoteProtocolError("many words, and nothing said")
                self._hear_offers(peer, indices, granted=isinstance(message, AllowedFast))
            case _:
                if not peer.waverings.lasts(1, now_s):
                    raise RemoteProtocolError("many words, and nothing said")
                self._hear_word(peer, message, now_s)

    def _hear_word(self, peer: Peer, message: Message, now_s: float) -> None:
        """What is said once in a while: a peer may not say such things without end."""
        match message:
            case Choke():
                peer.choking_us = True
                self._downloads.choked(peer)
            case Unchoke():
                peer.choking_us = False
            case Interested() | NotInterested():
                peer.interested = isinstance(message, Interested)
                self._news.catch_up(peer, now_s)
            case BitfieldReceived(data):
                self._got_field(peer, Bitfield.from_wire(data, self._geometry.parts), now_s)
            case HaveAll():
                self._got_field(peer, Bitfield.full(self._geometry.parts), now_s)
            case HaveNone():
                pass  # What somebody had is not taken back.
            case Extended(extended_id, payload):
                self._hear_extended(peer, extended_id, payload, now_s)
            case Port():
                pass  # There is no DHT here.
            case _:
                raise AssertionError(f"not a wire message: {message!r}")

    def _hear_offers(self, peer: Peer, indices: list[int], *, granted: bool) -> None:
        """What BEP 6 adds. A suggestion is not heeded: the parts that the swarm lacks come first."""
        for index in indices:
            if index >= self._geometry.parts:
                raise RemoteProtocolError(f"part {index}, but there are {self._geometry.parts}")
        if granted and peer.fast is not None:
            peer.fast.allow(indices)

    def _got_field(self, peer: Peer, said: Bitfield, now_s: float) -> None:
        if peer.have.count:
            # aria2 sends its bitfield again when it has much to tell: what is new in it counts as haves.
            self._got_haves(peer, said.beyond(peer.have), now_s)
            return
        peer.have = said
        peer.barren_since = -1
        peer.began_parts = said.count
        peer.counted = not peer.have.complete
        if peer.counted:
            self._picker.count_peer(peer.have)
        peer.wanted_parts = self._picker.have.lacking(peer.have)
        self._service.heard(peer, said.indices(), now_s)
        self.show_interest(peer, now_s)

    def _told_singly(self, peer: Peer, indices: list[int], now_s: float) -> None:
        """One `have` after the other. A part may be told of twice, where news and a bitfield cross."""
        peer.haves += len(indices)
        if peer.haves > 2 * self._geometry.parts + SPARE_HAVES:
            raise RemoteProtocolError("more haves than there are parts")
        self._got_haves(peer, indices, now_s)

    def _got_haves(self, peer: Peer, indices: list[int], now_s: float) -> None:
        if indices and max(indices) >= self._geometry.parts:
            raise RemoteProtocolError(f"have of part {max(indices)}, but there are {self._geometry.parts}")
        news = peer.have.add_each(indices)
        if news:
            if not peer.counted or self._picker.count_parts(news):
                peer.barren_since = -1
            peer.wanted_parts += self._picker.have.without(news)
        self._service.heard(peer, news, now_s)
        self.show_interest(peer, now_s)

    def _hear_extended(self, peer: Peer, extended_id: int, payload: bytes, now_s: float) -> None:
        """A message of the extension protocol (BEP 10); those that we did not offer are ignored."""
        if extended_id == HANDSHAKE_ID:
            self._got_extension_handshake(peer, payload, now_s)
        elif extended_id == PEX_ID:
            self._exchange.heard(peer, payload, now_s, complete=self._picker.wants_nothing)
        elif extended_id == UPLOAD_ONLY_ID and len(payload) == 1:
            peer.upload_only = payload != b"\0"
        elif extended_id == DONT_HAVE_ID and len(payload) == 4:
            self._got_dont_have(peer, int.from_bytes(payload, "big"))
        self.show_interest(peer, now_s)

    def _got_dont_have(self, peer: Peer, index: int) -> None:
        """It has lost a part (BEP 54)."""
        if index >= self._geometry.parts:
            raise RemoteProtocolError(f"part {index}, but there are {self._geometry.parts}")
        if peer.have.remove(index):
            if peer.counted:
                self._picker.discount_part(index)
            peer.wanted_parts -= index not in self._picker.have
            self._downloads.not_had(peer, index)

    def tell_lost(self, peer: Peer, index: int, now_s: float) -> None:
        """We have lost a part: say so where it is understood."""
        if peer.dont_have_id and not peer.closing:
            peer.say(encode_extended(peer.dont_have_id, index.to_bytes(4, "big")), now_s)

    def _got_extension_handshake(self, peer: Peer, payload: bytes, now_s: float) -> None:
        peer.hellos += 1
        if peer.hellos > MAX_HELLOS:
            raise RemoteProtocolError("too many extension handshakes")
        hello = decode_extension_handshake(payload)
        peer.client = safe(hello.client, 60) or peer.client
        peer.max_requests = hello.max_requests or peer.max_requests
        peer.listen_port = hello.port or peer.listen_port
        peer.our_host = hello.our_host or peer.our_host
        if hello.upload_only is not None:
            peer.upload_only = hello.upload_only
        if hello.dont_have_id is not None:
            peer.dont_have_id = hello.dont_have_id
        if hello.pex_id is not None:
            self._exchange.agreed(peer, hello.pex_id, now_s)
        if peer.hellos == 1:
            # Those who become complete say so to everybody.
            _log.info("%s is %s%s", peer.host, peer.client, ", wants nothing" if peer.upload_only else "")

    def is_over(self, peer: Peer) -> bool:
        """True when neither side can gain from the other."""
        return self._picker.wants_nothing and (peer.have.complete or peer.upload_only)

    def show_interest(self, peer: Peer, now_s: float) -> None:
        """Tell the peer when it has something for us; two that want nothing have nothing more to say."""
        if self._picker.wants_nothing:
            if self._geometry.parts and self.is_over(peer):
                peer.close("both are complete" if peer.have.complete else "neither wants anything")
                return
            self._lose_interest(peer, now_s)
        elif peer.wanted_parts > 0 and not peer.interesting:
            peer.interesting = True
            peer.say(encode_state(MessageId.INTERESTED), now_s)

    def settle_interest(self, peers: Iterable[Peer], now_s: float) -> None:
        """Tell those who have nothing left for us, once in a while: mostly they soon have something again."""
        for peer in peers:
            if peer.wanted_parts <= 0 and not peer.closing:
                self._lose_interest(peer, now_s)

    @staticmethod
    def _lose_interest(peer: Peer, now_s: float) -> None:
        if peer.interesting:
            peer.interesting = False
            peer.say(encode_state(MessageId.NOT_INTERESTED), now_s)
