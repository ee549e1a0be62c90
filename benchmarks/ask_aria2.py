"""Asks every aria2 of a swarm how it goes: `ask_aria2.py PORT S SEEDERS HOST ...`, the seeders first.

Says {"event": "up", "host": ...} once for each, when its JSON-RPC answers,
then what it has uploaded: seeders every S seconds, leechers every second, since
answers cost time that the swarm needs. Ends on SIGTERM.
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


LEECHERS_S = 1.0


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
    port, seeders_s, seeders, *hosts = sys.argv[1:]
    remotes = {host: Remote(int(port), host) for host in hosts}
    pauses_s = {
        host: float(seeders_s) if number < int(seeders) else LEECHERS_S for number, host in enumerate(hosts)
    }
    due_s = dict.fromkeys(hosts, 0.0)
    up: set[str] = set()
    while True:
        now_s = time.monotonic()
        for host in hosts:
            if now_s < due_s[host] or not ask(remotes[host], host):
                continue
            due_s[host] = now_s + pauses_s[host]
            if host not in up:
                up.add(host)
                say("up", host=host)
        time.sleep(float(seeders_s))


if __name__ == "__main__":
    main()
