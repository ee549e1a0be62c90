"""The machine: what it is, and how busy it was, as far as the system tells. Any thread."""

from __future__ import annotations

import gzip
import math
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

_STAT = Path("/proc/stat")


def other_load(machine_s: float, ours_s: float, wall_s: float) -> float:
    """The share of all processors that others used, 0 to 1: `machine_s` is what all of them were busy."""
    return max(0.0, machine_s - ours_s) / (wall_s * (os.cpu_count() or 1))


def busy_s() -> float:
    """Seconds that all processors together were busy since boot, ours included; nan where unknown."""
    if not sys.platform.startswith("linux"):
        return math.nan
    stat = _STAT.read_text(encoding="ascii")
    return parse_busy_s(stat, os.sysconf("SC_CLK_TCK"), interrupts=not _interrupts_are_apart())


def parse_busy_s(stat: str, ticks_a_second: int, *, interrupts: bool) -> float:
    """The same from the text of /proc/stat: user, nice, system, stolen, and perhaps interrupts."""
    first = stat.split("\n", 1)[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first.split()[1:9])
    return (user + nice + system + steal + interrupts * (irq + softirq)) / ticks_a_second


@cache
def _interrupts_are_apart() -> bool:
    """Whether the kernel takes the time of interrupts, loopback packets too, from the interrupted process.

    If so, that of our packets is in nobody's account; if not, it is in ours and must be in the machine's.
    """
    texts = []
    with suppress(OSError):
        texts.append(Path(f"/boot/config-{platform.release()}").read_text(encoding="ascii"))
    with suppress(OSError):
        texts.append(gzip.decompress(Path("/proc/config.gz").read_bytes()).decode("ascii"))
    # Where no kernel says, the choice that does not see others where there are none.
    return "CONFIG_IRQ_TIME_ACCOUNTING=y" in texts[0] if texts else True


def description() -> str:
    """Processor, cores, system and Python, for the head of a table."""
    model = platform.processor() or platform.machine()
    with suppress(OSError, IndexError):
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = cpuinfo.split("model name")[1].split(":", 1)[1].split("\n", 1)[0].strip()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, {python}"
