"""Shaped links between hosts that are network namespaces: what is to be built, and the building of it.

Main thread; Linux, root, `ip` and `tc` of iproute2. Every host is a namespace
with one interface; its other end is a port of a bridge, which stands in a
namespace of its own, so that nothing of it is seen outside. A token bucket at
the host's end is its upload, one at the bridge's end its download. Names begin
with a prefix and our process id: they are deleted by name, and what a process
that is no more has left is found.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from benchmarks.measure import Skip
from benchmarks.processes import BenchmarkError

PREFIX = "orchestra-swarm"
INTERFACE = "net0"
BRIDGE = "bridge0"
MTU_BYTES = 1500
FRAME_BYTES = MTU_BYTES + 14
PAYLOAD_BYTES = MTU_BYTES - 52
"""What TCP carries in a full frame: 20 bytes of IPv4, 20 of TCP, 12 of its timestamps."""
BURST_BYTES = 64 << 10
"""The depth of a token bucket. The kernel passes frames on in bundles of up to 64 KiB."""
LATENCY_MS = 50
"""How long a frame may wait in a token bucket before it is dropped."""
MBIT = 1_000_000
_OWN = re.compile(rf"({PREFIX}-(\d+)-\S+)")


@dataclass(frozen=True, slots=True)
class Host:
    """A host and its link, in bits a second on the wire; None is unshaped."""

    name: str
    up_bit_s: float | None = None
    down_bit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines for one call of `ip` or `tc`, in a namespace (in ours when it is empty)."""

    program: str
    namespace: str
    lines: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """What is called; the lines go to its stdin."""
        where = ["-netns", self.namespace] if self.namespace else []
        return [self.program, *where, "-batch", "-"]


def payload_bytes_s(bit_s: float) -> float:
    """Payload that TCP gets through a link of that rate, in full frames."""
    return bit_s / 8 * PAYLOAD_BYTES / FRAME_BYTES


def address_of(number: int) -> str:
    """The address of the host of that number, from 0."""
    return f"10.77.{(number + 1) >> 8}.{(number + 1) & 255}"


def namespace_of(pid: int, name: str) -> str:
    """The namespace of a host of that process."""
    return f"{PREFIX}-{pid}-{name}"


def bucket(interface: str, bit_s: float) -> str:
    """The line for `tc` that shapes what leaves by an interface."""
    shape = f"rate {bit_s:.0f}bit burst {BURST_BYTES} latency {LATENCY_MS}ms"
    return f"qdisc add dev {interface} root tbf {shape}"


def building(hosts: Sequence[Host], pid: int) -> list[Batch]:
    """What builds the hosts, their links and the bridge, in order."""
    switch = namespace_of(pid, "switch")
    names = [namespace_of(pid, host.name) for host in hosts]
    ports = [f"port{number}" for number in range(len(hosts))]
    wires = [
        line
        for name, port in zip(names, ports, strict=True)
        for line in (
            f"link add {port} type veth peer name {INTERFACE} netns {name}",
            f"link set {port} master {BRIDGE} up",
        )
    ]
    bridge = (f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up", *wires)
    batches = [
        Batch("ip", "", tuple(f"netns add {name}" for name in (switch, *names))),
        Batch("ip", switch, bridge),
    ]
    for number, (host, name) in enumerate(zip(hosts, names, strict=True)):
        up = (f"address add {address_of(number)}/16 dev {INTERFACE}", f"link set {INTERFACE} up")
        batches.append(Batch("ip", name, ("link set lo up", *up)))
        if host.up_bit_s is not None:
            batches.append(Batch("tc", name, (bucket(INTERFACE, host.up_bit_s),)))
    downs = [
        bucket(port, host.down_bit_s)
        for host, port in zip(hosts, ports, strict=True)
        if host.down_bit_s is not None
    ]
    return [*batches, Batch("tc", switch, tuple(downs))] if downs else batches


def stale(listed: str, running: Sequence[int]) -> list[str]:
    """Namespaces of ours, in what `ip netns list` says, whose process is none of those that run."""
    return [name for name, pid in _OWN.findall(listed) if int(pid) not in running]


def sent_frame_bytes(listed: str) -> int:
    """Bytes that left an interface, headers counted for every frame, from `tc -s -j qdisc show`."""
    return sum(int(entry.get("bytes", 0)) for entry in json.loads(listed))


def check_possible() -> None:
    """Raises Skip where links cannot be shaped."""
    if not sys.platform.startswith("linux"):
        raise Skip("links are shaped with network namespaces, which only Linux has")
    if os.geteuid() != 0:
        raise Skip("only root may make network namespaces")
    missing = [program for program in ("ip", "tc") if shutil.which(program) is None]
    if missing:
        raise Skip(f"{' and '.join(missing)} is not installed (apt install iproute2)")


def remove_stale() -> None:
    """Remove what benchmarks that were killed have left, their processes too."""
    running = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    _remove(stale(_run(["ip", "netns", "list"]), running))


class Network:
    """The hosts, built; gone at the end of the `with`. Numbers count from 0, in the order given."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = list(hosts)
        self._pid = os.getpid()

    def __enter__(self) -> Network:
        try:
            for batch in building(self._hosts, self._pid):
                _run(batch.command, "\n".join(batch.lines) + "\n")
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tear_down()

    def inside(self, number: int, command: Sequence[str]) -> list[str]:
        """The command that runs `command` on a host, in the process that is started."""
        return ["ip", "netns", "exec", self._namespace(number), *command]

    def configure(self, number: int, *lines: str) -> None:
        """Lines for `ip` on a host: other addresses, for example."""
        _run(Batch("ip", self._namespace(number), lines).command, "\n".join(lines) + "\n")

    def plug(self, number: int, *, in_: bool) -> None:
        """Pull a host's cable out of the bridge, or put it in again: nobody is told."""
        line = f"link set port{number} {'up' if in_ else 'down'}\n"
        _run(Batch("ip", namespace_of(self._pid, "switch"), ()).command, line)

    def sent_frame_bytes(self, number: int) -> int:
        """Bytes in frames that a host has put on its shaped link so far."""
        shown = ["tc", "-netns", self._namespace(number), "-s", "-j", "qdisc", "show", "dev", INTERFACE]
        return sent_frame_bytes(_run(shown))

    def _namespace(self, number: int) -> str:
        return namespace_of(self._pid, self._hosts[number].name)

    def _tear_down(self) -> None:
        _remove([name for name, pid in _OWN.findall(_run(["ip", "netns", "list"])) if int(pid) == self._pid])


def _remove(names: Sequence[str]) -> None:
    for name in names:
        for pid in _run(["ip", "netns", "pids", name]).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _run(["ip", "netns", "delete", name])


def _run(command: list[str], lines: str = "") -> str:
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"$ {' '.join(command)}\n{lines}{done.stderr.strip()}")
    return done.stdout
