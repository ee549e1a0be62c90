"""Reads and writes at an offset: many views, short results, and systems that lack the calls."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from orchestra.positioned import MAX_VIEWS, read_at, write_at
from tests.fakes import content

DATA = content(5000)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


@pytest.fixture(params=["vectored", "short", "seek and read", "seek and read, short"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This system; one that always does less than it is asked for; one without preadv and pwritev; both."""
    if request.param == "short":
        preadv, pwritev = os.preadv, os.pwritev
        monkeypatch.setattr(os, "preadv", lambda fd, views, offset: preadv(fd, [first_bytes(views)], offset))
        monkeypatch.setattr(
            os, "pwritev", lambda fd, views, offset: pwritev(fd, [first_bytes(views)], offset)
        )
    elif request.param.startswith("seek and read"):
        monkeypatch.delattr(os, "preadv")
        monkeypatch.delattr(os, "pwritev")
    if request.param == "seek and read, short":
        read, write = os.read, os.write
        monkeypatch.setattr(os, "read", lambda fd, length: read(fd, min(length, 7)))
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))


def first_bytes(views: Sequence[memoryview]) -> memoryview:
    return next(view for view in views if len(view))[:7]


def views_of(memory: bytearray, *lengths: int) -> list[memoryview]:
    """Views of these lengths, one after the other."""
    found, position = [], 0
    for length in lengths:
        found.append(memoryview(memory)[position : position + length])
        position += length
    assert position == len(memory)
    return found


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("lengths", [[100], [1, 99], [10] * 10, [1] * 100, [40, 60]])
def test_views_are_filled_in_order(fd: int, lengths: list[int]) -> None:
    memory = bytearray(100)
    read_at(fd, views_of(memory, *lengths), 1234)
    assert memory == DATA[1234:1334]


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("lengths", [[100], [1, 99], [10] * 10, [40, 60]])
def test_views_are_written_in_order_and_nothing_else_is_touched(fd: int, lengths: list[int]) -> None:
    new = content(100, seed=9)
    write_at(fd, views_of(bytearray(new), *lengths), 1234)
    assert os.pread(fd, 9999, 0) == DATA[:1234] + new + DATA[1334:]


def test_more_views_than_one_call_takes_are_no_obstacle(fd: int) -> None:
    count = 2 * MAX_VIEWS + 3
    memory = bytearray(2 * count)
    read_at(fd, views_of(memory, *[2] * count), 10)
    assert memory == DATA[10 : 10 + 2 * count]
    write_at(fd, views_of(memory, *[2] * count), 0)
    assert os.pread(fd, 2 * count, 0) == memory


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    ("offset", "lengths"), [(4950, [100]), (4950, [50, 50]), (5000, [1]), (9000, [10, 10])]
)
def test_a_file_that_ends_too_soon_is_an_error(fd: int, offset: int, lengths: list[int]) -> None:
    with pytest.raises(EOFError, match=r"ends at byte \d+"):
        read_at(fd, views_of(bytearray(sum(lengths)), *lengths), offset)


@pytest.mark.usefixtures("system")
def test_writing_behind_the_end_makes_the_file_longer(fd: int) -> None:
    write_at(fd, [memoryview(b"abc"), memoryview(b"def")], 6000)
    assert os.pread(fd, 9999, 5000) == bytes(1000) + b"abcdef"


def test_what_the_system_refuses_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            write_at(fd, [memoryview(b"abc")], 0)
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        read_at(-1, [memoryview(bytearray(1))], 0)
