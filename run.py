"""The commands for a fresh clone: `python3 run.py demo`, `test`, `soak`, `fuzz`, `bench`.

Makes a virtual environment in .venv beside this file, installs what is
missing, and runs the command in it. Needs Python 3.10 or newer and, the first
time, a package index; no root, nothing else. A stamp in .venv, written last,
says what was installed for which Python: without a right one the environment
is made anew, so a half-made one is never believed, and with one nothing is
installed and no network is needed.

Standard library only. No `from __future__` and no new syntax: an old Python
must get as far as the line that says it is too old.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO

if sys.version_info < (3, 10):
    sys.exit(f"run.py: this needs Python 3.10 or newer, but {sys.executable} is {sys.version.split()[0]}")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "orchestra.json"
OURS = VENV / "made-by-run.py"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CORE = ("requirements.txt",)
TEST = ("requirements.txt", "tests/requirements.txt")
BENCH = ("requirements.txt", "benchmarks/requirements.txt")
USAGE = 2


class Problem(Exception):
    """Something that the user can put right. The text is the one line that is shown."""


def demo(arguments: list[str]) -> int:
    """watch a file go from one member to two others; FILE is any file of yours"""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        return usage()
    prepare(CORE)
    files = [str(Path(argument).resolve()) for argument in arguments]
    return call([str(PYTHON), "-m", "orchestra.demo", *files])


def test(arguments: list[str]) -> int:
    """lint, types and all tests; arguments go to pytest"""
    prepare(TEST)
    chosen = any(argument.startswith(("-n", "--numprocesses", "--pdb")) for argument in arguments)
    workers = [] if chosen else ["-n", str(workers_here())]
    steps = {
        "lint": ["ruff", "check", "."],
        "types": ["mypy"],
        "tests": ["pytest", *workers, *arguments],
    }
    first_failure = 0
    for name, command in steps.items():
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        code = call([str(PYTHON), "-m", *command])
        # Said here, not at the end: the last line is to be the one in which pytest sums up.
        if code and name != "tests":
            print(f"== {name} failed (exit code {code})", flush=True)
        first_failure = first_failure or code
    return first_failure


def soak(arguments: list[str]) -> int:
    """all tests of faults, the long ones too, with figures; an hour; arguments go to pytest (-k chooses)"""
    prepare(TEST)
    hours = ["--timeout=3600", "--override-ini=faulthandler_timeout=3500"]
    options = ["-m", "fault", "--hold-marks", "--override-ini=norecursedirs=.*", *hours, *arguments]
    return call([str(PYTHON), "-m", "pytest", *options])


def fuzz(arguments: list[str]) -> int:
    """fuzz every parser and the orchestrator, a million inputs each, or SECONDS in all; -h tells more"""
    prepare(TEST)
    return call([str(PYTHON), "-m", "tests.fuzz", *arguments])


def bench(arguments: list[str]) -> int:
    """measure against others of the trade; -h tells what there is"""
    prepare(BENCH)
    return call([str(PYTHON), "-m", "benchmarks", *arguments])


COMMANDS: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "demo": ("[FILE]", demo),
    "test": ("[PYTEST ARGUMENTS]", test),
    "soak": ("[PYTEST ARGUMENTS]", soak),
    "fuzz": ("[SECONDS]", fuzz),
    "bench": ("[NAME ...]", bench),
}


def main(argv: list[str]) -> int:
    """Run the command that `argv` names; its exit code."""
    if argv[:1] in (["-h"], ["--help"]):
        return usage(to=sys.stdout, exit_code=0)
    if not argv or argv[0] not in COMMANDS:
        return usage()
    try:
        return COMMANDS[argv[0]][1](argv[1:])
    except Problem as problem:
        print(f"run.py: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def usage(to: TextIO = sys.stderr, exit_code: int = USAGE) -> int:
    """Print what there is; `exit_code`."""
    for name, (arguments, function) in COMMANDS.items():
        print(f"python3 run.py {name} {arguments}\n    {function.__doc__}", file=to)
    return exit_code


def prepare(requirement_files: tuple[str, ...]) -> None:
    """Have a virtual environment with these requirements: at once when it is there, else make and fill it.

    The last file is the one to install: it includes the others.
    """
    with only_one_at_a_time():
        wanted = {name: fingerprint(name) for name in requirement_files}
        if wanted.items() <= installed().items():
            return
        if not installed():
            make_venv()
        known = installed()
        STAMP.unlink(missing_ok=True)
        install(requirement_files[-1])
        write_stamp({**known, **wanted})


def fingerprint(requirement_file: str = "") -> str:
    """Stands for this Python in this place, and for what is in that file."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {sys.base_prefix} {os.name} {ROOT}".encode())
    if requirement_file:
        digest.update((ROOT / requirement_file).read_bytes())
    return digest.hexdigest()


