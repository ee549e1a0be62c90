"""Hostile .orch files and names, through the programs' own mains: the exit code, one line, no file, no harm.

The corpus is that of the unit tests (test_scorelines.py, test_names.py): here it
goes through what a user starts. Nearly all in this process, a few as processes.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest

import composer
import member
from orchestra import cli
from orchestra.score import format_score
from tests import figures
from tests.programs import ROOT, bare_environment
from tests.unit.test_names import HOSTILE_NAMES
from tests.unit.test_score import example_with, make_score
from tests.unit.test_scorelines import WRONG_FILES

PROC_STATUS = Path("/proc/self/status")
MOST_RSS_BYTES = 100 * 1024 * 1024
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f]")
MORE_NAMES = (
    "\x1b]0;title\x07",
    "\x1b[2J",
    "a\rb",
    "\u2067x",
    "a\x9d",
    "\x00",
    "x\x1b\\",
    "\u180ea",
    "\ufff9a",
    "\u2064a",
)


class Playground:
    """A folder for a member, with things around it that nobody may touch."""

    def __init__(self, folder: Path) -> None:
        self.around = folder / "around"
        self.down = self.around / "down"
        self.down.mkdir(parents=True)
        (self.around / "x").write_text("canary")
        (self.around / "etc").mkdir()
        (self.around / "etc" / "passwd").write_text("canary")
        self.log_dir = folder / "logs"
        self.orch = folder / "x.orch"
        self.before = self.contents()

    def contents(self) -> dict[str, tuple[int, str]]:
        """Every path, with the time of its last change and its hash."""
        return {
            str(path): (
                path.stat().st_mtime_ns,
                hashlib.sha1(path.read_bytes()).hexdigest() if path.is_file() else "",
            )
            for path in sorted(self.around.rglob("*"))
        }

    def arguments(self) -> list[str]:
        """Of a member that is to fetch it here."""
        options = ["--dir", str(self.down), "--port", "0", "--no-seed", "--log-dir", str(self.log_dir)]
        return [str(self.orch), *options]


@pytest.fixture
def playground(tmp_path: Path) -> Playground:
    return Playground(tmp_path)


def assert_harmless(stdout: str, stderr: str, program: str) -> str:
    """One line on stderr that no terminal minds, nothing on stdout; the line."""
    assert stdout == ""
    assert stderr.endswith("\n")
    [line] = stderr[:-1].split("\n")
    assert line.startswith(f"{program}: error: ")
    assert not UNSAFE.search(line), ascii(line)
    assert len(line) < 500
    return line


@pytest.mark.fault("O1")
def test_every_malformed_orch_is_exit_3_and_one_line_that_names_the_line(
    playground: Playground, capfd: pytest.CaptureFixture[str]
) -> None:
    slowest_s = 0.0
    for name, text, line, reason in WRONG_FILES:
        playground.orch.write_bytes(text)
        start_s = time.perf_counter()
        assert cli.run(member.make_parser(), member.perform, playground.arguments()) == 3, name
        slowest_s = max(slowest_s, time.perf_counter() - start_s)
        said = assert_harmless(*capfd.readouterr(), "member")
        assert f"x.orch: line {line}: " in said, name
        assert re.search(reason, said), name
    assert playground.contents() == playground.before
    figures.note("O1", "malformed files, all refused with exit code 3 and one line", len(WRONG_FILES))
    figures.note("O1", "slowest of them, in one process (s)", f"{slowest_s:.3f}")
    assert len(WRONG_FILES) >= 150


def _large_files() -> dict[str, tuple[bytes, int]]:
    """What is large: its bytes, and to what length a hole extends it."""
    parts = 1_000_000
    text = format_score(make_score(parts, 1))
    return {
        "a line of 1 GiB": (b"", 1 << 30),
        "64 MiB and a byte": (b"", (64 << 20) + 1),
        "64 MiB of nothing": (b"", 64 << 20),
        "an endless name": (example_with(2, "x" * 9000), 60 << 20),
        "a million parts, the last one wrong": (text[:-2] + b"g\n", 0),
        "a million parts, and more": (text + b"\n", 0),
        "a million parts that are not there": (text[: -40 * parts], 0),
        "a number of a million digits": (example_with(4, "9" * 1_000_000), 0),
    }


@pytest.mark.fault("O1")
def test_large_malformed_files_take_little_time_and_memory(playground: Playground) -> None:
    most_rss_bytes, slowest_s = 0, 0.0
    for name, (text, length_bytes) in _large_files().items():
        playground.orch.write_bytes(text)
        os.truncate(playground.orch, max(length_bytes, len(text)))
        start_s = time.perf_counter()
        code, stdout, stderr, rss_bytes = _run("member", playground.arguments(), playground.around.parent)
        slowest_s = max(slowest_s, time.perf_counter() - start_s)
        most_rss_bytes = max(most_rss_bytes, rss_bytes)
        assert code == 3, name
        assert "x.orch: " in assert_harmless(stdout, stderr, "member"), name
        assert rss_bytes < MOST_RSS_BYTES, name
    assert playground.contents() == playground.before
    figures.note("O1", "large ones as processes: slowest, with the start of Python (s)", f"{slowest_s:.2f}")
    figures.note("O1", "large ones as processes: most memory (MiB)", most_rss_bytes >> 20)


MEASURED = """
import os, re, runpy, sys
from pathlib import Path
program, peak = sys.argv[1:3]
del sys.argv[:2]
sys.argv[0] = program
said = lambda: re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]
leave = os._exit

