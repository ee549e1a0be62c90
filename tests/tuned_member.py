"""member.py with other constants, fewer descriptors or fewer threads, as the environment says.

TUNING: words like `connection.HANDSHAKE_S=1.5`. DESCRIPTORS, THREADS: how many there are.
NO_EXEMPTION: limits by address hold on this machine too.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import member
from orchestra import cli, crowds


def tune(words: str) -> None:
    """Change the constants that are named."""
    for word in words.split():
        name, value = word.split("=")
        module_name, constant = name.split(".")
        module = importlib.import_module(f"orchestra.{module_name}")
        setattr(module, constant, type(getattr(module, constant))(value))


def limit_threads(most: int) -> None:
    """Let a thread fail to start as it does where the system has none to spare."""
    start = threading.Thread.start

    def start_or_fail(thread: threading.Thread) -> None:
        if threading.active_count() >= most:
            raise RuntimeError("can't start new thread")
        start(thread)

    setattr(threading.Thread, "start", start_or_fail)  # noqa: B010 - no assignment that mypy would let pass


if __name__ == "__main__":
    tune(os.environ.get("TUNING", ""))
    if "NO_EXEMPTION" in os.environ:
        setattr(crowds, "is_loopback", lambda _: False)  # noqa: B010 - the same
    if "THREADS" in os.environ:
        limit_threads(int(os.environ["THREADS"]))
    if "DESCRIPTORS" in os.environ:
        import resource

        number = int(os.environ["DESCRIPTORS"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
    cli.leave(cli.run(member.make_parser(), member.perform, usage_if_empty=True))
