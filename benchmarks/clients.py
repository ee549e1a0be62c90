"""Who takes part in a swarm: how each is started as anyone would, and what its lines say. Pure.

What they say becomes three events, the same for all: `up` when it listens,
`figures` with what it has uploaded so far, and `done` when the last part is
verified and on disk (or `figures` with `whole`, in which ours says it).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.aria2 import SEEDING, command_of, parse_echo
from benchmarks.contenders import HERE
from benchmarks.processes import Event, parse_json

PORT = 6881
RPC_PORT = 6800
FIGURES_S = 0.2
"""How often a client of which that can be chosen says what it has uploaded."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One member's place: its host's address, its folder, the file's metadata, whose member.py is ours."""

    address: str
    folder: Path
    logs: Path
    orch: Path
    torrent: Path
    ours: Path
    seeds: bool


@dataclass(frozen=True, slots=True)
class Client:
    """A program. `command` starts it on a seat, `parse` makes an event of a line of its stdout.

    `asked`: it says neither that it is up nor what it uploads, and is asked over its JSON-RPC.
    """

    name: str
    command: Callable[[Seat], list[str]]
    parse: Callable[[bytes], Event | None]
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays what: the leechers by turns."""

    name: str
    seeder: Client
    leechers: Sequence[Client]

    def leecher(self, number: int) -> Client:
        """Who is the leecher of that number."""
        return self.leechers[number % len(self.leechers)]


def all_of(client: Client) -> Cast:
    """All members are of one kind."""
    return Cast(client.name, client, [client])


# Ours


def _start_ours(seat: Seat) -> list[str]:
    options = ["--dir", str(seat.folder), "--json", "-q", "--log-dir", str(seat.logs)]
    return [sys.executable, str(seat.ours / "member.py"), str(seat.orch), *options]


def parse_ours(line: bytes) -> Event | None:
    """What an event of member.py --json comes to."""
    event = parse_json(line)
    if event is None:
        return None
    if event["event"] == "listening":
        return {"event": "up"}
    if event["event"] == "progress":
        return {
            "event": "figures",
            "uploaded_bytes": event["uploaded_bytes"],
            "whole": event["parts_done"] == event["parts"],
        }
    return event


# libtorrent


def _libtorrent(name: str, mode: str, *, super_seeds: bool = False) -> Client:
    def command(seat: Seat) -> list[str]:
        options = ["--listen", f"{seat.address}:{PORT}", "--figures", str(FIGURES_S)]
        options += ["--super-seed"] if seat.seeds and super_seeds else []
        script = str(HERE / "peer_libtorrent.py")
        return [sys.executable, script, mode, str(seat.torrent), str(seat.folder), *options]

    return Client(name, command, parse_libtorrent)


def parse_libtorrent(line: bytes) -> Event | None:
    """What an event of peer_libtorrent.py comes to: it is up when it has checked what it has."""
    event = parse_json(line)
    return {"event": "up"} if event is not None and event["event"] == "ready" else event


OURS = Client("ours", _start_ours, parse_ours)
STOCK = _libtorrent("libtorrent stock", "stock")
TUNED = _libtorrent("libtorrent tuned", "tuned")
SUPER_SEEDING = _libtorrent("libtorrent stock, super-seeding", "stock", super_seeds=True)


# aria2


def _start_aria2(seat: Seat) -> list[str]:
    remote = ("--enable-rpc", "--rpc-listen-all", f"--rpc-listen-port={RPC_PORT}")
    seeding = SEEDING if seat.seeds else ()
    return command_of(PORT, *remote, *seeding, f"--dir={seat.folder}", str(seat.torrent))


ARIA2 = Client("aria2", _start_aria2, parse_echo, asked=True)

ALL = [
    all_of(OURS),
    all_of(STOCK),
    all_of(TUNED),
    Cast("libtorrent super-seeding", SUPER_SEEDING, [STOCK]),
    all_of(ARIA2),
]
MIXED = [
    Cast("ours and libtorrent from ours", OURS, [OURS, STOCK]),
    Cast("ours and libtorrent from libtorrent", STOCK, [STOCK, OURS]),
]
