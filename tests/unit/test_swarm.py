"""What peers say and what we say to them, message by message."""

from __future__ import annotations

import random
from typing import Any

import pytest

from orchestra import bencode
from orchestra.bencode import Bencoded
from orchestra.bitfield import Bitfield
from orchestra.conversation import MAX_HELLOS, SPARE_HAVES
from orchestra.downloads import SNUB_S
from orchestra.extension import UPLOAD_ONLY_ID
from orchestra.fast import GRANTS
from orchestra.geometry import Geometry
from orchestra.messages import Accepted, LinkUp, Read, Received, Write
from orchestra.news import GATHER_S
from orchestra.peer import FORGIVING_BYTES, MAX_STRAY_BLOCKS, MAX_WAVERINGS, STALLED_S, WAVERINGS_S, Peer
from orchestra.service import UPLOAD_SLOTS
from orchestra.swarm import KEEP_ALIVE_S, SILENCE_S, Swarm
from orchestra.uploads import MAX_ASKED
from orchestra.wire import (
    BLOCK_BYTES,
    KEEP_ALIVE,
    AllowedFast,
    BitfieldReceived,
    Blocks,
    Cancels,
    Choke,
    Extended,
    Handshake,
    HaveAll,
    HaveNone,
    Haves,
    Interested,
    Message,
    NotInterested,
    Port,
    Rejects,
    Requests,
    Suggestions,
    Unchoke,
)
from tests.fakes import (
    INFO_HASH,
    OUR_ID,
    CountingBuffer,
    FakeLinks,
    ListInbox,
    bitfield,
    blocks_message,
    content,
    full_bitfield,
    link_of,
)

PARTS, PART_BYTES = 8, 16 * BLOCK_BYTES
GEOMETRY = Geometry(PARTS * PART_BYTES, PART_BYTES)
DATA = content(PARTS * PART_BYTES)
PLAIN, EXTENSIONS, FAST = 0, 1 << 20, 1 << 2
ALL_AND_UNCHOKED = (BitfieldReceived(full_bitfield(PARTS).to_wire()), Unchoke())


class Stage:
    """A swarm between lists, and peers played by the test."""

    def __init__(self, have: Bitfield | None = None) -> None:
        self.links = FakeLinks(PARTS, PART_BYTES)
        self.writer, self.reader = ListInbox(), ListInbox()
        self.now_s = 1000.0
        self.swarm = Swarm(
            GEOMETRY,
            OUR_ID,
            links=self.links,
            writer=self.writer,
            reader=self.reader,
            rng=random.Random(1),
            now_s=self.now_s,
        )
        self.swarm.listen_port = 6881
        for index in [] if have is None else have.indices():
            self.swarm.picker.mark_have(index)
        self.met = 0

    def meet(self, *said: Message, reserved: int = PLAIN) -> Peer:
        """A peer calls, shakes hands and says this."""
        self.met += 1
        before = set(self.links.made)
        self.swarm.doorway.accepted(Accepted(object(), (f"10.0.0.{self.met}", 5000)), self.now_s)
        [key] = set(self.links.made) - before
        handshake = Handshake(reserved, INFO_HASH, b"-XX0000-" + b"%012d" % self.met)
        self.swarm.link_up(LinkUp(key, handshake), self.now_s)
        peer = self.swarm.peers[key]
        if said:
            self.hear(peer, *said)
        return peer

    def seeder(self) -> Peer:
        """A peer that has everything and lets us ask."""
        return self.meet(*ALL_AND_UNCHOKED)

    def hear(self, peer: Peer, *said: Message, buffer: CountingBuffer | None = None) -> None:
        self.swarm.received(Received(peer.key, list(said), buffer), self.now_s)
        self.check()

    def deliver(self, peer: Peer, offset: int, length: int) -> CountingBuffer:
        """The peer sends these bytes; the buffer in which they came."""
        buffer = CountingBuffer()
        self.hear(peer, blocks_message(DATA, offset, length), buffer=buffer)
        return buffer

    def check(self) -> None:
        assert self.swarm.downloads.unsound() == ""

    def tick(self, seconds: float = 0.0) -> None:
        self.now_s += seconds
        self.swarm.tick(self.now_s)
        self.check()

    def written(self, good: list[int], bad: list[int] | None = None) -> None:
        self.swarm.parts_written(good, bad or [], self.now_s)
        self.check()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def kinds(messages: list[Message]) -> list[type[Any]]:
    return [type(message) for message in messages]


def requested(peer: Peer) -> list[tuple[int, int, int]]:
    """The blocks that the peer was asked for since the last look."""
    return [block for said in link_of(peer).said() if isinstance(said, Requests) for block in said.blocks]


def test_a_wanted_block_behind_the_one_stray_block_too_many_is_not_lost(stage: Stage) -> None:
    peer = stage.seeder()
    index = requested(peer)[0][0]
    stage.deliver(peer, index * PART_BYTES, BLOCK_BYTES)
    peer.stray_blocks = MAX_STRAY_BLOCKS
    stage.writer.clear()
    buffer = stage.deliver(peer, index * PART_BYTES, 2 * BLOCK_BYTES)
    assert link_of(peer).closed == ["too many blocks that were not asked for"]
    write = stage.writer.only(Write)
    assert write.buffer is buffer
    assert [(run.offset, run.length) for run in write.runs] == [
        (index * PART_BYTES + BLOCK_BYTES, BLOCK_BYTES)
    ]


def test_who_left_before_its_part_turned_out_wrong_is_banned_all_the_same(stage: Stage) -> None:
    liar = stage.seeder()
    index = requested(liar)[0][0]
    stage.deliver(liar, index * PART_BYTES, PART_BYTES)
    stage.swarm.link_closed(liar.key, stage.now_s)
    stage.written([], [index])
    assert stage.swarm.doorway.book.is_banned(liar.host, b"")


# Floods


