"""A pseudo-terminal for a program under test: keys in, and the modes that it must give back."""

from __future__ import annotations

import os
import pty
import termios
import threading
import time
from types import TracebackType

from tests.programs import PATIENCE_S

_ONE_LOOK_S = 0.01


class Terminal:
    """Use it in a `with`; give `theirs` to a program as its stdin (and stderr, to have the bar drawn)."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self._before = termios.tcgetattr(self.theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.ours)
        os.close(self.theirs)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.ours, text.encode())

    def wait_for_keys(self) -> None:
        """Until the program listens to single keys. Nothing announces that."""
        deadline = time.monotonic() + PATIENCE_S
        while termios.tcgetattr(self.theirs)[3] & (termios.ICANON | termios.ECHO):
            assert time.monotonic() < deadline, "the program never listened to keys"
            threading.Event().wait(_ONE_LOOK_S)

    @property
    def is_sane(self) -> bool:
        """Whether it has the modes that it had at first."""
        return termios.tcgetattr(self.theirs) == self._before
