"""How much to have asked of a peer at a time: what it sends while the next request is on its way, not more.

Pure; used by Downloads. What is asked too late leaves the line idle; what is
asked too early waits in one peer's queue, while others could send it.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.peer import Peer

MAX_DEPTH = 496
"""Just below what a peer of ours lets wait: two landings full, which a fast link needs to have the next one
ready in time."""
LEAST_DEPTH = 4
FAIR_ROUNDS = 8
LEAST_FAIR_DEPTH = 8
AHEAD_S = 0.15
"""How much to have asked of a peer beyond what the time that it takes to answer calls for."""


def fair_depth(peers: Iterable[Peer], missing_blocks: int) -> int:
    """How many blocks to ask of a complete peer that others want as well; `peers` are all of ours.

    What several ask for before they hear of each other's parts, the peer uploads several times: so each
    asks for a small share of what is missing. It matters for compositions of a few seconds.
    """
    sharers = len([other for other in peers if other.downloads_too])
    return max(LEAST_FAIR_DEPTH, missing_blocks // (FAIR_ROUNDS * (sharers + 1))) if sharers else MAX_DEPTH


def sent(peer: Peer, blocks: int, block_bytes: int, now_s: float) -> None:
    """It has sent so many wanted blocks. Its queue follows its speed: up by what came, down to what it sends
    in a short time."""
    if peer.asked_idle_at_s is not None:
        peer.answer_s = min(peer.answer_s, now_s - peer.asked_idle_at_s)
        peer.asked_idle_at_s = None
    peer.block_at_s = now_s
    peer.snubbed = False
    peer.stalled_since_s = None
    if peer.fast is not None:
        peer.fast.rest_until_s = 0.0
    peer.depth = min(MAX_DEPTH, peer.depth + blocks)
    if now_s - peer.depth_set_at_s >= 1.0:
        peer.depth_set_at_s = now_s
        ahead = int((peer.answer_s + AHEAD_S) * peer.down.bytes_s(now_s)) // block_bytes
        peer.depth = min(peer.depth, LEAST_DEPTH + ahead)
