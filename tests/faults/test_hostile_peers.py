"""Callers who break the rules: each is closed with the reason, at little cost, and others do not notice."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netutils import Address
from orchestra import bencode
from tests import figures, vitals
from tests.callers import Caller, tuned_member
from tests.compositions import MIB, Composition, compose
from tests.programs import Program, Programs
from tests.scriptedpeer import (
    BITFIELD,
    CANCEL,
    CHOKE,
    HAVE,
    INTERESTED,
    NOT_INTERESTED,
    PIECE,
    PROTOCOL,
    REQUEST,
    UNCHOKE,
    message,
)
from tests.swarms import wait_until

pytestmark = pytest.mark.skipif(not vitals.HAVE_VITALS, reason="needs /proc to see what a process costs")

PARTS, PART_BYTES = 125, 65536
PORT, SUGGEST, HAVE_ALL, HAVE_NONE, REJECT, ALLOWED_FAST, EXTENDED = 9, 13, 14, 15, 16, 17, 20
EXTENSIONS, FAST = 1 << 20, 1 << 2
FIELD = bytes((PARTS + 7) // 8)


@dataclass(frozen=True)
class Host:
    """A seeding member."""

    program: Program
    address: Address
    composition: Composition


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One member for all rows: whoever came before must have left no trace."""
    folder = tmp_path_factory.mktemp("host")
    composition = compose(folder / "source", PARTS * PART_BYTES, PART_BYTES)
    programs = Programs(folder)
    orch = composition.write_orch(folder)
    member = tuned_member(programs, orch, "--dir", composition.folder, "--port", "0")
    yield Host(member, ("127.0.0.1", member.wait_for_event("listening")["port"]), composition)
    assert member.stop() in (-15, 143)
    assert "Traceback" not in member.stderr
    programs.close()


def blocks(kind: int, *spans: tuple[int, int, int]) -> bytes:
    return b"".join(message(kind, struct.pack(">III", *span)) for span in spans)


def haves(*indices: int) -> bytes:
    return b"".join(message(HAVE, struct.pack(">I", index)) for index in indices)


def extended(number: int, payload: bytes) -> bytes:
    return message(EXTENDED, bytes([number]) + payload)


def contacts(number: int) -> bytes:
    return bencode.encode({b"added": bytes([10, 0, number >> 8, number & 255, 26, 225])})


def piece(index: int, begin: int, length: int) -> bytes:
    return message(PIECE, struct.pack(">II", index, begin) + bytes(length))


