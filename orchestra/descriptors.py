"""How many connections the system's limit of open files leaves room for.

The limit is per process: 1024 on most Linuxes, 256 on macOS. What the member
needs for itself (terminal, log, NAME.part, the resume file, sockets to listen and
to announce) is kept free, so that peers cannot take it. Windows has no such limit.
"""

from __future__ import annotations

OWN_DESCRIPTORS = 25
"""A member that shares has 15 open (Linux), an announce, a resume file, a log that is turned over and
a check of what is on disk need one each; the rest is for callers who are refused, and for what we forgot."""
LEAST_PEERS = 6


def room_for_peers(most: int) -> int:
    """How many connections we may have: `most`, or as many as the limit of descriptors leaves."""
    try:
        import resource  # noqa: PLC0415 - POSIX only
    except ImportError:
        return most
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return most
    return max(LEAST_PEERS, min(most, limit - OWN_DESCRIPTORS))
