"""What to ask of whom: parts in flight, requests outstanding, end game, blame.

Pure; owned by the orchestrator. A part is fetched from one peer at a time, so
that a wrong one has one author. A peer that leaves or stalls gives its blocks
back at once; the part then goes on with another peer, and if it turns out
wrong, it is fetched again from a single one, who then answers for it. When
nothing is missing, idle peers take over what others have not been asked for
yet, and blocks that others still owe are asked of a second peer too (end
game); the later copy is cancelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain

from orchestra import pace
from orchestra.errors import RemoteProtocolError
from orchestra.fast import REJECTED_REST_S
from orchestra.flight import Flight
from orchestra.flights import Flights
from orchestra.geometry import Geometry
from orchestra.peer import Peer
from orchestra.picker import Picker
from orchestra.wire import BLOCK_BYTES, Blocks, BlockSpan, encode_cancels, encode_requests

SNUB_S = 20.0
END_GAME_SOURCES = 2
ANOTHER_SOURCE_S = 5.0
"""When the end game has lasted so long, and so long again, one more may be asked: two slow ones shall not
hold the last part."""
HELD_UP_S = 1.5
"""Who owes us blocks of the end game and has sent none for so long does not count as one who is asked."""
SEARCH_S = 0.1
"""How long to leave an idle peer alone for whom nothing was found among what others were asked for."""


class Downloads:
    """Keeps every unchoked, interesting peer busy with requests, and knows which blocks are welcome.

    `ban` is called with the key of a peer that alone sent a wrong part, and the
    part; `forget` with a part of which the blocks written so far do not count.
    """

    def __init__(
        self,
        geometry: Geometry,
        picker: Picker,
        peers: dict[int, Peer],
        *,
        ban: Callable[[int, int], None],
        forget: Callable[[int], None],
    ) -> None:
        self._geometry = geometry
        self._picker = picker
        self._peers = peers
        self._ban = ban
        self._flights = Flights(geometry, picker, peers, forget)
        self.resume = self._flights.resume
        self._ending_since_s: float | None = None
        self.wasted_bytes = 0
        self.freed = False
        """Blocks were given back since the last `fill_all`: others may be asked for them."""

    # Asking

    def fill(self, peer: Peer, now_s: float) -> None:
        """Ask `peer` for more blocks, when its queue has run low enough to make that worth a call."""
        # This is asked each time that anybody says anything; mostly there is nothing new to ask for.
        if not peer.interesting:
            return
        barren = self._is_barren(peer)
        if barren and (peer.outstanding or now_s - peer.searched_at_s < SEARCH_S):
            return
        if not peer.answers(now_s):
            return
        outstanding = len(peer.outstanding)
        depth = 1 if peer.snubbed else min(peer.depth, peer.max_requests)
        if depth > outstanding and peer.have.complete:
            depth = min(depth, pace.fair_depth(self._peers.values(), self._missing_blocks()))
        room = depth - outstanding
        if room <= 0 or room < depth // 4:
            return
        keys: list[int] = []
        while room > len(keys) and not barren:
            flight = self._flight_for(peer)
            if flight is None:
                break
            self._take(flight, room, keys, now_s)
        if not keys and not peer.outstanding and now_s - peer.searched_at_s >= SEARCH_S:
            keys = self._what_others_were_asked_for(peer, room, now_s)
        if not keys:
            return
        if not peer.outstanding:
            peer.block_at_s = peer.asked_idle_at_s = now_s
        peer.engaged = True
        if peer.outstanding:
            peer.outstanding.update(keys)
        else:
            # A new one: what held many once keeps its size, and there may be many peers.
            peer.outstanding = set(keys)
        peer.link.send(encode_requests(self._geometry.spans(keys)))

    @staticmethod
    def _take(flight: Flight, room: int, keys: list[int], now_s: float) -> None:
        if not flight.asked_at_s:
            flight.asked_at_s = now_s
        keys += flight.take(room - len(keys))

    def _what_others_were_asked_for(self, peer: Peer, room: int, now_s: float) -> list[int]:
        """Work for an idle peer that has nothing which is missing."""
        keys: list[int] = []
        flight = self._take_over(peer, now_s)
        if flight is not None:
            self._take(flight, room, keys, now_s)
        elif not self._picker.missing:
            keys = self._end_game(peer, room, now_s)
        if not keys:
            peer.searched_at_s = now_s
        return keys

    def fill_all(self, now_s: float) -> None:
        """`fill` for everybody, while something is missing."""
        self.freed = False
        if self._picker.missing:
            self._ending_since_s = None
        if not self._picker.wants_nothing:
            for peer in self._peers.values():
                self.fill(peer, now_s)

    def _missing_blocks(self) -> int:
        return self._picker.missing * self._geometry.blocks_per_part

    def _is_barren(self, peer: Peer) -> bool:
        """Whether it is known that nothing more can be asked of `peer` that nobody was asked for."""
        return peer.barren_since == self._picker.returned and not peer.to_ask and not self._flights.orphans

    def _flight_for(self, peer: Peer) -> Flight | None:
        """Askable parts that `peer` has begun, else some that were orphaned, else new ones."""
        while peer.to_ask:
            flight = peer.to_ask[0]
            if flight.owner == peer.key and flight.askable and not flight.recalled_at_s:
                return flight
            del peer.to_ask[0]
        for flight in self._flights.orphans:
            if flight.askable and all(map(peer.gives, self._flights.open_parts(flight))):
                self._flights.orphans.remove(flight)
                return self._adopt(flight, peer)
        if peer.choking_us and peer.fast is not None:
            parts = self._picker.pick_among(peer.fast.allowed, peer.have)
        else:
            parts = self._picker.pick(peer.have)
            if not parts:
                peer.barren_since = self._picker.returned
        if not parts:
            return None
        if len(parts) > 1 and not self._flights.disputed.isdisjoint(parts):
            # A disputed part flies alone, so that it has one author.
            for index in parts[1:]:
                self._picker.mark_missing(index)
            parts = parts[:1]
        return self._adopt(self._flights.begin(parts, peer.key), peer)

    def _take_over(self, peer: Peer, now_s: float) -> Flight | None:
        """What another peer has been asked for longest and has not begun to send, if `peer` has it.

        Most of what is rare is asked of the one who had it first, by all at once. It can give it to one after
        the other only, while those who have got it idle. Who speaks BEP 6 says whether it has begun to send:
        so it is recalled first, and nothing is sent twice.
        """
        flight = self._flights.longest_waiting(peer, now_s)
        if flight is None or flight.owner is None:
            return None
        owner, asked = self._peers[flight.owner], self._flights.asked(flight)
        if not flight.recalled_at_s:
            self._say_cancels(owner, asked)
            if owner.fast is not None and not owner.closing:
                flight.recalled_at_s = now_s
                flight.recalled_for = peer.key
                return None
        owner.outstanding.difference_update(asked)
        owner.unanswered += len(asked)
        self._flights.move(flight, peer)
        return flight

    @staticmethod
    def _adopt(flight: Flight, peer: Peer) -> Flight:
        flight.owner = peer.key
        peer.to_ask.append(flight)
        return flight

    def _end_game(self, peer: Peer, room: int, now_s: float) -> list[int]:
        """Blocks that another peer has not been asked for yet, or else owes us, and this one has.

        Of what is owed those of the part that lacks most, the last first.
        """
        disputed = self._flights.disputed
        for flight in self._flights.all():
            parts = self._flights.open_parts(flight) if flight.askable else []
            if parts and disputed.isdisjoint(parts) and all(map(peer.gives, parts)):
                return flight.take(room)
        if self._ending_since_s is None:
            self._ending_since_s = now_s
        sources = END_GAME_SOURCES + int((now_s - self._ending_since_s) / ANOTHER_SOURCE_S)
        owing = [other for other in self._peers.values() if other.outstanding]
        # Who has brought nothing for so long holds up nobody.
        going = [other.outstanding for other in owing if now_s - other.block_at_s < HELD_UP_S]
        owers = Counter(chain.from_iterable(going))
        owed: dict[int, list[int]] = {}
        for key in dict.fromkeys(chain.from_iterable(other.outstanding for other in owing)):
            owed.setdefault(self._geometry.part_of(key), []).append(key)
        for index, keys in sorted(owed.items(), key=lambda item: len(item[1]), reverse=True):
            if index in disputed or not peer.gives(index):
                continue
            free = sorted((key for key in keys if owers[key] < sources), reverse=True)[:room]
            if free:
                self._flights.asked_twice.update(free)
                return free
        return []

    # Receiving

    def accept(self, peer: Peer, run: Blocks, now_s: float) -> list[Blocks]:
        """The parts of `run` that are wanted, to be written; the rest is counted as waste."""
        keys = self._geometry.run_keys(run.offset, run.length)
        if keys is not None and peer.outstanding.issuperset(keys):
            accepted = [(run, keys)]
        else:
            accepted = self._accept_singly(peer, run)
            wasted = run.length - sum(part.length for part, _ in accepted)
            self.wasted_bytes += wasted
            # Small ones count as much as large ones: they are no less work.
            strays = max(-(-wasted // BLOCK_BYTES), len(run.views) - len(accepted))
            peer.stray_blocks += peer.unexplained(strays)
        for _, wanted in accepted:
            self._received(peer, wanted)
        if accepted:
            block_bytes = min(BLOCK_BYTES, self._geometry.part_size_bytes)
            pace.sent(peer, sum([len(keys) for _, keys in accepted]), block_bytes, now_s)
        return [part for part, _ in accepted]

    def _accept_singly(self, peer: Peer, run: Blocks) -> list[tuple[Blocks, range]]:
        """Block by block: those that are wanted, each as a run of its own."""
        accepted = []
        offset, end = run.offset, run.offset + run.length
        while offset < end:
            key = self._geometry.boundary_key(offset)
            if key is None or offset >= self._geometry.size_bytes:
                break
            length = self._geometry.offset(key + 1) - offset
            if key in peer.outstanding and offset + length <= end:
                views = run.cut(offset - run.offset, length)
                accepted.append((Blocks(offset, length, views), range(key, key + 1)))
            offset += length
        return accepted

    def _received(self, peer: Peer, keys: range) -> None:
        peer.outstanding.difference_update(keys)
        if not self._flights.asked_twice.isdisjoint(keys):
            self._flights.asked_twice.difference_update(keys)
            self._cancel_elsewhere(peer, keys)
        self._flights.arrived(keys, peer.key)

    def _cancel_elsewhere(self, peer: Peer, keys: range) -> None:
        for other in self._peers.values():
            if other is peer or other.outstanding.isdisjoint(keys):
                continue
            late = [key for key in keys if key in other.outstanding]
            other.outstanding.difference_update(late)
            self._cancel(other, late)

    def _cancel(self, peer: Peer, keys: list[int]) -> None:
        """Take requests back that are not counted as outstanding any more."""
        peer.unanswered += len(keys)
        self._say_cancels(peer, keys)

    def _say_cancels(self, peer: Peer, keys: list[int]) -> None:
        if keys and not peer.closing:
            peer.link.send(encode_cancels(self._geometry.spans(keys)))

    # Results of the check

    def parts_good(self, indices: list[int]) -> None:
        """The writer has these parts on disk, and they are right."""
        self._flights.good(indices)

    def part_bad(self, index: int) -> None:
        """The blocks of part `index` did not make its SHA-1."""
        self.wasted_bytes += self._geometry.part_length(index)
        author = self._flights.bad(index)
        if author is not None:
            self._ban(author, index)

    # Losing

    def give_back(self, peer: Peer) -> None:
        """`peer` left, choked us or stalls: what it owes us may be asked of others."""
        if peer.engaged or peer.outstanding:
            self._flights.withdraw(peer, sorted(peer.outstanding))
            self._release(peer)

    def choked(self, peer: Peer) -> None:
        """`peer` chokes us. One that speaks BEP 6 still answers for what it owes, another one does not."""
        peer.stalled_since_s = None
        if peer.fast is None:
            # What is on its way already comes all the same.
            peer.unanswered += len(peer.outstanding)
            self.give_back(peer)
        elif peer.engaged:
            self._release(peer)

    def rejected(self, peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
        """`peer` will not send these (BEP 6): others may be asked, and it is not asked again at once.

        Raises RemoteProtocolError when it rejects too much that was not asked of it.
        """
        assert peer.fast is not None, "the decoder lets no reject through where BEP 6 is not agreed on"
        keys: dict[int, None] = {}
        for block in blocks:
            key = self._geometry.key(block[0], block[1])
            if key in peer.outstanding and self._geometry.span(key) == block:
                keys[key] = None
        peer.stray_blocks += peer.unexplained(len(blocks) - len(keys))
        if peer.strays_too_much:
            raise RemoteProtocolError("too many rejects of what was not asked for")
        given_up = {key: flight for key in keys if (flight := self._flights.of(key)).recalled_at_s}
        if given_up:
            self._flights.withdraw(peer, list(given_up))
            for flight in dict.fromkeys(given_up.values()):
                self._flights.settle(flight)
                if flight.owner not in (None, peer.key):
                    # It has moved on to the one for whom it was recalled: nobody else gets anything of it.
                    self.fill(self._peers[flight.owner], now_s)
                elif not flight.recalled_at_s:
                    self.freed = True
        if len(given_up) == len(keys):
            return
        if peer.choking_us:
            for key in keys:
                peer.fast.allowed.pop(self._geometry.part_of(key), None)
        else:
            peer.fast.rest_until_s = now_s + REJECTED_REST_S
            peer.snubbed = True
        self._flights.withdraw(peer, [key for key in keys if key not in given_up])
        self._release(peer)

    def not_had(self, peer: Peer, index: int) -> None:
        """`peer` has lost part `index` (BEP 54): what it owes us of it may be asked of others.

        If it speaks BEP 6, it will reject what was asked of it all the same.
        """
        keys = [key for key in peer.outstanding if self._geometry.part_of(key) == index]
        peer.unanswered += len(keys)
        if keys or peer.engaged:
            self._flights.withdraw(peer, sorted(keys))
            self._release(peer)

    def _release(self, peer: Peer) -> None:
        """Others may go on with what `peer` has begun."""
        late = self._flights.owed_of_disputed(peer)
        if late:
            # Such a part comes from one peer whole, or not at all.
            self._flights.withdraw(peer, late)
            self._cancel(peer, late)
        peer.engaged = False
        self.freed = True
        self._flights.release(peer)

    def find_snubs(self, now_s: float) -> list[Peer]:
        """Peers that owe us blocks and have sent none for SNUB_S; their debts are given back."""
        snubs = [
            peer
            for peer in self._peers.values()
            if peer.outstanding and now_s - peer.block_at_s >= SNUB_S and not peer.closing
        ]
        for peer in snubs:
            if peer.stalled_since_s is None:
                peer.stalled_since_s = peer.block_at_s
            late = sorted(peer.outstanding)
            self.give_back(peer)
            peer.snubbed = True
            peer.depth = pace.LEAST_DEPTH
            self._cancel(peer, late)
        return snubs

    def unsound(self) -> str:
        """What is wrong with the bookkeeping, empty when nothing: tests ask after each event."""
        return self._flights.unsound()
