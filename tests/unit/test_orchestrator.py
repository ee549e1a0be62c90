"""The member's heart between lists: its whole life message by message, on a clock that the test turns."""

from __future__ import annotations

import hashlib
import itertools
import random
from typing import Any

import pytest

from netutils import Address
from orchestra.errors import BusyError, ExitCode, NetworkError, ScoreError, StorageError
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
    Complete,
    Digest,
    Digested,
    DiskFailed,
    Ended,
    Install,
    Installed,
    LinkClosed,
    LinkUp,
    Listen,
    ListenFailed,
    Listening,
    Lost,
    Notice,
    PartsWritten,
    Progress,
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
from orchestra.peer import Peer
from orchestra.wire import (
    BLOCK_BYTES,
    BitfieldReceived,
    Blocks,
    Extended,
    Handshake,
    Haves,
    Interested,
    Message,
    Requests,
    Unchoke,
)
from orchestra.worker import ThreadCrashed
from tests.fakes import (
    INFO_HASH,
    OUR_ID,
    THEIR_ID,
    CountingBuffer,
    FakeLinks,
    ListInbox,
    bitfield,
    blocks_message,
    content,
    full_bitfield,
    link_of,
)

PARTS, PART_BYTES = 3, 2 * BLOCK_BYTES
STEP_BYTES = 1 << 20
DATA = content(PARTS * PART_BYTES - 5)
SHA1 = hashlib.sha1(DATA).digest()
THREADS = ("listener", "writer", "reader", "digest", "announcer")
SEEDER: Address = ("10.0.0.7", 6881)


class Stage:
    """An orchestrator between lists."""

    def __init__(self, *, data: bytes = DATA, part_bytes: int = PART_BYTES, **options: Any) -> None:
        geometry = Geometry(len(data), part_bytes)
        self.links = FakeLinks(geometry.parts, part_bytes)
        self.main, self.writer, self.reader = ListInbox(), ListInbox(), ListInbox()
        self.listener, self.announcer = ListInbox(), ListInbox()
        self.now_s = 1000.0
        self.data = data
        sha1 = hashlib.sha1(data).digest()
        task = Task(path="/dir/piece.bin", sha1=sha1, geometry=geometry, peer_id=OUR_ID, **options)
        ports = Ports(
            links=self.links,
            listener=self.listener,
            writer=self.writer,
            reader=self.reader,
            announcer=self.announcer,
            main=self.main,
            threads=frozenset(THREADS),
        )
        self.it = Orchestrator(task, ports, rng=random.Random(1), now_s=self.now_s)

    def digests(self) -> list[Digest]:
        """How far the writer may let the whole-file hash go, by what it was told since the last question."""
        return [message for message in self.writer.take() if isinstance(message, Digest)]

    @property
    def peers(self) -> list[Peer]:
        return list(self.it.swarm.peers.values())

    def tell(self, *messages: object) -> None:
        for message in messages:
            self.it.handle(message, self.now_s)
            assert self.it.swarm.downloads.unsound() == ""

    def wait(self, seconds: float) -> None:
        """Turn the clock as the thread does: a tick whenever it asked to be woken."""
        end_s = self.now_s + seconds
        while self.it.phase is not Phase.ENDED and self.it.wake_at_s <= end_s:
            assert self.it.wake_at_s > self.now_s or self.it.phase is Phase.CHECKING, "it would spin"
            self.now_s = max(self.now_s, self.it.wake_at_s)
            self.it.tick(self.now_s)
        self.now_s = end_s

    def begin(self, *right: int, installed: bool = False) -> None:
        """The check is done, with these parts right, and the port is taken."""
        parts = self.it.swarm.picker.parts
        self.tell(Checked(bytearray(index in right for index in range(parts)), installed))
        self.tell(Listening("0.0.0.0", 6881))

    def answer(
        self, *members: Address, leechers: int = 5, seeders: int = 1, event: str | None = None
    ) -> Announce:
        """The conductor takes the announce that is waiting; returns it."""
        announce = self.announcer.only(Announce)
        assert event is None or announce.event == event
        self.tell(Announced("c:9999", announce.event, members, 120.0, 10.0, seeders, leechers))
        return announce

    def shake(self, key: int, peer_id: bytes = THEIR_ID) -> Peer:
        """A connection's handshake succeeds."""
        self.tell(LinkUp(key, Handshake(1 << 20, INFO_HASH, peer_id)))
        return self.it.swarm.peers[key]

    def hear(self, peer: Peer, *said: Message, buffer: CountingBuffer | None = None) -> None:
        self.tell(Received(peer.key, list(said), buffer))

    def seeder(self) -> Peer:
        """A dialled peer that has everything and lets us ask."""
        [key] = [key for key, address in self.links.dialled.items() if address == SEEDER]
        peer = self.shake(key)
        self.hear(peer, BitfieldReceived(full_bitfield(self.it.swarm.picker.parts).to_wire()), Unchoke())
        return peer

    def download(self) -> Peer:
        """From the first announce to the last part on disk."""
        self.begin()
        self.answer(SEEDER, event="started")
        peer = self.seeder()
        self.deliver_all(peer)
        self.tell(PartsWritten(list(range(self.it.swarm.picker.parts)), []))
        return peer

    def deliver_all(self, peer: Peer) -> None:
        """The peer sends everything."""
        self.hear(peer, blocks_message(self.data, 0, len(self.data)), buffer=CountingBuffer())

    def end_threads(self, *names: str) -> None:
        """The threads say their last words, and so do the connections."""
        for name in names or THREADS:
            self.tell(AnnouncerEnded() if name == "announcer" else ThreadEnded(name))
        for key in [*self.it.swarm.peers, *self.it.swarm.doorway._half_open]:
            self.tell(LinkClosed(key, "we stop"))

    def ended(self) -> Ended:
        """The last word to main; nothing follows it."""
        assert self.it.phase is Phase.ENDED
        last = self.main[-1]
        assert isinstance(last, Ended)
        assert sum(isinstance(message, Ended) for message in self.main) == 1
        return last


