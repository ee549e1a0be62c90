"""What the threads of the disk say to one another: keeper to writer, writer to digest; see messages.py."""

from __future__ import annotations

from typing import NamedTuple

from orchestra.errors import OrchestraError
from orchestra.kinds import kind
from orchestra.messages import Buffer, Inbox
from orchestra.wire import Blocks

# Keeper -> writer


@kind
class Saved(NamedTuple):
    """The resume file was written, or could not be: `problem` says why then. `failed`: the data could not."""

    took_s: float
    problem: str = ""
    failed: OrchestraError | None = None


# Digest -> writer


@kind
class DoneReading(NamedTuple):
    """A ReadBack has been hashed, or will never be."""


# Writer -> digest


@kind
class Along(NamedTuple):
    """From the writer: `run`, in `buffer`, goes on just where the last one ended. To be given back."""

    buffer: Buffer
    run: Blocks


@kind
class ReadBack(NamedTuple):
    """From the writer: bytes `span` of the file go on there. `writer` gets DoneReading.

    Before that, and once, DiskFailed, when they cannot be read.
    """

    span: range
    writer: Inbox


@kind
class Finish(NamedTuple):
    """From the writer: the whole has gone along, and is right."""


@kind
class Spoilt(NamedTuple):
    """From the writer: something that went along has turned out wrong; all of it will come again."""
