"""The body of `python3 run.py demo`: one file, a conductor, three members, and a person who watches.

Main thread. Starts the programs as anyone would, draws what their events say,
compares what arrived with what was sent, and stops them. Works in demo/ of
the checkout and nowhere else; a given FILE is only read.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

from orchestra import cli, humans
from orchestra.company import ROOT, SILENCE_S, Company, Program, ProgramEnded, shown
from orchestra.console import Console
from orchestra.errors import ExitCode, NetworkError, StorageError, UsageError
from orchestra.text import safe

STAGE = ROOT / "demo"
REDRAW_S = 0.1
LINES_S = 2.0
LAST_NUMBERS_S = 1.5
BAR_COLUMNS = 22
_EARLIEST_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def perform(arguments: argparse.Namespace, console: Console) -> int:
    """Run the demo; the exit code says whether every byte arrived."""
    try:
        STAGE.mkdir(exist_ok=True)
        original = arguments.file or standard_library_zip(console)
        folders = [fresh_folder(STAGE / f"member-{number}", original) for number in (1, 2)]
    except OSError as error:
        raise StorageError(f"cannot prepare {STAGE}: {error.strerror or error}") from error
    console.say(f"In {ROOT}, these commands (each with --json, so that one picture can be drawn):\n")
    with Company(lambda command: console.say(f"  {command}")) as company:
        host, port = start_conductor(company, arguments.port)
        orch = STAGE / f"{original.name}.orch"
        output: list[str | Path] = [] if orch.parent == original.parent else ["-o", orch]
        composer = company.start("composer", "composer.py", original, f"{host}:{port}", *output, "--force")
        composed = company.wait_for(composer, "composed")
        seeder = company.start("seeder", "member.py", orch, "--dir", original.parent)
        company.wait_for(seeder, "complete")
        members = [
            company.start(f"member {number}", "member.py", orch, "--dir", folder)
            for number, folder in enumerate(folders, 1)
        ]
        size = humans.size(composed["size_bytes"])
        console.say(f"\n{safe(original.name)}: {size} in {composed['parts']} parts, from one to two\n")
        watch(company, Picture(console, [seeder, *members]), members)
    return compare(console, original, [folder / original.name for folder in folders])


def standard_library_zip(console: Console) -> Path:
    """A real file that every machine has: Python's own standard library, zipped once, the same each time."""
    path = STAGE / "library.zip"
    if path.exists():
        return path
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"__pycache__", "site-packages", "dist-packages"}
    files = [
        found
        for found in sorted(library.rglob("*"))
        if found.is_file() and not skipped & set(found.relative_to(library).parts)
    ]
    if not files:
        raise StorageError(f"no standard library in {library}: give a file, python3 run.py demo FILE")
    console.say(f"Zipping Python's standard library ({len(files)} files) for something to share.\n")
    draft = path.with_suffix(".new")
    with zipfile.ZipFile(draft, "w") as archive:
        for found in files:
            entry = zipfile.ZipInfo(found.relative_to(library).as_posix(), _EARLIEST_ZIP_TIME)
            archive.writestr(entry, found.read_bytes())
    return draft.replace(path)


def fresh_folder(folder: Path, original: Path) -> Path:
    """An empty folder, so that there is something to watch. Never deletes the file that is to be shared."""
    if original.resolve().is_relative_to(folder):
        raise UsageError(f"{safe(str(original))} is what an earlier demo received: give another file")
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


def start_conductor(company: Company, port: int) -> tuple[str, int]:
    """Start one on that port, or on any when that is taken; host and port."""
    host = "127.0.0.1"
    try:
        conductor = company.start("conductor", "conductor.py", "--host", host, "--port", str(port))
        return host, company.wait_for(conductor, "listening")["port"]
    except ProgramEnded as ended:
        if ended.exit_code != ExitCode.NETWORK:
            raise
    conductor = company.start("conductor", "conductor.py", "--host", host, "--port", "0")
    return host, company.wait_for(conductor, "listening")["port"]


def watch(company: Company, picture: Picture, members: list[Program]) -> None:
    """Draw until all members have all of it, and their last numbers have come."""
    heard_s = time.monotonic()
    complete_s = None
    while complete_s is None or time.monotonic() - complete_s < LAST_NUMBERS_S:
        if company.hear(REDRAW_S):
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > SILENCE_S:
            raise NetworkError(f"no program has said anything for {SILENCE_S:.0f} s")
        picture.draw()
        if complete_s is None and all("complete" in member.last for member in members):
            complete_s = time.monotonic()
    picture.draw(last=True)


def compare(console: Console, original: Path, copies: list[Path]) -> int:
    """Hash the file and its copies and say whether they agree; the exit code."""
    wanted = sha1_of(original)
    console.say(f"\nSHA-1 {wanted}  {safe(shown(original), 1000)}")
    same = True
    for copy in copies:
        found = sha1_of(copy)
        same = same and found == wanted
        verdict = "the same" if found == wanted else "DIFFERENT"
        console.say(f"SHA-1 {found}  {safe(shown(copy), 1000)}  {verdict}")
    console.say("\nAll programs have stopped. The files stay where they are.")
    return ExitCode.DONE if same else ExitCode.FAILED


def sha1_of(path: Path) -> str:
    """The SHA-1 of a whole file, in hex."""
    digest = hashlib.sha1()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Picture:
    """The members, a line each: drawn over on a terminal, a few times only elsewhere. Main thread only."""

    def __init__(self, console: Console, members: list[Program]) -> None:
        self._console = console
        self._members = members
        self._drawn: list[str] = []
        self._due_s = time.monotonic() + (0 if console.terminal else LINES_S)

    def draw(self, *, last: bool = False) -> None:
        """Draw how things stand, when it is time to and something has changed."""
        now_s = time.monotonic()
        lines = [self._line(member) for member in self._members]
        if lines == self._drawn or not (last or now_s >= self._due_s):
            return
        if self._console.terminal:
            self._due_s = now_s + REDRAW_S
            room = self._console.width() - 1
            # One write a frame, over the one before: up, then each line cleared and written.
            up = f"\x1b[{len(lines)}A" if self._drawn else ""
            self._console.note(up + "\n".join("\r\x1b[2K" + humans.fit(line, room) for line in lines))
        else:
            self._due_s = now_s + LINES_S
            self._console.say("\n".join(lines))
        self._drawn = lines

    def _line(self, member: Program) -> str:
        now = member.last.get("progress", {"parts_done": 0, "parts": 1})
        done, total = now["parts_done"], now["parts"]
        filled = BAR_COLUMNS * done // max(total, 1)
        words = [
            f"{member.label:9} [{'#' * filled:-<{BAR_COLUMNS}}] {humans.percent(done, total):3}%",
            f"got {humans.size(now.get('downloaded_bytes', 0)):>7}",
            f"gave {humans.size(now.get('uploaded_bytes', 0)):>7}",
        ]
        complete = member.last.get("complete")
        if complete and complete["downloaded_bytes"]:
            words.append(f"done in {humans.duration(complete['elapsed_s'])}")
        elif now.get("rate_bytes_s"):
            words.append(humans.rate(now["rate_bytes_s"]))
        return "  ".join(words)


def main(argv: list[str] | None = None) -> int:
    """Entry point of run.py demo."""
    parser = cli.make_parser("demo", "One file, from one member to two others.", "")
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="what to share")
    parser.add_argument("--port", type=int, default=9999, help="the conductor's port, if it is free")
    return cli.run(parser, perform, argv)


if __name__ == "__main__":
    sys.exit(main())
