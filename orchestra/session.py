"""A member's threads, built and joined to one another: the only place that knows them all.

Used by member.py from the main thread: start, read `inbox` until Ended, join.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import time
from collections.abc import Callable
from typing import Any

import netutils
from orchestra.announcer import Announcer
from orchestra.connection import Connection, Identity
from orchestra.descriptors import room_for_peers
from orchestra.digest import DigestWorker
from orchestra.doorway import MAX_PEERS, SPARE_PEERS
from orchestra.errors import NetworkError
from orchestra.geometry import Geometry
from orchestra.listener import Listener
from orchestra.mailbox import Mailbox
from orchestra.messages import Address, Ended, Quit, Stop
from orchestra.orchestrator import STOPPING_S, Orchestrator, Phase, Ports, Task
from orchestra.reader import Reader
from orchestra.receiver import FEW_CONNECTIONS, Receiver
from orchestra.score import Score
from orchestra.storage import Storage
from orchestra.uploads import READS_AT_ONCE
from orchestra.worker import ThreadCrashed, Worker, small_stacks, start_thread
from orchestra.writer import Writer

INBOX_MESSAGES = 256
JOIN_S = 0.5
QUIT_LOOK_S = 0.1
SIGNAL_LOOK_S = 0.5
"""How long main waits for its queue at a stretch: a signal that comes just before it falls asleep does not
wake it, nor does any on Windows."""
PEER_ID_PREFIX = b"-OR0100-"


def new_peer_id() -> bytes:
    """20 bytes: who we are by BEP 20's convention, and 12 random ones."""
    return PEER_ID_PREFIX + os.urandom(6).hex().encode()


class Connector:
    """Makes a Connection and starts its thread, for the orchestrator (doorway.Links)."""

    def __init__(self, identity: Identity, report: Callable[[Any], None]) -> None:
        self._identity = identity
        self._report = report
        with contextlib.ExitStack() as on_failure:
            self._cancel = netutils.Cancel()
            on_failure.callback(self._cancel.close)
            self.receiver = Receiver(report)
            on_failure.pop_all()
        self._connections: list[Connection] = []

    def dial(self, key: int, address: Address) -> Connection:
        """See doorway.Links."""
        return self._start(key, address, None)

    def adopt(self, key: int, sock: Any, address: Address) -> Connection:
        """See doorway.Links."""
        return self._start(key, address, sock)

    def refuse(self, sock: Any) -> None:
        """See doorway.Links."""
        sock.close()

    def stop_dialling(self) -> None:
        """See doorway.Links."""
        self._cancel.set()
        self.receiver.put(Stop())

    @property
    def running(self) -> list[Connection]:
        """The connections whose threads have not ended."""
        return [connection for connection in self._connections if connection.is_alive()]

    def close(self) -> None:
        """Release what `stop_dialling` needs; after all connections have ended."""
        self._cancel.close()
        self.receiver.close()

    def _start(self, key: int, address: Address, sock: Any) -> Connection:
        others = self.running
        connection = Connection(
            key,
            address,
            self._identity,
            self._report,
            sock=sock,
            receiver=self.receiver,
            cancel=self._cancel,
        )
        start_thread(connection)
        self._connections = [*others, connection]
        if len(others) >= FEW_CONNECTIONS:
            for one in self._connections:
                one.take_turns()
        return connection


def _with_sockets(
    identity: Identity, port: int | None, report: Callable[[Any], None]
) -> tuple[Connector, Listener]:
    """Who needs sockets from the start, to be woken. Raises NetworkError when there are none."""
    connector = None
    try:
        connector = Connector(identity, report)
        return connector, Listener(port, report)
    except OSError as error:
        if connector is not None:
            connector.close()
        raise NetworkError(f"cannot open a socket: {error.strerror or error}") from error


class _OrchestratorThread(Worker):
    """Takes messages from the inbox, with the time, until the orchestrator has ended."""

    def __init__(self, orchestrator: Orchestrator, inbox: Mailbox[Any], main: queue.SimpleQueue[Any]) -> None:
        super().__init__("orchestrator", main.put)
        self._orchestrator = orchestrator
        self._inbox = inbox

    def work(self) -> None:
        orchestrator, inbox = self._orchestrator, self._inbox
        while orchestrator.phase is not Phase.ENDED:
            try:
                message = inbox.get(orchestrator.wake_at_s - time.monotonic())
            except queue.Empty:
                orchestrator.tick(time.monotonic())
                continue
            now_s = time.monotonic()
            orchestrator.handle(message, now_s)
            if now_s >= orchestrator.wake_at_s:
                orchestrator.tick(now_s)


