"""A writer over real files, and what surrounds it in tests: its folder, its inbox, its reports."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

from orchestra.errors import StorageError
from orchestra.messages import (
    Stop,
    ThreadEnded,
    Write,
)
from orchestra.storage import Storage
from orchestra.wire import Blocks
from orchestra.writer import Writer
from tests.fakes import PATIENCE_S, CountingBuffer, Reports, blocks_message, content, score_of

PART_BYTES = 40_000
DATA = content(5 * PART_BYTES - 123)
NAME = "piece.bin"


class Desk:
    """A folder and a writer for it, whose reports and whose words to the digest thread are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports = Reports()
        self.digest: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.buffers: list[CountingBuffer] = []
        self._running: list[tuple[Writer, Storage]] = []

    @property
    def part_path(self) -> Path:
        return self.folder / f"{NAME}.part"

    def start(
        self, data: bytes = DATA, part_bytes: int = PART_BYTES, *, force: bool = False, told: Any = None
    ) -> Writer:
        """Start the writer; `told` is in its inbox from the start."""
        storage = Storage(self.folder, NAME, len(data), force=force)
        writer = Writer(storage, score_of(data, part_bytes), self.digest, self.reports)
        if told is not None:
            writer.inbox.put(told)
        self._running.append((writer, storage))
        writer.start()
        return writer

    def write(self, writer: Writer, *runs: Blocks) -> CountingBuffer:
        """These runs in one message."""
        self.buffers.append(CountingBuffer())
        writer.inbox.put(Write(self.buffers[-1], list(runs)))
        return self.buffers[-1]

    def stop(self, writer: Writer) -> None:
        """Stop it, and drain what it said; afterwards all buffers but those that went along are back."""
        writer.inbox.put(Stop())
        self.reports.skip_to(ThreadEnded)
        assert self.reports.nothing_more
        writer.join(PATIENCE_S)

    def close(self) -> None:
        for writer, storage in self._running:
            if writer.is_alive():
                writer.inbox.put(Stop())
                writer.join(PATIENCE_S)
            storage.close()

    def along(self) -> list[Any]:
        """What the digest thread was told so far."""
        told = []
        while not self.digest.empty():
            told.append(self.digest.get())
        return told


def run(begin: int, length: int, data: bytes = DATA) -> Blocks:
    """Bytes of the composition as they come from the wire."""
    return blocks_message(data, begin, length)


def fails(*_: Any) -> None:
    raise StorageError("no")
