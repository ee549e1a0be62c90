"""What the digest thread gets: what arrives in order, what is read back when there is time, and the end."""

from __future__ import annotations

import pytest

from orchestra import digestfeed
from orchestra.digestfeed import HURRIED_SHARE, DigestFeed
from orchestra.diskmessages import Along, Finish, ReadBack, Spoilt
from orchestra.messages import Stop
from orchestra.wire import Blocks
from tests.fakes import CountingBuffer, ListInbox

SIZE_BYTES = 1000
STEP_BYTES = 100


class Table:
    """A feed and what it told."""

    def __init__(self) -> None:
        self.told = ListInbox()
        self.feed = DigestFeed(SIZE_BYTES, self.told)
        self.writer = ListInbox()
        self.finished = 0

    def write(self, offset: int, *, hurried: bool = False, length: int = STEP_BYTES) -> CountingBuffer:
        buffer = CountingBuffer()
        self.feed.written(buffer, [Blocks(offset, length, [])], hurried=hurried)
        return buffer

    def read_all(self) -> list[range]:
        """Let all be read back that is to be, as the writer does when it has time; what that was."""
        spans = []
        while span := self.feed.to_read:
            spans.append(span)
            self.feed.read_back(self.writer)
        assert [word for word in self.told if isinstance(word, ReadBack)][-len(spans) :] == [
            ReadBack(span, self.writer) for span in spans
        ]
        return spans

    def along(self) -> list[int]:
        """Where what went along begins."""
        told = self.told.take()
        self.finished = told.count(Finish())
        return [message.run.offset for message in told if isinstance(message, Along)]


@pytest.fixture
def table() -> Table:
    return Table()


def test_what_comes_in_order_goes_along_with_its_buffer(table: Table) -> None:
    buffers = [table.write(offset) for offset in range(0, SIZE_BYTES, STEP_BYTES)]
    assert [message.buffer for message in table.told] == buffers
    assert table.along() == list(range(0, SIZE_BYTES, STEP_BYTES))
    assert [buffer.returns for buffer in buffers] == [0] * 10


def test_what_comes_out_of_order_is_given_back(table: Table) -> None:
    assert table.write(STEP_BYTES).returns == 1
    buffer = CountingBuffer()
    table.feed.written(buffer, [Blocks(0, 10, []), Blocks(500, 10, [])], hurried=False)
    assert buffer.returns == 1
    assert table.told == []


def test_in_a_hurry_only_the_first_share_goes_along(table: Table) -> None:
    buffers = [table.write(offset, hurried=True) for offset in range(0, SIZE_BYTES, STEP_BYTES)]
    along = table.along()
    starts = range(0, SIZE_BYTES, STEP_BYTES)
    assert along == [start for start in starts if start < HURRIED_SHARE * SIZE_BYTES]
    assert [buffer.returns for buffer in buffers] == [0] * len(along) + [1] * (10 - len(along))


def test_of_a_large_composition_only_so_much_is_left(monkeypatch: pytest.MonkeyPatch, table: Table) -> None:
    monkeypatch.setattr(digestfeed, "MAX_LEFT_BYTES", 2 * STEP_BYTES)
    table.feed = DigestFeed(SIZE_BYTES, table.told)
    for offset in range(0, SIZE_BYTES, STEP_BYTES):
        table.write(offset, hurried=True)
    assert table.along() == list(range(0, SIZE_BYTES - 2 * STEP_BYTES, STEP_BYTES))


def test_after_a_hurry_what_did_not_go_along_is_left_to_the_disk(table: Table) -> None:
    for offset in range(0, 800, STEP_BYTES):
        table.write(offset, hurried=True)
    table.told.clear()
    assert table.write(800).returns == 1


def test_what_is_ready_is_read_back_step_by_step_and_the_whole_is_finished_once(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digestfeed, "STEP_BYTES", 300)
    assert not table.feed.to_read
    table.feed.ready(700)
    assert table.read_all() == [range(300), range(300, 600), range(600, 700)]
    table.feed.ready(SIZE_BYTES)
    assert table.read_all() == [range(700, SIZE_BYTES)]
    table.feed.ready(SIZE_BYTES)
    assert table.along() == []
    assert table.finished == 1


def test_what_went_along_is_not_read_back(table: Table) -> None:
    table.write(0)
    table.write(STEP_BYTES)
    table.feed.ready(STEP_BYTES)
    assert not table.feed.to_read
    table.feed.ready(250)
    assert table.read_all() == [range(200, 250)]


def test_after_a_hurry_the_rest_is_read_back_and_what_arrives_then_goes_along_again(table: Table) -> None:
    for offset in range(0, 800, STEP_BYTES):
        table.write(offset, hurried=True)
    table.feed.ready(800)
    [rest] = table.read_all()
    assert rest.stop == 800
    assert HURRIED_SHARE * SIZE_BYTES <= rest.start < HURRIED_SHARE * SIZE_BYTES + STEP_BYTES
    assert table.write(800).returns == 0


def test_what_went_along_as_a_whole_is_finished_when_it_is_right(table: Table) -> None:
    table.write(0, length=SIZE_BYTES)
    table.feed.ready(SIZE_BYTES - 1)
    assert [type(message) for message in table.told] == [Along]
    table.feed.ready(SIZE_BYTES)
    assert [type(message) for message in table.told] == [Along, Finish]


def test_of_an_empty_composition_there_is_a_digest_too() -> None:
    told = ListInbox()
    DigestFeed(0, told).ready(0)
    assert told == [Finish()]


def test_a_wrong_part_spoils_what_went_along_once_and_only_the_disk_counts_from_then_on(table: Table) -> None:
    table.write(0)
    table.feed.part_was_wrong()
    table.feed.part_was_wrong()
    assert [type(message) for message in table.told.take()] == [Along, Spoilt]
    assert table.write(0).returns == table.write(STEP_BYTES).returns == 1
    table.feed.ready(500)
    assert table.read_all() == [range(500)]
    table.feed.part_was_wrong()
    assert Spoilt() not in table.told
    assert not table.feed.to_read


def test_a_wrong_part_before_anything_went_along_spoils_nothing(table: Table) -> None:
    table.feed.part_was_wrong()
    assert table.write(0).returns == 1
    assert table.told == []


def test_the_end_is_passed_on(table: Table) -> None:
    table.feed.end()
    assert table.told == [Stop()]