def of_kind(inbox: ListInbox, kind: type[Any]) -> list[Any]:
    return [message for message in inbox if isinstance(message, kind)]


# A whole life


def test_a_member_downloads_verifies_and_installs() -> None:
    stage = Stage()
    stage.wait(3)
    assert stage.listener == stage.announcer == []
    stage.tell(CheckProgress(12345))
    assert stage.main.take() == [CheckProgress(12345)]

    stage.tell(Checked(bytearray(PARTS), installed=False))
    assert stage.listener.take() == [Listen()]
    assert stage.announcer == [], "there is no port to announce yet"
    stage.tell(Listening("0.0.0.0", 6881))
    assert stage.main[0] == Listening("0.0.0.0", 6881)
    announce = stage.answer(SEEDER, event="started")
    assert announce == Announce("started", 6881, 0, 0, len(DATA), 50)

    peer = stage.seeder()
    hello, interested, requests = link_of(peer).said()
    assert isinstance(hello, Extended)
    assert interested == Interested()
    assert isinstance(requests, Requests)
    assert len(requests.blocks) == 2 * PARTS

    buffer = CountingBuffer()
    stage.hear(peer, blocks_message(DATA, 0, len(DATA)), buffer=buffer)
    write = stage.writer.only(Write)
    assert write.buffer is buffer
    stage.main.clear()
    stage.tell(PartsWritten([0, 1, 2], []))
    assert stage.digests() == [Digest(len(DATA))]
    assert stage.main.only(Progress).parts_done == PARTS

    stage.tell(Digested(SHA1))
    assert stage.writer.take() == [Install()]
    stage.now_s += 2.0
    stage.tell(Installed("/dir/piece.bin"))
    assert stage.main.only(Complete) == Complete("/dir/piece.bin", len(DATA), 5.0)
    assert stage.answer(event="completed").left_bytes == 0
    assert link_of(peer).closed == ["both are complete"]
    stage.tell(LinkClosed(peer.key, "both are complete"))


def test_then_it_seeds_and_stops_when_it_is_told_to() -> None:
    stage = Stage()
    seeder = stage.download()
    stage.tell(Digested(SHA1), Installed("/dir/piece.bin"), LinkClosed(seeder.key, "both are complete"))
    stage.answer(seeders=2, event="completed")
    stage.writer.clear()
    stage.listener.clear()

    stage.tell(Accepted(object(), ("10.0.0.9", 5000)))
    leecher = stage.shake(max(stage.links.made), b"a-leecher-a-leecher-")
    assert BitfieldReceived(b"\xe0") in link_of(leecher).said()
    stage.hear(leecher, Interested())
    stage.hear(leecher, Requests([(0, 0, BLOCK_BYTES)]))
    assert stage.reader.only(Read).blocks == [(0, 0, BLOCK_BYTES)]
    stage.tell(BlocksSent(leecher.key, BLOCK_BYTES))

    stage.tell(Quit("q"))
    stopped, stop = stage.announcer.take()
    assert (stopped.event, stopped.uploaded_bytes, stopped.wanted) == ("stopped", BLOCK_BYTES, 0)
    assert stop == Stop()
    assert stage.listener.take() == [Stop()]
    assert stage.reader.take() == [Stop()]
    assert stage.writer.take() == [Stop()]
    assert link_of(leecher).closed == ["we stop"]
    stage.end_threads()
    assert stage.ended() == Ended("q", complete=True, error=None)


