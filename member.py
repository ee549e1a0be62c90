#!/usr/bin/env python3
"""Get a composition from the other members of its orchestra, and share it on until q is pressed.

Reads an .orch file, starts the member's threads (orchestra/session.py), and
from then on only this: the main thread waits for what the orchestrator tells
and draws it, passes on keys and signals, and ends with the exit code.
"""

from __future__ import annotations

from orchestra import start

if __name__ == "__main__":
    start.begin()

import argparse
import signal
from pathlib import Path
from typing import Any

import netutils
from kbhit import Keys
from orchestra import cli, humans
from orchestra.console import Bar, Console
from orchestra.errors import ExitCode, ScoreError, UsageError
from orchestra.messages import CheckProgress, Complete, Ended, Listening, Notice, Progress
from orchestra.names import check_name, check_writable_name
from orchestra.score import Score, read_score
from orchestra.session import Session
from orchestra.signals import Signalled, as_messages
from orchestra.storage import Storage
from orchestra.text import safe

MAX_PART_BYTES = 1 << 32
EXAMPLES = """\
  member.py concert.mp4.orch                        get concert.mp4 into this folder, then share it
  member.py concert.mp4.orch --dir /srv --no-seed   get it, verify it, exit
  member.py concert.mp4.orch --peer 10.0.0.7:6881   ask this member too"""


def make_parser() -> cli.Parser:
    """The command line of DESIGN.md, section 2."""
    parser = cli.make_parser(
        "member", "Get a composition from its orchestra and share it on; q quits.", EXAMPLES
    )
    parser.add_argument("orch", metavar="ORCH", type=Path, help="the .orch file")
    parser.add_argument("--dir", type=Path, default=Path(), help="where to put it (default: here)")
    parser.add_argument("--output", metavar="NAME", help="another file name than the one in the .orch file")
    port_help = "port to listen on, 0 for any (default: first free from 6881 up)"
    parser.add_argument("--port", type=_port, help=port_help)
    parser.add_argument("--no-seed", action="store_true", help="exit once the file is complete and verified")
    peer_help = "a member to ask, too; repeatable"
    parser.add_argument(
        "--peer", metavar="HOST:PORT", type=_address, action="append", default=[], help=peer_help
    )
    timeout_help = "give up after S seconds without a source"
    parser.add_argument("--timeout", metavar="S", type=_seconds, help=timeout_help)
    parser.add_argument("--force", action="store_true", help="replace an existing file that differs")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _address(text: str) -> netutils.Address:
    try:
        return netutils.parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{safe(text)}: {error}") from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError("a number of seconds above 0")
    return seconds


def file_name(score: Score, output: str | None) -> str:
    """The name to write to. Raises UsageError for a bad --output, ScoreError where one is needed."""
    if output is None:
        try:
            check_writable_name(score.name)
        except ValueError as error:
            raise ScoreError(f"{safe(score.name)}: {error}: choose one with --output NAME") from error
        return score.name
    try:
        check_name(output)
    except ValueError as error:
        raise UsageError(f"--output {safe(output)}: {error}") from error
    return output


def check_reach(score: Score) -> None:
    """Raises ScoreError for parts of which the wire's 32-bit numbers (BEP 3) cannot reach the end."""
    if min(score.size_bytes, score.part_size_bytes) > MAX_PART_BYTES:
        text = f"parts of {score.part_size_bytes} bytes: members reach no further than 4 GiB into a part"
        raise ScoreError(f"{safe(score.name)}: {text}: compose it with a smaller part size")


def perform(arguments: argparse.Namespace, console: Console) -> int:
    """Run the member; returns the exit code, or raises the error or signal that ended it."""
    score = read_score(arguments.orch)
    check_reach(score)
    storage = Storage(
        arguments.dir, file_name(score, arguments.output), score.size_bytes, force=arguments.force
    )
    session = Session(
        score,
        storage,
        port=arguments.port,
        seed=not arguments.no_seed,
        timeout_s=arguments.timeout,
        members=tuple(arguments.peer),
    )
    session.start()
    try:
        ended, signals = attend(session, console, score)
    except BaseException as end:
        # The first signal has asked for a clean stop; the second one does not wait for it.
        if not (session.asked_to_stop and isinstance(end, (Signalled, KeyboardInterrupt))):
            session.abandon()
        raise
    session.join()
    console.event("stopped", reason=ended.reason)
    if ended.error is not None:
        raise ended.error
    if signals:
        raise signals[0]
    return ExitCode.DONE if ended.complete else ExitCode.INCOMPLETE


