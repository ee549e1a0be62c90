"""Bencode (BEP 3), strictly: a thin wall around the bencode2 package.

Pure; any thread. `decode` is fed by strangers: trackers, peers, .torrent
files. It checks nesting and the length of every number with a loop, before the
library recurses, so that neither its compiled form (on the small stack of a
thread) nor its Python form can be driven out of bounds. Nothing is allocated
by a declared length. The caller bounds the length of what it hands in.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import bencode2

from orchestra.text import safe

MAX_DEPTH = 100

Bencoded: TypeAlias = "int | bytes | list[Bencoded] | dict[bytes, Bencoded]"
"""What `decode` returns; narrow it with isinstance before use."""

# One token: a container opens, one closes, an integer of at most 20 digits, or the length before a string.
_TOKEN = re.compile(rb"([ld])|(e)|i-?[0-9]{1,20}e|([0-9]{1,10}):")


def encode(value: object) -> bytes:
    """Bencode `value`: int, bytes, str (as UTF-8), and lists, tuples and dicts of these.

    Keys are sorted by their bytes. TypeError for anything else.
    """
    return bencode2.bencode(value)


def decode(data: bytes) -> Bencoded:
    """Decode one bencoded value that fills `data`; dictionaries have bytes keys.

    Raises ValueError, with a text safe to print, for anything but the one
    canonical form: leading zeros, unsorted or doubled keys, trailing bytes,
    lengths beyond the end, integers of more than 20 digits, nesting deeper
    than MAX_DEPTH.
    """
    _check_shape(data)
    try:
        value: Bencoded = bencode2.bdecode(data)
    except IndexError:
        # The library's pure Python form, for platforms without a compiled one, meets the end like this.
        raise ValueError("not bencode: it ends too early") from None
    except ValueError as error:
        raise ValueError(f"not bencode: {safe(str(error), 160)}") from None
    return value


def _check_shape(data: bytes) -> None:
    """Walk over the tokens; raise ValueError for what the library should not be shown."""
    position = depth = 0
    while position < len(data):
        token = _TOKEN.match(data, position)
        if token is None:
            raise ValueError(f"not bencode: byte {position} begins nothing that could stand there")
        position = token.end()
        opens, closes, string_length = token.groups()
        if opens:
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"not bencode that we read: nested deeper than {MAX_DEPTH}")
        elif closes:
            depth -= 1
        elif string_length:
            position += int(string_length)
    if depth != 0 or position != len(data):
        raise ValueError("not bencode: it ends too early")
