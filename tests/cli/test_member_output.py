"""What a member shows: a bar on a terminal, a line now and then elsewhere, only events with --json."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compositions import Composition, compose
from tests.programs import PATIENCE_S, ROOT, Programs, bare_environment
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

from tests.terminals import Terminal

PARTS = 20


@pytest.fixture
def composition(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", PARTS * 16384, 16384)


@pytest.fixture
def half(composition: Composition) -> Iterator[ScriptedPeer]:
    """A peer that gives half of the composition: the member stays where it is then."""
    with ScriptedPeer(composition, parts=range(PARTS // 2)) as peer:
        yield peer


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as opened:
        yield opened


@pytest.mark.fault("U1")
def test_without_a_terminal_there_is_a_line_every_few_seconds_and_no_escape(
    programs: Programs, composition: Composition, tmp_path: Path, half: ScriptedPeer
) -> None:
    orch = composition.write_orch(tmp_path)
    options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--peer", half.name]
    # Its transfer stands still after a moment: the lines come all the same.
    member = programs.start("member", orch, *options, json=False)
    said = member.wait_for_stderr("50%")
    line = next(line for line in said.splitlines() if "50%" in line)
    assert "10/20" in line
    assert "1 member" in line
    assert "\x1b" not in said
    assert "\r" not in said
    member.stop()


def test_quiet_says_nothing_at_all(programs: Programs, composition: Composition, tmp_path: Path) -> None:
    orch = composition.write_orch(tmp_path)
    with ScriptedPeer(composition) as peer:
        options = ["-q", "--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed", "--peer", peer.name]
        code, member = programs.run("member", orch, *options, json=False)
    assert code == 0
    assert member.stderr == ""
    assert member.noise == []


def test_the_path_is_all_that_a_person_gets_on_stdout(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    orch = composition.write_orch(tmp_path)
    with ScriptedPeer(composition) as peer:
        options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed", "--peer", peer.name]
        code, member = programs.run("member", orch, *options, json=False)
    assert code == 0
    assert member.noise == [f"{tmp_path / 'ours' / 'piece.bin'}\n"]
    assert "complete and verified" in member.stderr


def test_the_events_are_those_of_the_manual(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    orch = composition.write_orch(tmp_path)
    with ScriptedPeer(composition) as peer:
        options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed", "--peer", peer.name]
        code, member = programs.run("member", orch, *options)
    assert code == 0
    fields = {event["event"]: list(event) for event in member.events}
    assert fields == {
        "listening": ["event", "host", "port"],
        "progress": [
            "event",
            "parts_done",
            "parts",
            "downloaded_bytes",
            "uploaded_bytes",
            "rate_bytes_s",
            "members",
            "eta_s",
        ],
        "complete": ["event", "path", "sha1", "size_bytes", "downloaded_bytes", "elapsed_s"],
        "stopped": ["event", "reason"],
    }
    names = [event["event"] for event in member.events]
    names.remove("listening")  # who dials may be complete before the port is taken
    assert names[-2:] == ["complete", "stopped"]
    last = [event for event in member.events if event["event"] == "progress"][-1]
    assert (last["parts_done"], last["eta_s"]) == (PARTS, 0)


def test_json_and_people_s_lines_do_not_mix(
    programs: Programs, composition: Composition, tmp_path: Path, half: ScriptedPeer, terminal: Terminal
) -> None:
    """With --json no bar is drawn, on whatever kind of stderr."""
    orch = composition.write_orch(tmp_path)
    options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--peer", half.name]
    member = programs.start("member", orch, *options, stdin=terminal.theirs)
    member.wait_for_event("progress", parts_done=PARTS // 2)
    terminal.type("q")
    assert member.wait() == 7
    assert "%" not in member.stderr


class OnTerminal:
    """A member with everything on one terminal, as a person has it. `text` is what it wrote so far."""

    def __init__(self, terminal: Terminal, folder: Path, *arguments: str | Path, **env: str) -> None:
        self.text = ""
        self._news = threading.Condition()
        self._terminal = terminal
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "member.py"),
                *map(str, arguments),
                "--log-dir",
                str(folder / "logs"),
            ],
            stdin=terminal.theirs,
            stdout=terminal.theirs,
            stderr=terminal.theirs,
            cwd=folder,
            env={**bare_environment(folder), "TERM": "xterm", **env},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, text: str) -> None:
        with self._news:
            assert self._news.wait_for(lambda: text in self.text, PATIENCE_S), self.text

    def wait(self) -> int:
        code = self.process.wait(PATIENCE_S)
        os.write(self._terminal.theirs, b"THE END")
        self._reader.join(PATIENCE_S)
        return code

    def _read(self) -> None:
        while not self.text.endswith("THE END"):
            data = os.read(self._terminal.ours, 4096).decode(errors="replace")
            with self._news:
                self.text += data
                self._news.notify_all()


@pytest.mark.parametrize("plain", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR"])
def test_a_terminal_gets_a_bar_and_is_given_back(
    composition: Composition, tmp_path: Path, half: ScriptedPeer, terminal: Terminal, plain: dict[str, str]
) -> None:
    orch = composition.write_orch(tmp_path)
    options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--peer", half.name]
    member = OnTerminal(terminal, tmp_path, orch, *options, **plain)
    member.wait_for("50%")
    member.wait_for("10/20")
    terminal.type("q")
    assert member.wait() == 7
    assert terminal.is_sane
    assert member.text.count("\x1b[?25l") == member.text.count("\x1b[?25h")
    assert ("\x1b" in member.text) == (not plain)


def ended(tmp_path: Path, orch: Path, stdout: int) -> tuple[int, str]:
    """Run a member with --json into `stdout`, until it ends; its exit code, and its stderr."""
    command = [sys.executable, str(ROOT / "member.py"), str(orch), "--json", "-q", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--dir", str(tmp_path / "ours"), "--log-dir", str(tmp_path / "logs")],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=bare_environment(tmp_path),
    )
    _, stderr = process.communicate(timeout=PATIENCE_S)
    return process.returncode, stderr.decode()


@pytest.mark.fault("U1")
def test_a_reader_that_leaves_ends_it_without_a_word_and_the_conductor_knows(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    """As `member.py x.orch --json | head -1` does."""
    orchestra = Orchestra(programs, composition)
    read, write = os.pipe()
    os.close(read)
    code, stderr = ended(tmp_path, orchestra.orch, write)
    os.close(write)
    assert (code, stderr) == (-signal.SIGPIPE, "")
    assert orchestra.scrape() == (0, 0)


@pytest.mark.fault("U1")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a thing of Linux")
def test_a_stdout_that_is_full_is_code_4(composition: Composition, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        code, stderr = ended(tmp_path, composition.write_orch(tmp_path), full.fileno())
    assert code == 4
    assert stderr.startswith("member: error: cannot write to standard output")
    assert stderr.count("\n") == 1
