"""The file as a whole: how far its SHA-1 has been asked for, when it gets its name, what goes bad in it.

Pure; owned by the orchestrator, which passes on what the methods return.
"""

from __future__ import annotations

from orchestra.bitfield import Bitfield
from orchestra.errors import ScoreError, StorageError
from orchestra.geometry import Geometry
from orchestra.messages import Digest, Install, Recheck
from orchestra.text import safe


class WholeFile:
    """`have`: the parts that are on disk and right. `kept`: the file will be shared on when it is whole."""

    def __init__(self, geometry: Geometry, have: Bitfield, sha1: bytes, *, path: str, kept: bool) -> None:
        self._geometry = geometry
        self._have = have
        self._sha1 = sha1
        self._path = safe(path, 4096)
        self._kept = kept
        self._prefix_parts = 0
        self._digested_bytes = 0
        self._rechecked = False
        self._lost_since = False
        """Whether a part was lost since each was to be hashed again."""
        self.final = False
        """It has its name, or is about to get it: nobody may write into it any more."""
        self.damage: StorageError | None = None
        """What has gone bad in it since."""

    def digest_more(self) -> Digest | None:
        """What the writer is to be told, if more parts are there without a gap from the start."""
        have, geometry = self._have, self._geometry
        self._prefix_parts = have.end_of_run(self._prefix_parts)
        ready_bytes = min(self._prefix_parts * geometry.part_size_bytes, geometry.size_bytes)
        if ready_bytes <= self._digested_bytes and self._prefix_parts < have.parts:
            return None
        self._digested_bytes = ready_bytes
        return Digest(ready_bytes)

    def digested(self, sha1: bytes) -> Install | Recheck | None:
        """The SHA-1 of the whole: what the writer is to do now. Raises ScoreError when line 3 is wrong."""
        if self.final or not self._have.complete:
            return None  # Something was lost meanwhile, and it will be hashed once more.
        if sha1 == self._sha1:
            self.final = True
            return Install(self._kept)
        if self._rechecked:
            raise _line_3_is_wrong()
        # Before line 3 is to blame: what was right once may have gone bad on the disk since.
        self._rechecked, self._lost_since = True, False
        return Recheck()

    def rechecked(self, right: bytearray) -> list[int]:
        """Each part was hashed again: those that are not right any more; the digest begins anew.

        Raises ScoreError if all are right. Not if the reader has found a wrong one meanwhile, which may even
        have come anew: then the whole was wrong because of that.
        """
        lost = [index for index, good in enumerate(right) if not good and index in self._have]
        if not lost and not self._lost_since:
            raise _line_3_is_wrong()
        self._prefix_parts = self._digested_bytes = 0
        return lost

    def lost(self, indices: list[int]) -> str:
        """These parts, at least one, are not right any more; what to tell the user, if it is news."""
        if not self.final:
            self._lost_since = True
            self._prefix_parts = min(self._prefix_parts, *indices)
            self._digested_bytes = self._prefix_parts * self._geometry.part_size_bytes
            return ""
        first = self.damage is None
        parts = f"{self._have.parts - self._have.count} of its {self._have.parts} parts"
        self.damage = StorageError(f"{self._path} was changed, or cannot be read: {parts} are not right")
        return f"{self.damage}: they are not shared any more" if first else ""


def _line_3_is_wrong() -> ScoreError:
    text = "every part is right, but the whole is not what line 3 says: ask for a right .orch file"
    return ScoreError(text)
