"""The errors that a user can meet, and the exit code that each one ends with.

Pure; used everywhere. An error's text is the one line that the user reads: it
says what is wrong and what to do, and names the file or the address. Facts
that a caller may want are attributes. Remote text must be escaped (text.safe)
before it goes into a message.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of all three programs (docs and README list them)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SCORE = 3
    STORAGE = 4
    NETWORK = 5
    BUSY = 6
    INCOMPLETE = 7


class OrchestraError(Exception):
    """Base of every error that ends a program with one clear line."""

    exit_code = ExitCode.FAILED


class UsageError(OrchestraError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class ScoreError(OrchestraError):
    """A bad .orch or .torrent file."""

    exit_code = ExitCode.SCORE


class StorageError(OrchestraError):
    """A file is missing, unreadable, unwritable, in the way, or does not fit on the disk."""

    exit_code = ExitCode.STORAGE


class NetworkError(OrchestraError):
    """Cannot listen, or no source turned up in time."""

    exit_code = ExitCode.NETWORK


class BusyError(OrchestraError):
    """Another member is writing this file."""

    exit_code = ExitCode.BUSY


class RemoteProtocolError(Exception):
    """A peer or conductor broke its protocol. Costs the connection, never the program."""
