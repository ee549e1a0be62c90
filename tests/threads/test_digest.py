"""The digest thread over a real file: the whole-file SHA-1, hashed along the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.digest import STEP_BYTES, DigestWorker
from orchestra.errors import StorageError
from orchestra.messages import Along, Digest, Digested, DiskFailed, Spoilt, Stop, ThreadEnded
from orchestra.storage import Storage
from orchestra.wire import Blocks
from tests.fakes import PATIENCE_S, CountingBuffer, Reports, content

DATA = content(3 * STEP_BYTES + 777)
SHA1 = Digested(hashlib.sha1(DATA).digest())
GARBAGE = bytes(len(DATA))


class Desk:
    """A digest worker of a file in a folder of the test's own."""

    def __init__(self, folder: Path, data: bytes = DATA) -> None:
        self.path = folder / "piece.bin"
        self.path.write_bytes(data)
        self.storage = Storage(folder, "piece.bin", len(data))
        assert self.storage.open_installed()
        self.reports = Reports()
        self.worker = DigestWorker(self.storage, self.reports)
        self.buffers: list[CountingBuffer] = []

    def tell(self, *messages: Along | Spoilt | Digest | Stop) -> None:
        for message in messages:
            self.worker.inbox.put(message)

    def along(self, begin: int, end: int, data: bytes = DATA) -> Along:
        """These bytes, still in memory."""
        self.buffers.append(CountingBuffer())
        views = [memoryview(data)[begin : begin + 5], memoryview(data)[begin + 5 : end]]
        return Along(self.buffers[-1], Blocks(begin, end - begin, views))

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


def test_the_whole_is_hashed_from_disk(desk: Desk) -> None:
    desk.tell(Digest(len(DATA)))
    assert desk.reports.next(Digested) == SHA1


def test_it_is_hashed_bit_by_bit_as_parts_arrive(desk: Desk) -> None:
    for up_to in (1, STEP_BYTES, STEP_BYTES + 5, 3 * STEP_BYTES, len(DATA) - 1):
        desk.tell(Digest(up_to))
    desk.tell(Digest(len(DATA)))
    assert desk.reports.next(Digested) == SHA1
    assert desk.reports.nothing_more


def test_what_was_hashed_is_not_read_again(desk: Desk) -> None:
    desk.tell(desk.along(0, STEP_BYTES), desk.along(STEP_BYTES, len(DATA) - 5))
    with desk.path.open("r+b") as file:
        file.write(bytes(STEP_BYTES))
    desk.tell(Digest(len(DATA)))
    assert desk.reports.next(Digested) == SHA1


def test_what_went_along_out_of_turn_is_read_from_disk(desk: Desk) -> None:
    desk.tell(
        desk.along(10, 20, GARBAGE),
        desk.along(0, 100),
        desk.along(50, 150, GARBAGE),
        desk.along(200, 300, GARBAGE),
        Digest(len(DATA)),
    )
    assert desk.reports.next(Digested) == SHA1


def test_after_wrong_bytes_it_begins_anew(desk: Desk) -> None:
    desk.tell(desk.along(0, 1000, GARBAGE), Spoilt(), Digest(1000), Digest(len(DATA)))
    assert desk.reports.next(Digested) == SHA1


def test_an_empty_composition_has_a_digest_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path, b"")
    desk.worker.start()
    desk.tell(Digest(0))
    assert desk.reports.next(Digested) == Digested(hashlib.sha1(b"").digest())
    desk.end()


def test_a_file_that_has_become_shorter_is_a_storage_error(desk: Desk) -> None:
    os.truncate(desk.path, 100)
    desk.tell(Digest(len(DATA)))
    error = desk.reports.next(DiskFailed).error
    assert isinstance(error, StorageError)
    assert "whole-file SHA-1" in str(error)


def test_a_stop_does_not_wait_until_all_is_hashed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.tell(Digest(len(DATA)), Stop())
    desk.worker.start()
    assert desk.reports.next(ThreadEnded) == ThreadEnded("digest")
    desk.end()


def test_what_goes_along_before_the_stop_is_given_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.tell(desk.along(0, 10), desk.along(10, 20), Stop())
    desk.worker.start()
    desk.reports.next(ThreadEnded)
    desk.end()
