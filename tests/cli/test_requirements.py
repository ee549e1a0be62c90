"""A program outside its environment says what is missing, instead of failing on an import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("program", ["composer.py", "conductor.py", "member.py"])
def test_without_the_requirements_one_line_says_what_to_do(program: str) -> None:
    # -S leaves out all installed packages.
    command = [sys.executable, "-S", str(ROOT / program), "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert "progressbar is missing" in line
    assert "requirements.txt" in line
