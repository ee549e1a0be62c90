"""The life of every thread: start, work, a last word; crashes are never silent.

Base class of all our threads. A thread ends because it was told to by a
message; whatever else ends it is a bug, and is reported as ThreadCrashed to
whoever owns the thread, who stops the program with exit code 1.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable
from typing import NamedTuple

from orchestra.kinds import kind


@kind
class ThreadCrashed(NamedTuple):
    """An unexpected exception ended the thread `name`: a bug, never a peer's fault."""

    name: str
    error: BaseException


class Worker(threading.Thread):
    """A named, non-daemonic thread; subclasses implement `work`.

    `report` takes one message and delivers it to the thread's owner; it is
    called from this thread.
    """

    def __init__(self, name: str, report: Callable[[object], None]) -> None:
        super().__init__(name=name, daemon=False)
        self._report = report

    def work(self) -> None:
        """The thread's whole life: set up, loop until told to stop, tear down."""
        raise NotImplementedError

    def run(self) -> None:
        """Run `work`; report what it did not expect."""
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - nothing may end a thread unnoticed
            self._report(ThreadCrashed(self.name, error))


STACK_BYTES = 512 * 1024


def small_stacks() -> None:
    """Give threads that start from now on a small stack, where the system lets us choose.

    A thread a peer would otherwise claim gigabytes of addresses, which a limit may forbid.
    """
    with contextlib.suppress(ValueError, RuntimeError):
        threading.stack_size(STACK_BYTES)


def start_thread(thread: threading.Thread) -> None:
    """Start a thread that may fail to start without harm to others. Raises OSError then."""
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "no thread to spare") from error
