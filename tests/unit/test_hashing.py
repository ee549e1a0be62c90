from __future__ import annotations

import hashlib
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import hashing, parthash, positioned
from orchestra.hashhelper import HelperGoneError
from orchestra.hashing import FileHashes, hash_file
from orchestra.parthash import FileParts, PartHasher
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
    monkeypatch.setattr(hashing, "_READ_BYTES", 300)
    monkeypatch.setattr(hashing, "_SPAN_BYTES", 1000)
    monkeypatch.setattr(hashing, "_APART_BYTES", 3000)
    monkeypatch.setattr(parthash, "_READ_BYTES", 200)


class Answering:
    """A helper that answers when told to, or dies: a word for each look at it, the last for all others."""

    def __init__(self, words: str, fd: int, part_size_bytes: int) -> None:
        self._words = words
        self._parts = FileParts(fd, part_size_bytes)
        self._asked: list[range] = []
        self.given: list[range] = []
        self.has_ended = False

    def give(self, span: range) -> None:
        self._asked.append(span)
        self.given.append(span)

    def take(self, *, wait: bool) -> bytes | None:
        word, self._words = self._words[0], self._words[1:] or self._words[0]
        if word == "x":
            raise HelperGoneError
        if word == "-" and not wait:
            return None
        return self._parts.digests(self._asked.pop(0))

    def end(self) -> None:
        assert not self.has_ended
        self.has_ended = True


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
    assert seen[-1] == 10_500
    assert all(before < after <= before + 300 for before, after in pairwise([0, *seen]))


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


@pytest.mark.parametrize("at", [0, 4000, 9000])
@pytest.mark.usefixtures("small_buffers")
def test_a_read_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(9500))

    def fail(fd: int, view: memoryview, offset: int) -> int:
        if offset >= at:
            raise OSError(5, "Input/output error")
        return positioned.read_up_to(fd, view, offset)

    monkeypatch.setattr(hashing, "read_up_to", fail)
    with open_regular(path) as file, pytest.raises(OSError, match="Input/output error"):
        hash_file(file, 9500, 16, on_progress=ignore)  # conftest looks for threads left running


@pytest.mark.parametrize("seen_bytes", [2400, 2000])
@pytest.mark.usefixtures("small_buffers")
def test_a_file_that_shrinks_for_one_of_the_two_hashes_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen_bytes: int
) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(2500))

    def shrunk(fd: int, views: list[memoryview], offset: int) -> None:
        if offset + len(views[0]) > seen_bytes:
            raise EOFError
        positioned.read_at(fd, views, offset)

    monkeypatch.setattr(parthash, "read_at", shrunk)
    with open_regular(path) as file:
        assert hash_file(file, 2500, 16, on_progress=ignore).size_bytes < 2500


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


# The helper


@pytest.mark.parametrize("words", ["a", "-", "x", "ax", "-x", "--x", "a-", "aaa-x", "-a-aa--a", "a--ax"])
@pytest.mark.parametrize("part_size_bytes", [100, 300, 1000, 1001, 2900, 20_000])
@pytest.mark.usefixtures("small_buffers")
def test_whatever_the_helper_does_all_parts_are_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_size_bytes: int, words: str
) -> None:
    data = random.Random(4).randbytes(23_456)
    path = tmp_path / "x"
    path.write_bytes(data)
    helpers: list[Answering] = []

    def make(fd: int, size_bytes: int) -> Answering:
        helpers.append(Answering(words, fd, size_bytes))
        return helpers[-1]

    monkeypatch.setattr(hashing, "make_helper", make)
    with open_regular(path) as file:
        hashes = hash_file(file, len(data), part_size_bytes, on_progress=ignore)
    assert hashes == plain_hashes(data, part_size_bytes)
    (helper,) = helpers
    assert helper.has_ended
    if words == "a" or (words == "-" and part_size_bytes > 1000):
        # It is quick enough, or we wait: parts larger than a span are never ours.
        assert len(helper.given) == -(-len(data) // (max(1, 1000 // part_size_bytes) * part_size_bytes))
    if words == "-" and part_size_bytes == 100:
        assert helper.given == [range(1000), range(1000, 2000), range(2000, 3000)]


@pytest.mark.usefixtures("small_buffers")
def test_a_file_of_one_span_needs_no_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(hashing, "make_helper")
    path = tmp_path / "x"
    path.write_bytes(bytes(1000))
    with open_regular(path) as file:
        assert hash_file(file, 1000, 100, on_progress=ignore) == plain_hashes(bytes(1000), 100)


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