def say_and_leave(code):
    Path(peak).write_text(said())
    leave(code)

os._exit = say_and_leave
runpy.run_path(program, run_name="__main__")
"""
"""Runs a program and writes down the most memory that it had: what wait4 tells begins with the parent's."""


def _run(program: str, arguments: list[str], folder: Path) -> tuple[int, str, str, int]:
    """Run a program; its exit code, what it said, and the most memory that it had, 0 where nobody tells."""
    command = [sys.executable, str(ROOT / f"{program}.py"), *arguments]
    peak = folder / "peak"
    if PROC_STATUS.exists():
        command[1:2] = ["-c", MEASURED, command[1], str(peak)]
    environment = {**bare_environment(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    rss_bytes = 1024 * int(peak.read_text()) if PROC_STATUS.exists() else 0
    return done.returncode, done.stdout.decode(), done.stderr.decode(), rss_bytes


NAMES = [name for name, _ in HOSTILE_NAMES] + list(MORE_NAMES)


@pytest.mark.fault("O2")
def test_every_hostile_name_in_an_orch_is_exit_3_and_nothing_is_touched(
    playground: Playground, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        playground.orch.write_bytes(example_with(2, name))
        assert cli.run(member.make_parser(), member.perform, playground.arguments()) == 3, ascii(name)
        line = assert_harmless(*capfd.readouterr(), "member")
        assert "x.orch: line 3: " in line if "\n" in name else "x.orch: line 2: " in line
    assert playground.contents() == playground.before
    figures.note("O2", "hostile names, all refused by the member with exit code 3", len(NAMES))
    assert len(NAMES) >= 60


@pytest.mark.fault("O2")
def test_every_hostile_name_as_output_is_exit_2_and_nothing_is_touched(
    playground: Playground, capfd: pytest.CaptureFixture[str]
) -> None:
    playground.orch.write_bytes(format_score(make_score(1, 1)))
    for name in NAMES:
        arguments = [*playground.arguments(), f"--output={name}"]
        assert cli.run(member.make_parser(), member.perform, arguments) == 2, ascii(name)
        assert_harmless(*capfd.readouterr(), "member")
    assert playground.contents() == playground.before


@pytest.mark.fault("O2")
@pytest.mark.skipif(os.name == "nt", reason="such files cannot exist there")
def test_every_hostile_name_that_a_file_can_have_is_exit_2_for_the_composer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    composed = 0
    for name in NAMES:
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name.encode("utf-8", "surrogatepass")))
        if {"/", "\0"} & set(name) or name in ("", ".", "..") or not unicodedata.is_normalized("NFC", name):
            continue  # no file's name; or one that the composer writes in the composed form
        try:
            path.touch()
        except OSError:  # longer than this system takes, or not UTF-8 where it must be
            continue
        log_dir = str(tmp_path / "logs")
        monkeypatch.setattr(sys, "argv", ["composer.py", str(path), "a:1", "--log-dir", log_dir])
        if os.listdir(folder) == [name]:  # not where the system changes the name (NFC, NFD)
            assert composer.main() == 2, ascii(name)
            assert "; rename the file, then compose it" in assert_harmless(*capfd.readouterr(), "composer")
            composed += 1
        path.unlink()
        assert not os.listdir(folder), "an output was left"
    figures.note("O2", "hostile names of files, all refused by the composer with exit code 2", composed)
    assert composed >= (40 if sys.platform == "linux" else 10)


@pytest.mark.fault("O2")
def test_a_hostile_name_as_a_process(playground: Playground) -> None:
    """The same from a process' start to its end."""
    folder = playground.around.parent
    for name in ("\x1b[31mred", "../../x", "\u202egpj.exe", "\x9b2J"):
        playground.orch.write_bytes(example_with(2, name))
        code, stdout, stderr, _ = _run("member", playground.arguments(), folder)
        assert code == 3
        assert_harmless(stdout, stderr, "member")
    assert playground.contents() == playground.before
