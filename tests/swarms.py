"""A whole orchestra of real processes: a conductor, members around it, and what the conductor knows."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from netutils import Address, format_address
from orchestra import bencode
from tests.compositions import Composition
from tests.programs import PATIENCE_S, Program, Programs

_ONE_LOOK_S = 0.02


class Orchestra:
    """A conductor on a free port, and one composition that it conducts. Files go below `folder`.

    `options` are the conductor's: `--interval 1` where a test needs members to speak up again soon.
    """

    def __init__(
        self, programs: Programs, composition: Composition, *options: str, host: str = "127.0.0.1"
    ) -> None:
        self.programs = programs
        self.folder = programs.folder
        self._host = host
        self._options = options
        self.conductor = programs.start("conductor", "--host", host, "--port", "0", *options)
        self.address: Address = (host, self.conductor.wait_for_event("listening")["port"])
        self.composition = composition.conducted_by(self.address)
        self.orch = self.composition.write_orch(self.folder)

    @property
    def torrent(self) -> Path:
        """The same composition as a .torrent, for foreign clients."""
        return self.composition.write_torrent(self.folder)

    def restart_conductor(self) -> None:
        """Another conductor on the same port, which knows nobody."""
        self.conductor.kill()
        self.start_conductor().wait_for_event("listening")

    def start_conductor(self) -> Program:
        """The same, in place of one that is dead already; it may not listen yet."""
        port = str(self.address[1])
        self.conductor = self.programs.start(
            "conductor", "--host", self._host, "--port", port, *self._options
        )
        return self.conductor

    def seed(self, *options: str | Path) -> Program:
        """A member that has the composition, once the conductor knows of it."""
        seeds = self.scrape()[0]
        member = self.programs.start(
            "member", self.orch, "--dir", self.composition.folder, "--port", "0", *options
        )
        self.wait_for_members(complete=seeds + 1)
        return member

    def fetch(self, name: str, *options: str | Path) -> Program:
        """A member that has nothing yet and fetches into the folder `name`."""
        return self.programs.start("member", self.orch, "--dir", self.folder / name, "--port", "0", *options)

    def fetched(self, name: str) -> bool:
        """Whether the composition stands, whole and right, in the folder `name`, and nothing else.

        Who shares on keeps a resume file beside it.
        """
        folder = self.folder / name
        file_name = self.composition.score.name
        names = {path.name for path in folder.iterdir()} - {f".{file_name}.resume"}
        return names == {file_name} and self.composition.is_at(folder / file_name)

    def scrape(self) -> tuple[int, int]:
        """How many complete and incomplete members the conductor knows."""
        return scrape(self.address, self.composition.score.info_hash)

    def wait_for_members(self, timeout_s: float = PATIENCE_S, **wanted: int) -> None:
        """Until the conductor knows so many `complete` or `incomplete` members."""

        def as_wanted() -> bool:
            complete, incomplete = self.scrape()
            return wanted.items() <= {"complete": complete, "incomplete": incomplete}.items()

        wait_until(as_wanted, f"a conductor that knows of {wanted}", timeout_s)


def scrape(conductor: Address, info_hash: bytes, timeout_s: float = PATIENCE_S) -> tuple[int, int]:
    """What a conductor says of a swarm (BEP 48): how many members are complete, how many are not."""
    connection = http.client.HTTPConnection(*conductor, timeout=timeout_s)
    try:
        connection.request("GET", "/scrape?info_hash=" + urllib.parse.quote_from_bytes(info_hash))
        reply = bencode.decode(connection.getresponse().read())
    finally:
        connection.close()
    assert isinstance(reply, dict), reply
    files = reply[b"files"]
    assert isinstance(files, dict)
    counts = files[info_hash]
    assert isinstance(counts, dict)
    complete, incomplete = counts[b"complete"], counts[b"incomplete"]
    assert isinstance(complete, int)
    assert isinstance(incomplete, int)
    return complete, incomplete


def member_address(member: Program, host: str = "127.0.0.1") -> str:
    """Where to reach a member, as --peer takes it."""
    return format_address((host, member.wait_for_event("listening")["port"]))


def uploaded_bytes(member: Program) -> int:
    """How much a member has sent, by its latest progress event."""
    sent = [event["uploaded_bytes"] for event in list(member.events) if event["event"] == "progress"]
    return int(sent[-1]) if sent else 0


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait for what no single event announces: look until it is so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        threading.Event().wait(_ONE_LOOK_S)
