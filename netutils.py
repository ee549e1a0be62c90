"""Sockets: listen, dial, exact reads, addresses and compact peer lists.

Imports nothing of ours; any thread. The caller owns the sockets that it gets.
Raises OSError (what the system said) and ValueError (what a text said).

Rules: an address is (host, port), the host without brackets. A thread that
blocks in `dial` or `accept` is woken through a `Cancel`, which works on every
system; one that blocks in `recv` or `send`, by `shut`. Only the owner closes a
socket: closing wakes nobody, and the number may be reused meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

Address = tuple[str, int]
"""Host (a literal or a name) and port."""
_Target = tuple[socket.AddressFamily, Any]
"""Family and the system's form of an address."""

MAX_HOST_LENGTH = 253  # RFC 1035, section 2.3.4, as text
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?")
# inet_aton and getaddrinfo read 127.1, 0x7f.1 and 2130706433 as addresses too.
_NUMERIC_TAIL = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")
_V4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
_SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_COMPACT_LENGTH_BYTES = {socket.AF_INET: 6, socket.AF_INET6: 18}
_SAME_PORT_TRIES = 32
# select() refuses descriptors from 1024 up; epoll would cost a descriptor for each wait.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)
# Windows says EACCES for a port that is taken exclusively or reserved.
_TAKEN = {errno.EADDRINUSE, errno.EACCES} if os.name == "nt" else {errno.EADDRINUSE}
_FAMILY_ABSENT = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}
# Nothing heard: ended after 60 + 3 * 20 s (macOS says TCP_KEEPALIVE). Data that finds no way or room: 30 s.
_PATIENCE = {"KEEPIDLE": 60, "KEEPALIVE": 60, "KEEPINTVL": 20, "KEEPCNT": 3, "USER_TIMEOUT": 30_000}
_CONNECTING = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY}


# Addresses


def parse_address(text: str) -> Address:
    """Read "host:port", "1.2.3.4:port" or "[v6]:port"; the host is kept as it is written.

    Raises ValueError with the reason, without the text in it.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError("an IPv6 address is written [ADDRESS]:PORT")
        port_text = rest[1:]
        _check_v6(host)
    else:
        host, colon, port_text = text.partition(":")
        if not colon:
            raise ValueError("no port: expected HOST:PORT")
        if ":" in port_text:
            raise ValueError("an IPv6 address is written [ADDRESS]:PORT")
        _check_host(host)
    if not _PORT.fullmatch(port_text) or int(port_text) > 65535:
        raise ValueError("the port must be a number from 1 to 65535")
    return host, int(port_text)


def format_address(address: Address) -> str:
    """Write an address as `parse_address` reads it: IPv6 in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_host(host: str) -> None:
    if not host:
        raise ValueError("no host: expected HOST:PORT")
    if len(host) > MAX_HOST_LENGTH:
        raise ValueError(f"the host is longer than {MAX_HOST_LENGTH} characters")
    if _NUMERIC_TAIL.fullmatch(host):
        if not _V4.fullmatch(host):
            raise ValueError("the host is neither a name nor an IPv4 address a.b.c.d")
    elif not _NAME.fullmatch(host):
        raise ValueError("the host is not a host name (letters, digits, hyphens, dots)")


def _check_v6(host: str) -> None:
    literal, percent, scope = host.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6, literal)
    except (OSError, ValueError):
        raise ValueError("what is in the brackets is not an IPv6 address") from None
    if percent and not _SCOPE.fullmatch(scope):
        raise ValueError("the scope of the IPv6 address is not the name of an interface")


def normal_host(host: str) -> str:
    """One spelling for each address: IPv4 in IPv6 as IPv4, IPv6 short and small, names as they are.

    A scope is kept only where it means something: on a link-local address.
    """
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_link_local or address.scope_id is None:
        return str(address)
    return str(ipaddress.IPv6Address(address.packed))


def address_of(sockaddr: Sequence[Any]) -> Address:
    """The address in what accept, getsockname or getpeername returned."""
    host, port = str(sockaddr[0]), int(sockaddr[1])
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
        host = f"{host}%{sockaddr[3]}"
    return normal_host(host), port


# Compact peer lists


