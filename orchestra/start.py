"""The first moments of a program, while it imports: a tenth of a second in which nothing shall happen.

Main thread only.
"""

from __future__ import annotations

import gc
import signal


def begin() -> None:
    """For the first line of a program: SIGINT kills without a traceback, and nobody looks for garbage.

    A SIGINT that is ignored stays ignored. All that is made while a program imports stays to its end: to look
    for garbage in it takes a twentieth of the time.
    """
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def begun() -> None:
    """All is imported: garbage is collected from here on, but never looked for in what is there."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
