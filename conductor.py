#!/usr/bin/env python3
"""Bring together the members who share a composition: a BitTorrent tracker, until q is pressed.

Opens the listening sockets, gives them to the web server's thread
(orchestra/webserver.py), and waits for a key, a signal or that thread's end.
What a conductor knows and answers is in orchestra/tracker.py. With --rehearse
it does none of that: orchestra/rehearse.py rehearses a swarm.
"""

from __future__ import annotations

from orchestra import start

if __name__ == "__main__":
    start.begin()

import argparse
import contextlib
import errno
import queue
import socket
from collections.abc import Iterator
from typing import Any

import netutils
from kbhit import Keys
from orchestra import cli
from orchestra.console import Console
from orchestra.errors import ExitCode, NetworkError, UsageError
from orchestra.signals import Signalled, as_messages
from orchestra.text import safe
from orchestra.tracker import Tracker
from orchestra.trackerapp import REFUSAL, TrackerApp
from orchestra.wakeful import WakefulClock
from orchestra.webserver import WebServer
from orchestra.worker import ThreadCrashed

EXAMPLES = """\
  conductor.py                             on all addresses of this machine, port 9999
  conductor.py --host 192.168.1.1          on this address only
  conductor.py --port 0 --json             on any free port, which the `listening` event tells
  conductor.py --rehearse holiday.mp4.orch --members 500 --up 100M --down 1G
                                           how long 500 machines would need, by a rehearsal"""

REHEARSAL_OPTIONS = (
    ("--size", "SIZE", "rehearse this size, as 5G (of 1,024 each), instead of a .orch"),
    ("--part-size", "SIZE", "its part size, as 1M (default: the composer's)"),
    ("--members", "N", "machines that fetch"),
    ("--up", "RATE", "what each can upload, in bits a second on the wire: 100M, 2.5G (of 1,000 each)"),
    ("--down", "RATE", "what each can download (default: as --up)"),
    ("--seed-up", "RATE", "what the sharer can upload (default: as --up)"),
    ("--latency", "TIME", "from one machine to another, one way, as 10ms or 0.1s (default: 10ms)"),
    ("--slow", "SHARE:RATE", "a share of the machines uploads only so much, as 50%%:10M"),
    ("--free-riders", "SHARE", "a share of the machines uploads nothing, as 20%%"),
    ("--start-within", "TIME", "the machines start at random within that time, as 30s (default: 0.2s)"),
    ("--join-later", "SHARE:TIME", "a share of the machines joins after that time, as 50%%:30s"),
    (
        "--churn",
        "KINDS",
        """leave: each leaves when it is complete; die:20%%: that share is cut off half-way; sharer:1.1: the
        sharer leaves after so many copies; or several with commas between""",
    ),
    ("--seed", "N", "another number is another rehearsal, the same one the same again (default: 1)"),
    ("--report", "FILE.html", "write a page with pictures"),
)
"""Only text here. orchestra/rehearsal/options.py understands it: conducting does not wait for it."""
CONDUCTING_OPTIONS = ("--host", "--port", "--interval")

SIGNAL_LOOK_S = 0.5
"""How long main waits for its queue at a stretch: a signal that comes just before it falls asleep does not
wake it, nor does any on Windows."""


def make_parser() -> cli.Parser:
    """The command line of DESIGN.md, section 2."""
    parser = cli.make_parser("conductor", "Tell members who shares the same composition; q quits.", EXAMPLES)
    host_help = "address to listen on (default: all of this machine)"
    parser.add_argument("--host", metavar="ADDR", help=host_help)
    port_help = "port to listen on, 0 for any (default: 9999)"
    parser.add_argument("--port", type=_port, default=9999, help=port_help)
    interval_help = "how often members should announce; after two silent intervals they are forgotten"
    parser.add_argument(
        "--interval", metavar="S", type=_interval, default=120, help=f"{interval_help} (default: 120)"
    )
    group = parser.add_argument_group("rehearsal", "How long a swarm would take. Nothing is sent to anybody.")
    rehearse_help = "do not conduct: rehearse how FILE, a .orch, reaches all, or what has --size"
    group.add_argument("--rehearse", metavar="FILE", nargs="?", const="", help=rehearse_help)
    for option, metavar, text in REHEARSAL_OPTIONS:
        group.add_argument(option, metavar=metavar, help=text)
    group.add_argument("--force", action="store_true", help="replace a report that exists")
    return parser


