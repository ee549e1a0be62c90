"""The SHA-1 of a file and of its parts, in one read, on two cores.

`hash_file` reads in the calling thread and hashes in two more: hashlib lets go
of the GIL, and the whole-file hash, which cannot be divided, is the floor. It
neither returns nor raises before its threads have ended, and reports progress
from the calling thread only. Memory is a ring of fixed buffers.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import ExitStack
from queue import SimpleQueue
from typing import NamedTuple

from orchestra import memory
from orchestra.worker import ThreadCrashed, Worker

_RING_BUFFERS = 32
_RING_BUFFER_BYTES = 1 << 20
"""Enough that no thread idles while another is off its processor: fewer were up to a tenth slower."""


class FileHashes(NamedTuple):
    """What one read of a file gave: `part_sha1s` is 20 bytes a part, `size_bytes` what was read."""

    sha1: bytes
    part_sha1s: bytes
    size_bytes: int


def hash_file(
    file: io.FileIO, size_bytes: int, part_size_bytes: int, *, on_progress: Callable[[int], None]
) -> FileHashes:
    """Read `file` once, from its position to `size_bytes` or its end, and hash it whole and in parts.

    `on_progress` gets the number of bytes read so far; what it raises ends the
    work. A file that ends early is no error here: compare `size_bytes`.
    Raises OSError when reading fails.
    """
    whole = hashlib.sha1(usedforsecurity=False)
    parts = PartHasher(part_size_bytes)
    hashers = (_Hasher("hash-whole", whole.update), _Hasher("hash-parts", parts.update))
    with ExitStack() as stack:
        for hasher in hashers:
            hasher.start()
            stack.callback(hasher.finish)
        read_bytes = _feed(file, size_bytes, hashers, on_progress)
    return FileHashes(whole.digest(), parts.digests(), read_bytes)


class _Hasher(Worker):
    """Hands every buffer it is given to `update`, and reports each one that is free again."""

    def __init__(self, name: str, update: Callable[[memoryview], None]) -> None:
        self._reports: SimpleQueue[object] = SimpleQueue()
        super().__init__(name, self._reports.put)
        self._update = update
        self.inbox: SimpleQueue[memoryview | None] = SimpleQueue()

    def work(self) -> None:
        while (buffer := self.inbox.get()) is not None:
            self._update(buffer)
            self._reports.put(None)

    def await_free(self) -> None:
        """Wait until the oldest buffer is free; raise what ended the thread instead."""
        report = self._reports.get()
        if isinstance(report, ThreadCrashed):
            raise report.error

    def finish(self) -> None:
        """Let the thread end after what it was given, and wait for it."""
        self.inbox.put(None)
        self.join()


def _feed(
    file: io.FileIO, size_bytes: int, hashers: tuple[_Hasher, ...], on_progress: Callable[[int], None]
) -> int:
    """Read into a ring of buffers, each of which is used again when all hashers are done with it."""
    # No more than the file fills: new memory costs time.
    buffers = max(1, min(_RING_BUFFERS, -(-size_bytes // _RING_BUFFER_BYTES)))
    whole = memory.fresh(buffers * _RING_BUFFER_BYTES)
    ring = [whole[n * _RING_BUFFER_BYTES : (n + 1) * _RING_BUFFER_BYTES] for n in range(buffers)]
    read_bytes = turns = in_use = 0
    while read_bytes < size_bytes:
        if in_use == len(ring):
            for hasher in hashers:
                hasher.await_free()
            in_use -= 1
        buffer = ring[turns % len(ring)]
        length = file.readinto(buffer[: size_bytes - read_bytes])
        if not length:
            break
        turns += 1
        in_use += 1
        read_bytes += length
        for hasher in hashers:
            hasher.inbox.put(buffer[:length])
        on_progress(read_bytes)
    for _ in range(in_use):
        for hasher in hashers:
            hasher.await_free()
    return read_bytes


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
        for begin in range(position, whole_end, step):
            self._digests += sha1(buffer[begin : begin + step], usedforsecurity=False).digest()
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
