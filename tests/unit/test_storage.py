"""The composition on disk: what may be opened, written and replaced, and what never is."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.errors import BusyError, StorageError
from orchestra.storage import Storage, storage_error
from tests.fakes import PATIENCE_S, content
from tests.programs import ROOT

DATA = content(5000)
NAME = "piece.bin"
POSIX = os.name == "posix"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "download"
    made.mkdir()
    return made


@pytest.fixture
def storage(folder: Path) -> Iterator[Storage]:
    made = Storage(folder, NAME, len(DATA))
    yield made
    made.close()


@pytest.fixture
def forcing(folder: Path) -> Iterator[Storage]:
    """One that may replace what is there."""
    made = Storage(folder, NAME, len(DATA), force=True)
    yield made
    made.close()


def reserve(storage: Storage) -> None:
    while storage.reserve_some():
        pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def broken_lstat(monkeypatch: pytest.MonkeyPatch, only: tuple[Path, ...] = ()) -> None:
    """A disk of which this, or anything, cannot be looked at."""
    lstat = os.lstat

    def broken(path: Path, *arguments: object, **options: object) -> os.stat_result:
        if only and path not in only:
            return lstat(path)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "lstat", broken)


def write_all(storage: Storage) -> None:
    """What a download comes to."""
    storage.open_part()
    reserve(storage)
    storage.write([memoryview(DATA)], 0)


# NAME


def test_without_a_file_there_is_nothing_to_open(storage: Storage, folder: Path) -> None:
    assert not storage.open_installed()
    assert names(folder) == []


def test_a_file_of_the_right_size_is_opened_for_reading_only(storage: Storage, folder: Path) -> None:
    (folder / NAME).write_bytes(DATA)
    assert storage.open_installed()
    memory = bytearray(1000)
    storage.read([memoryview(memory)], 4000)
    assert memory == DATA[4000:]
    with pytest.raises(StorageError, match="writing failed"):
        storage.write([memoryview(b"x")], 0)
    assert (folder / NAME).read_bytes() == DATA


@pytest.mark.parametrize("size_bytes", [0, 4999, 5001])
def test_a_file_of_another_size_is_refused_and_left_alone(
    storage: Storage, folder: Path, size_bytes: int
) -> None:
    (folder / NAME).write_bytes(bytes(size_bytes))
    with pytest.raises(StorageError, match=r"is there, but differs: use --force .* or --output"):
        storage.open_installed()
    assert (folder / NAME).stat().st_size == size_bytes


def test_by_force_a_different_file_is_passed_over_until_there_is_a_better_one(
    forcing: Storage, folder: Path
) -> None:
    (folder / NAME).write_bytes(b"old")
    assert not forcing.open_installed()
    write_all(forcing)
    assert (folder / NAME).read_bytes() == b"old"
    forcing.install()
    assert (folder / NAME).read_bytes() == DATA
    assert names(folder) == [NAME]


def test_a_file_of_the_right_size_that_turned_out_wrong_is_only_given_up_by_force(folder: Path) -> None:
    (folder / NAME).write_bytes(bytes(len(DATA)))
    kept, forcing = Storage(folder, NAME, len(DATA)), Storage(folder, NAME, len(DATA), force=True)
    assert kept.open_installed()
    with pytest.raises(StorageError, match="differs"):
        kept.refuse_installed()
    assert kept.fd < 0
    assert forcing.open_installed()
    forcing.refuse_installed()
    assert forcing.fd < 0
    assert names(folder) == [NAME]


@pytest.mark.fault("D8")
@pytest.mark.skipif(not POSIX, reason="makes links and pipes")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "dangling link"])
def test_what_is_no_plain_file_is_refused_at_once_even_by_force(
    folder: Path, tmp_path: Path, kind: str, force: bool
) -> None:
    place(folder / NAME, kind, tmp_path / "elsewhere")
    storage = Storage(folder, NAME, len(DATA), force=force)
    with pytest.raises(StorageError, match="is not a plain file: use --output"):
        storage.open_installed()
    assert storage.fd < 0


def place(path: Path, kind: str, target: Path) -> None:
    """Put something in the way."""
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        target.write_bytes(DATA)
        path.symlink_to(target)
    elif kind == "hard link":
        target.write_bytes(DATA)
        os.link(target, path)
    elif kind == "dangling link":
        path.symlink_to(target)


# NAME.part


def test_the_part_file_is_made_and_the_folder_too(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "a" / "b", NAME, len(DATA))
    try:
        assert storage.open_part() == 0
        assert names(tmp_path / "a" / "b") == [f"{NAME}.part"]
    finally:
        storage.close()


def test_what_a_part_file_holds_is_kept(storage: Storage, folder: Path) -> None:
    (folder / f"{NAME}.part").write_bytes(DATA[:3000])
    assert storage.open_part() == 3000
    reserve(storage)
    assert (folder / f"{NAME}.part").read_bytes() == DATA[:3000] + bytes(2000)


def test_a_part_file_that_is_too_long_is_cut(storage: Storage, folder: Path) -> None:
    (folder / f"{NAME}.part").write_bytes(DATA + b"more")
    assert storage.open_part() == len(DATA)
    assert (folder / f"{NAME}.part").read_bytes() == DATA


def test_a_part_file_that_cannot_be_cut_is_a_storage_error_and_is_closed(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (folder / f"{NAME}.part").write_bytes(DATA + b"more")
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(StorageError, match="opening failed: Input/output error"):
        storage.open_part()
    assert storage.fd < 0


@pytest.mark.fault("D8")
@pytest.mark.skipif(not POSIX, reason="makes links and pipes")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("folder", "Is a directory"),
        ("fifo", "not a plain file with one name: remove it"),
        ("link", "is a symbolic link: remove it"),
        ("dangling link", "is a symbolic link: remove it"),
        ("hard link", "not a plain file with one name: remove it"),
    ],
)
def test_a_part_file_that_is_something_else_is_refused_and_what_it_leads_to_is_untouched(
    storage: Storage, folder: Path, tmp_path: Path, kind: str, message: str
) -> None:
    target = tmp_path / "elsewhere"
    place(folder / f"{NAME}.part", kind, target)
    before = target.read_bytes() if target.exists() else None
    with pytest.raises(StorageError, match=message):
        storage.open_part()
    assert storage.fd < 0
    assert (target.read_bytes() if target.exists() else None) == before


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="opening failed"):
        Storage(tmp_path / "file", NAME, 1).open_part()
    with pytest.raises(StorageError, match="opening failed"):
        Storage(tmp_path / "file", NAME, 1).open_installed()


@pytest.mark.fault("D9")
def test_a_second_member_of_the_same_process_finds_it_busy(storage: Storage, folder: Path) -> None:
    storage.open_part()
    second = Storage(folder, NAME, len(DATA))
    with pytest.raises(BusyError, match="another member is writing this file"):
        second.open_part()
    assert second.fd < 0
    storage.close()
    assert second.open_part() == 0
    second.close()


OPEN_PART = """
import sys
from pathlib import Path
from orchestra.errors import BusyError
from orchestra.storage import Storage
storage = Storage(Path(sys.argv[1]), sys.argv[2], 5000)
try:
    storage.open_part()
