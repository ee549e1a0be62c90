"""Compositions for tests: a file with reproducible bytes, and its .orch, made quickly.

The bytes are random, so that nothing on the way can save itself work by their
regularity, and every part differs from every other one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from netutils import Address
from orchestra.hashing import hash_file
from orchestra.metainfo import torrent_bytes
from orchestra.regular import open_regular
from orchestra.score import Score, format_score

MIB = 1 << 20
NOBODY: Address = ("127.0.0.1", 1)
"""A conductor that never answers: nobody listens on port 1."""


@dataclass(frozen=True)
class Composition:
    """A file on disk and what a .orch says of it. `folder` is where it lies: a seeding member's --dir."""

    path: Path
    score: Score

    @property
    def folder(self) -> Path:
        return self.path.parent

    def conducted_by(self, *conductors: Address) -> Composition:
        """The same composition with another line 1."""
        return Composition(self.path, self.score.conducted_by(*conductors))

    def write_orch(self, folder: Path, name: str = "") -> Path:
        """Write the .orch into `folder`; returns its path."""
        path = folder / f"{name or self.score.name}.orch"
        path.write_bytes(format_score(self.score))
        return path

    def write_torrent(self, folder: Path) -> Path:
        """Write the .torrent into `folder`; returns its path."""
        path = folder / f"{self.score.name}.torrent"
        path.write_bytes(torrent_bytes(self.score))
        return path

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this composition, to the byte."""
        if path.stat().st_size != self.score.size_bytes:
            return False
        with path.open("rb") as file:
            digest = hashlib.sha1()
            while data := file.read(MIB):
                digest.update(data)
        return digest.digest() == self.score.sha1


def compose(
    folder: Path,
    size_bytes: int,
    part_size_bytes: int,
    *,
    name: str = "piece.bin",
    conductors: Iterable[Address] = (NOBODY,),
    seed: int = 0,
) -> Composition:
    """Make a file of `size_bytes` in `folder` and hash it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    numbers = random.Random(seed)
    with path.open("wb") as file:
        for start in range(0, size_bytes, MIB):
            file.write(numbers.randbytes(min(MIB, size_bytes - start)))
    with open_regular(path) as opened:
        hashes = hash_file(opened, size_bytes, part_size_bytes, on_progress=lambda _: None)
    score = Score(tuple(conductors), name, hashes.sha1, size_bytes, part_size_bytes, hashes.part_sha1s)
    return Composition(path, score)
