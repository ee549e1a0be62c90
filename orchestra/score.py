"""The .orch format: what a composition is, read from and written to text.

Pure but for `read_score`; any thread. docs/orch-format.md describes the format,
scorelines.py takes the lines apart. Whatever makes a Score, its constructor
judges the values: there is no second way in.
"""

from __future__ import annotations

import binascii
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from netutils import Address, format_address, parse_address
from orchestra import bencode
from orchestra.errors import ScoreError, StorageError
from orchestra.names import NameProblem, check_name
from orchestra.regular import NotRegularError, open_regular
from orchestra.scorelines import (
    MAX_LINE_BYTES,
    MAX_SCORE_BYTES,
    SHA1_BYTES,
    SHA1_LINE_BYTES,
    FieldProblem,
    Lines,
)
from orchestra.text import safe

MAX_SIZE_BYTES = 2**53
MAX_PARTS = (MAX_SCORE_BYTES - 2 * MAX_LINE_BYTES) // SHA1_LINE_BYTES
"""So many parts fit into a .orch, whatever its header."""

_SMALLEST_DEFAULT_PART_BYTES = 16 * 1024
_MOST_DEFAULT_PARTS = 16 * 1024
_LINES_A_PIECE = 1024


class Score:
    """A composition of one file. Raises FieldProblem for values that the format does not allow.

    `part_sha1s` holds the SHA-1s of all parts in order, 20 bytes each, without
    separators. `info_hash` (20 bytes) is the SHA-1 of the bencoded info
    dictionary (BEP 3): it names the swarm. Conductors and `sha1` are not in it.
    """

    def __init__(
        self,
        conductors: tuple[Address, ...],
        name: str,
        sha1: bytes,
        size_bytes: int,
        part_size_bytes: int,
        part_sha1s: bytes,
    ) -> None:
        self.conductors: Final = conductors
        self.name: Final = name
        self.sha1: Final = sha1
        self.size_bytes: Final = size_bytes
        self.part_size_bytes: Final = part_size_bytes
        self.part_sha1s: Final = part_sha1s
        _check(self)
        # Computed once: with 10^6 parts it is a SHA-1 over 20 MB.
        self.info_hash: Final = self._info_hash()

    def __eq__(self, other: object) -> bool:
        """Whether all values are the same, line 1 included."""
        return isinstance(other, Score) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def conducted_by(self, *conductors: Address) -> Score:
        """The same composition with another line 1."""
        return Score(conductors, self.name, self.sha1, self.size_bytes, self.part_size_bytes, self.part_sha1s)

    def _info_hash(self) -> bytes:
        """The SHA-1 of the bencoded info dictionary, without a copy of the SHA-1s of all parts."""
        info = self.info_dictionary()
        # Its keys are in order, this one is the last.
        del info[b"pieces"]
        sha1 = hashlib.sha1(bencode.encode(info)[:-1], usedforsecurity=False)
        sha1.update(b"6:pieces%d:" % len(self.part_sha1s))
        sha1.update(self.part_sha1s)
        sha1.update(b"e")
        return sha1.digest()

    @property
    def parts(self) -> int:
        """Number of parts: ceil(size / part size), 0 for an empty composition."""
        return part_count(self.size_bytes, self.part_size_bytes)

    def part_length(self, index: int) -> int:
        """Bytes in part `index`; only the last one may be shorter."""
        return min(self.part_size_bytes, self.size_bytes - index * self.part_size_bytes)

    def part_sha1(self, index: int) -> bytes:
        """The SHA-1 (20 bytes) that part `index` must have."""
        return self.part_sha1s[index * SHA1_BYTES : (index + 1) * SHA1_BYTES]

    def info_dictionary(self) -> dict[bytes, object]:
        """The BEP 3 info dictionary of this composition."""
        return {
            b"length": self.size_bytes,
            b"name": self.name.encode("utf-8"),
            b"piece length": self.part_size_bytes,
            b"pieces": self.part_sha1s,
        }


