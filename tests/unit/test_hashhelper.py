"""Both kinds of helper, and which one is made."""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestra import hashhelper, hashing
from orchestra.hashhelper import Helper, HelperGoneError, ProcessHelper, ThreadHelper, make_helper
from orchestra.hashing import hash_file
from orchestra.parthash import PartHasher
from orchestra.regular import open_regular

DATA = random.Random(1).randbytes(100_000)
PART = 1000

Make = Callable[[int, int], Helper]
KINDS = [
    ThreadHelper,
    pytest.param(
        ProcessHelper, marks=pytest.mark.skipif(sys.platform != "linux", reason="used on Linux alone")
    ),
]
# The test's own threads hold nothing that a process which only hashes would need.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[io.FileIO]:
    path = tmp_path / "x"
    path.write_bytes(DATA)
    with open_regular(path) as opened:
        yield opened


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a helper of one kind, then of the other."""
    kind: Make = request.param
    return kind


class _Deaf:
    """A line on which nothing can be said, though the other side still listens."""

    def __init__(self, line: socket.socket) -> None:
        self.recv, self.close = line.recv, line.close

    def sendall(self, data: bytes) -> None:
        raise BrokenPipeError(32, "Broken pipe")


def _refuse(pid: int, signum: int) -> None:
    raise PermissionError(1, "Operation not permitted")


def digests(start: int, stop: int) -> bytes:
    return b"".join(
        hashlib.sha1(DATA[place : min(place + PART, stop)]).digest() for place in range(start, stop, PART)
    )


def test_spans_are_answered_in_the_order_in_which_they_were_given(file: io.FileIO, make: Make) -> None:
    helper = make(file.fileno(), PART)
    try:
        spans = [range(20_000), range(50_000, 51_000), range(99_000, 99_500)]
        for span in spans:
            helper.give(span)
        for span in spans:
            assert helper.take(wait=True) == digests(span.start, span.stop)
        helper.give(range(1000, 2000))
        while (answer := helper.take(wait=False)) is None:
            pass
        assert answer == digests(1000, 2000)
    finally:
        helper.end()


def test_more_than_a_pipe_holds_is_answered(file: io.FileIO, make: Make) -> None:
    helper = make(file.fileno(), 1)
    try:
        helper.give(range(100_000))
        answer = helper.take(wait=True)
        assert answer is not None
        assert len(answer) == 20 * 100_000
        assert answer[-20:] == hashlib.sha1(DATA[-1:]).digest()
    finally:
        helper.end()


def test_what_the_file_does_not_have_is_not_answered(file: io.FileIO, make: Make) -> None:
    helper = make(file.fileno(), PART)
    try:
        helper.give(range(10_000))
        helper.give(range(90_000, 100_001))
        helper.give(range(10_000))
        assert helper.take(wait=True) == digests(0, 10_000)
        with pytest.raises(HelperGoneError):
            helper.take(wait=True)
    finally:
        helper.end()


def test_what_cannot_be_read_is_not_answered(file: io.FileIO, make: Make, tmp_path: Path) -> None:
    with (tmp_path / "y").open("wb") as closed_to_readers:
        helper = make(closed_to_readers.fileno(), PART)
        try:
            helper.give(range(10))
            with pytest.raises(HelperGoneError):
                helper.take(wait=True)
        finally:
            helper.end()


def test_a_helper_ends_with_answers_that_nobody_took(file: io.FileIO, make: Make) -> None:
    helper = make(file.fileno(), PART)
    for _ in range(3):
        helper.give(range(100_000))
    helper.end()
    if isinstance(helper, ThreadHelper):
        assert not helper.is_alive()


def test_a_bug_in_a_thread_is_the_callers(file: io.FileIO, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: PartHasher, buffer: memoryview) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(PartHasher, "update", fail)
    helper = ThreadHelper(file.fileno(), PART)
    try:
        helper.give(range(10))
        with pytest.raises(MemoryError, match="no more"):
            helper.take(wait=True)
    finally:
        helper.end()


@pytest.mark.skipif(sys.platform != "linux", reason="used on Linux alone")
class TestProcess:
    """What only a process can do."""

    def test_one_that_was_killed_answers_no_more_and_may_be_asked(self, file: io.FileIO) -> None:
        helper = ProcessHelper(file.fileno(), PART)
        try:
            os.kill(helper.pid, signal.SIGKILL)
            os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOWAIT)
            helper.give(range(10))
            helper.give(range(10))
            with pytest.raises(HelperGoneError):
                helper.take(wait=True)
        finally:
            helper.end()
        with pytest.raises(ProcessLookupError):
            os.kill(helper.pid, 0)

    def test_what_cannot_be_asked_is_not_waited_for(
        self, file: io.FileIO, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        helper = ProcessHelper(file.fileno(), PART)
        try:
            monkeypatch.setattr(helper, "line", _Deaf(helper.line))
            helper.give(range(10))
            with pytest.raises(HelperGoneError):
                helper.take(wait=True)
        finally:
            monkeypatch.setattr(os, "kill", _refuse)
            helper.end()
        with pytest.raises(ChildProcessError):
            os.waitpid(helper.pid, 0)

    def test_it_ends_with_the_line_and_hears_of_no_signal(self, file: io.FileIO) -> None:
        helper = ProcessHelper(file.fileno(), PART)
        for signum in (signal.SIGINT, signal.SIGTERM):
            os.kill(helper.pid, signum)
        helper.give(range(2000))
        assert helper.take(wait=True) == digests(0, 2000)
        helper.hang_up()
        ended = os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        assert (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0)
        helper.end()

    def test_signals_are_heard_again_once_it_is_made(self, file: io.FileIO) -> None:
        ProcessHelper(file.fileno(), PART).end()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()

    def test_it_is_ended_whatever_it_does(self, tmp_path: Path) -> None:
        hours_bytes = 1 << 43
        with (tmp_path / "hole").open("w+b") as hole:
            hole.truncate(hours_bytes)
            helper = ProcessHelper(hole.fileno(), hours_bytes)
            helper.give(range(hours_bytes))
            helper.end()

    def test_it_is_made_where_parts_are_small_and_there_is_no_other_thread(
        self, file: io.FileIO, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for threads, part_size_bytes, kind in (
            (1, PART, ProcessHelper),
            (2, PART, ThreadHelper),
            (1, 65_536, ThreadHelper),
        ):
            monkeypatch.setattr(threading, "active_count", lambda threads=threads: threads)
            helper = make_helper(file.fileno(), part_size_bytes)
            assert isinstance(helper, kind)
            helper.end()

    def test_what_it_lacks_to_begin_with_is_the_callers_trouble(
        self, file: io.FileIO, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise MemoryError

        ours = os.getpid()
        monkeypatch.setattr(hashhelper, "FileParts", fail)
        with pytest.raises(MemoryError):
            ProcessHelper(file.fileno(), PART)
        assert os.getpid() == ours

    def test_where_no_process_can_be_had_a_thread_does_it(
        self, file: io.FileIO, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> int:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(os, "fork", fail)
        monkeypatch.setattr(threading, "active_count", lambda: 1)
        helper = make_helper(file.fileno(), PART)
        assert isinstance(helper, ThreadHelper)
        helper.end()


def test_where_nobody_can_help_a_file_is_hashed_alone(
    file: io.FileIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    monkeypatch.setattr(hashing, "_SPAN_BYTES", 5000)
    assert make_helper(file.fileno(), 65_536) is None
    hashes = hash_file(file, len(DATA), 65_536, on_progress=lambda _: None)
    assert hashes.sha1 == hashlib.sha1(DATA).digest()
    assert hashes.part_sha1s == b"".join(
        hashlib.sha1(DATA[start : start + 65_536]).digest() for start in (0, 65_536)
    )


def test_a_file_is_hashed_right_with_either(
    file: io.FileIO, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "make_helper", make)
    monkeypatch.setattr(hashing, "_SPAN_BYTES", 5000)
    monkeypatch.setattr(hashhelper, "_RECEIVE_BYTES", 30)
    for part_size_bytes in (16, 999, 30_000):
        hashes = hash_file(file, len(DATA), part_size_bytes, on_progress=lambda _: None)
        hasher = PartHasher(part_size_bytes)
        hasher.update(memoryview(DATA))
        assert (hashes.sha1, hashes.part_sha1s) == (hashlib.sha1(DATA).digest(), hasher.digests())