def test_a_peer_that_wavers_makes_us_decide_once_a_receive(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[float] = []
    wavering: list[Message] = [Interested(), NotInterested()]
    monkeypatch.setattr(stage.swarm.service, "rechoke", decided.append)
    peer = stage.meet()
    stage.hear(peer, *wavering * 400, Interested())
    assert len(decided) == 1
    stage.hear(peer, Interested(), Interested())
    assert len(decided) == 1


@pytest.mark.parametrize("reserved", [PLAIN, FAST])
def test_chokes_and_unchokes_in_a_row_make_us_ask_others_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, reserved: int
) -> None:
    peer, filled = stage.meet(*ALL_AND_UNCHOKED, reserved=reserved), list[float]()
    wavering: list[Message] = [Choke(), Unchoke()]
    fill_all = stage.swarm.downloads.fill_all

    def counted(now_s: float) -> None:
        filled.append(now_s)
        fill_all(now_s)

    monkeypatch.setattr(stage.swarm.downloads, "fill_all", counted)
    stage.hear(peer, *wavering * 400)
    assert len(filled) == 1
    assert peer.outstanding


def test_extension_handshakes_without_end_end_the_connection(stage: Stage) -> None:
    peer = stage.meet(*[Extended(0, b"de")] * MAX_HELLOS)
    assert not peer.closing
    stage.hear(peer, Extended(0, b"de"))
    assert link_of(peer).closed == ["too many extension handshakes"]


# Greeting


def test_a_new_peer_is_told_nothing_when_there_is_nothing_to_tell(stage: Stage) -> None:
    assert link_of(stage.meet()).said() == []


def test_a_new_peer_is_told_what_we_have_and_who_we_are() -> None:
    stage = Stage(bitfield(PARTS, 1, 2))
    field, hello = link_of(stage.meet(reserved=EXTENSIONS)).said()
    assert field == BitfieldReceived(b"\x60")
    assert isinstance(hello, Extended)
    assert hello.extended_id == 0
    said = bencode.decode(hello.payload)
    assert isinstance(said, dict)
    assert (said[b"p"], said[b"reqq"]) == (6881, MAX_ASKED)


def test_a_peer_that_does_not_speak_extensions_is_spared_them() -> None:
    assert kinds(link_of(Stage(full_bitfield(PARTS)).meet()).said()) == [BitfieldReceived]


# The fast extension (BEP 6)


@pytest.mark.parametrize(
    ("have", "expected"),
    [([], HaveNone()), ([1, 2], BitfieldReceived(b"\x60")), (range(PARTS), HaveAll())],
)
def test_who_speaks_bep_6_is_told_what_we_have_in_one_message_and_first(
    have: list[int], expected: Message
) -> None:
    assert link_of(Stage(bitfield(PARTS, *have)).meet(reserved=FAST)).said() == [expected]
    assert link_of(Stage(bitfield(PARTS, *have)).meet(reserved=FAST | EXTENSIONS)).said()[0] == expected


def test_an_only_source_that_shows_nothing_yet_says_so() -> None:
    stage = Stage(full_bitfield(PARTS))
    stage.swarm.expect_others(seeders=1, leechers=5)
    assert link_of(stage.meet(reserved=FAST)).said()[0] == HaveNone()


def test_only_who_has_said_something_makes_an_only_source_share_sparingly() -> None:
    stage = Stage(full_bitfield(PARTS))
    first = stage.meet()
    assert link_of(stage.meet()).said()[0] == BitfieldReceived(full_bitfield(PARTS).to_wire())
    stage.hear(first)
    assert link_of(stage.meet()).said()[0] == BitfieldReceived(full_bitfield(PARTS).to_wire())
    stage.hear(first, Interested())
    assert link_of(stage.meet(reserved=FAST)).said()[0] == HaveNone()


def test_have_all_makes_a_source_and_have_none_says_nothing(stage: Stage) -> None:
    peer = stage.meet(HaveAll(), reserved=FAST)
    assert peer.have.complete
    assert not peer.counted
    assert Interested() in link_of(peer).said()
    newcomer = stage.meet(HaveNone(), reserved=FAST)
    assert newcomer.have.count == 0
    stage.hear(newcomer, Haves([1]), HaveNone())
    assert newcomer.have.indices() == [1], "a part that somebody had is not taken back"
    stage.hear(newcomer, HaveAll())
    assert newcomer.have.complete
    stage.swarm.link_closed(newcomer.key, stage.now_s)
    assert all(stage.swarm.picker.availability(index) == 0 for index in range(PARTS))


def test_a_reject_is_asked_of_another_peer_at_once(stage: Stage) -> None:
    peer, other = stage.meet(HaveAll(), Unchoke(), reserved=FAST), stage.seeder()
    other.depth = 200
    asked = requested(peer)
    requested(other)
    stage.hear(peer, Rejects(asked))
    assert set(asked) <= set(requested(other))
    assert requested(peer) == []


def test_a_choke_leaves_debts_where_bep_6_is_agreed_on_and_rejects_end_them(stage: Stage) -> None:
    peer, other = stage.meet(HaveAll(), Unchoke(), reserved=FAST), stage.seeder()
    other.depth = 200
    asked = requested(peer)
    requested(other)
    stage.hear(peer, Choke())
    assert len(peer.outstanding) == len(asked)
    assert set(asked).isdisjoint(requested(other))
    stage.hear(peer, Rejects(asked))
    assert not peer.outstanding
    assert set(asked) <= set(requested(other))


def test_what_a_choking_peer_allows_is_asked_of_it(stage: Stage) -> None:
    peer = stage.meet(HaveAll(), AllowedFast([3]), reserved=FAST)
    assert {index for index, _, _ in requested(peer)} == {3}
    assert len(peer.outstanding) == 16


@pytest.mark.parametrize("said", [AllowedFast([PARTS]), Suggestions([0, 2**32 - 1])])
def test_a_part_that_there_is_not_breaks_the_rules_of_bep_6(stage: Stage, said: Message) -> None:
    assert link_of(stage.meet(said, reserved=FAST)).closed != []


def test_a_suggestion_changes_nothing(stage: Stage) -> None:
    peer = stage.meet(HaveAll(), Suggestions([1, 2]), reserved=FAST)
    assert kinds(link_of(peer).said()) == [HaveNone, Interested]
    stage.hear(peer, *[Suggestions([1])] * 1000)
    assert link_of(peer).said() == []


def crowded_stage() -> Stage:
    """We have half of the parts, and all slots are taken."""
    stage = Stage(bitfield(PARTS, 0, 1, 2, 3))
    for _ in range(UPLOAD_SLOTS):
        stage.meet(Interested())
    return stage


