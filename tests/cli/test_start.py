"""What a program does not load before it needs it: in a swarm, all pay for it at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LATE = {"secrets", "email", "http.client", "ssl", "progressbar", "orchestra.rehearse", "encodings.idna"}
LOOK = "import sys, importlib; importlib.import_module(sys.argv[1]); print(*sorted(sys.modules))"


@pytest.mark.parametrize("program", ["composer", "conductor", "member"])
def test_a_start_loads_nothing_that_can_wait(program: str) -> None:
    command = [sys.executable, "-c", LOOK, program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT)
    assert not LATE & set(ended.stdout.split())
