"""What a program does not load before it needs it: in a swarm, all pay for it at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LATE = {
    "secrets",
    "email",
    "http.client",
    "ssl",
    "inspect",
    "json",
    "progressbar",
    "orchestra.rehearse",
    "encodings.idna",
}
LOOK = "import sys, importlib; importlib.import_module(sys.argv[1]); print(*sorted(sys.modules))"


@pytest.mark.parametrize("program", ["composer", "conductor", "member"])
def test_a_start_loads_nothing_that_can_wait(program: str) -> None:
    command = [sys.executable, "-c", LOOK, program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT)
    assert not LATE & set(ended.stdout.split())


RUN = """
import gc, runpy, sys
from orchestra import cli
before, during = gc.isenabled(), []
parse = cli.Parser.parse

def look(parser, argv):
    during.append(gc.isenabled() and gc.get_freeze_count() > 1000)
    return parse(parser, argv)

cli.Parser.parse, cli.leave = look, sys.exit
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    pass
print(before, during, "shutil" in sys.modules)
"""


@pytest.mark.parametrize("program", ["composer", "conductor", "member"])
def test_what_a_start_makes_is_no_garbage_and_options_do_without_shutil(program: str) -> None:
    command = [sys.executable, "-c", RUN, f"{program}.py", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT)
    assert ended.stdout.splitlines()[-1] == "True [True] False"


@pytest.mark.parametrize(("columns", "most"), [("72", 70), ("100", 98), ("wide", 78), ("", 78)])
def test_help_fits_the_terminal(columns: str, most: int) -> None:
    command = [sys.executable, "member.py", "--help"]
    environment = {**os.environ, "COLUMNS": columns}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT, env=environment
    )
    text = ended.stdout.partition("examples:")[0]
    assert most - 20 < max(map(len, text.splitlines())) <= most