def test_a_newcomer_without_a_slot_is_granted_parts_that_we_have_and_it_lacks() -> None:
    stage = crowded_stage()
    peer = stage.meet(Haves([1]), Interested(), reserved=FAST)
    if not peer.choked:  # the optimistic slot
        pytest.fail("the seed gives it a slot: take another one")
    assert link_of(peer).said()[-1] == AllowedFast([index for index in peer_set(peer) if index in (0, 2, 3)])
    stage.hear(peer, Requests([(2, 0, BLOCK_BYTES)]))
    assert stage.reader.only(Read).blocks == [(2, 0, BLOCK_BYTES)]
    stage.hear(peer, Requests([(1, 0, BLOCK_BYTES)]))
    assert link_of(peer).said() == [Rejects([(1, 0, BLOCK_BYTES)])]


def peer_set(peer: Peer) -> tuple[int, ...]:
    assert peer.fast is not None
    return peer.fast.canonical


def test_few_newcomers_hold_grants_at_a_time() -> None:
    stage = crowded_stage()
    peers = [stage.meet(Interested(), reserved=FAST) for _ in range(GRANTS + 4)]
    granted = [peer for peer in peers if AllowedFast in kinds(link_of(peer).said())]
    assert len(granted) == GRANTS


def test_a_choke_comes_before_the_rejects_that_it_brings() -> None:
    stage = Stage(full_bitfield(PARTS))
    first = stage.meet(Interested(), reserved=FAST)
    stage.hear(first, Requests([(0, n * BLOCK_BYTES, BLOCK_BYTES) for n in range(16)]))
    link_of(first).said()
    first.interested = False
    stage.swarm.service.rechoke(stage.now_s)
    assert kinds(link_of(first).said()) == [Choke, Rejects]


# The extension protocol (BEP 10), and who wants nothing (BEP 21)


def hellos(peer: Peer) -> list[dict[bytes, Bencoded]]:
    """The extension handshakes that we sent since the last look."""
    found = []
    for said in link_of(peer).said():
        if isinstance(said, Extended) and said.extended_id == 0:
            fields = bencode.decode(said.payload)
            assert isinstance(fields, dict)
            found.append(fields)
    return found


def hello(**fields: object) -> Extended:
    """An extension handshake that says this."""
    return Extended(0, bencode.encode(fields))


def test_a_later_handshake_changes_what_it_names_and_nothing_else(stage: Stage) -> None:
    peer = stage.meet(
        hello(v="Some", reqq=7, p=1234, upload_only=1, yourip=b"\x0a\0\0\x01"), reserved=EXTENSIONS
    )
    assert (peer.client, peer.max_requests, peer.listen_port) == ("Some", 7, 1234)
    assert (peer.upload_only, peer.our_host) == (True, "10.0.0.1")
    stage.hear(peer, hello(reqq=9))
    assert (peer.client, peer.max_requests, peer.listen_port) == ("Some", 9, 1234)
    assert (peer.upload_only, peer.our_host) == (True, "10.0.0.1")
    stage.hear(peer, hello(upload_only=0))
    assert not stage.swarm.peers[peer.key].upload_only


def test_who_wants_nothing_gets_no_slot_whatever_else_it_says() -> None:
    stage = Stage(bitfield(PARTS, 0))
    peer = stage.meet(Interested(), reserved=EXTENSIONS)
    choked = []
    for said in (
        [],
        [hello(upload_only=1)],
        [NotInterested(), Interested()],
        [Extended(UPLOAD_ONLY_ID, b"\0")],
        [Extended(UPLOAD_ONLY_ID, b"\1")],
        [Extended(UPLOAD_ONLY_ID, b""), Extended(UPLOAD_ONLY_ID, b"\0\0")],  # not one byte: says nothing
    ):
        stage.hear(peer, *said)
        choked.append(peer.choked)
    assert choked == [False, True, True, False, True, True]


def test_a_partial_peer_that_wants_nothing_is_left_by_a_complete_member() -> None:
    stage = Stage(full_bitfield(PARTS))
    peer = stage.meet(Haves([1]), hello(upload_only=1), reserved=EXTENSIONS)
    assert link_of(peer).closed == ["neither wants anything"]
    stage = Stage(bitfield(PARTS, 1))
    peer = stage.meet(Haves([1, 2]), hello(upload_only=1), reserved=EXTENSIONS)
    assert link_of(peer).closed == []
    assert peer.interesting


def test_that_we_want_nothing_is_said_at_once_by_a_complete_member() -> None:
    [said] = hellos(Stage(full_bitfield(PARTS)).meet(reserved=EXTENSIONS))
    assert said[b"upload_only"] == 1


def test_that_we_want_nothing_is_said_again_once_we_are_complete() -> None:
    stage = Stage(bitfield(PARTS, *range(1, PARTS)))
    seeder, leecher = stage.seeder(), stage.meet(Haves([3]), reserved=EXTENSIONS)
    plain = stage.meet(Haves([3]))
    [said] = hellos(leecher)
    assert b"upload_only" not in said
    stage.deliver(seeder, 0, PART_BYTES)
    stage.written([0])
    stage.tick(1)
    [said] = hellos(leecher)
    assert (said[b"upload_only"], said[b"p"]) == (1, 6881)
    stage.tick(1)
    assert hellos(leecher) == []
    assert hellos(plain) == []


def test_an_only_source_does_not_say_that_it_wants_nothing_while_it_shows_little() -> None:
    # libtorrent leaves a peer that has nothing for it and wants nothing.
    stage = Stage(full_bitfield(PARTS))
    stage.swarm.expect_others(seeders=1, leechers=5)
    peer = stage.meet(reserved=EXTENSIONS)
    [said] = hellos(peer)
    assert b"upload_only" not in said
    stage.tick(1)
    assert hellos(peer) == []
    stage.hear(peer, Haves(list(range(PARTS - 1))))
    other = stage.meet(Haves([PARTS - 1]), reserved=EXTENSIONS)
    stage.tick(1)
    assert [said[b"upload_only"] for said in hellos(peer)] == [1]
    assert not other.closing


# Interest


@pytest.mark.parametrize(
    ("theirs", "interesting"), [([0, 1], False), ([0, 5], True), ([], False), ([7], True)]
)
def test_we_are_interested_in_whoever_has_what_we_lack(theirs: list[int], interesting: bool) -> None:
    stage = Stage(bitfield(PARTS, 0, 1))
    peer = stage.meet()
    link_of(peer).said()
    stage.hear(peer, BitfieldReceived(bitfield(PARTS, *theirs).to_wire()))
    assert (Interested() in link_of(peer).said()) is interesting


