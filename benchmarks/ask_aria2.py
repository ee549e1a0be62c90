"""Asks every aria2 of a swarm how it goes: `ask_aria2.py PORT S SEEDERS HOST ...`, the seeders first.

Says {"event": "up", "host": ...} once for each, when its JSON-RPC answers,
and every S seconds what the seeders have uploaded. Ends on SIGTERM.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.aria2 import Remote


def say(event: str, **fields: object) -> None:
    """One line on stdout, in one write."""
    os.write(1, (json.dumps({"event": event, **fields}) + "\n").encode())


def ask(remote: Remote, host: str) -> bool:
    """Tell what it has uploaded; whether it answered."""
    try:
        active = remote.call("tellActive", ["uploadLength"])
    except OSError:
        return False
    if active:
        say("figures", host=host, uploaded_bytes=int(active[0]["uploadLength"]))
    return True


def main() -> None:
    """Ask until ended."""
    port, pause_s, seeders, *hosts = sys.argv[1:]
    remotes = {host: Remote(int(port), host) for host in hosts}
    seeding = set(hosts[: int(seeders)])
    waited_for = set(hosts)
    while True:
        for host in hosts:
            if host in waited_for | seeding and ask(remotes[host], host) and host in waited_for:
                waited_for.remove(host)
                say("up", host=host)
        time.sleep(float(pause_s))


if __name__ == "__main__":
    main()
