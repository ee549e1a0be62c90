"""The heart of the member: one message and the time in, messages out.

Run by the orchestrator thread (session.py), which alone calls it. A state
machine: it opens no socket and no file, reads no clock and never sleeps, so
that tests and a simulator drive the real thing. Its phases: CHECKING what is
on disk, ACTIVE (downloading, then seeding), STOPPING until every thread has
said its last word, ENDED.
"""

from __future__ import annotations

import logging
import random
from enum import Enum
from typing import NamedTuple

from orchestra.doorway import MAX_PEERS, Links
from orchestra.errors import NetworkError, ScoreError
from orchestra.gauge import Gauge
from orchestra.geometry import Geometry
from orchestra.messages import (
    Accepted,
    Address,
    Announce,
    Announced,
    AnnounceFailed,
    AnnouncerEnded,
    BlocksSent,
    Checked,
    CheckProgress,
    Complete,
    Digested,
    DiskFailed,
    Ended,
    Inbox,
    Installed,
    LinkClosed,
    LinkUp,
    Listen,
    ListenFailed,
    Listening,
    Notice,
    PartsWritten,
    Quit,
    ReadFailed,
    Received,
    Recheck,
    Starved,
    Stop,
    ThreadEnded,
    Watch,
    Withdrawn,
)
from orchestra.schedule import AnnounceSchedule
from orchestra.swarm import Swarm
from orchestra.wholefile import WholeFile
from orchestra.worker import ThreadCrashed

TICK_S = 1.0
WANTED_MEMBERS = 50
STOPPING_S = 0.8
"""How long a stop may take before the orchestrator gives up on threads that do not answer."""

_log = logging.getLogger("orchestra.orchestrator")


class Phase(Enum):
    """The life of a member."""

    CHECKING = "checking"
    ACTIVE = "active"
    STOPPING = "stopping"
    ENDED = "ended"


class Task(NamedTuple):
    """What this member is to do.

    `path`: where the composition is to stand. `timeout_s`: give up after so long without a source;
    None: never. `gives`: False for a member that lets nobody ask it, as only a rehearsal has them.
    `max_peers`: how many connections the system has room for.
    """

    path: str
    sha1: bytes
    geometry: Geometry
    peer_id: bytes
    seed: bool = True
    timeout_s: float | None = None
    members: tuple[Address, ...] = ()
    gives: bool = True
    max_peers: int = MAX_PEERS


class Ports(NamedTuple):
    """Where the orchestrator's messages go; lists and stubs in tests.

    `threads` are the names of all that will say ThreadEnded.
    """

    links: Links
    listener: Inbox
    writer: Inbox
    reader: Inbox
    announcer: Inbox
    main: Inbox
    threads: frozenset[str]


