"""The only source of a composition gives each part out once, before any twice (after BEP 16, super-seeding).

Pure; owned by the swarm. A complete member that shows all that it has is asked
for the same parts by several peers, before they hear of one another's: that
costs others 1.2 to 1.9 copies until all is out. So a peer is told of a few
parts at a time, which are offered to nobody else, and of more when it has
fetched these and others have got them from it. When each part is at some peer,
all is shown to all.

BEP 16 has a peer wait for its one part to reappear. Here an offer is a *sheaf*
of neighbouring parts, several are open at once, and a peer may be ahead of its
neighbours by a few, more where it takes them fast: so the uplink never idles,
and a peer that passes nothing on gets these few and no more.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Container, Iterable

from orchestra.bitfield import Bitfield

MAX_PARTS = 65_536
"""Where there are more, all is shown at once: the haves alone would be half a MiB for each peer."""
OPEN_SHEAVES = 2
FIRST_ALLOWANCE_SHEAVES = 4
CROWD = 24
"""Among more peers than this, who has passed nothing on yet is offered one sheaf, and no more: were it not
for that, a fifth of them who never do could hold a third of all parts, and nobody else would have those."""
HOARDED_S = 3.0
"""What a peer was given so long ago, and nobody got from it, it may never pass on."""
AHEAD_S = 0.5
"""A fast peer is offered at least what it takes in this time."""
STALLED_S = 10.0
"""A part that was given to a peer which takes nothing for so long is for others as well."""


class _Account:
    """A peer that lives on offers. `offered`: not there yet; `kept`: there, and nowhere else.

    `credit`: how many parts more than at first it may have, or be fetching, that nobody else has. `ahead`:
    how many it may for the speed at which it takes them.
    """

    __slots__ = (
        "ahead",
        "credit",
        "kept",
        "offered",
        "passed_on",
        "shown",
        "spare",
    )

    def __init__(self) -> None:
        self.offered: set[int] = set()
        self.kept: set[int] = set()
        self.passed_on = 0
        self.credit = 0
        self.ahead = 0
        self.spare = 0
        """What its credit grew by last."""
        self.shown: set[int] = set()


class Sharer:
    """Which part is offered to whom; numbers are part indices, keys those of peers."""

    def __init__(self, out: Bitfield, sheaf_parts: int, rng: random.Random) -> None:
        """`out`: the parts that some peer has already; owned by the Sharer from now on."""
        parts = out.parts
        self._rng = rng
        self._sheaf_parts = max(1, sheaf_parts)
        sheaves = [
            range(start, min(start + self._sheaf_parts, parts))
            for start in range(0, parts, self._sheaf_parts)
        ]
        rng.shuffle(sheaves)
        self._fresh = deque(sheaves)
        self._out = out
        self._accounts: dict[int, _Account] = {}
        self._given: dict[int, tuple[int, float]] = {}
        """For each part that was given and not passed on yet: to whom, and when."""
        self._took_hoards = False

    @property
    def all_out(self) -> bool:
        """True when every part is at some peer."""
        return self._out.complete

    def __contains__(self, key: int) -> bool:
        return key in self._accounts

    def add(self, key: int) -> None:
        """A peer that was not shown what we have."""
        self._accounts[key] = _Account()

    # Whom to serve

    def choose(
        self, interested: Iterable[int], unchoked: set[int], slots: int, mute: Container[int] = ()
    ) -> set[int]:
        """Who may ask us. `interested` are peers that were shown all; they get what the others leave.

        A peer keeps its slot while an offer of its is open: half a part is of no use to anybody. Then come
        those who have passed on most. Those who have said nothing yet, `mute`, keep nobody from its slot.
        """
        ranked = sorted(
            (not (account.offered and key in unchoked), -account.passed_on, self._rng.random(), key)
            for key, account in self._accounts.items()
            if account.offered or (self._fresh and self._room(account) > 0)
        )
        ours = [key for *_, key in ranked]
        others = [key for key in interested if key not in self._accounts]
        if others:
            ours.sort(key=lambda key: key in mute)
            speaking = sum(key not in mute for key in ours)
            ours[speaking:speaking] = others
        return set(ours[:slots])

    def hidden(self, key: int, have: Bitfield) -> list[int]:
        """The parts that peer `key` lacks and has not been told of; none for one that was shown all."""
        account = self._accounts.get(key)
        if account is None:
            return []
        return [index for index in range(have.parts) if index not in account.shown and index not in have]

    def _room(self, account: _Account) -> int:
        """How many parts more a peer may be offered."""
        most_open, most_held, ahead = OPEN_SHEAVES, FIRST_ALLOWANCE_SHEAVES, account.ahead
        if self._is_unproven(account):
            # There are others to offer it to, who pass things on, or may do so.
            most_open, most_held, ahead = 1, 1, 0
        offered = len(account.offered)
        return min(
            max(most_open * self._sheaf_parts, ahead) - offered,
            max(most_held * self._sheaf_parts + account.credit, 2 * ahead) - offered - len(account.kept),
        )

    def _is_unproven(self, account: _Account) -> bool:
        """Whether it is one of a crowd, and has passed nothing on yet: it may never do so."""
        return not account.passed_on and len(self._accounts) > CROWD

    def spend_what_is_spare(self) -> None:
        """A slot is free: those who may not ask while something is left get credit, twice as much each time.

        They may have no neighbours to pass anything on to. Where some pass things on, it is for them alone.
        """
        proven = [account for account in self._accounts.values() if account.passed_on]
        for account in proven or self._accounts.values():
            if not account.offered and self._room(account) <= 0:
                account.spare = max(self._sheaf_parts, 2 * account.spare)
                account.credit += account.spare

    # What to offer

    def offer(self, key: int, takes_parts_s: float, now_s: float) -> list[int]:
        """The parts to tell peer `key` of now, in order; `takes_parts_s`: how fast it takes them."""
        account = self._accounts[key]
        account.ahead = int(takes_parts_s * AHEAD_S)
        room = self._room(account)
        offers: list[int] = []
        while self._fresh and len(offers) < room:
            sheaf = self._fresh.popleft()
            offers += [index for index in sheaf if index not in self._out and index not in self._given]
        account.offered.update(offers)
        account.shown.update(offers)
        self._given.update(dict.fromkeys(offers, (key, now_s)))
        return sorted(offers)

    def asked(self, key: int, indices: Iterable[int], now_s: float) -> None:
        """A peer that was shown all asks for these: they need not be offered to anybody else."""
        for index in indices:
            if index not in self._out:
                self._given.setdefault(index, (key, now_s))

    # What comes of it

    def take_back_hoards(self, now_s: float) -> bool:
        """Each part is at some peer: what only an unproven one has, and has for long, is for others as well.

        True when there is any: not all is out then. Once only, and only while somebody passes things on.
        """
        if self._took_hoards or not any(account.passed_on for account in self._accounts.values()):
            return False
        self._took_hoards = True
        hoarded = [
            index
            for index, (key, since_s) in self._given.items()
            if now_s - since_s >= HOARDED_S
            and key in self._accounts
            and self._is_unproven(self._accounts[key])
        ]
        for index in hoarded:
            self._out.remove(index)
        self._take_back(hoarded)
        return bool(hoarded)

    def heard(self, key: int, indices: Iterable[int]) -> bool:
        """Peer `key` has these parts, which is new to us; True when somebody may be offered more for it."""
        account = self._accounts.get(key)
        changed = False
        for index in indices:
            self._out.add(index)
            given_to, _ = self._given.get(index, (key, 0.0))
            if account is not None and index in account.offered:
                account.offered.remove(index)
                changed = True
                if given_to == key:
                    account.kept.add(index)
            if given_to != key:
                self._passed_on(index)
                changed = True
        return changed

    def _passed_on(self, index: int) -> None:
        giver = self._accounts.get(self._given.pop(index)[0])
        if giver is not None and index in giver.kept:
            giver.kept.remove(index)
            giver.passed_on += 1

    def left(self, key: int, lost: Iterable[int]) -> None:
        """Peer `key` has gone; `lost` are the parts that it had and no other peer has."""
        self._accounts.pop(key, None)
        for index in lost:
            self._out.remove(index)
            self._fresh.appendleft(range(index, index + 1))
        self._take_back([index for index, (owner, _) in self._given.items() if owner == key])

    def expire(self, now_s: float, is_busy: Callable[[int], bool]) -> set[int]:
        """What was given long ago to peers that are not fetching from us is for others as well.

        Who of these lives on offers and left one lie; the caller lets go of them (see `left`).
        """
        stale = {
            index: key
            for index, (key, since_s) in self._given.items()
            if now_s - since_s >= STALLED_S and index not in self._out and not is_busy(key)
        }
        self._take_back(list(stale))
        return {key for key in stale.values() if key in self._accounts}

    def _take_back(self, indices: list[int]) -> None:
        for index in indices:
            del self._given[index]
            if index not in self._out:
                self._fresh.appendleft(range(index, index + 1))