def test_news_of_a_part_that_we_lack_makes_a_peer_interesting_and_is_said_once(stage: Stage) -> None:
    peer = stage.meet()
    stage.hear(peer, Haves([3]))
    assert link_of(peer).said() == [Interested()]
    stage.hear(peer, Haves([4]), Haves([3]))
    assert link_of(peer).said() == []
    assert peer.wanted_parts == 2


def test_interest_ends_when_the_peer_has_nothing_more_for_us(stage: Stage) -> None:
    peer = stage.meet(BitfieldReceived(bitfield(PARTS, 2).to_wire()), Unchoke())
    stage.deliver(peer, 2 * PART_BYTES, PART_BYTES)
    link_of(peer).said()
    stage.written([2])
    assert link_of(peer).said() == [Haves([2])], "it may soon have something again"
    stage.tick()
    assert link_of(peer).said() == [NotInterested()]


def test_rarity_counts_partial_peers_only_and_forgets_those_who_leave(stage: Stage) -> None:
    stage.seeder()
    partial = stage.meet(BitfieldReceived(bitfield(PARTS, 0, 1).to_wire()))
    newcomer = stage.meet(Haves([1]))
    availability = stage.swarm.picker.availability
    assert [availability(index) for index in range(3)] == [1, 2, 0]
    for peer in (partial, newcomer):
        stage.swarm.link_closed(peer.key, stage.now_s)
    assert [availability(index) for index in range(3)] == [0, 0, 0]


def test_a_peer_that_becomes_complete_bit_by_bit_is_discounted_as_it_was_counted(stage: Stage) -> None:
    peer = stage.meet(BitfieldReceived(bitfield(PARTS, *range(PARTS - 1)).to_wire()), Haves([PARTS - 1]))
    assert peer.have.complete
    stage.swarm.link_closed(peer.key, stage.now_s)
    assert all(stage.swarm.picker.availability(index) == 0 for index in range(PARTS))


def test_a_bitfield_that_comes_again_counts_as_news_of_what_is_new_in_it(stage: Stage) -> None:
    # aria2 sends one instead of many haves.
    peer = stage.meet(BitfieldReceived(bitfield(PARTS, 0, 1).to_wire()))
    stage.hear(peer, BitfieldReceived(bitfield(PARTS, 0, 1, 4, 5).to_wire()))
    assert peer.have.indices() == [0, 1, 4, 5]
    assert peer.wanted_parts == 4
    assert [stage.swarm.picker.availability(index) for index in range(6)] == [1, 1, 0, 0, 1, 1]
    stage.hear(peer, BitfieldReceived(bitfield(PARTS, 4).to_wire()))
    assert peer.have.indices() == [0, 1, 4, 5], "a part that somebody had is not taken back"
    stage.swarm.link_closed(peer.key, stage.now_s)
    assert all(stage.swarm.picker.availability(index) == 0 for index in range(PARTS))


def test_two_complete_members_part() -> None:
    stage = Stage(full_bitfield(PARTS))
    peer = stage.seeder()
    assert link_of(peer).closed == ["both are complete"]
    last = stage.meet(BitfieldReceived(bitfield(PARTS, *range(PARTS - 1)).to_wire()))
    assert link_of(last).closed == []
    stage.hear(last, Haves([PARTS - 1]))
    assert link_of(last).closed == ["both are complete"]


def test_we_part_from_complete_peers_when_we_become_complete_ourselves() -> None:
    stage = Stage(bitfield(PARTS, *range(1, PARTS)))
    peer, other = stage.seeder(), stage.meet(BitfieldReceived(bitfield(PARTS, 0).to_wire()))
    stage.deliver(peer, 0, PART_BYTES)
    stage.written([0])
    assert link_of(peer).closed == ["both are complete"]
    assert link_of(other).closed == []


# Downloading


def test_an_unchoke_brings_requests_and_blocks_go_to_the_writer_in_one_message(stage: Stage) -> None:
    peer = stage.meet(BitfieldReceived(full_bitfield(PARTS).to_wire()))
    assert kinds(link_of(peer).said()) == [Interested]
    stage.hear(peer, Unchoke())
    asked = requested(peer)
    assert len(asked) == 32
    index = asked[0][0]
    buffer = stage.deliver(peer, index * PART_BYTES, 2 * BLOCK_BYTES)
    [write] = stage.writer.take()
    assert isinstance(write, Write)
    assert write.buffer is buffer
    assert [(run.offset, run.length) for run in write.runs] == [(index * PART_BYTES, 2 * BLOCK_BYTES)]
    assert buffer.returns == 0
    assert stage.swarm.down.total_bytes == peer.down.total_bytes == 2 * BLOCK_BYTES


def test_a_buffer_without_a_wanted_block_goes_back_at_once(stage: Stage) -> None:
    peer = stage.meet()
    assert stage.deliver(peer, 0, BLOCK_BYTES).returns == 1
    assert stage.writer == []
    assert stage.swarm.down.total_bytes == 0


def test_a_buffer_of_a_peer_that_is_being_closed_goes_back_at_once(stage: Stage) -> None:
    peer = stage.seeder()
    peer.close("over")
    assert stage.deliver(peer, requested(peer)[0][0] * PART_BYTES, BLOCK_BYTES).returns == 1
    assert stage.writer == []


def test_blocks_before_a_broken_message_are_still_written(stage: Stage) -> None:
    peer = stage.seeder()
    index = requested(peer)[0][0]
    buffer = CountingBuffer()
    stage.hear(peer, blocks_message(DATA, index * PART_BYTES, BLOCK_BYTES), Haves([PARTS]), buffer=buffer)
    assert peer.closing
    assert len(stage.writer) == 1
    assert buffer.returns == 0


def test_a_choke_hands_the_debts_to_others(stage: Stage) -> None:
    one = stage.seeder()
    first = requested(one)
    assert len(first) == 32
    two = stage.seeder()
    assert set(first).isdisjoint(requested(two))
    stage.hear(one, Choke())
    assert not one.outstanding
    two.depth = 200
    stage.tick()
    assert set(first) <= set(requested(two))


