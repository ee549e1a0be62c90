"""The members of one swarm, kept so that a reply is a copy of a few bytes.

Pure; owned by the registry; time and randomness are given. A member is known
by its packed address: IPv4 and port (6 bytes, BEP 23) or IPv6 and port (18
bytes, BEP 7). Members of one kind (family, on this machine or not, seed or
not) stand in one packed array, in random order because each newcomer is put at
a random place: so any run of neighbours is a fair sample, and costs one slice,
however large the swarm is. Members that fall silent are found at the front of
a dictionary ordered by when they last spoke, one for the slow and one for the
others: no sweep.
"""

from __future__ import annotations

import random
from collections import OrderedDict

from orchestra.census import V4_BYTES, V6_BYTES, Census, is_local, network_of

_Kind = tuple[int, bool, bool]
"""Bytes of an entry, on this machine?, seed?"""


class _Member:
    __slots__ = ("has_completed", "index", "kind", "peer_id", "seen_s", "slow")

    def __init__(
        self,
        peer_id: bytes,
        kind: _Kind,
        index: int,
        slow: bool,
        seen_s: float,
        has_completed: bool = False,
    ) -> None:
        self.peer_id = peer_id
        self.kind = kind
        self.index = index
        self.slow = slow
        self.seen_s = seen_s
        self.has_completed = has_completed


