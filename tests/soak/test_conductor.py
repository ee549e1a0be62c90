"""The conductor under floods of the size of FAULTS.md, as a process, with its marks."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import netutils
from netutils import Address
from tests.announces import (
    Timer,
    at_a_rate,
    cpu_s,
    descriptors_of,
    exchange,
    local_sources,
    memory_mib,
    query_for,
    random_hashes,
    request_for,
    threads_of,
)
from tests.figures import note
from tests.programs import PATIENCE_S, ROOT, Program, Programs
from tests.swarms import scrape, wait_until

HANDLERS = 32
"""More threads than this a conductor must never have."""
INFO_HASH = bytes(range(20))

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="127.0.0.0/8 and /proc are Linux's"),
]


@pytest.fixture(autouse=True)
def _many_descriptors() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4500:
        pytest.skip("this process may not open 4,500 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def start(programs: Programs, *options: str) -> tuple[Program, Address]:
    conductor = programs.start("conductor", "--host", "127.0.0.1", "--port", "0", *options)
    event = conductor.wait_for_event("listening")
    return conductor, (str(event["host"]), int(event["port"]))


def ends_clean(programs: Programs, conductor: Program, said: str = "") -> None:
    assert conductor.stop() == -signal.SIGTERM
    assert conductor.stderr in ("", said)
    log = "".join(path.read_text() for path in programs.log_dir.glob("conductor-*.log*"))
    assert "Traceback" not in log


@pytest.mark.fault("C4")
def test_500_announces_a_second_of_5000_members_in_1000_swarms(programs: Programs) -> None:
    conductor, address = start(programs, "--interval", "10")
    hashes, sources = random_hashes(1000, seed=4), local_sources()
    for _ in range(500):  # what it needs to answer at all, it has by now
        exchange(address, request_for(query_for(INFO_HASH, 6881)))
    before_mib = memory_mib(conductor.pid)
    begun_s, used_s = time.monotonic(), cpu_s(conductor.pid)
    bad: list[bytes] = []
    origins = [next(sources) for _ in range(5000)]

    def announce(number: int) -> None:
        request = request_for(query_for(hashes[number % 1000], 10_000 + number))
        reply = exchange(address, request, origins[number])
        if not reply.startswith(b"HTTP/1.1 200"):
            bad.append(reply)

    with Timer(address, INFO_HASH) as good:
        at_a_rate(5000, 500.0, announce)
    took_s = time.monotonic() - begun_s
    grown_mib = memory_mib(conductor.pid) - before_mib
    note("C4", "announces a second", f"{5000 / took_s:.0f}")
    note("C4", "answered", f"{(5000 - len(bad)) / 50:.2f} %")
    note("C4", "conductor's processor ms an announce", f"{(cpu_s(conductor.pid) - used_s) / 5.0:.2f}")
    note("C4", "a good member's p99 ms", f"{1000 * good.percentile(99):.0f}")
    note("C4", "MiB grown by 5,000 members", f"{grown_mib:.1f}")
    assert not bad
    assert good.failed == 0
    assert good.percentile(99) <= 0.25
    assert grown_mib <= 20

    # What they took is free for the next 5,000, but Python gives it back to the system only where a whole
    # arena is empty: of 5.4 MiB, none. So "back to +5 MiB" is shown as: another flood adds next to nothing.
    wait_until(lambda: not _names_anybody(address, hashes), "a conductor that has forgotten the 5,000")
    full_mib = memory_mib(conductor.pid)
    at_a_rate(5000, 500.0, announce)
    again_mib = memory_mib(conductor.pid) - full_mib
    note("C4", "MiB more by another 5,000, when these are forgotten", f"{again_mib:.1f}")
    assert not bad
    assert again_mib <= 1
    ends_clean(programs, conductor)


def _names_anybody(address: Address, hashes: list[bytes]) -> bool:
    """Whether any of some swarms still has members."""
    return any(scrape(address, info_hash) != (0, 0) for info_hash in hashes[::100])


LEAST_ANNOUNCES_S, STEP_ANNOUNCES_S = 500, 250
GOOD_S = 0.05


@pytest.mark.fault("C4")
def test_how_many_announces_a_second_find_an_answer_in_50_ms(programs: Programs) -> None:
    """10,000 members, as many to a swarm as may be: they come, and then announce again, ever faster."""
    conductor, address = start(programs)
    sources = local_sources()
    origins = [next(sources) for _ in range(10_000)]
    hashes = random_hashes(2, seed=3)
    requests = [request_for(query_for(hashes[number % 2], 10_000 + number)) for number in range(10_000)]
    took_s: list[float] = []

    def announce(number: int) -> None:
        begun_s = time.monotonic()
        reply = exchange(address, requests[number % 10_000], origins[number % 10_000])
        took_s.append(time.monotonic() - begun_s)
        assert reply.startswith(b"HTTP/1.1 200")

    at_a_rate(10_000, LEAST_ANNOUNCES_S, announce)
    assert [scrape(address, info_hash) for info_hash in hashes] == [(0, 5000)] * 2
    note("C4", "MiB of a conductor with 10,000 members", f"{memory_mib(conductor.pid):.0f}")
    note("C4", "MiB of it at most", f"{memory_mib(conductor.pid, 'VmHWM'):.0f}")
    assert memory_mib(conductor.pid, "VmHWM") <= 60 + 10
    best = 0
    for a_second in range(LEAST_ANNOUNCES_S, 10 * LEAST_ANNOUNCES_S, STEP_ANNOUNCES_S):
        took_s.clear()
        begun_s = time.monotonic()
        at_a_rate(4 * a_second, a_second, announce)
        # Who cannot ask so fast does not measure it.
        kept_up = time.monotonic() - begun_s <= 1.05 * 4
        if not kept_up or sorted(took_s)[len(took_s) * 99 // 100] > GOOD_S:
            break
        best = a_second
    note("C4", "announces a second, 99 of 100 answered in 50 ms", best)
    assert best >= LEAST_ANNOUNCES_S
    ends_clean(programs, conductor)


@pytest.mark.fault("C5")
@pytest.mark.parametrize("kind", ["silent", "slow headers", "endless headers"])
def test_2000_connections_do_not_keep_a_good_member_waiting(programs: Programs, kind: str) -> None:
    conductor, address = start(programs)
    exchange(address, request_for(query_for(INFO_HASH, 6881)))
    threads, descriptors = threads_of(conductor.pid), descriptors_of(conductor.pid)
    more = {"silent": b"", "slow headers": b"x", "endless headers": b"x" * 1000 + b"\r\nX: "}[kind]
    opened: list[tuple[float, socket.socket]] = []
    held_s: list[float] = []
    with contextlib.ExitStack() as stack, Timer(address, INFO_HASH) as good:
        begun_s = time.monotonic()
        for _ in range(2000):
            sock = stack.enter_context(netutils.dial(address, PATIENCE_S))
            if kind != "silent":
                sock.sendall(b"GET /announce?info_hash=%01 HTTP/1.1\r\nX: ")
            opened.append((time.monotonic(), sock))
        most = threads_of(conductor.pid)
        while time.monotonic() - begun_s < 12.0:
            for opened_s, sock in opened:
                if sock.fileno() >= 0 and _is_closed(sock, more):
                    held_s.append(time.monotonic() - opened_s)
                    sock.close()
            time.sleep(1.0)
    note("C5", f"{kind}: a good member's p99 ms", f"{1000 * good.percentile(99):.0f}")
    note("C5", f"{kind}: longest that a connection was held, s", f"{max(held_s):.1f}")
    note("C5", f"{kind}: threads of the conductor", most)
    assert len(held_s) == 2000
    assert max(held_s) <= 7.0  # 5 s, and as long as it takes until we look at it again
    assert good.failed == 0
    assert good.percentile(99) <= 0.5
    assert most <= HANDLERS
    wait_until(lambda: threads_of(conductor.pid) <= threads + 2, "threads as before")
    wait_until(lambda: descriptors_of(conductor.pid) <= descriptors + 2, "descriptors as before")
    ends_clean(programs, conductor)


def _is_closed(sock: socket.socket, more: bytes) -> bool:
    """Whether the other side has hung up; if not, it is sent a little more."""
    sock.setblocking(False)
    try:
        if sock.recv(4096) == b"":
            return True
    except BlockingIOError:
        pass
    except OSError:
        return True
    with contextlib.suppress(OSError):
        sock.send(more)
    return False


@pytest.mark.fault("C5")
def test_few_descriptors_are_enough(programs: Programs) -> None:
    command = [sys.executable, str(ROOT / "conductor.py"), "--host", "127.0.0.1", "--port", "0", "--json"]
    starved = ["sh", "-c", 'ulimit -n 32; exec "$@"', "sh", *command, "--log-dir", str(programs.log_dir)]
    conductor = programs.start_other(starved)
    event = conductor.wait_for_event("listening")
    address = (str(event["host"]), int(event["port"]))
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(netutils.dial(address, PATIENCE_S)).sendall(b"GET /")
        used_s, begun_s = cpu_s(conductor.pid), time.monotonic()
        with Timer(address, INFO_HASH) as good:
            time.sleep(8.0)
        share = (cpu_s(conductor.pid) - used_s) / (time.monotonic() - begun_s)
    note("C5", "32 descriptors, 200 idle connections: processor", f"{100 * share:.0f} %")
    note("C5", "32 descriptors, 200 idle connections: slowest answer, s", f"{max(good.took_s):.1f}")
    assert share <= 0.2
    assert good.failed == 0
    assert max(good.took_s) <= 10.0
    ends_clean(programs, conductor, "conductor: cannot let anybody in for now: Too many open files\n")


PEAK = """def peak_kib():
    # Not getrusage: what the parent had counts there until more is needed.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