def test_a_peer_that_leaves_hands_its_debts_to_others(stage: Stage) -> None:
    one = stage.seeder()
    first = requested(one)
    stage.deliver(one, first[0][0] * PART_BYTES, BLOCK_BYTES)
    two = stage.seeder()
    two.depth = 200
    stage.swarm.link_closed(one.key, stage.now_s)
    stage.check()
    assert one.key not in stage.swarm.peers
    owed = {GEOMETRY.span(key) for key in two.outstanding}
    assert set(first[1:]) <= owed
    assert first[0] not in owed


def test_a_wrong_part_of_a_sole_author_gets_him_banned_and_is_fetched_from_another(stage: Stage) -> None:
    liar, good = stage.seeder(), stage.meet()
    index = requested(liar)[0][0]
    stage.deliver(liar, index * PART_BYTES, PART_BYTES)
    stage.written([], [index])
    assert link_of(liar).closed == [f"part {index} was wrong"]
    assert stage.swarm.doorway.book.is_banned(liar.host, b"")
    good.depth = 200
    stage.hear(good, BitfieldReceived(full_bitfield(PARTS).to_wire()), Unchoke())
    assert (index, 0, BLOCK_BYTES) in requested(good)


def test_a_wrong_part_is_asked_of_others_at_once_and_told_to_nobody() -> None:
    stage = Stage(bitfield(PARTS, *range(1, PARTS)))
    liar, good, leecher = stage.seeder(), stage.seeder(), stage.meet()
    requested(good)
    stage.deliver(liar, 0, PART_BYTES)
    link_of(good).said()
    stage.written([], [0])
    assert len(requested(good)) == 16
    assert link_of(leecher).sent[1:] == []


def test_who_is_being_closed_is_told_nothing_more(stage: Stage) -> None:
    seeder, leecher = stage.seeder(), stage.meet()
    index = requested(seeder)[0][0]
    stage.deliver(seeder, index * PART_BYTES, PART_BYTES)
    leecher.close("over")
    stage.written([index])
    assert link_of(leecher).sent == []


def test_a_peer_that_was_dialled_and_left_is_dialled_again_later(stage: Stage) -> None:
    stage.swarm.doorway.book.add((("10.9.9.9", 6881),), stage.now_s)
    stage.tick()
    [key] = stage.links.dialled
    stage.swarm.link_up(LinkUp(key, Handshake(0, INFO_HASH, bytes(20))), stage.now_s)
    stage.tick(60)
    assert len(stage.links.dialled) == 1
    stage.swarm.link_closed(key, stage.now_s)
    stage.tick(60)
    assert len(stage.links.dialled) == 2


def test_a_good_part_is_told_to_all_who_lack_it(stage: Stage) -> None:
    seeder, leecher = stage.seeder(), stage.meet()
    stage.deliver(seeder, requested(seeder)[0][0] * PART_BYTES, PART_BYTES)
    index = next(i for i in range(PARTS) if stage.swarm.picker.state(i).name == "CHECKING")
    stage.written([index])
    assert link_of(leecher).said() == [Haves([index])]
    assert Haves([index]) not in link_of(seeder).said()


def fetch(stage: Stage, seeder: Peer, count: int) -> list[int]:
    """The next parts arrive, and are right."""
    fetched = []
    for _ in range(count):
        key = min(seeder.outstanding)
        index = GEOMETRY.part_of(key)
        stage.now_s += 2 * GATHER_S
        stage.deliver(seeder, index * PART_BYTES, PART_BYTES)
        stage.written([index])
        fetched.append(index)
    return fetched


def test_who_shows_no_interest_hears_the_first_news_at_once_and_the_rest_at_the_next_tick(
    stage: Stage,
) -> None:
    seeder, idle = stage.seeder(), stage.meet()
    first, *later = fetch(stage, seeder, 3)
    assert link_of(idle).said() == [Haves([first])]
    stage.tick()
    assert link_of(idle).said() == [Haves(later)]
    stage.tick()
    assert link_of(idle).said() == []


def test_who_is_interested_hears_all_news_at_once_and_first_what_it_missed(stage: Stage) -> None:
    seeder, leecher = stage.seeder(), stage.meet()
    fetch(stage, seeder, 1)
    link_of(leecher).said()
    missed = fetch(stage, seeder, 2)
    stage.hear(leecher, Interested())
    assert link_of(leecher).said() == [Haves(missed), Unchoke()]
    for _ in range(2):
        [index] = fetch(stage, seeder, 1)
        assert Haves([index]) in link_of(leecher).said()
    stage.tick()
    assert not [message for message in link_of(leecher).said() if isinstance(message, Haves)]


def test_who_has_lost_interest_hears_the_next_news_at_once(stage: Stage) -> None:
    seeder, leecher = stage.seeder(), stage.meet(Interested())
    fetch(stage, seeder, 1)
    stage.hear(leecher, NotInterested())
    link_of(leecher).said()
    [index] = fetch(stage, seeder, 1)
    assert link_of(leecher).said() == [Haves([index])]


def test_news_that_a_peer_had_itself_can_wait_and_is_not_held_against_it(stage: Stage) -> None:
    seeder = stage.seeder()
    likely = {GEOMETRY.part_of(key) for key in seeder.outstanding}
    twin = stage.meet(BitfieldReceived(bitfield(PARTS, *likely).to_wire()), Interested())
    link_of(twin).said()
    fetched = fetch(stage, seeder, 2)
    assert likely.issuperset(fetched)
    assert not [message for message in link_of(twin).said() if isinstance(message, Haves)]
    assert not twin.told_in_vain
    stage.tick()
    assert Haves(fetched) in link_of(twin).said()


def test_news_that_a_peer_lacks_brings_along_what_it_had_itself(stage: Stage) -> None:
    seeder = stage.seeder()
    first = GEOMETRY.part_of(min(seeder.outstanding))
    twin = stage.meet(BitfieldReceived(bitfield(PARTS, first).to_wire()), Interested())
    link_of(twin).said()
    assert fetch(stage, seeder, 1) == [first]
    [second] = fetch(stage, seeder, 1)
    assert Haves([first, second]) in link_of(twin).said()