def test_a_whole_composition_that_is_there_is_seeded_at_once_without_being_downloaded() -> None:
    stage = Stage()
    stage.begin(0, 1, 2, installed=True)
    complete = stage.main.only(Complete)
    assert (complete.path, complete.downloaded_bytes) == ("/dir/piece.bin", 0)
    assert stage.answer(event="started").left_bytes == 0
    stage.wait(121)
    assert stage.answer().event == "", "who had it all at the start never says completed"
    assert stage.writer == []


def test_no_seed_with_a_whole_composition_ends_at_once() -> None:
    stage = Stage(seed=False)
    stage.tell(Checked(bytearray([1] * PARTS), installed=True))
    stage.end_threads()
    assert stage.ended() == Ended("complete", complete=True, error=None)


def test_no_seed_stops_as_soon_as_it_is_complete_and_says_completed_and_stopped() -> None:
    stage = Stage(seed=False)
    stage.download()
    stage.tell(Digested(SHA1))
    assert stage.it.phase is Phase.ACTIVE
    stage.tell(Installed("/dir/piece.bin"))
    assert [message.event for message in of_kind(stage.announcer, Announce)] == ["completed", "stopped"]
    stage.end_threads()
    assert stage.ended() == Ended("complete", complete=True, error=None)


def test_what_was_on_disk_is_not_asked_for_again() -> None:
    stage = Stage()
    stage.begin(0, 2)
    assert stage.answer(SEEDER).left_bytes == PART_BYTES
    peer = stage.seeder()
    assert BitfieldReceived(b"\xa0") in (said := link_of(peer).said())
    assert Requests([(1, 0, BLOCK_BYTES), (1, BLOCK_BYTES, BLOCK_BYTES)]) in said


def test_a_part_file_that_holds_everything_needs_no_source() -> None:
    stage = Stage()
    stage.begin(0, 1, 2)
    assert stage.digests() == [Digest(len(DATA))]
    stage.tell(Digested(SHA1))
    assert stage.writer.take() == [Install()]


def test_an_empty_composition_is_complete_without_anybody() -> None:
    stage = Stage(data=b"")
    stage.begin()
    assert stage.digests() == [Digest(0)]
    stage.tell(Digested(hashlib.sha1(b"").digest()))
    assert stage.writer.take() == [Install()]
    stage.tell(Installed("/dir/piece.bin"))
    assert stage.main.only(Complete).path == "/dir/piece.bin"


# The whole-file SHA-1


def test_a_line_3_that_disagrees_is_a_bad_score_and_nothing_is_installed() -> None:
    stage = Stage()
    stage.download()
    stage.writer.clear()
    stage.tell(Digested(bytes(20)))
    assert stage.writer.take() == [Recheck()]
    stage.tell(Checked(bytearray(b"\1" * PARTS), installed=False))
    assert Install() not in stage.writer
    stage.end_threads()
    end = stage.ended()
    assert isinstance(end.error, ScoreError)
    assert "line 3" in str(end.error)
    assert not end.complete


def test_the_whole_file_hash_follows_the_parts_without_a_gap() -> None:
    parts = 5
    stage = Stage(data=content(parts * STEP_BYTES), part_bytes=STEP_BYTES)
    stage.begin(1)
    stage.answer(SEEDER)
    stage.seeder()
    stage.tell(Accepted(object(), ("10.0.0.8", 5000)))
    other = stage.shake(max(stage.links.made), b"another-seeder-12345")
    stage.hear(other, BitfieldReceived(full_bitfield(parts).to_wire()), Unchoke())
    for peer in stage.peers:
        peer.depth = 128
        stage.hear(peer)
    assert stage.digests() == []
    for index, expected in ((3, []), (0, [2]), (4, []), (2, [5])):
        owner = next(peer for peer in stage.peers if index * 64 in peer.outstanding)
        run = blocks_message(stage.data, index * STEP_BYTES, STEP_BYTES)
        stage.hear(owner, run, buffer=CountingBuffer())
        stage.tell(PartsWritten([index], []))
        assert stage.digests() == [Digest(ready * STEP_BYTES) for ready in expected]


def test_a_digest_that_comes_too_early_or_too_late_does_nothing() -> None:
    stage = Stage()
    stage.begin()
    stage.tell(Digested(SHA1))
    assert stage.writer == []
    stage.tell(Quit("q"), Digested(bytes(20)))
    assert stage.writer == [Stop()]
    stage.end_threads()
    assert stage.ended().error is None


# Bad parts, bad peers


