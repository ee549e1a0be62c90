from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra import hashing
from orchestra.errors import ExitCode, StorageError
from orchestra.source import Source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that takes several reads, last changed long ago."""
    file = tmp_path / "x"
    file.write_bytes(bytes(20_000))
    os.utime(file, ns=(10**18, 10**18))
    return file


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in ("_READ_BYTES", "_SPAN_BYTES"):
        monkeypatch.setattr(hashing, size, 1000)


def test_a_file_that_nobody_touches_is_hashed(path: Path) -> None:
    with Source(path) as source:
        assert source.size_bytes == 20_000
        hashes = source.hash(10_000, on_progress=lambda _: None)
    assert hashes.sha1 == hashlib.sha1(bytes(20_000)).digest()
    assert hashes.part_sha1s == hashlib.sha1(bytes(10_000)).digest() * 2


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x")


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(20_000))
    os.utime(other, ns=(10**18, 10**18))
    other.replace(path)


@pytest.mark.fault("O3")
@pytest.mark.parametrize(
    "change",
    [_append, _overwrite, lambda path: os.truncate(path, 500), _replace, Path.unlink, Path.touch],
    ids=["grows", "is-written", "shrinks", "is-replaced", "vanishes", "is-touched"],
)
@pytest.mark.parametrize("when_bytes", [1000, 20_000], ids=["early", "at-the-end"])
@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there")
def test_a_file_that_changes_while_it_is_read_is_an_error(
    path: Path, change: Callable[[Path], None], when_bytes: int
) -> None:
    def on_progress(done_bytes: int) -> None:
        if done_bytes == when_bytes:
            change(path)

    with Source(path) as source, pytest.raises(StorageError, match="x: changed while it was read") as caught:
        source.hash(1024, on_progress=on_progress)
    assert caught.value.exit_code == ExitCode.STORAGE


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="no /proc here")
def test_a_file_that_lies_about_its_size_is_an_error() -> None:
    with Source(Path("/proc/version")) as source:
        assert source.size_bytes == 0
        with pytest.raises(StorageError, match="has more in it than its size says"):
            source.hash(1024, on_progress=lambda _done_bytes: None)


@pytest.mark.fault("O3")
def test_a_read_error_names_the_file(path: Path) -> None:
    def fail(_done_bytes: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Source(path) as source, pytest.raises(StorageError, match="x: cannot be read: Input/output error"):
        source.hash(1024, on_progress=fail)


@pytest.mark.fault("O3")
def test_a_file_without_permission_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="x: cannot be read: Permission denied"):
        Source(path)


def test_the_same_file_is_known_by_any_of_its_paths(path: Path) -> None:
    link = path.with_name("link")
    link.hardlink_to(path)
    with Source(path) as source:
        assert source.is_at(path)
        assert source.is_at(path.parent / "." / "x")
        assert source.is_at(link)
        assert not source.is_at(path.with_name("missing"))
        assert not source.is_at(path.parent)


@pytest.mark.fault("O3")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("pipe", "is a named pipe, not a file"),
        (".", "is a folder, not a file; composing folders is not possible yet"),
        ("missing", "no such file"),
        ("/dev/null", "is a device, not a file"),
    ):
        with pytest.raises(StorageError, match=reason):
            Source(tmp_path / name)