def test_who_serves_us_hears_at_once_of_what_it_has_itself_and_without_interest(stage: Stage) -> None:
    seeder = stage.seeder()
    partial = stage.meet(BitfieldReceived(bitfield(PARTS, *range(PARTS - 1)).to_wire()), Unchoke())
    assert partial.engaged
    link_of(partial).said()
    fetched = []
    for _ in range(2):
        [index] = fetch(stage, seeder, 1)
        fetched += [message for message in link_of(partial).said() if message == Haves([index])]
    assert len(fetched) == 2


def test_who_comes_later_hears_only_what_is_new(stage: Stage) -> None:
    seeder, _ = stage.seeder(), stage.meet()
    fetch(stage, seeder, 2)
    late = stage.meet()
    assert [type(message) for message in link_of(late).said()] == [BitfieldReceived]
    stage.tick()
    assert link_of(late).said() == []


def test_what_a_stalling_peer_was_asked_for_last_comes_from_another() -> None:
    stage = Stage(bitfield(PARTS, *range(1, PARTS)))
    staller = stage.seeder()
    assert len(requested(staller)) == 16
    stage.deliver(staller, 0, BLOCK_BYTES)
    stage.tick(SNUB_S)
    assert staller.snubbed
    assert len(staller.outstanding) == 1
    good = stage.seeder()
    assert len(good.outstanding) == 14
    stage.deliver(good, *rest_of(good))
    stage.deliver(good, *rest_of(good))
    stage.written([0])
    assert stage.swarm.complete


def rest_of(peer: Peer) -> tuple[int, int]:
    """Where the blocks that the peer owes us start, and how many bytes they are."""
    return min(peer.outstanding) * BLOCK_BYTES, len(peer.outstanding) * BLOCK_BYTES


def test_a_peer_that_sends_what_nobody_asked_for_is_closed_in_the_end(stage: Stage) -> None:
    peer = stage.meet()
    for _ in range(MAX_STRAY_BLOCKS // 8):
        stage.deliver(peer, 0, 8 * BLOCK_BYTES)
        assert not peer.closing
    stage.deliver(peer, 0, BLOCK_BYTES)
    assert link_of(peer).closed == ["too many blocks that were not asked for"]


@pytest.mark.fault("P12")
def test_strays_are_forgiven_by_what_was_rightly_given(stage: Stage) -> None:
    peer = stage.seeder()
    peer.stray_blocks = MAX_STRAY_BLOCKS
    peer.down.add(2 * FORGIVING_BYTES, stage.now_s)
    asked = {block[0] for block in requested(peer)}
    stray = next(index for index in range(PARTS) if index not in asked)
    for _ in range(2):
        stage.deliver(peer, stray * PART_BYTES, BLOCK_BYTES)
        assert not peer.closing
    stage.deliver(peer, stray * PART_BYTES, BLOCK_BYTES)
    assert link_of(peer).closed == ["too many blocks that were not asked for"]


@pytest.mark.fault("P12")
def test_small_blocks_that_nobody_asked_for_count_as_much_as_large_ones(stage: Stage) -> None:
    peer = stage.meet()
    run = Blocks(0, MAX_STRAY_BLOCKS, [memoryview(b"x")] * MAX_STRAY_BLOCKS)
    stage.hear(peer, run, buffer=CountingBuffer())
    assert not peer.closing
    stage.hear(peer, Blocks(0, 1, [memoryview(b"x")]), buffer=CountingBuffer())
    assert peer.closing


@pytest.mark.fault("P12")
def test_haves_without_end_close_the_connection(stage: Stage) -> None:
    peer = stage.meet(Haves(list(range(PARTS))), Haves(list(range(PARTS))), Haves([1] * SPARE_HAVES))
    assert not peer.closing
    stage.hear(peer, Haves([1]))
    assert link_of(peer).closed == ["more haves than there are parts"]


@pytest.mark.parametrize(
    "word", [Choke(), Unchoke(), Interested(), BitfieldReceived(b"\0"), HaveAll(), Port(1), Extended(9, b"")]
)
@pytest.mark.fault("P12")
def test_words_without_end_close_the_connection_but_not_a_few_now_and_then(
    stage: Stage, word: Message
) -> None:
    peer = stage.meet(*[word] * MAX_WAVERINGS)
    for _ in range(5):
        stage.now_s += 1
        stage.hear(peer, *[word] * int(WAVERINGS_S))
    assert not peer.closing
    stage.hear(peer, *[word] * MAX_WAVERINGS)
    assert link_of(peer).closed == ["many words, and nothing said"]


@pytest.mark.fault("P3")
@pytest.mark.parametrize("gave_before", [False, True])
def test_who_owes_us_blocks_for_a_minute_and_sends_none_is_closed(stage: Stage, gave_before: bool) -> None:
    peer = stage.seeder()
    peer.dialled = ("10.9.9.9", 6881)
    stage.swarm.doorway.book.add((peer.dialled,), stage.now_s)
    if gave_before:
        stage.deliver(peer, requested(peer)[0][0] * PART_BYTES, BLOCK_BYTES)
    for _ in range(int(STALLED_S) - 1):
        stage.tick(1)
        stage.hear(peer)
    assert link_of(peer).closed == []
    stage.tick(2)
    assert link_of(peer).closed == ["owed us blocks for 60 s, and sent none"]
    retry_s = stage.swarm.doorway.book.next_try_s()
    assert retry_s is not None
    assert (retry_s < stage.now_s + 60) is gave_before, "who has never given anything rests for long"


@pytest.mark.fault("P4")
def test_a_peer_that_stalled_and_goes_on_is_asked_as_before(stage: Stage) -> None:
    peer = stage.seeder()
    stage.tick(SNUB_S + 1)
    assert peer.snubbed
    requested(peer)
    stage.tick(1)
    [key] = peer.outstanding
    stage.deliver(peer, key * BLOCK_BYTES, BLOCK_BYTES)
    stage.tick(STALLED_S - SNUB_S)
    assert not peer.closing


def test_the_extension_handshake_bounds_how_much_is_asked(stage: Stage) -> None:
    payload = bencode.encode({b"v": b"Foreign 1.0\x1b[31m", b"reqq": 5})
    peer = stage.meet(Extended(0, payload), BitfieldReceived(full_bitfield(PARTS).to_wire()), Unchoke())
    assert peer.client == "Foreign 1.0\\x1b[31m"
    assert len(requested(peer)) == 5


# Uploading


def test_an_interested_peer_is_unchoked_and_its_requests_are_read() -> None:
    stage = Stage(full_bitfield(PARTS))
    peer = stage.meet()
    link_of(peer).said()
    stage.hear(peer, Interested())
    assert link_of(peer).said() == [Unchoke()]
    stage.hear(peer, Requests([(0, 0, BLOCK_BYTES), (0, BLOCK_BYTES, BLOCK_BYTES)]))
    [read] = stage.reader.take()
    assert isinstance(read, Read)
    assert read.outbox is peer.link
    stage.hear(peer, NotInterested())
    assert link_of(peer).said() == [Choke()]


def test_only_so_many_are_unchoked_and_a_free_slot_is_given_on_at_once() -> None:
    stage = Stage(full_bitfield(PARTS))
    stage.swarm.expect_others(seeders=2, leechers=9)
    peers = [stage.meet(Interested()) for _ in range(UPLOAD_SLOTS + 3)]
    lucky = [peer for peer in peers if not peer.choked]
    assert len(lucky) == UPLOAD_SLOTS
    stage.swarm.link_closed(lucky[0].key, stage.now_s)
    assert sum(not peer.choked for peer in peers[1:] if peer is not lucky[0]) == UPLOAD_SLOTS


def test_a_choke_is_told_and_drops_what_waited() -> None:
    stage = Stage(full_bitfield(PARTS))
    peer = stage.meet(Interested())
    stage.hear(peer, Requests([(0, n, 100) for n in range(100)]))
    assert peer.asked
    stage.hear(peer, NotInterested())
    assert not peer.asked


def test_a_cancel_takes_a_request_back() -> None:
    stage = Stage(full_bitfield(PARTS))
    peer = stage.meet(Interested())
    stage.hear(peer, Requests([(0, begin, 1) for begin in range(50)]))
    waiting = list(peer.asked)
    assert len(waiting) > 1
    stage.hear(peer, Cancels(waiting[:-1]))
    assert list(peer.asked) == waiting[-1:]


# Breaking the rules


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Haves([PARTS]), "have of part 8, but there are 8"),
        (Haves([2**32 - 1]), "have of part 4294967295"),
        (Requests([(0, 0, BLOCK_BYTES + 1)]), "a request for 16385 bytes"),
        (Requests([(7, 0, 1)]), "a request for part 7, which we do not have"),
        (Extended(0, b"not bencoded"), "an extension handshake that is not bencoded"),
    ],
)
def test_who_breaks_the_rules_is_closed_with_the_reason(said: Message, reason: str) -> None:
    stage = Stage(bitfield(PARTS, 0))
    peer = stage.meet(said)
    assert link_of(peer).closed[0].startswith(reason)


