"""Who hashes parts while we hash the whole: a thread, or where parts are small, and it can be, a process.

Threads take turns in Python itself. Where parts are small that is a microsecond for
each, 65,536 times a GiB, and two threads that hash them stand in each other's way. A
process has a Python of its own. All that it shares with us is the open file and a
socket: spans of the file go out, the SHA-1s of their parts come in.

A helper belongs to the thread that made it. It helps and no more: what it does not
answer, its owner finds out himself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import NoReturn, Protocol

from orchestra.parthash import FileParts
from orchestra.scorelines import SHA1_BYTES
from orchestra.worker import ThreadCrashed, Worker, start_thread

_SPAN = struct.Struct("=QQ")
_RECEIVE_BYTES = 64 * 1024
_SMALL_PART_BYTES = 64 * 1024
"""From here on a thread is as good, and begins sooner."""


class HelperGoneError(Exception):
    """It answers no more: it could not read what it was asked for, or somebody ended it."""


class Helper(Protocol):
    """Hashes the parts of spans of a file, and answers in the order of the questions."""

    def give(self, span: range) -> None:
        """Ask for the parts of bytes `span`, which begins where a part does."""

    def take(self, *, wait: bool) -> bytes | None:
        """The SHA-1s of the oldest span that was given; None if they are not there, and we do not wait.

        Raises HelperGoneError; and what a thread did not expect.
        """

    def end(self) -> None:
        """End it, and wait for that."""


def make_helper(fd: int, part_size_bytes: int) -> Helper | None:
    """A helper for the file that is open as `fd`; None where the system has none to spare."""
    # What other threads hold while a process divides is held for ever in the new one: there must not be any.
    may_divide = sys.platform == "linux" and threading.active_count() == 1
    if may_divide and part_size_bytes < _SMALL_PART_BYTES:
        with contextlib.suppress(OSError):
            return ProcessHelper(fd, part_size_bytes)
    with contextlib.suppress(OSError):
        return ThreadHelper(fd, part_size_bytes)
    return None


class ThreadHelper(Worker):
    """A helper beside us. Raises OSError where none can be had."""

    def __init__(self, fd: int, part_size_bytes: int) -> None:
        self._answers: SimpleQueue[object] = SimpleQueue()
        super().__init__("hash-parts", self._answers.put)
        self._parts = FileParts(fd, part_size_bytes)
        self._spans: SimpleQueue[range | None] = SimpleQueue()
        start_thread(self)

    def work(self) -> None:
        """Answer until there is nothing more to answer."""
        while (span := self._spans.get()) is not None:
            self._answers.put(self._parts.digests(span))

    def give(self, span: range) -> None:
        """See Helper."""
        self._spans.put(span)

    def take(self, *, wait: bool) -> bytes | None:
        """See Helper."""
        try:
            answer = self._answers.get(block=wait)
        except Empty:
            return None
        if not isinstance(answer, ThreadCrashed):
            assert isinstance(answer, bytes)
            return answer
        if isinstance(answer.error, (OSError, EOFError)):
            raise HelperGoneError from answer.error
        raise answer.error

    def end(self) -> None:
        """See Helper. It does what it was given first."""
        self._spans.put(None)
        self.join()


class ProcessHelper:
    """A helper in a process of its own. Raises OSError where none can be had."""

    def __init__(self, fd: int, part_size_bytes: int) -> None:
        self._part_size_bytes = part_size_bytes
        self._owed_bytes: deque[int] = deque()
        self._answer = bytearray()
        parts = FileParts(fd, part_size_bytes)
        self.line, theirs = socket.socketpair()
        # It never hears of a signal, which would end it with the program's words. It ends when we do.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _serve(theirs, self.line, parts)
        except OSError:
            self.line.close()
            raise
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def give(self, span: range) -> None:
        """See Helper."""
        self._owed_bytes.append(-(-len(span) // self._part_size_bytes) * SHA1_BYTES)
        try:
            self.line.sendall(_SPAN.pack(span.start, span.stop))
        except OSError:
            # That will be noticed where its answer is awaited: there is none.
            self.hang_up()

    def take(self, *, wait: bool) -> bytes | None:
        """See Helper."""
        length = self._owed_bytes[0]
        while len(self._answer) < length:
            try:
                data = self.line.recv(_RECEIVE_BYTES, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                raise HelperGoneError from error
            if not data:
                raise HelperGoneError
            self._answer += data
        self._owed_bytes.popleft()
        answer = bytes(self._answer[:length])
        del self._answer[:length]
        return answer

    def hang_up(self) -> None:
        """Let it end once it notices."""
        self.line.close()

    def end(self) -> None:
        """See Helper."""
        self.hang_up()
        # What may not be killed ends because its line has.
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(line: socket.socket, theirs: socket.socket, parts: FileParts) -> NoReturn:
    """The life of the process. Whatever ends it, it ends here and without a word: it is not the program."""
    try:
        # Else it would hold open what tells it that the program is gone.
        theirs.close()
        while len(asked := line.recv(_SPAN.size, socket.MSG_WAITALL)) == _SPAN.size:
            line.sendall(parts.digests(range(*_SPAN.unpack(asked))))
    finally:
        os._exit(0)
