"""Who comes in: dialling, accepting, handshakes, and the one connection that two members keep.

Pure; owned by the orchestrator. The doorway holds connections until their
handshake is done, and the address book for good; then they are the swarm's.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from orchestra.addressbook import AddressBook
from orchestra.addresses import is_loopback
from orchestra.bitfield import Bitfield
from orchestra.fast import Fast, canonical_set
from orchestra.messages import Accepted, Address, LinkUp
from orchestra.peer import Link, Peer
from orchestra.priority import own_hosts, priority
from orchestra.rate import Rate

MAX_PEERS = 128
DIALLED_UP_TO = 40
"""Connections up to which we dial: the others are for those who call, so that a newcomer finds room."""
SPARE_PEERS = 4
"""Callers who are let in although all is full, to see whether another one gives way."""
SETTLED_S = 60.0
"""A peer that has been here for less does not give way yet."""
MAX_HALF_OPEN = 16
DIALS_S = 10.0
"""Connections begun a second, after the first MAX_HALF_OPEN: who lies about members makes us no flood."""
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


def _is_idle(peer: Peer, now_s: float) -> bool:
    """It has been here for a while, and neither gives nor takes."""
    moves = peer.down.bytes_s(now_s) or peer.up.bytes_s(now_s) or peer.outstanding or peer.asked
    return not moves and now_s - peer.since_s >= SETTLED_S


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
        self._rng = rng
        self._half_open: dict[int, _HalfOpen] = {}
        self._departed: dict[int, tuple[str, bytes]] = {}
        self._next_key = 1
        self._may_dial = float(MAX_HALF_OPEN)
        self._counted_s: float | None = None

    @property
    def connections(self) -> int:
        """Connections whose last word has not come, half-open ones too."""
        return len(self._peers) + len(self._half_open)

    @property
    def half_open(self) -> int:
        """Connections before their handshake."""
        return len(self._half_open)

    def dial_more(self, now_s: float) -> None:
        """Connect to known addresses, as far as there is room, those of the best priority first (BEP 40).

        Room for callers is left as soon as somebody here is of use.
        """
        of_use = any(peer.interesting or peer.wants for peer in self._peers.values())
        room = DIALLED_UP_TO if of_use else MAX_PEERS
        if self.connections >= room:
            return
        self._earn(now_s)
        connected = {peer.contact for peer in self._peers.values() if peer.contact}
        rank = self._ranking()
        while self.connections < room and len(self._half_open) < MAX_HALF_OPEN and self._may_dial >= 1:
            address = self.book.take(now_s, but=connected, rank=rank)
            if address is None:
                return
            self._may_dial -= 1
            key = self._new_key()
            try:
                link = self._links.dial(key, address)
            except OSError as error:
                _log.warning("cannot dial: %s", error)
                self.book.release(address, now_s, worked=False)
                return
            self._half_open[key] = _HalfOpen(link, address[0], address)

    def _earn(self, now_s: float) -> None:
        since_s = 0.0 if self._counted_s is None else now_s - self._counted_s
        self._may_dial = min(float(MAX_HALF_OPEN), self._may_dial + since_s * DIALS_S)
        self._counted_s = now_s

    def _our_hosts(self) -> dict[bool, str]:
        return own_hosts((peer.host, peer.our_host) for peer in self._peers.values())

    def _priorities(self) -> Callable[[str], int | None]:
        """BEP 40's priority of a host; None where it is not known, on our own host too: ports would count."""
        ours = self._our_hosts()

        def of_host(host: str) -> int | None:
            seen = ours.get(":" in host)
            return None if seen is None or seen == host else priority((seen, 0), (host, 0))

        return of_host

    def _ranking(self) -> Callable[[Address], int] | None:
        """Addresses by priority, with the same chances for one that has none; None if no address has one."""
        if not self._our_hosts():
            return None
        of_host = self._priorities()

        def rank(address: Address) -> int:
            known = of_host(address[0])
            return self._rng.getrandbits(32) if known is None else known

        return rank

    def accepted(self, message: Accepted) -> None:
        """Somebody calls: let the handshake begin, or close at once when there is no room."""
        host = message.address[0]
        hosts = [peer.host for peer in self._peers.values()]
        hosts += [half.host for half in self._half_open.values()]
        crowded = not is_loopback(host) and hosts.count(host) >= MAX_PER_HOST
        room = MAX_PEERS if self._priorities()(host) is None else MAX_PEERS + SPARE_PEERS
        if crowded or self.connections >= room or self.book.is_banned(host, b""):
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
        if not peer.closing:
            self._make_room(peer, now_s)
        return peer

    def _make_room(self, new: Peer, now_s: float) -> None:
        """Where all is full, an idle peer of lower priority (BEP 40) gives way to `new`, else `new` goes.

        So a newcomer gets in even where many are connected to all, and who only holds connections
        open does not keep it out. A peer that gives or takes is never sent away for it.
        """
        present = [peer for peer in self._peers.values() if not peer.closing]
        if len(present) < MAX_PEERS:
            return
        of_host = self._priorities()
        ranked = {
            peer.key: rank
            for peer in present
            if _is_idle(peer, now_s) and (rank := of_host(peer.host)) is not None
        }
        worst = min(ranked, key=ranked.__getitem__, default=None)
        theirs = of_host(new.host)
        gives_way = worst is not None and theirs is not None and theirs > ranked[worst]
        loser = self._peers[worst] if worst is not None and gives_way else new
        if loser.dialled:
            self.book.rest(loser.dialled, now_s + REST_S)
        loser.close("full" if loser is new else "gives way to another peer")

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
