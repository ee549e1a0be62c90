"""Canonical peer priority (BEP 40): a number for two addresses that both sides work out alike.

Pure. When each member prefers the connections whose numbers are high, the
choice is random for the swarm as a whole, the same from both ends, and nobody
who is full has to stay closed to newcomers. It takes our own address as others
see it, which only others can tell.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from netutils import Address

LEAST_WITNESSES = 2
"""How many hosts must see us at an address before we believe it."""
_POLYNOMIAL = 0x82F63B78


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901 - eight steps of one byte
        table.append(value)
    return tuple(table)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The CRC of RFC 3720 (Castagnoli's polynomial)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@lru_cache(maxsize=4096)
def priority(one: Address, other: Address) -> int | None:
    """The priority of a connection between two addresses, 32 bits; the higher the better.

    Ports count only where the hosts are equal. None for hosts of two families, or that are no literals.
    """
    try:
        first, second = sorted(ipaddress.ip_address(host).packed for host in (one[0], other[0]))
    except ValueError:
        return None
    if len(first) != len(second):
        return None
    if first == second:
        low, high = sorted((one[1], other[1]))
        return crc32c(low.to_bytes(2, "big") + high.to_bytes(2, "big"))
    # Of what follows the first difference, every other bit: neighbours in a network gain little by that.
    differs = next(place for place in range(len(first)) if first[place] != second[place])
    whole = max(differs + 1, 2 if len(first) == 4 else 6)
    return crc32c(_masked(first, whole) + _masked(second, whole))


def _masked(packed: bytes, whole: int) -> bytes:
    return packed[:whole] + bytes(byte & 0x55 for byte in packed[whole:])


def own_hosts(testimonies: Iterable[tuple[str, str]]) -> dict[bool, str]:
    """Our own address by family (True: IPv6), as most hosts see it.

    `testimonies`: a host, and our address as it sees it. Missing where too few say so, or no majority:
    one peer alone could lie to be preferred.
    """
    by_witness = {(witness, ":" in seen): seen for witness, seen in testimonies if seen}
    found = {}
    for v6 in (False, True):
        seen = Counter(host for (_, family), host in by_witness.items() if family is v6)
        for host, count in seen.most_common(1):
            if count >= LEAST_WITNESSES and 2 * count > seen.total():
                found[v6] = host
    return found
