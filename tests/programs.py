"""The three programs as real processes: start them, read their events, and leave none behind.

Used through the `programs` fixture of conftest.py. Every wait is a wait for an
event, an exit or a deadline; none is a sleep. A process is ended by its own
id, and its stderr is shown when the test fails.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 30.0
"""How long a test waits for what ought to happen at once. Only failing tests take that long."""

Event = dict[str, Any]


class Program:
    """One running program. `events` and `stderr` grow as it speaks."""

    def __init__(self, command: list[str], *, cwd: Path, env: dict[str, str], stdin: int) -> None:
        self.command = command
        self.name = next(Path(word).stem for word in command if word != sys.executable)
        self.events: list[Event] = []
        self.noise: list[str] = []
        """Lines on stdout that are not events. With --json there must be none."""
        self.was_killed = False
        """Whether the test has killed it, or has it killed: its exit code says nothing then."""
        self.peak_rss_bytes = 0
        """The most memory that it has had (VmHWM), when it last spoke or was looked at; 0 without /proc."""
        self._stderr: list[str] = []
        self._news = threading.Condition()
        self._readers_left = 2
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._got_stdout)),
            threading.Thread(target=self._read, args=(self.process.stderr, self._stderr.append)),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def stderr(self) -> str:
        """What it has written on stderr so far; all of it after `wait`."""
        with self._news:
            return "".join(self._stderr)

    def wait_for_event(
        self, name: str, timeout_s: float = PATIENCE_S, *, after: int = 0, **fields: Any
    ) -> Event:
        """The first event of that name with these fields, at position `after` or later, when it comes.

        Fails at once when the program has ended without it.
        """
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for event in self.events[after:]:
                    if event["event"] == name and fields.items() <= event.items():
                        return event
                left_s = deadline - time.monotonic()
                why = "has ended" if not self._readers_left else "took too long" if left_s <= 0 else ""
                if why:
                    raise AssertionError(
                        f"no event {name!r} {fields or ''}: {self.name} {why}\n{self._story()}"
                    )
                self._news.wait(left_s)

    def wait_for_stderr(self, text: str, timeout_s: float = PATIENCE_S) -> str:
        """All of stderr, once `text` is in it. Fails at once when the program has ended without it."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while text not in "".join(self._stderr):
                left_s = deadline - time.monotonic()
                if not self._readers_left or left_s <= 0:
                    raise AssertionError(f"no {text!r} on stderr of {self.name}\n{self._story()}")
                self._news.wait(left_s)
            return "".join(self._stderr)

    def wait_for_noise(self, lines: int = 1, timeout_s: float = PATIENCE_S) -> None:
        """Until so many lines that are no events are in `noise`."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.noise) >= lines, timeout_s)
        assert came, self.story()

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit code (minus the signal that killed it), once it has ended and all that it said is read."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended in {timeout_s} s\n{self.story()}") from None
        for reader in self._readers:
            reader.join(timeout_s)
            assert not reader.is_alive(), f"somebody holds on to the output of {self.name}, which has ended"
        if "--json" in self.command:
            assert not self.noise, f"not an event, on stdout with --json\n{self.story()}"
        return code

    def signal(self, signum: int) -> None:
        """Send it a signal (on Windows it just ends)."""
        self.process.send_signal(signum)

    def look(self) -> None:
        """Read its peak memory: afterwards, when it has ended, nobody knows it any more."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return
        if peak := re.search(r"^VmHWM:\s*(\d+)", status, re.MULTILINE):
            self.peak_rss_bytes = max(self.peak_rss_bytes, 1024 * int(peak[1]))

    def kill(self) -> None:
        """Kill it as a power cut would, and wait until it is gone."""
        self.was_killed = True
        self.process.kill()
        self.wait()

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """Ask it to end (SIGTERM); its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def press(self, keys: str) -> None:
        """Write to its stdin; it must have been started with stdin=subprocess.PIPE."""
        assert self.process.stdin is not None
        self.process.stdin.write(keys.encode())
        self.process.stdin.flush()

    def story(self) -> str:
        """Command, events and stderr, for the message of a failing test."""
        with self._news:
            return self._story()

    def close(self) -> None:
        """Leave nothing of it behind, however the test ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _story(self) -> str:
        said = "\n".join(json.dumps(event) for event in self.events[-20:])
        return f"$ {' '.join(self.command)}\n{said}\n{''.join(self.noise)}{''.join(self._stderr)}"

    def _read(self, stream: IO[bytes], got: Any) -> None:
        try:
            for line in stream:
                self.look()
                with self._news:
                    got(line.decode(errors="backslashreplace"))
                    self._news.notify_all()
        finally:
            with self._news:
                self._readers_left -= 1
                self._news.notify_all()

    def _got_stdout(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and "event" in event:
            self.events.append(event)
        else:
            self.noise.append(line)


class Programs:
    """Starts programs in a folder of their own, and ends what is still running when the test is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_dir = folder / "logs"
        self.running: list[Program] = []

    def start(
        self,
        program: str,
        *arguments: str | os.PathLike[str],
        json: bool = True,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> Program:
        """Start `program` ("composer", "conductor", "member") with --json and a log folder of the test's own.

        `env` adds to a bare environment: nothing of the user's configuration reaches a test.
        """
        script = ROOT / f"{program}.py"
        command = [
            sys.executable,
            str(script),
            *(os.fspath(argument) for argument in arguments),
            "--log-dir",
            str(self.log_dir),
        ]
        if json:
            command.append("--json")
        return self.start_other(command, cwd=cwd, env=env, stdin=stdin)

    def start_other(
        self,
        command: list[str],
        *,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> Program:
        """Start a program that is none of the three: a foreign client, or one of ours in a wrapper."""
        started = Program(
            command, cwd=cwd or self.folder, env={**bare_environment(self.folder), **(env or {})}, stdin=stdin
        )
        self.running.append(started)
        return started

    def run(self, program: str, *arguments: str | os.PathLike[str], **options: Any) -> tuple[int, Program]:
        """Start a program that ends by itself; its exit code, and all that it said."""
        started = self.start(program, *arguments, **options)
        return started.wait(), started

    def close(self) -> None:
        """End them all, the last one first."""
        for program in reversed(self.running):
            program.close()
            sys.stderr.write(
                f"--- {program.name} ended with {program.process.returncode}\n{program.story()}\n"
            )


def bare_environment(home: Path) -> dict[str, str]:
    """What a process needs to start at all, and no setting of whoever runs the tests."""
    needed = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    kept = {name: os.environ[name] for name in needed if name in os.environ}
    return {**kept, "HOME": str(home), "LANG": "C.UTF-8", "PYTHONFAULTHANDLER": "1"}
