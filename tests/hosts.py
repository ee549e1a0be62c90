"""Programs on hosts of their own: network namespaces with shaped links, where the system has them.

Linux and root only: use `needs_hosts`. The building is that of the benchmarks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType

import pytest

from benchmarks import links
from benchmarks.links import Host, Network
from benchmarks.measure import Skip
from tests.programs import ROOT, Program, Programs


def _why_not() -> str:
    try:
        links.check_possible()
    except Skip as skip:
        return str(skip)
    return ""


needs_hosts = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "possible")


class Hosts:
    """So many hosts on one bridge, each with a link of `bit_s` both ways, or unshaped. Use it in a `with`.

    Host N has the addresses `ipv4(N)` and `ipv6(N)`; `ipv6_only` takes the first ones away.
    """

    def __init__(
        self, programs: Programs, number: int, *, bit_s: float | None = None, ipv6_only: bool = False
    ) -> None:
        self._programs = programs
        self._ipv6_only = ipv6_only
        self.network = Network([Host(f"host{nth}", bit_s, bit_s) for nth in range(number)])
        self._number = number

    def __enter__(self) -> Hosts:
        links.remove_stale()
        self.network.__enter__()
        try:
            for nth in range(self._number):
                self.network.configure(nth, f"address add {ipv6(nth)}/64 dev {links.INTERFACE} nodad")
                if self._ipv6_only:
                    self.network.configure(nth, f"address del {ipv4(nth)}/16 dev {links.INTERFACE}")
        except BaseException:
            self.network.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Those inside first: a namespace is only gone when nobody is in it.
        for program in self._programs.running:
            if program.process.poll() is None:
                program.look()
                program.kill()
        self.network.__exit__(kind, error, trace)

    def start(self, number: int, program: str, *arguments: str | os.PathLike[str]) -> Program:
        """One of our programs on that host, as `programs.start` does it."""
        words = [os.fspath(argument) for argument in arguments]
        log = ["--log-dir", str(self._programs.log_dir), "--json"]
        return self.run(number, [sys.executable, str(ROOT / f"{program}.py"), *words, *log], program)

    def run(self, number: int, command: Sequence[str], name: str) -> Program:
        """Any command on that host."""
        # `ip netns exec` becomes the command: same process id.
        started = self._programs.start_other(self.network.inside(number, command))
        started.name = name
        return started


def ipv4(number: int) -> str:
    """The IPv4 address of a host."""
    return links.address_of(number)


def ipv6(number: int) -> str:
    """Its IPv6 address, of a network of our own (RFC 4193)."""
    return f"fd77::{number + 1:x}"