def test_a_wrong_part_bans_its_author_and_is_fetched_again() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER)
    liar = stage.seeder()
    stage.deliver_all(liar)
    stage.tell(PartsWritten([0, 2], [1]))
    assert link_of(liar).closed == ["part 1 was wrong"]
    stage.tell(LinkClosed(liar.key, "part 1 was wrong"))
    stage.tell(Accepted(object(), SEEDER))
    assert len(stage.links.refused) == 1
    stage.tell(Accepted(object(), ("10.0.0.8", 5000)))
    good = stage.shake(max(stage.links.made), b"a-good-peer-good-pee")
    stage.hear(good, BitfieldReceived(b"\xe0"), Unchoke())
    assert [said.blocks for said in link_of(good).said() if isinstance(said, Requests)] == [
        [(1, 0, BLOCK_BYTES), (1, BLOCK_BYTES, BLOCK_BYTES)]
    ]


def test_the_same_peer_twice_is_connected_once_and_we_never_to_ourselves() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER, ("10.0.0.99", 6881))
    keys = {address: key for key, address in stage.links.dialled.items()}
    first = stage.shake(keys[SEEDER])
    stage.tell(Accepted(object(), ("10.0.0.7", 5000)))
    second = stage.shake(max(stage.links.made))
    assert sorted([first.closing, second.closing]) == [False, True]
    assert stage.shake(keys[("10.0.0.99", 6881)], OUR_ID).closing


def test_when_we_ask_again_those_named_first_are_dialled_first() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(*((f"10.2.0.{number}", 1) for number in range(1, 100)), event="started")
    stage.wait(11.0)
    before = list(stage.links.dialled)
    for key in before[:3]:
        stage.tell(LinkClosed(key, "Connection refused"))
    named = [(f"10.3.0.{number}", 1) for number in range(1, 3)]
    stage.answer(*named, event="")
    after = [address for key, address in stage.links.dialled.items() if key not in before]
    assert [address for address in after if address in named] == named


def test_news_of_members_are_dialled_at_once_and_those_by_hand_without_any_news() -> None:
    stage = Stage(members=(("10.1.1.1", 1),))
    stage.begin()
    assert list(stage.links.dialled.values()) == [("10.1.1.1", 1)]
    stage.answer(SEEDER)
    assert list(stage.links.dialled.values()) == [("10.1.1.1", 1), SEEDER]


def test_a_connection_that_fails_is_tried_again_later() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER)
    for key in (2, 3, 4):
        assert max(stage.links.dialled) == key
        stage.tell(LinkClosed(key, "Connection refused"))
        stage.wait(60)
    assert set(stage.links.dialled.values()) == {SEEDER}


# The conductor


def test_without_a_source_the_conductor_is_asked_again_soon_and_with_one_it_is_left_in_peace() -> None:
    stage = Stage()
    stage.begin()
    stage.answer()
    stage.wait(9)
    assert stage.announcer == []
    stage.wait(2)
    assert stage.answer(SEEDER).event == ""
    stage.seeder()
    stage.wait(55)
    assert stage.announcer == []
    stage.wait(65)
    assert stage.answer().event == ""


def test_a_conductor_that_is_away_is_noticed_once_and_asked_again_and_again() -> None:
    stage = Stage()
    stage.begin()
    for _ in range(5):
        announce = stage.announcer.only(Announce)
        assert announce.event == "started"
        stage.tell(AnnounceFailed("started", "c:9999: Connection refused"))
        stage.wait(61 * 1.25)
    [notice] = of_kind(stage.main, Notice)
    assert "c:9999: Connection refused" in notice.text
    stage.answer()
    stage.wait(11)
    stage.announcer.clear()
    stage.tell(AnnounceFailed("", "gone again"))
    assert len(of_kind(stage.main, Notice)) == 2


def test_parts_are_fetched_in_order_only_while_nobody_else_downloads() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(leechers=1)
    stage.wait(1.5)
    assert stage.it.swarm.picker.in_order
    stage.wait(10)
    stage.answer(leechers=2)
    stage.wait(1.5)
    assert not stage.it.swarm.picker.in_order


def test_without_any_source_in_time_it_gives_up() -> None:
    stage = Stage(timeout_s=30.0)
    stage.now_s += 500
    stage.begin()
    stage.answer()
    stage.wait(29)
    assert stage.it.phase is Phase.ACTIVE
    stage.wait(2)
    stage.end_threads()
    end = stage.ended()
    assert isinstance(end.error, NetworkError)
    assert end.error.exit_code is ExitCode.NETWORK
    assert "30 s" in str(end.error)


def test_the_timeout_counts_from_the_last_source() -> None:
    stage = Stage(timeout_s=30.0)
    stage.begin()
    stage.answer(SEEDER)
    peer = stage.seeder()
    for _ in range(6):
        stage.wait(10)
        stage.hear(peer)
    stage.tell(LinkClosed(peer.key, "gone"))
    stage.wait(25)
    assert stage.it.phase is Phase.ACTIVE
    stage.wait(6)
    assert isinstance(stage.ended().error, NetworkError)


