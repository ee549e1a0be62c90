"""The conductor's rules between a front end (HTTP: trackerapp.py) and the registry.

Called by the front end's threads, several at a time: one lock lets them into
the registry one by one. Nothing here knows HTTP.

Rules: a member is listed at the address that it speaks from, with the port that
it names, never at an address that it claims. Ports below 1024 and addresses
that nobody else could dial are not listed: the member gets others, is told so
by a warning, and cannot turn the others against a service of its host. A member
is forgotten after two silent intervals; a client that is none of ours, not
before SLOW_CLIENT_LIFETIME_S.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from netutils import normal_host
from orchestra.addresses import can_dial
from orchestra.announce import AnnounceProblem, AnnounceQuery
from orchestra.announcereply import Answer, Counts
from orchestra.registry import Registry, RegistryFull, Sighting
from orchestra.text import safe

DEFAULT_WANTED = 50
MAX_WANTED = 200
LOWEST_PORT = 1024
SILENT_INTERVALS = 2
"""After so many intervals without a word a member is forgotten."""
SLOW_CLIENT_LIFETIME_S = 360
"""libtorrent, and so qBittorrent and Deluge, announces every 300 s, however often it is asked to
(its min_announce_interval): with two intervals of 120 s it would be unknown for one minute in five.
A minute more is for a second try.
"""
SLOW_CLIENTS_FROM_INTERVAL_S = 30
"""Whoever asks for less wants to see at once who has left: then two intervals are two for everyone."""
OUR_PEER_IDS = b"-OR"

log = logging.getLogger(__name__)


class Tracker:
    """Answers announces and scrapes. Any thread.

    `interval_s` is how often a member should announce; a twelfth of it, at
    least a second, is how often it may.
    """

    def __init__(
        self,
        interval_s: int,
        *,
        registry: Registry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interval_s = interval_s
        self.min_interval_s = max(1, interval_s // 12)
        self._registry = _registry(interval_s) if registry is None else registry
        self._clock = clock
        self._lock = threading.Lock()
        self._full = False

    def announce(self, query: AnnounceQuery, host: str) -> Answer:
        """The answer to a member that speaks from `host`. Raises AnnounceProblem when there is no room."""
        # Without its scope a link-local address packs, but means nothing to others: can_dial refuses it.
        host = normal_host(host).partition("%")[0]
        warning = _why_unlisted(host, query.port)
        sighting = Sighting(
            info_hash=query.info_hash,
            peer_id=query.peer_id,
            address=(host, query.port),
            is_seed=query.left_bytes == 0,
            event=query.event,
            wanted=min(DEFAULT_WANTED if query.wanted is None else query.wanted, MAX_WANTED),
            listed=not warning,
            slow=not query.peer_id.startswith(OUR_PEER_IDS),
        )
        with_ids = query.with_ids and not query.compact
        try:
            with self._lock:
                sample = self._registry.announce(sighting, self._clock(), with_ids=with_ids)
        except RegistryFull as full:
            self._say_full(str(full))
            raise AnnounceProblem(f"{full}: try again later") from None
        if query.event:
            log.info("%s %s port %d %s", query.info_hash.hex(), safe(host), query.port, safe(query.event))
        return Answer(
            interval_s=self.interval_s,
            min_interval_s=self.min_interval_s,
            counts=sample.counts,
            v4=sample.v4,
            v6=sample.v6,
            peer_ids=sample.peer_ids,
            warning=warning,
        )

    def scrape(self, info_hashes: tuple[bytes, ...]) -> Mapping[bytes, Counts]:
        """How these swarms stand; zeros for one that nobody announces."""
        with self._lock:
            return self._registry.scrape(info_hashes, self._clock())

    def _say_full(self, text: str) -> None:
        """One line in the log, however many are turned away."""
        if not self._full:
            self._full = True
            log.warning("%s: members are turned away", text)


def _registry(interval_s: int) -> Registry:
    lifetime_s = SILENT_INTERVALS * interval_s
    knows_slow = interval_s >= SLOW_CLIENTS_FROM_INTERVAL_S
    return Registry(lifetime_s, slow_lifetime_s=SLOW_CLIENT_LIFETIME_S if knows_slow else None)


def _why_unlisted(host: str, port: int) -> str:
    if not can_dial((host, port)):
        return "you are not listed: others could not reach the address that you speak from"
    if port < LOWEST_PORT:
        return f"you are not listed: ports below {LOWEST_PORT} are for other services"
    return ""
