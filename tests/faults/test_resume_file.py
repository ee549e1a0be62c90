"""The resume file: believed only when nothing speaks against it, and never needed."""

from __future__ import annotations

import errno
import os
import queue
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestra import ledger as ledger_module
from orchestra import writer as writer_module
from orchestra.errors import StorageError
from orchestra.messages import (
    Checked,
    DiskFailed,
    Install,
    Installed,
    Lost,
    Notice,
    PartsWritten,
    Recheck,
    Stop,
    Write,
)
from orchestra.resume import HEADER, MAGIC, VERSION, Hint, ResumeFile, _checksum
from orchestra.score import Score
from orchestra.storage import Storage
from orchestra.writer import Writer
from tests import figures
from tests.callers import tuned_member
from tests.compositions import compose
from tests.fakes import PATIENCE_S, CountingBuffer, Reports, blocks_message, content, score_of
from tests.programs import Programs
from tests.scriptedpeer import ScriptedPeer

PART_BYTES = 40_000
PARTS = 9
DATA = content(PARTS * PART_BYTES - 123)
SCORE = score_of(DATA, PART_BYTES)
NAME = "piece.bin"
ALL = bytearray(b"\1" * PARTS)


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "LEAST_BYTES", 0)
    monkeypatch.setattr(writer_module, "HASHED_BYTES", 0)


