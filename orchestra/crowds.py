"""How many connections one neighbourhood may hold, and who among the peers here is of least use.

Pure; used by the doorway. A neighbourhood is what one stranger can fill with
addresses at no cost: an IPv4 address, or the 64 bits of an IPv6 network
(libtorrent#8023). This machine is exempt: there all members have one address.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from netutils import normal_host
from orchestra.addresses import is_loopback
from orchestra.peer import Peer

MAX_PER_HOST = 3
"""Connections of one IPv4 address."""
MAX_PER_NETWORK = 8
"""Connections of one IPv6 /64."""
SETTLED_S = 60.0
"""A peer that has moved data, or come, more recently than this is not idle."""
USELESS_S = 10.0
"""The same for one of no use: it has shown nothing to want, and nothing to give us."""


@lru_cache(maxsize=4096)
def neighbourhood(host: str) -> str:
    """What `host` shares its limits with: itself, or its IPv6 network; a name is itself."""
    try:
        address = ipaddress.ip_address(normal_host(host).partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    return str(ipaddress.IPv6Network((address.packed[:8] + bytes(8), 64)))


def is_crowded(host: str, present: Iterable[str]) -> bool:
    """Whether `host` has as many connections as it may; `present`: the hosts of all connections."""
    if is_loopback(host):
        return False
    wanted = neighbourhood(host)
    most = MAX_PER_NETWORK if "/" in wanted else MAX_PER_HOST
    return sum(neighbourhood(other) == wanted for other in present) >= most


def of_use(peer: Peer) -> bool:
    """It has shown that it has something for us, or wants something."""
    return peer.interesting or peer.wants


def idle_s(peer: Peer, now_s: float) -> float:
    """For how long it has neither given nor taken, nor owed nor been owed anything; 0 while it does."""
    if peer.down.bytes_s(now_s) or peer.up.bytes_s(now_s) or peer.outstanding or peer.asked or peer.reading:
        return 0.0
    return now_s - max(peer.since_s, peer.block_at_s, peer.batch_sent_at_s)


def least_useful_first(peers: Iterable[Peer], now_s: float) -> list[Peer]:
    """Those who may be sent away for somebody else: idle for long enough, the least useful first.

    First those of no use to either side, of these the most crowded neighbourhoods, then the longest idle.
    """
    present = [peer for peer in peers if not peer.closing]
    crowd = Counter(neighbourhood(peer.host) for peer in present)
    ranked = []
    for peer in present:
        useful, idle_for_s = of_use(peer), idle_s(peer, now_s)
        if idle_for_s >= (SETTLED_S if useful else USELESS_S):
            ranked.append((useful, -crowd[neighbourhood(peer.host)], -idle_for_s, peer.key, peer))
    return [entry[-1] for entry in sorted(ranked)]
