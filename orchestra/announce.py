"""The question that a member asks a conductor: an announce or a scrape, as a query string.

Pure; any thread. BEP 3 names the fields, BEP 23 `compact`, BEP 48 the scrape.
The conductor reads strictly (a field that it uses must be there once, whole and
in range) and ignores fields that it does not use; `ip` and `ipv6` are among
those: a member is where it speaks from. announcereply.py has the answers.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from orchestra.text import safe

MAX_QUERY_BYTES = 4096
MAX_SCRAPE_HASHES = 50
HASH_BYTES = 20

EVENTS = ("", "started", "completed", "stopped")
# BEP 3 lets "empty" stand for no event; BEP 21 has "paused" for a member that wants no more.
_REGULAR_EVENTS = {b"": "", b"empty": "", b"paused": ""}
_EVENTS = {event.encode(): event for event in EVENTS} | _REGULAR_EVENTS

_AMOUNT = re.compile(rb"[0-9]{1,19}")
_PORT = re.compile(rb"[0-9]{1,5}")
_WANTED = re.compile(rb"[0-9]{1,9}")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_USED = frozenset(
    b"info_hash peer_id port uploaded downloaded left event numwant compact no_peer_id".split()
)  # fmt: skip


class AnnounceProblem(ValueError):
    """A query that cannot be answered. The text is safe and goes out as the `failure reason`."""


class AnnounceQuery(NamedTuple):
    """One announce. `wanted` is None when the member leaves the number to the conductor.

    `compact` False asks for dictionaries instead of packed addresses, `with_ids`
    for the peer ids in them.
    """

    info_hash: bytes
    peer_id: bytes
    port: int
    uploaded_bytes: int
    downloaded_bytes: int
    left_bytes: int
    event: str = ""
    wanted: int | None = None
    compact: bool = True
    with_ids: bool = True


def format_announce(query: AnnounceQuery) -> str:
    """The query string (without "?") that asks this; `parse_announce` reads it back."""
    fields = {
        "info_hash": quote_from_bytes(query.info_hash, safe=""),
        "peer_id": quote_from_bytes(query.peer_id, safe=""),
        "port": query.port,
        "uploaded": query.uploaded_bytes,
        "downloaded": query.downloaded_bytes,
        "left": query.left_bytes,
        "compact": int(query.compact),
    }
    if query.event:
        fields["event"] = query.event
    if query.wanted is not None:
        fields["numwant"] = query.wanted
    if not query.with_ids:
        fields["no_peer_id"] = 1
    return "&".join(f"{name}={value}" for name, value in fields.items())


def parse_announce(query: bytes) -> AnnounceQuery:
    """Read a query string as it came (percent-encoded, without "?"). Raises AnnounceProblem."""
    fields: dict[bytes, bytes] = {}
    for name, value in _fields(query):
        if name in fields:
            raise AnnounceProblem(f"{name.decode()} is given more than once")
        if name in _USED:
            fields[name] = value
    return AnnounceQuery(
        info_hash=_hash(_required(fields, b"info_hash"), "info_hash"),
        peer_id=_hash(_required(fields, b"peer_id"), "peer_id"),
        port=_port(_required(fields, b"port")),
        uploaded_bytes=_amount(fields, b"uploaded"),
        downloaded_bytes=_amount(fields, b"downloaded"),
        left_bytes=_amount(fields, b"left"),
        event=_event(fields.get(b"event", b"")),
        wanted=_wanted(fields.get(b"numwant", b"")),
        compact=_flag(fields, b"compact", default=True),
        with_ids=not _flag(fields, b"no_peer_id", default=False),
    )


def parse_scrape(query: bytes) -> tuple[bytes, ...]:
    """The info hashes that a scrape asks for (BEP 48), at least one. Raises AnnounceProblem.

    A scrape of everything, as some trackers allow, is refused: whoever does not
    know a hash has no business with its members.
    """
    hashes = [_hash(value, "info_hash") for name, value in _fields(query) if name == b"info_hash"]
    if not hashes:
        raise AnnounceProblem("info_hash is missing")
    if len(hashes) > MAX_SCRAPE_HASHES:
        raise AnnounceProblem(f"more than {MAX_SCRAPE_HASHES} info_hash at once")
    return tuple(dict.fromkeys(hashes))


def _fields(query: bytes) -> list[tuple[bytes, bytes]]:
    """Names and decoded values, in order. A plus sign is a plus sign (RFC 3986), not a blank."""
    if len(query) > MAX_QUERY_BYTES:
        raise AnnounceProblem(f"the query is longer than {MAX_QUERY_BYTES} bytes")
    if _BAD_ESCAPE.search(query):
        raise AnnounceProblem("a percent sign without two hexadecimal digits")
    pairs = [piece.partition(b"=") for piece in query.split(b"&") if piece]
    return [(name, unquote_to_bytes(value)) for name, _, value in pairs]


def _required(fields: dict[bytes, bytes], name: bytes) -> bytes:
    try:
        return fields[name]
    except KeyError:
        raise AnnounceProblem(f"{name.decode()} is missing") from None


def _hash(value: bytes, name: str) -> bytes:
    if len(value) != HASH_BYTES:
        raise AnnounceProblem(f"{name} has {len(value)} bytes instead of {HASH_BYTES}")
    return value


def _port(value: bytes) -> int:
    if not _PORT.fullmatch(value) or not 1 <= int(value) <= 65535:
        raise AnnounceProblem("port is not a number from 1 to 65535")
    return int(value)


def _amount(fields: dict[bytes, bytes], name: bytes) -> int:
    value = _required(fields, name)
    if not _AMOUNT.fullmatch(value):
        raise AnnounceProblem(f"{name.decode()} is not a number of bytes")
    return int(value)


def _event(value: bytes) -> str:
    try:
        return _EVENTS[value]
    except KeyError:
        raise AnnounceProblem(f"unknown event: {safe(value, 40)}") from None


def _wanted(value: bytes) -> int | None:
    if value in (b"", b"-1"):  # -1 stands for "you choose" in BEP 15, and comes over HTTP too
        return None
    if not _WANTED.fullmatch(value):
        raise AnnounceProblem("numwant is not a number")
    return int(value)


def _flag(fields: dict[bytes, bytes], name: bytes, *, default: bool) -> bool:
    value = fields.get(name)
    if value is None:
        return default
    if value not in (b"0", b"1"):
        raise AnnounceProblem(f"{name.decode()} is neither 0 nor 1")
    return value == b"1"
