"""How signals end a program: once as an exception, the second time on the spot.

Main thread only. The first SIGINT, SIGTERM or SIGHUP raises in the main
thread, so that `finally` blocks clean up; the second one ends the program at
once, with the terminal given back as it was found. Either way the program
dies by the signal itself, which is what shells and scripts look at. A signal
that was ignored when the program started (nohup) stays ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], None]


class Signalled(BaseException):
    """A signal asks the program to end. Raised in the main thread, or by a body after its own clean stop."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Within the block, SIGINT raises KeyboardInterrupt, SIGTERM and SIGHUP raise Signalled; once."""
    old: dict[int, Any] = {}
    usual = (signal.SIG_DFL, signal.default_int_handler)
    restore_terminal = _terminal_restorer()
    if threading.current_thread() is threading.main_thread():
        handler = _raise_once(restore_terminal)
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            signum = getattr(signal, name, None)  # Windows has no SIGHUP
            if signum is not None and signal.getsignal(signum) in usual:
                old[signum] = signal.signal(signum, handler)
    try:
        yield
    except BaseException:
        # An exception in the middle of taking the terminal left nobody to give it back.
        restore_terminal()
        raise
    finally:
        for signum, previous in old.items():
            signal.signal(signum, previous)


@contextlib.contextmanager
def as_messages(deliver: Callable[[Signalled], None]) -> Iterator[None]:
    """Within `as_exceptions`: the first signal is delivered as a value instead, the second raises as before.

    For a main thread that waits on a queue, where an exception could come between taking a message
    and looking at it. `deliver` is called in the signal handler: only SimpleQueue.put and its like are safe.
    """
    old: dict[int, Any] = {}

    def handler(signum: int, _frame: FrameType | None) -> None:
        for number, previous in old.items():
            signal.signal(number, previous)
        deliver(Signalled(signum))

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            signum = getattr(signal, name, None)
            if signum is not None and callable(signal.getsignal(signum)):
                old[signum] = signal.signal(signum, handler)
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


def die_by(signum: int) -> int:
    """End as that signal ends a program. Returns 128 + `signum` where that cannot be.

    That is on Windows, and as process 1 of a container. Flushes nothing, as a second signal may come
    in the middle of a flush, and a reader that does not read would hold us up: the console flushes each line.
    """
    if os.name != "nt":
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
    return 128 + signum


def _raise_once(restore_terminal: Callable[[], None]) -> Handler:
    ending = False

    def handler(signum: int, _frame: FrameType | None) -> None:
        nonlocal ending
        if ending:
            restore_terminal()
            os._exit(die_by(signum))
        ending = True
        raise KeyboardInterrupt if signum == signal.SIGINT else Signalled(signum)

    return handler


def _terminal_restorer() -> Callable[[], None]:
    """A function that gives the terminal of stdin the modes that it has now; nothing to do without one."""
    try:
        import termios  # noqa: PLC0415 - POSIX only

    except ImportError:
        return lambda: None
    try:
        ours = os.tcgetpgrp(0) == os.getpgrp()  # else these are the modes of the shell, while it edits a line
        modes = termios.tcgetattr(0)
    except (OSError, termios.error):  # no terminal
        return lambda: None
    if not ours:
        return lambda: None

    def restore() -> None:
        with contextlib.suppress(OSError, termios.error):
            if os.tcgetpgrp(0) == os.getpgrp():  # from the background it would stop us
                termios.tcsetattr(0, termios.TCSANOW, modes)

    return restore
