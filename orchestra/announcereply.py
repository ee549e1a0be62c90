"""The conductor's answer: how it is written, and how a member reads it.

Pure; any thread. Bencoded dictionaries: BEP 3, packed addresses in `peers`
(BEP 23) and `peers6` (BEP 7), the scrape (BEP 48). The member side trusts
nothing in a reply: counts and intervals are bounded, addresses that cannot be
dialled are dropped, foreign text is escaped.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import NamedTuple

from netutils import Address, normal_host, unpack_peers
from orchestra import bencode
from orchestra.addresses import can_dial, is_loopback
from orchestra.bencode import Bencoded
from orchestra.text import safe

MAX_REPLY_BYTES = 256 * 1024
MAX_REPLY_MEMBERS = 50
"""As many as a member asks for. More would only be a list of victims to dial."""
DEFAULT_INTERVAL_S = 1800.0  # for a tracker that names none, as other clients have it
DEFAULT_MIN_INTERVAL_S = 60.0
MAX_INTERVAL_S = 86_400.0


class Counts(NamedTuple):
    """How a swarm stands: seeds, other members, and how many have completed it here (BEP 48)."""

    complete: int = 0
    incomplete: int = 0
    downloaded: int = 0


class Answer(NamedTuple):
    """What an announce is answered with.

    `v4` and `v6` are packed addresses; `peer_ids`, when known, has their peer
    ids, those of `v4` first. `warning` is shown to the member's user.
    """

    interval_s: int
    min_interval_s: int
    counts: Counts
    v4: bytes = b""
    v6: bytes = b""
    peer_ids: tuple[bytes, ...] = ()
    warning: str = ""


class Reply(NamedTuple):
    """What a member learns from a conductor. Counts are -1 where it gave none; `warning` is safe to print."""

    members: tuple[Address, ...]
    interval_s: float
    min_interval_s: float
    seeders: int
    leechers: int
    warning: str


class ReplyProblem(ValueError):
    """The conductor refused, or what it answered is no answer. The text is safe to print."""


# The conductor writes


def format_answer(answer: Answer, *, compact: bool, with_ids: bool = True) -> bytes:
    """The body of the reply to an announce: packed addresses, or dictionaries if asked for."""
    reply: dict[str, object] = {
        "interval": answer.interval_s,
        "min interval": answer.min_interval_s,
        "complete": answer.counts.complete,
        "incomplete": answer.counts.incomplete,
    }
    if compact:
        reply["peers"] = answer.v4
        if answer.v6:
            reply["peers6"] = answer.v6
    else:
        reply["peers"] = _dictionaries(answer, with_ids=with_ids)
    if answer.warning:
        reply["warning message"] = answer.warning
    return bencode.encode(reply)


def format_failure(reason: str) -> bytes:
    """The body that refuses an announce or a scrape, and says why (BEP 3, BEP 48)."""
    return bencode.encode({"failure reason": reason})


def format_scrape(files: Mapping[bytes, Counts]) -> bytes:
    """The body of the reply to a scrape."""
    return bencode.encode(
        {
            "files": {
                info_hash: {
                    "complete": counts.complete,
                    "downloaded": counts.downloaded,
                    "incomplete": counts.incomplete,
                }
                for info_hash, counts in files.items()
            }
        }
    )


def _dictionaries(answer: Answer, *, with_ids: bool) -> list[dict[str, object]]:
    addresses = unpack_peers(answer.v4, socket.AF_INET) + unpack_peers(answer.v6, socket.AF_INET6)
    peers: list[dict[str, object]] = [{"ip": host, "port": port} for host, port in addresses]
    if with_ids:
        for peer, peer_id in zip(peers, answer.peer_ids, strict=True):
            peer["peer id"] = peer_id
    return peers


# The member reads


def parse_reply(body: bytes, *, loopback: bool) -> Reply:
    """Read the reply to an announce, at most MAX_REPLY_BYTES. Raises ReplyProblem.

    `loopback` says that the conductor itself is on this machine: else addresses
    on it come from nobody who means well (or from a member that nobody can reach).
    """
    if len(body) > MAX_REPLY_BYTES:
        raise ReplyProblem(f"the reply is longer than {MAX_REPLY_BYTES} bytes")
    try:
        reply = bencode.decode(body)
    except ValueError as error:
        raise ReplyProblem(f"the reply is {error}") from None
    if not isinstance(reply, dict):
        raise ReplyProblem("the reply is not a dictionary")
    if b"failure reason" in reply:
        raise ReplyProblem(f"refused: {_text(reply, b'failure reason') or 'no reason given'}")
    members = [
        address
        for address in dict.fromkeys(_members(reply))
        if can_dial(address) and (loopback or not is_loopback(address[0]))
    ]
    interval_s = _seconds(reply, b"interval", DEFAULT_INTERVAL_S)
    return Reply(
        members=tuple(members[:MAX_REPLY_MEMBERS]),
        interval_s=interval_s,
        min_interval_s=_seconds(reply, b"min interval", min(DEFAULT_MIN_INTERVAL_S, interval_s)),
        seeders=_count(reply, b"complete"),
        leechers=_count(reply, b"incomplete"),
        warning=_text(reply, b"warning message"),
    )


def _members(reply: dict[bytes, Bencoded]) -> list[Address]:
    """All addresses of the reply, unchecked; a list that is cut in the middle of an address is no list."""
    peers, peers6 = reply.get(b"peers", b""), reply.get(b"peers6", b"")
    try:
        found = unpack_peers(peers6, socket.AF_INET6) if isinstance(peers6, bytes) else []
        if isinstance(peers, bytes):
            return unpack_peers(peers, socket.AF_INET) + found
    except ValueError as error:
        raise ReplyProblem(f"the list of members is broken: {error}") from None
    if isinstance(peers, list):
        return [address for peer in peers if (address := _member(peer)) is not None] + found
    raise ReplyProblem("the list of members is broken")


def _member(peer: Bencoded) -> Address | None:
    """One member of a list of dictionaries (BEP 3), or None."""
    if not isinstance(peer, dict):
        return None
    host, port = peer.get(b"ip"), peer.get(b"port")
    if not isinstance(host, bytes) or not isinstance(port, int) or len(host) > 45 or not host.isascii():
        return None
    return normal_host(host.decode()), port


def _seconds(reply: dict[bytes, Bencoded], name: bytes, default_s: float) -> float:
    value = reply.get(name)
    if not isinstance(value, int) or value <= 0:
        return default_s
    return min(float(value), MAX_INTERVAL_S)


def _count(reply: dict[bytes, Bencoded], name: bytes) -> int:
    value = reply.get(name)
    return value if isinstance(value, int) and value >= 0 else -1


def _text(reply: dict[bytes, Bencoded], name: bytes) -> str:
    value = reply.get(name)
    return safe(value) if isinstance(value, bytes) else ""
