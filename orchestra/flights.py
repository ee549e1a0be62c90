"""The parts on their way: who was to bring each, and what becomes of it when a peer fails.

Pure; owned by Downloads, which asks for blocks and takes them in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from orchestra.flight import Flight
from orchestra.geometry import Geometry, neighbours
from orchestra.peer import Peer
from orchestra.picker import PartState, Picker

NOBODY = 0
"""A key that no peer has."""

HAND_OVER_S = 0.25
"""After so long an idle peer takes over what another one was asked for and has not begun to send."""
ANSWER_S = 1.0
"""How long to wait for what a peer says to that, before another one is asked all the same."""


class Flights:
    """Every part in flight or being checked, and its flight.

    `forget` is called with a part of which the blocks written so far do not count.
    """

    def __init__(
        self, geometry: Geometry, picker: Picker, peers: dict[int, Peer], forget: Callable[[int], None]
    ) -> None:
        self._geometry = geometry
        self._picker = picker
        self._peers = peers
        self._forget = forget
        self._of_part: dict[int, Flight] = {}
        self.orphans: list[Flight] = []
        """Flights that lack blocks and belong to nobody."""
        self.disputed: set[int] = set()
        """Parts that were wrong, and nobody knows whose fault it was: they must come from one peer whole."""
        self.asked_twice: set[int] = set()
        """Blocks that were asked of a second peer as well, and have not come: no others are owed by two."""

    def of(self, key: int) -> Flight:
        """The flight of a block that is owed to us."""
        return self._of_part[self._geometry.part_of(key)]

    def all(self) -> Iterable[Flight]:
        """Each flight once, however many small parts it has; always in the same order."""
        return dict.fromkeys(self._of_part.values())

    def open_parts(self, flight: Flight) -> list[int]:
        """Its parts that were not judged yet."""
        return [index for index in flight.parts if self._of_part.get(index) is flight]

    def begin(self, parts: range, owner: int) -> Flight:
        """Neighbouring parts, picked just now, are to come from the peer `owner`."""
        first = self._geometry.key(parts.start, 0)
        end = self._geometry.key(parts.stop - 1, 0) + self._geometry.part_blocks(parts.stop - 1)
        flight = Flight(parts, owner, first, end, end - first)
        self._of_part.update(dict.fromkeys(parts, flight))
        return flight

    def resume(self, index: int, runs: list[tuple[int, int]]) -> None:
        """Part `index` was on its way when we stopped last: all but one block or more is on disk, unverified.

        `runs`: whole blocks, as (begin in the part, length). They are nobody's: should the part be wrong, it
        has no single author.
        """
        self._picker.mark_begun(index)
        first = self._geometry.key(index, 0)
        end = first + self._geometry.part_blocks(index)
        held: set[int] = set()
        for begin, length in runs:
            offset = index * self._geometry.part_size_bytes + begin
            held.update(self._geometry.run_keys(offset, length) or ())
        lacking = [key for key in range(first, end) if key not in held]
        parts = range(index, index + 1)
        flight = Flight(parts, None, end, end, len(lacking))
        flight.returned = lacking
        flight.sources.add(NOBODY)
        self._of_part[index] = flight
        self.orphans.append(flight)

    def arrived(self, keys: range, source: int) -> None:
        """The peer `source` has sent these blocks, which it owed us."""
        key = keys.start
        while key < keys.stop:
            flight = self.of(key)
            stop = min(flight.end, keys.stop)
            if flight.pierced:
                stop = min(stop, self._geometry.key(self._geometry.part_of(key) + 1, 0))
            flight.sources.add(source)
            flight.waiting -= stop - key
            if flight.waiting == 0:
                for parts in neighbours(self.open_parts(flight)):
                    self._picker.mark_checking(parts)
                flight.owner = None
                if flight in self.orphans:
                    self.orphans.remove(flight)
            elif flight.recalled_at_s:
                self.settle(flight)
            key = stop

    def untouched(self, flight: Flight) -> bool:
        """True when one peer owes us all of it that was asked for, and nothing has come."""
        if flight.owner is None or flight.sources or flight.returned:
            return False
        asked = range(self._geometry.key(flight.parts.start, 0), flight.unasked)
        return self._peers[flight.owner].outstanding.issuperset(asked)

    def settle(self, flight: Flight) -> None:
        """A recalled flight moves to another peer if its owner has answered for all of it, and sent none."""
        assert flight.owner is not None
        owner = self._peers[flight.owner]
        asked = self.asked(flight)
        if not owner.outstanding.isdisjoint(asked):
            return
        flight.recalled_at_s = 0.0
        taker = self._peers.get(flight.recalled_for)
        free = taker is not None and not taker.closing and all(map(taker.gives, flight.parts))
        if flight.sources:
            owner.to_ask.append(flight)
        elif taker is not None and free and not self._owed_among(asked):
            flight.returned.clear()
            self.move(flight, taker)
        else:
            self._abandon(flight)

    def move(self, flight: Flight, taker: Peer) -> None:
        """`taker` is to be asked for all of a flight of which nothing has come, and which nobody owes us."""
        flight.unasked = self._geometry.key(flight.parts.start, 0)
        flight.asked_at_s = flight.recalled_at_s = 0.0
        flight.moves += 1
        flight.owner = taker.key
        taker.to_ask.append(flight)
        # Also if it is asked for nothing now: it must be released when that peer leaves.
        taker.engaged = True

    def longest_waiting(self, taker: Peer, now_s: float) -> Flight | None:
        """What was asked of another peer longest ago, has waited long enough, and `taker` could give instead.

        Nothing of it has come, and nothing was asked of a second peer.
        """
        best: Flight | None = None
        before_s = now_s - HAND_OVER_S
        # One of several parts is looked at several times, which is quicker than to find out.
        for flight in self._of_part.values():
            if flight.asked_at_s > before_s or flight.owner is None or flight.sources:
                continue
            # Twice as long each time: what is taken from one queue to the end of the next one never comes.
            due_s = flight.asked_at_s + HAND_OVER_S * 2**flight.moves
            if flight.recalled_at_s:
                due_s = flight.recalled_at_s + ANSWER_S
            if now_s < due_s or (best and best.asked_at_s <= flight.asked_at_s):
                continue
            parts = flight.parts
            if not taker.gives(parts[0]) or (len(parts) > 1 and not all(map(taker.gives, parts))):
                continue
            if not self.untouched(flight):
                continue
            if self.asked_twice.isdisjoint(range(self._geometry.key(flight.parts.start, 0), flight.end)):
                best = flight
        return best

    def asked(self, flight: Flight) -> list[int]:
        """Its blocks that were asked for."""
        return list(range(self._geometry.key(flight.parts.start, 0), flight.unasked))

    # Results of the check

    def good(self, indices: list[int]) -> None:
        """These parts are on disk, and right."""
        for index in indices:
            del self._of_part[index]
        for parts in neighbours(indices):
            self._picker.mark_arrived(parts)
        self.disputed.difference_update(indices)

    def bad(self, index: int) -> int | None:
        """Part `index` is wrong, and missing again; the peer that sent all of it, None when several did."""
        flight = self._of_part.pop(index)
        flight.pierced = True
        self._picker.mark_missing(index)
        if len(flight.sources) == 1:
            return next(iter(flight.sources))
        self.disputed.add(index)
        return None

    # Losing

    def owed(self) -> set[int]:
        """The blocks that peers owe us."""
        return set().union(*(peer.outstanding for peer in self._peers.values()))

    def _owed_among(self, keys: Iterable[int]) -> set[int]:
        """Those of `keys` that peers owe us."""
        asked = set(keys)
        owed: set[int] = set()
        if not asked:
            return owed
        for peer in self._peers.values():
            if peer.outstanding and not asked.isdisjoint(peer.outstanding):
                owed |= asked & peer.outstanding
        return owed

    def owed_of_disputed(self, peer: Peer) -> list[int]:
        """The blocks of disputed parts that `peer` owes us."""
        return sorted(key for key in peer.outstanding if self._geometry.part_of(key) in self.disputed)

    def withdraw(self, peer: Peer, keys: list[int]) -> None:
        """`peer` does not owe us these any more: they may be asked of others, if nobody owes them."""
        peer.outstanding.difference_update(keys)
        owed = self._owed_among(self.asked_twice.intersection(keys))
        ownerless: dict[Flight, None] = {}
        for key in keys:
            flight = self.of(key)
            if key not in owed:
                flight.returned.append(key)
                if flight.owner is None:
                    ownerless[flight] = None
                elif flight.owner != peer.key:
                    self._peers[flight.owner].to_ask.append(flight)
        for flight in ownerless:
            self.orphans.remove(flight)
            self._abandon(flight)

    def release(self, peer: Peer) -> None:
        """Others may go on with what `peer` has begun; what it owes us, it still owes."""
        peer.to_ask.clear()
        # In a fixed order, so that the same seed gives the same swarm.
        for flight in [flight for flight in self.all() if flight.owner == peer.key]:
            self._abandon(flight)

    def _abandon(self, flight: Flight) -> None:
        """A flight has no owner, and ends as one: there may be no other peer that has all of it.

        Each of its parts is missing again if nothing of it came or is to come, else others may go on
        with it.
        """
        flight.owner = None
        flight.recalled_at_s = 0.0
        elsewhere = self._owed_among(range(self._geometry.key(flight.parts.start, 0), flight.end))
        owed = Counter(map(self._geometry.part_of, elsewhere))
        returned: dict[int, list[int]] = {}
        for key in flight.returned:
            returned.setdefault(self._geometry.part_of(key), []).append(key)
        for index in self.open_parts(flight):
            first = self._geometry.key(index, 0)
            end = first + self._geometry.part_blocks(index)
            unasked = min(max(flight.unasked, first), end)
            back = returned.get(index, [])
            waiting = owed[index] + len(back) + end - unasked
            came = waiting < end - first
            if waiting and not owed[index] and (not came or index in self.disputed):
                del self._of_part[index]
                self._picker.mark_missing(index)
                if came:
                    # It must come from one peer whole: what came of it does not count.
                    self._forget(index)
                continue
            rest = Flight(range(index, index + 1), None, unasked, end, waiting)
            rest.returned = back
            if came:
                rest.sources.update(flight.sources)
            self._of_part[index] = rest
            if waiting:
                self.orphans.append(rest)
            else:
                self._picker.mark_checking(range(index, index + 1))

    def unsound(self) -> str:
        """What is wrong with the bookkeeping, empty when nothing: tests ask after each event."""
        moving = (PartState.IN_FLIGHT, PartState.CHECKING)
        for index in range(self._geometry.parts):
            if (self._picker.state(index) in moving) != (index in self._of_part):
                return f"part {index} is {self._picker.state(index).name}, flight {self._of_part.get(index)}"
        owers = Counter(key for peer in self._peers.values() for key in peer.outstanding)
        if owed_twice := {key for key, number in owers.items() if number > 1} - self.asked_twice:
            return f"blocks {sorted(owed_twice)} are owed by two"
        owed_of = Counter(map(self.of, self.owed()))
        for flight in self._of_part.values():
            owing = owed_of[flight]
            if flight.waiting != owing + len(flight.returned) + flight.end - flight.unasked:
                return f"{flight} with {owing} blocks owed"
            if flight.owner is None and flight.waiting and flight not in self.orphans:
                return f"{flight} belongs to nobody"
            if flight.owner is not None and flight.askable and not flight.recalled_at_s:
                owner = self._peers.get(flight.owner)
                if owner is None or flight not in owner.to_ask:
                    return f"{flight} will never be asked for"
        return ""
