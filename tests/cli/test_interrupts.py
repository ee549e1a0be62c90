"""Ctrl-C before a program has begun: while it still imports what it is made of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = """
import os, signal, sys
os.kill(os.getpid(), signal.SIGINT)
sys.path.remove(os.path.dirname(__file__))
del sys.modules[__name__]
import argparse
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The signal comes when the program imports what reads its command line."""
    (tmp_path / "argparse.py").write_text(STAND_IN)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("program", ["composer.py", "conductor.py"])
def test_an_interrupt_while_it_starts_kills_without_a_word(program: str, environment: dict[str, str]) -> None:
    command = [sys.executable, str(ROOT / program), "--version"]
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_interrupt_that_is_ignored_stays_ignored_while_it_starts(environment: dict[str, str]) -> None:
    command = f'trap "" INT; exec "{sys.executable}" "{ROOT / "composer.py"}" --version'
    ended = subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