ROWS: dict[str, tuple[int, bytes, str]] = {
    "short bitfield": (0, message(BITFIELD, FIELD[:-1]), "BITFIELD of 16 bytes"),
    "long bitfield": (0, message(BITFIELD, FIELD + b"\0"), "BITFIELD of 18 bytes"),
    "spare bits": (0, message(BITFIELD, FIELD[:-1] + b"\x01"), "a bitfield with spare bits set"),
    "bitfields without end": (0, message(BITFIELD, FIELD) * 5000, "many words, and nothing said"),
    "have beyond the end": (0, haves(PARTS), "have of part 125"),
    "haves without end": (0, haves(*[5] * 100_000), "more haves than there are parts"),
    "pieces nobody asked for": (0, piece(0, 0, 16384) * 70, "too many blocks that were not asked for"),
    "tiny pieces": (0, piece(0, 0, 1) * 50_000, "too many blocks that were not asked for"),
    "unknown id": (0, message(42), "message id 42"),
    "unknown id, long": (0, struct.pack(">IB", 16000, 43) + bytes(16000), "message id 43"),
    "id of BEP 6, not agreed on": (0, message(HAVE_ALL), "message id 14"),
    "long choke": (0, message(CHOKE, b"x"), "CHOKE of 2 bytes"),
    "short have": (0, message(HAVE, b"xxx"), "HAVE of 4 bytes"),
    "short request": (0, message(REQUEST, bytes(11)), "REQUEST of 12 bytes"),
    "long cancel": (0, message(CANCEL, bytes(13)), "CANCEL of 14 bytes"),
    "empty piece": (0, message(PIECE, bytes(8)), "PIECE of 9 bytes"),
    "long piece": (0, struct.pack(">IB", 9 + 16385, PIECE), "PIECE of 16394 bytes"),
    "long port": (0, message(PORT, b"abc"), "PORT of 4 bytes"),
    "empty extended": (0, message(EXTENDED), "EXTENDED of 1 bytes"),
    "long extended": (0, struct.pack(">IB", 1 << 17, EXTENDED), "EXTENDED of 131072 bytes"),
    "request of nothing": (0, blocks(REQUEST, (1, 0, 0)), "a request for 0 bytes at 0 of part 1"),
    "request of 2 GiB": (0, blocks(REQUEST, (2, 0, 1 << 31)), "a request for 2147483648 bytes"),
    "request too long": (0, blocks(REQUEST, (3, 0, 16385)), "a request for 16385 bytes"),
    "request beyond its part": (0, blocks(REQUEST, (4, 65535, 2)), "a request for 2 bytes at 65535"),
    "request beyond the end": (0, blocks(REQUEST, (1 << 31, 0, 1)), "of part 2147483648"),
    "requests while choked": (
        0,
        blocks(REQUEST, *[(part, begin, 100) for part in range(100) for begin in range(0, 40_000, 40)]),
        "too many requests in vain",
    ),
    "requests while choked, BEP 6": (
        FAST,
        blocks(REQUEST, *[(part, begin, 200) for part in range(100) for begin in range(0, 40_000, 40)]),
        "too many requests in vain",
    ),
    "cancels without end": (0, blocks(CANCEL, *[(1, 0, 9)] * 100_000), "cancels of what was not asked for"),
    "choke and unchoke": (0, (message(CHOKE) + message(UNCHOKE)) * 50_000, "many words, and nothing said"),
    "interest that wavers": (
        0,
        (message(INTERESTED) + message(NOT_INTERESTED)) * 50_000,
        "many words, and nothing said",
    ),
    "ports without end": (0, message(PORT, b"ab") * 50_000, "many words, and nothing said"),
    "extensions nobody offered": (EXTENSIONS, extended(77, b"") * 50_000, "many words, and nothing said"),
    "suggestions without end": (FAST, message(SUGGEST, bytes(4)) * 1_000_000, "many words, and nothing"),
    "suggestion beyond the end": (FAST, message(SUGGEST, b"\xff" * 4), "part 4294967295"),
    "rejects of what nobody asked for": (FAST, blocks(REJECT, *[(0, 0, 16384)] * 100), "too many rejects"),
    "hellos without end": (EXTENSIONS, extended(0, b"de") * 100, "too many extension handshakes"),
    "a hello that is none": (EXTENSIONS, extended(0, b"le"), "that is not a dictionary"),
    "a hello of 30,000 lists": (EXTENSIONS, extended(0, b"l" * 30_000), "that is not bencoded"),
    "a hello with a long number": (EXTENSIONS, extended(0, b"d1:pi" + b"9" * 30_000 + b"ee"), "not bencoded"),
    "a hello with a long string": (EXTENSIONS, extended(0, b"d1:v99999999999:x"), "that is not bencoded"),
    "peer exchange without end": (
        EXTENSIONS, b"".join(extended(1, contacts(n)) for n in range(1000)), "again and again too soon"
    ),
    "keep-alives": (0, bytes(4_000_000), "a flood of keep-alives"),
}  # fmt: skip


@pytest.mark.fault("P10")
@pytest.mark.fault("P12")
@pytest.mark.parametrize("row", ROWS)
def test_who_breaks_the_rules_is_closed_with_the_reason_at_little_cost(host: Host, row: str) -> None:
    reserved, data, reason = ROWS[row]
    pid = host.program.pid
    before_s, before_kib = vitals.cpu_s(pid), vitals.rss_kib(pid)
    seen = host.program.stderr.count(reason)
    with Caller(host.address) as caller:
        caller.shake(host.composition, b"-XX0001-" + b"%12d" % list(ROWS).index(row), reserved=reserved)
        caller.send(data)
        assert caller.ended(), f"not closed: {row}"
    wait_until(lambda: host.program.stderr.count(reason) > seen, reason)
    spent_s, grown_kib = vitals.cpu_s(pid) - before_s, vitals.rss_kib(pid) - before_kib
    case = "P10" if "request" in row or "cancel" in row else "P12"
    figures.note(case, f"{row}: CPU s", round(spent_s, 2), at_most=1.0)
    figures.note(case, f"{row}: KiB more", grown_kib)
    assert grown_kib <= 10 * 1024


@pytest.mark.fault("P12")
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\0" + bytes(67), "not a BitTorrent handshake"),
        (b"\xff" + bytes(67), "not a BitTorrent handshake"),
        (b"GET / HTTP/1.1\r\n" * 5, "not a BitTorrent handshake"),
        (PROTOCOL + bytes(8) + bytes(40), "a handshake for another composition"),
    ],
)
def test_what_is_no_handshake_gets_no_answer(host: Host, said: bytes, reason: str) -> None:
    seen = host.program.stderr.count(reason)
    with Caller(host.address) as caller:
        caller.sock.sendall(said)
        with pytest.raises((EOFError, OSError)):
            caller.read(1)
    wait_until(lambda: host.program.stderr.count(reason) > seen, reason)


