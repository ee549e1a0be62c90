"""The demo in a checkout of its own: real programs, a real transfer, and nothing left running."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from orchestra import demo
from orchestra.console import Console
from orchestra.errors import StorageError
from tests.programs import ROOT, Programs

DEMO = [sys.executable, "-m", "orchestra.demo"]
CONTENT = random.Random(20).randbytes(300_000)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the programs, with no demo in it yet."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "orchestra", copy / "orchestra", ignore=shutil.ignore_patterns("__pycache__"))
    for program in ROOT.glob("*.py"):
        shutil.copy(program, copy)
    return copy


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "my film.bin"
    path.write_bytes(CONTENT)
    return path


def commands_in(text: str) -> list[list[str]]:
    """The command lines that it says it ran."""
    return [shlex.split(line) for line in text.splitlines() if line.startswith("  ") and ".py " in line]


def ends_in_logs(checkout: Path, *programs: str) -> list[bool]:
    """Whether each run of these programs came to its end in an orderly way."""
    logs = [path for path in (checkout / "logs").iterdir() if path.stem.rpartition("-")[0] in programs]
    return ["orchestra.cli: ends" in path.read_text() for path in logs]


def test_the_demo_brings_the_file_to_both_members_and_says_how(
    checkout: Path, film: Path, programs: Programs
) -> None:
    shown = programs.start_other([*DEMO, str(film), "--port", "0"], cwd=checkout)
    assert shown.wait() == 0
    text = "".join(shown.noise)
    digest = hashlib.sha1(CONTENT).hexdigest()
    assert text.count(f"SHA-1 {digest}") == 3
    assert text.count("the same") == 2
    for folder in ("member-1", "member-2"):
        assert (checkout / "demo" / folder / film.name).read_bytes() == CONTENT
    assert "\x1b" not in text + shown.stderr
    assert ends_in_logs(checkout, "conductor", "member") == [True] * 4
    ran = commands_in(text)
    assert [command[1] for command in ran] == [
        "conductor.py",
        "composer.py",
        "member.py",
        "member.py",
        "member.py",
    ]
    assert subprocess.run(ran[1], cwd=checkout, capture_output=True, check=False, timeout=30).returncode == 0


def test_a_second_demo_starts_afresh_and_takes_another_port_when_its_own_is_taken(
    checkout: Path, film: Path, programs: Programs
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for _ in range(2):
            shown = programs.start_other([*DEMO, str(film), "--port", port], cwd=checkout)
            assert shown.wait() == 0
            text = "".join(shown.noise)
            assert text.count("the same") == 2
            assert [command[-1] for command in commands_in(text)[:2]] == [port, "0"]


def test_a_file_that_cannot_be_shared_is_said_in_one_line(
    checkout: Path, film: Path, programs: Programs
) -> None:
    film.unlink()
    shown = programs.start_other([*DEMO, str(film), "--port", "0"], cwd=checkout)
    assert shown.wait() == 4
    assert shown.stderr.startswith("demo: error: the composer ended: ")
    assert shown.stderr.count("\n") == 1
    assert ends_in_logs(checkout, "conductor") == [True]


def test_what_an_earlier_demo_received_is_not_deleted_for_the_next(
    checkout: Path, film: Path, programs: Programs
) -> None:
    received = checkout / "demo" / "member-1" / film.name
    received.parent.mkdir(parents=True)
    film.rename(received)
    shown = programs.start_other([*DEMO, str(received), "--port", "0"], cwd=checkout)
    assert shown.wait() == 2
    assert "give another file" in shown.stderr
    assert received.read_bytes() == CONTENT


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_stops_all_programs_in_order(
    checkout: Path, film: Path, programs: Programs, signum: int
) -> None:
    command = [*DEMO, str(film), "--port", "0"]
    with subprocess.Popen(
        command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as shown:
        try:
            assert shown.stdout is not None
            lines = iter(shown.stdout.readline, "")
            assert any("member-1" in line for line in lines)
            shown.send_signal(signum)
            _, err = shown.communicate(timeout=30)
        finally:
            shown.kill()
    assert (shown.returncode, err) == (-signum, "")
    assert set(ends_in_logs(checkout, "conductor", "member")) == {True}


def test_the_library_is_zipped_once_and_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "lib"
    for name in ("ast.py", "json/decoder.py", "json/__pycache__/x.pyc", "site-packages/pip/y.py"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(name)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(library))
    digests = set()
    for number in range(2):
        monkeypatch.setattr(demo, "STAGE", tmp_path / str(number))
        demo.STAGE.mkdir()
        path = demo.standard_library_zip(Console("demo", quiet=True))
        digests.add(hashlib.sha1(path.read_bytes()).hexdigest())
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["ast.py", "json/decoder.py"]
    assert len(digests) == 1
    shutil.rmtree(library)
    assert demo.standard_library_zip(Console("demo", quiet=True)) == path


def test_a_python_without_its_library_on_disk_asks_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path / "lib.zip"))
    monkeypatch.setattr(demo, "STAGE", tmp_path)
    with pytest.raises(StorageError, match="run.py demo FILE"):
        demo.standard_library_zip(Console("demo", quiet=True))
