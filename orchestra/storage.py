"""The composition on disk: NAME when it is whole, NAME.part while it is not.

Opened, written and installed by the writer thread; the reader thread reads
from it at the same time; closed when both have ended.
Nothing outside the folder is touched: the name is one checked component,
symbolic links are not followed, and only regular files with one name are
written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from orchestra.errors import BusyError, StorageError
from orchestra.messages import Stamp
from orchestra.positioned import read_at, write_at
from orchestra.resume import sync_folder

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_SAFE_FLAGS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}

RESERVE_STEP_BYTES = 32 << 20
_CANNOT_RESERVE = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system says that has no way to reserve."""


def storage_error(path: Path, error: OSError, doing: str) -> StorageError:
    """One line for what the system said while `doing` something ("writing") with `path`."""
    if error.errno in _FULL:
        return StorageError(f"{path}: the disk is full: free some space and start again; nothing is lost")
    return StorageError(f"{path}: {doing} failed: {error.strerror or error}")


def _is_file(path: Path, status: os.stat_result) -> bool:
    """Whether `path` names the file of `status`. Raises OSError when that cannot be found out."""
    try:
        return os.path.samestat(os.lstat(path), status)
    except FileNotFoundError:
        return False


class Storage:
    """One composition of `size_bytes` in `folder`. `force`: an existing NAME may be replaced."""

    def __init__(self, folder: Path, name: str, size_bytes: int, *, force: bool = False) -> None:
        self.path = folder / name
        self.part_path = folder / f"{name}.part"
        self.resume_path = folder / f".{name}.resume"
        self.size_bytes = size_bytes
        self._force = force
        self._fd = -1
        self._reserved_bytes = 0
        self.surplus_bytes = 0
        """How many bytes too many NAME.part had, which were cut off."""
        # Only for systems where an open file cannot be renamed: keeps readers away meanwhile.
        self._renaming = threading.Lock()

    # Opening

    def open_installed(self) -> bool:
        """Open NAME for reading; False when there is none.

        Raises StorageError when something is there that is not a plain file of the right size
        and may not be replaced.
        """
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(self.path, error, "opening") from error
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(
                f"{self.path} is there, but is not a plain file: use --output for another name"
            )
        if status.st_size != self.size_bytes:
            if self._force:
                return False
            raise self.differs()
        try:
            self._fd = os.open(self.path, os.O_RDONLY | _SAFE_FLAGS)
        except OSError as error:
            raise storage_error(self.path, error, "opening") from error
        return True

    def differs(self) -> StorageError:
        """The error for an existing NAME with other contents."""
        return StorageError(f"{self.path} is there, but differs: use --force to replace it, or --output")

    def refuse_installed(self) -> None:
        """NAME was opened and is not the composition. Raises StorageError unless it may be replaced."""
        self.close()
        if not self._force:
            raise self.differs()

    def open_part(self) -> int:
        """Open NAME.part for writing, make it if missing, lock it; returns how many bytes it holds.

        Raises BusyError when another member has it, StorageError when it cannot be used.
        """
        path = self.part_path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | _SAFE_FLAGS, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise StorageError(f"{path} is a symbolic link: remove it, or use --output") from error
            raise storage_error(path, error, "opening") from error
        try:
            status = os.fstat(fd)
            self._claim(fd, status)
            self.surplus_bytes = max(0, status.st_size - self.size_bytes)
            if self.surplus_bytes:
                os.ftruncate(fd, self.size_bytes)
        except OSError as error:
            os.close(fd)
            raise storage_error(path, error, "opening") from error
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return min(status.st_size, self.size_bytes)

    def _claim(self, fd: int, status: os.stat_result) -> None:
        """Make sure that the open file is ours alone. Raises BusyError, StorageError, OSError."""
        path = self.part_path
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise StorageError(f"{path} is not a plain file with one name: remove it, or use --output")
        self._lock(fd)
        # The member that had the lock may have renamed the file just before.
        if not _is_file(path, status):
            raise BusyError(f"{path}: another member has just finished this file: start again")

    def _lock(self, fd: int) -> None:
        try:
            if sys.platform == "win32":
                # A byte far behind the data: locked bytes could not be read through another handle.
                os.lseek(fd, 1 << 60, os.SEEK_SET)
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
                raise BusyError(f"{self.part_path}: another member is writing this file") from error
            # A file system without locks: go on without one rather than not at all.

    def check_room(self) -> None:
        """Compare what is still to be allocated with what the file system has free.

        Raises StorageError when it cannot fit.
        """
        if not hasattr(os, "fstatvfs"):
            return
        try:
            system, status = os.fstatvfs(self._fd), os.fstat(self._fd)
        except OSError as error:
            raise storage_error(self.part_path, error, "looking for room") from error
        needed_bytes = self.size_bytes - 512 * status.st_blocks
        free_bytes = system.f_bavail * system.f_frsize
        if needed_bytes > free_bytes:
            raise self._no_room(needed_bytes, free_bytes)

    def _no_room(self, needed_bytes: int, free_bytes: int) -> StorageError:
        return StorageError(
            f"{self.part_path}: the disk is too full: {needed_bytes} bytes are needed, {free_bytes} are free"
        )

    def reserve_some(self) -> bool:
        """Claim the disk space for the next RESERVE_STEP_BYTES, so that it cannot run out on the way.

        True while there is more to claim. Raises StorageError.
        """
        start = self._reserved_bytes
        length = min(RESERVE_STEP_BYTES, self.size_bytes - start)
        self._reserved_bytes += length
        try:
            if length and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, start, length)
                return self._reserved_bytes < self.size_bytes
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise storage_error(self.part_path, error, "reserving space") from error
        try:
            os.ftruncate(self._fd, self.size_bytes)
        except OSError as error:
            raise storage_error(self.part_path, error, "reserving space") from error
        return False

    # Reading and writing

    def read(self, views: Sequence[memoryview], offset: int) -> None:
        """Fill `views` from `offset` on. Raises OSError, or EOFError when the file has become shorter."""
        if sys.platform == "win32":
            with self._renaming:
                read_at(self._fd, views, offset)
        else:
            read_at(self._fd, views, offset)

    def write(self, views: Sequence[memoryview], offset: int) -> None:
        """Write `views` from `offset` on. Raises StorageError."""
        try:
            write_at(self._fd, views, offset)
        except OSError as error:
            raise storage_error(self.part_path, error, "writing") from error

    def status(self) -> os.stat_result:
        """How the open file stands now. Raises OSError."""
        return os.fstat(self._fd)

    def stamp(self) -> Stamp:
        """What tells whether the open file was changed: another one when it was. Raises OSError."""
        status = os.fstat(self._fd)
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino

    def sync(self) -> None:
        """Put what was written on the disk itself: no power cut takes it then. Raises StorageError."""
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:
            raise storage_error(self.part_path, error, "writing to the disk") from error

    def sync_found(self) -> None:
        """The same for a file that somebody else wrote, where the system does it on one open for reading."""
        with contextlib.suppress(OSError):
            os.fsync(self._fd)

    def is_at(self, path: Path) -> bool:
        """True while `path` is the open file's name."""
        try:
            return os.path.samestat(os.lstat(path), os.fstat(self._fd))
        except OSError:
            return False

    # Ending

    def install(self) -> Path:
        """Make the data durable and give it its name; an existing NAME is replaced only by force.

        Raises StorageError.
        """
        try:
            os.fsync(self._fd)
            # Who removed NAME.part may have let another member begin one, which is not whole.
            if not os.path.samestat(os.lstat(self.part_path), os.fstat(self._fd)):
                raise StorageError(f"{self.part_path} was replaced meanwhile: start again")
            if sys.platform == "win32":
                with self._renaming:
                    os.close(self._fd)
                    self._rename()
                    self._fd = os.open(self.path, os.O_RDONLY | _SAFE_FLAGS)
            else:
                self._rename()
                sync_folder(self.path.parent)
        except FileExistsError as error:
            raise self.differs() from error
        except OSError as error:
            raise storage_error(self.path, error, "finishing") from error
        return self.path

    def _rename(self) -> None:
        if self._force:
            os.replace(self.part_path, self.path)
            return
        try:
            # A second name first: unlike a rename, a link never replaces what is there.
            os.link(self.part_path, self.path)
        except FileExistsError:
            raise
        except OSError:
            # os.path.lexists would take any failure to look for a free name.
            with contextlib.suppress(FileNotFoundError):
                os.lstat(self.path)
                raise FileExistsError(errno.EEXIST, "is there", str(self.path)) from None
            os.rename(self.part_path, self.path)
        else:
            os.unlink(self.part_path)

    def close(self) -> None:
        """Release the file and its lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def fd(self) -> int:
        """The open file, for reading at offsets."""
        return self._fd
