"""Bencode (BEP 3), strictly.

Pure; any thread. `decode` is fed by strangers: trackers, peers, .torrent
files. It recurses into nothing and allocates nothing by a declared length.
The caller bounds the length of what it hands in.

Our own, since it is our wire: a wall around a package (nesting, lengths,
digits) is nearly as long, and all that it is made of is loaded at each start.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TypeAlias

MAX_DEPTH = 100

Bencoded: TypeAlias = "int | bytes | list[Bencoded] | dict[bytes, Bencoded]"
"""What `decode` returns; narrow it with isinstance before use."""

# One token: the length before a string, an integer of at most 20 digits, a container opens, one closes.
_TOKEN = re.compile(rb"(0|[1-9][0-9]{0,9}):|i(0|-?[1-9][0-9]{0,19})e|([ld])|e")


def encode(value: object) -> bytes:
    """Bencode `value`: int, bytes, str (as UTF-8), and lists, tuples and dicts of these.

    Keys, bytes or str, are sorted by their bytes. TypeError for anything else.
    """
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, str):
        return encode(value.encode("utf-8"))
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, dict):
        items = {key.encode("utf-8") if isinstance(key, str) else key: item for key, item in value.items()}
        return b"d%be" % b"".join([b"%d:%b%b" % (len(key), key, encode(items[key])) for key in sorted(items)])
    if isinstance(value, (list, tuple)):
        return b"l%be" % b"".join(map(encode, value))
    raise TypeError(f"bencode has no form for {type(value).__name__}")


def decode(data: bytes) -> Bencoded:
    """Decode one bencoded value that fills `data`; dictionaries have bytes keys.

    Raises ValueError, with a text safe to print, for anything but the one
    canonical form: leading zeros, unsorted or doubled keys, trailing bytes,
    lengths beyond the end, integers of more than 20 digits, nesting deeper
    than MAX_DEPTH.
    """
    values: list[Bencoded] = []
    """What stands in the innermost container that is open, or outside of all."""
    around: list[tuple[list[Bencoded], bytes]] = []
    """The same of those around it, and what opened the next one in."""
    position = 0
    while position < len(data):
        token = _TOKEN.match(data, position)
        if token is None or (values and not around):
            raise ValueError(f"not bencode: byte {position} begins nothing that could stand there")
        position = token.end()
        string_length, integer, opener = token.groups()
        if string_length:
            start, position = position, position + int(string_length)
            values.append(data[start:position])
        elif integer:
            values.append(int(integer))
        elif opener:
            around.append((values, opener))
            values = []
            if len(around) > MAX_DEPTH:
                raise ValueError(f"not bencode that we read: nested deeper than {MAX_DEPTH}")
        elif around:
            inner = values
            values, opener = around.pop()
            values.append(inner if opener == b"l" else _dictionary(inner))
        else:
            raise ValueError("not bencode: more ends than begins")
    if around or not values or position > len(data):
        raise ValueError("not bencode: it ends too early")
    return values[0]


def _dictionary(values: list[Bencoded]) -> dict[bytes, Bencoded]:
    """Of keys and values in turn. ValueError where a key is no string, or not after the one before it."""
    keys = values[::2]
    names = [key for key in keys if isinstance(key, bytes)]
    if len(names) != len(keys) or len(values) % 2:
        raise ValueError("not bencode: a dictionary needs a string, then a value, and so on")
    if any(key >= following for key, following in pairwise(names)):
        raise ValueError("not bencode: the keys of a dictionary are doubled, or not in order")
    return dict(zip(names, values[1::2], strict=True))