def perform(arguments: argparse.Namespace, console: Console) -> int:
    """Conduct or rehearse; returns the exit code, or raises what ended it. Each has options of its own."""
    rehearsing = arguments.rehearse is not None
    foreign = CONDUCTING_OPTIONS if rehearsing else [*(row[0] for row in REHEARSAL_OPTIONS), "--force"]
    unused = make_parser().parse([])
    for option in foreign:
        name = option[2:].replace("-", "_")
        if getattr(arguments, name) != getattr(unused, name):
            what = "is for conducting, without --rehearse" if rehearsing else "goes with --rehearse"
            raise UsageError(f"argument {option}: {what} (see conductor.py --help)")
    if not rehearsing:
        return conduct(arguments, console)
    from orchestra import rehearse  # noqa: PLC0415 - who conducts does not wait for it

    return rehearse.perform(arguments, console)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _interval(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 86400):
        raise argparse.ArgumentTypeError("a whole number of seconds from 1 to 86400")
    return int(text)


def listen(host: str | None, port: int) -> list[socket.socket]:
    """The listening sockets. Raises NetworkError, whose text says what to do."""
    with _as_network_error(host, port):
        return netutils.listen(host, port)


@contextlib.contextmanager
def _as_network_error(host: str | None, port: int) -> Iterator[None]:
    """Make an OSError a NetworkError that says what to do."""
    try:
        yield
    except OSError as error:
        where = netutils.format_address((safe(host), port)) if host else f"port {port}"
        raise NetworkError(f"cannot listen on {where}: {_advice(error)}") from error


def _advice(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "no such address or name; --host takes an address of this machine"
    if error.errno == errno.EADDRINUSE:
        return "another program has that port; choose another one with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; --host takes one of its own"
    if error.errno == errno.EACCES:
        return "no permission; ports below 1024 are for root, choose another one with --port"
    return error.strerror or str(error)


def conduct(arguments: argparse.Namespace, console: Console) -> int:
    """Serve until q is pressed; returns the exit code, or raises the signal that ended it."""
    listeners = listen(arguments.host, arguments.port)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    clock = WakefulClock()
    app = TrackerApp(Tracker(arguments.interval, clock=clock))
    with _as_network_error(arguments.host, arguments.port):
        addresses = [netutils.address_of(listener.getsockname()) for listener in listeners]
        server = WebServer(app, listeners, inbox.put, refusal=REFUSAL, beat=clock)
    with as_messages(inbox.put), Keys(inbox.put):
        server.start()
        try:
            console.event("listening", host=addresses[0][0], port=addresses[0][1])
            for address in addresses:
                console.say(f"listening on {netutils.format_address(address)}")
            if console.terminal:
                console.note("q quits")
            ending = _wait_for_end(inbox)
        finally:
            server.stop()
            server.join()
    if isinstance(ending, Signalled):
        raise ending
    if isinstance(ending, ThreadCrashed):
        raise ending.error
    return ExitCode.DONE


def _wait_for_end(inbox: queue.SimpleQueue[Any]) -> Any:
    """The first message that ends a conductor: q, a signal, a crash."""
    while True:
        try:
            message = inbox.get(timeout=SIGNAL_LOOK_S)
        except queue.Empty:
            continue
        if message in ("q", "Q") or isinstance(message, Signalled | ThreadCrashed):
            return message


if __name__ == "__main__":
    cli.leave(cli.run(make_parser(), perform))
