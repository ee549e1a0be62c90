"""Sockets: addresses as text and bytes, listening in two families, dialling, exact reads."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import netutils
from netutils import Address

PATIENCE_S = 10.0


@contextlib.contextmanager
def listening(host: str | None = "127.0.0.1", port: int = 0) -> Iterator[list[socket.socket]]:
    listeners = netutils.listen(host, port)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def address(sock: socket.socket) -> Address:
    return netutils.address_of(sock.getsockname())


# Addresses


@pytest.mark.parametrize(("text", "parsed"), [
    ("192.168.1.1:9999", ("192.168.1.1", 9999)),
    ("localhost:1", ("localhost", 1)),
    ("Conductor.example.org.:65535", ("Conductor.example.org.", 65535)),
    ("a_b-c.d:80", ("a_b-c.d", 80)),
    ("xn--bcher-kva.example:80", ("xn--bcher-kva.example", 80)),
    ("[::1]:9999", ("::1", 9999)),
    ("[2001:DB8::1]:80", ("2001:DB8::1", 80)),
    ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ("[::ffff:10.0.0.1]:80", ("::ffff:10.0.0.1", 80)),
    (f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}:80", (f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}", 80)),
])  # fmt: skip
def test_an_address_is_read_and_written_back_as_it_was(text: str, parsed: Address) -> None:
    assert netutils.parse_address(text) == parsed
    assert netutils.format_address(parsed) == text


NO_ADDRESSES = {
    "no port": ["", "host"],
    "no host": [":80"],
    "[ADDRESS]:PORT": ["[::1]", "[::1]9999", "[::1:80", "::1:80", "fe80::1:80", "[fe80::1%a]b]:80"],
    "from 1 to 65535": [
        *("host:", "host:0", "host:65536", "host:080", "host:+80", "host: 80", "host:8_0", "host:80 "),
        *("host:80\n", "host:\uff18\uff10", "host:" + "9" * 5000),
    ],
    "not an IPv6": ["[127.0.0.1]:80", "[]:80", "[::g]:80", "[::1\0]:80"],
    "scope": ["[::1%]:80", "[fe80::1%a b]:80"],
    "neither a name nor": [
        *("1.2.3:80", "1.2.3.256:80", "01.2.3.4:80", "1.2.3.4.5:80"),
        *("2130706433:80", "0x7f.1:80", "a.0x7f000001:80"),
    ],
    "not a host name": [
        *("-a:80", "a-:80", "a..b:80", ".:80", "ho st:80", "user@host:80", "host/x:80", "a,b:80"),
        *("h\xf6st:80", "host\0:80", "host\n:80", "a" * 64 + ":80"),
    ],
    "longer than 253": ["a." * 127 + ":80"],
}


@pytest.mark.parametrize(
    ("text", "reason"), [(text, reason) for reason, texts in NO_ADDRESSES.items() for text in texts]
)
def test_what_is_no_address_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        netutils.parse_address(text)
    assert reason in str(raised.value)
    assert str(raised.value).isprintable()


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_a_valueerror(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert netutils.format_address(netutils.parse_address(text)) == text


@pytest.mark.parametrize(("host", "normal"), [
    ("::ffff:10.0.0.1", "10.0.0.1"),
    ("::FFFF:a00:1", "10.0.0.1"),
    ("2001:DB8:0:0::1", "2001:db8::1"),
    ("fe80::1%eth0", "fe80::1%eth0"),
    ("2001:db8::1%eth0", "2001:db8::1"),
    ("10.0.0.1", "10.0.0.1"),
    ("example.org", "example.org"),
    ("no:address", "no:address"),
])  # fmt: skip
def test_each_host_has_one_spelling(host: str, normal: str) -> None:
    assert netutils.normal_host(host) == normal


@pytest.mark.parametrize(("sockaddr", "expected"), [
    (("10.0.0.1", 80), ("10.0.0.1", 80)),
    (("::1", 80, 0, 0), ("::1", 80)),
    (("fe80::1", 80, 0, 2), ("fe80::1%2", 80)),
    (("fe80::1%eth0", 80, 0, 2), ("fe80::1%eth0", 80)),
    (("2001:db8::1", 80, 0, 2), ("2001:db8::1", 80)),
    (("::ffff:10.0.0.1", 80, 0, 0), ("10.0.0.1", 80)),
])  # fmt: skip
def test_what_the_system_calls_an_address_is_ours(sockaddr: tuple[object, ...], expected: Address) -> None:
    assert netutils.address_of(sockaddr) == expected


# Compact lists


def test_compact_lists_have_the_bytes_of_bep_23_and_bep_7() -> None:
    v4, v6 = netutils.pack_peers([("10.0.0.1", 6881), ("2001:db8::2", 443), ("::ffff:1.2.3.4", 65535)])
    assert v4 == bytes([10, 0, 0, 1, 0x1A, 0xE1, 1, 2, 3, 4, 0xFF, 0xFF])
    assert v6 == bytes.fromhex("20010db8000000000000000000000002") + b"\x01\xbb"
    assert netutils.unpack_peers(v4, socket.AF_INET) == [("10.0.0.1", 6881), ("1.2.3.4", 65535)]
    assert netutils.unpack_peers(v6, socket.AF_INET6) == [("2001:db8::2", 443)]


@pytest.mark.parametrize("bad", [
    ("example.org", 80), ("fe80::1%eth0", 80), ("", 80), ("10.0.0.1\0", 80), ("::g", 80),
    ("10.0.0.1", 65536), ("10.0.0.1", -1),
])  # fmt: skip
def test_what_has_no_packed_form_is_refused(bad: Address) -> None:
    with pytest.raises(ValueError, match="cannot be packed"):
        netutils.pack_peers([bad])


@pytest.mark.parametrize(
    ("length", "family"), [(5, socket.AF_INET), (7, socket.AF_INET), (6, socket.AF_INET6)]
)
def test_a_list_cut_within_an_address_is_refused(length: int, family: socket.AddressFamily) -> None:
    with pytest.raises(ValueError, match="no list of"):
        netutils.unpack_peers(bytes(length), family)


@given(
    st.lists(
        st.tuples(st.ip_addresses().map(lambda ip: netutils.normal_host(str(ip))), st.integers(0, 65535))
    )
)
def test_packing_and_unpacking_keep_every_address(addresses: list[Address]) -> None:
    v4, v6 = netutils.pack_peers(addresses)
    unpacked = netutils.unpack_peers(v4, socket.AF_INET) + netutils.unpack_peers(v6, socket.AF_INET6)
    assert sorted(unpacked) == sorted(addresses)


# Listening


def test_all_addresses_means_one_port_in_both_families() -> None:
    with listening(None) as listeners:
        assert [listener.family for listener in listeners] == [socket.AF_INET, socket.AF_INET6]
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
        for host in ("127.0.0.1", "::1"):
            netutils.dial((host, address(listeners[0])[1]), PATIENCE_S).close()


def test_a_port_that_is_taken_in_the_other_family_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    real = netutils._listen_one
    failed: list[int] = []

    def taken_three_times(target: netutils._Target, backlog: int) -> socket.socket:
        if target[0] == socket.AF_INET6 and len(failed) < 3:
            failed.append(target[1][1])
            raise OSError(errno.EADDRINUSE, "taken")
        return real(target, backlog)

    monkeypatch.setattr(netutils, "_listen_one", taken_three_times)
    with listening(None) as listeners:
        assert len(failed) == 3
        assert len({listener.getsockname()[1] for listener in listeners}) == 1


def test_without_ipv6_it_listens_in_ipv4_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = netutils._listen_one

    def no_ipv6(target: netutils._Target, backlog: int) -> socket.socket:
        if target[0] == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(target, backlog)

    monkeypatch.setattr(netutils, "_listen_one", no_ipv6)
    with listening(None) as listeners:
        assert [listener.family for listener in listeners] == [socket.AF_INET]
    with pytest.raises(OSError, match="not supported"):
        netutils.listen("::1", 0)


def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    with listening() as [listener], pytest.raises(OSError, match=".") as raised:
        netutils.listen("127.0.0.1", address(listener)[1])
    assert raised.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match=".") as raised:
        netutils.listen("192.0.2.1", 0)
    assert raised.value.errno == errno.EADDRNOTAVAIL


def test_a_name_that_is_none_is_an_oserror() -> None:
    for host in ("nobody.invalid", "a\0b", "x" * 300, "\udcff"):
        with pytest.raises(OSError, match="."):
            netutils.listen(host, 0)


def test_the_port_can_be_used_again_at_once() -> None:
    with listening() as [listener]:
        port = address(listener)[1]
        ours = netutils.dial(("127.0.0.1", port), PATIENCE_S)
        theirs, _ = listener.accept()
        theirs.close()  # the side that closes first keeps the port in TIME_WAIT
        ours.close()
    with listening(port=port):
        pass


def test_the_first_free_port_is_found() -> None:
    with listening() as [listener]:
        taken = address(listener)[1]
        found = netutils.listen_first_free("127.0.0.1", taken, 20)
        try:
            assert taken < address(found[0])[1] < taken + 20
        finally:
            found[0].close()
        with pytest.raises(OSError, match=".") as raised:
            netutils.listen_first_free("127.0.0.1", taken, 1)
    assert raised.value.errno == errno.EADDRINUSE


# Accepting and dialling


def test_accept_returns_a_blocking_connection_and_its_address() -> None:
    cancel = netutils.Cancel()
    with listening(None) as listeners:
        for host in ("127.0.0.1", "::1"):
            ours = netutils.dial((host, address(listeners[0])[1]), PATIENCE_S)
            accepted = netutils.accept(listeners, cancel)
            assert accepted is not None
            theirs, where = accepted
            assert where == address(ours)
            for sock in (ours, theirs):
                assert sock.gettimeout() is None
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert not sock.get_inheritable()
                sock.close()
    cancel.close()


def test_cancel_wakes_accept_and_stays_set() -> None:
    cancel = netutils.Cancel()
    with listening() as listeners:
        threading.Timer(0.05, cancel.set).start()
        assert netutils.accept(listeners, cancel) is None
        assert netutils.accept(listeners, cancel) is None
    assert cancel.is_set
    cancel.close()
    cancel.set()  # late, after the owner has closed it: nothing happens


@pytest.fixture
def full() -> Iterator[Address]:
    """Where connecting hangs: a listener whose backlog is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    yield address(listener)
    for sock in (listener, *fillers):
        sock.close()


