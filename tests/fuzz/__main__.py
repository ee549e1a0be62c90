"""`python3 run.py fuzz [SECONDS]`: fuzz everything, say how it went, exit 1 for a finding."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import netutils
from orchestra.addresses import _HOSTS, can_dial, is_loopback, within_reach
from tests.fuzz import table
from tests.fuzz.engine import Run, find, fuzz, save, shrink
from tests.fuzz.registry import TARGETS

INPUTS = 1_000_000
FOUND = Path(__file__).resolve().parents[2] / "logs" / "fuzz"


def main(argv: list[str]) -> int:
    """The exit code: 1 when something else than the documented error came out of an input."""
    parser = argparse.ArgumentParser(prog="run.py fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("seconds", nargs="?", type=float, help="so long in all, instead of so many inputs")
    parser.add_argument(
        "--seed", type=int, help="the same seed gives the same inputs (default: a random one)"
    )
    parser.add_argument("--only", metavar="TARGET", action="append", choices=TARGETS, help=", ".join(TARGETS))
    parser.add_argument("--inputs", type=int, default=INPUTS, help=f"for each parser (default: {INPUTS})")
    parser.add_argument("--replay", metavar="FILE", type=Path, help="try this input alone; needs --only")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/faults.md")
    options = parser.parse_args(argv)
    names = options.only or list(TARGETS)
    if options.replay is not None:
        return replay(names[0], options.replay)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed} (--seed {seed} makes the same inputs again)", flush=True)
    seconds = options.seconds / len(names) if options.seconds else None
    return max(
        run(name, seed, options.inputs, seconds, write=table.write if options.write else None)
        for name in names
    )


def run(
    name: str, seed: int, inputs: int, seconds: float | None, write: Callable[[Run], None] | None = None
) -> int:
    """Fuzz one target and print its line; 1 for a finding, which is shrunk, saved and shown.

    Without one, `write` gets the figures.
    """
    target = TARGETS[name]
    done = fuzz(target, seed, inputs=None if seconds else int(inputs * target.share), seconds=seconds)
    print(done.line(), flush=True)
    if done.finding is None:
        if write is not None:
            write(done)
        return 0
    path = save(target, done.finding, FOUND)
    shrunk = shrink(target, done.finding)
    short = save(target, shrunk, FOUND)
    print(
        f"{done.finding.trace}\nFOUND: {done.finding.what}\n"
        f"input: {path}\nshrunk: {short}: {shrunk.data[:200]!r}"
    )
    print(f"again: python3 run.py fuzz --only {name} --replay {short}; keep it in tests/fuzz/corpus/{name}/")
    return 1


def replay(name: str, path: Path) -> int:
    """Try one input that was saved."""
    found = find(TARGETS[name], path.read_bytes())
    print(found.trace if found else f"{path}: nothing but what is documented")
    return 1 if found else 0


def fill_caches() -> None:
    """What is known of addresses is kept, some megabytes of it: else they would look like a leak."""
    for number in range(_HOSTS):
        host = str(ipaddress.ip_address((0x2001_0DB8 << 96) + number))
        can_dial((host, 1))
        is_loopback(host)
        within_reach(host, (host, 1))
        netutils.unpack_peers(b"".join(netutils.pack_peers([(host, 1)])), socket.AF_INET6)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # strangers can cause any number of lines
    fill_caches()
    sys.exit(main(sys.argv[1:]))
