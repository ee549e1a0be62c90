"""A target for resume files, which may be anybody's, or half of one."""

from __future__ import annotations

import os
import random
import stat
import struct
from pathlib import Path

from orchestra.resume import HEADER, MAGIC, Hint, ResumeFile, _checksum, _is_ours
from orchestra.score import Score
from orchestra.wire import BLOCK_BYTES
from tests.fakes import score_of
from tests.fuzz.target import Target

NOW_NS = 1_700_000_000 * 10**9
STATUS = os.stat_result(
    (stat.S_IFREG | 0o644, 4711, 1, 1, 0, 0, 650_000, 0, 0, 0), {"st_mtime_ns": NOW_NS - 10**9}
)
CHANGED = os.stat_result(
    (stat.S_IFREG | 0o644, 4711, 1, 1, 0, 0, 650_000, 0, 0, 0), {"st_mtime_ns": NOW_NS - 10**9 + 1}
)
SCORES = tuple(
    score_of(bytes(size_bytes), part_size_bytes)
    for size_bytes, part_size_bytes in ((650_000, 50_000), (1 << 20, 65_536), (100_000, 7), (1, 1), (0, 1))
)
SUM_BYTES = 20


def _read(data: bytes) -> tuple[ResumeFile, bytes]:
    """The first byte of an input says whose resume file it is, and whether its checksum is put right."""
    choice = data[0] if data else 0
    score = SCORES[choice % len(SCORES)]
    body = data[1:]
    if choice < 192 and len(body) >= SUM_BYTES:
        body = body[:-SUM_BYTES] + _checksum(body[:-SUM_BYTES])
    return ResumeFile(Path("piece.resume"), score), body


def check_resume(data: bytes) -> str:
    """Any bytes are a Hint: with a doubt, or within its bounds and the same when it is written and read."""
    file, body = _read(data)
    hint = file.parse(body, STATUS, NOW_NS)
    assert hint.doubt.isprintable()
    assert hint.doubt or file.parse(body, CHANGED, NOW_NS).doubt, "it is believed of a file that was changed"
    assert file.parse(body, STATUS, 0).doubt, "it is believed of a file of the future"
    if not hint.right and hint.doubt:
        assert not hint.halves
        return hint.doubt
    assert _is_ours(body)
    _check_bounds(hint, file._score)
    for clean in (False, True):
        written = file.format(hint.right, STATUS, clean=clean, halves=hint.halves)
        again = file.parse(written, STATUS, NOW_NS)
        assert (again.right, again.halves) == (hint.right, hint.halves)
        assert bool(again.doubt) != clean
    return f"{hint.doubt} {min(hint.right.count(1), 2)} {min(len(hint.halves), 2)}"


def _check_bounds(hint: Hint, score: Score) -> None:
    assert len(hint.right) == score.parts
    assert not hint.right.strip(b"\0\1")
    for index, runs in hint.halves.items():
        assert not hint.right[index]
        length_bytes, end = score.part_length(index), 0
        for begin, length in runs:
            assert end <= begin < begin + length <= length_bytes
            end = begin + length
            assert not begin % BLOCK_BYTES
            assert not end % BLOCK_BYTES or end == length_bytes
        assert 0 < sum(length for _, length in runs) < length_bytes


def make_resume(rng: random.Random) -> bytes:
    choice = rng.randrange(192)
    score = SCORES[choice % len(SCORES)]
    if score.parts > 1000 and rng.random() < 0.9:
        choice, score = 0, SCORES[0]
    right = bytearray(rng.choices((0, 1), k=score.parts))
    halves: dict[int, list[tuple[int, int]]] = {}
    for index in rng.sample(range(score.parts), min(score.parts, rng.randrange(3))):
        blocks = score.part_length(index) // BLOCK_BYTES
        if blocks and not right[index]:
            held = sorted(rng.sample(range(blocks), rng.randrange(1, blocks + 1)))
            halves[index] = [(block * BLOCK_BYTES, BLOCK_BYTES) for block in held]
    status = STATUS if rng.random() < 0.9 else CHANGED
    file = ResumeFile(Path("piece.resume"), score)
    return bytes([choice]) + file.format(right, status, clean=rng.random() < 0.8, halves=halves)


RESUMES = (
    Target(
        "resume",
        check_resume,
        make_resume,
        (
            MAGIC,
            b"\1\0\1\0",
            b"\2\0",
            struct.pack("<QQ", 0, BLOCK_BYTES),
            struct.pack("<QQ", BLOCK_BYTES, BLOCK_BYTES),
            struct.pack("<II", 1, 1),
            struct.pack("<II", 3, 2**32 - 1),
            struct.pack("<Q", 650_000),
            bytes(HEADER.size),
        ),
        20_000,
    ),
)