def part_count(size_bytes: int, part_size_bytes: int) -> int:
    """How many parts `size_bytes` make: ceil(size / part size)."""
    return -(-size_bytes // part_size_bytes)


def default_part_size(size_bytes: int) -> int:
    """The part size when none is asked for: 16 KiB, doubled until there are at most 16,384 parts."""
    part_size_bytes = _SMALLEST_DEFAULT_PART_BYTES
    while part_count(size_bytes, part_size_bytes) > _MOST_DEFAULT_PARTS:
        part_size_bytes *= 2
    return part_size_bytes


# Line 1


def parse_conductors(text: str) -> tuple[Address, ...]:
    """Read HOST:PORT, or several separated by commas; blanks around each are dropped.

    Raises ValueError with a reason that is safe to print and says how to write it.
    """
    if len(text) > MAX_LINE_BYTES:
        raise ValueError(f"the conductors take more than {MAX_LINE_BYTES} characters")
    return tuple(_parse_conductor(item.strip(" \t")) for item in text.split(","))


def _parse_conductor(text: str) -> Address:
    if not text:
        raise ValueError("a conductor is missing: write HOST:PORT, several separated by commas")
    if "/" in text:
        raise ValueError(f'conductor "{safe(text)}": write HOST:PORT, without http:// and without a path')
    try:
        return parse_address(text)
    except ValueError as error:
        raise ValueError(f'conductor "{safe(text)}": {error}') from None


def format_conductors(conductors: Iterable[Address]) -> str:
    """Write line 1: commas without blanks."""
    return ",".join(format_address(conductor) for conductor in conductors)


# The whole text


def score_pieces(score: Score) -> Iterator[bytes]:
    """The text of a .orch, piece by piece: LF at the end of each line, hex digits in lower case."""
    header = (
        format_conductors(score.conductors),
        score.name,
        score.sha1.hex(),
        str(score.size_bytes),
        str(score.part_size_bytes),
        str(score.parts),
    )
    yield "".join(f"{line}\n" for line in header).encode("utf-8")
    # Little at a time: memory that was not touched before takes longer to get than to fill.
    step = _LINES_A_PIECE * SHA1_BYTES
    for start in range(0, len(score.part_sha1s), step):
        yield binascii.hexlify(score.part_sha1s[start : start + step], "\n", SHA1_BYTES) + b"\n"


def format_score(score: Score) -> bytes:
    """The text of a .orch, whole."""
    return b"".join(score_pieces(score))


def parse_score(data: bytes, source: str) -> Score:
    """Read the text of a .orch. Raises ScoreError, which names `source` and the line."""
    return _parse(io.BytesIO(data), source, len(data))


def read_score(path: Path) -> Score:
    """Read a .orch file, a chunk at a time.

    Raises ScoreError for what is no .orch (a folder or a pipe is none), and
    StorageError when the file is missing or cannot be read.
    """
    source = str(path)
    try:
        with io.BufferedReader(open_regular(path)) as file:
            return _parse(file, source, os.fstat(file.fileno()).st_size)
    except NotRegularError as error:
        raise ScoreError(f"{safe(source)}: {error.strerror}") from None
    except OSError as error:
        raise StorageError(f"{safe(source)}: cannot read the .orch: {error.strerror}") from error


def _parse(stream: BinaryIO, source: str, length_bytes: int) -> Score:
    if length_bytes > MAX_SCORE_BYTES:
        raise ScoreError(f"{safe(source)}: larger than a .orch may be (64 MiB)")
    try:
        return _parse_lines(Lines(stream))
    except FieldProblem as problem:
        raise ScoreError(f"{safe(source)}: line {problem.line}: {problem}") from None


def _parse_lines(lines: Lines) -> Score:
    """Each value is judged before the next line is read: the first wrong line is the one that is named."""
    conductors = _checked_conductors(lines.text("the conductor"))
    name = lines.text("the name")
    _check_name(name)
    sha1 = lines.sha1("the SHA-1 of the composition")
    size_bytes = lines.number("the size in bytes")
    _check_size(size_bytes)
    part_size_bytes = lines.number("the part size in bytes")
    check_part_size(size_bytes, part_size_bytes)
    parts = lines.number("the number of parts")
    expected = part_count(size_bytes, part_size_bytes)
    if parts != expected:
        reason = f"{parts} parts, but {size_bytes} bytes in parts of {part_size_bytes} make {expected}"
        raise FieldProblem(6, reason)
    return Score(conductors, name, sha1, size_bytes, part_size_bytes, lines.part_sha1s(parts))


# What a Score may hold


def _check(score: Score) -> None:
    """Raise FieldProblem for the first value, in the order of the lines, that is not allowed."""
    if _checked_conductors(format_conductors(score.conductors)) != score.conductors:
        raise FieldProblem(1, "the conductors cannot be written as HOST:PORT")
    _check_name(score.name)
    if len(score.sha1) != SHA1_BYTES:
        raise FieldProblem(3, f"the SHA-1 of the composition has {len(score.sha1)} bytes, not {SHA1_BYTES}")
    _check_size(score.size_bytes)
    check_part_size(score.size_bytes, score.part_size_bytes)
    if len(score.part_sha1s) != score.parts * SHA1_BYTES:
        raise FieldProblem(6, f"{len(score.part_sha1s)} bytes of SHA-1s for {score.parts} parts")


def _checked_conductors(line: str) -> tuple[Address, ...]:
    try:
        return parse_conductors(line)
    except ValueError as error:
        raise FieldProblem(1, str(error)) from None


def _check_name(name: str) -> None:
    try:
        check_name(name)
    except NameProblem as problem:
        raise FieldProblem(2, str(problem)) from None


def _check_size(size_bytes: int) -> None:
    if not 0 <= size_bytes <= MAX_SIZE_BYTES:
        raise FieldProblem(4, f"the size in bytes must be from 0 to {MAX_SIZE_BYTES}, not {size_bytes}")


def check_part_size(size_bytes: int, part_size_bytes: int) -> None:
    """Raise FieldProblem unless a composition of `size_bytes` may have parts of `part_size_bytes`."""
    if not 1 <= part_size_bytes <= MAX_SIZE_BYTES:
        reason = f"the part size in bytes must be from 1 to {MAX_SIZE_BYTES}, not {part_size_bytes}"
        raise FieldProblem(5, reason)
    if part_count(size_bytes, part_size_bytes) > MAX_PARTS:
        smallest = part_count(size_bytes, MAX_PARTS)
        reason = f"parts of {part_size_bytes} make a .orch of more than 64 MiB: use {smallest} or more"
        raise FieldProblem(5, reason)