class Session:
    """Everything between the command line and the threads. Main reads `next_message` until Ended.

    Raises NetworkError when the system has no socket to spare.
    """

    def __init__(
        self,
        score: Score,
        storage: Storage,
        *,
        port: int | None = None,
        seed: bool = True,
        timeout_s: float | None = None,
        members: tuple[Address, ...] = (),
    ) -> None:
        peer_id = new_peer_id()
        geometry = Geometry(score.size_bytes, score.part_size_bytes)
        identity = Identity(score.info_hash, peer_id, score.parts, score.part_size_bytes)
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._orders: Mailbox[Any] = Mailbox(INBOX_MESSAGES)
        self._storage = storage
        report = self._orders.put
        self._connector, self._listener = _with_sockets(identity, port, report)
        self._reader = Reader(storage, score, MAX_PEERS * READS_AT_ONCE, report)
        self._digest = DigestWorker(storage, report)
        self._writer = Writer(storage, score, self._digest.inbox, report, kept=seed)
        self._announcer = Announcer(score.conductors, score.info_hash, peer_id=peer_id, report=report)
        self._workers: list[Worker] = [
            self._listener,
            self._connector.receiver,
            self._reader,
            self._digest,
            self._announcer,
            # Last: once it has checked what is on disk, peers want threads too, and there may be few.
            self._writer,
        ]
        ports = Ports(
            links=self._connector,
            listener=self._listener,
            writer=self._writer.inbox,
            reader=self._reader.inbox,
            announcer=self._announcer,
            main=self.inbox,
            threads=frozenset(worker.name for worker in self._workers),
        )
        task = Task(
            path=str(storage.path),
            sha1=score.sha1,
            geometry=geometry,
            peer_id=peer_id,
            seed=seed,
            timeout_s=timeout_s,
            members=members,
            max_peers=room_for_peers(MAX_PEERS + SPARE_PEERS) - SPARE_PEERS,
        )
        rng = random.Random()  # noqa: S311 - picks parts and peers, guards nothing
        orchestrator = Orchestrator(task, ports, rng=rng, now_s=time.monotonic())
        self._orchestrator = _OrchestratorThread(orchestrator, self._orders, self.inbox)
        self.asked_to_stop = False
        """Whether `quit` was called."""
        self.stuck: list[str] = []
        """After `join`: the names of threads that did not end."""

    def start(self) -> None:
        """Start all threads; the orchestrator first, since the others report to it."""
        small_stacks()
        self._orchestrator.start()
        for worker in self._workers:
            worker.start()

    def quit(self, reason: str) -> None:
        """Ask for a clean stop; Ended follows. Once the orchestrator has ended nobody is asked any more."""
        self.asked_to_stop = True
        while self._orchestrator.is_alive():
            with contextlib.suppress(queue.Full):
                self._orders.put(Quit(reason), QUIT_LOOK_S)
                return

    def next_message(self) -> Any:
        """What the orchestrator, a key or a signal says next; Ended is the last."""
        while True:
            try:
                message = self.inbox.get(timeout=SIGNAL_LOOK_S)
            except queue.Empty:
                continue
            if isinstance(message, ThreadCrashed):
                return Ended("error", complete=False, error=message.error)
            return message

    def abandon(self) -> None:
        """Main cannot go on: stop as cleanly as the orchestrator still can."""
        if self._orchestrator.is_alive():
            self.quit("error")
            self._orchestrator.join(STOPPING_S + JOIN_S)
        self.join()

    def join(self) -> None:
        """Wait for the threads, which have said their last words or were given up on.

        One that is stuck in the system (a name lookup, a disk) cannot be woken: the process
        ends without it, since what it holds is of no use any more.
        """
        deadline_s = time.monotonic() + JOIN_S
        ours = [self._orchestrator, *self._workers, *self._connector.running]
        for thread in ours:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self.stuck = [thread.name for thread in ours if thread.is_alive()]
        if not self.stuck:
            # Nobody reads or writes any more: closed sooner, its number might be another file's by then.
            self._storage.close()
            self._connector.close()
