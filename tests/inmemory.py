"""A swarm in memory: real orchestrators on a virtual clock, all that surrounds them played in a few lines.

One heap holds what is to happen, in the order of the virtual time; equal times
keep the order in which they were entered. So a seed decides everything, and
the same seed gives the same swarm, message by message.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

from netutils import Address
from orchestra.buffers import Pool
from orchestra.decoder import Decoder
from orchestra.messages import (
    Accepted,
    Announce,
    Announced,
    AnnounceFailed,
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
    LinkClosed,
    LinkUp,
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
from orchestra.orchestrator import Orchestrator, Phase, Ports, Task
from orchestra.score import Score
from orchestra.shipment import Shipment
from orchestra.wire import OUR_EXTENSIONS, Blocks, Handshake
from tests.fakes import CountingBuffer, geometry_of

LATENCY_S = 0.01
DISK_S = 0.001
UPLINK_BYTES_S = 1_000_000.0
PORT = 6881


class World:
    """The clock, the network and the conductor."""

    def __init__(self, score: Score, data: bytes, seed: int) -> None:
        self.score = score
        self.data = data
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.members: dict[str, Member] = {}
        self.conductor_answers = True
        self.conducted: dict[Address, int] = {}
        """Who has announced, and how many bytes each of them lacks."""
        self.trace: list[tuple[float, str, str]] = []
        """What every orchestrator was told: when, to whom, which kind of message."""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Let something happen."""
        heapq.heappush(self._heap, (self.now_s + delay_s, next(self._count), action))

    def run(self, until: Callable[[], bool], *, limit_s: float = 600.0) -> None:
        """Go on until it is so. Fails after `limit_s` of virtual time."""
        end_s = self.now_s + limit_s
        while not until():
            assert self._heap, "nothing will ever happen again"
            self.now_s, _, action = heapq.heappop(self._heap)
            assert self.now_s < end_s, f"not so within {limit_s} s: {self.standing()}"
            action()

    def join(self, **options: Any) -> Member:
        """One member more; see Member."""
        member = Member(self, f"10.0.0.{len(self.members) + 1}", **options)
        self.members[member.host] = member
        return member

    def standing(self) -> str:
        """How far everybody has come."""
        return ", ".join(
            f"{host}: {member.orchestrator.swarm.picker.have.count}" for host, member in self.members.items()
        )

    def announced(self, host: str, message: Announce) -> Announced | AnnounceFailed:
        """What the conductor answers."""
        if not self.conductor_answers:
            return AnnounceFailed(message.event, "nobody there")
        address = (host, message.port)
        self.conducted[address] = message.left_bytes
        if message.event == "stopped":
            del self.conducted[address]
        others = [other for other in self.conducted if other != address]
        seeders = sum(left == 0 for left in self.conducted.values())
        return Announced(
            conductor="conductor:9999",
            event=message.event,
            members=tuple(self.rng.sample(others, min(len(others), message.wanted))),
            interval_s=120.0,
            min_interval_s=10.0,
            seeders=seeders,
            leechers=len(self.conducted) - seeders,
        )


class Inbox:
    """Takes a message now, deals with it a moment later: what a thread with a queue does."""

    def __init__(self, world: World, handle: Callable[[Any], None], delay_s: float = 0.0) -> None:
        self._world, self._handle, self._delay_s = world, handle, delay_s

    def put(self, message: Any, /) -> None:
        self._world.after(self._delay_s, lambda: self._handle(message))


class WireEnd:
    """One end of a connection: the Link of an orchestrator, and what a connection thread does."""

    def __init__(self, member: Member, key: int = 0) -> None:
        self.member = member
        self.key = key
        self.other: WireEnd | None = None
        self.open = True
        self._quiet_from_s = 0.0
        score = member.world.score
        self._decoder = Decoder(score.parts, score.part_size_bytes)
        self._rest = b""

    def agree(self, handshake: Handshake) -> None:
        """Both sides know what they speak."""
        score = self.member.world.score
        self._decoder = Decoder(score.parts, score.part_size_bytes, fast=handshake.speaks_fast)

    def send(self, item: bytes | Shipment) -> bool:
        if not self.open:
            return False
        sent_s = self.member.world.now_s
        if isinstance(item, Shipment):
            data, payload_bytes = b"".join(item.slots), item.payload_bytes
            item.give_back()
            sent_s = self.member.take_uplink(len(data))
            self.member.tell(BlocksSent(self.key, payload_bytes), sent_s - self.member.world.now_s)
        else:
            data = item
        # TCP keeps the order, also of a short message behind a long one.
        self._quiet_from_s = max(self._quiet_from_s, sent_s + LATENCY_S)
        self.member.world.after(self._quiet_from_s - self.member.world.now_s, lambda: self._arrive(data))
        return True

    def _arrive(self, data: bytes) -> None:
        if self.open and self.other is not None and self.other.open:
            self.other.receive(data)

    def receive(self, data: bytes) -> None:
        data = self._rest + data
        messages, used = self._decoder.decode(memoryview(data), len(data))
        self._rest = data[used:]
        buffer = None
        if any(isinstance(message, Blocks) for message in messages):
            buffer = CountingBuffer()
            self.member.lent.append(buffer)
        self.member.hear(Received(self.key, messages, buffer))

    def close(self, reason: str) -> None:
        self.end(reason)
        if self.other is not None:
            other = self.other
            self.member.world.after(LATENCY_S, lambda: other.end("closed by the peer"))

    def end(self, reason: str) -> None:
        """The last word, once."""
        if self.open:
            self.open = False
            if self.key:
                self.member.tell(LinkClosed(self.key, reason))


