"""What grows with the number of parts, each in a process of its own.

`peer_scale.py make PARTS FILE ORCH` writes a sparse file and its .orch,
`parse ORCH` times the parser, `pick PARTS` the picker. Results are one event.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from orchestra.bitfield import Bitfield  # noqa: E402 - a script in a folder beside the package
from orchestra.picker import Picker  # noqa: E402
from orchestra.score import Score, format_score, parse_score  # noqa: E402

PART_BYTES = 1024
"""Small, so that a million of them are a file that a member can reserve space for and check."""


def say(event: str, **fields: object) -> None:
    """One line on stdout, in one write."""
    os.write(1, (json.dumps({"event": event, **fields}) + "\n").encode())


def make(parts: int, file: Path, orch: Path) -> None:
    """A file of zeros that takes no space, and its .orch."""
    zeros = bytes(PART_BYTES)
    whole = hashlib.sha1()
    for _ in range(parts):
        whole.update(zeros)
    with file.open("wb") as sparse:
        sparse.truncate(parts * PART_BYTES)
    score = Score(
        conductors=(("127.0.0.1", 1),),
        name=file.name,
        sha1=whole.digest(),
        size_bytes=parts * PART_BYTES,
        part_size_bytes=PART_BYTES,
        part_sha1s=hashlib.sha1(zeros).digest() * parts,
    )
    orch.write_bytes(format_score(score))
    say("made")


def parse(orch: Path) -> None:
    """The time to parse."""
    data = orch.read_bytes()
    began_s = time.perf_counter()
    parse_score(data, orch.name)
    say("parsed", wall_s=time.perf_counter() - began_s)


def pick(parts: int) -> None:
    """The time to take every part from missing to there, from three kinds of peers."""
    complete = Bitfield(parts)
    for index in range(parts):
        complete.add(index)
    numbers = random.Random(0)
    half = Bitfield(parts)
    for index in range(parts):
        if numbers.random() < 0.5:
            half.add(index)
    in_order, rarest, partial = (Picker(parts, random.Random(1)) for _ in range(3))
    in_order.in_order = True
    partial.count_peer(half)
    say(
        "picked",
        in_order_s=_pick_all(in_order, [complete]) / parts,
        rarest_s=_pick_all(rarest, [complete]) / parts,
        # A peer with half of the parts and one with all of them, in turn: the rare ones run out at one.
        partial_s=_pick_all(partial, [half, complete]) / parts,
    )


def _pick_all(picker: Picker, peers: list[Bitfield]) -> float:
    """Pick from the peers in turn until nothing is missing; seconds."""
    began_s = time.perf_counter()
    while picker.missing:
        for have in peers:
            parts = picker.pick(have)
            picker.mark_checking(parts)
            picker.mark_arrived(parts)
    return time.perf_counter() - began_s


def main() -> None:
    """Do one of them."""
    mode, *arguments = sys.argv[1:]
    if mode == "make":
        make(int(arguments[0]), Path(arguments[1]), Path(arguments[2]))
    elif mode == "parse":
        parse(Path(arguments[0]))
    else:
        pick(int(arguments[0]))


if __name__ == "__main__":
    main()