def test_spare_bits_in_a_bitfield_break_the_rules() -> None:
    swarm = Swarm(
        Geometry(PART_BYTES, PART_BYTES),
        OUR_ID,
        links=(links := FakeLinks(1)),
        writer=ListInbox(),
        reader=ListInbox(),
        rng=random.Random(1),
        now_s=0.0,
    )
    swarm.doorway.accepted(Accepted(object(), ("10.0.0.1", 5000)), 0.0)
    [key] = links.made
    swarm.link_up(LinkUp(key, Handshake(0, INFO_HASH, bytes(20))), 0.0)
    swarm.received(Received(key, [BitfieldReceived(b"\xc0")], None), 0.0)
    assert links.made[key].closed == ["a bitfield with spare bits set"]


def test_messages_after_the_one_that_broke_the_rules_are_not_heard(stage: Stage) -> None:
    peer = stage.meet(Haves([PARTS]), Interested())
    stage.hear(peer, Interested())
    assert peer.choked
    assert not peer.interested


def test_what_belongs_to_extensions_that_we_did_not_offer_is_ignored(stage: Stage) -> None:
    peer = stage.meet(Port(6881), Extended(3, b"whatever"))
    assert not peer.closing


def test_a_peer_that_takes_nothing_in_is_closed(stage: Stage) -> None:
    peer = stage.meet()
    link_of(peer).full = True
    stage.hear(peer, Haves([1]))
    assert link_of(peer).closed == ["too far behind"]


# The clock


def test_a_silent_peer_is_closed_and_a_word_of_any_kind_keeps_it(stage: Stage) -> None:
    silent, quiet = stage.meet(), stage.meet()
    stage.tick(SILENCE_S - 1)
    stage.hear(quiet)
    stage.tick(2)
    assert silent.closing
    assert not quiet.closing


def test_we_keep_our_own_end_alive(stage: Stage) -> None:
    peer = stage.meet()
    stage.tick(KEEP_ALIVE_S - 1)
    stage.hear(peer)
    assert link_of(peer).sent == []
    stage.tick(2)
    assert link_of(peer).sent == [KEEP_ALIVE]
    stage.tick(1)
    assert link_of(peer).sent == [KEEP_ALIVE]


def test_the_choke_round_comes_by_the_clock() -> None:
    stage = Stage(full_bitfield(PARTS))
    stage.swarm.expect_others(seeders=2, leechers=9)
    peers = [stage.meet(Interested()) for _ in range(UPLOAD_SLOTS + 4)]
    unchoked = set()
    for _ in range(60):
        for peer in peers:
            stage.hear(peer)
        stage.tick(10.0)
        unchoked |= {peer.key for peer in peers if not peer.choked}
        assert sum(not peer.choked for peer in peers) == UPLOAD_SLOTS
    assert unchoked == {peer.key for peer in peers}


def test_between_the_rounds_slots_are_only_given_on_when_one_is_free() -> None:
    stage = Stage(full_bitfield(PARTS))
    stage.swarm.expect_others(seeders=2, leechers=9)
    peers = [stage.meet(Interested()) for _ in range(UPLOAD_SLOTS + 4)]
    stage.tick(10.0)
    unchoked = [peer for peer in peers if not peer.choked]
    for _ in range(40):
        waiting = next(peer for peer in peers if peer.choked)
        stage.now_s += 0.1
        stage.hear(waiting, NotInterested())
        stage.hear(waiting, Interested())
        assert [peer for peer in peers if not peer.choked] == unchoked


def test_the_time_of_the_last_source_is_kept(stage: Stage) -> None:
    stage.tick(10)
    assert stage.swarm.sourced_at_s == 1000.0
    assert not stage.swarm.has_source
    peer = stage.seeder()
    stage.tick(10)
    assert stage.swarm.sourced_at_s == stage.now_s
    peer.close("gone")
    stage.tick(10)
    assert stage.swarm.sourced_at_s == stage.now_s - 10


