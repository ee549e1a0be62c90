from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

from orchestra import checking, positioned
from orchestra.checking import check_parts
from orchestra.regular import NotRegularError
from tests.compositions import MIB, Composition, compose


def check(path: Path, composition: Composition) -> bytearray:
    """`check_parts`, with nobody watching."""
    return check_parts(path, composition.score, on_progress=lambda _: None, stopped=lambda: False)


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small files make many runs, and large parts many reads."""
    monkeypatch.setattr(checking, "_BUFFER_BYTES", 1000)


@pytest.mark.parametrize("part_size_bytes", [1, 7, 300, 999, 1000, 1001, 2500, 10**6])
@pytest.mark.parametrize("size_bytes", [0, 1, 999, 1000, 1001, 4000, 23456])
@pytest.mark.usefixtures("small_buffers")
def test_all_parts_of_the_right_file_are_right(tmp_path: Path, size_bytes: int, part_size_bytes: int) -> None:
    composition = compose(tmp_path, size_bytes, part_size_bytes)
    assert check(composition.path, composition) == b"\1" * composition.score.parts


def test_a_file_of_many_real_buffers_is_right(tmp_path: Path) -> None:
    for part_size_bytes in (16384, 5 * MIB):
        composition = compose(tmp_path, 17 * MIB + 5, part_size_bytes)
        assert check(composition.path, composition) == b"\1" * composition.score.parts


@pytest.mark.parametrize("part_size_bytes", [100, 999, 2500])
@pytest.mark.usefixtures("small_buffers")
def test_exactly_the_damaged_parts_are_wrong(tmp_path: Path, part_size_bytes: int) -> None:
    composition = compose(tmp_path, 30_001, part_size_bytes)
    parts = composition.score.parts
    damaged = {0, 3, 4, parts - 1} | set(random.Random(1).sample(range(parts), 4))
    with composition.path.open("r+b") as file:
        for index in damaged:
            place = index * part_size_bytes + composition.score.part_length(index) - 1
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
    expected = bytes(index not in damaged for index in range(parts))
    assert check(composition.path, composition) == expected


@pytest.mark.usefixtures("small_buffers")
@pytest.mark.parametrize("kept_bytes", [0, 1, 2999, 3000, 3001, 9999])
def test_the_parts_that_a_short_file_lacks_are_wrong(tmp_path: Path, kept_bytes: int) -> None:
    composition = compose(tmp_path, 10_000, 300)
    os.truncate(composition.path, kept_bytes)
    whole = kept_bytes // 300
    assert check(composition.path, composition) == b"\1" * whole + bytes(composition.score.parts - whole)


@pytest.mark.usefixtures("small_buffers")
def test_holes_are_wrong_parts_and_a_longer_file_is_not_noticed(tmp_path: Path) -> None:
    composition = compose(tmp_path, 10_000, 500)
    content = composition.path.read_bytes()
    with composition.path.open("wb") as file:
        file.truncate(12_345)
        file.seek(2500)
        file.write(content[2500:5000])
    assert check(composition.path, composition) == bytes(5) + b"\1" * 5 + bytes(10)


@pytest.mark.usefixtures("small_buffers")
def test_the_same_is_found_where_the_system_lacks_preadv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    composition = compose(tmp_path, 50_000, 300)
    with composition.path.open("r+b") as file:
        file.write(b"damage")
    assert check(composition.path, composition) == b"\0" + b"\1" * (composition.score.parts - 1)


@pytest.mark.usefixtures("small_buffers")
def test_progress_grows_to_the_size_and_comes_from_the_calling_thread(tmp_path: Path) -> None:
    composition = compose(tmp_path, 100_500, 100)
    seen: list[tuple[int, int]] = []
    check_parts(
        composition.path,
        composition.score,
        on_progress=lambda done: seen.append((done, threading.get_ident())),
        stopped=lambda: False,
    )
    amounts = [done for done, _ in seen]
    assert amounts == sorted(amounts)
    assert amounts[-1] == 100_500
    assert {thread for _, thread in seen} == {threading.get_ident()}


@pytest.mark.usefixtures("small_buffers")
def test_once_stopped_the_rest_is_not_looked_at(tmp_path: Path) -> None:
    composition = compose(tmp_path, 100_000, 100)
    asked = iter([False] * 10)
    right = check_parts(
        composition.path, composition.score, on_progress=lambda _: None, stopped=lambda: next(asked, True)
    )
    assert 0 < sum(right) <= 100
    nothing = check_parts(
        composition.path, composition.score, on_progress=lambda _: None, stopped=lambda: True
    )
    assert nothing == bytes(1000)


class Reads:
    """Stands in for `read_at`: counts, and holds the threads back as the test needs it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_main = self.by_helper = 0
        self.helper_began = threading.Event()
        self.main_joins = threading.Event()
        monkeypatch.setattr(checking, "read_at", self)
        join = checking._CheckHelper.join

        def say_and_join(helper: checking._CheckHelper, timeout: float | None = None) -> None:
            self.main_joins.set()
            join(helper, timeout)

        monkeypatch.setattr(checking._CheckHelper, "join", say_and_join)

    def __call__(self, fd: int, views: list[memoryview], offset: int) -> None:
        if threading.current_thread().name == "check-parts":
            self.by_helper += 1
            self.helper_began.set()
            self.helper_reads()
        else:
            assert self.helper_began.wait(10)
            self.by_main += 1
            self.main_reads()
        positioned.read_at(fd, views, offset)

    def helper_reads(self) -> None:
        """The helper is slow: it goes on when the main thread has nothing left to do."""
        assert self.main_joins.wait(10)

    def main_reads(self) -> None:
        """The main thread is as fast as it can be."""


@pytest.mark.usefixtures("small_buffers")
def test_what_a_slow_helper_has_begun_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composition = compose(tmp_path, 20_000, 5000)
    reads = Reads(monkeypatch)
    assert check(composition.path, composition) == b"\1\1\1\1"
    assert (reads.by_main, reads.by_helper) == (15, 5)


@pytest.mark.usefixtures("small_buffers")
def test_what_the_progress_callback_raises_ends_both_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composition = compose(tmp_path, 100_000, 100)
    reads = Reads(monkeypatch)

    def interrupt(_done_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_parts(composition.path, composition.score, on_progress=interrupt, stopped=lambda: False)
    assert (reads.by_main, reads.by_helper) == (1, 1)


@pytest.mark.usefixtures("small_buffers")
def test_a_read_error_in_the_main_thread_ends_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class MainFails(Reads):
        def main_reads(self) -> None:
            raise OSError(5, "Input/output error")

    composition = compose(tmp_path, 100_000, 100)
    reads = MainFails(monkeypatch)
    with pytest.raises(OSError, match="Input/output error"):
        check(composition.path, composition)
    assert (reads.by_main, reads.by_helper) == (1, 1)


@pytest.mark.usefixtures("small_buffers")
def test_a_read_error_in_the_helper_ends_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class HelperFails(Reads):
        def helper_reads(self) -> None:
            raise OSError(5, "Input/output error")

        def main_reads(self) -> None:
            for thread in threading.enumerate():
                if thread.name == "check-parts":
                    thread.join(10)

    composition = compose(tmp_path, 100_000, 100)
    reads = HelperFails(monkeypatch)
    with pytest.raises(OSError, match="Input/output error"):
        check(composition.path, composition)
    assert reads.by_main <= 1
    assert reads.by_helper == 1


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    composition = compose(tmp_path, 10, 10)
    with pytest.raises(NotRegularError):
        check(tmp_path, composition)
    with pytest.raises(FileNotFoundError):
        check(tmp_path / "none", composition)