def test_dial_gives_up_at_its_timeout(full: Address) -> None:
    with pytest.raises(TimeoutError):
        netutils.dial(full, 0.05)


def test_cancel_wakes_dial(full: Address) -> None:
    cancel = netutils.Cancel()
    threading.Timer(0.05, cancel.set).start()
    with pytest.raises(ConnectionAbortedError):
        netutils.dial(full, PATIENCE_S, cancel=cancel)
    cancel.close()


def test_dial_after_cancel_does_not_connect() -> None:
    cancel = netutils.Cancel()
    cancel.set()
    with listening() as [listener]:
        with pytest.raises(ConnectionAbortedError):
            netutils.dial(address(listener), PATIENCE_S, cancel=cancel)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    cancel.close()


def resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: Address) -> None:
    targets = [(socket.AF_INET, found) for found in addresses]
    monkeypatch.setattr(netutils, "_resolve", lambda host, port: targets)


def test_dial_tries_each_address_of_a_name(monkeypatch: pytest.MonkeyPatch, full: Address) -> None:
    with listening() as [gone]:
        refused = address(gone)
    with listening() as [listener]:
        resolving_to(monkeypatch, refused, full, address(listener))
        netutils.dial(("a.name", 80), 0.2).close()


def test_dial_reports_the_last_failure(monkeypatch: pytest.MonkeyPatch, full: Address) -> None:
    with listening() as [gone]:
        refused = address(gone)
    resolving_to(monkeypatch, full, refused)
    with pytest.raises(ConnectionRefusedError):
        netutils.dial(("a.name", 80), 0.1)