class Orchestrator:
    """See the module's text. `now_s` is a monotonic clock's reading, in seconds, everywhere."""

    def __init__(self, task: Task, ports: Ports, *, rng: random.Random, now_s: float) -> None:
        self.phase = Phase.CHECKING
        self.swarm = Swarm(
            task.geometry,
            task.peer_id,
            links=ports.links,
            writer=ports.writer,
            reader=ports.reader,
            rng=rng,
            now_s=now_s,
            gives=task.gives,
            max_peers=task.max_peers,
        )
        self._task = task
        self._ports = ports
        self._schedule = AnnounceSchedule(now_s, rng)
        self._began_s = now_s
        self._installed = False
        self._whole = WholeFile(
            task.geometry, self.swarm.picker.have, task.sha1, path=task.path, kept=task.seed
        )
        self._running = set(ports.threads)
        self._next_tick_s = now_s
        self._gauge = Gauge(self.swarm, task.geometry, now_s)
        self._stop_by_s = 0.0
        self._end: Ended | None = None

    @property
    def wake_at_s(self) -> float:
        """When `tick` is to be called, at the latest."""
        if self.phase is Phase.STOPPING:
            return self._stop_by_s
        announce_s = self._schedule.due_s if self.swarm.listen_port else None
        return min([due for due in (self._next_tick_s, announce_s, self.swarm.due_s) if due is not None])

    def handle(  # noqa: C901, PLR0912, PLR0915 - the one dispatch, a line or two a message
        self, message: object, now_s: float
    ) -> None:
        """Take one message. Raises AssertionError for one that nobody should have sent."""
        match message:
            case Received():
                self.swarm.received(message, now_s)
            case BlocksSent(key, payload_bytes):
                if key in self.swarm.peers:
                    self.swarm.uploads.sent(self.swarm.peers[key], payload_bytes, now_s)
            case PartsWritten(good, bad):
                self._parts_written(good, bad, now_s)
            case LinkUp():
                self.swarm.link_up(message, now_s)
            case LinkClosed(key, reason):
                _log.info("connection %d: %s", key, reason)
                self.swarm.link_closed(key, now_s)
            case Accepted():
                self._accepted(message, now_s)
            case Starved():
                self.swarm.doorway.starved(now_s)
            case Announced():
                self._announced(message, now_s)
            case AnnounceFailed(_, reason):
                self._announce_failed(reason, now_s)
            case ReadFailed():
                self._lose(message, now_s)
            case Withdrawn(index):
                self.swarm.withdrawn(index, now_s)
            case CheckProgress() | Notice():
                self._ports.main.put(message)
            case Checked():
                self._checked(message, now_s)
            case Digested(sha1):
                self._digested(sha1, now_s)
            case Installed(path, stamp):
                self._ports.reader.put(Watch(bytearray(), stamp))
                self._complete(path, now_s)
            case Listening(host, port):
                self._listening(host, port, now_s)
            case Quit(reason):
                self._stop(reason, None, now_s)
            case DiskFailed(error) | ListenFailed(error):
                self._stop("error", error, now_s)
            case ThreadCrashed(name, crash):
                # The end of the program tells the user; the log has every crash, not only the first.
                _log.info("thread %s crashed", name, exc_info=crash)
                self._running.discard(name)
                self._stop("error", crash, now_s)
            case ThreadEnded(name):
                self._running.discard(name)
            case AnnouncerEnded():
                self._running.discard("announcer")
            case _:
                raise AssertionError(f"nobody should send {message!r}")
        if self.phase is Phase.STOPPING:
            self._maybe_end(now_s)

    def tick(self, now_s: float) -> None:
        """What the clock alone brings about."""
        if self.phase is Phase.STOPPING:
            self._maybe_end(now_s)
        if self.phase is not Phase.ACTIVE:
            self._next_tick_s = now_s + TICK_S
            return
        self.swarm.tell_waiting(now_s)
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + TICK_S
            self.swarm.tick(now_s)
            self._check_timeout(now_s)
        if not self.swarm.complete and not self.swarm.has_source:
            self._schedule.hasten(now_s)
        self._announce(now_s)
        self._show_progress(now_s)

    # Starting

    def _checked(self, checked: Checked, now_s: float) -> None:
        if self.phase is not Phase.CHECKING:
            self._rechecked(checked.right, now_s)
            return
        self.swarm.found(checked.right, checked.halves)
        if checked.installed or checked.doubtful:
            doubtful = checked.right if checked.doubtful else bytearray()
            self._ports.reader.put(Watch(bytearray(doubtful), checked.stamp))
        self.phase = Phase.ACTIVE
        self.swarm.sourced_at_s = now_s
        self.swarm.doorway.book.add(self._task.members, now_s, by_hand=True)
        self._ports.listener.put(Listen())
        if checked.installed:
            self._whole.final = True
            self._complete(self._task.path, now_s)
        else:
            self._digest_more()
        self._next_tick_s = now_s

    def _listening(self, host: str, port: int, now_s: float) -> None:
        """The listener is ready: only now is there a port to announce."""
        self.swarm.listen_port = port
        self._ports.main.put(Listening(host, port))
        self.tick(now_s)

    # Progress of the download

    def _parts_written(self, good: list[int], bad: list[int], now_s: float) -> None:
        self.swarm.parts_written(good, bad, now_s)
        if self.phase is Phase.ACTIVE:
            self._digest_more()
            self._show_progress(now_s)

    def _digest_more(self) -> None:
        """Let the whole-file hash follow the parts that are there without a gap from the start."""
        digest = self._whole.digest_more()
        if digest is not None:
            self._ports.writer.put(digest)

    def _digested(self, sha1: bytes, now_s: float) -> None:
        if self.phase is not Phase.ACTIVE:
            return
        try:
            order = self._whole.digested(sha1)
        except ScoreError as error:
            self._stop("error", error, now_s)
            return
        if isinstance(order, Recheck):
            # That takes a while, and one that is wrong could be asked for meanwhile.
            self._ports.reader.put(Watch(bytearray(b"\1" * self.swarm.picker.parts)))
        if order is not None:
            self._ports.writer.put(order)

    def _rechecked(self, right: bytearray, now_s: float) -> None:
        if self.phase is not Phase.ACTIVE:
            return
        try:
            lost = self._whole.rechecked(right)
        except ScoreError as error:
            self._stop("error", error, now_s)
        else:
            self._lose(ReadFailed(0, [], lost, "wrong on disk"), now_s)
            self._digest_more()

    def _lose(self, message: ReadFailed, now_s: float) -> None:
        """Parts are not right any more. As long as the file is ours they come anew; NAME is not touched."""
        if self.phase is not Phase.ACTIVE:
            return
        lost = self.swarm.read_failed(message, now_s, fetch=not self._whole.final)
        if not lost:
            return
        _log.warning("parts %s are lost: %s", lost, message.reason)
        if news := self._whole.lost(lost):
            self._ports.main.put(Notice(news))
        if self._whole.final and not self.swarm.picker.have.count:
            self._stop("error", None, now_s)

    def _complete(self, path: str, now_s: float) -> None:
        self._installed = True
        self._show_progress(now_s)
        downloaded_bytes = self.swarm.down.total_bytes
        self._ports.main.put(Complete(path, downloaded_bytes, now_s - self._began_s))
        if self.phase is Phase.ACTIVE:
            if downloaded_bytes:
                self._schedule.completed(now_s)
                self._announce(now_s)
            if not self._task.seed:
                self._stop("complete", None, now_s)
        elif self._end is not None:
            self._end = self._end._replace(complete=True)

    def _show_progress(self, now_s: float) -> None:
        if (progress := self._gauge.read(now_s)) is not None:
            self._ports.main.put(progress)

    # The network

    def _accepted(self, message: Accepted, now_s: float) -> None:
        if self.phase is Phase.ACTIVE:
            self.swarm.doorway.accepted(message, now_s)
        else:
            self._ports.links.refuse(message.sock)

    def _announce(self, now_s: float) -> None:
        event = self._schedule.take(now_s) if self.swarm.listen_port else None
        if event is not None:
            self._ports.announcer.put(self._standing(event))

    def _standing(self, event: str) -> Announce:
        return Announce(
            event=event,
            port=self.swarm.listen_port,
            uploaded_bytes=self.swarm.uploads.total_bytes,
            downloaded_bytes=self.swarm.down.total_bytes,
            left_bytes=self._gauge.left_bytes(),
            wanted=0 if event == "stopped" else WANTED_MEMBERS,
        )

    def _announced(self, message: Announced, now_s: float) -> None:
        if self.phase is not Phase.ACTIVE:
            return
        self._schedule.answered(message.event, message.interval_s, message.min_interval_s, now_s)
        self.swarm.doorway.book.add(message.members, now_s)
        if not message.event:
            self.swarm.doorway.book.urge(message.members)
        self.swarm.expect_others(seeders=message.seeders, leechers=message.leechers)
        self.swarm.doorway.dial_more(now_s)

    def _announce_failed(self, reason: str, now_s: float) -> None:
        if self.phase is not Phase.ACTIVE:
            return
        if not self._schedule.failures:
            self._ports.main.put(Notice(f"no conductor answers, trying on: {reason}"))
        _log.info("announce failed: %s", reason)
        self._schedule.failed(now_s)

    def _check_timeout(self, now_s: float) -> None:
        timeout_s = self._task.timeout_s
        if timeout_s is None or self.swarm.complete or now_s - self.swarm.sourced_at_s < timeout_s:
            return
        text = f"no source for {timeout_s:g} s (--timeout): is a seeding member running, and reachable?"
        self._stop("error", NetworkError(text), now_s)

    # Stopping

    def _stop(self, reason: str, error: BaseException | None, now_s: float) -> None:
        """Begin to stop; a second stop only replaces an ordinary reason by an error."""
        if self.phase in (Phase.STOPPING, Phase.ENDED):
            if error is not None and self._end is not None and not self._end.complete:
                self._end = Ended(self._end.reason, complete=False, error=self._end.error or error)
            return
        self._end = Ended(reason, complete=self._installed, error=error or self._whole.damage)
        self.phase = Phase.STOPPING
        self._stop_by_s = now_s + STOPPING_S
        # The conductor first: it takes longest. Then nobody new, nobody old; the disk last, so that
        # what the connections still deliver is written.
        if self._schedule.known_to_conductor or self.swarm.listen_port:
            self._ports.announcer.put(self._standing("stopped"))
        self._ports.announcer.put(Stop())
        self._ports.listener.put(Stop())
        self._ports.links.stop_dialling()
        self.swarm.close_all("we stop")
        self._ports.reader.put(Stop())
        self._ports.writer.put(Stop())  # which passes it on to the digest thread
        self._maybe_end(now_s)

    def _maybe_end(self, now_s: float) -> None:
        late = now_s >= self._stop_by_s
        if self.phase is Phase.STOPPING and (late or not (self._running or self.swarm.doorway.connections)):
            if late:
                _log.warning(
                    "gave up on %s and %d connections", sorted(self._running), self.swarm.doorway.connections
                )
            self.phase = Phase.ENDED
            assert self._end is not None
            self._ports.main.put(self._end)
