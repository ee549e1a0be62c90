"""The thread that talks to the conductors; the orchestrator says when and what.

Owns the order of the conductors, who of them knows us, and the exchange that
is under way. Each Announce is answered by one Announced or AnnounceFailed,
Stop by the last word AnnouncerEnded.

A conductor may hang, our end may not: `put` of a Stop, or of an Announce of
"stopped", aborts what is under way, and "stopped" itself gets 0.7 s in all.
What nothing can wake is the system's name lookup. So this is the one daemonic
thread: whoever waits for AnnouncerEnded waits for it no longer than it wants
to, then goes on, and the interpreter ends without joining it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from netutils import Address, format_address
from orchestra.announce import AnnounceQuery
from orchestra.announcereply import Reply
from orchestra.messages import Announce, Announced, AnnounceFailed, AnnouncerEnded, Stop
from orchestra.trackerclient import EXCHANGE_TIMEOUT_S, Exchange, GivenUp, TrackerError
from orchestra.worker import Worker

STOPPED_TIMEOUT_S = 0.7

log = logging.getLogger(__name__)


class Announcer(Worker):
    """Carries out one Announce after the other; `put` gives it messages and never blocks."""

    def __init__(
        self,
        conductors: Sequence[Address],
        info_hash: bytes,
        *,
        peer_id: bytes,
        report: Callable[[object], None],
    ) -> None:
        super().__init__("announcer", report)
        self.daemon = True  # see the head of this file
        self._conductors = list(conductors)
        self._info_hash = info_hash
        self._peer_id = peer_id
        self._inbox: queue.SimpleQueue[Announce | Stop] = queue.SimpleQueue()
        self._knowing_us: set[Address] = set()
        self._warnings: set[str] = set()
        # Guards the two below, which `put` (any thread) shares with this thread.
        self._lock = threading.Lock()
        self._urgent = 0  # messages of the end that wait in the inbox
        self._under_way: Exchange | None = None

    def put(self, message: Announce | Stop) -> None:
        """Give it something to do. The messages of the end abort what is under way. Any thread."""
        with self._lock:
            self._inbox.put(message)
            if _is_end(message):
                self._urgent += 1
                if self._under_way is not None:
                    self._under_way.abort()

    def work(self) -> None:
        """One message after the other, until Stop."""
        while isinstance(message := self._inbox.get(), Announce):
            if message.event == "stopped":
                with self._lock:
                    self._urgent -= 1
                self._say_goodbye(message)
            else:
                self._announce(message)
        self._report(AnnouncerEnded())

    def _announce(self, message: Announce) -> None:
        """Ask the conductors in their order until one answers; from now on that one comes first (BEP 12)."""
        reasons = []
        for conductor in tuple(self._conductors):
            try:
                reply = self._exchange(conductor, message)
            except TrackerError as error:
                log.info("announce to %s failed: %s", format_address(conductor), error)
                reasons.append(f"{format_address(conductor)}: {error}")
                if isinstance(error, GivenUp):
                    if error.heard:
                        # It may have listed us, and its answer is on the way: tell it goodbye.
                        self._knowing_us.add(conductor)
                    break
            else:
                self._conductors.remove(conductor)
                self._conductors.insert(0, conductor)
                self._knowing_us.add(conductor)
                self._report(_announced(conductor, message.event, reply))
                return
        self._report(AnnounceFailed(message.event, "; ".join(reasons)))

    def _say_goodbye(self, message: Announce) -> None:
        """Tell every conductor that knows us, or may, within STOPPED_TIMEOUT_S; the others need no word."""
        deadline = time.monotonic() + STOPPED_TIMEOUT_S
        outcome: Announced | AnnounceFailed = AnnounceFailed(message.event, "no conductor knows us")
        for conductor in [conductor for conductor in self._conductors if conductor in self._knowing_us]:
            try:
                reply = self._exchange(conductor, message, timeout_s=max(0.0, deadline - time.monotonic()))
            except TrackerError as error:
                log.info("goodbye to %s failed: %s", format_address(conductor), error)
                if isinstance(outcome, AnnounceFailed):
                    outcome = AnnounceFailed(message.event, f"{format_address(conductor)}: {error}")
            else:
                outcome = _announced(conductor, message.event, reply)
        self._knowing_us.clear()
        self._report(outcome)

    def _exchange(
        self, conductor: Address, message: Announce, *, timeout_s: float = EXCHANGE_TIMEOUT_S
    ) -> Reply:
        query = AnnounceQuery(
            info_hash=self._info_hash,
            peer_id=self._peer_id,
            port=message.port,
            uploaded_bytes=message.uploaded_bytes,
            downloaded_bytes=message.downloaded_bytes,
            left_bytes=message.left_bytes,
            event=message.event,
            wanted=message.wanted,
        )
        try:
            exchange = Exchange(conductor, query, timeout_s=timeout_s)
        except OSError as error:
            # Out of descriptors: no reason to end, there will be some again.
            raise TrackerError(error.strerror or str(error)) from error
        if message.event == "stopped":
            # Bounded as it is; a Stop that follows lets it finish.
            return self._warn(conductor, exchange.run())
        with self._lock:
            self._under_way = exchange
            if self._urgent:
                exchange.abort()
        try:
            return self._warn(conductor, exchange.run())
        finally:
            with self._lock:
                self._under_way = None

    def _warn(self, conductor: Address, reply: Reply) -> Reply:
        """Pass a conductor's warning on to the user, once."""
        if reply.warning and reply.warning not in self._warnings and len(self._warnings) < 10:
            self._warnings.add(reply.warning)
            log.warning("conductor %s says: %s", format_address(conductor), reply.warning)
        return reply


def _is_end(message: Announce | Stop) -> bool:
    return isinstance(message, Stop) or message.event == "stopped"


def _announced(conductor: Address, event: str, reply: Reply) -> Announced:
    return Announced(
        conductor=format_address(conductor),
        event=event,
        members=reply.members,
        interval_s=reply.interval_s,
        min_interval_s=reply.min_interval_s,
        seeders=reply.seeders,
        leechers=reply.leechers,
    )
