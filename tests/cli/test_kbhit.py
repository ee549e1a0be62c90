"""kbhit.Keys under a real pseudo-terminal: every way in, every way out, and the modes afterwards."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

import pty
import termios

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 20.0

READ_UNTIL_Q = """
import queue, sys
from kbhit import Keys
keys = queue.Queue()
with Keys(keys.put):
    print("ready", flush=True)
    while (key := keys.get()) != "q":
        print("key", ascii(key), flush=True)
print("done", flush=True)
"""

RAISES = """
from kbhit import Keys
with Keys(print):
    raise RuntimeError("body failed")
"""

WAITS_FOR_A_LINE_ELSEWHERE = """
import os, sys, threading
from kbhit import Keys
with Keys(print):
    print("ready", threading.active_count(), flush=True)
    os.read(int(sys.argv[1]), 1)
print("done", flush=True)
"""

HANGS_WHILE_IT_STOPS = """
import sys, threading
from kbhit import Keys
from orchestra import cli
def body(arguments, console):
    with Keys(print):
        try:
            console.note("ready")
            threading.Event().wait()
        finally:
            console.note("stopping")
            threading.Event().wait()
    return 0
sys.exit(cli.run(cli.make_parser("toy", "", ""), body, ["--log-dir", sys.argv[1]]))
"""

# Makes the terminal its own, as a login does, and runs its arguments as a job in front or in the background.
SHELL = """
import fcntl, os, signal, subprocess, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
where, *command = sys.argv[1:]
job = subprocess.Popen(command, preexec_fn=os.setpgrp, close_fds=False)
if where == "foreground":
    os.tcsetpgrp(0, job.pid)
while True:
    _, status = os.waitpid(job.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        break
    os.tcsetpgrp(0, os.getpgrp())
    modes = termios.tcgetattr(0)[3]
    echo = "echo" if modes & termios.ECHO and modes & termios.ICANON else "raw"
    print("stopped by", signal.Signals(os.WSTOPSIG(status)).name, echo, flush=True)
    os.tcsetpgrp(0, job.pid)
    os.killpg(job.pid, signal.SIGCONT)
os.tcsetpgrp(0, os.getpgrp())
print("job ended", flush=True)
os.read(0, 1)
"""


class Terminal:
    """A pseudo-terminal: what a program wrote on it, what we type, and its modes."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.written = ""
        self._jobs: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        job: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, *command],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            **options,
        )
        self._jobs.append(job)
        return job

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def read_until(self, text: str) -> str:
        """All that was written up to `text`; later calls go on behind it."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.written:
            ready, _, _ = select.select([self.ours], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self.written!r}"
            self.written += os.read(self.ours, 4096).decode()
        before, _, self.written = self.written.partition(text)
        return before

    def read_until_the_job_ended(self, shell: subprocess.Popen[bytes]) -> str:
        """All that was written until then. The shell waits for a key: when it goes, unread output is lost."""
        text = self.read_until("job ended")
        self.type("\n")
        assert shell.wait(DEADLINE_S) == 0
        return text

    def local_modes(self) -> int:
        modes = termios.tcgetattr(self.theirs)[3]
        assert isinstance(modes, int)
        return modes

    def wait_for_modes(self, wanted: Callable[[int], bool]) -> None:
        """Until the terminal's local modes are as wanted (nothing announces a change of modes)."""
        deadline = time.monotonic() + DEADLINE_S
        while not wanted(self.local_modes()):
            assert time.monotonic() < deadline, "the terminal never got these modes"
            select.select([], [], [], 0.01)

    def close(self) -> None:
        for job in self._jobs:
            if job.poll() is None:
                job.kill()
            job.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


def is_line_mode(modes: int) -> bool:
    return bool(modes & termios.ICANON and modes & termios.ECHO)


def is_key_mode(modes: int) -> bool:
    return not modes & (termios.ICANON | termios.ECHO)


def test_each_key_arrives_without_enter_and_without_echo(terminal: Terminal) -> None:
    job = terminal.start("-c", READ_UNTIL_Q)
    terminal.read_until("ready")
    terminal.type("a")
    assert terminal.read_until("key 'a'").strip() == ""
    terminal.type("é")
    terminal.read_until(r"key '\xe9'")
    terminal.type("q")
    terminal.read_until("done")
    assert job.wait(DEADLINE_S) == 0


def test_arrow_and_function_keys_are_not_letters(terminal: Terminal) -> None:
    terminal.start("-c", READ_UNTIL_Q)
    terminal.read_until("ready")
    terminal.type("\x1b[A")
    terminal.type("\x1bOq")
    terminal.type("\x1b[15~")
    terminal.type("b")
    assert "key" not in terminal.read_until("key 'b'")


def test_modes_are_restored_after_the_block(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.theirs)
    job = terminal.start("-c", READ_UNTIL_Q)
    terminal.read_until("ready")
    assert is_key_mode(terminal.local_modes())
    terminal.type("q")
    assert job.wait(DEADLINE_S) == 0
    assert termios.tcgetattr(terminal.theirs) == before


