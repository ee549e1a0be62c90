"""A member of a rehearsal: the real orchestrator, and its threads as a few lines each.

Pure, on the virtual clock. The reader has every block at once, as from the
system's cache; the writer and the digest take DISK_S; the announcer's exchange
takes two round trips.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from orchestra.geometry import Geometry
from orchestra.messages import (
    Announce,
    AnnouncerEnded,
    BlocksSent,
    Checked,
    Complete,
    Digest,
    Digested,
    Ended,
    Forget,
    Install,
    Installed,
    Listen,
    Listening,
    PartsWritten,
    Quit,
    Read,
    Received,
    Stop,
    ThreadEnded,
    Watch,
    Write,
)
from orchestra.orchestrator import Orchestrator, Ports, Task
from orchestra.rehearsal.conductor import Conductor
from orchestra.rehearsal.host import Host, Network
from orchestra.rehearsal.lines import Lines
from orchestra.rehearsal.outcome import MemberOutcome
from orchestra.rehearsal.plan import Group
from orchestra.rehearsal.tally import Parts
from orchestra.wire import Blocks

DISK_S = 0.002
PORT = 6881
_THREADS = frozenset({"announcer", "digest", "listener", "reader", "writer"})
_SHA1 = bytes(20)


class Port:
    """An inbox that is dealt with at once."""

    __slots__ = ("put",)

    def __init__(self, put: Callable[[Any], None]) -> None:
        self.put = put


class Member:
    """One machine of a group, from its start on. `left` is called when it has gone, or has all."""

    def __init__(  # noqa: PLR0913 - what a member is made of, given once
        self,
        number: int,
        group: Group,
        group_number: int,
        geometry: Geometry,
        rng: random.Random,
        *,
        network: Network,
        conductor: Conductor,
        parts: Parts,
        settled: Callable[[Member], None],
    ) -> None:
        self.group = group
        self.gone = False
        self.finished_s: float | None = None
        self._left_s: float | None = None
        copies = group.leaves_after_copies
        self._leaves_at_bytes = math.inf if copies is None else copies * geometry.size_bytes
        self._number = number
        self._group_number = group_number
        self._geometry = geometry
        self._clock = network.clock
        self._conductor = conductor
        self._trace = network.trace
        self._parts = parts
        self._settled = settled
        self._joined_s = self._clock.now_s
        self._arrived: dict[int, int] = {}
        self._waking_s = 0.0
        peer_id = b"-OR0100-" + rng.randbytes(6).hex().encode()
        self._host = Host(network, number, peer_id, Lines(group.up_bytes_s, group.down_bytes_s))
        self._host.hear = self.hear
        self._host.wake = self._hear_soon
        self._orchestrator = Orchestrator(
            self._task(peer_id), self._ports(), rng=rng, now_s=self._clock.now_s
        )
        self._host.handle = self._orchestrator.handle
        self._swarm = self._orchestrator.swarm

    def begin(self) -> None:
        """The check of what is on disk has ended."""
        holds_all = self.group.holds_all
        self.hear(Checked(bytearray([holds_all]) * self._geometry.parts, installed=holds_all))

    @property
    def uploaded_bytes(self) -> int:
        """What has left, blocks alone."""
        return self._swarm.uploads.total_bytes

    def outcome(self) -> MemberOutcome:
        """How it went."""
        return MemberOutcome(
            group=self._group_number,
            joined_s=self._joined_s,
            finished_s=self.finished_s,
            left_s=self._left_s,
            uploaded_bytes=self.uploaded_bytes,
            downloaded_bytes=self._swarm.down.total_bytes,
            wasted_bytes=self._swarm.downloads.wasted_bytes,
        )

    # The orchestrator's thread

    def hear(self, message: Any) -> None:
        """Let the orchestrator handle a message, and what comes of it at once."""
        self._handle(message)
        self._hear_soon()

    def _hear_soon(self) -> None:
        soon = self._host.soon
        while soon:
            self._handle(soon.popleft())
        if self._host.words:
            self._host.flush()

    def _handle(self, message: Any) -> None:
        if self.gone:
            return
        now_s = self._clock.now_s
        self._note(message, now_s)
        self._orchestrator.handle(message, now_s)
        if isinstance(message, BlocksSent):
            if self.uploaded_bytes >= self._leaves_at_bytes:
                self._leaves_at_bytes = math.inf
                self._host.soon.append(Quit("q"))
        elif not isinstance(message, Received):
            self._wake_in_time()

    def _note(self, message: Any, now_s: float) -> None:
        match message:
            case Received(key=key, messages=messages):
                self._trace.note(now_s, self._number, key, len(messages))
            case BlocksSent(key, payload_bytes):
                self._trace.note(now_s, self._number, -key, payload_bytes)
            case PartsWritten(good):
                self._trace.note(now_s, self._number, 0, good[0])
            case _:
                kind = sum(type(message).__name__.encode())
                self._trace.note(now_s, self._number, kind, 0)

    def _wake_in_time(self) -> None:
        wake_at_s = max(self._orchestrator.wake_at_s, self._clock.now_s)
        if self._waking_s <= self._clock.now_s or wake_at_s < self._waking_s:
            self._waking_s = wake_at_s
            self._clock.at(wake_at_s, self._tick, wake_at_s)

    def _tick(self, due_s: float) -> None:
        # An earlier call may have been entered since: then this one is not due any more.
        if not self.gone and due_s == self._waking_s:
            self._orchestrator.tick(self._clock.now_s)
            self._waking_s = 0.0
            self._wake_in_time()
            self._hear_soon()

    def _later(self, delay_s: float, message: Any) -> None:
        self._clock.after(delay_s, self.hear, message)

    # Its threads

    def _task(self, peer_id: bytes) -> Task:
        return Task(
            path="rehearsed",
            sha1=_SHA1,
            geometry=self._geometry,
            peer_id=peer_id,
            seed=not self.group.leaves_when_complete,
            gives=self.group.gives,
        )

    def _ports(self) -> Ports:
        return Ports(
            links=self._host,
            listener=Port(self._listen),
            writer=Port(self._write),
            reader=Port(self._read),
            announcer=Port(self._announce),
            main=Port(self._main),
            threads=_THREADS,
        )

    def _listen(self, message: Listen | Stop) -> None:
        self._host.listens = isinstance(message, Listen)
        self._host.soon.append(
            Listening(self._host.address, PORT) if self._host.listens else ThreadEnded("listener")
        )

    def _read(self, message: Read | Watch | Stop) -> None:
        if isinstance(message, Read):
            outbox: Any = message.outbox
            outbox.ship(message.blocks)
        elif isinstance(message, Stop):
            self._host.soon.append(ThreadEnded("reader"))

    def _write(self, message: Write | Forget | Digest | Install | Stop) -> None:
        match message:
            case Write(_, runs):
                whole = [index for run in runs for index in self._take_in(run)]
                if whole:
                    self._clock.after(DISK_S, self._written, whole)
            case Forget(index):
                self._arrived.pop(index, None)
            case Digest(up_to_bytes):
                if up_to_bytes == self._geometry.size_bytes:
                    self._later(DISK_S, Digested(_SHA1))
            case Install():
                self._later(DISK_S, Installed("rehearsed"))
            case Stop():
                self._host.soon += (ThreadEnded("writer"), ThreadEnded("digest"))

    def _take_in(self, run: Blocks) -> list[int]:
        """Count what has come; the parts that are whole now."""
        geometry, whole = self._geometry, []
        offset, end = run.offset, run.offset + run.length
        while offset < end:
            index = offset // geometry.part_size_bytes
            next_offset = min(end, (index + 1) * geometry.part_size_bytes)
            arrived = self._arrived.get(index, 0) + next_offset - offset
            if arrived == geometry.part_length(index):
                self._arrived.pop(index, None)
                whole.append(index)
            else:
                self._arrived[index] = arrived
            offset = next_offset
        return whole

    def _written(self, whole: list[int]) -> None:
        if self.gone:
            return
        self.hear(PartsWritten(whole, []))
        self._parts.got(whole, self._clock.now_s)
        share = self.group.dies_at_share
        if share is not None and self._swarm.picker.have.count >= share * self._geometry.parts:
            self._go()

    def _announce(self, message: Announce | Stop) -> None:
        trip_s = self._host.network.latency_s
        if isinstance(message, Stop):
            self._later(4 * trip_s, AnnouncerEnded())
        else:
            self._clock.after(3 * trip_s, self._ask, message)

    def _ask(self, message: Announce) -> None:
        host = self._host
        answer = self._conductor.answer(
            message, host=host.address, peer_id=host.peer_id, info_hash=host.network.info_hash
        )
        self._later(host.network.latency_s, answer)

    def _main(self, message: Any) -> None:
        match message:
            case Complete():
                self.finished_s = self._clock.now_s
                self._settled(self)
            case Ended():
                self._go()

    def _go(self) -> None:
        """It is no more: its process has ended, however."""
        self.gone = True
        self._left_s = self._clock.now_s
        self._host.leave()
        self._settled(self)
