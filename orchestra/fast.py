"""The fast extension (BEP 6): what it adds to a connection on which both sides speak it.

Pure; a Fast is owned by its peer. Every request is answered by exactly one
block or one reject. A choked peer may still ask for a few parts, the same ones
whoever grants them, so that a newcomer soon has something to give; how much of
that there is has a bound here.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from orchestra.wire import BlockSpan

GRANTED_PARTS = 10
"""How many parts a newcomer may be granted; one that has more needs no grants (BEP 6 has k = 10)."""
GRANTS = 4
"""How many choked peers may hold grants at a time: their blocks come out of the upload of all."""
ASKS_A_BLOCK = 2
"""How often each block of a granted part may be asked for by a choked peer."""
MAX_ALLOWANCES = 64
"""`allowed fast` messages of one connection that are heeded."""
REJECTED_REST_S = 5.0
"""How long to ask nothing of a peer that rejected a request although it does not choke us."""


def canonical_set(host: str, info_hash: bytes, parts: int, count: int = GRANTED_PARTS) -> tuple[int, ...]:
    """The parts that the peer at `host` may be granted, by BEP 6's algorithm: `count`, or all there are.

    They depend on the peer's network alone, /24, so that many addresses in one network gain nothing.
    The BEP leaves IPv6 out: here the first 64 bits stand for the network. None for a host that is no literal.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ()
    network = address.packed[:3] + b"\0" if address.version == 4 else address.packed[:8]
    return _canonical_set(network + info_hash, parts, min(count, parts))


@lru_cache(maxsize=1024)
def _canonical_set(state: bytes, parts: int, count: int) -> tuple[int, ...]:
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        state = hashlib.sha1(state, usedforsecurity=False).digest()
        for place in range(0, 20, 4):
            if len(chosen) < count:
                chosen[int.from_bytes(state[place : place + 4], "big") % parts] = None
    return tuple(chosen)


class Fast:
    """What is agreed with one peer beyond BEP 3."""

    __slots__ = (
        "allowances",
        "allowed",
        "canonical",
        "granted",
        "rest_until_s",
    )

    def __init__(self, canonical: tuple[int, ...] = (), granted: dict[int, int] | None = None) -> None:
        self.canonical = canonical
        """Its canonical set: the parts that it may be granted."""

        # What we want of it
        self.allowed: dict[int, None] = {}
        """Parts that it gives us even while it chokes us."""
        self.allowances = 0
        self.rest_until_s = 0.0
        """Nothing is asked of it before this time."""

        # What it wants of us
        self.granted = granted
        """Parts that we give it even while we choke it, and how often it may ask for a block of each.

        None before anything was decided.
        """

    def allow(self, indices: Iterable[int]) -> None:
        """It grants us these parts."""
        for index in indices:
            if self.allowances < MAX_ALLOWANCES:
                self.allowances += 1
                self.allowed[index] = None

    def admit(self, blocks: list[BlockSpan], held_parts: int) -> list[BlockSpan]:
        """Those of `blocks`, asked for while we choke it, that it gets. `held_parts`: how many it has."""
        if not self.granted or held_parts > GRANTED_PARTS:
            return []
        admitted = []
        for block in blocks:
            left = self.granted.get(block[0], 0)
            if left:
                self.granted[block[0]] = left - 1
                admitted.append(block)
        return admitted
