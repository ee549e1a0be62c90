"""The writer over real files: what it finds, what it writes, what it says of each part, and how it ends."""

from __future__ import annotations

import errno
import os
import random
from typing import Any

import pytest

from orchestra import writer as writer_module
from orchestra.diskmessages import Along
from orchestra.errors import BusyError, StorageError
from orchestra.messages import (
    Checked,
    CheckProgress,
    DiskFailed,
    Forget,
    Install,
    Installed,
    PartsWritten,
    Stop,
    ThreadEnded,
)
from orchestra.storage import Storage
from orchestra.wire import BLOCK_BYTES
from tests.fakes import PATIENCE_S
from tests.writerdesk import DATA, NAME, PART_BYTES, Desk, run

# What is there


def test_a_whole_file_is_found_installed_and_is_not_touched(desk: Desk) -> None:
    (desk.folder / NAME).write_bytes(DATA)
    writer = desk.start()
    checked = desk.reports.skip_to(Checked)
    assert (checked.right, checked.installed, checked.doubtful) == (bytearray(b"\1" * 5), True, False)
    desk.stop(writer)
    assert [path.name for path in desk.folder.iterdir()] == [NAME]


def test_a_part_file_keeps_its_right_parts(desk: Desk) -> None:
    held = bytearray(DATA[: 3 * PART_BYTES + 10])
    held[PART_BYTES + 5] ^= 1
    desk.part_path.write_bytes(held)
    desk.start()
    assert desk.reports.skip_to(Checked) == Checked(bytearray([1, 0, 1, 0, 0]), installed=False)


def test_a_different_file_of_the_same_size_is_a_storage_error_and_left_alone(desk: Desk) -> None:
    different = bytes(len(DATA))
    (desk.folder / NAME).write_bytes(different)
    writer = desk.start()
    failed = desk.reports.skip_to(DiskFailed)
    assert isinstance(failed.error, StorageError)
    assert "differs: use --force" in str(failed.error)
    desk.stop(writer)
    assert (desk.folder / NAME).read_bytes() == different
    assert not desk.part_path.exists()


def test_by_force_it_is_fetched_anew_and_replaced_at_the_end(desk: Desk) -> None:
    (desk.folder / NAME).write_bytes(bytes(len(DATA)))
    writer = desk.start(force=True)
    assert desk.reports.skip_to(Checked) == Checked(bytearray(5), installed=False)
    desk.write(writer, run(0, len(DATA)))
    desk.reports.next(PartsWritten)
    assert (desk.folder / NAME).read_bytes() == bytes(len(DATA))
    writer.inbox.put(Install())
    desk.reports.next(Installed)
    assert (desk.folder / NAME).read_bytes() == DATA


def test_a_second_member_of_the_same_file_is_busy(desk: Desk) -> None:
    desk.start()
    desk.reports.next(Checked)
    second = desk.start()
    assert isinstance(desk.reports.next(DiskFailed).error, BusyError)
    desk.stop(second)


def test_checking_shows_how_far_it_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "SHOW_S", 0.0)
    desk.part_path.write_bytes(DATA)
    desk.start()
    first = desk.reports.next(CheckProgress).checked_bytes
    assert 0 < first <= len(DATA)
    assert desk.reports.skip_to(Checked).right.count(1) == 5


@pytest.mark.parametrize("name", [NAME, f"{NAME}.part"])
def test_a_stop_while_it_checks_ends_it_without_a_verdict(desk: Desk, name: str) -> None:
    (desk.folder / name).write_bytes(DATA)
    writer = desk.start(told=Stop())
    desk.reports.next(ThreadEnded)
    assert desk.reports.nothing_more
    writer.join(PATIENCE_S)
    assert [path.name for path in desk.folder.iterdir()] == [name]
    assert (desk.folder / name).read_bytes() == DATA


def test_a_file_that_shrinks_while_it_is_checked_is_a_storage_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shrinking(*_: Any, **__: Any) -> bytearray:
        raise EOFError("the file ends at byte 7")

    monkeypatch.setattr(writer_module, "check_open_file", shrinking)
    (desk.folder / NAME).write_bytes(DATA)
    desk.start()
    error = desk.reports.next(DiskFailed).error
    assert isinstance(error, StorageError)
    assert "the file ends at byte 7" in str(error)


def test_a_disk_that_is_too_small_is_known_before_anything_is_asked_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_storage: Storage) -> None:
        raise StorageError("the disk is too full")

    monkeypatch.setattr(Storage, "check_room", refuse)
    writer = desk.start()
    assert "too full" in str(desk.reports.next(DiskFailed).error)
    desk.stop(writer)


# Writing


def test_everything_in_one_message_is_written_and_judged(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, len(DATA)))
    assert desk.reports.next(PartsWritten) == PartsWritten([0, 1, 2, 3, 4], [])
    assert desk.part_path.read_bytes() == DATA


def test_blocks_that_came_out_of_order_are_written_in_one_call_and_not_read_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets: list[int] = []
    write = Storage.write

    def noted(storage: Storage, views: list[memoryview], offset: int) -> None:
        offsets.append(offset)
        write(storage, views, offset)

    monkeypatch.setattr(Storage, "write", noted)
    monkeypatch.setattr(Storage, "read", lambda *_: pytest.fail("read back"))
    writer = desk.start()
    desk.reports.next(Checked)
    starts = list(range(0, len(DATA), BLOCK_BYTES))
    random.Random(1).shuffle(starts)
    desk.write(writer, *(run(begin, min(BLOCK_BYTES, len(DATA) - begin)) for begin in starts))
    assert desk.reports.next(PartsWritten) == PartsWritten([0, 1, 2, 3, 4], [])
    assert offsets == [0]
    assert desk.part_path.read_bytes() == DATA