def test_a_complete_member_needs_no_source() -> None:
    stage = Stage(timeout_s=30.0)
    stage.begin(0, 1, 2, installed=True)
    stage.answer()
    stage.wait(100)
    assert stage.it.phase is Phase.ACTIVE


# Progress


def test_progress_comes_at_most_twice_a_second_and_at_once_at_the_end() -> None:
    stage = Stage(data=content(90 * PART_BYTES))
    stage.begin()
    stage.answer(SEEDER)
    peer = stage.seeder()
    peer.depth = 180
    stage.hear(peer)
    stage.main.clear()
    stage.wait(1.0)
    times = []
    for index in range(90):
        stage.now_s += 0.01
        run = blocks_message(stage.data, index * PART_BYTES, PART_BYTES)
        stage.hear(peer, run, buffer=CountingBuffer())
        stage.main.clear()
        stage.tell(PartsWritten([index], []))
        times += [(stage.now_s, progress.parts_done) for progress in of_kind(stage.main, Progress)]
    assert times[-1][1] == 90
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(times[:-1])]
    assert len(times) <= 4
    assert all(gap >= 0.5 for gap in gaps)


def test_progress_tells_how_fast_how_long_and_with_whom() -> None:
    stage = Stage(data=content(100 * PART_BYTES))
    stage.begin(*range(50))
    stage.answer(SEEDER)
    peer = stage.seeder()
    peer.depth = 1000
    stage.hear(peer)
    stage.main.clear()
    for index in range(50, 60):
        stage.now_s += 1.0
        run = blocks_message(stage.data, index * PART_BYTES, PART_BYTES)
        stage.hear(peer, run, buffer=CountingBuffer())
        stage.tell(PartsWritten([index], []))
    progress = of_kind(stage.main, Progress)[-1]
    assert (progress.parts_done, progress.parts, progress.members) == (60, 100, 1)
    assert progress.downloaded_bytes == 10 * PART_BYTES
    assert 0.8 * PART_BYTES <= progress.rate_bytes_s <= 1.3 * PART_BYTES
    assert 30 <= progress.eta_s <= 50


def test_a_seeder_to_whom_nothing_happens_has_no_progress_to_tell() -> None:
    stage = Stage()
    stage.begin(0, 1, 2, installed=True)
    stage.answer()
    stage.wait(2)
    stage.main.clear()
    stage.wait(8)
    assert of_kind(stage.main, Progress) == []


def test_a_download_that_stands_still_says_so_again_and_again() -> None:
    stage = Stage()
    stage.begin()
    stage.answer()
    stage.wait(2)
    stage.main.clear()
    stage.wait(8)
    assert 7 <= len(of_kind(stage.main, Progress)) <= 9


def test_an_unknown_eta_is_minus_1() -> None:
    stage = Stage()
    stage.begin()
    [progress] = of_kind(stage.main, Progress)
    assert (progress.eta_s, progress.rate_bytes_s) == (-1, 0)


# Stopping


@pytest.mark.parametrize(
    "moment", ["checking", "listening", "announcing", "dialling", "downloading", "installing"]
)
def test_q_works_at_any_moment(moment: str) -> None:
    stage = Stage()
    if moment != "checking":
        stage.tell(Checked(bytearray(PARTS), installed=False))
    if moment not in ("checking", "listening"):
        stage.tell(Listening("0.0.0.0", 6881))
    if moment in ("dialling", "downloading"):
        stage.answer(SEEDER)
    if moment == "downloading":
        stage.deliver_all(stage.seeder())
    if moment == "installing":
        stage = Stage()
        stage.download()
        stage.tell(Digested(SHA1))
    stage.tell(Quit("q"))
    assert stage.it.phase is Phase.STOPPING
    for inbox in (stage.announcer, stage.listener, stage.reader, stage.writer):
        assert inbox[-1] == Stop()
    assert all(link.closed for link in stage.links.made.values())
    assert stage.links.dialling_stopped
    stage.end_threads()
    assert stage.ended() == Ended("q", complete=False, error=None)


def test_while_it_stops_nobody_comes_in_and_buffers_go_back() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER)
    peer = stage.seeder()
    stage.tell(Quit("q"))
    stage.writer.clear()
    caller, buffer = object(), CountingBuffer()
    stage.tell(Accepted(caller, ("10.0.0.9", 5000)))
    assert stage.links.refused == [caller]
    stage.hear(peer, blocks_message(DATA, 0, len(DATA)), buffer=buffer)
    assert buffer.returns == 1
    assert stage.writer == []
    stage.tell(PartsWritten([], []), Listening("0.0.0.0", 6881), CheckProgress(5), BlocksSent(peer.key, 5))
    stage.tell(Announced("c:9999", "stopped", (("10.0.0.11", 1),), 120.0, 10.0, 1, 1))
    stage.tell(AnnounceFailed("stopped", "no conductor knows us"))
    assert ("10.0.0.11", 1) not in stage.links.dialled.values()
    stage.end_threads()
    assert stage.ended().error is None


