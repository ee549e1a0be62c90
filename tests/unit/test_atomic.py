from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from orchestra.atomic import StagedFile, check_place
from orchestra.errors import ExitCode, StorageError


def write(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Stage and publish one file."""
    with StagedFile(path) as staged:
        staged.write([content])
        staged.publish(replace=replace)


def in_folder(folder: Path) -> dict[str, bytes]:
    """What files there are, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_file_appears_only_when_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with StagedFile(path) as staged:
        staged.write([b"con", b"tent"])
        assert not path.exists()
        staged.publish(replace=False)
    assert in_folder(tmp_path) == {"x": b"content"}


def test_what_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with StagedFile(tmp_path / "x") as staged:
            staged.write([b"con", b"tent"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert in_folder(tmp_path) == {}


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_the_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    write(tmp_path / "x", b"")
    (tmp_path / "usual").touch()
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_file_with_the_longest_name_can_be_written(tmp_path: Path) -> None:
    write(tmp_path / ("x" * 255), b"content")
    assert in_folder(tmp_path) == {"x" * 255: b"content"}


def test_what_exists_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="x exists already: use --force"):
        check_place(path, replace=False)
    with pytest.raises(StorageError, match="exists already"):
        write(path, b"new")
    assert in_folder(tmp_path) == {"x": b"old"}
    check_place(path, replace=True)
    write(path, b"new", replace=True)
    assert in_folder(tmp_path) == {"x": b"new"}


def test_of_two_writers_the_second_is_refused_even_when_both_saw_the_place_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.atomic._check_free", lambda path, replace: None)
    write(tmp_path / "x", b"first")
    with pytest.raises(StorageError, match="exists already"):
        write(tmp_path / "x", b"second")
    assert in_folder(tmp_path) == {"x": b"first"}


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    write(tmp_path / "x", b"content")
    assert in_folder(tmp_path) == {"x": b"content"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "kept").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, reason in (
        ("folder", "is a folder"),
        ("pipe", "not a regular file"),
        ("link", "not a regular file"),
        ("dangling", "not a regular file"),
    ):
        with pytest.raises(StorageError, match=reason):
            check_place(tmp_path / name, replace=True)
        with pytest.raises(StorageError):
            write(tmp_path / name, b"new", replace=True)
        with pytest.raises(StorageError):
            write(tmp_path / name, b"new")
    assert (tmp_path / "kept").read_bytes() == b"kept"
    assert not (tmp_path / "nowhere").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "folder", "kept", "link", "pipe"]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_is_missing_or_none_is_found_before_the_work(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / folder / "x.orch"
    with pytest.raises(StorageError, match="cannot write .*x.orch: (No such file|Not a directory)") as caught:
        check_place(path, replace=False)
    assert caught.value.exit_code == ExitCode.STORAGE


def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(StorageError, match="cannot write .*x.orch: Read-only file system"):
        check_place(tmp_path / "x.orch", replace=False)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write(tmp_path / "x", b"content")
    assert in_folder(tmp_path) == {}


def test_checking_a_place_leaves_nothing_there(tmp_path: Path) -> None:
    check_place(tmp_path / "x", replace=False)
    assert in_folder(tmp_path) == {}
