"""Keys without Enter, from a terminal that is given back as it was found.

`with Keys(on_key):` runs one thread that calls `on_key(character)` for each
key pressed. The thread ends with the block; it is never daemonic. Ctrl-C and
Ctrl-Z keep their meaning: while the program is suspended the shell has its
own terminal modes, and afterwards we have ours again. Nothing happens when
stdin is no terminal, or closed; and as long as the program runs in the
background, where reading would stop it (SIGTTIN), the terminal is left alone.

POSIX (termios, and select on the terminal and a wake pipe) and Windows
(msvcrt). Standard library only.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import select
    import termios

OnKey = Callable[[str], None]

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])", re.DOTALL)
"""What arrow and function keys send: several characters that no one typed one by one."""
_BACKGROUND_LOOK_S = 1.0
"""How often a program in the background looks whether it came to the front: nothing tells it."""
_WINDOWS_LOOK_S = 0.1


class Keys:
    """Context manager: within it `on_key` is called with each character typed, from a thread of its own."""

    def __init__(self, on_key: OnKey) -> None:
        self._on_key = on_key
        self._listener: _Listener | None = None

    def __enter__(self) -> Keys:
        terminal = _terminal()
        if terminal is not None:
            listener = _Listener(terminal, self._on_key)
            listener.open()
            self._listener = listener
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()


def _terminal() -> int | None:
    """The descriptor of the terminal on stdin, or None when stdin is something else, or nothing."""
    try:
        terminal = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # None when started without; closed; replaced by a fake
        return None
    return terminal if os.isatty(terminal) else None


if sys.platform == "win32":

    class _Listener:
        """The thread on Windows, where nothing waits for a console and something else: it looks often."""

        def __init__(self, terminal: int, on_key: OnKey) -> None:  # noqa: ARG002 - msvcrt knows the console
            self._on_key = on_key
            self._ended = threading.Event()
            self._thread = threading.Thread(target=self._run, name="keys")

        def open(self) -> None:
            self._thread.start()

        def close(self) -> None:
            self._ended.set()
            self._thread.join()

        def _run(self) -> None:
            while not self._ended.wait(_WINDOWS_LOOK_S):
                while msvcrt.kbhit():
                    key = msvcrt.getwch()
                    if key in "\x00\xe0":  # a function key: its code follows
                        msvcrt.getwch()
                    else:
                        self._on_key(key)

else:

    class _Listener:
        """The thread on POSIX, and the terminal modes that it needs.

        `_lock` guards `_modes` and `_suspended`: the main thread (signals,
        close) and the key thread both change the terminal's modes. It is
        re-entrant because a signal may interrupt its holder.
        """

        def __init__(self, terminal: int, on_key: OnKey) -> None:
            self._terminal = terminal
            self._on_key = on_key
            self._lock = threading.RLock()
            self._modes: list[Any] | None = None
            self._ending = False
            self._suspended = False
            self._handles_signals = False
            self._wake_read, self._wake_write = os.pipe()
            self._thread = threading.Thread(target=self._run, name="keys")

        def open(self) -> None:
            """Take the terminal, if we are in the foreground; listen."""
            os.set_blocking(self._wake_write, False)
            try:
                self._catch_signals()
                self._take()
                self._thread.start()
            except BaseException:  # no thread to be had, or interrupted: leave nothing behind
                self.close()
                raise

        def close(self) -> None:
            """End the thread and give the terminal back."""
            try:
                self._ending = True
                self._wake()
                if self._thread.ident is not None:
                    self._thread.join()
            finally:
                self._release()

        def _run(self) -> None:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            while True:
                ours = self._take()
                sources = [self._wake_read, self._terminal] if ours else [self._wake_read]
                ready, _, _ = select.select(sources, [], [], None if ours else _BACKGROUND_LOOK_S)
                if self._wake_read in ready:
                    os.read(self._wake_read, 4096)
                    if self._ending:
                        return
                elif ready:
                    try:
                        data = os.read(self._terminal, 1024)
                    except OSError:
                        if not self._is_foreground():  # sent to the background just now
                            continue
                        return  # the terminal is gone
                    if not data:
                        return
                    self._report(decoder.decode(data))

        def _report(self, text: str) -> None:
            for character in _ESCAPE_SEQUENCE.sub("", text):
                self._on_key(character)

        def _take(self) -> bool:
            """Switch line buffering and echo off; False when the terminal is not ours to change."""
            with self._lock:
                if self._suspended or not self._is_foreground():
                    return False
                try:
                    modes = termios.tcgetattr(self._terminal)
                    if modes[3] & (termios.ICANON | termios.ECHO):
                        self._modes = list(modes)
                        modes[3] &= ~(termios.ICANON | termios.ECHO)
                        modes[6] = [*modes[6]]
                        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
                        termios.tcsetattr(self._terminal, termios.TCSANOW, modes)
                except termios.error:  # hung up: the read will say so
                    return True
                return True

        def _give_back(self) -> None:
            """Restore the modes that we found, unless the shell has the terminal: then it set its own."""
            with self._lock:
                modes, self._modes = self._modes, None
                if modes is not None and self._is_foreground():
                    # NOW, not DRAIN: output may be held up for ever (Ctrl-S).
                    with contextlib.suppress(termios.error):
                        termios.tcsetattr(self._terminal, termios.TCSANOW, modes)

        def _release(self) -> None:
            """Restore modes and signal handlers; close the pipe."""
            self._give_back()
            if self._handles_signals:
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
                signal.signal(signal.SIGCONT, signal.SIG_DFL)
                signal.signal(signal.SIGTTIN, signal.SIG_DFL)
            os.close(self._wake_read)
            os.close(self._wake_write)

        def _catch_signals(self) -> None:
            """Only the main thread can; and what someone else handles or ignores stays as it is."""
            signals = (signal.SIGTSTP, signal.SIGCONT, signal.SIGTTIN)
            if threading.current_thread() is not threading.main_thread():
                return
            if any(signal.getsignal(signum) != signal.SIG_DFL for signum in signals):
                return
            self._handles_signals = True
            signal.signal(signal.SIGTSTP, self._suspend)
            signal.signal(signal.SIGCONT, self._resume)
            # A read from the background then fails instead of stopping us.
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)

        def _suspend(self, _signum: int, _frame: FrameType | None) -> None:
            """Ctrl-Z: give the terminal back, stop, and go on from here when continued."""
            with self._lock:
                self._suspended = True
            self._give_back()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, self._suspend)
            with self._lock:
                self._suspended = False
            self._wake()

        def _resume(self, _signum: int, _frame: FrameType | None) -> None:
            """Continued, perhaps after a SIGSTOP that nobody saw: the thread looks at the modes again."""
            self._wake()

        def _wake(self) -> None:
            with contextlib.suppress(BlockingIOError):  # full: it is awake
                os.write(self._wake_write, b".")

        def _is_foreground(self) -> bool:
            try:
                return os.tcgetpgrp(self._terminal) == os.getpgrp()
            except OSError:  # not our controlling terminal: no job control, nobody stops us
                return True