def test_what_is_on_disk_while_it_stops_is_kept_but_starts_nothing_new() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER)
    stage.deliver_all(stage.seeder())
    stage.tell(Quit("q"))
    stage.main.clear()
    stage.tell(PartsWritten([0, 1, 2], []))
    assert stage.digests() == stage.main == []


def test_a_handshake_that_succeeds_while_it_stops_does_no_harm() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER)
    [key] = stage.links.made
    stage.tell(Quit("q"))
    stage.shake(key)
    stage.end_threads()
    assert stage.ended().error is None


def test_it_waits_for_every_last_word() -> None:
    for last in (*THREADS, "connection"):
        stage = Stage()
        stage.begin()
        stage.answer(SEEDER)
        stage.tell(Quit("q"))
        for name in THREADS:
            if name != last:
                stage.tell(AnnouncerEnded() if name == "announcer" else ThreadEnded(name))
        if last != "connection":
            stage.tell(*[LinkClosed(key, "we stop") for key in stage.links.made])
        assert of_kind(stage.main, Ended) == []
        stage.end_threads()
        assert stage.ended().reason == "q"


def test_a_thread_that_does_not_answer_is_given_up() -> None:
    stage = Stage()
    stage.begin()
    stage.tell(Quit("q"))
    stage.end_threads("listener", "writer", "reader", "digest")
    stage.wait(STOPPING_S - 0.01)
    assert of_kind(stage.main, Ended) == []
    stage.wait(0.02)
    assert stage.ended().error is None
    assert STOPPING_S < 1.0


def test_a_file_that_is_installed_while_it_stops_counts_as_complete() -> None:
    stage = Stage()
    stage.download()
    stage.tell(Digested(SHA1), Quit("q"), Installed("/dir/piece.bin"))
    assert of_kind(stage.main, Complete)
    stage.end_threads()
    assert stage.ended() == Ended("q", complete=True, error=None)


def test_a_second_quit_changes_nothing() -> None:
    stage = Stage()
    stage.begin()
    stage.tell(Quit("q"), Quit("SIGTERM"))
    assert of_kind(stage.listener, Stop) == [Stop()]
    stage.end_threads()
    assert stage.ended().reason == "q"


# What ends it by itself


@pytest.mark.parametrize(
    "message",
    [
        DiskFailed(StorageError("/dir/piece.bin.part: the disk is full")),
        DiskFailed(BusyError("/dir/piece.bin.part: another member is writing this file")),
        ListenFailed(NetworkError("cannot listen on port 80")),
        ThreadCrashed("writer", ZeroDivisionError("a bug")),
    ],
)
@pytest.mark.parametrize("active", [False, True])
def test_what_cannot_go_on_stops_cleanly_and_keeps_the_first_error(message: Any, active: bool) -> None:
    stage = Stage()
    if active:
        stage.download()
    stage.tell(message)
    assert stage.it.phase is Phase.STOPPING
    stage.tell(DiskFailed(StorageError("something later")))
    stage.end_threads()
    end = stage.ended()
    assert end.error is message.error
    assert (end.reason, end.complete) == ("error", False)


def test_an_error_while_it_stops_is_not_lost() -> None:
    stage = Stage()
    stage.begin()
    crash = ThreadCrashed("reader", ZeroDivisionError("a bug"))
    stage.tell(Quit("q"), crash)
    stage.end_threads()
    assert stage.ended() == Ended("q", complete=False, error=crash.error)


def test_a_crashed_thread_is_not_waited_for() -> None:
    stage = Stage()
    stage.begin()
    stage.tell(ThreadCrashed("writer", ZeroDivisionError("a bug")))
    stage.end_threads("listener", "reader", "digest", "announcer")
    assert isinstance(stage.ended().error, ZeroDivisionError)


def test_a_composition_of_which_nothing_can_be_read_any_more_is_a_storage_error() -> None:
    stage = Stage()
    stage.begin(0, 1, 2, installed=True)
    stage.tell(ReadFailed(5, [(2, 0, 10)], [2], "the file ends at byte 7"))
    assert "1 of its 3 parts are not right: they are not shared any more" in stage.main.only(Notice).text
    assert stage.it.phase is Phase.ACTIVE
    stage.tell(ReadFailed(5, [(2, 0, 10)], [2], "the file ends at byte 7"))
    stage.tell(ReadFailed(5, [(0, 0, 10)], [0, 1], "the file ends at byte 7"))
    assert not any(isinstance(message, Notice) for message in stage.main)
    assert stage.writer.take() == [Lost(2), Lost(0), Lost(1), Stop()]
    stage.end_threads()
    end = stage.ended()
    assert isinstance(end.error, StorageError)
    assert "3 of its 3 parts are not right" in str(end.error)


