"""A download that is killed again and again, and what it had promised by then.

A part is promised once a peer was told of it (`have`, bitfield) or a progress
event counted it. Whatever comes, it must be on disk after the kill, and the
next start must find it there. Nothing here knows how a member remembers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from tests.compositions import Composition
from tests.programs import Program, Programs
from tests.scriptedpeer import ScriptedPeer


class Download:
    """Starts one download over and over with the same command, into `folder`.

    The witness is a curious peer that has nothing: it is told of each part.
    """

    def __init__(
        self, programs: Programs, composition: Composition, folder: Path, witness: ScriptedPeer
    ) -> None:
        self.promised: set[int] = set()
        """Parts that a peer was told of."""
        self.counted = 0
        """Parts that a progress event has counted; which ones it does not say."""
        self.folder = folder
        self._programs = programs
        self._composition = composition
        self._witness = witness
        self._heard_before = 0

    def start(self, orch: Path, *options: str, env: dict[str, str] | None = None) -> Program:
        """The member, anew."""
        self._heard_before = len(self._witness.told)
        words = ["--dir", str(self.folder), "--port", "0", "--peer", self._witness.name, *options]
        return self._programs.start("member", orch, *words, env=env)

    def ended(self, member: Program) -> None:
        """The member has ended or was killed: everything promised is on disk, and it knew what was."""
        progress = [event["parts_done"] for event in member.events if event["event"] == "progress"]
        if progress:
            found = progress[0]
            assert found >= len(self.promised), f"{found} parts found of {len(self.promised)}"
            assert found >= self.counted, f"{found} parts found of {self.counted}"
        for told in self._witness.told[self._heard_before :]:
            self.promised |= told
        self.counted = max([self.counted, *progress])
        right = parts_on_disk(self._composition, self.folder)
        lost = self.promised - right
        assert not lost, f"not on disk any more: parts {sorted(lost)}"
        assert len(right) >= self.counted, f"{len(right)} parts on disk of {self.counted}"

    def finished(self) -> bool:
        """Whether the composition stands in the folder, whole and right, and nothing beside it."""
        name = self._composition.score.name
        return os.listdir(self.folder) == [name] and self._composition.is_at(self.folder / name)


def parts_on_disk(composition: Composition, folder: Path) -> set[int]:
    """The parts that are right in NAME, or else in NAME.part."""
    score = composition.score
    paths = [folder / score.name, folder / f"{score.name}.part"]
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        return set()
    with found.open("rb") as file:
        return {
            part
            for part in range(score.parts)
            if hashlib.sha1(file.read(score.part_length(part))).digest()
            == score.part_sha1s[20 * part : 20 * part + 20]
        }


def small_files(folder: Path, besides: Sequence[str]) -> tuple[int, int]:
    """How many other files there are in a folder, and their bytes."""
    others = [path for path in folder.iterdir() if path.name not in besides]
    return len(others), sum(path.stat().st_size for path in others)


class Rationed:
    """An answer for a ScriptedPeer: right blocks, and nothing any more after so many bytes."""

    def __init__(self, left_bytes: int = 0) -> None:
        self.left_bytes = left_bytes

    def __call__(self, _part: int, _begin: int, block: bytes) -> bytes | None:
        """The block, or None."""
        if self.left_bytes < len(block):
            return None
        self.left_bytes -= len(block)
        return block
