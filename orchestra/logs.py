"""The log of one run: a file in logs/ for later, warnings on stderr for now.

Set up and closed by the main thread (cli.run); any thread may log. The folder
is made when missing; one that cannot be written costs one note, never the
run. Remote text is escaped where it enters (text.safe); the formatters here
escape every line once more, so that no log line can be forged.

SIGUSR1 writes the stacks of all threads into the log, where the system has it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from orchestra.text import safe

log = logging.getLogger(__name__)

DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "logs"
KEPT_RUNS = 20
ROTATE_BYTES = 10_000_000
ROTATED_FILES = 2
_LINE_LIMIT = 4000
_FOREIGN = ("waitress", "progressbar", "python_utils", "concurrent")
"""Loggers of libraries: for the file, and for stderr only on request."""
_SPEAKS_FOR_ITSELF = "orchestra.cli"
"""Puts how the program ended on stderr in its own words."""


class EscapingFormatter(logging.Formatter):
    """One record, one line. A traceback follows indented: none of its lines passes for a record."""

    def __init__(self, layout: str, *, tracebacks: bool = True) -> None:
        super().__init__(layout)
        self._tracebacks = tracebacks

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - its name
        """Local time to the millisecond, with its offset from UTC (ISO 8601)."""
        when = time.localtime(record.created)
        seconds, zone = time.strftime("%Y-%m-%dT%H:%M:%S %z", when).split(" ")
        return f"{seconds}.{int(record.msecs):03d}{zone}"

    def format(self, record: logging.LogRecord) -> str:
        """The record without a raw control character but its own line ends."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        lines = [safe(self.formatMessage(record), _LINE_LIMIT)]
        if self._tracebacks and record.exc_info:
            text = self.formatException(record.exc_info)
            lines += ["    " + safe(line, _LINE_LIMIT) for line in text.split("\n")]
        return "\n".join(lines)


class _StderrHandler(logging.Handler):
    """Warnings for the person at the terminal, drawn around the progress bar."""

    def __init__(
        self, program: str, write_line: Callable[[str], None], verbosity: int, *, quiet: bool
    ) -> None:
        super().__init__(_stderr_level(verbosity, quiet=quiet))
        self._write_line = write_line
        self._verbose = verbosity > 0
        layout = "%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s" if self._verbose else None
        self.setFormatter(EscapingFormatter(layout or f"{program}: %(message)s", tracebacks=self._verbose))

    def filter(self, record: logging.LogRecord) -> bool:
        if self._verbose:
            return True
        return record.name.partition(".")[0] not in _FOREIGN and record.name != _SPEAKS_FOR_ITSELF

    def emit(self, record: logging.LogRecord) -> None:
        self._write_line(self.format(record))


class _FileHandler(RotatingFileHandler):
    """The log file. One that cannot be written any more costs one note, and no traceback on stderr."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            maxBytes=ROTATE_BYTES,
            backupCount=ROTATED_FILES,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name
        """Say so once. Later records are tried all the same: there may be room again."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._failed:
            self._failed = True
            log.warning("the log cannot be written: %s", error.strerror)

    def close(self) -> None:
        """Close it; what could not be written is lost."""
        with contextlib.suppress(OSError):
            super().close()


class RunLog:
    """Logging of this run, from construction to `close`. `path` is the file, or None when there is none."""

    def __init__(self, program: str, folder: Path | None = None, *, verbosity: int = 0) -> None:
        self.path: Path | None = None
        self.problem = ""
        self._handlers: list[logging.Handler] = []
        self._stacks: TextIO | None = None
        self._old_excepthook = threading.excepthook
        self._root = logging.getLogger()
        self._old_level = self._root.level
        self._root.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
        for chatty in _FOREIGN:
            logging.getLogger(chatty).setLevel(logging.NOTSET if verbosity > 1 else logging.WARNING)
        threading.excepthook = _log_thread_crash
        self._open_file(program, folder or DEFAULT_FOLDER)

    def show_on_stderr(
        self, program: str, write_line: Callable[[str], None], verbosity: int, *, quiet: bool = False
    ) -> None:
        """Show warnings (-v: information, -vv: everything; -q: errors only) through `write_line`."""
        self._add(_StderrHandler(program, write_line, verbosity, quiet=quiet))

    def close(self) -> None:
        """Give back all that the constructor took. May be called twice."""
        if self._stacks is not None:
            faulthandler.unregister(signal.SIGUSR1)
            self._stacks.close()
            self._stacks = None
        for handler in self._handlers:
            self._root.removeHandler(handler)
            handler.close()
        self._handlers.clear()
        self._root.setLevel(self._old_level)
        threading.excepthook = self._old_excepthook

    def _open_file(self, program: str, folder: Path) -> None:
        path = folder / f"{program}-{os.getpid()}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handler = _FileHandler(path)
        except OSError as error:
            self.problem = f"no log file: {safe(str(folder))}: {error.strerror or error} (see --log-dir)"
            return
        handler.setFormatter(
            EscapingFormatter("%(asctime)s %(levelname)-7s %(threadName)-14s %(name)s: %(message)s")
        )
        self._add(handler)
        self.path = path
        self._dump_stacks_on_signal(path)
        prune(folder, program, KEPT_RUNS)

    def _dump_stacks_on_signal(self, path: Path) -> None:
        """Register SIGUSR1 on a file of its own: the handler's descriptor changes when it rotates."""
        if not hasattr(signal, "SIGUSR1") or not hasattr(faulthandler, "register"):
            return
        # Not closed before `close`: faulthandler writes to the bare descriptor.
        with contextlib.suppress(OSError):  # no descriptor to spare: only a way to look for bugs is lost
            self._stacks = path.open("a", encoding="utf-8")
            faulthandler.register(signal.SIGUSR1, file=self._stacks, all_threads=True)

    def _add(self, handler: logging.Handler) -> None:
        self._handlers.append(handler)
        self._root.addHandler(handler)


def prune(folder: Path, program: str, kept: int) -> None:
    """Delete the logs of `program` in `folder` but the newest `kept`, and none of a program that runs."""
    pattern = re.compile(rf"{re.escape(program)}-([0-9]+)\.log")
    ages: list[tuple[float, int, Path]] = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if match := pattern.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    ages.append((path.stat().st_mtime, int(match[1]), path))
    for _, pid, path in sorted(ages, reverse=True)[kept:]:
        if not _is_running(pid):
            for suffix in ("", *(f".{number}" for number in range(1, ROTATED_FILES + 1))):
                # Another program may prune at the same time, or have it open (Windows).
                with contextlib.suppress(OSError):
                    path.with_name(path.name + suffix).unlink()


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # there kill(pid, 0) would end it; an open file cannot be deleted anyway
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _stderr_level(verbosity: int, *, quiet: bool) -> int:
    if verbosity:
        return logging.INFO if verbosity == 1 else logging.DEBUG
    return logging.ERROR if quiet else logging.WARNING


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_type is SystemExit or crash.exc_value is None:
        return
    name = crash.thread.name if crash.thread else "?"
    logging.getLogger("orchestra.threads").critical(
        "thread %s crashed: %r",
        name,
        crash.exc_value,
        exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback),
    )
