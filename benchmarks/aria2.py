"""aria2 as a contender: told what to do by JSON-RPC, heard through the program that it runs when it is done.

Main thread. aria2 learns of peers only from a tracker, so it gets our conductor.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.conductors import LOCAL, LOOK_S
from benchmarks.contenders import Contender, Leecher, Scene, Seeder
from benchmarks.packages import need
from benchmarks.processes import PATIENCE_S, BenchmarkError, Event, Process, Stage

OPTIONS = (
    "--no-conf",
    "--quiet",
    "--enable-dht=false",
    "--bt-enable-lpd=false",
    "--enable-peer-exchange=false",
    "--disable-ipv6=true",
    "--file-allocation=falloc",
    "--follow-torrent=mem",
    "--seed-ratio=0.0",
    "--on-bt-download-complete=/bin/echo",
)
SEEDING = ("--check-integrity=true", "--bt-hash-check-seed=true")
_ECHOED = re.compile(rb"[0-9a-f]{16} [0-9]+ ")
"""What aria2 has /bin/echo say: GID, number of files, path."""


class Remote:
    """aria2's JSON-RPC at a port."""

    def __init__(self, port: int, host: str = LOCAL) -> None:
        self._url = f"http://{host}:{port}/jsonrpc"

    def call(self, method: str, *arguments: object) -> Any:
        """The result. Raises OSError."""
        question = {"jsonrpc": "2.0", "id": "1", "method": f"aria2.{method}", "params": arguments}
        request = urllib.request.Request(self._url, json.dumps(question).encode())
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            return json.load(reply)["result"]

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            try:
                self.call("getVersion")
                return
            except urllib.error.URLError:
                time.sleep(LOOK_S)
        raise BenchmarkError("aria2 did not answer")

    def wait_for_connection(self) -> float:
        """Wait until its download has a peer; the moment."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            if any(int(one["connections"]) for one in self.call("tellActive", ["connections"])):
                return time.monotonic()
            time.sleep(LOOK_S)
        raise BenchmarkError("aria2 did not find its peer")


def seed(scene: Scene, label: str) -> Seeder:
    """aria2 with the whole file, checked and announced."""
    process = start_seeding(scene.stage, _torrent(scene), scene.composition.folder, label)
    scene.wait_for_announced()
    return Seeder(process, (LOCAL, 0), announced=True)


def fetch(scene: Scene, label: str, _seeders: Sequence[Seeder]) -> Leecher:
    """aria2 with nothing. It takes a second or two to find a peer: that wait is not counted."""
    torrent = _torrent(scene)
    port = _free_port()
    options = (f"--dir={scene.empty_folder(label)}", "--enable-rpc", f"--rpc-listen-port={port}")
    process = _start(scene.stage, label, *options)
    remote = Remote(port)
    remote.wait_until_up()
    remote.call("addTorrent", base64.b64encode(torrent.read_bytes()).decode())
    go_s = remote.wait_for_connection()

    def done() -> float:
        return process.wait_for("done")[0]

    return Leecher(process, go_s, done, done)


def start_seeding(stage: Stage, torrent: Path, folder: Path, label: str) -> Process:
    """aria2 with what `folder` has, which it checks, and then announces."""
    return _start(stage, label, f"--dir={folder}", *SEEDING, str(torrent))


def _start(stage: Stage, label: str, *arguments: str) -> Process:
    return stage.start(command_of(_free_port(), *arguments), label=label, parse=parse_echo)


def command_of(port: int, *arguments: str) -> list[str]:
    """The command of an aria2 that listens at that port. Raises Skip where there is none."""
    return [need("aria2c", "aria2"), *OPTIONS, f"--listen-port={port}", *arguments]


def parse_echo(line: bytes) -> Event | None:
    """`done` when it has run the program."""
    return {"event": "done"} if _ECHOED.match(line) else None


def _torrent(scene: Scene) -> Path:
    folder = scene.stage.folder / "aria2"
    folder.mkdir(exist_ok=True)
    return scene.composition.write_torrent(folder, scene.conductor.address)


def _free_port() -> int:
    """A port that was free just now: aria2 cannot choose one by itself."""
    with socket.create_server((LOCAL, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


ARIA2 = Contender("aria2", seed, fetch)
