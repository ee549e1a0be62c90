"""Write a file so that it is there whole or not at all.

Any thread. The content goes to a temporary file in the same folder, which gets
its name when every byte is on the disk. What is in the way stays, unless the
caller says otherwise; what is no regular file stays in any case. All problems
are StorageErrors of one line.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from orchestra.errors import StorageError
from orchestra.text import safe

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def check_place(path: Path, *, replace: bool) -> None:
    """Find out, before long work, whether `path` could be written then: raise StorageError if not."""
    _check_free(path, replace=replace)
    with StagedFile(path) as probe:
        probe.create()


class StagedFile:
    """Content that waits beside its place until `publish`; a context manager that leaves nothing else behind.

    Several can be staged before the first is published, so that a full disk
    leaves none of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = _temporary(path)

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def create(self) -> None:
        """Make the temporary file, empty."""
        try:
            os.close(os.open(self._temporary, _FLAGS, 0o666))
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def write(self, pieces: Iterable[bytes]) -> None:
        """Put the content on the disk, piece after piece. Called once."""
        try:
            with open(os.open(self._temporary, _FLAGS, 0o666), "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def publish(self, *, replace: bool) -> None:
        """Give the file its name. With `replace`, an older file of that name goes."""
        _check_free(self.path, replace=replace)
        try:
            if replace:
                self._temporary.replace(self.path)
            else:
                _rename_to_free_name(self._temporary, self.path)
        except FileExistsError:
            raise _exists(self.path) from None
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def _rename_to_free_name(temporary: Path, path: Path) -> None:
    """Rename without replacing, so that of two writers one fails. Raises FileExistsError."""
    if os.name != "nt":
        try:
            os.link(temporary, path, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:
            pass  # a file system without hard links (FAT, some network ones): a plain rename has to do
        else:
            temporary.unlink()
            return
    temporary.rename(path)


def _check_free(path: Path, *, replace: bool) -> None:
    """Raise StorageError if something is in the way at `path`."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_write(path, error) from error
    if stat.S_ISDIR(mode):
        raise StorageError(f"{safe(str(path))} is a folder: give the name of a file")
    if not replace:
        raise _exists(path)
    if not stat.S_ISREG(mode):
        raise StorageError(f"{safe(str(path))} is not a regular file, so it is not replaced: remove it first")


def _temporary(path: Path) -> Path:
    # Not made from the name: with one of 250 bytes, anything added would be too long.
    return path.with_name(f".orchestra-{os.urandom(8).hex()}.tmp")


def _exists(path: Path) -> StorageError:
    return StorageError(f"{safe(str(path))} exists already: use --force to replace it")


def _cannot_write(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write {safe(str(path))}: {error.strerror or error}")