def installed() -> dict[str, str]:
    """Requirement files that are installed, with their fingerprints, as the stamp says.

    An empty dictionary when the environment is missing, half-made, or made for another Python or place.
    """
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return dict(stamp["installed"]) if PYTHON.exists() and stamp["python"] == fingerprint() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_stamp(fingerprints: dict[str, str]) -> None:
    """Say what is installed; whole or not at all."""
    draft = STAMP.with_suffix(".new")
    draft.write_text(json.dumps({"python": fingerprint(), "installed": fingerprints}), encoding="utf-8")
    draft.replace(STAMP)


def make_venv() -> None:
    """Make .venv, in place of one that this program began and did not finish, or made for another Python."""
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            hint = f"apt install python3.{sys.version_info[1]}-venv" if shutil.which("apt") else "install it"
            raise Problem(f"this Python comes without the module {module}, which makes environments ({hint})")
    if VENV.exists() and not OURS.exists():
        raise Problem(f"{VENV} is there, but was not made by run.py: move it away, and run this again")
    print(f"making an environment in {VENV}", flush=True)
    try:
        if VENV.exists():
            shutil.rmtree(VENV)
        VENV.mkdir()
        OURS.touch()
    except OSError as error:
        raise Problem(f"cannot make {VENV}: {error.strerror or error}") from error
    if call([sys.executable, "-m", "venv", str(VENV)]):
        raise Problem(f"python -m venv {VENV} failed: see above")


def install(requirement_file: str) -> None:
    """Install one requirement file with pip."""
    print(f"installing {requirement_file} (the first time only)", flush=True)
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2"]
    if call([str(PYTHON), "-m", "pip", "install", *options, "-r", str(ROOT / requirement_file)]):
        raise Problem(
            f"pip could not install {requirement_file}: see above. Without a network? "
            "It is needed once; PIP_INDEX_URL and HTTPS_PROXY name a mirror and a proxy"
        )


def call(command: list[str]) -> int:
    """Run it in the folder of this file; its exit code (128 + signal when one killed it).

    Ctrl-C reaches it from the terminal, SIGTERM through us; it decides when it has ended.
    KeyboardInterrupt then, unless it ended well.
    """
    interrupted = False
    with subprocess.Popen(command, cwd=ROOT, env=environment()) as process:

        def forward(signum: int, _frame: FrameType | None) -> None:
            process.send_signal(signum)

        before = signal.signal(signal.SIGTERM, forward)
        try:
            while True:
                try:
                    code = process.wait()
                    break
                except KeyboardInterrupt:
                    interrupted = True
        finally:
            signal.signal(signal.SIGTERM, before)
    if interrupted and code:
        raise KeyboardInterrupt
    return code if code >= 0 else 128 - code


def environment() -> dict[str, str]:
    """The user's environment without what would lead an environment of its own astray."""
    astray = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in os.environ.items() if name not in astray}
    return {**kept, "PIP_USER": "0"}  # a user's pip.conf may say otherwise, and pip refuses that here


def workers_here() -> int:
    """Processes for the tests: most of them wait, so even one core has work for two."""
    return max(2, min(8, os.cpu_count() or 2))


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Two of us must not make one environment. The lock is on this file and goes with the process."""
    try:
        import fcntl  # noqa: PLC0415 - POSIX only
    except ImportError:
        yield
        return
    with Path(__file__).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run.py to finish with the environment", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
