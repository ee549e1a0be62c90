"""Record the picture in the README: the three programs in four terminals, as an SVG.

    .venv/bin/python docs/record.py

needs the environment that `python3 run.py test` makes, and a system with
pseudo-terminals. What the picture shows has happened: a copy of the programs
runs in a temporary folder, each in a terminal of its own, which pyte emulates.
It is taken when the download is about half done.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import random
import re
import selectors
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack
from html import escape
from itertools import groupby
from pathlib import Path

import pyte

ROOT = Path(__file__).resolve().parent.parent
NAME = "symphony.wav"
FRIEND = "friend"
COLUMNS, ROWS = 110, 6
DEFAULT_PORT = 9999
PATIENCE_S = 25.0
HALF_DONE = range(35, 80)  # percent; the bar moves twice a second
MIB = 1 << 20

CELL, LINE, MARGIN, TITLE, GAP = 8, 19, 14, 27, 12
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
BACKGROUND, TITLE_BAR, INK, FAINT = "#1b2028", "#2b323d", "#d7dde6", "#9aa7ba"
COLOURS = {
    "black": "#6b7688", "red": "#f07178", "green": "#9bd27c", "brown": "#e6c07b",
    "blue": "#7aa9f0", "magenta": "#c792ea", "cyan": "#70c0c8", "white": "#eef2f7",
}  # fmt: skip


class Terminal:
    """A program in a terminal of its own, and what its screen shows. A context manager: none outlives it."""

    def __init__(self, title: str, folder: Path, *command: str) -> None:
        self.title = title
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self._stream.feed(f"$ python3 {shlex.join(command)}\r\n".encode())
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(theirs)

    def read(self) -> bool:
        """Show what the program has written; False once it has ended."""
        try:
            data = os.read(self.ours, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            return False
        self._stream.feed(data)
        return bool(data)

    def shows(self, pattern: str) -> re.Match[str] | None:
        """The first place on the screen that matches."""
        return re.search(pattern, "\n".join(self.screen.display))

    def quit(self) -> None:
        """Press q, and wait for the end."""
        os.write(self.ours, b"q")
        while self.read():
            pass
        self._process.wait(PATIENCE_S)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self.ours)


def watch(terminals: list[Terminal], until: Callable[[], bool]) -> None:
    """Follow all terminals until that is so. Ends the program when it takes too long."""
    deadline_s = time.monotonic() + PATIENCE_S
    with selectors.DefaultSelector() as selector:
        for terminal in terminals:
            selector.register(terminal.ours, selectors.EVENT_READ, terminal)
        while not until():
            if time.monotonic() > deadline_s:
                shown = "\n".join(line for terminal in terminals for line in terminal.screen.display)
                sys.exit(f"record.py: this is not going on:\n{shown}")
            for key, _ in selector.select(0.5):
                if not key.data.read():
                    selector.unregister(key.fd)


def prepare(folder: Path, size_bytes: int) -> None:
    """A copy of the programs, and something to share."""
    shutil.copytree(ROOT / "orchestra", folder / "orchestra", ignore=shutil.ignore_patterns("__pycache__"))
    for program in ROOT.glob("*.py"):
        shutil.copy(program, folder)
    (folder / FRIEND).mkdir()
    noise = random.Random(9999)  # noqa: S311 - something that does not compress
    with (folder / NAME).open("wb") as file:
        for start in range(0, size_bytes, MIB):
            file.write(noise.randbytes(min(MIB, size_bytes - start)))


def record(folder: Path, port: int) -> str:
    """Conduct, compose, join; the picture."""
    with ExitStack() as stack:
        terminals: list[Terminal] = []

        def start(title: str, *command: str, until: str) -> Terminal:
            terminal = stack.enter_context(Terminal(title, folder, *command))
            terminals.append(terminal)
            watch(terminals, lambda: terminal.shows(until) is not None)
            return terminal

        port_option = [] if port == DEFAULT_PORT else ["--port", str(port)]
        conductor = start("2  conduct", "conductor.py", *port_option, until="q quits")
        listening = conductor.shows(r"listening on .*:([0-9]+)")
        assert listening is not None
        start("1  compose", "composer.py", NAME, f"localhost:{listening[1]}", until=rf"\n{NAME}\.orch")
        seeder = start("3  join, with the file", "member.py", f"{NAME}.orch", until="sharing on port")
        friend = start(
            "3  join, without it", "member.py", f"{NAME}.orch", "--dir", FRIEND, until="sharing on port"
        )

        def half_done() -> bool:
            percent = friend.shows(r"([0-9]+)% .* ETA ")
            moment = percent and int(percent[1]) in HALF_DONE and seeder.shows("sent  1 member")
            return bool(moment or friend.shows("complete and verified"))

        watch(terminals, half_done)
        picture = draw(sorted(terminals, key=lambda terminal: terminal.title[0]))
        for terminal in (friend, seeder, conductor):
            terminal.quit()
    return picture


def draw(terminals: list[Terminal]) -> str:
    """All terminals, one below the other, as an SVG."""
    width = COLUMNS * CELL + 2 * MARGIN
    parts, top = [], 0
    for terminal in terminals:
        lines = drawn_lines(terminal.screen)
        height = TITLE + len(lines) * LINE + MARGIN
        parts.append(
            f'<g transform="translate(0 {top})">\n'
            f'<rect width="{width}" height="{height}" rx="7" fill="{BACKGROUND}"/>\n'
            f'<path d="M0 {TITLE}V7q0 -7 7 -7H{width - 7}q7 0 7 7V{TITLE}z" fill="{TITLE_BAR}"/>\n'
            f'<text x="{MARGIN}" y="18" fill="{FAINT}">{escape(terminal.title)}</text>\n'
            + "".join(
                f'<g transform="translate({MARGIN} {TITLE + number * LINE})">{line}</g>\n'
                for number, line in enumerate(lines, 1)
            )
            + "</g>"
        )
        top += height + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top - GAP}" '
        f'font-family="{FONT}" font-size="13" xml:space="preserve">\n'
        "<title>composer.py, conductor.py and two members at work</title>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def drawn_lines(screen: pyte.Screen) -> list[str]:
    """Each line of the screen down to the last that has text; equal colours in one element."""
    lines = []
    for row in range(ROWS):
        cells = [(column, screen.buffer[row][column]) for column in range(COLUMNS)]
        runs = []
        for colour, group in groupby(cells, key=lambda cell: colour_of(cell[1])):
            run = list(group)
            text = "".join(char.data for _, char in run)
            start = run[0][0] + len(text) - len(text.lstrip())
            text = text.strip()
            if text:
                # A given length keeps columns together whatever font the reader has.
                length = len(text) * CELL
                runs.append(
                    f'<text x="{start * CELL}" textLength="{length}" fill="{colour}">{escape(text)}</text>'
                )
        lines.append("".join(runs))
    while lines and not lines[-1]:
        lines.pop()
    return lines


def colour_of(char: pyte.screens.Char) -> str:
    """How the picture draws a colour of the terminal."""
    if char.fg == "default":
        return INK
    return COLOURS.get(char.fg.removeprefix("bright"), f"#{char.fg}")


def main() -> None:
    """Record, and write the picture."""
    parser = argparse.ArgumentParser(description="Record the terminal picture of the README.")
    parser.add_argument("picture", type=Path, nargs="?", default=ROOT / "docs" / "terminal.svg")
    parser.add_argument("--size", type=int, default=1000, metavar="MIB", help="how much to share (1000)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="the conductor's (9999; 0: any)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, arguments.size * MIB)
        arguments.picture.write_text(record(folder, arguments.port), encoding="utf-8")


if __name__ == "__main__":
    main()
