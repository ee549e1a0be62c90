"""The file that the benchmarks move, with its .orch and .torrent for each part size. Main thread.

Random bytes, on /dev/shm where there is one, so that no disk is measured. Made
once for all runs, removed at the end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netutils import Address
from orchestra.hashing import hash_file
from orchestra.metainfo import torrent_bytes
from orchestra.regular import open_regular
from orchestra.score import Score, format_score

MIB = 1 << 20
NOBODY: Address = ("127.0.0.1", 1)
_SHARED_MEMORY = Path("/dev/shm")


def in_memory(folder: Path) -> bool:
    """Whether files there are kept in memory, as far as we know."""
    return folder.is_relative_to(_SHARED_MEMORY)


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder of our own in memory, else where temporary files go; removed at the end."""
    memory = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(dir=memory, prefix="orchestra-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class Composition:
    """The file at `path`, which lies alone in its folder, cut into parts of one size."""

    path: Path
    score: Score

    @property
    def folder(self) -> Path:
        """Where it lies: a seeder's folder."""
        return self.path.parent

    def write_orch(self, folder: Path, conductor: Address = NOBODY) -> Path:
        """Write its .orch with that conductor into `folder`."""
        path = folder / f"{self.score.name}.orch"
        path.write_bytes(format_score(self.score.conducted_by(conductor)))
        return path

    def write_torrent(self, folder: Path, conductor: Address = NOBODY) -> Path:
        """Write its .torrent with that tracker into `folder`."""
        path = folder / f"{self.score.name}.torrent"
        path.write_bytes(torrent_bytes(self.score.conducted_by(conductor)))
        return path


def write_random(path: Path, size_bytes: int) -> None:
    """Make a file of random bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size_bytes, MIB):
            file.write(os.urandom(min(MIB, size_bytes - start)))


def cut(path: Path, part_size_bytes: int) -> Composition:
    """The file at `path` as a composition with parts of that size."""
    with open_regular(path) as file:
        hashes = hash_file(file, path.stat().st_size, part_size_bytes, on_progress=lambda _: None)
    score = Score(
        conductors=(NOBODY,),
        name=path.name,
        sha1=hashes.sha1,
        size_bytes=hashes.size_bytes,
        part_size_bytes=part_size_bytes,
        part_sha1s=hashes.part_sha1s,
    )
    return Composition(path, score)