def test_dial_of_a_name_that_is_none_is_an_oserror() -> None:
    for host in ("nobody.invalid", "a\0b", "x" * 300):
        with pytest.raises(OSError, match="."):
            netutils.dial((host, 80), PATIENCE_S)


def test_a_connection_to_ourselves_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    # TCP's simultaneous open: a socket bound to the port that it connects to meets itself.
    with listening() as [gone]:
        free = address(gone)

    class Bound(socket.socket):
        def setblocking(self, flag: bool) -> None:
            if not flag:
                self.bind(free)
            super().setblocking(flag)

    monkeypatch.setattr(socket, "socket", Bound)
    with pytest.raises(ConnectionRefusedError):
        netutils.dial(free, PATIENCE_S)


# Reading


def soon() -> float:
    return time.monotonic() + PATIENCE_S


def test_recv_exactly_puts_pieces_together_and_leaves_the_rest() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def send() -> None:
            for byte in b"pieces":
                theirs.sendall(bytes([byte]))
            theirs.sendall(b"rest")

        thread = threading.Thread(target=send)
        thread.start()
        assert netutils.recv_exactly(ours, 6, soon()) == b"pieces"
        assert netutils.recv_exactly(ours, 0, soon()) == b""
        assert netutils.recv_exactly(ours, 4, soon()) == b"rest"
        thread.join()
        assert ours.gettimeout() is None


@pytest.mark.fault("P5")
def test_the_system_is_asked_to_notice_dead_ends() -> None:
    [listener] = netutils.listen("127.0.0.1", 0)
    with listener, netutils.dial(netutils.address_of(listener.getsockname()), 10.0) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_recv_exactly_tells_an_early_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"abc")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError, match="ended early"):
            netutils.recv_exactly(ours, 4, soon())


def test_the_deadline_holds_although_bytes_trickle_in() -> None:
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.01):
            theirs.sendall(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        with pytest.raises(TimeoutError):
            netutils.recv_exactly(ours, 1_000_000, time.monotonic() + 0.1)
    finally:
        ended.set()
        thread.join()
        ours.close()
        theirs.close()


def test_shut_wakes_a_blocked_reader() -> None:
    ours, theirs = socket.socketpair()
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(ours.recv(1)))
    thread.start()
    netutils.shut(ours)
    thread.join(PATIENCE_S)
    assert received == [b""]
    ours.close()
    theirs.close()
    netutils.shut(ours)  # closed already: nothing happens


def test_shut_of_a_socket_that_was_never_connected_does_nothing() -> None:
    with socket.socket() as sock:
        netutils.shut(sock)
