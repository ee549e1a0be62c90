"""Targets for what is read as text: .orch files, names, addresses, sizes, command lines."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import random
import struct
import unicodedata
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from functools import cache
from unittest import mock

import composer
import conductor
import member
import netutils
from orchestra import bencode, cli, humans
from orchestra.errors import ScoreError, UsageError
from orchestra.metainfo import client_problem, torrent_bytes
from orchestra.names import NameProblem, check_name, check_writable_name
from orchestra.rehearsal.options import read_scenario
from orchestra.score import format_score, parse_conductors, parse_score
from orchestra.text import safe
from tests.fakes import score_of
from tests.fuzz.target import Target, outcome

HOSTS = (
    b"localhost:9999",
    b"192.168.1.1:9999",
    b"[::1]:80",
    b"[fe80::1%eth0]:6881",
    b"a.b-c.example.:1",
    b"x:65535",
)
NAMES = (b"maxresdefault.jpg", "Grüße".encode(), "名前🎼".encode(), b".profile", b"a b", b"x" * 240)
SIZES = (
    b"16384",
    b"16K",
    b"1M",
    b"2GiB",
    b"0",
    b"9999999999999999G",
    b"100M",
    b"2.5G",
    b"10ms",
    b"0.1s",
    b"50%:10M",
)
OPTIONS = (
    b"--json",
    b"-v",
    b"-q",
    b"-vq",
    b"--no-color",
    b"--log-dir",
    b"--port",
    b"--dir",
    b"--output",
    b"--no-seed",
    b"--peer",
    b"--timeout",
    b"--force",
    b"--host",
    b"--interval",
    b"--torrent",
    b"-o",
    b"--",
    b"--version",
    b"-h",
    b"--rehearse",
    b"--size",
    b"--part-size",
    b"--members",
    b"--up",
    b"--down",
    b"--seed-up",
    b"--latency",
    b"--slow",
    b"--free-riders",
    b"--start-within",
    b"--join-later",
    b"--churn",
    b"--seed",
    b"--report",
)


# .orch


def check_score(data: bytes) -> str:
    """An .orch, and the .torrent of it: ScoreError of one line, or a Score that round-trips."""
    try:
        score = parse_score(data, "x.orch")
    except ScoreError as error:
        text = str(error)
        assert text.startswith("x.orch: line "), text
        assert text.isprintable(), text
        assert len(text) < 400, text
        return outcome(error)
    written = format_score(score)
    assert parse_score(written, "x.orch") == score
    assert len(score.part_sha1s) == 20 * score.parts
    try:
        member.check_reach(score)
        name = member.file_name(score, None)
        assert name == score.name
        assert not name.startswith(".")
    except ScoreError as error:
        assert str(error).isprintable()
        return outcome(error)
    if score.size_bytes:
        metainfo = bencode.decode(torrent_bytes(score))
        assert isinstance(metainfo, dict)
        info = bencode.encode(metainfo[b"info"])
        assert hashlib.sha1(info).digest() == score.info_hash
        assert bencode.decode(info) == score.info_dictionary()
        client_problem(score)
    return f"score of {min(score.parts, 4)} parts, {min(len(score.conductors), 3)} conductors"


def make_score_text(rng: random.Random) -> bytes:
    parts = int(rng.random() ** 4 * 40)
    part_size = rng.choice((1, 16384, 20000, 2**32, 2**53))
    size = min(2**53, parts * part_size - (rng.randrange(part_size) if parts else 0))
    lines = [
        b",".join(rng.choices(HOSTS, k=rng.choice((1, 1, 2, 3)))),
        rng.choice(NAMES),
        rng.randbytes(20).hex().encode(),
        b"%d" % size,
        b"%d" % part_size,
        b"%d" % -(-size // part_size),
        *(rng.randbytes(20).hex().encode() for _ in range(-(-size // part_size))),
    ]
    return rng.choice((b"\n", b"\n", b"\n", b"\r\n")).join(lines) + rng.choice((b"\n", b"\n", b"", b"\r\n"))


# Names and addresses


def check_names(data: bytes) -> str:
    """A name and an address: refused with a reason that is safe to print, or as harmless as promised."""
    text = data.decode("utf-8", "surrogateescape")
    return " | ".join(reader(text) for reader in (_check_name, _check_conductors, _check_text))


def _check_name(text: str) -> str:
    try:
        check_name(text)
    except NameProblem as problem:
        assert str(problem).isprintable(), str(problem)
        return outcome(problem)
    # Unassigned and private characters are left: what is unassigned here may be a letter elsewhere.
    assert not {unicodedata.category(character) for character in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert text not in (".", "..")
    assert not {"/", "\\", "\0", "\n"} & set(text)
    assert len(text.encode()) <= 240
    for windows in (False, True):
        try:
            check_writable_name(text, windows=windows)
        except NameProblem as problem:
            assert str(problem).isprintable()
            return outcome(problem)
    return "a name"


def _check_conductors(text: str) -> str:
    try:
        addresses = parse_conductors(text)
    except ValueError as error:
        assert str(error).isprintable(), str(error)
        return outcome(error)
    for address in addresses:
        assert netutils.parse_address(netutils.format_address(address)) == address
        assert 1 <= address[1] <= 65535
        normal = netutils.normal_host(address[0])
        assert netutils.normal_host(normal) == normal
    return f"{min(len(addresses), 3)} addresses"


def _check_text(text: str) -> str:
    for limit in (7, 200):
        shown = safe(text, limit)
        assert shown.isprintable()
        assert len(shown) <= limit
        assert humans.columns(humans.fit(shown, limit)) <= limit
    return "shown"


def make_name_text(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return rng.choice(NAMES)
    return b",".join(rng.choices(HOSTS, k=rng.randrange(1, 4)))


# Sizes, rates and times of humans.py


def check_humans(data: bytes) -> str:
    """Sizes that are typed, and figures that are shown: ValueError for the former only."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        length = humans.parse_size(text)
    except ValueError as error:
        said = outcome(error)
    else:
        assert length >= 0
        said = "a size"
    number = float(int.from_bytes(data[:9], "little") >> (data[9] if len(data) > 9 else 0))
    for shown in (humans.size(number), humans.rate(number)):
        assert shown.isascii()
        assert len(shown) < 24, shown
    seconds = struct.unpack("<d", data[:8].ljust(8, b"\0"))[0]
    shown = humans.duration(seconds)
    assert shown.isascii()
    assert len(shown) < 330, shown
    done, total = int.from_bytes(data[:3], "big"), int.from_bytes(data[3:5], "big") - 100
    assert 0 <= humans.percent(done, total) <= 100
    return f"{said} {shown.split(' ')[-1]} {math.isfinite(seconds)}"


