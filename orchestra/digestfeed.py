"""What the digest thread gets to hash, and when: along in memory, or from disk when there is time.

Pure; owned by the writer. The SHA-1 of the whole is for the user's eyes only:
nobody else can fetch anything sooner for it, while each part that is checked
is news to the swarm. So parts come first. While blocks wait to be written the
digest goes along for the first part of the way; what is left is hashed when
nothing waits, or at the end. On a network that is slower than the disk and the
processor nothing ever waits, and nothing is left for the end.
"""

from __future__ import annotations

from orchestra.messages import Along, Buffer, Digest, Inbox, Spoilt, Stop
from orchestra.wire import Blocks

HURRIED_SHARE = 0.6
"""How much of a composition is hashed along the way even while blocks wait. A larger share has the last part
on disk later, a smaller one makes who waits for the whole wait longer after that."""


class DigestFeed:
    """Tells `digest` what to do; offsets and sizes in bytes."""

    def __init__(self, size_bytes: int, digest: Inbox) -> None:
        self._size_bytes = size_bytes
        self._hurried_bytes = int(HURRIED_SHARE * size_bytes)
        self._digest = digest
        self._along_bytes = 0
        self._spoilt = False
        self._ready_bytes = -1
        self._told_bytes = -1

    def written(self, buffer: Buffer, runs: list[Blocks], *, hurried: bool) -> None:
        """Pass on what came in order from the start, with its buffer; give back the buffer of anything else.

        `hurried`: more blocks wait to be written.
        """
        in_order = len(runs) == 1 and runs[0].offset == self._along_bytes and not self._spoilt
        if in_order and (not hurried or self._along_bytes < self._hurried_bytes):
            self._along_bytes += runs[0].length
            self._digest.put(Along(buffer, runs[0]))
        else:
            buffer.give_back()

    def ready(self, up_to_bytes: int, *, hurried: bool) -> None:
        """All parts before `up_to_bytes` are on disk and right."""
        self._ready_bytes = up_to_bytes
        whole = up_to_bytes == self._size_bytes
        self._follow(min(up_to_bytes, self._hurried_bytes) if hurried and not whole else up_to_bytes)

    def idle(self) -> None:
        """Nothing waits to be written: let the digest catch up."""
        self._follow(self._ready_bytes)

    def _follow(self, up_to_bytes: int) -> None:
        if up_to_bytes > self._told_bytes:
            self._told_bytes = up_to_bytes
            self._digest.put(Digest(up_to_bytes))

    def part_was_wrong(self) -> None:
        """What comes of it may have to be forgotten: from now on only what is on disk counts."""
        if self._along_bytes and not self._spoilt:
            self._digest.put(Spoilt())
        self._spoilt = True

    def end(self) -> None:
        """Nothing is passed on any more that would have to be given back."""
        self._digest.put(Stop())
