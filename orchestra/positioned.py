"""Reads and writes at an offset, of several pieces of memory in one system call.

Any thread. Where the system lacks preadv and pwritev (Windows), a lock makes
seek-and-read one step. Offsets and lengths in bytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

MAX_VIEWS = 512
"""Below every system's IOV_MAX."""

_seek_lock = threading.Lock()


def read_at(fd: int, views: Sequence[memoryview], offset: int) -> None:
    """Fill all `views`, in order, with the bytes from `offset` on. EOFError when the file ends first."""
    for first in range(0, len(views), MAX_VIEWS):
        some = views[first : first + MAX_VIEWS]
        length = sum(map(len, some))
        got = _read_some(fd, some, offset)
        if got < length:
            _read_rest(fd, some, offset, got)
        offset += length


def read_up_to(fd: int, view: memoryview, offset: int) -> int:
    """Fill `view` with the bytes from `offset` on, as far as the file goes; how many these were."""
    done = more = _read_some(fd, [view], offset)
    while more and done < len(view):
        more = _read_some(fd, [view[done:]], offset + done)
        done += more
    return done


def _read_some(fd: int, views: Sequence[memoryview], offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, views, offset)
    got = 0
    with _seek_lock:
        os.lseek(fd, offset, os.SEEK_SET)
        for view in views:
            data = os.read(fd, len(view))
            view[: len(data)] = data
            got += len(data)
            if len(data) < len(view):
                break
    return got


def _read_rest(fd: int, views: Sequence[memoryview], offset: int, got: int) -> None:
    """A signal or a full page may cut a read short; only 0 bytes mean the end."""
    for view in views:
        done = min(got, len(view))
        got -= done
        while done < len(view):
            more = _read_some(fd, [view[done:]], offset + done)
            if more == 0:
                raise EOFError(f"the file ends at byte {offset + done}")
            done += more
        offset += len(view)


def write_at(fd: int, views: Sequence[memoryview], offset: int) -> None:
    """Write all `views`, one after the other, from `offset` on. Raises OSError."""
    for first in range(0, len(views), MAX_VIEWS):
        some = views[first : first + MAX_VIEWS]
        length = sum(map(len, some))
        put = _write_some(fd, some, offset)
        if put < length:
            rest = memoryview(b"".join(some))[put:]
            while rest:
                put += (more := _write_some(fd, [rest], offset + put))
                rest = rest[more:]
        offset += length


def _write_some(fd: int, views: Sequence[memoryview], offset: int) -> int:
    if hasattr(os, "pwritev"):
        return os.pwritev(fd, views, offset)
    with _seek_lock:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, b"".join(views))
