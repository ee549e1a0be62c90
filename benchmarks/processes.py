"""Processes under measurement: started, heard, and reaped with what they cost.

Main thread, and one thread a process that stamps each line of its stdout with
the time at which it came. Every program speaks JSON lines with `event` in
them: ours with --json, the others through small scripts of ours. No process
outlives its Stage. Python's modules are read as anyone's after a first start:
compiled before, by `compile_modules`.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.composition import MIB, in_memory

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 120.0
"""How long a process may take to say what it is waited for."""
STOP_S = 15.0
LOOK_S = 0.02
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
_READ_SIZE = 1 << 16

Event = dict[str, Any]


class BenchmarkError(Exception):
    """A measurement that could not be made. The text is shown."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process cost in its whole life; nan where the system does not tell."""

    cpu_s: float
    peak_bytes: float
    exit_code: int


class Process:
    """One running process. `began_s` is the moment before exec, on the monotonic clock, as all times here."""

    def __init__(
        self,
        command: list[str],
        *,
        folder: Path,
        label: str,
        stdin: int | None = None,
        parse: Callable[[bytes], Event | None] | None = None,
    ) -> None:
        self.label = label
        self.command = command
        self.usage: Usage | None = None
        self._events: list[tuple[float, Event]] = []
        self._news = threading.Condition()
        self._ended = False
        self._peak_bytes = math.nan
        self._parse = parse or parse_json
        self._errors_path = folder / f"{label}.stderr"
        with self._errors_path.open("wb") as errors:
            self.began_s = time.monotonic()
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(),
                stdin=subprocess.PIPE if stdin is None else stdin,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._listener = threading.Thread(target=self._listen, name=f"listen to {label}")
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_for(self, name: str, *, timeout_s: float = PATIENCE_S, **fields: Any) -> tuple[float, Event]:
        """When the first event of that name with these fields came, and the event. Raises BenchmarkError."""
        deadline_s = time.monotonic() + timeout_s
        seen = 0
        with self._news:
            while True:
                for at_s, event in self._events[seen:]:
                    if event["event"] == name and fields.items() <= event.items():
                        return at_s, event
                seen = len(self._events)
                left_s = deadline_s - time.monotonic()
                if self._ended or left_s <= 0:
                    why = "ended" if self._ended else f"took longer than {timeout_s:.0f} s"
                    raise BenchmarkError(f"{self.label} {why} without the event {name!r}\n{self.story()}")
                self._news.wait(left_s)

    def events(self, since: int = 0) -> list[tuple[float, Event]]:
        """When each event so far came, and the event, but for the first `since`."""
        with self._news:
            return self._events[since:]

    @property
    def ended(self) -> bool:
        """Whether it will say no more."""
        with self._news:
            return self._ended

    def tell(self, text: str) -> float:
        """Write a line to its stdin; the moment before."""
        assert self._process.stdin is not None
        now_s = time.monotonic()
        self._process.stdin.write(f"{text}\n".encode())
        self._process.stdin.flush()
        return now_s

    def cpu_s(self) -> float:
        """User and system time so far, all threads; nan where the system does not tell."""
        if self.usage is not None:
            return self.usage.cpu_s
        return cpu_of(self.pid)

    def signal(self, signum: int) -> float:
        """Send a signal; the moment before."""
        self._peak_bytes = peak_of(self.pid)
        now_s = time.monotonic()
        os.kill(self.pid, signum)
        return now_s

    def wait(self, timeout_s: float = PATIENCE_S) -> float:
        """Wait until it has ended by itself; the moment. `usage` is known then."""
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended, time.monotonic() + timeout_s))
        watcher.start()
        try:
            ended_s = self._reap(ended)
        finally:
            ended.set()
            watcher.join()
        self._listener.join(STOP_S)
        return ended_s

    def _watch(self, ended: threading.Event, deadline_s: float) -> None:
        """Note its memory now and then until it has ended; kill it at the deadline."""
        while not ended.wait(LOOK_S):
            peak_bytes = peak_of(self.pid)
            if not math.isnan(peak_bytes):
                self._peak_bytes = peak_bytes
            if time.monotonic() > deadline_s:
                # Not by subprocess, which would reap it.
                os.kill(self.pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
                return

    def stop(self) -> Usage:
        """Ask it to end, reap it, and say what it cost."""
        if self.usage is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGTERM)
            self.wait(STOP_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        assert self.usage is not None
        return self.usage

    def _reap(self, ended: threading.Event) -> float:
        if self.usage is not None:
            return time.monotonic()
        if not hasattr(os, "wait4"):
            code = self._process.wait()
            self.usage = Usage(math.nan, math.nan, code)
            return time.monotonic()
        _, status, used = os.wait4(self.pid, 0)
        ended_s = time.monotonic()
        ended.set()
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code  # subprocess must not wait for it as well
        peak_bytes = float(used.ru_maxrss * _RSS_UNIT_BYTES)
        if not math.isnan(self._peak_bytes):
            # Linux counts what we were when we forked towards ru_maxrss.
            peak_bytes = min(peak_bytes, self._peak_bytes)
        self.usage = Usage(used.ru_utime + used.ru_stime, peak_bytes, code)
        return ended_s

    def _listen(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while data := os.read(self._process.stdout.fileno(), _READ_SIZE):
            now_s = time.monotonic()
            *lines, rest = (rest + data).split(b"\n")
            events = [event for event in map(self._parse, lines) if event]
            with self._news:
                self._events += [(now_s, event) for event in events]
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def story(self) -> str:
        """Command, last events and stderr, for a message."""
        errors = self._errors_path.read_text(encoding="utf-8", errors="backslashreplace")
        said = "\n".join(str(event) for _, event in self._events[-5:])
        return f"$ {' '.join(self.command)}\n{said}\n{errors[-3000:]}"


def environment() -> dict[str, str]:
    """That of who measures, but for what keeps Python from caching what it compiles: who has that set?"""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def compile_modules(checkout: Path) -> bool:
    """Cache the compiled modules of a checkout of ours, as its first start would: no measured one is to.

    False, with a note, where the cache cannot be written. Each start compiles them then, as anyone's there.
    """
    cached = bool(compileall.compile_dir(checkout / "orchestra", quiet=2))
    for path in checkout.glob("*.py"):
        cached &= bool(compileall.compile_file(path, quiet=2))
    if not cached:
        print(f"{checkout}: compiled modules cannot be cached there, so that each start compiles them anew")
    return cached


def parse_json(line: bytes) -> Event | None:
    """The event in a line of stdout; None for any other line."""
    return json.loads(line) if line.startswith(b"{") else None


def peak_of(pid: int) -> float:
    """The greatest resident size of a running process so far, in bytes; nan where unknown."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return math.nan


def cpu_of(pid: int) -> float:
    """CPU seconds of a running process, all threads; nan where there is no such clock (Linux has)."""
    if not sys.platform.startswith("linux"):
        return math.nan
    try:
        # How Linux names a process's CPU clock: clock_getcpuclockid(3), which Python does not offer.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return math.nan


class Stage:
    """The processes and the folder of one measurement. In a `with`: at its end neither is left."""

    def __init__(self, parent: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=parent, prefix="stage-"))
        self.processes: list[Process] = []

    def start(
        self,
        command: list[str],
        *,
        label: str,
        stdin: int | None = None,
        parse: Callable[[bytes], Event | None] | None = None,
    ) -> Process:
        """Start a process in the stage's folder; `label` is unique in it.

        `parse` makes events of the lines of its stdout, JSON when None.
        """
        process = Process(command, folder=self.folder, label=label, stdin=stdin, parse=parse)
        self.processes.append(process)
        return process

    def python(self, script: Path, *arguments: object, label: str, stdin: int | None = None) -> Process:
        """Start a Python program with this Python."""
        return self.start([sys.executable, str(script), *map(str, arguments)], label=label, stdin=stdin)

    def warm_memory(self, length_bytes: int) -> None:
        """Have the system find so much memory, and give it back. Only where the stage's folder is in memory.

        A virtual machine returns what nobody has used for two seconds to its host. To get it again takes
        longer than to receive a file into it: whose turn it is after a slow one would pay for all.
        """
        if not in_memory(self.folder):
            return
        zeros = bytes(MIB)
        # Where there is not so much, whoever is measured will say so.
        with tempfile.TemporaryFile(dir=self.folder, buffering=0) as file, contextlib.suppress(OSError):
            # Written, not reserved: a file in memory that is only reserved has not been touched yet.
            for _ in range(-(-length_bytes // MIB)):
                file.write(zeros)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.stop()
        # A process that was killed may have left a file half removed.
        shutil.rmtree(self.folder, ignore_errors=True)