"""
MILLION = """
import random, sys, time
from orchestra.announce import AnnounceQuery
from orchestra.announcereply import format_answer
from orchestra.announce import AnnounceProblem
from orchestra.tracker import Tracker

chance, tracker, refused = random.Random(6), Tracker(120), 0
begun_s = time.process_time()
for number in range(1_000_000):
    query = AnnounceQuery(chance.randbytes(20), b"-OR0100-" + chance.randbytes(12), 6881, 0, 0, 1)
    if sys.argv[1] == "one address":
        host = "192.0.2.1"
    else:
        host = "%d.%d.%d.%d" % (chance.randrange(1, 127), *chance.randbytes(3))
    try:
        format_answer(tracker.announce(query, host), compact=True)
    except AnnounceProblem:
        refused += 1
took_s = time.process_time() - begun_s
registry = tracker._registry
print(refused, len(registry._rosters), len(registry), peak_kib(), took_s)
"""


@pytest.mark.fault("C6")
@pytest.mark.parametrize("source", ["one address", "a million addresses"])
def test_a_million_announces_of_random_swarms(source: str) -> None:
    script = [sys.executable, "-c", PEAK + MILLION, source]
    answer = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=280, check=True)
    refused, swarms, members, peak_kib, took_s = answer.stdout.split()
    note("C6", f"{source}: swarms, members, refused", f"{swarms}, {members}, {refused}")
    note("C6", f"{source}: peak MiB", f"{int(peak_kib) / 1024:.0f}")
    note("C6", f"{source}: processor us an announce", f"{float(took_s):.1f}")
    assert int(swarms) <= 10_000
    assert int(members) <= 100_000
    assert int(peak_kib) <= 150 * 1024


FULL = """
import random
from orchestra.announce import AnnounceQuery
from orchestra.tracker import Tracker

