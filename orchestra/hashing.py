"""The SHA-1 of a file and of its parts, on two cores.

`hash_file` hashes the whole file in the calling thread, and has a helper for its
parts: hashlib lets go of the GIL, and the whole-file hash, which cannot be
divided, is the floor. Small parts take longer than the whole: what the helper
does not get done meanwhile, the calling thread does. Each reads for itself what
it hashes: from memory that another processor has just filled, hashing takes half
as long again. Both are at the same place, within a few MiB, so that a disk reads
everything once.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from orchestra.hashhelper import Helper, HelperGoneError, make_helper
from orchestra.parthash import FileParts, PartHasher
from orchestra.positioned import read_up_to

_READ_BYTES = 1 << 20
_SPAN_BYTES = 4 << 20
_APART_BYTES = 12 << 20
"""How far the helper may be behind."""


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
    error here: compare `size_bytes`. Raises OSError when reading fails. The
    helper has ended when it returns or raises.
    """
    fd = file.fileno()
    whole = hashlib.sha1(usedforsecurity=False)
    memory = memoryview(bytearray(_READ_BYTES))
    span_bytes = max(1, _SPAN_BYTES // part_size_bytes) * part_size_bytes
    parts = _Parts(FileParts(fd, part_size_bytes), span_bytes)
    read_bytes = 0
    try:
        if size_bytes > span_bytes:
            parts.helper = make_helper(fd, part_size_bytes)
        while read_bytes < size_bytes:
            span = range(read_bytes, min(read_bytes + span_bytes, size_bytes))
            ours = None if parts.give(span) else PartHasher(part_size_bytes)
            for view in _views(fd, span, memory):
                whole.update(view)
                if ours is not None:
                    ours.update(view)
                read_bytes += len(view)
                on_progress(read_bytes)
            if ours is not None:
                parts.put(span.start, ours.digests())
            if read_bytes < span.stop:
                size_bytes = read_bytes
        part_sha1s = parts.all(size_bytes)
    finally:
        parts.end()
    file.seek(read_bytes)
    # Who shrinks a file while it is read leaves less for one of the two.
    return FileHashes(whole.digest(), part_sha1s, min(read_bytes, parts.end_bytes))


def _views(fd: int, span: range, memory: memoryview) -> Iterator[memoryview]:
    """Bytes `span` of a file, or those up to its end, one `memory` full after the other."""
    for start in range(span.start, span.stop, len(memory)):
        view = memory[: span.stop - start]
        length = read_up_to(fd, view, start)
        yield view[:length]
        if length < len(view):
            return


class _Parts:
    """The SHA-1s of all parts: those of `helper`, once there is one, and those that are `put` here.

    A span begins where a part does, and has `span_bytes` but at the end of the file.
    `looker` finds out what the helper was given and does not answer.
    """

    def __init__(self, looker: FileParts, span_bytes: int) -> None:
        self.helper: Helper | None = None
        self._looker = looker
        self._given: deque[range] = deque()
        self._most_given = max(1, _APART_BYTES // span_bytes)
        self._waits = span_bytes > _SPAN_BYTES
        """Better than to do so much alone."""
        self._digests: dict[int, bytes] = {}
        """Those of each span, by where it begins."""
        self.end_bytes = sys.maxsize
        """Where the file ended when we looked."""

    def give(self, span: range) -> bool:
        """Let the helper have `span`; False when it has enough to do."""
        while self._given and self._take(wait=self._waits and len(self._given) == self._most_given):
            pass
        if self.helper is None or len(self._given) == self._most_given:
            return False
        self.helper.give(span)
        self._given.append(span)
        return True

    def put(self, start: int, digests: bytes) -> None:
        """Those of the span that begins there."""
        self._digests[start] = digests

    def all(self, end_bytes: int) -> bytes:
        """Those of the whole file, which ends there."""
        self._given = deque(range(span.start, min(span.stop, end_bytes)) for span in self._given)
        while self._given:
            self._take(wait=True)
        return b"".join(digests for _, digests in sorted(self._digests.items()))

    def end(self) -> None:
        """The helper ends, if it has not."""
        if self.helper is not None:
            self.helper.end()
            self.helper = None

    def _take(self, *, wait: bool) -> bool:
        """Take the helper's oldest answer; False where there is none."""
        assert self.helper is not None
        try:
            digests = self.helper.take(wait=wait)
        except HelperGoneError:
            self.end()
            self._look()
            return False
        if digests is None:
            return False
        self.put(self._given.popleft().start, digests)
        return True

    def _look(self) -> None:
        """The helper owes what it was given."""
        while self._given:
            span = self._given.popleft()
            try:
                self.put(span.start, self._looker.digests(span))
            except EOFError:
                self.end_bytes = min(self.end_bytes, span.start)