except BusyError as error:
    print("busy")
    sys.exit(0)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.fault("D9")
def test_a_second_member_in_another_process_finds_it_busy_until_the_first_is_killed(
    storage: Storage, folder: Path
) -> None:
    command = [sys.executable, "-c", OPEN_PART, str(folder), NAME]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        try:
            assert first.stdout.readline() == b"open\n"
            with pytest.raises(BusyError):
                storage.open_part()
        finally:
            first.kill()
    storage.open_part()
    again = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=True
    )
    assert again.stdout == b"busy\n"


@pytest.mark.skipif(not POSIX, reason="renames an open file")
def test_a_part_file_that_was_installed_while_we_waited_is_busy_and_not_written(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / f"{NAME}.part").write_bytes(DATA)

    def finished_by_another(_fd: int) -> None:
        (folder / f"{NAME}.part").rename(folder / NAME)

    monkeypatch.setattr(storage, "_lock", finished_by_another)
    with pytest.raises(BusyError, match="just finished this file: start again"):
        storage.open_part()
    assert storage.fd < 0


@pytest.mark.fault("X1")
def test_a_part_file_that_cannot_be_looked_at_is_a_storage_error_and_not_busy(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_lstat(monkeypatch)
    with pytest.raises(StorageError, match="opening failed: Input/output error"):
        storage.open_part()
    assert storage.fd < 0


@pytest.mark.fault("D1")
@pytest.mark.skipif(not POSIX, reason="asks fstatvfs")
@pytest.mark.parametrize(("free", "fits"), [(1, False), (2, True)])
def test_a_disk_that_is_too_small_is_known_before_the_first_byte_comes(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool
) -> None:
    storage.open_part()
    system = list(os.fstatvfs(storage.fd))
    system[1], system[4] = 4096, free  # f_frsize, f_bavail
    monkeypatch.setattr(os, "fstatvfs", lambda _fd: os.statvfs_result(system))
    if fits:
        storage.check_room()
        return
    with pytest.raises(StorageError, match="the disk is too full: 5000 bytes are needed, 4096 are free"):
        storage.check_room()


@pytest.mark.fault("X1")
@pytest.mark.skipif(not POSIX, reason="asks fstatvfs")
@pytest.mark.parametrize("function", ["fstatvfs", "fstat"])
def test_a_disk_that_does_not_say_how_full_it_is_is_a_storage_error(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    storage.open_part()
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(StorageError, match="looking for room failed: Input/output error"):
            storage.check_room()


@pytest.mark.skipif(not POSIX, reason="asks fstatvfs")
def test_what_is_on_the_disk_already_needs_no_more_room(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / f"{NAME}.part").write_bytes(DATA)
    storage.open_part()
    os.fsync(storage.fd)
    system = list(os.fstatvfs(storage.fd))
    system[4] = 0
    monkeypatch.setattr(os, "fstatvfs", lambda _fd: os.statvfs_result(system))
    storage.check_room()


@pytest.mark.fault("D2")
@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "the disk is full: free some space"), (errno.EIO, "reserving space failed")],
)
def test_a_disk_that_fills_while_space_is_reserved_is_a_storage_error(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    refusing(monkeypatch, code)
    storage.open_part()
    with pytest.raises(StorageError, match=message):
        reserve(storage)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_reserve_is_good_enough(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refusing(monkeypatch, code)
    storage.open_part()
    reserve(storage)
    assert (folder / f"{NAME}.part").stat().st_size == len(DATA)


def refusing(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let the system refuse to reserve space."""

    def refuse(_fd: int, _offset: int, _length: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)


def test_a_full_disk_while_writing_says_what_to_do() -> None:
    full = storage_error(Path("x.part"), OSError(errno.ENOSPC, "No space left on device"), "writing")
    assert str(full) == "x.part: the disk is full: free some space and start again; nothing is lost"
    other = storage_error(Path("x.part"), OSError(errno.EIO, "Input/output error"), "writing")
    assert str(other) == "x.part: writing failed: Input/output error"


# Installing


def test_the_name_appears_only_when_it_is_installed(storage: Storage, folder: Path) -> None:
    write_all(storage)
    assert names(folder) == [f"{NAME}.part"]
    assert storage.install() == folder / NAME
    assert names(folder) == [NAME]
    assert (folder / NAME).read_bytes() == DATA
    assert stat.S_ISREG((folder / NAME).stat().st_mode)
    assert (folder / NAME).stat().st_nlink == 1


def test_what_was_installed_can_still_be_read(storage: Storage) -> None:
    write_all(storage)
    storage.install()
    memory = bytearray(len(DATA))
    storage.read([memoryview(memory)], 0)
    assert memory == DATA


def test_a_part_file_that_is_not_ours_any_more_does_not_get_the_name(storage: Storage, folder: Path) -> None:
    write_all(storage)
    (folder / f"{NAME}.part").unlink()
    other = Storage(folder, NAME, len(DATA))
    try:
        other.open_part()
        with pytest.raises(StorageError, match="was replaced meanwhile"):
            storage.install()
    finally:
        other.close()
    assert names(folder) == [f"{NAME}.part"]


def test_a_file_that_appeared_meanwhile_is_not_replaced(storage: Storage, folder: Path) -> None:
    write_all(storage)
    (folder / NAME).write_bytes(b"mine")
    with pytest.raises(StorageError, match="differs"):
        storage.install()
    assert (folder / NAME).read_bytes() == b"mine"
    assert (folder / f"{NAME}.part").read_bytes() == DATA


@pytest.mark.skipif(not POSIX, reason="makes links")
def test_nor_is_a_link_that_leads_nowhere(storage: Storage, folder: Path, tmp_path: Path) -> None:
    write_all(storage)
    (folder / NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError, match="differs"):
        storage.install()
    assert not (tmp_path / "victim").exists()


def without_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system like FAT."""

    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


def test_a_file_system_without_hard_links_does_too(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_hard_links(monkeypatch)
    write_all(storage)
    storage.install()
    assert names(folder) == [NAME]
    assert (folder / NAME).read_bytes() == DATA


def test_without_hard_links_nothing_is_replaced_either(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_hard_links(monkeypatch)
    write_all(storage)
    (folder / NAME).write_bytes(b"mine")
    with pytest.raises(StorageError, match="differs"):
        storage.install()
    assert (folder / NAME).read_bytes() == b"mine"


@pytest.mark.fault("X1")
def test_nor_where_it_cannot_be_looked_what_is_there(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_hard_links(monkeypatch)
    write_all(storage)
    (folder / NAME).write_bytes(b"mine")
    broken_lstat(monkeypatch, (folder / NAME,))
    with pytest.raises(StorageError, match="finishing failed: Input/output error"):
        storage.install()
    assert (folder / NAME).read_bytes() == b"mine"


def test_the_data_is_on_the_disk_before_it_gets_its_name(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[str]] = []
    real = os.fsync

    def note(fd: int) -> None:
        synced.append(names(folder))
        real(fd)

    monkeypatch.setattr(os, "fsync", note)
    write_all(storage)
    storage.install()
    assert synced[0] == [f"{NAME}.part"]
    assert synced[1:] in ([[NAME]], [])


@pytest.mark.fault("D4")
def test_a_disk_that_fails_to_sync_keeps_the_part_file(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    write_all(storage)
    with pytest.raises(StorageError, match="finishing failed: Input/output error"):
        storage.install()
    assert names(folder) == [f"{NAME}.part"]


def test_an_empty_composition_is_a_file_too(folder: Path) -> None:
    storage = Storage(folder, NAME, 0)
    try:
        assert not storage.open_installed()
        assert storage.open_part() == 0
        reserve(storage)
        storage.install()
    finally:
        storage.close()
    assert (folder / NAME).read_bytes() == b""


def test_a_file_that_has_become_shorter_is_noticed_when_read(storage: Storage, folder: Path) -> None:
    (folder / NAME).write_bytes(DATA)
    storage.open_installed()
    os.truncate(folder / NAME, 10)
    with pytest.raises(EOFError):
        storage.read([memoryview(bytearray(100))], 0)


def test_closing_twice_is_harmless_and_nothing_can_be_read_afterwards(storage: Storage) -> None:
    storage.open_part()
    storage.close()
    storage.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        storage.read([memoryview(bytearray(1))], 0)