def test_a_lone_downloader_fetches_in_order_until_a_partial_peer_comes(stage: Stage) -> None:
    stage.swarm.expect_others(seeders=1, leechers=1)
    stage.tick()
    assert stage.swarm.picker.in_order
    assert requested(stage.seeder())[0] == (0, 0, BLOCK_BYTES)
    idle = stage.meet()
    stage.tick()
    assert stage.swarm.picker.in_order
    stage.hear(idle, Haves([1]))
    stage.tick()
    assert not stage.swarm.picker.in_order


def test_a_second_bitfield_tells_what_is_new_and_takes_nothing_back(stage: Stage) -> None:
    peer = stage.meet(BitfieldReceived(bitfield(PARTS, 0).to_wire()))
    stage.hear(peer, BitfieldReceived(bitfield(PARTS, 1, 2).to_wire()))
    stage.hear(peer, BitfieldReceived(bitfield(PARTS, 1, 2).to_wire()))
    assert not peer.closing
    assert peer.have.indices() == [0, 1, 2]
    assert peer.wanted_parts == 3
    assert [stage.swarm.picker.availability(index) for index in range(4)] == [1, 1, 1, 0]


def test_close_all_ends_every_connection(stage: Stage) -> None:
    stage.meet()
    stage.swarm.doorway.accepted(Accepted(object(), ("10.0.1.1", 5000)), 0.0)
    stage.swarm.close_all("we stop")
    assert all(link.closed == ["we stop"] for link in stage.links.made.values())


def test_an_unknown_message_is_our_own_fault(stage: Stage) -> None:
    with pytest.raises(AssertionError, match="not a wire message"):
        stage.hear(stage.meet(), "nonsense")  # type: ignore[arg-type]


def test_bytes_of_a_run_that_is_only_partly_wanted_are_counted_once(stage: Stage) -> None:
    peer = stage.seeder()
    index = requested(peer)[0][0]
    stage.deliver(peer, index * PART_BYTES, BLOCK_BYTES)
    stage.deliver(peer, index * PART_BYTES, PART_BYTES)
    write = stage.writer.take()[-1]
    assert sum(run.length for run in write.runs) == PART_BYTES - BLOCK_BYTES
    assert peer.down.total_bytes == PART_BYTES
    assert stage.swarm.downloads.wasted_bytes == BLOCK_BYTES


def test_parts_that_come_close_together_are_told_of_together(stage: Stage) -> None:
    seeder, other = stage.seeder(), stage.meet(Interested())
    [first] = fetch(stage, seeder, 1)
    assert Haves([first]) in link_of(other).said()
    parts = sorted({GEOMETRY.part_of(key) for key in seeder.outstanding})[:2]
    for index in parts:
        stage.deliver(seeder, index * PART_BYTES, PART_BYTES)
        stage.written([index])
    assert not [message for message in link_of(other).said() if isinstance(message, Haves)]
    assert stage.swarm.due_s == stage.now_s + GATHER_S
    stage.swarm.tell_waiting(stage.now_s + GATHER_S)
    assert Haves(parts) in link_of(other).said()
    assert stage.swarm.due_s is None


# The only source


def sole_source(peers: int) -> tuple[Stage, list[Peer]]:
    """A complete member and so many empty ones, which the conductor says are all there are."""
    stage = Stage(full_bitfield(PARTS))
    stage.swarm.expect_others(seeders=1, leechers=peers)
    return stage, [stage.meet() for _ in range(peers)]


def offered_to(peer: Peer) -> list[int]:
    """The parts that the peer was told of since the last look."""
    return [index for said in link_of(peer).said() if isinstance(said, Haves) for index in said.indices]


def test_the_only_source_shows_each_peer_a_few_parts_that_it_shows_nobody_else() -> None:
    _, peers = sole_source(3)
    assert not any(peer.choked for peer in peers)
    offers = [offered_to(peer) for peer in peers]
    assert all(offers)
    together = [index for each in offers for index in each]
    assert len(together) == len(set(together)) <= PARTS


def test_a_lone_peer_is_shown_all_at_once() -> None:
    stage = Stage(full_bitfield(PARTS))
    stage.swarm.expect_others(seeders=1, leechers=1)
    peer = stage.meet()
    assert BitfieldReceived(full_bitfield(PARTS).to_wire()) in link_of(peer).said()


def test_with_another_source_all_is_shown_from_the_start() -> None:
    stage = Stage(full_bitfield(PARTS))
    stage.swarm.expect_others(seeders=2, leechers=5)
    for peer in (stage.meet(), stage.meet()):
        assert BitfieldReceived(full_bitfield(PARTS).to_wire()) in link_of(peer).said()


def test_when_all_is_out_the_rest_is_shown_to_everybody() -> None:
    stage, (one, other) = sole_source(2)
    shown = set(offered_to(one))
    stage.hear(other, Haves(list(range(PARTS - 1))))
    shown |= set(offered_to(one))
    assert shown != set(range(PARTS))
    stage.hear(other, Haves([PARTS - 1]))
    # A peer that has all is a source: from now on there are two.
    assert shown | set(offered_to(one)) == set(range(PARTS))


def test_a_source_that_comes_later_ends_the_offers() -> None:
    stage, (one, _) = sole_source(2)
    shown = set(offered_to(one))
    stage.meet(BitfieldReceived(full_bitfield(PARTS).to_wire()))
    assert shown | set(offered_to(one)) == set(range(PARTS))


def test_a_peer_is_offered_more_once_it_has_what_it_was_offered_and_others_too() -> None:
    stage, (one, other) = sole_source(2)
    first = offered_to(one)
    stage.hear(one, Haves(first))
    stage.hear(other, Haves(first))
    again = offered_to(one)
    assert again
    assert not set(again) & set(first)


def test_what_was_offered_to_a_peer_that_left_is_offered_to_another() -> None:
    stage, (one, other) = sole_source(2)
    lost, kept = offered_to(one), offered_to(other)
    stage.swarm.link_closed(one.key, stage.now_s)
    seen = set(kept)
    for _ in range(PARTS):
        stage.hear(other, Haves(kept))
        stage.tick()
        kept = offered_to(other)
        seen |= set(kept)
    assert set(lost) <= seen
