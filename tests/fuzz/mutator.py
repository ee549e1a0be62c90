"""Makes one input out of others: flips, cuts, repeats, splices. All chance comes from the caller's `rng`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

ODD_BYTES = b"\x00\x01\x07\t\n\r\x1b %&+-/09:=\\deil\x7f\x80\x85\xff"
ODD_WORDS = (
    *(
        number.to_bytes(4, "big")
        for number in (0, 1, 9, 13, 16384, 16385, 2**20 + 1, 2**31 - 1, 2**31, 2**32 - 1)
    ),
    *(number.to_bytes(2, "big") for number in (0, 1, 255, 256, 65535)),
    *(
        str(number).encode()
        for number in (0, -1, 1, 65535, 65536, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, 10**19)
    ),
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xef\xbc\x91",
    b"\xc2\x85",
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"\r\n",
    b"1_0",
    b"+1",
)
MOST_CHANGES = 6

_Change = Callable[[bytearray, random.Random], None]


def mutate(data: bytes, others: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> bytes:
    """`data`, changed in one to MOST_CHANGES places. `others`: inputs from which pieces may come."""
    changed = bytearray(data)
    for _ in range(1 + int(rng.random() ** 3 * MOST_CHANGES)):
        dice = rng.random()
        if dice < 0.2:
            _put(changed, _some(ODD_WORDS, tokens, rng), rng)
        elif dice < 0.28:
            other = others[int(rng.random() * len(others))]
            start, stop = _span(len(other), rng)
            _put(changed, other[start:stop], rng)
        else:
            _CHANGES[int((dice - 0.28) / 0.72 * len(_CHANGES))](changed, rng)
    return bytes(changed)


def _some(words: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> bytes:
    chosen = tokens if tokens and rng.random() < 0.6 else words
    return chosen[int(rng.random() * len(chosen))]


def _span(length: int, rng: random.Random) -> tuple[int, int]:
    """Where a piece begins and ends: mostly a short one."""
    start = int(rng.random() * (length + 1))
    return start, min(length, start + 1 + int(rng.random() ** 4 * length))


def _put(data: bytearray, piece: bytes, rng: random.Random) -> None:
    """Insert a piece, or write it over what is there."""
    start = int(rng.random() * (len(data) + 1))
    stop = start if rng.random() < 0.5 else start + len(piece)
    data[start:stop] = piece


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[int(rng.random() * len(data))] ^= 1 << int(rng.random() * 8)


def _replace(data: bytearray, rng: random.Random) -> None:
    if data:
        data[int(rng.random() * len(data))] = int(rng.random() * 256)


def _odd(data: bytearray, rng: random.Random) -> None:
    if data:
        data[int(rng.random() * len(data))] = ODD_BYTES[int(rng.random() * len(ODD_BYTES))]


def _step(data: bytearray, rng: random.Random) -> None:
    if data:
        place = int(rng.random() * len(data))
        data[place] = (data[place] + (1 if rng.random() < 0.5 else 255)) & 255


def _insert(data: bytearray, rng: random.Random) -> None:
    data.insert(int(rng.random() * (len(data) + 1)), int(rng.random() * 256))


def _delete(data: bytearray, rng: random.Random) -> None:
    start, stop = _span(len(data), rng)
    del data[start:stop]


def _repeat(data: bytearray, rng: random.Random) -> None:
    start, stop = _span(len(data), rng)
    data[stop:stop] = data[start:stop] * (1 + int(rng.random() ** 6 * 50))


def _move(data: bytearray, rng: random.Random) -> None:
    start, stop = _span(len(data), rng)
    piece = data[start:stop]
    del data[start:stop]
    place = int(rng.random() * (len(data) + 1))
    data[place:place] = piece


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[int(rng.random() * (len(data) + 1)) :]


_CHANGES: tuple[_Change, ...] = (
    _flip, _flip, _replace, _odd, _step, _insert, _delete, _delete, _repeat, _move, _cut,
)  # fmt: skip
