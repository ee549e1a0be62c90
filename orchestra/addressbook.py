"""Whom we could dial: known addresses, when to try each again, and who is banned.

Pure; owned by the orchestrator; the clock is given. An address is known or
connected. A failed one waits twice as long each time, and is forgotten when it
has failed too often. Hosts on this machine share one address, so there a
banned peer is known by its peer id, and by the address at which it was called.

What peers tell of one another is hearsay: bounded for each of them and in all,
tried last, given up sooner, and forgotten when nobody says it any more. An
address that has answered is hearsay no longer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from orchestra.addresses import is_loopback
from orchestra.crowds import neighbourhood
from orchestra.messages import Address

MAX_KNOWN = 2000
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0
MAX_FAILURES = 8
MAX_HEARSAY = 1000
"""Addresses known by hearsay alone: half of the book at most."""
MAX_FROM_ONE = 100
"""Addresses known by hearsay from one source."""
MAX_PORTS = 3
"""Addresses of one host, but for this machine, of which hearsay adds no more."""
MAX_HEARSAY_FAILURES = 2
MAX_BANNED_HOSTS = 3
"""Hosts of one IPv6 network that are banned before all of it is: addresses cost nothing there."""


class _Entry:
    def __init__(self, retry_at_s: float, *, by_hand: bool = False, heard_from: tuple[str, ...] = ()) -> None:
        self.retry_at_s = retry_at_s
        self.failures = 0
        self.in_use = False
        self.by_hand = by_hand
        self.heard_from = heard_from
        """Who has said so; empty when it is known, and no hearsay."""


class AddressBook:
    """Addresses to dial, each at most once at a time."""

    def __init__(self, rng: random.Random) -> None:
        self._entries: dict[Address, _Entry] = {}
        self._rng = rng
        self._banned_hosts: set[str] = set()
        self._banned_ids: set[bytes] = set()
        self._banned_networks: Counter[str] = Counter()
        """How many hosts of each IPv6 network are banned."""
        self._avoided: set[Address] = set()
        """Addresses that lead to ourselves, or to a banned peer."""
        self._urgent: list[Address] = []
        """Those to be tried first, the next one last."""
        self._told_by: Counter[str] = Counter()
        """How many addresses are in the book by whose hearsay."""
        self._hearsay = 0
        """How many are in it by hearsay alone."""

    def add(self, addresses: tuple[Address, ...], now_s: float, *, by_hand: bool = False) -> None:
        """Learn addresses; those given by hand are never forgotten."""
        for address in addresses:
            if address in self._avoided or self.is_banned(address[0], b""):
                continue
            entry = self._entries.get(address)
            if entry is None:
                if len(self._entries) >= MAX_KNOWN and not by_hand:
                    continue
                self._entries[address] = _Entry(now_s, by_hand=by_hand)
                continue
            self._confirm(entry)
            if not entry.in_use and entry.failures:
                # A conductor that names it again has heard from it since: worth a new try soon.
                entry.retry_at_s = min(entry.retry_at_s, now_s + FIRST_RETRY_S)

    def urge(self, addresses: tuple[Address, ...]) -> None:
        """Try these first, in this order: among many who have gone, those that are there are hard to find."""
        self._urgent = list(reversed(addresses))

    def hear_of(self, addresses: Iterable[Address], now_s: float, source: str) -> None:
        """`source` says that these can be dialled. What exceeds the bounds is not taken."""
        ports: Counter[str] | None = None
        source_alone = (source,)
        for address in addresses:
            if self._told_by[source] >= MAX_FROM_ONE:
                return
            if address in self._avoided or self.is_banned(address[0], b""):
                continue
            entry = self._entries.get(address)
            if entry is None:
                if self._hearsay >= MAX_HEARSAY or len(self._entries) >= MAX_KNOWN:
                    continue
                if ports is None:
                    ports = Counter([host for host, _ in self._entries])
                if ports[address[0]] >= MAX_PORTS and not is_loopback(address[0]):
                    continue
                self._entries[address] = _Entry(now_s, heard_from=source_alone)
                self._hearsay += 1
                ports[address[0]] += 1
            elif entry.heard_from and source not in entry.heard_from:
                entry.heard_from += source_alone
            else:
                continue
            self._told_by[source] += 1

    def forget(self, addresses: Iterable[Address], source: str) -> None:
        """`source` says that these are gone: they are, if nobody else has said that they are there."""
        for address in addresses:
            entry = self._entries.get(address)
            if entry is None or source not in entry.heard_from or entry.in_use:
                continue
            if len(entry.heard_from) > 1:
                entry.heard_from = tuple(other for other in entry.heard_from if other != source)
                self._unsay(source)
            else:
                self._remove(address)

    def _confirm(self, entry: _Entry) -> None:
        """It is hearsay no longer."""
        if entry.heard_from:
            self._hearsay -= 1
            for source in entry.heard_from:
                self._unsay(source)
            entry.heard_from = ()

    def _unsay(self, source: str) -> None:
        self._told_by[source] -= 1
        if not self._told_by[source]:
            del self._told_by[source]

    def _remove(self, address: Address) -> None:
        entry = self._entries.pop(address, None)
        if entry is not None:
            self._confirm(entry)

    def take(
        self,
        now_s: float,
        *,
        but: Collection[Address] = (),
        rank: Callable[[Address], int] | None = None,
    ) -> Address | None:
        """An address whose time has come, or None; it is in use until `release`.

        What was urged comes first, and what is no hearsay; then the highest `rank`, without it a random one.
        None of `but`.
        """
        while self._urgent:
            address = self._urgent.pop()
            entry = self._entries.get(address)
            if entry is not None and not entry.in_use and entry.retry_at_s <= now_s and address not in but:
                entry.in_use = True
                return address
        ready = [
            address
            for address, entry in self._entries.items()
            if not entry.in_use and entry.retry_at_s <= now_s and address not in but
        ]
        ready = [address for address in ready if not self._entries[address].heard_from] or ready
        if not ready:
            return None
        chosen = self._rng.choice(ready) if rank is None else max(ready, key=rank)
        self._entries[chosen].in_use = True
        return chosen

    def next_try_s(self) -> float | None:
        """When `take` would next have something; None when never."""
        return min((entry.retry_at_s for entry in self._entries.values() if not entry.in_use), default=None)

    def release(self, address: Address, now_s: float, *, worked: bool) -> None:
        """A dialled connection has ended; `worked`: the handshake had succeeded."""
        entry = self._entries.get(address)
        if entry is None:
            return
        entry.in_use = False
        entry.failures = 0 if worked else entry.failures + 1
        if worked:
            self._confirm(entry)
        most = MAX_HEARSAY_FAILURES if entry.heard_from else MAX_FAILURES
        if entry.failures >= most and not entry.by_hand:
            self._remove(address)
            return
        wait_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0**entry.failures)
        entry.retry_at_s = max(entry.retry_at_s, now_s + wait_s * self._rng.uniform(0.75, 1.25))

    def rest(self, address: Address, until_s: float) -> None:
        """Do not dial this address before `until_s`: there is nothing to gain from it now."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.retry_at_s = max(entry.retry_at_s, until_s)

    def is_own(self, address: Address) -> None:
        """A dialled address turned out to be ourselves."""
        self._avoided.add(address)
        self._remove(address)

    def ban(self, host: str, peer_id: bytes, dialled: Address | None = None) -> None:
        """Never again talk to a peer that sent wrong data. `dialled`: where we had called it."""
        self._banned_ids.add(peer_id)
        if dialled is not None:
            self._avoided.add(dialled)
            self._remove(dialled)
        if not is_loopback(host):
            if host not in self._banned_hosts:
                self._banned_networks[neighbourhood(host)] += 1
            self._banned_hosts.add(host)
            for address in [address for address in self._entries if address[0] == host]:
                self._remove(address)

    def is_banned(self, host: str, peer_id: bytes) -> bool:
        """True when this host or this peer id was banned."""
        if host in self._banned_hosts or peer_id in self._banned_ids:
            return True
        return bool(self._banned_networks) and self._banned_networks[neighbourhood(host)] >= MAX_BANNED_HOSTS

    def __len__(self) -> int:
        return len(self._entries)
