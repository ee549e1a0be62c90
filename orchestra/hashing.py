"""The SHA-1 of a file and of its parts, on two cores.

`hash_file` hashes the whole file in the calling thread, and its parts in one
more: hashlib lets go of the GIL, and the whole-file hash, which cannot be
divided, is the floor. Each thread reads for itself what it hashes: from memory
that another processor has just filled, hashing takes half as long again. Both
are at the same place, within a few MiB, so that a disk reads everything once.
It neither returns nor raises before its thread has ended, and reports progress
from the calling thread only.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

from orchestra.positioned import read_up_to
from orchestra.worker import ThreadCrashed, Worker

_WHOLE_READ_BYTES = 1 << 20
_SMALL_PART_BYTES = 64 * 1024
_FEWER_READS_BYTES = 4 << 20
"""Beside small parts, whose thread is the later one, the whole is read so much at a time: less of it stays in
the cache, but the other thread is disturbed less often."""
_PARTS_READ_BYTES = 512 * 1024
"""Stays in a processor's cache until it is hashed; with less the two threads wait more for one another."""
_SPAN_BYTES = 4 << 20
_SPANS_APART = 2
"""How far the two may be from one another."""


class FileHashes(NamedTuple):
    """What a file gave: `part_sha1s` is 20 bytes a part, `size_bytes` what could be read."""

    sha1: bytes
    part_sha1s: bytes
    size_bytes: int


def hash_file(
    file: io.FileIO, size_bytes: int, part_size_bytes: int, *, on_progress: Callable[[int], None]
) -> FileHashes:
    """Read `file` from its start to `size_bytes` or its end, and hash it whole and in parts.

    Its position is where that was, then. `on_progress` gets the number of bytes
    hashed so far; what it raises ends the work. A file that ends early is no
    error here: compare `size_bytes`. Raises OSError when reading fails.
    """
    fd = file.fileno()
    whole = hashlib.sha1(usedforsecurity=False)
    parts = PartHasher(part_size_bytes)
    helper = _Helper(fd, parts)
    small = part_size_bytes < _SMALL_PART_BYTES
    memory = memoryview(bytearray(_FEWER_READS_BYTES if small else _WHOLE_READ_BYTES))
    read_bytes = under_way = 0
    helper.start()
    try:
        for start in range(0, size_bytes, _SPAN_BYTES):
            span = range(start, min(start + _SPAN_BYTES, size_bytes))
            if under_way == _SPANS_APART:
                helper.await_span()
                under_way -= 1
            helper.inbox.put(span)
            under_way += 1
            span_bytes = _hash_span(fd, span, memory, whole.update)
            read_bytes += span_bytes
            on_progress(read_bytes)
            if span_bytes < len(span):
                break
        for _ in range(under_way):
            helper.await_span()
    finally:
        helper.finish()
    file.seek(read_bytes)
    # Who shrinks a file while it is read leaves less for one of the two.
    return FileHashes(whole.digest(), parts.digests(), min(read_bytes, helper.read_bytes))


def _hash_span(fd: int, span: range, memory: memoryview, update: Callable[[memoryview], None]) -> int:
    """Hash bytes `span` of a file, through `memory`; how many of them were there."""
    # Each line counts: while it runs, the other thread may not even begin to hash another part.
    for position in range(span.start, span.stop, len(memory)):
        view = memory if position + len(memory) <= span.stop else memory[: span.stop - position]
        length = read_up_to(fd, view, position)
        if length < len(view):
            update(view[:length])
            return position + length - span.start
        update(view)
    return len(span)


class _Helper(Worker):
    """Hashes the parts of the spans that it is given, one after the other, and reports each."""

    def __init__(self, fd: int, parts: PartHasher) -> None:
        self._reports: SimpleQueue[object] = SimpleQueue()
        super().__init__("hash-parts", self._reports.put)
        self._fd = fd
        self._parts = parts
        self.inbox: SimpleQueue[range | None] = SimpleQueue()
        self.read_bytes = 0
        """What it has read, once it has ended."""

    def work(self) -> None:
        memory = memoryview(bytearray(_PARTS_READ_BYTES))
        while (span := self.inbox.get()) is not None:
            self.read_bytes += _hash_span(self._fd, span, memory, self._parts.update)
            self._reports.put(None)

    def await_span(self) -> None:
        """Wait until the oldest span is done; raise what ended the thread instead."""
        report = self._reports.get()
        if isinstance(report, ThreadCrashed):
            raise report.error

    def finish(self) -> None:
        """Let the thread end after what it was given, and wait for it."""
        self.inbox.put(None)
        self.join()


class PartHasher:
    """SHA-1 of each part of a stream, however the stream is cut into buffers."""

    def __init__(self, part_size_bytes: int) -> None:
        self._part_size_bytes = part_size_bytes
        self._digests = bytearray()
        self._open = hashlib.sha1(usedforsecurity=False)
        self._open_bytes = 0

    def update(self, buffer: memoryview) -> None:
        """Take the next bytes of the stream."""
        position = 0
        if self._open_bytes:
            position = min(self._part_size_bytes - self._open_bytes, len(buffer))
            self._extend_open(buffer[:position])
        whole_end = len(buffer) - (len(buffer) - position) % self._part_size_bytes
        # The hot loop: with parts of 16 KiB it runs 65,536 times a GiB.
        sha1, step = hashlib.sha1, self._part_size_bytes
        self._digests += b"".join(
            [
                sha1(buffer[begin : begin + step], usedforsecurity=False).digest()
                for begin in range(position, whole_end, step)
            ]
        )
        if whole_end < len(buffer):
            self._extend_open(buffer[whole_end:])

    def _extend_open(self, piece: memoryview) -> None:
        self._open.update(piece)
        self._open_bytes += len(piece)
        if self._open_bytes == self._part_size_bytes:
            self._close()

    def _close(self) -> None:
        self._digests += self._open.digest()
        self._open = hashlib.sha1(usedforsecurity=False)
        self._open_bytes = 0

    def digests(self) -> bytes:
        """The SHA-1s of all parts; the stream has ended."""
        if self._open_bytes:
            self._close()
        return bytes(self._digests)
