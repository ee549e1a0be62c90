"""Memory for the bytes of a composition: on large pages, where the system has them.

Pure. A processor looks up where each page of memory is. Copying and hashing
gigabytes through pages of 4 KiB it is mostly doing that, the more so in a
virtual machine; with pages of 2 MiB a transfer takes 3 to 5 % less time and
processor. Such memory is counted as used by the page, as soon as any of it is.
"""

from __future__ import annotations

import contextlib
import mmap


def fresh(length_bytes: int) -> memoryview:
    """`length_bytes`, at least 1, of zeros to write to; from a length of 2 MiB on it is on large pages."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(bytearray(length_bytes))
    memory = mmap.mmap(-1, length_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A kernel may be built without them, and then says so.
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)
