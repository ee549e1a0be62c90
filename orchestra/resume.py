"""The resume file: which parts on disk were right when it was written, and how the file stood then.

Any thread; the writer and its keeper alone use it. A hint and no more: the
SHA-1s decide. It is believed only when it is whole, of this format, of this
composition, written at a clean end, and when the composition's file has the
same size, time of change and number (inode) as it had then. All else is a
doubt, which the caller answers by hashing everything.

Layout, little-endian: HEADER, a bit a part as BEP 3 has them, then for each
part that was half fetched its number, its number of bytes on disk in runs, and
the runs; at the end the SHA-1 of all before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

from orchestra.messages import NO_HALVES, Halves
from orchestra.score import Score
from orchestra.wire import BLOCK_BYTES

MAGIC = b"ORCHHINT"
VERSION = 1
HEADER = struct.Struct("<8sHH20s20sQQQII")
"""Magic, version, flags, info-hash, SHA-1 of the whole; of the file: size, mtime in ns, inode; how many
parts there are, and how many of them are half fetched."""
CLEAN = 1
"""The flag of one that was written when nothing more was to be."""
LEAST_BYTES = 16 << 20
"""A smaller composition has no resume file: it is hashed sooner than anybody notices."""
FUTURE_NS = 2_000_000_000
"""How far ahead of the clock a file's time may lie: some file systems round up to 2 s."""

_HALF = struct.Struct("<II")
_RUN = struct.Struct("<QQ")
_SUM_BYTES = 20
_MOST_HALVES_BYTES = 1 << 20
_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_WRITE_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_TO_DIGITS = bytes([ord("0")]) + bytes([ord("1")]) * 255
_FROM_DIGITS = bytes(256 * [0])[: ord("1")] + b"\1" + bytes(256 - ord("1") - 1)


class Hint(NamedTuple):
    """What a resume file says. `right`: one byte a part, 1 for a right one; empty when it cannot be read.

    `doubt` says why it must not be believed; empty when it may be.
    """

    right: bytearray
    doubt: str = ""
    halves: Halves = NO_HALVES


