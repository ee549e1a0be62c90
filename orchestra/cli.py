"""From a command line to an exit code: the frame that all programs share.

Main thread only. `run` is the one place where errors, signals and closed
pipes become one line and the documented exit code, so that a program's body
only has to do its work and raise. A body that holds something (a temporary
file, threads) cleans up in `finally`: signals reach it as exceptions
(orchestra/signals.py).
"""

from __future__ import annotations

import _thread
import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from orchestra import __version__, start
from orchestra.console import Console, OutputClosed
from orchestra.errors import ExitCode, OrchestraError, UsageError
from orchestra.logs import RunLog
from orchestra.signals import Signalled, as_exceptions, die_by

Body = Callable[[argparse.Namespace, Console], int]

log = logging.getLogger(__name__)


class _Help(argparse.RawDescriptionHelpFormatter):
    """The usual one, of which one is made for each option: left to itself, it loads shutil for the width."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size().columns
        except (OSError, ValueError):
            columns = 0
        super().__init__(prog, width=(columns or 80) - 2)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UsageErrors of one line."""

    def __init__(self, program: str, summary: str, examples: str) -> None:
        super().__init__(
            prog=f"{program}.py",
            description=summary,
            epilog=f"examples:\n{examples}" if examples else None,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        self.color = False  # 3.14 would colour help, and knows nothing of --no-color
        self.program = program
        self.examples = examples

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing, so that --json gets its event too."""
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Read a command line whose options stand anywhere: `FILE --json CONDUCTOR`. Raises UsageError.

        Before 3.13 argparse takes an optional argument only beside the one before it, unless it is asked
        for the intermixed form, which in turn loses a "--".
        """
        return self.parse_args(argv) if "--" in argv else self.parse_intermixed_args(argv)


def make_parser(program: str, summary: str, examples: str) -> Parser:
    """A parser with the options that all programs have. `examples`: command lines, one a line."""
    program = program.removesuffix(".py")
    parser = Parser(program, summary, examples)
    common = parser.add_argument_group("common options")
    common.add_argument("--version", action="version", version=f"{program}.py (Orchestra) {__version__}")
    common.add_argument(
        "-v", "--verbose", action="count", default=0, help="log more to stderr; twice for everything"
    )
    common.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    common.add_argument("--json", action="store_true", help="print events on stdout, one JSON object a line")
    common.add_argument("--no-color", action="store_true", help="no colour (or set NO_COLOR)")
    common.add_argument(
        "--log-dir", type=Path, metavar="DIR", help="where log files go (default: logs/ beside the program)"
    )
    return parser


def run(
    parser: Parser, body: Body, argv: Sequence[str] | None = None, *, usage_if_empty: bool = False
) -> int:
    """Parse, set up console and log, call `body(arguments, console)`; return the exit code.

    Does not return when a signal ends the program: it dies by that signal.
    """
    start.begun()
    _open_closed_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    console = _early_console(parser.program, argv)
    try:
        with as_exceptions():
            code = _run(parser, body, argv, console, usage_if_empty=usage_if_empty)
        return _flush_stdout(console, code)
    except (OutputClosed, BrokenPipeError):
        _abandon_stdout()
        return die_by(signal.SIGPIPE) if hasattr(signal, "SIGPIPE") else ExitCode.FAILED
    except Signalled as ended:
        return die_by(ended.signum)
    except KeyboardInterrupt:
        return die_by(signal.SIGINT)


def leave(code: int) -> NoReturn:
    """End the process with `code`, at once.

    The interpreter would wait for a thread that is stuck in the system (name lookup, disk), and take itself
    apart, which is a tenth of a short run. stdout was flushed by `run`, stderr and the log with every line.
    """
    os._exit(code)


def _run(parser: Parser, body: Body, argv: list[str], console: Console, *, usage_if_empty: bool) -> int:
    """Everything but the ends that are not exit codes."""
    if usage_if_empty and not argv:
        examples = f"\nexamples:\n{parser.examples}\n" if parser.examples else ""
        console.err(parser.format_usage() + examples + f"\n{parser.prog} --help lists all options.")
        return ExitCode.USAGE
    try:
        arguments = parser.parse(argv)
    except SystemExit as done:  # --help, --version
        return int(done.code or 0)
    except UsageError as error:
        console.fail(str(error), error.exit_code)
        return error.exit_code
    run_log = RunLog(parser.program, arguments.log_dir, verbosity=arguments.verbose)
    try:
        run_log.show_on_stderr(parser.program, console.err, arguments.verbose, quiet=arguments.quiet)
        if run_log.problem:
            console.note(f"{parser.program}: {run_log.problem}")
        with _noticed_crashes() as crashes:
            return _run_body(_unless_crashed(body, crashes), arguments, console, run_log.path, argv)
    except (OutputClosed, Signalled, KeyboardInterrupt) as end:
        # Here, since it may come as soon as there is a log.
        log.info("ends: %r", end)
        raise
    finally:
        run_log.close()


@contextlib.contextmanager
def _noticed_crashes() -> Iterator[list[BaseException]]:
    """What ends a thread that nobody else looks after (keys), and with it the program, as SIGTERM would.

    Our other threads are Workers, which report their crashes themselves.
    """
    crashes: list[BaseException] = []

    def notice(thread: threading.ExceptHookArgs) -> None:
        if thread.exc_value is not None and not isinstance(thread.exc_value, SystemExit):
            crashes.append(thread.exc_value)
            _thread.interrupt_main(signal.SIGTERM)

    before = threading.excepthook
    threading.excepthook = notice
    try:
        yield crashes
    finally:
        threading.excepthook = before


def _unless_crashed(body: Body, crashes: list[BaseException]) -> Body:
    """`body`, but its outcome is the first of `crashes` where there are any."""

    def watched(arguments: argparse.Namespace, console: Console) -> int:
        try:
            return body(arguments, console)
        finally:
            if crashes:
                raise crashes[0]

    return watched


def _run_body(
    body: Body, arguments: argparse.Namespace, console: Console, log_path: Path | None, argv: list[str]
) -> int:
    log.info("%s %s, Python %s: %r", console.program, __version__, sys.version.partition(" ")[0], argv)
    try:
        code = int(body(arguments, console))
    except OrchestraError as error:
        log.info("ends with exit code %d: %s", error.exit_code, error)
        console.fail(str(error), error.exit_code)
        return error.exit_code
    except OutputClosed:
        raise
    except Exception as error:
        log.critical("unexpected failure", exc_info=True)
        where = f"the log says where: {log_path}" if log_path else "-v says where"
        console.fail(f"unexpected failure: {type(error).__name__}: {error} ({where})", ExitCode.FAILED)
        return ExitCode.FAILED
    log.info("ends with exit code %d", code)
    return code


def _early_console(program: str, argv: list[str]) -> Console:
    """The console, from the raw command line: even what argparse refuses is answered in the asked form."""
    options = argv[: argv.index("--")] if "--" in argv else argv
    quiet = any(option == "--quiet" or _is_short_flag(option, "q") for option in options)
    return Console(program, json="--json" in options, quiet=quiet, color="--no-color" not in options)


def _is_short_flag(option: str, letter: str) -> bool:
    """Whether `option` is `-q`, or a cluster such as `-vq`."""
    return option[:1] == "-" and option[1:2] != "-" and letter in option and set(option[1:]) <= {"v", "q"}


def _flush_stdout(console: Console, code: int) -> int:
    """`code`; but what was done is not done when its result cannot be delivered."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if code == ExitCode.DONE:
            if isinstance(error, BrokenPipeError):
                raise
            console.err(f"{console.program}: error: cannot write to standard output: {error.strerror}")
            code = ExitCode.STORAGE
        _abandon_stdout()
    return code


def _abandon_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail."""
    with contextlib.suppress(OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)


def _open_closed_streams() -> None:
    """Put a sink in the place of what was closed (`>&-`): else a file or a socket gets its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
