"""Who comes in: dialling, accepting, handshakes, and the one connection that two members keep.

Pure; owned by the orchestrator. The doorway holds connections until their
handshake is done, and the address book for good; then they are the swarm's.
Whoever holds room without use gives way: callers who do not finish their
handshake to new callers, idle peers to new peers (crowds.py).
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from orchestra import crowds
from orchestra.addressbook import AddressBook
from orchestra.bitfield import Bitfield
from orchestra.crowds import SETTLED_S
from orchestra.fast import Fast, canonical_set
from orchestra.messages import Accepted, Address, LinkUp
from orchestra.peer import Link, Peer
from orchestra.priority import own_hosts, priority

MAX_PEERS = 128
DIALLED_UP_TO = 40
"""Connections up to which we dial: the others are for those who call, so that a newcomer finds room."""
SPARE_PEERS = 4
"""Callers who are let in although all is full, to see whether another one gives way."""
NEARLY_FULL = 0.9
"""From this share of all places on, who is of no use to either side has to go."""
MAX_HALF_OPEN = 16
"""Connections before their handshake: of those whom we call, and of those who call us and take long."""
HURRY_S = 2.0
"""Who has called us and not finished its handshake after so long takes long."""
DIALS_S = 10.0
"""Connections begun a second, after the first MAX_HALF_OPEN: who lies about members makes us no flood."""
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


class _HalfOpen:
    """A connection before its handshake. `closing`: it has been told to end."""

    def __init__(self, link: Link, host: str, dialled: Address | None, since_s: float) -> None:
        self.link = link
        self.host = host
        self.dialled = dialled
        self.since_s = since_s
        self.closing = False


class Doorway:
    """Lets peers in. `peers` are those who are in already: the swarm's, only read here.

    `max_peers` bounds connections: fewer than MAX_PEERS where the system has few descriptors for us.
    """

    def __init__(
        self,
        parts: int,
        peer_id: bytes,
        links: Links,
        peers: Mapping[int, Peer],
        rng: random.Random,
        *,
        max_peers: int = MAX_PEERS,
    ) -> None:
        self.book = AddressBook(rng)
        self._parts = parts
        self._peer_id = peer_id
        self._links = links
        self._peers = peers
        self._rng = rng
        self._max_peers = max_peers
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

    def _pending(self, *, dialled: bool) -> list[_HalfOpen]:
        """Those before their handshake whom we called, or who called us, the oldest first."""
        return [
            half
            for half in self._half_open.values()
            if (half.dialled is not None) is dialled and not half.closing
        ]

    def dial_more(self, now_s: float) -> None:
        """Connect to known addresses, as far as there is room, those of the best priority first (BEP 40).

        Room for callers is left as soon as somebody here is of use.
        """
        room = self._max_peers
        if any(map(crowds.of_use, self._peers.values())):
            room = min(DIALLED_UP_TO, room)
        next_try_s = self.book.next_try_s()
        if self.connections >= room or next_try_s is None or next_try_s > now_s:
            return
        self._earn(now_s)
        connected = {peer.contact for peer in self._peers.values() if peer.contact}
        rank = self._ranking()
        while (
            self.connections < room
            and len(self._pending(dialled=True)) < MAX_HALF_OPEN
            and self._may_dial >= 1
        ):
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
            self._half_open[key] = _HalfOpen(link, address[0], address, now_s)

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

    def accepted(self, message: Accepted, now_s: float) -> None:
        """Somebody calls: let the handshake begin, or close at once when there is no room."""
        host = message.address[0]
        hosts = [peer.host for peer in self._peers.values()]
        hosts += [half.host for half in self._half_open.values()]
        full = self.connections >= self._max_peers + SPARE_PEERS
        if crowds.is_crowded(host, hosts) or self.book.is_banned(host, b""):
            self._links.refuse(message.sock)
            return
        self._hurry_callers(host, now_s)
        if full:
            self._links.refuse(message.sock)
            return
        key = self._new_key()
        try:
            link = self._links.adopt(key, message.sock, message.address)
        except OSError as error:
            _log.info("cannot take a caller in: %s", error)
            self._links.refuse(message.sock)
            return
        self._half_open[key] = _HalfOpen(link, host, None, now_s)

    def _hurry_callers(self, host: str, now_s: float) -> None:
        """Of too many who take long over their handshake, the first of the largest crowd gives way.

        A handshake takes a round trip or two: many who are honest may call at once, but they are soon
        through. `host` is the one who calls now.
        """
        callers = self._pending(dialled=False)
        slow = [half for half in callers if now_s - half.since_s >= HURRY_S]
        if len(callers) < MAX_HALF_OPEN or not slow:
            return
        crowd = Counter(crowds.neighbourhood(half.host) for half in callers)
        crowd[crowds.neighbourhood(host)] += 1
        slowest = max(slow, key=lambda half: crowd[crowds.neighbourhood(half.host)])
        slowest.closing = True
        slowest.link.close("too many before their handshake")

    def _new_key(self) -> int:
        self._next_key += 1
        return self._next_key

    def link_up(self, message: LinkUp, now_s: float) -> Peer:
        """A handshake succeeded: the new peer, closing already when it is ourselves, banned or here twice."""
        half = self._half_open.pop(message.key)
        handshake = message.handshake
        peer = Peer(message.key, half.host, half.link, Bitfield(self._parts), now_s)
        peer.dialled = half.dialled
        peer.peer_id = handshake.peer_id
        peer.speaks_extensions = handshake.speaks_extensions
        if handshake.speaks_fast:
            peer.fast = Fast(canonical_set(half.host, handshake.info_hash, self._parts))
        peer.counted = True
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
        """Where all is full, an idle peer gives way to `new`, else `new` goes.

        So a newcomer gets in even where many are connected to all, and who only holds connections
        open does not keep it out. A peer that gives or takes is never sent away for it. Of two who may
        be of use the one of higher priority stays (BEP 40), if that is known.
        """
        present = [peer for peer in self._peers.values() if not peer.closing]
        if len(present) < self._max_peers:
            return
        idle = crowds.least_useful_first(present, now_s)
        loser = idle[0] if idle else new
        if idle and crowds.of_use(loser):
            loser = self._lower_of(idle, new)
        self._send_away(loser, now_s, "full" if loser is new else "gives way to another peer")

    def _lower_of(self, idle: list[Peer], new: Peer) -> Peer:
        """Who has the lowest priority: one of `idle`, or `new`; the first of `idle` where it is not known."""
        of_host = self._priorities()
        ranked = {peer.key: rank for peer in idle if (rank := of_host(peer.host)) is not None}
        theirs = of_host(new.host)
        if not ranked or theirs is None:
            return idle[0]
        worst = min(ranked, key=ranked.__getitem__)
        return self._peers[worst] if theirs > ranked[worst] else new

    def tick(self, now_s: float) -> None:
        """When nearly all places are taken, those who are of no use to either side leave some free."""
        present = [peer for peer in self._peers.values() if not peer.closing]
        surplus = len(present) - int(NEARLY_FULL * self._max_peers)
        if surplus <= 0:
            return
        for peer in crowds.least_useful_first(present, now_s)[:surplus]:
            if not crowds.of_use(peer) and crowds.idle_s(peer, now_s) >= SETTLED_S:
                self._send_away(peer, now_s, "idle, and nearly all places are taken")

    def starved(self, now_s: float) -> None:
        """The system has no descriptor left for a caller: who has not shaken hands, or is idle, goes."""
        callers = self._pending(dialled=False)
        if callers:
            callers[0].closing = True
            callers[0].link.close("no descriptor to spare")
            return
        for peer in crowds.least_useful_first(self._peers.values(), now_s)[:1]:
            self._send_away(peer, now_s, "no descriptor to spare")

    def stalled(self, peer: Peer, now_s: float, reason: str) -> None:
        """Close a peer that does not do what it says; for long, if it has never given anything."""
        if peer.down.total_bytes:
            peer.close(reason)
        else:
            self._send_away(peer, now_s, reason)

    def _send_away(self, peer: Peer, now_s: float, reason: str) -> None:
        if peer.dialled:
            self.book.rest(peer.dialled, now_s + REST_S)
        peer.close(reason)

    def _close_one_of_two(self, old: Peer, new: Peer, now_s: float) -> None:
        """Both sides dialled: both must keep the same connection, that of the greater peer id."""
        ours_wins = self._peer_id > new.peer_id
        crossed = (old.dialled is None) != (new.dialled is None)
        keep_new = crossed and (new.dialled is not None) == ours_wins
        loser = old if keep_new else new
        self._send_away(loser, now_s, "connected twice")

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
        if of_no_use and peer.contact is not None:
            # Who called us could be called as well.
            self.book.rest(peer.contact, now_s + REST_S)
        if peer.dialled:
            useful = peer.down.total_bytes or peer.up.total_bytes or now_s - peer.since_s > USEFUL_S
            self.book.release(peer.dialled, now_s, worked=bool(useful))

    def ban(self, peer: Peer, reason: str) -> None:
        """Close a peer and never let it in again."""
        _log.warning("%s is banned: %s", peer.host, reason)
        self.book.ban(peer.host, peer.peer_id, peer.dialled)
        peer.close(reason)

    def ban_departed(self, key: int) -> None:
        """What a peer sent turned out wrong after it had left: it need not come again."""
        if key in self._departed:
            self.book.ban(*self._departed[key])
