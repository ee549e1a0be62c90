"""Who comes in: dialling, accepting, handshakes, and the one connection that two members keep.

Pure; owned by the orchestrator. The doorway holds connections until their
handshake is done, and the address book for good; then they are the swarm's.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from orchestra.addressbook import AddressBook
from orchestra.addresses import is_loopback
from orchestra.bitfield import Bitfield
from orchestra.fast import Fast, canonical_set
from orchestra.messages import Accepted, Address, LinkUp
from orchestra.peer import Link, Peer
from orchestra.rate import Rate

MAX_PEERS = 128
MAX_HALF_OPEN = 16
MAX_PER_HOST = 3
MAX_DEPARTED = 200
"""How many of those who left are remembered, in case what they sent turns out wrong."""
REST_S = 600.0
"""How long to leave an address alone from which there is nothing to gain."""
USEFUL_S = 30.0
"""A connection that lasted this long, or moved data, was worth it: it may be dialled again soon."""

_log = logging.getLogger("orchestra.doorway")


class Links(Protocol):
    """Makes and refuses connections; implemented with threads and sockets, and by tests without."""

    def dial(self, key: int, address: Address) -> Link:
        """Begin to connect; LinkUp or LinkClosed with `key` follows. Raises OSError when it cannot begin."""

    def adopt(self, key: int, sock: Any, address: Address) -> Link:
        """Begin the handshake on an accepted connection; LinkUp or LinkClosed with `key` follows.

        Raises OSError when it cannot begin."""

    def refuse(self, sock: Any) -> None:
        """Close an accepted connection that is not welcome."""

    def stop_dialling(self) -> None:
        """Wake those who still dial: we stop."""


@dataclass(frozen=True, slots=True)
class _HalfOpen:
    """A connection before its handshake."""

    link: Link
    host: str
    dialled: Address | None


class Doorway:
    """Lets peers in. `peers` are those who are in already: the swarm's, only read here."""

    def __init__(
        self, parts: int, peer_id: bytes, links: Links, peers: Mapping[int, Peer], rng: random.Random
    ) -> None:
        self.book = AddressBook(rng)
        self._parts = parts
        self._peer_id = peer_id
        self._links = links
        self._peers = peers
        self._half_open: dict[int, _HalfOpen] = {}
        self._departed: dict[int, tuple[str, bytes]] = {}
        self._next_key = 1

    @property
    def connections(self) -> int:
        """Connections whose last word has not come, half-open ones too."""
        return len(self._peers) + len(self._half_open)

    @property
    def half_open(self) -> int:
        """Connections before their handshake."""
        return len(self._half_open)

    def dial_more(self, now_s: float) -> None:
        """Connect to known addresses, as far as there is room."""
        while self.connections < MAX_PEERS and len(self._half_open) < MAX_HALF_OPEN:
            address = self.book.take(now_s)
            if address is None:
                return
            key = self._new_key()
            try:
                link = self._links.dial(key, address)
            except OSError as error:
                _log.warning("cannot dial: %s", error)
                self.book.release(address, now_s, worked=False)
                return
            self._half_open[key] = _HalfOpen(link, address[0], address)

    def accepted(self, message: Accepted) -> None:
        """Somebody calls: let the handshake begin, or close at once when there is no room."""
        host = message.address[0]
        hosts = [peer.host for peer in self._peers.values()]
        hosts += [half.host for half in self._half_open.values()]
        crowded = not is_loopback(host) and hosts.count(host) >= MAX_PER_HOST
        if crowded or self.connections >= MAX_PEERS or self.book.is_banned(host, b""):
            self._links.refuse(message.sock)
            return
        key = self._new_key()
        try:
            link = self._links.adopt(key, message.sock, message.address)
        except OSError as error:
            _log.warning("cannot take a caller in: %s", error)
            self._links.refuse(message.sock)
            return
        self._half_open[key] = _HalfOpen(link, host, None)

    def _new_key(self) -> int:
        self._next_key += 1
        return self._next_key

    def link_up(self, message: LinkUp, now_s: float) -> Peer:
        """A handshake succeeded: the new peer, closing already when it is ourselves, banned or here twice."""
        half = self._half_open.pop(message.key)
        handshake = message.handshake
        fast = None
        if handshake.speaks_fast:
            fast = Fast(canonical_set(half.host, handshake.info_hash, self._parts))
        peer = Peer(
            message.key,
            half.host,
            half.link,
            Bitfield(self._parts),
            Rate(now_s),
            Rate(now_s),
            dialled=half.dialled,
            peer_id=handshake.peer_id,
            speaks_extensions=handshake.speaks_extensions,
            fast=fast,
            since_s=now_s,
            heard_at_s=now_s,
            spoke_at_s=now_s,
            counted=True,
        )
        if peer.peer_id == self._peer_id:
            if peer.dialled:
                self.book.is_own(peer.dialled)
            peer.close("that is us")
        elif self.book.is_banned(peer.host, peer.peer_id):
            peer.close("banned")
        for twin in self._peers.values():
            if twin.peer_id == peer.peer_id and not twin.closing and not peer.closing:
                self._close_one_of_two(twin, peer, now_s)
        return peer

    def _close_one_of_two(self, old: Peer, new: Peer, now_s: float) -> None:
        """Both sides dialled: both must keep the same connection, that of the greater peer id."""
        ours_wins = self._peer_id > new.peer_id
        crossed = (old.dialled is None) != (new.dialled is None)
        keep_new = crossed and (new.dialled is not None) == ours_wins
        loser = old if keep_new else new
        if loser.dialled:
            self.book.rest(loser.dialled, now_s + REST_S)
        loser.close("connected twice")

    def close_half_open(self, reason: str) -> None:
        """End all connections before their handshake."""
        for half in self._half_open.values():
            half.link.close(reason)

    def left(self, key: int, now_s: float) -> bool:
        """A connection's last word: True when it ended before its handshake, and that was all."""
        half = self._half_open.pop(key, None)
        if half is not None and half.dialled:
            self.book.release(half.dialled, now_s, worked=False)
        return half is not None

    def peer_left(self, peer: Peer, now_s: float, *, of_no_use: bool) -> None:
        """A peer has gone; `of_no_use`: neither side could gain from the other now."""
        self._departed[peer.key] = (peer.host, peer.peer_id)
        if len(self._departed) > MAX_DEPARTED:
            del self._departed[next(iter(self._departed))]
        if peer.dialled:
            useful = peer.down.total_bytes or peer.up.total_bytes or now_s - peer.since_s > USEFUL_S
            if of_no_use:
                self.book.rest(peer.dialled, now_s + REST_S)
            self.book.release(peer.dialled, now_s, worked=bool(useful))

    def ban(self, peer: Peer, reason: str) -> None:
        """Close a peer and never let it in again."""
        _log.warning("%s is banned: %s", peer.host, reason)
        self.book.ban(peer.host, peer.peer_id)
        peer.close(reason)

    def ban_departed(self, key: int) -> None:
        """What a peer sent turned out wrong after it had left: it need not come again."""
        if key in self._departed:
            self.book.ban(*self._departed[key])