@pytest.mark.fault("P12")
@pytest.mark.parametrize("length", [0, 1, 19, 47, 48, 67])
def test_a_handshake_that_is_cut_off_ends_the_connection(host: Host, length: int) -> None:
    reason = "the connection ended early"
    seen = host.program.stderr.count(reason)
    with Caller(host.address) as caller:
        caller.sock.sendall((PROTOCOL + bytes(8) + host.composition.score.info_hash + bytes(20))[:length])
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.ended()
    wait_until(lambda: host.program.stderr.count(reason) > seen, reason)


@pytest.mark.fault("P12")
def test_who_comes_with_the_members_own_id_is_taken_for_itself(host: Host) -> None:
    with Caller(host.address) as caller:
        caller.sock.sendall(PROTOCOL + bytes(8) + host.composition.score.info_hash)
        caller.sock.sendall(caller.read(68)[48:])
        assert caller.ended()
    host.program.wait_for_stderr("that is us")


@pytest.mark.fault("P11")
@pytest.mark.parametrize("length", [0xFFFFFFFF, (1 << 20) + 1])
def test_a_length_that_cannot_be_ends_the_connection_before_much_is_taken_in(host: Host, length: int) -> None:
    pid = host.program.pid
    before_kib = vitals.rss_kib(pid)
    with Caller(host.address) as caller:
        caller.shake(host.composition, b"-XX0001-length%06d" % (length % 10**6))
        caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sent = caller.send(struct.pack(">IB", length, PIECE) + bytes(200 * MIB))
        assert caller.ended()
    assert sent < 16 * MIB, "what the system's buffers hold, not what the member read"
    host.program.wait_for_stderr(f"PIECE of {length} bytes")
    grown_kib = vitals.rss_kib(pid) - before_kib
    figures.note("P11", f"length {length}: KiB more", grown_kib)
    assert grown_kib <= 2 * 1024


@pytest.mark.fault("P12")
def test_names_of_clients_cannot_write_to_the_terminal(host: Host) -> None:
    evil = "\x1b[31m\x07\x9b2J\u202e\u2028evil\r\n2026 forged\x00"
    hello = bencode.encode({b"v": evil.encode()})
    with Caller(host.address) as caller:
        caller.shake(host.composition, b"\x1b[2J\r\n-forged-line\x9b\xff", reserved=EXTENSIONS)
        caller.send(extended(0, hello))
        text = host.program.wait_for_stderr("evil")
    bad = {c for c in map(ord, text) if (c < 32 and c != 10) or 127 <= c < 160 or 0x2000 <= c < 0x2030}
    assert bad <= {0x2026}, "but for our own ellipsis"
    assert not [line for line in text.split("\n") if line.startswith("2026 forged")]


@pytest.mark.fault("P6")
def test_five_hundred_resets_at_any_byte_leave_nothing_behind(host: Host) -> None:
    pid, numbers = host.program.pid, random.Random(6)
    wait_until(lambda: vitals.threads(pid) < 12, "the callers before are gone")
    threads, descriptors = vitals.threads(pid), vitals.descriptors(pid)
    talk = PROTOCOL + bytes(8) + host.composition.score.info_hash
    for number in range(500):
        script = talk + b"-RR0001-%012d" % number + message(INTERESTED) + blocks(REQUEST, (0, 0, 16384)) * 20
        with Caller(host.address) as caller, contextlib.suppress(OSError):
            caller.sock.sendall(script[: numbers.randrange(len(script))])
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(
        lambda: vitals.threads(pid) <= threads + 2 and vitals.descriptors(pid) <= descriptors + 2,
        "threads and descriptors as before",
    )
    with Caller(host.address) as good:
        assert good.fetches_a_part(host.composition)


@pytest.mark.fault("P10")
@pytest.mark.fault("P12")
def test_after_all_that_a_good_client_is_served(host: Host) -> None:
    pid = host.program.pid
    with Caller(host.address) as good:
        assert good.fetches_a_part(host.composition)
    wait_until(lambda: vitals.threads(pid) < 12, "all callers are gone")
    assert host.program.process.poll() is None
    figures.note("P12", "peak memory of the member, KiB", vitals.peak_kib(pid))
    assert vitals.peak_kib(pid) <= 80 * 1024


