"""Whom we could dial: known addresses, when to try each again, and who is banned.

Pure; owned by the orchestrator; the clock is given. An address is known or
connected. A failed one waits twice as long each time, and is forgotten when it
has failed too often. Hosts on this machine share one address, so there a
banned peer is known by its peer id alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from orchestra.addresses import is_loopback
from orchestra.messages import Address

MAX_KNOWN = 2000
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0
MAX_FAILURES = 8


@dataclass(slots=True)
class _Entry:
    retry_at_s: float
    failures: int = 0
    in_use: bool = False
    by_hand: bool = False


class AddressBook:
    """Addresses to dial, each at most once at a time."""

    def __init__(self, rng: random.Random) -> None:
        self._entries: dict[Address, _Entry] = {}
        self._rng = rng
        self._banned_hosts: set[str] = set()
        self._banned_ids: set[bytes] = set()
        self._own: set[Address] = set()

    def add(self, addresses: tuple[Address, ...], now_s: float, *, by_hand: bool = False) -> None:
        """Learn addresses; those given by hand are never forgotten."""
        for address in addresses:
            if address in self._own or self.is_banned(address[0], b""):
                continue
            entry = self._entries.get(address)
            if entry is None:
                if len(self._entries) >= MAX_KNOWN and not by_hand:
                    continue
                self._entries[address] = _Entry(now_s, by_hand=by_hand)
            elif not entry.in_use and entry.failures:
                # A conductor that names it again has heard from it since: worth a new try soon.
                entry.retry_at_s = min(entry.retry_at_s, now_s + FIRST_RETRY_S)

    def take(self, now_s: float) -> Address | None:
        """A random address whose time has come, or None; it is in use until `release`."""
        ready = [
            address
            for address, entry in self._entries.items()
            if not entry.in_use and entry.retry_at_s <= now_s
        ]
        if not ready:
            return None
        chosen = self._rng.choice(ready)
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
        if entry.failures >= MAX_FAILURES and not entry.by_hand:
            del self._entries[address]
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
        self._own.add(address)
        self._entries.pop(address, None)

    def ban(self, host: str, peer_id: bytes) -> None:
        """Never again talk to a peer that sent wrong data."""
        self._banned_ids.add(peer_id)
        if not is_loopback(host):
            self._banned_hosts.add(host)
            for address in [address for address in self._entries if address[0] == host]:
                del self._entries[address]

    def is_banned(self, host: str, peer_id: bytes) -> bool:
        """True when this host or this peer id was banned."""
        return host in self._banned_hosts or peer_id in self._banned_ids

    def __len__(self) -> int:
        return len(self._entries)
