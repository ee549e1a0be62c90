"""The digest thread: the SHA-1 of all that goes along, in its order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.digest import DigestWorker, Word
from orchestra.diskmessages import Along, DoneReading, Finish, ReadBack, Spoilt
from orchestra.messages import Digested, DiskFailed, Stop, ThreadEnded
from orchestra.storage import Storage
from orchestra.wire import Blocks
from tests.fakes import PATIENCE_S, CountingBuffer, ListInbox, Reports, content

DATA = content(3_000_777)
SHA1 = Digested(hashlib.sha1(DATA).digest())


class Desk:
    """A digest worker with the file on disk, and the memory that went to it."""

    def __init__(self, folder: Path) -> None:
        self.reports = Reports()
        self.writer = ListInbox()
        self.storage = Storage(folder, "name", len(DATA))
        self.storage.open_part()
        self.storage.write([memoryview(DATA)], 0)
        self.worker = DigestWorker(self.storage, self.reports)
        self.buffers: list[CountingBuffer] = []

    def tell(self, *messages: Word) -> None:
        for message in messages:
            self.worker.inbox.put(message)

    def along(self, begin: int, end: int, data: bytes = DATA) -> Along:
        """These bytes, in two views."""
        self.buffers.append(CountingBuffer())
        views = [memoryview(data)[begin : begin + 5], memoryview(data)[begin + 5 : end]]
        return Along(self.buffers[-1], Blocks(begin, end - begin, views))

    def read_back(self, begin: int, end: int) -> ReadBack:
        """These bytes, from disk."""
        return ReadBack(range(begin, end), self.writer)

    def end(self) -> None:
        """Stop it; all memory that went along is back."""
        self.tell(Stop())
        self.worker.join(PATIENCE_S)
        assert not self.worker.is_alive()
        assert [buffer.returns for buffer in self.buffers] == [1] * len(self.buffers)
        self.storage.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
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


def test_what_is_on_disk_is_read_back_and_hashed_in_its_place(desk: Desk) -> None:
    desk.tell(desk.along(0, 1_000_000), desk.read_back(1_000_000, 2_000_000))
    desk.tell(desk.read_back(2_000_000, 2_999_000), desk.along(2_999_000, len(DATA)), Finish())
    assert desk.reports.next(Digested) == SHA1
    assert desk.writer == 2 * [DoneReading()]


def test_of_what_cannot_be_read_the_writer_hears_once_and_there_is_no_digest(desk: Desk) -> None:
    os.truncate(desk.storage.part_path, 1_500_000)
    for begin in (0, 1_000_000, 2_000_000):
        desk.tell(desk.read_back(begin, begin + 1_000_000))
    desk.tell(Finish(), Stop())
    assert desk.reports.next(ThreadEnded) == ThreadEnded("digest")
    done, failed, *more = desk.writer
    assert [done, *more] == 3 * [DoneReading()]
    assert isinstance(failed, DiskFailed)
    assert "whole-file SHA-1 failed: the file ends at byte 1500000" in str(failed.error)


def test_what_goes_along_before_the_stop_is_given_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.tell(desk.along(0, 10), desk.along(10, 20), Stop())
    desk.worker.start()
    assert desk.reports.next(ThreadEnded) == ThreadEnded("digest")
    desk.end()
