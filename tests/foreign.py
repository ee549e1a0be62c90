"""Foreign BitTorrent clients as processes, which get a .torrent and find all else by it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, Program, Programs

needs_libtorrent = pytest.mark.skipif(
    importlib.util.find_spec("libtorrent") is None,
    reason="libtorrent has no wheel for this Python: pip install libtorrent",
)
needs_aria2 = pytest.mark.skipif(
    shutil.which("aria2c") is None, reason="aria2c is not installed: apt-get install aria2"
)


def start_libtorrent(programs: Programs, torrent: Path, folder: Path, *arguments: str) -> Program:
    """A libtorrent client on `torrent` in `folder`; libtorrent_peer.py has its arguments and events."""
    folder.mkdir(exist_ok=True)
    script = str(ROOT / "tests" / "libtorrent_peer.py")
    return programs.start_other([sys.executable, script, str(torrent), str(folder), *arguments])


def start_aria2(programs: Programs, torrent: Path, folder: Path, *, seed: bool) -> Program:
    """aria2c on `torrent` in `folder`. No JSON: without `seed` it ends with 0 when it is complete."""
    folder.mkdir(exist_ok=True)
    options = [
        "--no-conf",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
        "--listen-port=20000-60000",  # the first free one
        "--check-integrity=true",
        "--file-allocation=none",
        "--summary-interval=0",
        "--console-log-level=notice",
        "--seed-ratio=0.0" if seed else "--seed-time=0",
        f"--dir={folder}",
        os.fspath(torrent),
    ]
    return programs.start_other(["aria2c", *options])
