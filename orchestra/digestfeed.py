"""What the digest thread gets to hash, and when: as it arrives, or read back when there is time.

Pure; owned by the writer. The SHA-1 of the whole is for the user's eyes only:
nobody else can fetch anything sooner for it, while each part that is checked
is news to the swarm. So parts come first. While blocks wait to be written the
digest goes along for the first part of the way; what is left is read back when
nothing waits, or at the end. On a network that is slower than the disk and the
processor nothing ever waits, and nothing is left for the end.
"""

from __future__ import annotations

from orchestra.diskmessages import Along, Finish, ReadBack, Spoilt
from orchestra.messages import Buffer, Inbox, Stop
from orchestra.wire import Blocks

HURRIED_SHARE = 0.62
"""How much of a composition is hashed along the way even while blocks wait. A larger share has the last part
on disk later, a smaller one makes who waits for the whole wait longer after that."""
MAX_LEFT_BYTES = 512 << 20
"""However large the composition, no more is left for the end: it may have to come from a real disk."""
STEP_BYTES = 4 << 20
"""So many are read back for each message: they compete with parts that come meanwhile."""


class DigestFeed:
    """Passes the composition to `digest`, from the first byte to the last; offsets and sizes in bytes."""

    def __init__(self, size_bytes: int, digest: Inbox) -> None:
        self._size_bytes = size_bytes
        self._hurried_bytes = max(int(HURRIED_SHARE * size_bytes), size_bytes - MAX_LEFT_BYTES)
        self._digest = digest
        self._fed_bytes = 0
        self._ready_bytes = 0
        self._spoilt = False
        self._finished = False

    def written(self, buffer: Buffer, runs: list[Blocks], *, hurried: bool) -> None:
        """Pass on what comes next, with its buffer; give back the buffer of anything else.

        `hurried`: more blocks wait to be written.
        """
        is_next = len(runs) == 1 and runs[0].offset == self._fed_bytes and not self._spoilt
        if is_next and (not hurried or self._fed_bytes < self._hurried_bytes):
            self._fed_bytes += runs[0].length
            self._digest.put(Along(buffer, runs[0]))
            self._finish_if_whole()
        else:
            buffer.give_back()

    def read_back(self, writer: Inbox) -> None:
        """Let the digest thread read on from disk, one step; `writer` hears of it."""
        span = self.to_read
        self._fed_bytes = span.stop
        self._digest.put(ReadBack(span, writer))
        self._finish_if_whole()

    def ready(self, up_to_bytes: int) -> None:
        """All parts before `up_to_bytes` are on disk and right."""
        self._ready_bytes = up_to_bytes
        self._finish_if_whole()

    @property
    def to_read(self) -> range:
        """Which bytes to read back and pass on next; empty when there are none."""
        return range(self._fed_bytes, min(self._ready_bytes, self._fed_bytes + STEP_BYTES))

    def _finish_if_whole(self) -> None:
        if self._fed_bytes == self._ready_bytes == self._size_bytes and not self._finished:
            self._finished = True
            self._digest.put(Finish())

    def part_was_wrong(self) -> None:
        """What comes of it may have to be forgotten: from now on only what is on disk counts."""
        if self._fed_bytes and not self._spoilt:
            self._digest.put(Spoilt())
            self._fed_bytes = 0
        self._spoilt = True

    def part_was_lost(self, offset: int) -> None:
        """What was right at byte `offset` is not any more: all is hashed anew, from disk."""
        self._ready_bytes = min(self._ready_bytes, offset)
        self._finished = False
        if self._fed_bytes:
            self._digest.put(Spoilt())
            self._fed_bytes = 0
        self._spoilt = True

    def end(self) -> None:
        """Nothing is passed on any more that would have to be given back."""
        self._digest.put(Stop())