def test_a_read_that_fails_while_it_stops_is_no_error() -> None:
    stage = Stage()
    stage.begin(0, 1, 2, installed=True)
    stage.tell(Quit("q"), ReadFailed(5, [(2, 0, 10)], [2], "Bad file descriptor"))
    stage.end_threads()
    assert stage.ended().error is None


def test_what_nobody_should_send_is_our_own_fault() -> None:
    stage = Stage()
    with pytest.raises(AssertionError, match="nobody should send"):
        stage.tell("hello")
    with pytest.raises(AssertionError, match="nobody should send"):
        stage.tell(Listen())


def test_a_peer_that_has_left_may_still_be_mentioned() -> None:
    stage = Stage()
    peer = stage.download()
    stage.tell(LinkClosed(peer.key, "gone"), BlocksSent(peer.key, 5))
    assert stage.peers == []


def test_haves_are_told_while_downloading() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER)
    stage.tell(Accepted(object(), ("10.0.0.9", 5000)))
    other = stage.shake(max(stage.links.made), b"a-leecher-a-leecher-")
    stage.hear(other, BitfieldReceived(bitfield(PARTS, 1).to_wire()))
    link_of(other).said()
    peer = stage.seeder()
    stage.deliver_all(peer)
    stage.tell(PartsWritten([0, 1], []))
    said = link_of(other).said()
    assert Haves([0, 1]) in said


def test_it_never_asks_to_be_woken_in_the_past() -> None:
    stage = Stage()
    stage.tell(Checked(bytearray(PARTS), installed=False))
    stage.it.tick(stage.now_s)
    assert stage.it.wake_at_s > stage.now_s, "there is no port yet, but an announce is due"


def test_a_peer_that_asks_for_a_part_that_is_none_is_closed_also_while_we_share_sparingly() -> None:
    stage = Stage(part_bytes=BLOCK_BYTES)
    stage.begin(*range(2 * PARTS), installed=True)
    stage.answer(leechers=0)
    keys = itertools.count(2)
    for host in ("10.0.0.8", "10.0.0.9"):
        stage.tell(Accepted(object(), (host, 40_000)))
        peer = stage.shake(next(keys), host.encode().ljust(20))
        stage.hear(peer, Interested())
        stage.wait(1)
    early, late = stage.peers
    assert not stage.it.swarm.service.hides_from(early), "it came while it was alone"
    assert stage.it.swarm.service.hides_from(late)
    assert not early.choked
    stage.hear(early, Requests([(2**32 - 1, 0, BLOCK_BYTES)]))
    assert link_of(early).closed == [f"a request for {BLOCK_BYTES} bytes at 0 of part {2**32 - 1}"]
    assert stage.it.phase is Phase.ACTIVE


def test_a_peer_that_is_closed_is_told_nothing_more() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER)
    peer = stage.seeder()
    peer.close("a test")
    link_of(peer).said()
    peer.say(b"\0\0\0\1\1", stage.now_s)
    assert link_of(peer).said() == []


# Parts that go bad


def test_a_part_that_goes_bad_during_a_download_is_withdrawn_and_comes_anew() -> None:
    stage = Stage()
    stage.begin(0, 1)
    assert stage.digests() == [Digest(2 * PART_BYTES)]
    stage.answer(SEEDER)
    peer = stage.seeder()
    link_of(peer).said()
    stage.tell(ReadFailed(99, [(0, 0, 5)], [0], "it is gone"))
    assert stage.writer.take() == [Lost(0)]
    assert 0 not in stage.it.swarm.picker.have
    assert not any(isinstance(message, Notice) for message in stage.main)
    assert not peer.outstanding & {0, 1}, "a Read of it may still wait at the reader"
    assert stage.reader.take() == [Lost(0)]
    stage.tell(Withdrawn(0))
    assert peer.outstanding >= {0, 1}
    stage.deliver_all(peer)
    stage.tell(PartsWritten([0], []))
    assert stage.digests() == [Digest(2 * PART_BYTES)]
    stage.tell(PartsWritten([2], []))
    assert stage.digests() == [Digest(len(DATA))]


