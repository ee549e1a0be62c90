"""Who shares what: all swarms of a conductor, within fixed bounds.

Pure; owned by the tracker, which lets in one caller at a time; time comes as an
argument (monotonic seconds). Front ends (HTTP now) know nothing of how it is
kept, and a shared store can take its place: it has to answer `announce` and
`scrape`, one round trip each.

Rules: a member is an address and a peer id. "stopped" removes the member only
when both match, so that nobody removes another. Who is silent for `lifetime_s`
is forgotten; so is a swarm. Whoever fills a table loses its own entries first.
"""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from dataclasses import dataclass

from netutils import Address, pack_peers
from orchestra.announcereply import Counts
from orchestra.roster import V4_BYTES, V6_BYTES, Roster, is_local

_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a registry holds. A host on this machine may have any number of members."""

    swarms: int = 10_000
    members: int = 100_000
    members_a_swarm: int = 5_000
    members_a_host: int = 20


@dataclass(frozen=True, slots=True)
class Sighting:
    """A member has spoken.

    `address` is where it speaks from, with the port that it listens on; `wanted`
    is how many others it gets at most. With `listed` false it gets them, but is
    not put down itself.
    """

    info_hash: bytes
    peer_id: bytes
    address: Address
    is_seed: bool
    event: str = ""
    wanted: int = 0
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """How the swarm stands, and some others of it: packed addresses, and their peer ids, IPv4 first."""

    counts: Counts
    v4: bytes = b""
    v6: bytes = b""
    peer_ids: tuple[bytes, ...] = ()


class RegistryFull(Exception):
    """There is no room for another swarm, or another member."""


class Registry:
    """All swarms. `lifetime_s`: after how long a silence a member is forgotten."""

    def __init__(
        self, lifetime_s: float, *, limits: Limits | None = None, rng: random.Random | None = None
    ) -> None:
        self._lifetime_s = lifetime_s
        self._limits = limits or Limits()
        self._rng = rng or random.Random()  # noqa: S311 - whom to meet is no secret
        # The swarm that was announced longest ago comes first: all of its members are as old or older.
        self._rosters: OrderedDict[bytes, tuple[Roster, float]] = OrderedDict()
        self._founded: dict[bytes, dict[bytes, None]] = {}
        self._members = 0

    def __len__(self) -> int:
        """How many members there are, in all swarms together."""
        return self._members

    def announce(self, sighting: Sighting, now_s: float, *, with_ids: bool = False) -> Sample:
        """Put the member down (or remove it: "stopped"), and return some others. Raises RegistryFull."""
        self._forget_swarms(now_s)
        v4, v6 = pack_peers([sighting.address])
        key = v4 or v6
        roster = self._roster(sighting.info_hash, now_s)
        if sighting.event == "stopped":
            if roster is not None and roster.knows(key, sighting.peer_id):
                roster.remove(key)
                self._members -= 1
            return Sample(_counts(roster))
        if sighting.listed:
            if roster is None:
                roster = self._found(sighting.info_hash, key[:-2])
            self._rosters[sighting.info_hash] = (roster, now_s)
            self._rosters.move_to_end(sighting.info_hash)
            self._put(roster, key, sighting, now_s)
        if roster is None:
            return Sample(Counts())
        v4, v6 = roster.sample(key, sighting.wanted, with_seeds=not sighting.is_seed)
        peer_ids = roster.peer_ids(v4, V4_BYTES) + roster.peer_ids(v6, V6_BYTES) if with_ids else ()
        return Sample(_counts(roster), v4, v6, tuple(peer_ids))

    def scrape(self, info_hashes: tuple[bytes, ...], now_s: float) -> dict[bytes, Counts]:
        """How these swarms stand. BEP 48 does not say what an unknown one is: zeros, as in BEP 15."""
        return {info_hash: _counts(self._roster(info_hash, now_s)) for info_hash in info_hashes}

    def _roster(self, info_hash: bytes, now_s: float) -> Roster | None:
        """The swarm without those who have fallen silent."""
        roster, _ = self._rosters.get(info_hash, (None, 0.0))
        if roster is not None:
            before = len(roster)
            roster.forget_silent(now_s - self._lifetime_s)
            self._members += len(roster) - before
        return roster

    def _put(self, roster: Roster, key: bytes, sighting: Sighting, now_s: float) -> None:
        before = len(roster)
        if not roster.knows(key):
            self._make_room(roster, key)
        roster.put(key, sighting.peer_id, is_seed=sighting.is_seed, now_s=now_s)
        if sighting.event == "completed":
            roster.completed(key)
        self._members += len(roster) - before

    def _make_room(self, roster: Roster, key: bytes) -> None:
        of_host = roster.of_host(key)
        crowded = of_host >= self._limits.members_a_host and not is_local(key)
        if crowded or len(roster) >= self._limits.members_a_swarm:
            roster.evict(key)
        elif self._members >= self._limits.members:
            if not of_host:
                raise RegistryFull("this conductor has no room for another member")
            roster.evict(key)

    def _found(self, info_hash: bytes, host: bytes) -> Roster:
        """A new swarm; when there are too many, in place of one that this host has for itself."""
        if len(self._rosters) >= self._limits.swarms:
            candidates = itertools.islice(self._founded.get(host, ()), _CANDIDATES)
            own = [old for old in candidates if self._rosters[old][0].is_only_of(host)]
            if not own:
                raise RegistryFull("this conductor has no room for another composition")
            self._drop(self._rng.choice(own))
        self._founded.setdefault(host, {})[info_hash] = None
        return Roster(host, self._rng)

    def _forget_swarms(self, now_s: float) -> None:
        while self._rosters:
            info_hash, (_, announced_s) = next(iter(self._rosters.items()))
            if announced_s >= now_s - self._lifetime_s:
                return
            self._drop(info_hash)

    def _drop(self, info_hash: bytes) -> None:
        roster, _ = self._rosters.pop(info_hash)
        self._members -= len(roster)
        founded = self._founded[roster.founder]
        del founded[info_hash]
        if not founded:
            del self._founded[roster.founder]


def _counts(roster: Roster | None) -> Counts:
    if roster is None:
        return Counts()
    return Counts(roster.count(seeds=True), roster.count(seeds=False), roster.downloaded)
