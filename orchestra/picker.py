"""Which part to fetch next: the rarest that a peer can give (BEP 3).

Pure; owned by the orchestrator. A part is in exactly one PartState, and
only the methods here move it. MISSING parts stand in
buckets by how many partial peers have them, each part knowing its place in its
bucket, so that a count changes and a part is taken in constant time. Peers
that have everything say nothing about rarity and are not counted.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable
from enum import IntEnum

from orchestra.bitfield import Bitfield

PROBES = 48
"""Random tries in one bucket before the sure but slower way of `_pick_by_sets`."""
SETS_FIRST_PARTS = 65_536
"""Up to so many parts it is quicker to ask the sets first whether there is anything to find."""


class PartState(IntEnum):
    """Where a part stands. MISSING -> IN_FLIGHT -> CHECKING -> HAVE, or back to MISSING.

    LOST is what has gone bad on disk, until it may be written anew: then it is MISSING. GONE is what has gone
    bad in a file that is the user's already: it will not come anew.
    """

    MISSING = 0
    IN_FLIGHT = 1
    CHECKING = 2
    HAVE = 3
    LOST = 4
    GONE = 5


MISSING = int(PartState.MISSING)


class Picker:
    """The state of every part, and the choice among the missing ones.

    `extent_parts` parts that follow one another are picked together where they
    can be: with small parts one pick then serves a whole buffer. `in_order`
    asks for the first missing part instead of a random one among the rarest:
    for a lone downloader, whose disk and whole-file hash prefer it.
    """

    def __init__(self, parts: int, rng: random.Random, *, extent_parts: int = 1) -> None:
        self.parts = parts
        self.have = Bitfield(parts)
        self.in_order = False
        self._rng = rng
        self._extent_parts = max(1, extent_parts)
        self._states = bytearray(parts)
        # What the buckets hold, once more: whether a peer has any of it is asked each time that it speaks.
        self._missing = Bitfield.full(parts)
        self._availability = array("H", bytes(2 * parts))
        self._buckets = [array("I", range(parts))]
        self._places = array("I", range(parts))
        self._first_missing = 0
        self._gone = 0
        self.returned = 0
        """How often a part has become missing again. Until the next time, who has nothing gets nothing."""

    # The state of parts

    def state(self, index: int) -> PartState:
        """Where part `index` stands."""
        return PartState(self._states[index])

    @property
    def missing(self) -> int:
        """Parts that nobody has been asked for."""
        return self._missing.count

    @property
    def wants_nothing(self) -> bool:
        """True when there is nothing to fetch: we have all, or what we lack is GONE."""
        return self.have.count + self._gone == self.parts

    def mark_lost(self, index: int) -> None:
        """A part that we had is not right any more, but somebody may be about to read it."""
        self.have.remove(index)
        self._states[index] = PartState.LOST

    def mark_gone(self, index: int) -> None:
        """A part that we had is not right any more, and nobody may write it."""
        self.have.remove(index)
        self._states[index] = PartState.GONE
        self._gone += 1

    def mark_begun(self, index: int) -> None:
        """Some of a part was found on disk, not verified: it is IN_FLIGHT."""
        self._take(range(index, index + 1))

    def mark_have(self, index: int) -> None:
        """A part was found on disk, and verified."""
        if self._states[index] == MISSING:
            self._missing.remove(index)
            self._leave_bucket(index)
        self._states[index] = PartState.HAVE
        self.have.add(index)

    def mark_arrived(self, parts: range) -> None:
        """Neighbouring parts that were in flight were verified and are on disk."""
        self._move(parts, PartState.HAVE)
        self.have.add_all(parts)

    def mark_checking(self, parts: range) -> None:
        """All blocks of neighbouring parts that were in flight have arrived."""
        self._move(parts, PartState.CHECKING)

    def mark_missing(self, index: int) -> None:
        """A part in flight was given up, a checked one was wrong, or a lost one may be written anew."""
        if self._states[index] != PartState.MISSING:
            self.have.remove(index)
            self._states[index] = PartState.MISSING
            self.returned += 1
            self._first_missing = min(self._first_missing, index)
            self._missing.add(index)
            self._enter_bucket(index)

    # What peers have

    def count_peer(self, have: Bitfield) -> None:
        """A partial peer came: each of its parts is less rare by one."""
        self.count_parts(have.indices())

    def discount_peer(self, have: Bitfield) -> None:
        """A counted peer left."""
        states, availability = self._states, self._availability
        for index in have.indices():
            if states[index] == MISSING:
                self._change_availability(index, -1)
            else:
                availability[index] -= 1

    def count_parts(self, indices: list[int]) -> bool:
        """A counted peer got these parts; True when one of them is missing."""
        states, availability = self._states, self._availability
        some_missing = False
        for index in indices:
            if states[index] == MISSING:
                some_missing = True
                self._change_availability(index, 1)
            else:
                availability[index] += 1
        return some_missing

    def discount_part(self, index: int) -> None:
        """A counted peer has one part less."""
        if self._states[index] == MISSING:
            self._change_availability(index, -1)
        else:
            self._availability[index] -= 1

    def availability(self, index: int) -> int:
        """How many counted peers have part `index`."""
        return self._availability[index]

    # Picking

    def pick(self, have: Bitfield) -> range:
        """Take the rarest missing part of `have`, and its like neighbours: they are IN_FLIGHT now.

        Empty when the peer has nothing that is missing.
        """
        first = self._first_in_order(have) if self.in_order else self._rarest(have)
        return range(0) if first is None else self._take(range(first, first + self._alike(first, have)))

    def pick_among(self, few: Iterable[int], have: Bitfield) -> range:
        """Take the rarest missing part of `have` that is among `few`, alone; empty when there is none."""
        missing = [index for index in few if self._states[index] == MISSING and index in have]
        if not missing:
            return range(0)
        rarity = min(map(self.availability, missing))
        chosen = self._rng.choice([index for index in missing if self.availability(index) == rarity])
        return self._take(range(chosen, chosen + 1))

    def _take(self, taken: range) -> range:
        self._missing.remove_all(taken)
        for index in taken:
            self._leave_bucket(index)
        self._move(taken, PartState.IN_FLIGHT)
        return taken

    def _move(self, parts: range, state: PartState) -> None:
        self._states[parts.start : parts.stop] = bytes((state,)) * len(parts)

    def _alike(self, first: int, have: Bitfield) -> int:
        """How many parts from `first` on, up to an extent, are missing, as rare as it, and in `have`."""
        end = min(first + self._extent_parts, self.parts)
        states, rarities = self._states[first:end], self._availability[first:end]
        count = len(states) - len(states.lstrip(bytes((MISSING,))))
        rarity, complete = rarities[0], have.complete
        for number in range(1, count):
            if rarities[number] != rarity or not (complete or first + number in have):
                return number
        return count

    def _first_in_order(self, have: Bitfield) -> int | None:
        missing = self._states.find(PartState.MISSING, self._first_missing)
        if missing < 0:
            return None
        self._first_missing = missing
        while missing >= 0 and missing not in have:
            missing = self._states.find(PartState.MISSING, missing + 1)
        return missing if missing >= 0 else None

    def _rarest(self, have: Bitfield) -> int | None:
        complete = have.complete
        if not complete and self.parts <= SETS_FIRST_PARTS and not self._missing.meets(have):
            # A peer that speaks of something else has mostly nothing new.
            return None
        for bucket in self._buckets:
            if not bucket:
                continue
            if complete:
                return bucket[int(self._rng.random() * len(bucket))]
            for _ in range(min(PROBES, 2 * len(bucket))):
                index = bucket[int(self._rng.random() * len(bucket))]
                if index in have:
                    return index
        return self._pick_by_sets(have)

    def _pick_by_sets(self, have: Bitfield) -> int | None:
        """Any part that is missing and the peer has: finds one whenever there is one."""
        candidates = self._missing.as_integer() & have.as_integer()
        if not candidates:
            return None
        # A random place to start, so that two members in the same state do not choose the same part.
        low = candidates & ((1 << self._rng.randrange(1, have.width + 1)) - 1)
        chosen = low or candidates
        return have.width - chosen.bit_length()

    def _change_availability(self, index: int, change: int) -> None:
        """Of a part that is missing, and so stands in a bucket."""
        self._leave_bucket(index)
        self._availability[index] += change
        self._enter_bucket(index)

    def _leave_bucket(self, index: int) -> None:
        bucket = self._buckets[self._availability[index]]
        place = self._places[index]
        last = bucket.pop()
        if last != index:
            bucket[place] = last
            self._places[last] = place

    def _enter_bucket(self, index: int) -> None:
        rarity = self._availability[index]
        while rarity >= len(self._buckets):
            self._buckets.append(array("I"))
        bucket = self._buckets[rarity]
        self._places[index] = len(bucket)
        bucket.append(index)
