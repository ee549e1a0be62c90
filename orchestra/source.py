"""The file that is composed: opened once, hashed in one read, watched for changes.

Main thread of the composer, which owns it. A score of a file that changed while
it was read would fit neither the old nor the new content, so that is an error.
All problems are StorageErrors of one line.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from orchestra.errors import StorageError
from orchestra.hashing import FileHashes, hash_file
from orchestra.regular import NotRegularError, open_regular
from orchestra.text import safe

log = logging.getLogger(__name__)


class Source:
    """An opened file to be composed; a context manager. `size_bytes` is its size when it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = open_regular(path)
        except NotRegularError as error:
            later = "; composing folders is not possible yet" if error.kind == "a folder" else ""
            raise self._problem(f"{error.strerror}{later}") from None
        except FileNotFoundError:
            raise self._problem("no such file") from None
        except OSError as error:
            raise self._problem(f"cannot be read: {error.strerror or error}") from error
        self._opened = os.fstat(self._file.fileno())
        self.size_bytes = self._opened.st_size

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def is_at(self, path: Path) -> bool:
        """Whether `path` leads to this very file."""
        try:
            return os.path.samestat(self._opened, path.stat())
        except OSError:
            return False

    def hash(self, part_size_bytes: int, *, on_progress: Callable[[int], None]) -> FileHashes:
        """The hashes of the whole content. `on_progress` gets the bytes read so far.

        Raises StorageError when the file cannot be read, or is not afterwards
        what it was before: same file, size and time of change.
        """
        name = safe(str(self._path))
        log.info("hashing %s: %d bytes in parts of %d", name, self.size_bytes, part_size_bytes)
        try:
            hashes = hash_file(self._file, self.size_bytes, part_size_bytes, on_progress=on_progress)
            more = self._file.read(1)  # files in /proc say that they are empty
            now = os.fstat(self._file.fileno())
        except OSError as error:
            raise self._problem(f"cannot be read: {error.strerror or error}") from error
        before = self._opened
        same = (before.st_size, before.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
        if not same or hashes.size_bytes != self.size_bytes or not self.is_at(self._path):
            raise self._problem("changed while it was read: compose it again when nobody writes to it")
        if more:
            raise self._problem("has more in it than its size says: compose a copy of it")
        return hashes

    def _problem(self, what: str) -> StorageError:
        return StorageError(f"{safe(str(self._path))}: {what}")
