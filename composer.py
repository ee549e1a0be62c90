#!/usr/bin/env python3
"""composer.py FILE: write FILE.orch, which tells members how to find and check FILE.

One pass over the file gives the SHA-1 of the whole and of each part. The .orch
(and with --torrent the .torrent) appears complete or not at all.
"""

from __future__ import annotations

from orchestra import start

if __name__ == "__main__":
    start.begin()

import unicodedata
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from netutils import Address
from orchestra import cli, humans
from orchestra.atomic import StagedFile, check_place
from orchestra.console import Console
from orchestra.errors import ExitCode, UsageError
from orchestra.metainfo import EmptyCompositionError, client_problem, torrent_bytes
from orchestra.names import NameProblem, check_name
from orchestra.score import Score, check_part_size, default_part_size, parse_conductors, score_pieces
from orchestra.scorelines import FieldProblem
from orchestra.source import Source
from orchestra.text import safe

DEFAULT_CONDUCTOR = "localhost:9999"
EXAMPLES = """\
  composer.py holiday.mp4                              writes holiday.mp4.orch
  composer.py holiday.mp4 192.168.1.1:9999             members ask this conductor
  composer.py holiday.mp4 192.168.1.1:9999 1M          in parts of 1 MiB
  composer.py holiday.mp4 192.168.1.1:9999 --torrent   and holiday.mp4.torrent, for any torrent client"""


def main() -> int:
    """The composer, from the command line to the exit code."""
    parser = cli.make_parser("composer", "Write the .orch of a file, for members to share it by.", EXAMPLES)
    parser.add_argument("file", metavar="FILE", type=Path, help="the file to share")
    parser.add_argument(
        "conductor",
        metavar="CONDUCTOR",
        nargs="?",
        help=f"HOST:PORT where members meet; several, separated by commas (default: {DEFAULT_CONDUCTOR})",
    )
    parser.add_argument(
        "part_size",
        metavar="PART_SIZE",
        nargs="?",
        help="bytes in a part: 16384, 16K, 1M (default: 16K, more for files above 256 MiB)",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, help="the .orch to write (default: FILE.orch)"
    )
    parser.add_argument(
        "--torrent", action="store_true", help="write the same as a .torrent beside the .orch"
    )
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    return cli.run(parser, compose, usage_if_empty=True)


def compose(arguments: Namespace, console: Console) -> int:
    """Do what the command line asks for."""
    conductors = read_conductors(DEFAULT_CONDUCTOR if arguments.conductor is None else arguments.conductor)
    part_size_bytes = read_part_size(arguments.part_size)
    orch_path: Path = arguments.output or beside(arguments.file, arguments.file.name, ".orch")
    paths = [orch_path]
    if arguments.torrent:
        paths.append(beside(orch_path, orch_path.name.removesuffix(".orch"), ".torrent"))

    with Source(arguments.file) as source:
        name = read_name(arguments.file)
        part_size_bytes = fitting_part_size(part_size_bytes, source.size_bytes)
        if arguments.torrent and not source.size_bytes:
            raise UsageError(f"{safe(str(arguments.file))}: {EmptyCompositionError()}; leave out --torrent")
        for path in paths:
            if source.is_at(path):
                raise UsageError(f"{safe(str(path))} is the file to be composed: choose another with -o")
            check_place(path, replace=arguments.force)
        with console.bar(total=source.size_bytes, label=f"composing {name}") as bar:
            hashes = source.hash(part_size_bytes, on_progress=bar.update)

    score = Score(
        conductors=conductors,
        name=name,
        sha1=hashes.sha1,
        size_bytes=hashes.size_bytes,
        part_size_bytes=part_size_bytes,
        part_sha1s=hashes.part_sha1s,
    )
    write(score, paths, replace=arguments.force)
    report(score, paths, console)
    give_hints(score, arguments, console)
    return ExitCode.DONE


def read_conductors(text: str) -> tuple[Address, ...]:
    """The conductors of the command line."""
    try:
        return parse_conductors(text)
    except ValueError as error:
        raise UsageError(f"{error} (composer.py FILE CONDUCTOR PART_SIZE)") from None


def read_part_size(text: str | None) -> int | None:
    """The part size of the command line in bytes, None when there is none."""
    if text is None:
        return None
    try:
        return humans.parse_size(text)
    except ValueError:
        raise UsageError(f'part size "{safe(text, 60)}": write bytes as 16384, 16K or 1M') from None


def fitting_part_size(asked_bytes: int | None, size_bytes: int) -> int:
    """The part size for a file of `size_bytes`: what was asked for, if the format can hold it."""
    if asked_bytes is None:
        return default_part_size(size_bytes)
    try:
        check_part_size(size_bytes, asked_bytes)
    except FieldProblem as problem:
        raise UsageError(str(problem)) from None
    return asked_bytes


def read_name(path: Path) -> str:
    """The name of the composition: the last component of the path, as the format spells it."""
    name = unicodedata.normalize("NFC", path.name)
    try:
        check_name(name)
    except NameProblem as problem:
        raise UsageError(f"{safe(str(path))}: {problem}; rename the file, then compose it") from None
    return name


def beside(path: Path, stem: str, suffix: str) -> Path:
    """The path of a file with another name in the same folder."""
    return path.parent / (stem + suffix)


def write(score: Score, paths: list[Path], *, replace: bool) -> None:
    """Write the .orch, and the .torrent where there is a second path: both or, as far as can be, none."""
    with ExitStack() as stack:
        staged = [stack.enter_context(StagedFile(path)) for path in paths]
        staged[0].write(score_pieces(score))
        for file in staged[1:]:
            file.write([torrent_bytes(score)])
        for file in staged:
            file.publish(replace=replace)


def report(score: Score, paths: list[Path], console: Console) -> None:
    """Say what was written."""
    for path in paths:
        console.say(safe(str(path), limit=100_000))
    console.event(
        "composed",
        path=str(paths[0]),
        name=score.name,
        size_bytes=score.size_bytes,
        part_size_bytes=score.part_size_bytes,
        parts=score.parts,
        sha1=score.sha1.hex(),
        info_hash=score.info_hash.hex(),
    )


def give_hints(score: Score, arguments: Namespace, console: Console) -> None:
    """Say what the user may want to know about what was written."""
    if arguments.conductor is None:
        console.note(f"composer: no conductor given, so {DEFAULT_CONDUCTOR}: line 1 can be edited later")
    if score.name != arguments.file.name:
        console.note(
            "composer: the .orch has the name in composed Unicode (NFC), this disk otherwise: "
            "rename the file if a member does not find it"
        )
    problem = client_problem(score)
    if problem:
        console.note(f"composer: {problem}")


if __name__ == "__main__":
    cli.leave(main())
