"""What a program says: events for scripts, lines and a bar for people.

Owned by the main thread, which alone draws. Other threads reach the terminal
only through the log, whose lines take the same lock, so that none cuts the
bar in half. stdout carries results and events, stderr everything else; a
stderr that is gone is ignored, a stdout that is gone ends the program
(OutputClosed), as any filter ends when its reader has left.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from orchestra import humans
from orchestra.errors import StorageError
from orchestra.text import safe

if TYPE_CHECKING:
    import progressbar

BAR_DELAY_S = 0.25
"""Work that ends sooner draws no bar, and does not wait for the import of one."""
BAR_INTERVAL_S = 0.1
LINE_INTERVAL_S = 5.0
_MESSAGE_LIMIT = 2000
_NARROWEST_BAR = 12


class OutputClosed(Exception):
    """Whoever read our stdout has left (`| head -1`). Ends the program without a word."""


class Console:
    """The program's voice.

    `json` and `quiet` say what is wanted on stdout; `terminal`, whether stderr
    is one that can draw; `color`, whether it may have colour.
    """

    def __init__(
        self,
        program: str,
        *,
        json: bool = False,
        quiet: bool = False,
        color: bool = True,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.program = program
        self.json = json
        self.quiet = quiet
        self._stdout = _lenient(stdout or sys.stdout)
        self.stderr = _lenient(stderr or sys.stderr)
        self.terminal = _is_capable_terminal(self.stderr)
        self.color = color and self.terminal and not os.environ.get("NO_COLOR")
        self.lock = threading.RLock()
        self.active_bar: Bar | None = None

    def event(self, name: str, /, **fields: object) -> None:
        """With --json: one object on a line of its own, `event` first, flushed at once. Else nothing."""
        if self.json:
            import json  # noqa: PLC0415 - a millisecond that people never need

            self._out(json.dumps({"event": name, **fields}, allow_nan=False))

    def say(self, text: str) -> None:
        """A line for people on stdout. Nothing with --json or -q."""
        if not (self.json or self.quiet):
            self._out(text)

    def note(self, text: str) -> None:
        """A hint or warning for people on stderr. Nothing with -q."""
        if not self.quiet:
            self.err(text)

    def fail(self, message: str, exit_code: int) -> None:
        """Why the program ends: one line on stderr whatever the options, and an `error` event with --json.

        A stdout that cannot take the event changes neither the line nor the exit code.
        """
        line = safe(message, _MESSAGE_LIMIT)
        self.err(f"{self.program}: error: {line}")
        with contextlib.suppress(OutputClosed, StorageError):
            self.event("error", message=line, exit_code=int(exit_code))

    def err(self, text: str) -> None:
        """A line on stderr, whatever the options. Any thread (the log comes this way)."""
        with self.lock:
            self._hide_bar()
            try:
                self.stderr.write(text + "\n")
                self.stderr.flush()
            except (OSError, ValueError):
                return

    def bar(self, *, total: int, unit_bytes: bool = True, label: str = "", shows_amount: bool = True) -> Bar:
        """A progress bar up to `total` (bytes, or things when `unit_bytes` is false); use it in a `with`.

        On a terminal a bar; elsewhere a line every few seconds; nothing with --json or -q.
        Without `shows_amount` it tells the percent only.
        """
        return Bar(self, total=total, unit_bytes=unit_bytes, label=label, shows_amount=shows_amount)

    def width(self) -> int:
        """Columns of the terminal behind stderr; 80 when it will not say."""
        try:
            return os.get_terminal_size(self.stderr.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _out(self, line: str) -> None:
        with self.lock:
            self._hide_bar()
            try:
                self._stdout.write(line + "\n")
                self._stdout.flush()
            except BrokenPipeError as error:
                raise OutputClosed from error
            except ValueError as error:  # closed by ourselves: nobody reads
                raise OutputClosed from error
            except OSError as error:
                if error.errno == errno.EINVAL and os.name == "nt":  # how Windows spells a broken pipe
                    raise OutputClosed from error
                raise StorageError(f"cannot write to standard output: {error.strerror}") from error

    def _hide_bar(self) -> None:
        if self.active_bar is not None:
            self.active_bar.hide()


class Bar:
    """One progress bar. Made by Console.bar; `update` and `close` are for the thread that made it."""

    def __init__(
        self, console: Console, *, total: int, unit_bytes: bool, label: str, shows_amount: bool
    ) -> None:
        self._console = console
        self._total = total
        self._unit_bytes = unit_bytes
        self._shows_amount = shows_amount
        self._label = safe(label)
        self._done = 0
        self._text = ""
        self._silent = console.json or console.quiet
        self._drawn: progressbar.ProgressBar | None = None
        self._visible = False
        self._lines = 0
        self._due_s = time.monotonic() + (BAR_DELAY_S if console.terminal else LINE_INTERVAL_S)

    def update(self, done: int, text: str = "") -> None:
        """`done` of the total; `text` goes to the right (rate, time left, members). May be called often."""
        self._done = max(0, min(done, self._total))
        self._text = text
        if not self._silent and time.monotonic() >= self._due_s:
            self._show()

    def close(self) -> None:
        """Leave the last state on the screen, if any was shown. May be called twice."""
        console = self._console
        if self._drawn is not None:
            self._show()
            with console.lock:
                if console.active_bar is self:
                    console.active_bar = None
                self._end_line()
        elif self._lines:
            self._show()
        self._silent = True
        self._drawn, self._lines = None, 0

    def hide(self) -> None:
        """Make room for a line of text; the next update draws the bar again below it. Under the lock."""
        if self._visible and self._drawn is not None:
            self._visible = False
            try:
                self._drawn.fd.write("\r" + " " * (self._console.width() - 1) + "\r")
            except (OSError, ValueError):
                return

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _show(self) -> None:
        console = self._console
        if not console.terminal:
            self._due_s = time.monotonic() + LINE_INTERVAL_S
            self._lines += 1
            parts = (self._label, f"{humans.percent(self._done, self._total)}%", self._amount(), self._text)
            console.err("  ".join(part for part in parts if part))
            return
        self._due_s = time.monotonic() + BAR_INTERVAL_S
        with console.lock:
            if console.width() >= _NARROWEST_BAR:
                self._draw()

    def _draw(self) -> None:
        console = self._console
        if self._drawn is None:
            self._drawn = _make_progressbar(console, max(self._total, 1))
            console.active_bar = self
        drawn = self._drawn
        room = console.width() - 1
        left, right = self._sides(room)
        # progressbar2 counts characters; wide ones take a second column each.
        drawn.term_width = room - (humans.columns(left + right) - len(left + right))
        value = self._done if self._total else 1
        try:
            drawn.update(value, force=True, left=left, right=right)
            self._visible = True
        except OSError:
            self._silent = True  # the terminal is gone: go on without

    def _sides(self, room: int) -> tuple[str, str]:
        """What stands left and right of the bar in `room` columns; the bar keeps a third."""
        spare = room - 6 - max(room // 3, _NARROWEST_BAR - 6)
        amount = self._amount()
        right = humans.fit("  ".join(part for part in (amount, self._text) if part), max(spare, 0))
        if self._text and humans.columns(self._text) + len(amount) + 2 > spare:
            right = humans.fit(self._text, max(spare, 0))
        spare -= humans.columns(right) + 1
        left = humans.fit(self._label, min(max(spare, 0), max(12, room // 4)))
        return (left + " " if left else "", " " + right if right else "")

    def _amount(self) -> str:
        if not self._shows_amount:
            return ""
        if not self._unit_bytes:
            return f"{self._done}/{self._total}"
        return f"{humans.size(self._done)} of {humans.size(self._total)}"

    def _end_line(self) -> None:
        drawn = self._drawn
        self._visible = False
        if drawn is not None:
            try:
                drawn.finish(dirty=True)
            except OSError:
                return


def _make_progressbar(console: Console, total: int) -> progressbar.ProgressBar:
    """A progressbar2 bar that shows our own texts: its speed and ETA widgets are wrong after a resume."""
    import progressbar  # noqa: PLC0415 - 40 ms that most runs never need

    widgets: Any = progressbar  # these carry no annotations
    return progressbar.ProgressBar(
        max_value=total,
        max_error=False,
        fd=console.stderr,
        is_terminal=True,
        line_breaks=False,
        # It ignores NO_COLOR, so it has to be told. None: what the terminal can do.
        enable_colors=None if console.color else progressbar.env.ColorSupport.NONE,
        # A given width keeps it from taking over SIGWINCH; we set it at each update.
        term_width=console.width() - 1,
        variables={"left": "", "right": ""},
        widgets=[
            widgets.Variable("left", format="{value}"),
            widgets.Percentage(),
            " ",
            widgets.Bar(),
            widgets.Variable("right", format="{value}"),
        ],
    )


def _lenient(stream: TextIO | None) -> TextIO:
    """`stream`, never failing on a character that it cannot encode; a sink when there is none (`>&-`)."""
    if stream is None:
        return _Sink()
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


class _Sink(io.StringIO):
    """Where text goes when the program was started without the stream."""

    def write(self, text: str) -> int:
        return len(text)


def _is_capable_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM", "") != "dumb"
    except ValueError:
        return False