chance, tracker = random.Random(6), Tracker(120)
hashes = [chance.randbytes(20) for _ in range(1000)]
for number in range(110_000):
    query = AnnounceQuery(hashes[number % 1000], b"-OR0100-" + chance.randbytes(12), 6881, 0, 0, 1)
    host = "2001:db8:%x:%x::1" % (number >> 16, number & 65535)
    try:
        tracker.announce(query, host)
    except Exception as full:
        assert "no room" in str(full), full
print(len(tracker._registry), peak_kib())
"""


@pytest.mark.fault("C6")
def test_a_registry_full_of_members_stays_within_a_kib_for_each() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", PEAK + FULL], cwd=ROOT, capture_output=True, text=True, timeout=280, check=True
    )
    members, peak_kib = map(int, answer.stdout.split())
    note("C6", "peak MiB with 100,000 members", f"{peak_kib / 1024:.0f}")
    assert members == 100_000
    assert peak_kib <= 60 * 1024 + members


@pytest.mark.fault("C1")
@pytest.mark.fault("C2")
def test_a_million_guesses_of_a_connection_id_get_no_byte(programs: Programs) -> None:
    """BEP 15 is not built: whoever guesses meets a port that nobody listens on."""
    conductor, address = start(programs)
    chance = random.Random(2)
    used_s, refused = cpu_s(conductor.pid), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)
        for _ in range(1_000_000):
            announce = chance.randbytes(8) + b"\0\0\0\1" + chance.randbytes(4) + INFO_HASH + bytes(62)
            try:
                sock.send(announce)
            except ConnectionRefusedError:  # the system's answer to the one before
                refused += 1
        with contextlib.suppress(ConnectionRefusedError), pytest.raises(BlockingIOError):
            sock.recv(65536)
    note("C2", "guesses of a million that the system refused, as nobody listens", refused)
    spent_s = round(cpu_s(conductor.pid) - used_s, 2)
    note("C2", "bytes answered to a million guesses", 0)
    note("C2", "the conductor's processor meanwhile, s", spent_s, at_most=50)
    assert scrape(address, INFO_HASH) == (0, 0)
    ends_clean(programs, conductor)


@pytest.mark.fault("G1")
def test_garbage_on_its_port_leaves_it_serving(programs: Programs) -> None:
    conductor, address = start(programs)
    chance = random.Random(1)
    good = request_for(query_for(INFO_HASH, 6881))
    exchange(address, good)
    threads, descriptors = threads_of(conductor.pid), descriptors_of(conductor.pid)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(20_000):
            sock.sendto(chance.randbytes(chance.randrange(1400)), address)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(65536)
    for number in range(2000):
        data = bytearray(good if number % 2 else chance.randbytes(chance.randrange(65_536)))
        for _ in range(number % 6):
            data[chance.randrange(len(data) or 1) : chance.randrange(len(data) + 1)] = chance.randbytes(2)
        with netutils.dial(address, PATIENCE_S) as stream, contextlib.suppress(OSError):
            stream.sendall(data)
    used_s, begun_s = cpu_s(conductor.pid), time.monotonic()
    time.sleep(5.0)
    idle = (cpu_s(conductor.pid) - used_s) / (time.monotonic() - begun_s)
    begun_s = time.monotonic()
    assert exchange(address, good).startswith(b"HTTP/1.1 200")
    note("G1", "conductor: processor in the 5 s after it", f"{100 * idle:.0f} %")
    note("G1", "conductor: peak MiB", f"{memory_mib(conductor.pid, 'VmHWM'):.0f}")
    note("G1", "conductor: seconds until a good announce is answered", f"{time.monotonic() - begun_s:.3f}")
    assert idle <= 0.2
    assert memory_mib(conductor.pid, "VmHWM") <= 60
    wait_until(lambda: threads_of(conductor.pid) <= threads + 2, "threads as before")
    wait_until(lambda: descriptors_of(conductor.pid) <= descriptors + 2, "descriptors as before")
    ends_clean(programs, conductor)
