from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import hashing, positioned
from orchestra.hashing import FileHashes, PartHasher, hash_file
from orchestra.regular import open_regular

KIB = 1024


def plain_hashes(data: bytes, part_size_bytes: int) -> FileHashes:
    """The same, the slow and obvious way."""
    starts = range(0, len(data), part_size_bytes)
    parts = b"".join(hashlib.sha1(data[start : start + part_size_bytes]).digest() for start in starts)
    return FileHashes(hashlib.sha1(data).digest(), parts, len(data))


def ignore(_done_bytes: int) -> None:
    """No progress wanted."""


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small files are of many spans, and these of many reads."""
    monkeypatch.setattr(hashing, "_WHOLE_READ_BYTES", 300)
    monkeypatch.setattr(hashing, "_FEWER_READS_BYTES", 400)
    monkeypatch.setattr(hashing, "_PARTS_READ_BYTES", 200)
    monkeypatch.setattr(hashing, "_SPAN_BYTES", 1000)


@pytest.mark.parametrize("part_size_bytes", [1, 7, 100, 999, 1000, 1001, 2500, 16384, 10**6])
@pytest.mark.parametrize("size_bytes", [0, 1, 999, 1000, 1001, 4000, 4001, 23456])
@pytest.mark.usefixtures("small_buffers")
def test_the_hashes_are_right_however_parts_and_buffers_overlap(
    tmp_path: Path, size_bytes: int, part_size_bytes: int
) -> None:
    data = random.Random(size_bytes).randbytes(size_bytes)
    path = tmp_path / "x"
    path.write_bytes(data)
    with open_regular(path) as file:
        hashes = hash_file(file, size_bytes, part_size_bytes, on_progress=ignore)
    assert hashes == plain_hashes(data, part_size_bytes)


def test_a_file_of_several_spans_is_hashed_right_with_real_buffers(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(20 * KIB * KIB + 12345)
    path = tmp_path / "x"
    path.write_bytes(data)
    for part_size_bytes in (16 * KIB, 3 * KIB * KIB):
        with open_regular(path) as file:
            hashes = hash_file(file, len(data), part_size_bytes, on_progress=ignore)
        assert hashes == plain_hashes(data, part_size_bytes)


def test_parts_of_one_byte_are_hashed_too(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(100_000)
    path = tmp_path / "x"
    path.write_bytes(data)
    with open_regular(path) as file:
        assert hash_file(file, len(data), 1, on_progress=ignore) == plain_hashes(data, 1)


# Golden values by coreutils:
#   seq 100000 > f; sha1sum f; split -b 200000 --filter='sha1sum' f
def test_the_hashes_are_those_of_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("".join(f"{number}\n" for number in range(1, 100_001)), newline="\n")
    with open_regular(path) as file:
        hashes = hash_file(file, path.stat().st_size, 200_000, on_progress=ignore)
    assert hashes.sha1.hex() == "9dc4a47b7b3c9a36667a2ce402baf429afb9c17f"
    assert hashes.part_sha1s.hex("\n", 20).split() == [
        "ffffbc6e8cb9690b5de32fedec479365b4c720b2",
        "a4fe1405076b0513da02516abeaae1a1417cb93a",
        "b6bc61998e0acab1e5dc7d14da256fe55a3eff01",
    ]


def test_progress_grows_to_the_size_and_comes_from_the_calling_thread(
    tmp_path: Path, small_buffers: None
) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(10_500))
    seen: list[int] = []
    with open_regular(path) as file:
        hash_file(file, 10_500, 100, on_progress=seen.append)
    assert seen == [*range(1000, 10_001, 1000), 10_500]


def test_a_file_that_grew_is_read_to_the_size_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abcdef")
    with open_regular(path) as file:
        assert hash_file(file, 4, 3, on_progress=ignore) == plain_hashes(b"abcd", 3)


@pytest.mark.parametrize("left_bytes", [0, 1, 3999, 4000, 4001, 5000, 9000, 9999])
@pytest.mark.usefixtures("small_buffers")
def test_a_file_that_shrank_says_how_much_was_there(tmp_path: Path, left_bytes: int) -> None:
    data = random.Random(6).randbytes(left_bytes)
    path = tmp_path / "x"
    path.write_bytes(data)
    with open_regular(path) as file:
        assert hash_file(file, 10_000, 300, on_progress=ignore) == plain_hashes(data, 300)


@pytest.mark.usefixtures("small_buffers")
def test_short_reads_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    data = random.Random(3).randbytes(5000)
    path.write_bytes(data)
    read_some = positioned._read_some

    def read_less(fd: int, views: list[memoryview], offset: int) -> int:
        return read_some(fd, [views[0][: 1 + offset % 100]], offset)

    monkeypatch.setattr(positioned, "_read_some", read_less)
    with open_regular(path) as file:
        assert hash_file(file, len(data), 256, on_progress=ignore) == plain_hashes(data, 256)


def failing_reads(monkeypatch: pytest.MonkeyPatch, thread: str, at: int) -> None:
    """Reading fails in this thread, from that byte on."""
    read_up_to = positioned.read_up_to

    def fail(fd: int, view: memoryview, offset: int) -> int:
        if threading.current_thread().name == thread and offset >= at:
            raise OSError(5, "Input/output error")
        return read_up_to(fd, view, offset)

    monkeypatch.setattr(hashing, "read_up_to", fail)


@pytest.mark.parametrize("thread", ["MainThread", "hash-parts"])
@pytest.mark.parametrize("at", [0, 4000, 9000])
@pytest.mark.usefixtures("small_buffers")
def test_a_read_error_is_raised_when_the_thread_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread: str, at: int
) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(9500))
    failing_reads(monkeypatch, thread, at)
    with open_regular(path) as file, pytest.raises(OSError, match="Input/output error"):
        hash_file(file, 9500, 16, on_progress=ignore)  # conftest looks for threads left running


@pytest.mark.parametrize("thread", ["MainThread", "hash-parts"])
@pytest.mark.usefixtures("small_buffers")
def test_a_file_that_shrinks_for_one_of_the_two_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(2500))
    read_up_to = positioned.read_up_to

    def shrunk(fd: int, view: memoryview, offset: int) -> int:
        here = threading.current_thread().name == thread
        return read_up_to(fd, view[: max(0, 2400 - offset)] if here else view, offset)

    monkeypatch.setattr(hashing, "read_up_to", shrunk)
    with open_regular(path) as file:
        assert hash_file(file, 2500, 16, on_progress=ignore).size_bytes == 2400


@pytest.mark.usefixtures("small_buffers")
def test_the_position_is_where_the_reading_ended(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abcdef")
    with open_regular(path) as file:
        hash_file(file, 4, 3, on_progress=ignore)
        assert file.read() == b"ef"


@pytest.mark.usefixtures("small_buffers")
def test_what_the_progress_callback_raises_ends_the_work(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(50_000))
    seen: list[int] = []

    def interrupt(done_bytes: int) -> None:
        seen.append(done_bytes)
        if len(seen) == 7:
            raise KeyboardInterrupt

    with open_regular(path) as file, pytest.raises(KeyboardInterrupt):
        hash_file(file, 50_000, 16, on_progress=interrupt)
    assert len(seen) == 7


@pytest.mark.parametrize("failing_update", [1, 3, 20])
@pytest.mark.usefixtures("small_buffers")
def test_what_a_hashing_thread_raises_is_raised_to_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_update: int
) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(20_000))
    updates: list[int] = []

    def fail(self: PartHasher, buffer: memoryview) -> None:
        updates.append(len(buffer))
        if len(updates) == failing_update:
            raise MemoryError("no more")

    monkeypatch.setattr(PartHasher, "update", fail)
    with open_regular(path) as file, pytest.raises(MemoryError, match="no more"):
        hash_file(file, 20_000, 16, on_progress=ignore)


@given(st.binary(max_size=300), st.integers(1, 40), st.lists(st.integers(0, 90), max_size=12))
def test_parts_are_hashed_alike_however_the_stream_is_cut(
    data: bytes, part_size_bytes: int, lengths: list[int]
) -> None:
    hasher = PartHasher(part_size_bytes)
    view, position = memoryview(data), 0
    for length in [*lengths, len(data)]:
        hasher.update(view[position : position + length])
        position += length
    assert hasher.digests() == plain_hashes(data, part_size_bytes).part_sha1s