@pytest.mark.fault("P10")
@pytest.mark.parametrize(
    "flood",
    [
        blocks(REQUEST, (1, 0, 16384)) * 100_000,
        (blocks(REQUEST, (1, 0, 16384), (1, 16384, 16384)) + blocks(CANCEL, (1, 16384, 16384))) * 50_000,
    ],
    ids=["one block", "asked and taken back"],
)
def test_who_may_ask_may_not_flood(programs: Programs, tmp_path: Path, flood: bytes) -> None:
    composition = compose(tmp_path / "source", MIB, 65536)
    member = tuned_member(
        programs, composition.write_orch(tmp_path), "--dir", composition.folder, "--port", "0"
    )
    address = ("127.0.0.1", member.wait_for_event("listening")["port"])
    with Caller(address) as caller:
        caller.shake(composition)
        caller.sock.sendall(message(INTERESTED))
        caller.next(UNCHOKE)
        before_s, before_kib = vitals.cpu_s(member.pid), vitals.rss_kib(member.pid)
        caller.send(flood)
        assert caller.ended()
    member.wait_for_stderr("too many requests in vain")
    spent_s, grown_kib = vitals.cpu_s(member.pid) - before_s, vitals.rss_kib(member.pid) - before_kib
    figures.note("P10", "flood of one who may ask: CPU s, KiB more", f"{spent_s:.2f}, {grown_kib}")
    assert grown_kib <= 10 * 1024


@pytest.mark.fault("P10")
def test_a_part_that_the_member_lacks_may_not_be_asked_for(programs: Programs, tmp_path: Path) -> None:
    composition = compose(tmp_path / "source", MIB, 65536)
    member = tuned_member(
        programs, composition.write_orch(tmp_path), "--dir", tmp_path / "ours", "--port", "0"
    )
    address = ("127.0.0.1", member.wait_for_event("listening")["port"])
    with Caller(address) as caller:
        caller.shake(composition)
        caller.send(blocks(REQUEST, (7, 0, 16384)))
        assert caller.ended()
    member.wait_for_stderr("a request for part 7, which we do not have")


@pytest.mark.fault("P7")
def test_two_thousand_idle_connections_of_one_address_hold_three_places(
    programs: Programs, tmp_path: Path
) -> None:
    composition = compose(tmp_path / "source", MIB, 65536)
    orch = composition.write_orch(tmp_path)
    member = tuned_member(programs, orch, "--dir", composition.folder, "--port", "0", NO_EXEMPTION="1")
    address = ("127.0.0.1", member.wait_for_event("listening")["port"])
    held: list[Caller] = []
    with contextlib.ExitStack() as stack:
        for _ in range(2000):
            caller = stack.enter_context(Caller(address, source="127.0.0.77"))
            held.append(caller)
            if len(held) >= 100:
                held = [one for one in held if not _closed(one)]
        wait_until(lambda: _still_open(held) <= 3, "three are held")
        most = vitals.threads(member.pid)
        figures.note("P7", "threads with 2,000 idle callers", most)
        assert most <= 110
        with Caller(address, source="127.0.0.78") as good:
            assert good.fetches_a_part(composition)


def _still_open(callers: list[Caller]) -> int:
    return sum(caller.sock.fileno() >= 0 and not _closed(caller) for caller in callers)


def _closed(caller: Caller) -> bool:
    caller.sock.setblocking(False)
    try:
        ended = not caller.sock.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        ended = True
    if ended:
        caller.sock.close()
    return ended


@pytest.mark.fault("P9")
def test_a_hundred_who_dribble_their_handshake_are_closed_in_time_and_hold_up_nobody(
    programs: Programs, tmp_path: Path
) -> None:
    composition = compose(tmp_path / "source", MIB, 65536)
    orch = composition.write_orch(tmp_path)
    # 10 s and one byte in 5 s, five times as fast.
    member = tuned_member(
        programs, orch, "--dir", composition.folder, "--port", "0",
        TUNING="connection.HANDSHAKE_S=2 doorway.HURRY_S=0.4",
    )  # fmt: skip
    address = ("127.0.0.1", member.wait_for_event("listening")["port"])
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(Caller(address)) for _ in range(100)]
        with Caller(address) as good:
            assert good.fetches_a_part(composition)
        for count in range(20):
            left = [caller for caller in callers if caller.sock.fileno() >= 0 and not _closed(caller)]
            if not left:
                break
            for caller in left:
                with contextlib.suppress(OSError):
                    caller.sock.send(PROTOCOL[count : count + 1])
            with Caller(address) as good:
                assert good.fetches_a_part(composition)
        wait_until(lambda: not _still_open(callers), "all closed")
    assert vitals.threads(member.pid) < 20