def attend(session: Session, console: Console, score: Score) -> tuple[Ended, list[Signalled]]:
    """Show what the session says, pass on keys and signals, until it has ended; the signals that came."""
    signalled: list[Signalled] = []
    with View(console, score) as view, as_messages(session.inbox.put), Keys(session.inbox.put):
        while not isinstance(message := session.next_message(), Ended):
            if isinstance(message, Signalled):
                signalled.append(message)
                session.quit(signal.Signals(message.signum).name)
            elif message in ("q", "Q"):
                session.quit("q")
            else:
                view.show(message)
    return message, signalled


class View:
    """What the user sees of the member: lines, the bar, JSON events. Main thread only."""

    def __init__(self, console: Console, score: Score) -> None:
        self._console = console
        self._score = score
        self._bar: Bar | None = None
        self._label = ""
        self._finished = False

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self._no_bar()

    def show(self, message: Any) -> None:
        """Show one message of the orchestrator; keys without a meaning are ignored."""
        match message:
            case CheckProgress(checked_bytes):
                self._draw("checking", checked_bytes, "")
            case Listening(host, port):
                self._no_bar()
                self._console.event("listening", host=host, port=port)
                self._console.note(f"{safe(self._score.name)}: sharing on port {port}, q quits")
            case Progress():
                self._progress(message)
            case Complete():
                self._complete(message)
            case Notice(text):
                self._console.note(f"member: {safe(text, 1000)}")

    def _draw(self, label: str, done_bytes: int, text: str) -> None:
        if label != self._label:
            self._no_bar()
        if self._bar is None:
            self._label = label
            self._bar = self._console.bar(total=self._score.size_bytes, label=label)
        self._bar.update(done_bytes, text)

    def _no_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _progress(self, progress: Progress) -> None:
        self._console.event(
            "progress",
            parts_done=progress.parts_done,
            parts=progress.parts,
            downloaded_bytes=progress.downloaded_bytes,
            uploaded_bytes=progress.uploaded_bytes,
            rate_bytes_s=progress.rate_bytes_s,
            members=progress.members,
            eta_s=progress.eta_s,
        )
        members = f"{progress.members} member{'s' if progress.members != 1 else ''}"
        complete = progress.parts_done == progress.parts
        if complete and not self._finished:
            text = f"checking the whole  {members}"
        elif complete:
            sent = humans.size(progress.uploaded_bytes)
            text = f"up {humans.rate(progress.upload_bytes_s)}, {sent} sent  {members}"
        else:
            eta = humans.duration(progress.eta_s) if progress.eta_s >= 0 else "unknown"
            parts = f"{progress.parts_done}/{progress.parts}"
            text = f"{parts}  {humans.rate(progress.rate_bytes_s)}  ETA {eta}  {members}"
        done_bytes = min(progress.parts_done * self._score.part_size_bytes, self._score.size_bytes)
        self._draw("sharing" if self._finished else "getting", done_bytes, text)

    def _complete(self, complete: Complete) -> None:
        self._finished = True
        self._no_bar()
        self._console.event(
            "complete",
            path=complete.path,
            sha1=self._score.sha1.hex(),
            size_bytes=self._score.size_bytes,
            downloaded_bytes=complete.downloaded_bytes,
            elapsed_s=round(complete.elapsed_s, 3),
        )
        if complete.downloaded_bytes:
            speed = humans.rate(complete.downloaded_bytes / max(complete.elapsed_s, 0.001))
            self._console.note(f"complete and verified in {humans.duration(complete.elapsed_s)}, {speed}")
        self._console.say(safe(complete.path, 4096))


if __name__ == "__main__":
    cli.leave(cli.run(make_parser(), perform, usage_if_empty=True))
