"""Odd surroundings: streams that are closed, a locale without letters, terminals that can do little."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from tests import figures
from tests.compositions import Composition, compose
from tests.invariants import Invariants
from tests.programs import PATIENCE_S, ROOT, Programs, bare_environment
from tests.scriptedpeer import ScriptedPeer

if sys.platform == "win32":
    pytest.skip("sh and pseudo-terminals are POSIX", allow_module_level=True)

from tests.terminals import Terminal

NAME = "Stück 🎼.bin"
ESCAPE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@pytest.fixture
def composition(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", 300_000, 16384, name=NAME)


@pytest.mark.fault("U1")
@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/null 2>&1"])
@pytest.mark.parametrize("mode", ["--json", "-v"])
def test_a_member_finishes_whichever_streams_are_closed(
    programs: Programs,
    invariants: Invariants,
    composition: Composition,
    tmp_path: Path,
    streams: str,
    mode: str,
) -> None:
    with ScriptedPeer(composition) as peer:
        options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed", "--peer", peer.name, mode]
        words = [str(ROOT / "member.py"), str(composition.write_orch(tmp_path)), *options]
        command = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, *words]
        member = programs.start_other([*command, "--log-dir", str(programs.log_dir)])
        member.name = "member"
        assert member.wait() == 0, member.story()
    assert composition.is_at(invariants.output(composition, tmp_path / "ours" / NAME))
    assert not ESCAPE.search(member.stderr), ascii(member.stderr)


@pytest.mark.fault("U1")
@pytest.mark.parametrize(
    "env", [{"LANG": "C"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}, {"COLUMNS": "0"}], ids=str
)
def test_without_a_terminal_no_escape_byte_is_written(
    programs: Programs, invariants: Invariants, composition: Composition, tmp_path: Path, env: dict[str, str]
) -> None:
    code, composer = programs.run(
        "composer", composition.path, "-o", tmp_path / "again.orch", json=False, env=env
    )
    assert code == 0, composer.story()
    with ScriptedPeer(composition) as peer:
        options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed", "--peer", peer.name]
        orch = tmp_path / "again.orch"
        code, member = programs.run("member", orch, *options, json=False, env=env)
        assert code == 0, member.story()
    assert composition.is_at(invariants.output(composition, tmp_path / "ours" / NAME))
    for program in (composer, member):
        said = program.stderr + "".join(program.noise)
        assert not ESCAPE.search(said), ascii(said)


@pytest.mark.fault("U1")
@pytest.mark.parametrize(
    ("columns", "env"),
    [(20, {"TERM": "xterm"}), (80, {"TERM": "dumb"}), (5, {"TERM": "xterm"}), (0, {"COLUMNS": "0"})],
    ids=str,
)
def test_a_terminal_that_can_do_little_is_no_hindrance(
    composition: Composition, tmp_path: Path, columns: int, env: dict[str, str]
) -> None:
    """Half of it comes, and the member shows that until q. No line is wider than the terminal."""
    orch = composition.write_orch(tmp_path)
    with (
        Terminal() as terminal,
        ScriptedPeer(composition, parts=range(composition.score.parts // 2)) as peer,
    ):
        fcntl.ioctl(terminal.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        written: list[str] = []
        command = [sys.executable, str(ROOT / "member.py"), str(orch), "--dir", str(tmp_path / "ours")]
        options = ["--port", "0", "--peer", peer.name, "--log-dir", str(tmp_path / "logs")]
        member = subprocess.Popen(
            [*command, *options],
            stdin=terminal.theirs,
            stdout=terminal.theirs,
            stderr=terminal.theirs,
            cwd=tmp_path,
            env={**bare_environment(tmp_path), **env},
        )
        shown = threading.Event()

        def read() -> None:
            while not "".join(written[-9:]).endswith("THE END"):
                written.append(os.read(terminal.ours, 4096).decode(errors="replace"))
                if columns < 12 or "48%" in written[-1] or " 9" in written[-1]:
                    shown.set()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            terminal.wait_for_keys()
            assert shown.wait(PATIENCE_S)
            terminal.type("q")
            assert member.wait(PATIENCE_S) == 7
        finally:
            member.kill()
            member.wait()
            os.write(terminal.theirs, b"THE END")
            reader.join(PATIENCE_S)
        assert terminal.is_sane
    text = "".join(written)
    assert "Traceback" not in text
    if env.get("TERM") == "dumb":
        assert "\x1b" not in text
    figures.note("U1", f"bytes on a terminal of {columns} columns, {env}", len(text))