class Member:
    """An orchestrator with played threads. `data` is what is on its disk; None: nothing.

    `lies` is the share of its shipments in which a byte is wrong. `extensions`: the
    reserved bytes of its handshake.
    """

    def __init__(
        self,
        world: World,
        host: str,
        *,
        data: bytes | None = None,
        seed: bool = True,
        lies: float = 0.0,
        uplink_bytes_s: float = UPLINK_BYTES_S,
        members: tuple[Address, ...] = (),
        extensions: int = OUR_EXTENSIONS,
    ) -> None:
        self.world, self.host = world, host
        self.data = bytearray(world.score.size_bytes) if data is None else bytearray(data)
        self.told: list[Any] = []
        """What main was told."""
        self.lent: list[CountingBuffer] = []
        self.bad_parts: list[int] = []
        """Parts that turned out wrong."""
        self.gone = False
        self.extensions = extensions
        self._lies, self._uplink_bytes_s = lies, uplink_bytes_s
        self._uplink_free_s = self._waking_s = 0.0
        self._pool = Pool(1000, Shipment)
        self._received: dict[int, dict[int, int]] = {}
        geometry = geometry_of(world.score)
        ports = Ports(
            links=self,
            listener=Inbox(world, self._listen),
            writer=Inbox(world, self._write, DISK_S),
            reader=Inbox(world, self._read, DISK_S),
            announcer=Inbox(world, self._announce, LATENCY_S),
            main=Inbox(world, self.told.append),
            threads=frozenset({"listener", "writer", "reader", "digest", "announcer"}),
        )
        task = Task(
            path=world.score.name,
            sha1=world.score.sha1,
            geometry=geometry,
            peer_id=b"-OR0100-" + world.rng.randbytes(6).hex().encode(),
            seed=seed,
            members=members,
        )
        rng = random.Random(world.rng.random())
        self.orchestrator = Orchestrator(task, ports, rng=rng, now_s=world.now_s)
        right = bytearray([data is not None] * geometry.parts)
        self.tell(Checked(right, installed=data is not None))

    @property
    def complete(self) -> bool:
        return any(isinstance(message, Complete) for message in self.told)

    @property
    def ended(self) -> Ended | None:
        """The orchestrator's last word, if it was said."""
        last = self.told[-1] if self.told else None
        return last if isinstance(last, Ended) else None

    @property
    def uploaded_bytes(self) -> int:
        return self.orchestrator.swarm.uploads.total_bytes

    # The orchestrator's thread

    def tell(self, message: Any, delay_s: float = 0.0) -> None:
        """Put a message into the orchestrator's inbox."""
        self.world.after(delay_s, lambda: self.hear(message))

    def hear(self, message: Any) -> None:
        """Let the orchestrator handle a message, and check its books."""
        if self.gone or self.orchestrator.phase is Phase.ENDED:
            return
        self.world.trace.append((self.world.now_s, self.host, type(message).__name__))
        self.orchestrator.handle(message, self.world.now_s)
        assert self.orchestrator.swarm.downloads.unsound() == ""
        self._wake_in_time()

    def _wake_in_time(self) -> None:
        wake_at_s = max(self.orchestrator.wake_at_s, self.world.now_s)
        if self._waking_s <= self.world.now_s or wake_at_s < self._waking_s:
            self._waking_s = wake_at_s
            self.world.after(wake_at_s - self.world.now_s, self._tick)

    def _tick(self) -> None:
        if not self.gone and self.orchestrator.phase is not Phase.ENDED:
            self.orchestrator.tick(self.world.now_s)
            assert self.orchestrator.swarm.downloads.unsound() == ""
            self._wake_in_time()

    def kill(self) -> None:
        """As kill -9 does it: the system closes the sockets, nobody says a word."""
        self.gone = True
        for end in self._ends:
            end.close("killed")

    def quit(self) -> None:
        """As the user does it."""
        self.tell(Quit("q"))

    # doorway.Links

    @property
    def _ends(self) -> list[WireEnd]:
        links = [peer.link for peer in self.orchestrator.swarm.peers.values()]
        return [link for link in links if isinstance(link, WireEnd)]

    def dial(self, key: int, address: Address) -> WireEnd:
        ours = WireEnd(self, key)
        self.world.after(LATENCY_S, lambda: self._ring(ours, address))
        return ours

    def _ring(self, ours: WireEnd, address: Address) -> None:
        callee = self.world.members.get(address[0])
        if callee is None or callee.gone or callee.orchestrator.swarm.listen_port != address[1]:
            ours.end("Connection refused")
            return
        theirs = WireEnd(callee)
        ours.other, theirs.other = theirs, ours
        callee.hear(Accepted(theirs, (self.host, 40_000 + ours.key)))

    def adopt(self, key: int, sock: Any, address: Address) -> WireEnd:
        theirs: WireEnd = sock
        theirs.key = key
        assert theirs.other is not None
        for end, peer in ((theirs, theirs.other.member), (theirs.other, self)):
            self.world.after(LATENCY_S, lambda end=end, peer=peer: end.member.shake(end, peer))  # type: ignore[misc]
        return theirs

    def shake(self, end: WireEnd, peer: Member) -> None:
        """The other side's handshake has come."""
        if end.open:
            spoken = self.extensions & peer.extensions
            peer_id = peer.orchestrator._task.peer_id
            handshake = Handshake(spoken, self.world.score.info_hash, peer_id)
            end.agree(handshake)
            self.hear(LinkUp(end.key, handshake))

    def refuse(self, sock: Any) -> None:
        sock.close("refused")

    def stop_dialling(self) -> None:
        pass

    # The other threads

    def take_uplink(self, length_bytes: int) -> float:
        """When so many bytes will have left, behind all that is leaving already."""
        self._uplink_free_s = max(self._uplink_free_s, self.world.now_s) + length_bytes / self._uplink_bytes_s
        return self._uplink_free_s

    def _listen(self, message: Listen | Stop) -> None:
        self.tell(Listening(self.host, PORT) if isinstance(message, Listen) else ThreadEnded("listener"))

    def _announce(self, message: Announce | Stop) -> None:
        if isinstance(message, Stop):
            self.tell(AnnouncerEnded())
        elif not self.gone:
            self.tell(self.world.announced(self.host, message), LATENCY_S)

    def _read(self, message: Read | Watch | Stop) -> None:
        if isinstance(message, Stop):
            self.tell(ThreadEnded("reader"))
        if not isinstance(message, Read):
            return
        shipment = self._pool.take()
        for offset, view in shipment.load(message.blocks, self.world.score.part_size_bytes):
            view[:] = self.data[offset : offset + len(view)]
            assert view == self.world.data[offset : offset + len(view)], "a wrong byte was served"
        if self.world.rng.random() < self._lies:
            shipment.slots[-1][0] ^= 0xFF
        if not message.outbox.send(shipment):
            shipment.give_back()

    def _write(self, message: Write | Forget | Digest | Install | Stop) -> None:
        match message:
            case Write(buffer, runs):
                judged = [verdict for run in runs for verdict in self._store(run)]
                buffer.give_back()
                if judged:
                    good, bad = (
                        [index for index, right in judged if right is wanted] for wanted in (True, False)
                    )
                    self.bad_parts += bad
                    self.tell(PartsWritten(good, bad))
            case Forget(index):
                self._received.pop(index, None)
            case Digest(up_to_bytes):
                if up_to_bytes == self.world.score.size_bytes:
                    self.tell(Digested(hashlib.sha1(self.data).digest()))
            case Install():
                self.tell(Installed(self.world.score.name))
            case Stop():
                self.tell(ThreadEnded("writer"))
                self.tell(ThreadEnded("digest"))

    def _store(self, run: Blocks) -> list[tuple[int, bool]]:
        """Write a run; the parts that are whole now, and whether they are right."""
        score, judged = self.world.score, []
        self.data[run.offset : run.offset + run.length] = b"".join(run.views)
        position, end = run.offset, run.offset + run.length
        while position < end:
            index, begin = divmod(position, score.part_size_bytes)
            length = min(end - position, score.part_length(index) - begin)
            pieces = self._received.setdefault(index, {})
            assert begin not in pieces, "the same bytes were taken twice"
            pieces[begin] = length
            if sum(pieces.values()) == score.part_length(index):
                del self._received[index]
                start = index * score.part_size_bytes
                part = self.data[start : start + score.part_length(index)]
                judged.append((index, hashlib.sha1(part).digest() == score.part_sha1(index)))
            position += length
        return judged