def test_a_part_is_judged_when_its_last_block_is_there(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    for begin in (0, BLOCK_BYTES):
        desk.write(writer, run(PART_BYTES + begin, BLOCK_BYTES))
    desk.write(writer, run(PART_BYTES + 2 * BLOCK_BYTES, PART_BYTES - 2 * BLOCK_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([1], [])
    desk.stop(writer)
    assert desk.part_path.read_bytes()[PART_BYTES : 2 * PART_BYTES] == DATA[PART_BYTES : 2 * PART_BYTES]


def test_a_run_may_end_one_part_fill_another_and_begin_a_third(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, BLOCK_BYTES))
    desk.write(writer, run(BLOCK_BYTES, 2 * PART_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([0, 1], [])
    desk.write(writer, run(2 * PART_BYTES + BLOCK_BYTES, len(DATA) - 2 * PART_BYTES - BLOCK_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([2, 3, 4], [])
    assert desk.part_path.read_bytes() == DATA


def test_a_wrong_part_is_told_apart_from_the_right_ones(desk: Desk) -> None:
    wrong = bytearray(DATA)
    wrong[2 * PART_BYTES] ^= 1
    wrong[-1] ^= 1
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, len(DATA), bytes(wrong)))
    assert desk.reports.next(PartsWritten) == PartsWritten([0, 1, 3], [2, 4])
    desk.write(writer, run(2 * PART_BYTES, PART_BYTES), run(4 * PART_BYTES, PART_BYTES - 123))
    assert desk.reports.next(PartsWritten) == PartsWritten([2, 4], [])
    assert desk.part_path.read_bytes() == DATA


def test_what_was_forgotten_does_not_count_when_the_part_comes_anew(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, BLOCK_BYTES, bytes(len(DATA))))
    desk.write(writer, run(2 * BLOCK_BYTES, PART_BYTES - 2 * BLOCK_BYTES, bytes(len(DATA))))
    writer.inbox.put(Forget(0))
    writer.inbox.put(Forget(3))
    desk.write(writer, run(0, PART_BYTES))
    assert desk.reports.next(PartsWritten) == PartsWritten([0], [])


@pytest.mark.parametrize("part_bytes", [1000, 16384, 20_000, 40_000, 65_536, 1 << 20])
@pytest.mark.parametrize("seed", [1, 2])
def test_blocks_in_any_order_and_any_bundles_make_the_file(desk: Desk, part_bytes: int, seed: int) -> None:
    rng = random.Random(seed)
    writer = desk.start(part_bytes=part_bytes)
    parts = desk.reports.next(Checked).right
    spans = []
    for start in range(0, len(DATA), part_bytes):
        length = min(part_bytes, len(DATA) - start)
        spans += [(start + at, min(BLOCK_BYTES, length - at)) for at in range(0, length, BLOCK_BYTES)]
    if seed == 2:
        rng.shuffle(spans)
    while spans:
        count = rng.randrange(1, 9)
        desk.write(writer, *(run(*span) for span in spans[:count]))
        del spans[:count]
    good: list[int] = []
    while len(good) < len(parts):
        written = desk.reports.next(PartsWritten)
        assert written.bad == []
        good += written.good
    assert sorted(good) == list(range(len(parts)))
    desk.stop(writer)
    assert desk.part_path.read_bytes() == DATA
    went_along = [message.buffer for message in desk.along() if isinstance(message, Along)]
    assert all(buffer.returns == (buffer not in went_along) for buffer in desk.buffers)


# The end


def test_a_whole_composition_gets_its_name(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, len(DATA)))
    desk.reports.next(PartsWritten)
    writer.inbox.put(Install())
    assert desk.reports.next(Installed).path == str(desk.folder / NAME)
    assert [path.name for path in desk.folder.iterdir()] == [NAME]
    assert (desk.folder / NAME).read_bytes() == DATA


def test_an_empty_composition_is_installed_without_a_write(desk: Desk) -> None:
    writer = desk.start(data=b"")
    assert desk.reports.next(Checked) == Checked(bytearray(), installed=False)
    writer.inbox.put(Install())
    desk.reports.next(Installed)
    assert (desk.folder / NAME).read_bytes() == b""


def test_a_name_that_is_taken_meanwhile_is_a_storage_error(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    (desk.folder / NAME).write_bytes(b"mine")
    writer.inbox.put(Install())
    assert "differs" in str(desk.reports.next(DiskFailed).error)
    assert (desk.folder / NAME).read_bytes() == b"mine"


def test_a_disk_that_fails_is_told_once_and_buffers_still_come_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = desk.start()
    desk.reports.next(Checked)

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full, raising=False)
    first = desk.write(writer, run(PART_BYTES, PART_BYTES))
    second = desk.write(writer, run(0, PART_BYTES))
    writer.inbox.put(Stop())
    assert "the disk is full" in str(desk.reports.next(DiskFailed).error)
    desk.reports.next(ThreadEnded)
    assert desk.reports.nothing_more
    assert first.returns == second.returns == 1


def test_what_was_asked_for_before_stop_is_still_written(desk: Desk) -> None:
    writer = desk.start()
    desk.reports.next(Checked)
    desk.write(writer, run(0, PART_BYTES))
    writer.inbox.put(Stop())
    assert desk.reports.next(PartsWritten) == PartsWritten([0], [])
    desk.reports.next(ThreadEnded)
    assert desk.part_path.read_bytes()[:PART_BYTES] == DATA[:PART_BYTES]


def test_its_thread_is_named_and_not_a_daemon(desk: Desk) -> None:
    writer = desk.start()
    assert writer.name == "writer"
    assert not writer.daemon
