"""What holds whatever goes wrong: the invariants I1 to I8 of docs/faults.md, for every fault test.

Used through the `invariants` fixture of conftest.py, which checks at the end
of the test what needs no word of it: the canary, every output that was named,
the logs, exit codes and peak memory of all programs of `programs`. The others
are asked for where they belong: `settles` around an attack (I5), and
`still_serves` and `still_conducts` after it (I8). Processes are looked at in
/proc; where there is none, memory, threads and descriptors go unchecked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from netutils import Address
from orchestra.errors import ExitCode
from tests.compositions import MIB, Composition
from tests.programs import Program, Programs
from tests.referencepeer import fetch_parts
from tests.swarms import scrape

MEMBER_PEAK_BYTES = 80 * MIB
CONDUCTOR_PEAK_BYTES = 60 * MIB
SETTLE_S = 15.0
SPARE = 2
"""Threads and descriptors that may be more than before."""
SERVED_S = 5.0
_ONE_LOOK_S = 0.05
_OURS = ("composer", "conductor", "member")
_ENDING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE")
_BUGS = re.compile(r"Traceback|thread \S+ crashed|unexpected failure")

Listing = dict[str, tuple[int, int, str]]


@dataclass(frozen=True)
class Usage:
    """What a process holds now. All zero where there is no /proc, or no process any more."""

    threads: int = 0
    descriptors: int = 0
    rss_bytes: int = 0

    def settled(self, before: Usage) -> bool:
        """Whether threads and descriptors are as they were, but for a few."""
        return self.threads <= before.threads + SPARE and self.descriptors <= before.descriptors + SPARE


def usage_of(pid: int) -> Usage:
    """What the process holds now."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return Usage()
    fields = dict(re.findall(r"^(Threads|VmRSS):\s*(\d+)", status, re.MULTILINE))
    return Usage(int(fields.get("Threads", 0)), descriptors, 1024 * int(fields.get("VmRSS", 0)))


class Canary:
    """A folder that nobody is to touch, with what an attacker would like to: files, a folder, a link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".ssh").mkdir(parents=True)
        (folder / ".ssh" / "authorized_keys").write_text("nobody\n")
        (folder / "passwd").write_text("root:x:0:0\n")
        self.target = folder / "target.bin"
        """A file that a link may be pointed at."""
        self.target.write_bytes(b"what a link pointed at\n")
        with contextlib.suppress(OSError, NotImplementedError):
            (folder / "link").symlink_to("passwd")
        self._before = self._listing()

    def check(self) -> None:
        """I6: names, kinds, times and bytes are what they were."""
        now = self._listing()
        changed = {name for name in {*now, *self._before} if now.get(name) != self._before.get(name)}
        assert not changed, f"touched outside of the download folder: {sorted(changed)}"

    def _listing(self) -> Listing:
        return {path.relative_to(self.folder).as_posix(): _state(path) for path in self.folder.rglob("*")}


class Invariants:
    """See the module's text.

    `canary` lies beside the test's folders; its `target` is there for links. `peak_bytes` may be set
    for a case that states another limit.
    """

    def __init__(self, programs: Programs) -> None:
        self.canary = Canary(programs.folder / "canary")
        self.peak_bytes = {"member": MEMBER_PEAK_BYTES, "conductor": CONDUCTOR_PEAK_BYTES}
        self._programs = programs
        self._outputs: list[tuple[Composition, Path]] = []

    def output(self, composition: Composition, path: Path) -> Path:
        """I1: what is at `path` when the test ends is this composition, or nothing is. Returns `path`."""
        self._outputs.append((composition, path))
        return path

    def check(self) -> None:
        """I1 to I4 and I6, now. The fixture calls it at the end of the test."""
        self.canary.check()
        for composition, path in self._outputs:
            assert not os.path.lexists(path) or composition.is_at(path), f"wrong bytes in {path}"
        for program in self._programs.running:
            program.look()
            if program.name in _OURS:
                self._check_program(program)
        for path in self._programs.log_dir.glob("*.log*"):
            check_log(path.read_text(encoding="utf-8", errors="backslashreplace"), path.name)

    def _check_program(self, program: Program) -> None:
        check_log(program.stderr, f"stderr of {program.name}\n{program.story()}")
        code = program.process.poll()
        assert code is None or program.was_killed or code in _documented(), (
            f"{program.name} ended with {code}\n{program.story()}"
        )
        limit = self.peak_bytes.get(program.name)
        assert limit is None or program.peak_rss_bytes <= limit, (
            f"{program.name} took {program.peak_rss_bytes / MIB:.1f} MiB, {limit / MIB:.0f} allowed"
        )

    @contextlib.contextmanager
    def settles(self, *programs: Program, within_s: float = SETTLE_S) -> Iterator[dict[int, Usage]]:
        """I5: soon after the block these programs have the threads and descriptors of before it, or fewer.

        The block gets what they had, by process id.
        """
        before = {program.pid: usage_of(program.pid) for program in programs}
        yield before
        deadline = time.monotonic() + within_s
        for program in programs:
            while not (now := usage_of(program.pid)).settled(before[program.pid]):
                assert time.monotonic() < deadline, f"{program.name}: {before[program.pid]}, now {now}"
                Event().wait(_ONE_LOOK_S)

    def still_serves(self, address: Address, composition: Composition, parts: int = 1) -> None:
        """I7 and I8: a stranger gets some parts from a seeding member at once, each byte right."""
        fetch_parts(address, composition, range(parts), timeout_s=SERVED_S)

    def still_conducts(self, address: Address, composition: Composition) -> None:
        """I8: the conductor answers a stranger at once."""
        scrape(address, composition.score.info_hash, timeout_s=SERVED_S)


def check_log(text: str, where: str) -> None:
    """I2: no traceback and no dead thread in what a program wrote."""
    found = _BUGS.search(text)
    assert not found, f"{found and found[0]!r} in {where}:\n{text[-4000:]}"


def _documented() -> set[int]:
    """I4: the exit codes of the README, and death by a signal that asks to end."""
    asked = {-getattr(signal, name) for name in _ENDING_SIGNALS if hasattr(signal, name)}
    return {*map(int, ExitCode)} | asked


def _state(path: Path) -> tuple[int, int, str]:
    status = path.lstat()
    content = ""
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha1(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    return status.st_mode, status.st_mtime_ns, content
