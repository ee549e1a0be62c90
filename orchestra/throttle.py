"""How often one network may ask: a token bucket for each, kept as one number.

Pure; one owner (the web server's loop); time comes as an argument (monotonic
seconds). A network (census.py) is an IPv4 address or 64 bits of IPv6. The number
is the time at which its bucket is full again (the generic cell rate algorithm,
ITU-T I.371): a request is worth 1/rate seconds, and is let in while the bucket
lacks less than a burst. A full bucket is as good as none, so those are forgotten
as time goes by, and memory is bounded by who asked in the last few seconds.
"""

from __future__ import annotations

import math
import socket
from collections import OrderedDict

from orchestra.census import is_local, network_of

REQUESTS_S = 20.0
"""At the usual interval of 120 s, 2,400 members may share an address (NAT)."""
BURST = 100
MAX_NETWORKS = 16_384
"""Whoever has so many networks to ask from within five seconds need not be told to ask less from each."""
_MAPPED = bytes(10) + b"\xff\xff"  # IPv4 in IPv6 (RFC 4291, section 2.5.5.2)


class Throttle:
    """Says who has to wait. This machine never has, unless `spare_local` is False."""

    def __init__(
        self, requests_s: float = REQUESTS_S, burst: int = BURST, *, spare_local: bool = True
    ) -> None:
        self._cost_s = 1.0 / requests_s
        self._depth_s = burst / requests_s
        self._spare_local = spare_local
        # In the order of their latest request.
        self._full_at_s: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        """How many networks are remembered."""
        return len(self._full_at_s)

    @property
    def refill_s(self) -> int:
        """After how many seconds of silence a whole burst is allowed again."""
        return math.ceil(self._depth_s)

    def admit(self, host: str, now_s: float) -> bool:
        """Whether a request from `host`, a literal, is let in now. Those that are not cost nothing."""
        key = _packed(host)
        if self._spare_local and is_local(key):
            return True
        network = network_of(key)
        full_at_s = max(now_s, self._full_at_s.get(network, now_s)) + self._cost_s
        # Half a request more: sums of floats are not exact.
        if full_at_s - now_s > self._depth_s + self._cost_s / 2:
            return False
        self._full_at_s[network] = full_at_s
        self._full_at_s.move_to_end(network)
        self._forget(now_s)
        return True

    def _forget(self, now_s: float) -> None:
        """Two at a time, if their buckets are full: more than come in, and never a long sweep."""
        for _ in range(2):
            if not self._full_at_s:
                return
            oldest, full_at_s = next(iter(self._full_at_s.items()))
            if full_at_s > now_s and len(self._full_at_s) <= MAX_NETWORKS:
                return
            del self._full_at_s[oldest]


def _packed(host: str) -> bytes:
    """An address as census.py knows them, with port 0. (`pack_peers` normalises first: 20 times the cost.)"""
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host) + bytes(2)
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return (packed[12:] if packed.startswith(_MAPPED) else packed) + bytes(2)
