"""What the digest thread is told: along in memory, from disk when there is time, at the end in any case."""

from __future__ import annotations

import pytest

from orchestra.digestfeed import HURRIED_SHARE, DigestFeed
from orchestra.messages import Along, Digest, Spoilt, Stop
from orchestra.wire import Blocks
from tests.fakes import CountingBuffer, ListInbox

SIZE_BYTES = 1000
STEP_BYTES = 100


class Table:
    """A feed and what it told."""

    def __init__(self) -> None:
        self.told = ListInbox()
        self.feed = DigestFeed(SIZE_BYTES, self.told)

    def write(self, offset: int, *, hurried: bool = False, length: int = STEP_BYTES) -> CountingBuffer:
        buffer = CountingBuffer()
        self.feed.written(buffer, [Blocks(offset, length, [])], hurried=hurried)
        return buffer

    def along(self) -> list[int]:
        """Where what went along begins."""
        return [message.run.offset for message in self.told.take() if isinstance(message, Along)]


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
    hurried = int(HURRIED_SHARE * SIZE_BYTES / STEP_BYTES)
    assert table.along() == [number * STEP_BYTES for number in range(hurried)]
    assert [buffer.returns for buffer in buffers] == [0] * hurried + [1] * (10 - hurried)


def test_after_a_hurry_what_did_not_go_along_is_left_to_the_disk(table: Table) -> None:
    for offset in range(0, 800, STEP_BYTES):
        table.write(offset, hurried=True)
    table.told.clear()
    assert table.write(800).returns == 1


def test_the_digest_follows_what_is_ready_at_once_when_there_is_time(table: Table) -> None:
    table.feed.ready(300, hurried=False)
    table.feed.ready(900, hurried=False)
    table.feed.ready(SIZE_BYTES, hurried=False)
    assert table.told == [Digest(300), Digest(900), Digest(SIZE_BYTES)]


def test_in_a_hurry_it_follows_up_to_its_share_and_the_rest_when_nothing_waits(table: Table) -> None:
    share = int(HURRIED_SHARE * SIZE_BYTES)
    table.feed.ready(300, hurried=True)
    table.feed.ready(800, hurried=True)
    table.feed.ready(900, hurried=True)
    assert table.told.take() == [Digest(300), Digest(share)]
    table.feed.idle()
    assert table.told.take() == [Digest(900)]
    table.feed.idle()
    assert table.told == []


def test_the_whole_is_never_put_off(table: Table) -> None:
    table.feed.ready(SIZE_BYTES, hurried=True)
    table.feed.idle()
    assert table.told == [Digest(SIZE_BYTES)]


def test_of_an_empty_composition_there_is_a_digest_too() -> None:
    told = ListInbox()
    feed = DigestFeed(0, told)
    feed.idle()
    assert told == []
    feed.ready(0, hurried=False)
    assert told == [Digest(0)]


def test_a_wrong_part_spoils_what_went_along_once_and_nothing_goes_along_any_more(table: Table) -> None:
    table.write(0)
    table.feed.part_was_wrong()
    table.feed.part_was_wrong()
    assert [type(message) for message in table.told.take()] == [Along, Spoilt]
    assert table.write(0).returns == table.write(STEP_BYTES).returns == 1
    table.feed.ready(500, hurried=False)
    assert table.told == [Digest(500)]


def test_a_wrong_part_before_anything_went_along_spoils_nothing(table: Table) -> None:
    table.feed.part_was_wrong()
    assert table.write(0).returns == 1
    assert table.told == []


def test_the_end_is_passed_on(table: Table) -> None:
    table.feed.end()
    assert table.told == [Stop()]
