"""The digest thread: the SHA-1 of all that goes along, in its order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from orchestra.digest import DigestWorker
from orchestra.messages import Along, Digested, Finish, Spoilt, Stop, ThreadEnded
from orchestra.wire import Blocks
from tests.fakes import PATIENCE_S, CountingBuffer, Reports, content

DATA = content(3_000_777)
SHA1 = Digested(hashlib.sha1(DATA).digest())


class Desk:
    """A digest worker, and the buffers that went along to it."""

    def __init__(self) -> None:
        self.reports = Reports()
        self.worker = DigestWorker(self.reports)
        self.buffers: list[CountingBuffer] = []

    def tell(self, *messages: Along | Spoilt | Finish | Stop) -> None:
        for message in messages:
            self.worker.inbox.put(message)

    def along(self, begin: int, end: int, data: bytes = DATA) -> Along:
        """These bytes, in two views."""
        self.buffers.append(CountingBuffer())
        views = [memoryview(data)[begin : begin + 5], memoryview(data)[begin + 5 : end]]
        return Along(self.buffers[-1], Blocks(begin, end - begin, views))

    def end(self) -> None:
        """Stop it; all memory that went along is back."""
        self.tell(Stop())
        self.worker.join(PATIENCE_S)
        assert not self.worker.is_alive()
        assert [buffer.returns for buffer in self.buffers] == [1] * len(self.buffers)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    made.worker.start()
    yield made
    made.end()


def test_what_goes_along_is_hashed_in_its_order(desk: Desk) -> None:
    desk.tell(desk.along(0, 1_000_000), desk.along(1_000_000, 1_000_010), desk.along(1_000_010, len(DATA)))
    assert desk.reports.nothing_more
    desk.tell(Finish())
    assert desk.reports.next(Digested) == SHA1


def test_after_wrong_bytes_it_begins_anew(desk: Desk) -> None:
    desk.tell(desk.along(0, 1000, bytes(1000)), Spoilt(), desk.along(0, len(DATA)), Finish())
    assert desk.reports.next(Digested) == SHA1


def test_an_empty_composition_has_a_digest_too(desk: Desk) -> None:
    desk.tell(Finish())
    assert desk.reports.next(Digested) == Digested(hashlib.sha1(b"").digest())


def test_what_goes_along_before_the_stop_is_given_back() -> None:
    desk = Desk()
    desk.tell(desk.along(0, 10), desk.along(10, 20), Stop())
    desk.worker.start()
    assert desk.reports.next(ThreadEnded) == ThreadEnded("digest")
    desk.end()