class ResumeFile:
    """The resume file of `score` at `path`. Not safe for two threads at a time."""

    def __init__(self, path: Path, score: Score) -> None:
        self.path = path
        self._score = score
        self._identity = (score.info_hash, score.sha1)

    def load(self, status: os.stat_result, now_ns: int) -> Hint | None:
        """What it says, None when there is none. `status`: of the composition's file, open now.

        `now_ns`: the wall clock, in ns since the epoch.
        """
        try:
            data = self._read(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return Hint(bytearray(), f"the resume file cannot be read: {error.strerror or error}")
        return self.parse(data, status, now_ns)

    def parse(self, data: bytes, status: os.stat_result, now_ns: int) -> Hint:
        """What a resume file of these bytes says; whatever is wrong with them is a doubt. As `load` else."""
        if not _is_ours(data):
            return Hint(bytearray(), f"{self.path.name} is no resume file")
        try:
            hint, clean, file = self._parse(data)
        except _UnreadableError as error:
            return Hint(bytearray(), str(error))
        doubt = ""
        if not clean:
            doubt = "it was not closed properly"
        elif status.st_mtime_ns > now_ns + FUTURE_NS:
            doubt = "its time of change lies in the future"
        elif file != _marks(status):
            doubt = "it was changed since"
        return Hint(hint.right, doubt, hint.halves)

    def _read(self, path: Path) -> bytes:
        fd = os.open(path, _READ_FLAGS)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError("not a plain file")
            most = HEADER.size + self._score.parts + _MOST_HALVES_BYTES + _SUM_BYTES
            data = b""
            while len(data) < most and (more := os.read(fd, min(1 << 20, most - len(data)))):
                data += more
            return data
        finally:
            os.close(fd)

    def _parse(self, data: bytes) -> tuple[Hint, bool, tuple[int, int, int]]:
        """Raises _UnreadableError."""
        if len(data) >= 10 and data.startswith(MAGIC) and int.from_bytes(data[8:10], "little") != VERSION:
            raise _UnreadableError("the resume file is of another version")
        body = data[:-_SUM_BYTES]
        if len(data) < HEADER.size + _SUM_BYTES or _checksum(body) != data[-_SUM_BYTES:]:
            raise _UnreadableError("the resume file is damaged")
        fields = HEADER.unpack_from(body)
        flags, identity, file, parts, half_parts = fields[2], fields[3:5], fields[5:8], fields[8], fields[9]
        if identity != self._identity:
            raise _UnreadableError("the resume file is of another composition")
        packed = body[HEADER.size : HEADER.size + (parts + 7) // 8]
        if parts != self._score.parts or len(packed) != (parts + 7) // 8:
            raise _UnreadableError("the resume file is damaged")
        right = _unpack(packed, parts)
        halves = self._parse_halves(body, HEADER.size + len(packed), half_parts, right)
        return Hint(right, halves=halves), bool(flags & CLEAN), file

    def _parse_halves(self, body: bytes, at: int, count: int, right: bytearray) -> Halves:
        halves: dict[int, list[tuple[int, int]]] = {}
        sound = True
        try:
            for _ in range(count):
                index, runs = _HALF.unpack_from(body, at)
                at += _HALF.size
                halves[index] = [_RUN.unpack_from(body, at + number * _RUN.size) for number in range(runs)]
                at += runs * _RUN.size
                sound = sound and not right[index] and self._are_sound(index, halves[index])
        except (struct.error, IndexError):
            sound = False
        if not sound or at != len(body):
            raise _UnreadableError("the resume file is damaged")
        return halves

    def _are_sound(self, index: int, runs: list[tuple[int, int]]) -> bool:
        """Whole blocks in order, not all of the part."""
        length_bytes = self._score.part_length(index)
        end = 0
        for begin, length in runs:
            if begin < end or begin % BLOCK_BYTES or not length:
                return False
            end = begin + length
            if end > length_bytes or (end % BLOCK_BYTES and end < length_bytes):
                return False
        return 0 < sum([length for _, length in runs]) < length_bytes

    def save(self, right: bytearray, status: os.stat_result, *, clean: bool, halves: Halves) -> None:
        """Put a new one in the place of the old, whole or not at all. Raises OSError; the old one stays then.

        What it speaks of must be on the disk already. `status`: of the composition's file.
        """
        self._check_ours(self.path)
        temporary = self._temporary
        try:
            _write_anew(temporary, self.format(right, status, clean=clean, halves=halves))
            temporary.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(self.path.parent)

    def format(self, right: bytearray, status: os.stat_result, *, clean: bool, halves: Halves) -> bytes:
        """The bytes that `parse` reads. As `save` else."""
        body = HEADER.pack(
            MAGIC, VERSION, CLEAN if clean else 0, *self._identity, *_marks(status), len(right), len(halves)
        ) + _pack(right)  # fmt: skip
        for index, runs in halves.items():
            body += _HALF.pack(index, len(runs)) + b"".join([_RUN.pack(*run) for run in runs])
        return body + _checksum(body)

    def remove(self) -> None:
        """There is nothing to resume any more. A file that is not ours stays; so does one that cannot go."""
        self._remove(self.path)
        self.remove_torn()

    def remove_torn(self) -> None:
        """What a kill in `save` has left beside it; called by who alone may save. As `remove` else."""
        self._remove(self._temporary)

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            # O_NOFOLLOW is not everywhere.
            if stat.S_ISREG(os.lstat(path).st_mode):
                self._check_ours(path)
                path.unlink()

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(self.path.name + "~")

    def _check_ours(self, path: Path) -> None:
        """Raises OSError for something at `path` that may be anybody's."""
        with contextlib.suppress(FileNotFoundError):
            if not _is_ours(self._read(path)):
                raise OSError("what is there is no resume file")


class _UnreadableError(Exception):
    """The text says what is wrong with the resume file."""


def sync_folder(folder: Path) -> None:
    """Make renamings in `folder` durable, where the system has a way to (not Windows)."""
    # Some file systems cannot sync a folder; the rename is then as durable as they make it.
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _marks(status: os.stat_result) -> tuple[int, int, int]:
    """What a change changes, each in the 64 bits of HEADER: a number of ReFS has 128, a date any length."""
    low = (1 << 64) - 1
    return status.st_size, status.st_mtime_ns & low, status.st_ino & low


def _is_ours(data: bytes) -> bool:
    return data.startswith(MAGIC) or not any(data)


def _write_anew(path: Path, data: bytes) -> None:
    # What a kill has left of an earlier one. Never opened: it might be a link to somewhere else.
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with open(os.open(path, _WRITE_FLAGS, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _checksum(body: bytes) -> bytes:
    return hashlib.sha1(body, usedforsecurity=False).digest()


def _pack(right: bytearray) -> bytes:
    """One byte a part to one bit a part, the first in the highest bit."""
    if not right:
        return b""
    digits = right.translate(_TO_DIGITS) + b"0" * (-len(right) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def _unpack(packed: bytes, parts: int) -> bytearray:
    digits = bin(int.from_bytes(b"\1" + packed, "big"))[3 : 3 + parts]
    return bytearray(digits.encode().translate(_FROM_DIGITS))
