"""What a process costs, as Linux tells: memory, processor time, threads, descriptors."""

from __future__ import annotations

import os
from pathlib import Path

HAVE_VITALS = Path("/proc/self/status").exists()
_TICKS_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise KeyError(field)


def peak_kib(pid: int) -> int:
    """The most memory that it has had so far (VmHWM)."""
    return _status(pid, "VmHWM")


def rss_kib(pid: int) -> int:
    """The memory that it has."""
    return _status(pid, "VmRSS")


def threads(pid: int) -> int:
    """How many threads it has."""
    return _status(pid, "Threads")


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_s(pid: int) -> float:
    """Processor time, user and system, that it has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S