def pack_peers(addresses: Iterable[Address]) -> tuple[bytes, bytes]:
    """Compact lists of the IPv4 (6 bytes each, BEP 23) and IPv6 (18 bytes each, BEP 7) addresses. Raises
    ValueError for a host that is no literal or has a scope, and for a bad port."""
    v4, v6 = bytearray(), bytearray()
    for address in addresses:
        host, port = normal_host(address[0]), address[1]
        packed, family = (v6, socket.AF_INET6) if ":" in host else (v4, socket.AF_INET)
        try:
            packed += socket.inet_pton(family, host) + struct.pack("!H", port)
        except (OSError, ValueError, struct.error):
            raise ValueError(f"cannot be packed: {host!r} port {port}") from None
    return bytes(v4), bytes(v6)


def unpack_peers(data: bytes, family: socket.AddressFamily) -> list[Address]:
    """The addresses in a compact list of one family, as they are (port 0 too).

    Raises ValueError when the length is no multiple of 6 (AF_INET) or 18 (AF_INET6).
    """
    entry_bytes = _COMPACT_LENGTH_BYTES[family]
    if len(data) % entry_bytes:
        raise ValueError(f"{len(data)} bytes are no list of {entry_bytes}-byte addresses")
    return [_unpacked(family, data[at : at + entry_bytes]) for at in range(0, len(data), entry_bytes)]


@lru_cache(maxsize=16_384)  # The same members are named again and again.
def _unpacked(family: socket.AddressFamily, entry: bytes) -> Address:
    return normal_host(socket.inet_ntop(family, entry[:-2])), int.from_bytes(entry[-2:], "big")


# Waking


class Cancel:
    """Wakes every thread that waits in `dial` or `accept` with it; `is_set` stays true once set.

    `set` may be called from any thread; the owner calls `close` when none waits any more.
    """

    def __init__(self) -> None:
        self._waiting, self._waking = socket.socketpair()
        self.is_set = False

    def set(self) -> None:
        """Wake all who wait, now and later."""
        self.is_set = True
        shut(self._waking)  # the other end turns readable (end of stream) for good

    def fileno(self) -> int:
        """The descriptor that turns readable, for selectors."""
        return self._waiting.fileno()

    def close(self) -> None:
        """Release the sockets; nobody may wait with it any more."""
        self._waiting.close()
        self._waking.close()