class Run:
    """One life of a writer in a folder, up to `stop`; what it said is in `reports` and `notices`."""

    def __init__(self, folder: Path, score: Score = SCORE, *, kept: bool = True) -> None:
        self.reports = Reports()
        self.notices: list[str] = []
        self.storage = Storage(folder, NAME, score.size_bytes)
        self.writer = Writer(self.storage, score, queue.SimpleQueue(), self._report, kept=kept)
        self.writer.start()

    def _report(self, message: Any) -> None:
        if isinstance(message, Notice):
            self.notices.append(message.text)
        else:
            self.reports(message)

    @property
    def checked(self) -> Checked:
        return self.reports.skip_to(Checked)

    def write(self, *indices: int) -> None:
        """These parts, one message each."""
        for index in indices:
            length = SCORE.part_length(index)
            runs = [blocks_message(DATA, index * PART_BYTES, length)]
            self.writer.inbox.put(Write(CountingBuffer(), runs))
            assert self.reports.next(PartsWritten) == PartsWritten([index], [])

    def stop(self) -> None:
        self.writer.inbox.put(Stop())
        self.writer.join(PATIENCE_S)
        assert not self.writer.is_alive()
        self.storage.close()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a writer in the folder, several times, one after the other."""
    runs: list[Run] = []

    def start(*arguments: Any, **options: Any) -> Run:
        runs.append(Run(tmp_path, *arguments, **options))
        return runs[-1]

    yield start
    for run in runs:
        if run.writer.is_alive():
            run.stop()
        run.storage.close()


Begin = Callable[..., Run]


def resume_path(folder: Path) -> Path:
    return folder / f".{NAME}.resume"


def half_done(begin: Begin) -> None:
    """A download that was stopped cleanly with four parts."""
    run = begin()
    assert run.checked.right.count(1) == 0
    run.write(1, 3, 5, 8)
    run.stop()
    assert run.notices == []


HALF = bytearray([0, 1, 0, 1, 0, 1, 0, 0, 1])


def test_after_a_clean_stop_a_download_goes_on_without_hashing_what_is_there(begin: Begin) -> None:
    half_done(begin)
    again = begin()
    checked = again.checked
    assert (checked.right, checked.doubtful, checked.installed) == (HALF, True, False)
    again.write(0, 2)
    again.stop()
    last = begin()
    assert last.checked.right == bytearray([1, 1, 1, 1, 0, 1, 0, 0, 1])
    assert again.notices == last.notices == []


def test_a_complete_file_is_believed_at_the_next_start(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(DATA)
    first = begin()
    assert not first.checked.doubtful
    first.stop()
    checked = begin().checked
    assert (checked.right, checked.doubtful, checked.installed) == (ALL, True, True)
    assert checked.stamp is not None


def test_a_file_that_was_fetched_is_believed_under_its_name(begin: Begin, tmp_path: Path) -> None:
    run = begin()
    assert run.checked.right.count(1) == 0
    run.write(*range(PARTS))
    run.writer.inbox.put(Install())
    run.reports.next(Installed)
    run.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([NAME, f".{NAME}.resume"])
    assert begin().checked.doubtful


def test_who_does_not_share_on_leaves_nothing_and_believes_nothing(begin: Begin, tmp_path: Path) -> None:
    half_done(begin)
    run = begin(kept=False)
    assert run.checked.doubtful, "the whole is hashed in the end"
    run.write(0, 2, 4, 6, 7)
    run.writer.inbox.put(Install(kept=False))
    run.reports.next(Installed)
    run.stop()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    run = begin()
    assert not run.checked.doubtful
    run.stop()
    assert resume_path(tmp_path).exists()
    assert not begin(kept=False).checked.doubtful


def test_a_part_that_is_lost_is_not_believed_at_the_next_start(begin: Begin) -> None:
    half_done(begin)
    run = begin()
    assert run.checked.doubtful
    run.writer.inbox.put(Lost(3))
    run.stop()
    assert begin().checked.right == bytearray([0, 1, 0, 0, 0, 1, 0, 0, 1])


def test_an_installed_file_with_a_lost_part_is_hashed_at_the_next_start(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(DATA)
    run = begin()
    assert run.checked.right == ALL
    run.writer.inbox.put(Lost(3))
    run.stop()
    assert not resume_path(tmp_path).exists()


def test_a_recheck_finds_what_only_the_resume_file_says(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(begin)
    spoil(tmp_path, 3)
    monkeypatch.setattr(ledger_module, "sample_is_right", lambda *_: True)
    run = begin()
    assert run.checked.right == HALF
    run.writer.inbox.put(Recheck())
    assert run.checked.right == bytearray([0, 1, 0, 0, 0, 1, 0, 0, 1])


def spoil(folder: Path, index: int) -> None:
    """Change a part on disk so that nothing shows it."""
    path = folder / f"{NAME}.part"
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(index * PART_BYTES + 7)
        byte = file.read(1)
        file.seek(index * PART_BYTES + 7)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.fault("D6")
def test_the_sample_finds_a_disk_that_has_changed_without_a_trace(begin: Begin, tmp_path: Path) -> None:
    half_done(begin)
    spoil(tmp_path, 3)
    run = begin()
    checked = run.checked
    assert (checked.right, checked.doubtful) == (bytearray([0, 1, 0, 0, 0, 1, 0, 0, 1]), False)
    assert "a part is not what the resume file says: checking every part" in run.notices[0]
    assert "1 parts that were right are so no more" in run.notices[1]


# D10: what must not be believed


def sealed(body: bytes) -> bytes:
    """With a right checksum."""
    return body + _checksum(body)


def with_field(number: int, value: Any) -> Callable[[bytes], bytes]:
    """A good one in which one field of the header says something else."""

    def change(good: bytes) -> bytes:
        fields = list(HEADER.unpack_from(good))
        fields[number] = value
        return sealed(HEADER.pack(*fields) + good[HEADER.size : -20])

    return change


def with_bytes(position: int, data: bytes) -> Callable[[bytes], bytes]:
    """A good one in which some bytes are others; the checksum is left alone."""
    return lambda good: good[:position] + data + good[position + len(data) :]


OTHER = score_of(content(PARTS * PART_BYTES - 123, seed=1), PART_BYTES)
CORPUS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "zeros": lambda good: bytes(len(good)),
    "one byte": lambda _: b"O",
    "magic alone": lambda _: MAGIC,
    "header alone": lambda good: good[: HEADER.size],
    "header alone, sealed": lambda good: sealed(good[: HEADER.size]),
    "cut in the middle": lambda good: good[: len(good) // 2],
    "last byte missing": lambda good: good[:-1],
    "checksum missing": lambda good: good[:-20],
    "one byte more": lambda good: good + b"\0",
    "twice": lambda good: good + good,
    "checksum wrong": lambda good: good[:-1] + bytes([good[-1] ^ 1]),
    "bit flipped in the bitmap": with_bytes(HEADER.size, b"\xff"),
    "bit flipped in the size": with_bytes(HEADER.size - 30, b"\xee"),
    "random bytes after the magic": lambda good: MAGIC + content(len(good)),
    "random bytes of a megabyte after the magic": lambda _: MAGIC + content(1 << 20),
    "text": lambda _: b"{}\n",
    "random bytes": lambda good: content(len(good)),
    "newer version": with_field(1, VERSION + 1),
    "newest version": with_field(1, 65535),
    "version 0": with_field(1, 0),
    "other info-hash": with_field(3, OTHER.info_hash),
    "other line 3": with_field(4, bytes(20)),
    "unclean": with_field(2, 0),
    "other size": with_field(5, 4711),
    "other mtime": with_field(6, 4711),
    "negative mtime": with_field(6, (1 << 64) - 1),
    "other inode": with_field(7, 1),
    "fewer parts said": with_field(8, PARTS - 1),
    "more parts said": with_field(8, PARTS + 1),
    "parts beyond all bounds": with_field(8, 2**32 - 1),
    "longer bitmap": lambda good: sealed(good[:-20] + b"\xff"),
    "shorter bitmap": lambda good: sealed(good[:-21]),
    "half fetched parts that are not there": with_field(9, 3),
    "half fetched parts beyond all bounds": with_field(9, 2**32 - 1),
}


@pytest.mark.fault("D10")
@pytest.mark.parametrize("kind", CORPUS)
def test_a_bad_resume_file_is_a_notice_and_everything_is_hashed(
    begin: Begin, tmp_path: Path, kind: str
) -> None:
    half_done(begin)
    path = resume_path(tmp_path)
    bad = CORPUS[kind](path.read_bytes())
    path.write_bytes(bad)
    run = begin()
    checked = run.checked
    assert (checked.right, checked.doubtful) == (HALF, False)
    assert len(run.notices) == 1
    assert run.notices[0].endswith("checking every part")
    run.write(0)
    run.stop()
    # What is not ours is not replaced; all else is good again.
    ours = bad.startswith(MAGIC) or not any(bad)
    assert (path.read_bytes() == bad) != ours
    assert begin().checked.doubtful == ours


@pytest.mark.fault("D10")
def test_a_member_with_a_bad_resume_file_checks_everything_and_ends_well(
    programs: Programs, tmp_path: Path
) -> None:
    """As small as this it would have none, and would not believe one."""
    composition, ours = compose(tmp_path / "source", 16 * PART_BYTES, PART_BYTES), tmp_path / "ours"
    words = [composition.write_orch(tmp_path), "--dir", ours, "--port", "0", "--peer"]
    tuning = "ledger.LEAST_BYTES=0 writer.HASHED_BYTES=0"
    with ScriptedPeer(composition, parts=range(8)) as half:
        member = tuned_member(programs, *words, half.name, TUNING=tuning)
        member.wait_for_event("progress", parts_done=8)
        member.stop()
    [good] = ours.glob(".*.resume")
    for kind in ("random bytes", "newer version", "other info-hash", "longer bitmap", "other mtime"):
        folder = tmp_path / kind
        shutil.copytree(ours, folder)
        (folder / good.name).write_bytes(CORPUS[kind](good.read_bytes()))
        words[2] = folder
        with ScriptedPeer(composition) as peer:
            member = tuned_member(programs, *words, peer.name, "--no-seed", TUNING=tuning)
            assert member.wait() == 0, member.story()
            assert peer.sent_bytes == 8 * PART_BYTES, "what was right is kept"
        assert "checking every part" in member.stderr, kind
        assert composition.is_at(folder / composition.score.name)
    figures.note("D10", "kinds of bad resume files, each a notice and a full check", len(CORPUS))


@pytest.mark.fault("D10")
@pytest.mark.parametrize("what", ["future mtime", "appended", "touched", "another file", "cut short"])
def test_a_file_that_is_not_as_it_was_is_hashed_whole(begin: Begin, tmp_path: Path, what: str) -> None:
    half_done(begin)
    path = tmp_path / f"{NAME}.part"
    match what:
        case "future mtime":
            later_ns = time.time_ns() + 10**12
            os.utime(path, ns=(later_ns, later_ns))
            resume = resume_path(tmp_path)
            resume.write_bytes(with_field(6, path.stat().st_mtime_ns)(resume.read_bytes()))
        case "appended":
            with path.open("ab") as file:
                file.write(b"more")
        case "touched":
            os.utime(path)
        case "another file":
            (tmp_path / "other").write_bytes(path.read_bytes())
            status = path.stat()
            (tmp_path / "other").replace(path)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        case "cut short":
            os.truncate(path, 2 * PART_BYTES)
    run = begin()
    checked = run.checked
    held = bytearray([0, 1, 0, 0, 0, 0, 0, 0, 0]) if what == "cut short" else HALF
    assert (checked.right, checked.doubtful) == (held, False)
    assert "checking every part" in run.notices[0] or "cut off" in run.notices[0]


@pytest.mark.fault("D8")
@pytest.mark.skipif(os.name == "nt", reason="makes links and pipes")
@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder"])
def test_what_stands_in_the_way_of_a_resume_file_is_neither_followed_nor_replaced(
    begin: Begin, tmp_path: Path, kind: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    path = resume_path(tmp_path)
    match kind:
        case "link":
            elsewhere.write_bytes(b"mine")
            path.symlink_to(elsewhere)
        case "dangling link":
            path.symlink_to(elsewhere)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    before = path.lstat()
    run = begin()
    assert run.checked.right.count(1) == 0
    run.write(0)
    run.stop()
    assert os.path.samestat(path.lstat(), before)
    assert elsewhere.exists() == (kind == "link")
    if kind == "link":
        assert elsewhere.read_bytes() == b"mine"


# D3: when it cannot be written


@pytest.mark.fault("D3")
def test_a_resume_file_that_cannot_be_written_is_one_notice_and_the_old_one_stays(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(begin)
    old = resume_path(tmp_path).read_bytes()
    monkeypatch.setattr(ledger_module, "LONGEST_INTERVAL_S", 0.0)
    monkeypatch.setattr(ledger_module, "SHORTEST_INTERVAL_S", 0.0)
    fsync = os.fsync

    def full(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("~"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", full)
    run = begin()
    assert run.checked.right == HALF
    run.write(0, 2, 4, 6, 7)
    run.stop()
    [notice] = run.notices
    assert "No space left" in notice
    assert ".resume: cannot be written" in notice
    assert resume_path(tmp_path).read_bytes() == old
    assert not list(tmp_path.glob("*~"))
    monkeypatch.undo()
    monkeypatch.setattr(ledger_module, "LEAST_BYTES", 0)
    again = begin()
    checked = again.checked
    assert (checked.right, checked.doubtful) == (ALL, False)
    assert "it was changed since" in again.notices[0]


@pytest.mark.fault("X1")
def test_a_file_whose_state_cannot_be_read_is_hashed_whole(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(begin)

    def fail(_storage: Storage) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Storage, "status", fail)
    checked = begin().checked
    assert (checked.right, checked.doubtful) == (HALF, False)


TORN = [b"", MAGIC, MAGIC + bytes(200), bytes(4096)]
"""What a kill or a power cut leaves of a file that is being written."""


@pytest.mark.fault("K2")
@pytest.mark.parametrize("torn", TORN, ids=["empty", "begun", "further", "zeros"])
@pytest.mark.parametrize("found", ["nothing", "half", "whole"])
def test_what_a_kill_left_of_a_resume_file_goes_at_the_next_start(
    begin: Begin, tmp_path: Path, torn: bytes, found: str
) -> None:
    temporary = tmp_path / f".{NAME}.resume~"
    if found == "half":
        half_done(begin)
    elif found == "whole":
        (tmp_path / NAME).write_bytes(DATA)
    temporary.write_bytes(torn)
    run = begin(kept=False)
    assert run.checked
    run.stop()
    assert not temporary.exists()


@pytest.mark.fault("K2")
def test_and_so_it_does_when_the_file_gets_its_name(begin: Begin, tmp_path: Path) -> None:
    run = begin(kept=False)
    assert run.checked
    run.write(*range(PARTS))
    (tmp_path / f".{NAME}.resume~").write_bytes(MAGIC)
    run.writer.inbox.put(Install(kept=False))
    run.reports.next(Installed)
    run.stop()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.fault("K2")
def test_what_a_kill_left_beside_a_file_that_had_just_got_its_name_goes_at_the_next_start(
    begin: Begin, tmp_path: Path
) -> None:
    """The name is given first, and then the resume file is done with."""
    half_done(begin)
    resume_path(tmp_path).write_bytes(with_field(2, 0)(resume_path(tmp_path).read_bytes()))  # unclean
    (tmp_path / f"{NAME}.part").unlink()
    (tmp_path / NAME).write_bytes(DATA)
    run = begin(kept=False)
    assert run.checked.right == ALL
    run.stop()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.fault("K2")
def test_what_whoever_shares_a_file_knows_of_it_stays_when_it_is_not_shared_for_once(
    begin: Begin, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(DATA)
    for kept in (True, False):
        run = begin(kept=kept)
        assert run.checked.right == ALL
        run.stop()
    assert begin().checked.doubtful


@pytest.mark.fault("K2")
@pytest.mark.skipif(os.name == "nt", reason="makes links and pipes")
@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "anybody's"])
def test_what_is_not_ours_of_that_name_stays(begin: Begin, tmp_path: Path, kind: str) -> None:
    temporary, elsewhere = tmp_path / f".{NAME}.resume~", tmp_path / "elsewhere"
    elsewhere.write_bytes(MAGIC)
    match kind:
        case "link":
            temporary.symlink_to(elsewhere)
        case "fifo":
            os.mkfifo(temporary)
        case "folder":
            temporary.mkdir()
        case _:
            temporary.write_bytes(b"mine")
    before = temporary.lstat()
    run = begin(kept=False)
    assert run.checked
    run.write(*range(PARTS))
    run.writer.inbox.put(Install(kept=False))
    run.reports.next(Installed)
    run.stop()
    assert os.path.samestat(temporary.lstat(), before)
    assert elsewhere.read_bytes() == MAGIC


def test_numbers_of_a_file_that_are_longer_than_64_bits_are_told_apart_by_their_end(tmp_path: Path) -> None:
    file = ResumeFile(resume_path(tmp_path), SCORE)
    for mtime_ns, inode in ((1 << 70, 1 << 100), (-5, (1 << 128) - 1), (7, 8)):
        status = SimpleNamespace(st_size=len(DATA), st_mtime_ns=mtime_ns, st_ino=inode)
        file.save(ALL, cast("os.stat_result", status), clean=True, halves={})
        assert file.load(cast("os.stat_result", status), 1 << 71) == Hint(ALL)
        status.st_ino += 1
        hint = file.load(cast("os.stat_result", status), 1 << 71)
        assert hint is not None
        assert hint.doubt == "it was changed since"


@pytest.mark.fault("D4")
def test_data_that_cannot_be_put_on_the_disk_is_the_end(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "LONGEST_INTERVAL_S", 0.0)

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", broken, raising=False)
    run = begin()
    assert run.checked.right.count(1) == 0
    run.write(0)
    error = run.reports.skip_to(DiskFailed).error
    assert isinstance(error, StorageError)
    assert f"{NAME}.part: writing to the disk failed" in str(error)
    run.stop()


def test_while_it_downloads_it_is_saved_now_and_then_and_never_called_clean(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "LONGEST_INTERVAL_S", 0.0)
    order: list[str] = []
    saved = queue.SimpleQueue[bytearray]()
    save, sync = ResumeFile.save, Storage.sync

    def noted_sync(storage: Storage) -> None:
        order.append("data")
        sync(storage)

    def noted(file: ResumeFile, right: bytearray, status: os.stat_result, **options: Any) -> None:
        order.append("clean" if options["clean"] else "unclean")
        save(file, right, status, **options)
        saved.put(bytearray(right))

    monkeypatch.setattr(Storage, "sync", noted_sync)
    monkeypatch.setattr(ResumeFile, "save", noted)
    run = begin()
    assert run.checked.right.count(1) == 0
    run.write(2)
    assert saved.get(timeout=PATIENCE_S) == bytearray([0, 0, 1, 0, 0, 0, 0, 0, 0])
    run.write(4)
    assert saved.get(timeout=PATIENCE_S) == bytearray([0, 0, 1, 0, 1, 0, 0, 0, 0])
    status = run.storage.status()
    hint = ResumeFile(resume_path(tmp_path), SCORE).load(status, time.time_ns())
    assert hint is not None
    assert hint.doubt == "it was not closed properly"
    run.stop()
    assert order == ["data", "unclean", "data", "unclean", "data", "clean"]


def test_a_small_composition_has_no_resume_file(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "LEAST_BYTES", len(DATA) + 1)
    half_done(begin)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.part"]
    assert not begin().checked.doubtful


def test_what_is_hashed_in_a_moment_is_not_taken_on_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).write_bytes(DATA)
    first = Run(tmp_path)
    assert not first.checked.doubtful
    first.stop()
    believing = Run(tmp_path)
    assert believing.checked.doubtful
    believing.stop()
    monkeypatch.setattr(writer_module, "HASHED_BYTES", len(DATA))
    hashing = Run(tmp_path)
    checked = hashing.checked
    assert checked.right == ALL
    assert not checked.doubtful
    hashing.stop()
