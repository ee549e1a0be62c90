"""How many members a registry has, in all and of each network: who takes more than a share.

Pure; owned by the registry, and kept by its rosters. A network is what one
stranger has at will: an IPv4 address, or the first 64 bits of an IPv6 address,
since whoever has one address there has 2^64 (RFC 4291, section 2.5.4).
"""

from __future__ import annotations

V4_BYTES = 6
V6_BYTES = 18
_V6_NETWORK_BYTES = 8
_V6_LOOPBACK = bytes(15) + b"\x01"


def network_of(key: bytes) -> bytes:
    """The network (4 or 8 bytes) of a packed address (6 or 18 bytes, the port last)."""
    return key[:-2] if len(key) == V4_BYTES else key[:_V6_NETWORK_BYTES]


def is_local(key: bytes) -> bool:
    """Whether a packed address is one of this machine."""
    return key[0] == 127 if len(key) == V4_BYTES else key.startswith(_V6_LOOPBACK)


class Census:
    """Counts members as they come and go; `total` is their number."""

    def __init__(self) -> None:
        self.total = 0
        self._of_network: dict[bytes, int] = {}

    def add(self, key: bytes) -> None:
        """One more, at that packed address."""
        network = network_of(key)
        self.total += 1
        self._of_network[network] = self.of_network(network) + 1

    def remove(self, key: bytes) -> None:
        """One less, at that packed address."""
        network = network_of(key)
        self.total -= 1
        self._of_network[network] -= 1
        if not self._of_network[network]:
            del self._of_network[network]

    def of_network(self, network: bytes) -> int:
        """How many members speak from that network."""
        return self._of_network.get(network, 0)
