"""run.py without a network: what it believes, what it makes anew, and which exit code it ends with."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import run

ROOT = Path(__file__).resolve().parents[2]


class Checkout:
    """A checkout of its own for run.py, in which nothing is really installed: commands are only noted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: list[list[str]] = []
        self.exit_codes: dict[str, int] = {}
        (root / "tests").mkdir()
        (root / "requirements.txt").write_text("progressbar2\n")
        (root / "tests" / "requirements.txt").write_text("pytest\n")

    def call(self, command: list[str]) -> int:
        """In place of run.call; makes what `python -m venv` makes."""
        self.commands.append(command)
        code = self.exit_codes.get(self.kind_of(command), 0)
        if command[1:3] == ["-m", "venv"] and not code:
            run.PYTHON.parent.mkdir(parents=True, exist_ok=True)
            run.PYTHON.touch()
        return code

    def kind_of(self, command: list[str]) -> str:
        return command[2]

    def kinds(self) -> list[str]:
        """What was run since the last time that this was asked."""
        kinds = [self.kind_of(command) for command in self.commands]
        self.commands.clear()
        return kinds


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = Checkout(tmp_path)
    venv = tmp_path / ".venv"
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "VENV", venv)
    monkeypatch.setattr(run, "STAMP", venv / "orchestra.json")
    monkeypatch.setattr(run, "OURS", venv / "made-by-run.py")
    monkeypatch.setattr(run, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(run, "call", made.call)
    return made


def test_the_first_time_makes_and_fills_the_environment_and_the_second_time_nothing(
    checkout: Checkout,
) -> None:
    run.prepare(run.CORE)
    assert checkout.kinds() == ["venv", "pip"]
    run.prepare(run.CORE)
    assert checkout.kinds() == []


def test_the_tests_add_to_the_environment_of_the_demo_and_leave_it_right(checkout: Checkout) -> None:
    run.prepare(run.CORE)
    run.prepare(run.TEST)
    assert checkout.kinds() == ["venv", "pip", "pip"]
    run.prepare(run.CORE)
    run.prepare(run.TEST)
    assert checkout.kinds() == []


def test_the_environment_of_the_tests_serves_the_demo(checkout: Checkout) -> None:
    run.prepare(run.TEST)
    checkout.kinds()
    run.prepare(run.CORE)
    assert checkout.kinds() == []


def test_a_changed_requirement_is_installed(checkout: Checkout) -> None:
    run.prepare(run.CORE)
    checkout.kinds()
    (checkout.root / "requirements.txt").write_text("progressbar2>=4.5\n")
    run.prepare(run.CORE)
    assert checkout.kinds() == ["pip"]
    run.prepare(run.CORE)
    assert checkout.kinds() == []


def test_a_half_made_environment_is_made_anew(checkout: Checkout) -> None:
    run.prepare(run.CORE)
    checkout.exit_codes["pip"] = 1
    with pytest.raises(run.Problem, match="pip could not install tests/requirements.txt"):
        run.prepare(run.TEST)
    leftover = run.VENV / "leftover"
    leftover.touch()
    checkout.kinds()
    checkout.exit_codes.clear()
    run.prepare(run.CORE)
    assert checkout.kinds() == ["venv", "pip"]
    assert not leftover.exists()


@pytest.mark.parametrize(
    "stamp", ["", "{}", "[]", '{"python": 1, "installed": {}}', '{"installed": ["x"]}', "\0"]
)
def test_a_stamp_that_makes_no_sense_is_not_believed(checkout: Checkout, stamp: str) -> None:
    run.prepare(run.CORE)
    checkout.kinds()
    run.STAMP.write_text(stamp)
    run.prepare(run.CORE)
    assert checkout.kinds() == ["venv", "pip"]


def test_another_python_gets_another_environment(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    run.prepare(run.CORE)
    checkout.kinds()
    monkeypatch.setattr(sys, "base_prefix", "/somewhere/else")
    run.prepare(run.CORE)
    assert checkout.kinds() == ["venv", "pip"]


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    run.prepare(run.CORE)
    checkout.kinds()
    run.PYTHON.unlink()
    run.prepare(run.CORE)
    assert checkout.kinds() == ["venv", "pip"]


def test_an_environment_that_someone_else_made_is_never_deleted(checkout: Checkout) -> None:
    run.VENV.mkdir()
    (run.VENV / "precious").touch()
    with pytest.raises(run.Problem, match="not made by run.py"):
        run.prepare(run.CORE)
    assert (run.VENV / "precious").exists()


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_said_in_one_line(
    checkout: Checkout, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    assert run.main(["demo"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not run.VENV.exists()


def test_lint_types_and_tests_all_run_and_the_first_failure_is_the_exit_code(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.exit_codes = {"mypy": 3, "pytest": 4}
    assert run.main(["test", "-k", "picker"]) == 3
    assert checkout.kinds() == ["venv", "pip", "ruff", "mypy", "pytest"]
    assert "types failed" in capsys.readouterr().out


def test_pytest_gets_the_arguments_and_its_number_of_workers_unless_told(checkout: Checkout) -> None:
    run.main(["test", "-k", "picker"])
    assert checkout.commands[-1][3:] == ["-n", str(run.workers_here()), "-k", "picker"]
    run.main(["test", "-n0"])
    assert checkout.commands[-1][3:] == ["-n0"]


def test_the_soak_has_every_test_of_a_case_and_holds_them_to_their_marks(checkout: Checkout) -> None:
    run.main(["soak", "-k", "kill"])
    command = checkout.commands[-1]
    assert command[2:6] == ["pytest", "-m", "fault", "--hold-marks"]
    assert "--override-ini=norecursedirs=.*" in command, "else it would not look into tests/soak"
    assert command[-2:] == ["-k", "kill"]


def test_the_demo_gets_the_file_wherever_it_was_named_from(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["demo", "holiday.mp4"]) == 0
    assert checkout.commands[-1][2:] == ["orchestra.demo", str(tmp_path / "holiday.mp4")]


@pytest.mark.parametrize("arguments", [[], ["sing"], ["demo", "a", "b"], ["demo", "--fast"]])
def test_what_it_does_not_know_is_answered_by_the_usage(arguments: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "python3 run.py demo [FILE]" in result.stderr
    assert "python3 run.py test" in result.stderr


def test_help_is_not_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--help"]) == 0
    assert "python3 run.py demo" in capsys.readouterr().out


def test_an_old_python_gets_as_far_as_the_line_that_says_so() -> None:
    tree = ast.parse((ROOT / "run.py").read_text(encoding="utf-8"), feature_version=(3, 7))
    kinds = [type(node) for node in tree.body]
    check = kinds.index(ast.If)
    assert not {ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign} & set(kinds[:check])
    assert not [
        node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]


def test_the_exit_code_of_what_was_run_comes_back() -> None:
    assert run.call([sys.executable, "-c", "raise SystemExit(7)"]) == 7


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_what_a_signal_killed_ends_with_128_and_the_signal() -> None:
    assert run.call([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


def test_what_leads_an_environment_astray_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    kept = run.environment()
    assert "PYTHONPATH" not in kept
    assert kept["PIP_USER"] == "0"
    assert kept["HTTPS_PROXY"] == "http://proxy:3128"


def test_only_requirement_files_of_the_checkout_are_named() -> None:
    for name in {*run.CORE, *run.TEST}:
        assert (ROOT / name).is_file()
