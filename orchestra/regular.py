"""Open a file that must be a regular one, without ever hanging on what is not.

Any thread; the caller owns and closes what it gets. A named pipe would block
the open until someone writes, a device may act when it is opened: both are
recognised before they are opened, and again afterwards in case the path was
exchanged in between.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

# What a system lacks, it does not need: Windows has no blocking open, others no text mode.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotRegularError(OSError):
    """The path leads to something that is not a regular file. `kind` says to what, as "a folder"."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(errno.EINVAL, f"is {kind}, not a file", str(path))
        self.kind = kind


def open_regular(path: Path) -> io.FileIO:
    """Open `path` for reading, unbuffered. Symbolic links are followed.

    Raises NotRegularError for a folder, a pipe, a socket or a device, and
    OSError for what the system refuses.
    """
    _check(path, path.stat())
    file = io.FileIO(os.open(path, _FLAGS), "rb")
    try:
        _check(path, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _check(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise NotRegularError(path, kind)
    raise NotRegularError(path, "something else")
