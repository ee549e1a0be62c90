"""A stage for one real orchestrator. What surrounds it is played, and may fail, lie, stall or leave.

What is played keeps the rules that the threads keep (one last word each, nothing
of a connection before LinkUp or after LinkClosed, Checked once), and no others.
`check` holds the invariants. Chance is asked for by `choose(n)`, a number below
n: from bytes in a fuzzing run, from hypothesis in a state machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from orchestra.decoder import Decoder
from orchestra.doorway import MAX_DEPARTED, MAX_PEERS, SPARE_PEERS
from orchestra.errors import NetworkError, StorageError
from orchestra.geometry import Geometry
from orchestra.messages import (
    Accepted,
    Announce,
    Announced,
    AnnounceFailed,
    AnnouncerEnded,
    BlocksSent,
    Checked,
    CheckProgress,
    Digest,
    Digested,
    DiskFailed,
    Ended,
    Forget,
    Install,
    Installed,
    LinkClosed,
    LinkUp,
    ListenFailed,
    Listening,
    Lost,
    PartsWritten,
    Quit,
    Read,
    ReadFailed,
    Received,
    Recheck,
    Stop,
    ThreadEnded,
    Watch,
    Withdrawn,
    Write,
)
from orchestra.orchestrator import STOPPING_S, Orchestrator, Phase, Ports, Task
from orchestra.pace import MAX_DEPTH
from orchestra.picker import PartState
from orchestra.service import UPLOAD_SLOTS
from orchestra.uploads import MAX_ASKED, READS_AT_ONCE
from orchestra.wire import BLOCK_BYTES, Blocks, Cancels, Handshake, Message, Requests
from orchestra.worker import ThreadCrashed
from tests.fakes import CountingBuffer

Choose = Callable[[int], int]

SHAPES = (
    (5 * 16384, 16384),
    (100_000, 40_000),
    (12 * 65536, 65536),
    (30_000, 1000),
    (40_001, 16384),
    (200, 7),
    (1, 1),
    (0, 16384),
    (16384 * 9, 16384 * 3),
    (90_000, 20_000),
)
"""Sizes and part sizes of compositions."""
HOSTS = ("10.0.0.1", "10.0.0.2", "192.0.2.7", "127.0.0.1", "2001:db8::1", "10.0.0.3", "203.0.113.9", "::1")
THREADS = ("listener", "writer", "reader", "digest", "announcer")
OUR_ID = b"-OR0100-ourselves---"
SHA1 = bytes(range(20))
_MAY_BE_READ = (PartState.HAVE, PartState.LOST, PartState.GONE)
_IS_HAVE = bytes(state == PartState.HAVE for state in range(256))
BOOKS_AFTER = 4
_MEMORY = memoryview(bytes(8 * BLOCK_BYTES))


class PlayedInbox(list[Any]):
    """An inbox whose messages wait until their turn is played."""

    def put(self, message: Any, /) -> None:
        self.append(message)


class PlayedLink:
    """A connection. `state`: "begun", "up" after the handshake, "ended" after the last word."""

    def __init__(self, stage: Stage, key: int) -> None:
        self.stage, self.key = stage, key
        self.state = "begun"
        self.shut = ""
        """Why the orchestrator closed it."""
        self.full = False
        self.fast = False
        self.owed: dict[int, None] = {}
        """Keys of the blocks that it was asked for, in order."""
        self.leaving: list[int] = []
        """Bytes of shipments that are about to leave."""
        self._decoder = Decoder(stage.geometry.parts, stage.geometry.part_size_bytes, fast=True)

    def send(self, item: Any) -> bool:
        peer = self.stage.orchestrator.swarm.peers.get(self.key)
        assert peer is None or not peer.closing, f"a closed peer is told something: {self.shut}"
        if self.full or self.state == "ended":
            return False
        messages, used = self._decoder.decode(memoryview(item), len(item))
        assert used == len(item), "half a message"
        for message in messages:
            self._hear(message)
        return True

    def _hear(self, message: Message) -> None:
        geometry = self.stage.geometry
        if isinstance(message, Requests):
            self.stage.check_requests(self.key, message)
            self.owed.update(dict.fromkeys(geometry.key(index, begin) for index, begin, _ in message.blocks))
        elif isinstance(message, Cancels):
            for index, begin, _ in message.blocks:
                self.owed.pop(geometry.key(index, begin), None)

    def close(self, reason: str) -> None:
        assert self.state != "ended", "closed after its last word"
        self.shut = self.shut or reason


class Stage:
    """An orchestrator, its surroundings, and the moves that these can make. Each move ends with `check`."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        size_bytes, part_size_bytes = SHAPES[choose(len(SHAPES))]
        self.geometry = Geometry(size_bytes, part_size_bytes)
        self.now_s = 1000.0
        self.links: dict[int, PlayedLink] = {}
        self.lent: list[CountingBuffer] = []
        self._lost: set[int] = set()
        self.listener, self.writer, self.reader = PlayedInbox(), PlayedInbox(), PlayedInbox()
        self.announcer, self.main = PlayedInbox(), PlayedInbox()
        self.refused = 0
        self.checked = self.failed = False
        self._callers = 0
        self._written: dict[int, set[int]] = {}
        self._moves = 0
        members = tuple((host, 6881) for host in HOSTS[: choose(3)])
        task = Task(
            path="piece.bin", sha1=SHA1, geometry=self.geometry, peer_id=OUR_ID, seed=bool(choose(3)),
            timeout_s=None if choose(8) else 30.0, members=members,
        )  # fmt: skip
        ports = Ports(
            links=self,
            listener=self.listener,
            writer=self.writer,
            reader=self.reader,
            announcer=self.announcer,
            main=self.main,
            threads=frozenset(THREADS),
        )
        rng = random.Random(choose(256))
        self.orchestrator = Orchestrator(task, ports, rng=rng, now_s=self.now_s)

    # What doorway asks for

    def dial(self, key: int, address: tuple[str, int]) -> PlayedLink:
        """See doorway.Links."""
        return self._link(key)

    def adopt(self, key: int, sock: Any, address: tuple[str, int]) -> PlayedLink:
        """See doorway.Links."""
        return self._link(key)

    def _link(self, key: int) -> PlayedLink:
        if self.choose(16) == 1:
            raise OSError(11, "no thread to spare")
        assert key not in self.links, "a key was used twice"
        self.links[key] = PlayedLink(self, key)
        return self.links[key]

    def refuse(self, sock: Any) -> None:
        """See doorway.Links."""
        self.refused += 1

    def stop_dialling(self) -> None:
        """See doorway.Links."""

    # The orchestrator's thread

    @property
    def ended(self) -> bool:
        """Whether the orchestrator has."""
        return self.orchestrator.phase is Phase.ENDED

    def tell(self, message: Any) -> None:
        """What the orchestrator's thread does with a message."""
        if self.ended:
            return
        self.orchestrator.handle(message, self.now_s)
        if not self.ended and self.now_s >= self.orchestrator.wake_at_s:
            self.orchestrator.tick(self.now_s)

    def wait(self, seconds: float) -> None:
        """Time passes; the thread wakes up once, however late."""
        self.now_s += seconds
        if not self.ended and self.now_s >= self.orchestrator.wake_at_s:
            self.orchestrator.tick(self.now_s)

    # What connections may do

    def some_link(self, *states: str) -> PlayedLink | None:
        """A connection in one of these states, if there is one."""
        found = [link for link in self.links.values() if link.state in states]
        return found[self.choose(len(found))] if found else None

    def caller(self) -> None:
        """Somebody connects to us."""
        self._callers += 1
        self.tell(Accepted(object(), (HOSTS[self.choose(len(HOSTS))], 40_000 + self._callers)))

    def link_up(self) -> None:
        """A handshake is done: of a stranger, of one who is here already, of ourselves."""
        link = self.some_link("begun")
        if link is not None:
            link.state = "up"
            who = self.choose(24)
            peer_id = OUR_ID if who == 23 else b"-XX0001-" + b"%012d" % (who if who > 18 else 100 + link.key)
            reserved = (0, 1 << 20, 1 << 2, (1 << 20) | (1 << 2), 2**64 - 1)[self.choose(5)]
            link.fast = bool(reserved & 4)
            self.tell(LinkUp(link.key, Handshake(reserved, SHA1, peer_id)))

    def link_ends(self) -> None:
        """A connection's last word, whoever closed it."""
        link = self.some_link("begun", "up")
        if link is not None:
            self.end_link(link)

    def end_link(self, link: PlayedLink) -> None:
        """The last word of this one."""
        link.state = "ended"
        self.tell(LinkClosed(link.key, link.shut or "closed by the peer"))
        del self.links[link.key]

    def say(self, link: PlayedLink, *messages: Message) -> None:
        """One receive of a connection brings this."""
        buffer = None
        if any(isinstance(message, Blocks) for message in messages):
            buffer = CountingBuffer()
            if not self.ended:
                self.lent.append(buffer)
        self.tell(Received(link.key, list(messages), buffer))

    def blocks(self, link: PlayedLink) -> list[Message]:
        """Blocks: those that it was asked for, in order; or any others, broken ones too."""
        kind = self.choose(8)
        geometry = self.geometry
        if kind < 6 and link.owed:
            keys = list(link.owed)[self.choose(3) if kind == 5 else 0 :][: 1 + self.choose(6)]
            runs: list[Message] = []
            last: Blocks | None = None
            for key in keys:
                del link.owed[key]
                length = geometry.span(key)[2]
                offset = geometry.offset(key)
                if last is not None and last.offset + last.length == offset:
                    last.views.append(_MEMORY[:length])
                    last.length += length
                else:
                    last = Blocks(offset, length, [_MEMORY[:length]])
                    runs.append(last)
            return runs
        offset = (0, 16384, 1, 40_000, 16384 * 3, 2**40)[self.choose(6)] + self.choose(2)
        lengths = [(16384, 1, 16383, 1000)[self.choose(4)] for _ in range(1 + self.choose(4))]
        return [Blocks(offset, sum(lengths), [_MEMORY[:length] for length in lengths])]

    def shipment_leaves(self) -> None:
        """A connection has sent what the reader gave it."""
        for link in self.links.values():
            if link.leaving and link.state == "up":
                self.tell(BlocksSent(link.key, link.leaving.pop(0)))
                return

    # What threads may do

    def writer_checks(self) -> None:
        """The writer says what is on disk, once."""
        if not self.checked and not self.failed:
            self.checked = True
            parts = self.geometry.parts
            held = self.choose(4)
            right = bytearray([held == 3 or (held == 2 and self.choose(2) == 1) for _ in range(parts)])
            if self.choose(4) == 3:
                self.tell(CheckProgress(1))
            self.tell(Checked(right, installed=all(right) and self.choose(2) == 1))

    def writer_works(self) -> None:
        """The writer takes its next message. It finds parts wrong now and then."""
        if not self.writer:
            return
        message = self.writer.pop(0)
        match message:
            case Write(buffer, runs):
                self._write(runs)
                buffer.give_back()
            case Forget(index):
                self._written.pop(index, None)
            case Digest(up_to_bytes):
                if up_to_bytes == self.geometry.size_bytes and not self.failed:
                    wrong = self.choose(16) == 15
                    self.tell(Digested(bytes(20) if wrong else SHA1))
            case Recheck():
                if not self.failed:
                    self._recheck()
            case Install():
                if not self.failed:
                    self.tell(Installed("piece.bin"))
            case Stop():
                self.tell(ThreadEnded("digest"))
                self.tell(ThreadEnded("writer"))

    def _recheck(self) -> None:
        have = self.orchestrator.swarm.picker.have
        bad = [index for index in have.indices() if self.choose(8) == 7]
        self._lost.update(bad)
        right = bytearray(index in have and index not in bad for index in range(self.geometry.parts))
        self.tell(Checked(right, installed=False))

    def _write(self, runs: list[Blocks]) -> None:
        good: list[int] = []
        bad: list[int] = []
        for run in runs:
            keys = self.geometry.run_keys(run.offset, run.length)
            assert keys is not None, "bytes that are no blocks were taken"
            assert sum(map(len, run.views)) == run.length
            for key in [] if self.failed else keys:
                index = self.geometry.part_of(key)
                come = self._written.setdefault(index, set())
                assert key not in come, "the same block was taken twice"
                come.add(key)
                if len(come) == self.geometry.part_blocks(index):
                    del self._written[index]
                    (bad if self.choose(6) == 5 else good).append(index)
        if good or bad:
            self.tell(PartsWritten(good, bad))

    def disk_fails(self) -> None:
        """Writing, or the check at the start, ends with an error."""
        if not self.failed and Stop() not in self.writer:
            self.failed = True
            self.tell(DiskFailed(StorageError("no space left")))

    def reader_works(self) -> None:
        """The reader takes its next message; now and then it cannot read."""
        if not self.reader:
            return
        message = self.reader.pop(0)
        if isinstance(message, Stop):
            self.tell(ThreadEnded("reader"))
            return
        if isinstance(message, Lost):
            self.tell(Withdrawn(message.part))
            return
        if isinstance(message, Watch):
            return
        assert isinstance(message, Read)
        gone = []
        for index, begin, length in message.blocks:
            if index not in self.orchestrator.swarm.picker.have:
                # The reader was told to while nobody knew yet that it is lost.
                assert index in self._lost, "a part that we do not have is served"
                gone.append(index)
            assert 0 < length <= BLOCK_BYTES
            assert begin + length <= self.geometry.part_length(index)
        link = self.links.get(message.key)
        if gone or self.choose(12) == 11:
            lost = gone or ([message.blocks[0][0]] if self.choose(2) else [])
            self._lost.update(lost)
            self.tell(ReadFailed(message.key, message.blocks, lost, "bad sector"))
        elif link is not None:
            link.leaving.append(sum(length for _, _, length in message.blocks))

    def announcer_works(self) -> None:
        """The announcer takes its next message."""
        if not self.announcer:
            return
        message = self.announcer.pop(0)
        if isinstance(message, Stop):
            self.tell(AnnouncerEnded())
            return
        assert isinstance(message, Announce)
        assert min(message.left_bytes, message.downloaded_bytes, message.uploaded_bytes) >= 0
        if self.choose(4) == 3:
            self.tell(AnnounceFailed(message.event, "nobody there"))
            return
        members = tuple(
            (HOSTS[self.choose(len(HOSTS))], 6881 + self.choose(3)) for _ in range(self.choose(5))
        )
        counts = [self.choose(4) - 1 for _ in range(2)]
        interval_s = (1.0, 120.0, 86_400.0)[self.choose(3)]
        self.tell(Announced("c:1", message.event, members, interval_s, interval_s / 2, *counts))

    def listener_works(self) -> None:
        """The listener takes its next message; it may find no port."""
        if not self.listener:
            return
        if isinstance(self.listener.pop(0), Stop):
            self.tell(ThreadEnded("listener"))
        elif self.choose(16) == 15:
            self.tell(ListenFailed(NetworkError("no port")))
        else:
            self.tell(Listening("0.0.0.0", 6881))

    def thread_crashes(self) -> None:
        """A bug somewhere."""
        self.tell(ThreadCrashed("reader", RuntimeError("put there by a test")))

    def quit(self) -> None:
        """The user has had enough."""
        self.tell(Quit("q"))

    # The end

    def finish(self) -> None:
        """Quit; all end as threads do, or one hangs: the orchestrator ends, and every buffer comes back."""
        self.quit()
        hangs = self.choose(4) == 3
        if hangs:
            self.wait(STOPPING_S)
            assert self.ended, "a thread that hangs keeps it from ending"
        for link in list(self.links.values()):
            self.end_link(link)
        for inbox, work in (
            (self.announcer, self.announcer_works), (self.listener, self.listener_works),
            (self.reader, self.reader_works), (self.writer, self.writer_works),
        ):  # fmt: skip
            while inbox:
                work()
        assert self.ended, (
            f"has not ended: {self.orchestrator._running}, {self.orchestrator.swarm.doorway.connections}"
        )
        assert [type(message) for message in self.main].count(Ended) == 1
        assert isinstance(self.main[-1], Ended)
        assert all(buffer.returns == 1 for buffer in self.lent), "a buffer was lost"

    # Invariants

    def check_requests(self, key: int, message: Requests) -> None:
        """What is asked of a peer: it has it, we do not, and nobody was asked for more than it takes."""
        swarm = self.orchestrator.swarm
        peer = swarm.peers[key]
        assert len(peer.outstanding) <= min(MAX_DEPTH, max(1, peer.max_requests)), (
            "too much is asked of a peer"
        )
        for index, begin, length in message.blocks:
            block = self.geometry.key(index, begin)
            assert swarm.picker.state(index) is PartState.IN_FLIGHT, "a block that we have is asked for"
            assert self.geometry.span(block) == (index, begin, length)
            assert block in peer.outstanding
            assert peer.gives(index), "a peer is asked for what it does not give"
            assert peer.interesting

    def check(self) -> None:
        """What must hold after every move; the books, which stay wrong once they are, not each time."""
        self._moves += 1
        if not self._moves % BOOKS_AFTER:
            self.check_books()
        swarm = self.orchestrator.swarm
        assert swarm.doorway.connections == len(self.links) or self.ended
        keys = swarm.peers.keys()
        for known in (swarm.uploads._waiting, swarm.uploads._served, swarm.exchange._letters):
            assert known.keys() <= keys, "a peer that has left is remembered"
        unchoked = 0
        for peer in swarm.peers.values():
            unchoked += not peer.choked and not peer.closing
            assert len(peer.outstanding) <= MAX_DEPTH
            assert len(peer.asked) <= MAX_ASKED
            assert 0 <= peer.reading <= READS_AT_ONCE
            assert peer.reading_bytes >= 0
            assert bool(peer.reading) == bool(peer.reading_bytes)
            assert peer.unanswered >= 0
        assert unchoked <= UPLOAD_SLOTS

    def check_books(self) -> None:
        """Parts, blocks, rarities and buffers: what each says of the others is right, and nothing grows."""
        swarm = self.orchestrator.swarm
        assert not swarm.downloads.unsound(), swarm.downloads.unsound()
        assert len(swarm.peers) <= MAX_PEERS + SPARE_PEERS
        assert len(swarm.doorway._departed) <= MAX_DEPARTED
        assert len(swarm.news._parts) <= self.geometry.parts
        have = swarm.picker.have
        for peer in swarm.peers.values():
            # With a part GONE we want nothing, and nobody looks at the count.
            if not (peer.have.complete or peer.closing or swarm.picker._gone):
                assert peer.wanted_parts == have.lacking(peer.have), "what a peer has for us is miscounted"
        assert max((buffer.returns for buffer in self.lent), default=0) <= 1, "a buffer was given back twice"
        self._check_parts()

    def _check_parts(self) -> None:
        """Each part is in exactly one state; those that are missing stand in the bucket of their rarity."""
        swarm = self.orchestrator.swarm
        picker = swarm.picker
        states = picker._states
        for message in self.reader:
            for index, _, _ in message.blocks if isinstance(message, Read) else ():
                assert states[index] in _MAY_BE_READ, "a part may be written that is about to be read"
        assert bytes(index in picker.have for index in range(len(states))) == states.translate(_IS_HAVE)
        rarities = [0] * len(states)
        for peer in swarm.peers.values():
            for index in peer.have.indices() if peer.counted else ():
                rarities[index] += 1
        assert rarities == list(picker._availability), "a rarity is miscounted"
        standing = 0
        for rarity, bucket in enumerate(picker._buckets):
            for place, index in enumerate(bucket):
                standing += 1
                assert states[index] == PartState.MISSING, "a part is offered that is not missing"
                assert rarities[index] == rarity
                assert picker._places[index] == place
        assert standing == picker.missing == states.count(PartState.MISSING)
