"""Who shares what: all swarms of a conductor, within fixed bounds.

Pure; owned by the tracker, which lets in one caller at a time; time comes as an
argument (monotonic seconds). Front ends (HTTP now) know nothing of how it is
kept, and a shared store can take its place: it has to answer `announce` and
`scrape`, one round trip each.

Rules: a member is an address and a peer id. "stopped" removes the member only
when both match, so that nobody removes another. Who is silent for a lifetime
is forgotten; so is a swarm. There are two lifetimes: clients that announce
seldom whatever they are asked need a longer one. Whoever fills a table loses
its own entries first, and no network (census.py) may have more than a share of
it: to keep newcomers out takes ten of them.
"""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from typing import NamedTuple

from netutils import Address, pack_peers
from orchestra.announcereply import Counts
from orchestra.census import V4_BYTES, V6_BYTES, Census, is_local, network_of
from orchestra.roster import Roster

_CANDIDATES = 8


class Limits(NamedTuple):
    """How much a registry holds, in all and of one network. This machine may have as much of it as it wants.

    In one swarm, an IPv4 address may have `members_a_v4_network` members, and an
    IPv6 network `members_a_v6_network`: a whole LAN speaks from one.
    """

    swarms: int = 10_000
    swarms_a_network: int = 1_000
    members: int = 100_000
    members_of_a_network: int = 10_000
    members_a_swarm: int = 5_000
    members_a_v4_network: int = 20
    members_a_v6_network: int = 100


class Sighting(NamedTuple):
    """A member has spoken.

    `address` is where it speaks from, with the port that it listens on; `wanted`
    is how many others it gets at most. With `listed` false it gets them, but is
    not put down itself. With `slow` it has the longer lifetime.
    """

    info_hash: bytes
    peer_id: bytes
    address: Address
    is_seed: bool
    event: str = ""
    wanted: int = 0
    listed: bool = True
    slow: bool = False


class Sample(NamedTuple):
    """How the swarm stands, and some others of it: packed addresses, and their peer ids, IPv4 first."""

    counts: Counts
    v4: bytes = b""
    v6: bytes = b""
    peer_ids: tuple[bytes, ...] = ()


class RegistryFull(Exception):
    """There is no room for another swarm, or another member."""


class Registry:
    """All swarms.

    `lifetime_s`: after how long a silence a member is forgotten; `slow_lifetime_s`: a slow one, or a swarm.
    """

    def __init__(
        self,
        lifetime_s: float,
        *,
        slow_lifetime_s: float | None = None,
        limits: Limits | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._lifetime_s = lifetime_s
        self._slow_lifetime_s = lifetime_s if slow_lifetime_s is None else max(lifetime_s, slow_lifetime_s)
        self._limits = limits or Limits()
        self._rng = rng or random.Random()  # noqa: S311 - whom to meet is no secret
        # The swarm that was announced longest ago comes first: all of its members are as old or older.
        self._rosters: OrderedDict[bytes, tuple[Roster, float]] = OrderedDict()
        self._founded: dict[bytes, dict[bytes, None]] = {}
        self._census = Census()

    def __len__(self) -> int:
        """How many members there are, in all swarms together."""
        return self._census.total

    def announce(self, sighting: Sighting, now_s: float, *, with_ids: bool = False) -> Sample:
        """Put the member down (or remove it: "stopped"), and return some others. Raises RegistryFull."""
        self._forget_swarms(now_s)
        v4, v6 = pack_peers([sighting.address])
        key = v4 or v6
        roster = self._roster(sighting.info_hash, now_s)
        if sighting.event == "stopped":
            if roster is not None and roster.knows(key, sighting.peer_id):
                roster.remove(key)
            return Sample(_counts(roster))
        if sighting.listed:
            if roster is None:
                roster = self._found(sighting.info_hash, key)
            self._rosters[sighting.info_hash] = (roster, now_s)
            self._rosters.move_to_end(sighting.info_hash)
            self._put(roster, key, sighting, now_s)
        if roster is None:
            return Sample(Counts())
        # A newcomer may meet anybody. Who asks again lacks something still, and those around may all lack it.
        seeds_first = sighting.event == ""
        v4, v6 = roster.sample(key, sighting.wanted, with_seeds=not sighting.is_seed, seeds_first=seeds_first)
        peer_ids = roster.peer_ids(v4, V4_BYTES) + roster.peer_ids(v6, V6_BYTES) if with_ids else ()
        return Sample(_counts(roster), v4, v6, tuple(peer_ids))

    def scrape(self, info_hashes: tuple[bytes, ...], now_s: float) -> dict[bytes, Counts]:
        """How these swarms stand. BEP 48 does not say what an unknown one is: zeros, as in BEP 15."""
        return {info_hash: _counts(self._roster(info_hash, now_s)) for info_hash in info_hashes}

    def _roster(self, info_hash: bytes, now_s: float) -> Roster | None:
        """The swarm without those who have fallen silent."""
        roster, _ = self._rosters.get(info_hash, (None, 0.0))
        if roster is not None:
            roster.forget_silent(now_s - self._lifetime_s, slow=False)
            roster.forget_silent(now_s - self._slow_lifetime_s, slow=True)
        return roster

    def _put(self, roster: Roster, key: bytes, sighting: Sighting, now_s: float) -> None:
        if not roster.knows(key):
            self._make_room(roster, key)
        roster.put(key, sighting.peer_id, is_seed=sighting.is_seed, slow=sighting.slow, now_s=now_s)
        if sighting.event == "completed":
            roster.completed(key)

    def _make_room(self, roster: Roster, key: bytes) -> None:
        """Forget a member where one too many would be: of the same network, or of anyone in a full swarm."""
        limits, network = self._limits, network_of(key)
        own = roster.of_network(network)
        most_own = limits.members_a_v4_network if len(key) == V4_BYTES else limits.members_a_v6_network
        greedy = not is_local(key) and self._census.of_network(network) >= limits.members_of_a_network
        crowded = not is_local(key) and own >= most_own
        swarm_full = len(roster) >= limits.members_a_swarm
        if greedy or crowded or swarm_full or self._census.total >= limits.members:
            if not own and (greedy or not swarm_full):
                raise RegistryFull("this conductor has no room for another member")
            roster.evict(key)

    def _found(self, info_hash: bytes, key: bytes) -> Roster:
        """A new swarm; where there would be too many, in place of one that this network has for itself."""
        network = network_of(key)
        own = self._founded.get(network, {})
        greedy = not is_local(key) and len(own) >= self._limits.swarms_a_network
        if greedy or len(self._rosters) >= self._limits.swarms:
            candidates = itertools.islice(own, _CANDIDATES)
            unshared = [old for old in candidates if self._rosters[old][0].is_only_of(network)]
            if not unshared:
                raise RegistryFull("this conductor has no room for another composition")
            self._drop(self._rng.choice(unshared))
        self._founded.setdefault(network, {})[info_hash] = None
        return Roster(network, self._census, self._rng)

    def _forget_swarms(self, now_s: float) -> None:
        while self._rosters:
            info_hash, (_, announced_s) = next(iter(self._rosters.items()))
            if announced_s >= now_s - self._slow_lifetime_s:
                return
            self._drop(info_hash)

    def _drop(self, info_hash: bytes) -> None:
        roster, _ = self._rosters.pop(info_hash)
        roster.dissolve()
        founded = self._founded[roster.founder]
        del founded[info_hash]
        if not founded:
            del self._founded[roster.founder]


def _counts(roster: Roster | None) -> Counts:
    if roster is None:
        return Counts()
    return Counts(roster.count(seeds=True), roster.count(seeds=False), roster.downloaded)