def test_modes_are_restored_when_the_block_raises(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.theirs)
    job = terminal.start("-c", RAISES)
    terminal.read_until("body failed")
    assert job.wait(DEADLINE_S) == 1
    assert termios.tcgetattr(terminal.theirs) == before


def test_control_c_still_interrupts_and_restores(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.theirs)
    job = terminal.start(
        "-c", SHELL, "foreground", sys.executable, "-c", READ_UNTIL_Q, start_new_session=True
    )
    terminal.read_until("ready")
    terminal.type("\x03")
    terminal.read_until("KeyboardInterrupt")
    terminal.read_until_the_job_ended(job)
    assert termios.tcgetattr(terminal.theirs) == before


def test_a_second_control_c_ends_a_program_that_hangs_and_still_restores(
    terminal: Terminal, tmp_path: Path
) -> None:
    before = termios.tcgetattr(terminal.theirs)
    job = terminal.start(
        *("-c", SHELL, "foreground", sys.executable, "-c", HANGS_WHILE_IT_STOPS, str(tmp_path)),
        start_new_session=True,
    )
    terminal.read_until("ready")
    assert is_key_mode(terminal.local_modes())
    terminal.type("\x03")
    terminal.read_until("stopping")
    terminal.type("\x03")
    terminal.read_until_the_job_ended(job)
    assert termios.tcgetattr(terminal.theirs) == before


def test_the_shell_has_its_modes_while_suspended_and_we_have_ours_again_after(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.theirs)
    job = terminal.start(
        "-c", SHELL, "foreground", sys.executable, "-c", READ_UNTIL_Q, start_new_session=True
    )
    terminal.read_until("ready")
    for key in "xy":
        terminal.wait_for_modes(is_key_mode)
        terminal.type("\x1a")
        terminal.read_until("stopped by SIGTSTP echo")
        terminal.wait_for_modes(is_key_mode)
        terminal.type(key)
        terminal.read_until(f"key '{key}'")
    terminal.type("q")
    terminal.read_until_the_job_ended(job)
    assert termios.tcgetattr(terminal.theirs) == before


def test_a_background_job_is_not_stopped_and_leaves_the_terminal_alone(terminal: Terminal) -> None:
    go_read, go_write = os.pipe()
    code = WAITS_FOR_A_LINE_ELSEWHERE
    command = ("-c", SHELL, "background", sys.executable, "-c", code, str(go_read))
    job = terminal.start(*command, start_new_session=True, pass_fds=[go_read])
    os.close(go_read)
    try:
        terminal.read_until("ready")
        assert is_line_mode(terminal.local_modes())
        terminal.type("q\n")
        os.write(go_write, b".")
        text = terminal.read_until_the_job_ended(job)
        assert "done" in text
        assert "stopped" not in text
    finally:
        os.close(go_write)


@pytest.mark.parametrize("stdin", ["pipe", "null", "closed"])
def test_nothing_happens_without_a_terminal(stdin: str) -> None:
    code = "import threading\nfrom kbhit import Keys\nwith Keys(print): print(threading.active_count())"
    if stdin == "closed":
        code = f"import os, sys\nos.close(0)\nsys.stdin = None\n{code}"
    result = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE if stdin == "pipe" else subprocess.DEVNULL,
        capture_output=True,
        cwd=ROOT,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (result.returncode, result.stdout.split(), result.stderr) == (0, [b"1"], b"")


def test_a_terminal_that_hangs_up_ends_the_thread_not_the_program() -> None:
    ours, theirs = pty.openpty()
    code = (
        "import signal, sys, threading\nfrom kbhit import Keys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with Keys(print):\n"
        "    print('ready', flush=True)\n"
        "    [thread.join() for thread in threading.enumerate() if thread.name == 'keys']\n"
        "print('done')"
    )
    job = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=subprocess.PIPE, cwd=ROOT)
    os.close(theirs)
    assert job.stdout is not None
    with job.stdout:
        try:
            assert job.stdout.readline() == b"ready\n"
            os.close(ours)
            assert job.stdout.readline() == b"done\n"
            assert job.wait(DEADLINE_S) == 0
        finally:
            if job.poll() is None:
                os.kill(job.pid, signal.SIGKILL)
                job.wait()


def test_modes_found_are_not_the_modes_of_another_terminal(terminal: Terminal) -> None:
    """A terminal that was already without echo (a password prompt before us) stays so."""
    modes = termios.tcgetattr(terminal.theirs)
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal.theirs, termios.TCSANOW, modes)
    job = terminal.start("-c", READ_UNTIL_Q)
    terminal.read_until("ready")
    terminal.type("q")
    assert job.wait(DEADLINE_S) == 0
    assert not terminal.local_modes() & termios.ECHO
    assert terminal.local_modes() & termios.ICANON


def test_no_descriptor_is_left_open(terminal: Terminal) -> None:
    code = (
        "import os\nfrom kbhit import Keys\n"
        "before = len(os.listdir('/dev/fd'))\n"
        "for _ in range(3):\n    with Keys(print): pass\n"
        "print('left', len(os.listdir('/dev/fd')) - before)"
    )
    terminal.start("-c", code)
    terminal.read_until("left 0")