class Roster:
    """One swarm. `founder` is the network that first announced it; `census` hears who comes and goes."""

    def __init__(self, founder: bytes, census: Census, rng: random.Random) -> None:
        self.founder = founder
        self.downloaded = 0
        self._census = census
        self._rng = rng
        self._members: dict[bytes, _Member] = {}
        self._silence: dict[bool, OrderedDict[bytes, _Member]] = {False: OrderedDict(), True: OrderedDict()}
        self._arrays: dict[_Kind, bytearray] = {}
        self._by_network: dict[bytes, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def put(self, key: bytes, peer_id: bytes, *, is_seed: bool, slow: bool, now_s: float) -> None:
        """A member is here, as a seed or not. Another peer id at the same address is another member."""
        member = self._members.get(key)
        kind = (len(key), is_local(key), is_seed)
        if member is not None and (member.peer_id, member.kind, member.slow) == (peer_id, kind, slow):
            member.seen_s = now_s
            self._silence[slow].move_to_end(key)
            return
        has_completed = member is not None and member.peer_id == peer_id and member.has_completed
        if member is not None:
            self.remove(key)
        member = _Member(peer_id, kind, self._insert(key, kind), slow, now_s, has_completed)
        self._members[key] = self._silence[slow][key] = member
        self._by_network.setdefault(network_of(key), []).append(key)
        self._census.add(key)

    def completed(self, key: bytes) -> None:
        """That member has just completed its download; counts once."""
        member = self._members.get(key)
        if member is not None and not member.has_completed:
            member.has_completed = True
            self.downloaded += 1

    def knows(self, key: bytes, peer_id: bytes | None = None) -> bool:
        """Whether there is a member at that address (with that peer id)."""
        member = self._members.get(key)
        return member is not None and peer_id in (None, member.peer_id)

    def remove(self, key: bytes) -> None:
        """Forget the member at that address."""
        member = self._members.pop(key)
        del self._silence[member.slow][key]
        self._census.remove(key)
        array, width = self._arrays[member.kind], member.kind[0]
        last = bytes(array[-width:])
        del array[-width:]
        if last != key:
            self._place(array, last, member.index)
        keys = self._by_network[network_of(key)]
        keys.remove(key)
        if not keys:
            del self._by_network[network_of(key)]

    def forget_silent(self, before_s: float, *, slow: bool) -> None:
        """Forget all of the slow, or of the others, who were last heard before that time."""
        members = self._silence[slow]
        while members:
            key, member = next(iter(members.items()))
            if member.seen_s >= before_s:
                return
            self.remove(key)

    def dissolve(self) -> None:
        """The swarm is given up: its members count no more."""
        for key in self._members:
            self._census.remove(key)

    def of_network(self, network: bytes) -> int:
        """How many members speak from that network."""
        return len(self._by_network.get(network, ()))

    def evict(self, key: bytes) -> None:
        """Forget a random member to make room for `key`: of its own network if there is one, else any."""
        own = self._by_network.get(network_of(key))
        self.remove(self._rng.choice(own) if own else self._any())

    def is_only_of(self, network: bytes) -> bool:
        """Whether nobody but this network is in it."""
        return not self._by_network or (len(self._by_network) == 1 and network in self._by_network)

    def count(self, *, seeds: bool) -> int:
        """How many seeds, or other members."""
        return sum(len(array) // kind[0] for kind, array in self._arrays.items() if kind[2] == seeds)

    def sample(
        self, asker: bytes, wanted: int, *, with_seeds: bool, seeds_first: bool = False
    ) -> tuple[bytes, bytes]:
        """At most `wanted` random others, as packed IPv4 and IPv6 addresses.

        With `seeds_first` half of them are seeds, or all seeds where there are fewer.
        A quarter goes to the other family than the asker's, if it has as many;
        members on this machine are for askers on this machine: elsewhere their
        address means somebody else.
        """
        own, other = (V4_BYTES, V6_BYTES) if len(asker) == V4_BYTES else (V6_BYTES, V4_BYTES)
        sizes = {width: self._sizes(width, asker, with_seeds=with_seeds) for width in (own, other)}
        own_size, other_size = sum(sizes[own].values()), sum(sizes[other].values())
        other_share = min(other_size, max(wanted // 4, wanted - own_size))
        shares = {own: min(own_size, wanted - other_share), other: other_share}
        draw = self._draw_seeds_first if seeds_first else self._draw
        packed = {width: draw(sizes[width], shares[width], asker) for width in (own, other)}
        return packed[V4_BYTES], packed[V6_BYTES]

    def peer_ids(self, packed: bytes, width: int) -> list[bytes]:
        """The peer ids of the members in a packed list of entries of that width."""
        keys = (packed[at : at + width] for at in range(0, len(packed), width))
        return [self._members[key].peer_id for key in keys]

    def _insert(self, key: bytes, kind: _Kind) -> int:
        """Put `key` at a random place of its array; who stood there goes to the end."""
        array = self._arrays.setdefault(kind, bytearray())
        end = len(array) // kind[0]
        index = self._rng.randrange(end + 1)
        array += key
        if index != end:
            displaced = bytes(array[index * kind[0] : (index + 1) * kind[0]])
            self._place(array, displaced, end)
            array[index * kind[0] : (index + 1) * kind[0]] = key
        return index

    def _place(self, array: bytearray, key: bytes, index: int) -> None:
        array[index * len(key) : (index + 1) * len(key)] = key
        self._members[key].index = index

    def _any(self) -> bytes:
        index = self._rng.randrange(len(self._members))
        for (width, _, _), array in self._arrays.items():
            size = len(array) // width
            if index < size:
                return bytes(array[index * width : (index + 1) * width])
            index -= size
        raise AssertionError("the arrays hold as many as the dictionary")

    def _sizes(self, width: int, asker: bytes, *, with_seeds: bool) -> dict[_Kind, int]:
        """Of each kind that the asker may have, how many others there are."""
        sizes = {}
        asker_kind = self._members[asker].kind if asker in self._members else None
        for kind, array in self._arrays.items():
            if kind[0] == width and (is_local(asker) or not kind[1]) and (with_seeds or not kind[2]):
                sizes[kind] = len(array) // width - (kind == asker_kind)
        return sizes

    def _draw(self, sizes: dict[_Kind, int], share: int, asker: bytes) -> bytes:
        """`share` others, from each kind in proportion to its size."""
        drawn, left = b"", sum(sizes.values())
        for kind, size in sizes.items():
            if share <= 0:
                break
            exact = share * size / left if left else 0.0
            count = int(exact) + (self._rng.random() < exact % 1)
            count = max(share - (left - size), min(count, size, share))
            drawn += self._slice(kind, count, asker)
            share, left = share - count, left - size
        return drawn

    def _draw_seeds_first(self, sizes: dict[_Kind, int], share: int, asker: bytes) -> bytes:
        seeds = {kind: size for kind, size in sizes.items() if kind[2]}
        others = {kind: size for kind, size in sizes.items() if not kind[2]}
        number = min(sum(seeds.values()), max((share + 1) // 2, share - sum(others.values())))
        return self._draw(seeds, number, asker) + self._draw(others, share - number, asker)

    def _slice(self, kind: _Kind, count: int, asker: bytes) -> bytes:
        """A run of `count` neighbours at a random place, without the asker."""
        array, width = self._arrays[kind], kind[0]
        size = len(array) // width
        member = self._members.get(asker)
        skipped = member.index if member is not None and member.kind == kind else None
        begin = self._rng.randrange(size) if size else 0
        run = count + (skipped is not None)
        end = begin + run
        packed = bytes(array[begin * width : end * width])
        if end > size:
            packed += array[: (end - size) * width]
        if skipped is not None:
            at = (skipped - begin) % size
            cut = at if at < run else run - 1
            packed = packed[: cut * width] + packed[(cut + 1) * width :]
        return packed
