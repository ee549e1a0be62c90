"""Makes the Nth call of a kind fail, in any program that starts with FAIL_NTH=file:7 in its environment.

Counted from the moment at which a program's own work begins (cli.run), so that
imports do not count. FAIL_MARK names a file that is made when the call comes:
without it, there were no N calls.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

FILE_CALLS = (
    "open fstat stat lstat read readv pread preadv write writev pwrite pwritev fsync fdatasync ftruncate "
    "truncate posix_fallocate rename replace unlink link statvfs mkdir listdir scandir"
).split()
SOCKET_CALLS = (
    "connect connect_ex bind listen accept recv recv_into recvmsg_into send sendall sendmsg setsockopt "
    "getsockname getpeername setblocking settimeout"
).split()


class Counter:
    """Which call it is."""

    def __init__(self, kind: str, nth: int, mark: str) -> None:
        self.kind, self.nth, self.mark = kind, nth, mark
        self.armed = False
        self._calls = 0
        self._lock = threading.Lock()

    def due(self) -> bool:
        """Whether this call is to fail."""
        if not self.armed:
            return False
        with self._lock:
            self._calls += 1
            if self._calls != self.nth:
                return False
            self.armed = False  # the mark is made by the same calls
        os.close(os.open(self.mark, os.O_CREAT | os.O_WRONLY))
        return True

    def failing(self, call: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
        """`call`, but its Nth time raises `error`."""

        def counted(*arguments: Any, **options: Any) -> Any:
            if self.due():
                raise error
            return call(*arguments, **options)

        return counted


def install(counter: Counter) -> None:
    """Put the counter around all calls of its kind."""
    if counter.kind == "thread":
        start = counter.failing(threading.Thread.start, RuntimeError("can't start new thread"))
        threading.Thread.start = start  # type: ignore[method-assign]
    elif counter.kind == "file":
        error = OSError(errno.EIO, os.strerror(errno.EIO))
        for name in FILE_CALLS:
            if hasattr(os, name):
                setattr(os, name, counter.failing(getattr(os, name), error))
        builtins.open = io.open = counter.failing(io.open, error)
        calls = ("read", "readinto", "readall", "write")
        made = {name: counter.failing(getattr(io.FileIO, name), error) for name in calls}
        setattr(io, "FileIO", type("FileIO", (io.FileIO,), made))  # noqa: B010 - for mypy it is no variable
    else:
        error = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        for name in SOCKET_CALLS:
            if hasattr(socket.socket, name):
                setattr(socket.socket, name, counter.failing(getattr(socket.socket, name), error))
        socket.socketpair = counter.failing(socket.socketpair, error)
        init = socket.socket.__init__
        failing = counter.failing(init, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))

        def initialise(*arguments: Any, **options: Any) -> None:
            # What was accepted has its descriptor already: there it cannot fail, and nobody would close it.
            fileno = options["fileno"] if "fileno" in options else (*arguments, *[None] * 4)[4]
            (init if fileno is not None else failing)(*arguments, **options)

        socket.socket.__init__ = initialise  # type: ignore[method-assign]


def begin() -> None:
    """Install what the environment asks for; it begins to count in cli.run."""
    kind, _, nth = os.environ["FAIL_NTH"].partition(":")
    counter = Counter(kind, int(nth), os.environ["FAIL_MARK"])
    install(counter)
    from orchestra import cli

    run = cli.run

    def counted_run(*arguments: Any, **options: Any) -> int:
        counter.armed = True
        return run(*arguments, **options)

    cli.run = counted_run


if "FAIL_NTH" in os.environ:
    begin()
