"""Programs of ours, started and watched by another one: their events on one queue, and an orderly end.

The main thread owns the company. One thread a program turns its lines into
news, and ends when the program has. Programs get process groups of their own:
Ctrl-C reaches only us, and they are stopped in order.
"""

from __future__ import annotations

import json
import os
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestra.errors import ExitCode, NetworkError, OrchestraError
from orchestra.text import safe

ROOT = Path(__file__).resolve().parent.parent
SILENCE_S = 60.0
"""No news from any program for so long means that something is stuck."""
STOP_S = 10.0

Event = dict[str, Any]


@dataclass(slots=True, eq=False)
class Program:
    """A program of the company, and what it has said so far."""

    label: str
    process: subprocess.Popen[str]
    last: dict[str, Event] = field(default_factory=dict)
    """The newest event of each name."""
    words: list[str] = field(default_factory=list)
    """What it said on stderr."""
    ended: bool = False


class ProgramEnded(OrchestraError):
    """A program of the company ended while it was needed. `exit_code` is its own, if documented."""

    def __init__(self, program: Program) -> None:
        error = program.last.get("error")
        said = error["message"] if error else "; ".join(line.strip() for line in program.words[-3:])
        super().__init__(f"the {program.label} ended: {safe(str(said), 500) or 'without a word'}")
        codes = {int(code): code for code in ExitCode if code != ExitCode.DONE}
        self.exit_code = codes.get(program.process.returncode, ExitCode.FAILED)


class Company:
    """Programs running together. Use it in a `with`: at its end none is left.

    `announce` is told each command line as it is started.
    """

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._programs: list[tuple[Program, threading.Thread]] = []
        self._news: queue.SimpleQueue[tuple[Program, str | None]] = queue.SimpleQueue()

    def start(self, label: str, script: str, *arguments: str | Path) -> Program:
        """Start a script of the checkout, in the checkout, with --json added."""
        command = [shown(Path(sys.executable)), script, *map(shown, arguments)]
        self._announce(shlex.join(command))
        process = subprocess.Popen(
            [*command, "--json"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=os.name != "nt",
        )
        program = Program(label, process)
        listener = threading.Thread(target=self._listen, args=(program,), name=f"listen to {label}")
        self._programs.append((program, listener))
        listener.start()
        return program

    def wait_for(self, program: Program, name: str) -> Event:
        """That event of that program, when it has come. Raises ProgramEnded when it ends without."""
        while name not in program.last:
            if program.ended:
                raise ProgramEnded(program)
            if not self.hear(SILENCE_S):
                raise NetworkError(f"the {program.label} has said nothing for {SILENCE_S:.0f} s")
        return program.last[name]

    def hear(self, timeout_s: float) -> bool:
        """Take in one line of one program; False when there was none in time.

        Raises ProgramEnded when a program ended with anything but success.
        """
        try:
            program, line = self._news.get(timeout=timeout_s)
        except queue.Empty:
            return False
        if line is None:
            program.ended = True
            if program.process.wait() != 0:
                raise ProgramEnded(program)
        elif line.startswith('{"event"'):
            event = json.loads(line)
            program.last[event["event"]] = event
        else:
            program.words.append(line)
        return True

    def __enter__(self) -> Company:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them, the last one first: members tell the conductor that they leave."""
        for program, listener in reversed(self._programs):
            if program.process.poll() is None:
                program.process.terminate()
            try:
                program.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
            listener.join()

    def _listen(self, program: Program) -> None:
        assert program.process.stdout is not None
        with program.process.stdout as stream:
            for line in stream:
                self._news.put((program, line))
        self._news.put((program, None))


def shown(argument: str | Path) -> str:
    """Paths below the checkout as they are typed in it; everything else as it is."""
    if isinstance(argument, Path) and argument.is_relative_to(ROOT):
        return str(argument.relative_to(ROOT))
    return str(argument)