def make_size_text(rng: random.Random) -> bytes:
    return rng.choice(SIZES) if rng.random() < 0.7 else rng.randbytes(10)


# Command lines


@cache
def _parsers() -> dict[str, cli.Parser]:
    with mock.patch.object(cli, "run") as run:
        composer.main()
    return {
        "composer": run.call_args.args[0],
        "conductor": conductor.make_parser(),
        "member": member.make_parser(),
    }


def check_values(data: bytes) -> str:
    """What stands behind one option: the first byte says which."""
    text = data[1:].decode("utf-8", "surrogateescape")
    name, read = _VALUES[data[0] % len(_VALUES) if data else 0]
    try:
        read(text)
    except (UsageError, ArgumentTypeError) as error:
        return f"{name}: {outcome(error)}"
    return f"{name} taken"


def _output(text: str) -> None:
    member.file_name(_PLAIN_SCORE, text)


def _rehearse(name: str) -> Callable[[str], object]:
    """Reads one option of a rehearsal whose other ones are right."""

    def read(text: str) -> object:
        asked = {"size": "5G", "members": "9", "up": "1G", name: text}
        names = (option[2:].replace("-", "_") for option, *_ in conductor.REHEARSAL_OPTIONS)
        return read_scenario(Namespace(**(dict.fromkeys(names) | asked)), None)

    return read


REHEARSAL_WORDS = (
    "size part_size members up down seed_up latency slow free_riders start_within join_later churn seed"
)
_PLAIN_SCORE = score_of(b"", 1)
_VALUES: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("member --port", member._port),
    ("--peer", member._address),
    ("--timeout", member._seconds),
    ("--output", _output),
    ("conductor --port", conductor._port),
    ("--interval", conductor._interval),
    ("CONDUCTOR", composer.read_conductors),
    ("PART_SIZE", lambda text: composer.fitting_part_size(composer.read_part_size(text), 10**9)),
    *((name, _rehearse(name)) for name in REHEARSAL_WORDS.split()),
)


def make_value(rng: random.Random) -> bytes:
    return rng.randbytes(1) + rng.choice(
        rng.choice((HOSTS, SIZES, NAMES, (b"1", b"20", b"leave,die:20%", b"5%")))
    )


def check_options(data: bytes) -> str:
    """A command line, its words separated by NUL, the first one for the program: UsageError of one line."""
    first, *words = data.decode("utf-8", "surrogateescape").split("\0")
    program = ("composer", "conductor", "member")[len(first) % 3]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            arguments = _parsers()[program].parse(words)
        said = _read_further(program, arguments)
    except UsageError as error:
        # What argparse quotes is escaped where it is printed (console.fail).
        said = outcome(error)
    except SystemExit as done:
        assert done.code == 0, "only --help and --version end it"
        said = "help"
    return f"{program}: {said}"


def _read_further(program: str, arguments: Namespace) -> str:
    if program == "composer":
        composer.read_conductors(arguments.conductor or "a:1")
        composer.fitting_part_size(composer.read_part_size(arguments.part_size), 10**9)
        return "composes"
    if program == "conductor" and arguments.rehearse is not None:
        read_scenario(arguments, None)
        return "rehearses"
    return "runs"


def make_command_line(rng: random.Random) -> bytes:
    words = [b"x" * rng.randrange(3)]
    if rng.random() < 0.3:
        words = [b"x", b"--rehearse", b"", b"--size", b"5G", b"--members", b"9", b"--up", b"1G"]
    for _ in range(rng.randrange(6)):
        words.append(rng.choice(OPTIONS))
        if rng.random() < 0.7:
            words.append(
                rng.choice(rng.choice((HOSTS, SIZES, NAMES, (b"1", b"20", b"0", b"leave,die:20%", b"5%"))))
            )
    return b"\0".join(words)


TEXTS = (
    Target(
        "score",
        check_score,
        make_score_text,
        (*HOSTS, *NAMES, b"\n", b"0" * 40, b"1" * 16, b"a" * 8192),
        20_000,
    ),
    Target("names", check_names, make_name_text, (*HOSTS, b"CON", b"..", b"/", b"[", b"]", b"::", b"%"), 300),
    Target("humans", check_humans, make_size_text, SIZES, 64),
    Target("values", check_values, make_value, (*SIZES, *HOSTS, b"%", b":", b",", b"e", b"nan", b"inf"), 300),
    Target("options", check_options, make_command_line, (*OPTIONS, *SIZES, *HOSTS, b"\0"), 1024),
)