@pytest.mark.fault("D4")
def test_nothing_is_written_over_a_part_while_a_read_of_it_waits() -> None:
    """The second Read of a part whose first one failed would send whatever its next source has sent."""
    stage = Stage()
    stage.begin(0, 1)
    stage.answer(SEEDER)
    source = stage.seeder()
    stage.tell(Accepted(object(), ("10.0.0.9", 5000)))
    leecher = stage.shake(max(stage.links.made), b"a-leecher-a-leecher-")
    stage.hear(leecher, Interested())
    stage.wait(1.0)
    for begin in (0, BLOCK_BYTES):
        stage.hear(leecher, Requests([(0, begin, BLOCK_BYTES)]))
    first, second = stage.reader.take()
    stage.tell(ReadFailed(leecher.key, first.blocks, [0], "bad sector"))
    stage.writer.clear()
    wrong = Blocks(0, PART_BYTES, [memoryview(bytes(PART_BYTES))])
    stage.hear(source, wrong, buffer=CountingBuffer())
    assert stage.writer.take() == [], f"{second} has still to be read"
    assert stage.reader.take() == [Lost(0)]
    stage.tell(ReadFailed(leecher.key, second.blocks, [0], "they are not right any more"), Withdrawn(0))
    stage.hear(source, wrong, buffer=CountingBuffer())
    assert [type(message) for message in stage.writer.take()] == [Write]


def test_a_digest_of_what_has_gone_bad_since_installs_nothing() -> None:
    stage = Stage()
    stage.begin(0, 1, 2)
    stage.writer.clear()
    stage.tell(ReadFailed(99, [(1, 0, 5)], [1], "it is gone"), Digested(SHA1))
    assert stage.writer.take() == [Lost(1)]


def test_a_recheck_that_finds_a_bad_part_fetches_it_and_blames_nobody() -> None:
    stage = Stage()
    peer = stage.download()
    stage.tell(Digested(bytes(20)))
    stage.writer.clear()
    link_of(peer).said()
    stage.tell(Checked(bytearray([1, 0, 1]), installed=False))
    assert stage.writer.take() == [Lost(1), Digest(PART_BYTES)]
    assert stage.it.phase is Phase.ACTIVE
    stage.tell(Withdrawn(1))
    assert stage.it.swarm.picker.missing == 1


def test_while_every_part_is_hashed_again_none_is_served_on_trust() -> None:
    stage = Stage()
    stage.download()
    stage.reader.clear()
    stage.tell(Digested(bytes(20)))
    assert stage.reader.take() == [Watch(bytearray(b"\1" * PARTS))]


@pytest.mark.parametrize("back", [False, True])
def test_a_part_that_is_lost_while_every_part_is_hashed_again_explains_the_whole(back: bool) -> None:
    stage = Stage()
    stage.download()
    stage.tell(Digested(bytes(20)))
    stage.tell(ReadFailed(99, [(1, 0, 5)], [1], "they are not right any more"), Withdrawn(1))
    stage.tell(Accepted(object(), ("10.0.0.9", 5000)))
    other = stage.shake(max(stage.links.made), b"a-seeder-a-seeder-ab")
    stage.hear(other, BitfieldReceived(full_bitfield(PARTS).to_wire()), Unchoke())
    stage.deliver_all(other)
    if back:
        stage.tell(PartsWritten([1], []))
    stage.writer.clear()
    stage.tell(Checked(bytearray([1, back, 1]), installed=False))
    assert stage.it.phase is Phase.ACTIVE
    if not back:
        stage.tell(PartsWritten([1], []))
    assert stage.digests()[-1] == Digest(len(DATA)), "the writer has begun anew"
    stage.tell(Digested(SHA1))
    assert stage.writer.take() == [Install()]


def test_what_is_withdrawn_while_it_stops_is_not_fetched() -> None:
    stage = Stage()
    stage.begin(0, 1)
    stage.answer(SEEDER)
    peer = stage.seeder()
    stage.tell(ReadFailed(99, [(0, 0, 5)], [0], "it is gone"), Quit("q"), Withdrawn(0))
    assert not peer.outstanding & {0, 1}


def test_a_peer_that_takes_a_part_back_is_not_asked_for_it_any_more() -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER)
    peer = stage.seeder()
    owed = {key // 2 for key in peer.outstanding}
    assert owed == {0, 1, 2}
    stage.hear(peer, Extended(3, (1).to_bytes(4, "big")))
    assert 1 not in peer.have
    assert {key // 2 for key in peer.outstanding} == {0, 2}
    assert stage.it.swarm.picker.missing == 1
    stage.hear(peer, Extended(3, (1).to_bytes(4, "big")), Haves([1]))
    assert {key // 2 for key in peer.outstanding} == {0, 1, 2}


@pytest.mark.parametrize("index", [PARTS, 2**32 - 1])
def test_a_part_that_there_is_not_cannot_be_taken_back(index: int) -> None:
    stage = Stage()
    stage.begin()
    stage.answer(SEEDER)
    peer = stage.seeder()
    stage.hear(peer, Extended(3, index.to_bytes(4, "big")))
    assert link_of(peer).closed