def shut(sock: socket.socket) -> None:
    """Shut it down both ways, if it is connected: a `recv` or `send` blocked on it returns at once."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


# Listening


def listen(host: str | None, port: int, backlog: int = 128) -> list[socket.socket]:
    """Listening sockets, IPv4 first, all on one port number; port 0 picks a free one.

    `host` None means all addresses of both families (of one, where the other is
    absent); a literal means itself alone ("::" is IPv6 only); a name means all
    of its addresses that this machine has. Raises OSError.
    """
    targets: list[_Target] = [(socket.AF_INET, ("0.0.0.0", 0)), (socket.AF_INET6, ("::", 0))]
    if host is not None:
        targets = sorted(dict.fromkeys(_resolve(host, 0)), key=lambda target: target[0] != socket.AF_INET)
    # With port 0, what one family picked may be taken in the other: pick again.
    for _ in range(0 if port else _SAME_PORT_TRIES):
        with _unless_taken():
            return _listen_all(targets, port, backlog)
    return _listen_all(targets, port, backlog)


def listen_first_free(host: str | None, first_port: int, tries: int) -> list[socket.socket]:
    """Listening sockets on the first free port of `tries` from `first_port` up.

    Raises OSError: the last "address in use", or at once whatever else is wrong.
    """
    last_port = min(first_port + tries - 1, 65535)
    for port in range(first_port, last_port):
        with _unless_taken():
            return listen(host, port)
    return listen(host, last_port)


def accept(listeners: Sequence[socket.socket], cancel: Cancel) -> tuple[socket.socket, Address] | None:
    """Wait for a connection on any of the listening sockets; None when `cancel` was set.

    It comes blocking, with TCP_NODELAY. Raises OSError when the system cannot
    give one (EMFILE, ENFILE, ENOBUFS, ENOMEM): wait a little.
    """
    with _Selector() as selector:
        selector.register(cancel, selectors.EVENT_READ)
        for listener in listeners:
            # Between "readable" and accept the other side may be gone: never block there.
            listener.setblocking(False)
            selector.register(listener, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if cancel in ready:
                return None
            for listener in filter(ready.__contains__, listeners):
                with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                    sock, sockaddr = listener.accept()
                    return _ready(sock), address_of(sockaddr)


@contextlib.contextmanager
def _unless_taken() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _TAKEN:
            raise


def _listen_all(targets: list[_Target], port: int, backlog: int) -> list[socket.socket]:
    with contextlib.ExitStack() as on_failure:
        opened: list[socket.socket] = []
        absent = OSError(errno.EADDRNOTAVAIL, "the name has no address")
        for family, sockaddr in targets:
            try:
                sock = _listen_one((family, (sockaddr[0], port, *sockaddr[2:])), backlog)
            except OSError as error:
                if error.errno not in _FAMILY_ABSENT:
                    raise
                absent = error
            else:
                opened.append(on_failure.enter_context(sock))
                port = sock.getsockname()[1]
        if not opened:
            raise absent
        on_failure.pop_all()
    return opened


def _listen_one(target: _Target, backlog: int) -> socket.socket:
    family, sockaddr = target
    with contextlib.ExitStack() as on_failure:
        sock = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM))
        # On Windows SO_REUSEADDR would let two programs take one port.
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR), 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.listen(backlog)
        on_failure.pop_all()
    return sock


# Dialling and reading


def dial(
    address: Address,
    timeout_s: float,
    *,
    cancel: Cancel | None = None,
    allowed: Callable[[str], bool] | None = None,
) -> socket.socket:
    """Connect, trying each address of the host in turn; the socket is blocking, with TCP_NODELAY.

    Only to literals that are `allowed`. `timeout_s` bounds all tries together, each gets its share of what
    is left; the name lookup itself cannot be bounded or woken (the system's resolver). Raises
    TimeoutError, ConnectionAbortedError when `cancel` was set, else the OSError of the last address.
    """
    deadline = time.monotonic() + timeout_s
    failure: OSError = OSError(errno.EADDRNOTAVAIL, "the host has no address that may be dialled")
    found = [t for t in _resolve(*address) if allowed is None or allowed(address_of(t[1])[0])]
    for index, target in enumerate(found):
        if cancel is not None and cancel.is_set:
            raise ConnectionAbortedError(errno.ECONNABORTED, "given up")
        share_s = max(0.0, deadline - time.monotonic()) / (len(found) - index)
        try:
            return _connected(target, share_s, cancel)
        except OSError as error:
            failure = error
    raise failure


def recv_exactly(sock: socket.socket, length_bytes: int, deadline: float) -> bytes:
    """Read exactly `length_bytes` before `deadline` (time.monotonic()), however they trickle in.

    For handshakes, while one thread alone uses the socket: its timeout is changed
    meanwhile. The caller has checked the length. Raises TimeoutError, or
    ConnectionError when the stream ends early, or another OSError.
    """
    data = bytearray(length_bytes)
    view = memoryview(data)
    before = sock.gettimeout()
    try:
        while view:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "timed out")
            sock.settimeout(left_s)
            count = sock.recv_into(view)
            if not count:
                raise ConnectionResetError(errno.ECONNRESET, "the connection ended early")
            view = view[count:]
    finally:
        with contextlib.suppress(OSError):
            sock.settimeout(before)
    return bytes(data)


def _resolve(host: str, port: int) -> list[_Target]:
    try:
        name = host.encode() if host.isascii() and host.isprintable() else host  # text loads much of Unicode
        return [(one[0], one[4]) for one in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    except ValueError:  # an embedded NUL, a label that IDNA refuses
        raise OSError(errno.EINVAL, "not a host name") from None


def _connected(target: _Target, timeout_s: float, cancel: Cancel | None) -> socket.socket:
    family, sockaddr = target
    with contextlib.ExitStack() as on_failure:
        sock = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM))
        _connect(sock, sockaddr, timeout_s, cancel)
        on_failure.pop_all()
    return _ready(sock)


def _connect(sock: socket.socket, sockaddr: Any, timeout_s: float, cancel: Cancel | None) -> None:
    sock.setblocking(False)
    code = sock.connect_ex(sockaddr)
    if code not in _CONNECTING:
        raise OSError(code, os.strerror(code))
    with _Selector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        if cancel is not None:
            selector.register(cancel, selectors.EVENT_READ)
        ready = [key.fileobj for key, _ in selector.select(timeout_s)]
    if cancel is not None and cancel in ready:
        raise ConnectionAbortedError(errno.ECONNABORTED, "given up")
    if not ready:
        raise TimeoutError(errno.ETIMEDOUT, "timed out")
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    if sock.getsockname() == sock.getpeername():
        # Two free ports of one machine met (TCP's simultaneous open): nobody listens there.
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _ready(sock: socket.socket) -> socket.socket:
    """As its user wants it: blocking (BSD inherits the flag), small writes at once, dead ends noticed."""
    sock.setblocking(True)
    with contextlib.suppress(OSError):  # reset already: the first read will tell
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PATIENCE.items():
            if hasattr(socket, f"TCP_{name}"):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"), value)
    return sock
