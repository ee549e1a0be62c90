"""The reply of a conductor to a GET, from the socket to its body (RFC 9110, RFC 9112).

The announcer's thread. http.client would do it, but brings along what reads
e-mail and speaks TLS: 13 ms of a processor and 3 MiB for each member, at the
very moment when all of a swarm start at once. Of HTTP there is just what a
reply to `Connection: close` needs: interim replies, a length, chunks, or the
end of the connection.
"""

from __future__ import annotations

import re
import socket
from typing import BinaryIO

from orchestra.announcereply import MAX_REPLY_BYTES, ReplyProblem
from orchestra.text import safe

MAX_LINE_BYTES = 64 * 1024
MAX_HEADERS = 100

_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: (.*))?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"[ \t]*0*([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


def read_body(sock: socket.socket) -> bytes:
    """The body of the reply to a GET; of one that is too long, the first MAX_REPLY_BYTES + 1 bytes.

    Raises OSError as the socket does, ReplyProblem for all that is no whole reply of status 200.
    """
    with sock.makefile("rb") as stream:
        status, reason, headers = _head(stream)
        while 100 <= status < 200:  # interim: the reply itself follows (RFC 9110, section 15.2)
            status, reason, headers = _head(stream)
        if status != 200:
            raise ReplyProblem(_refusal(status, reason))
        coding = headers.get(b"transfer-encoding", b"identity")
        if coding.lower() == b"chunked":
            return _chunks(stream)
        if coding.lower() != b"identity":
            raise _no_http(coding)
        length = headers.get(b"content-length")
        if length is None:
            return stream.read(MAX_REPLY_BYTES + 1)
        if not _LENGTH.fullmatch(length):
            raise _no_http(length)
        return _exactly(stream, min(int(length), MAX_REPLY_BYTES + 1))


def _head(stream: BinaryIO) -> tuple[int, str, dict[bytes, bytes]]:
    """Status, reason, and the headers by their names in small letters; what is no header is left out."""
    first = stream.readline(MAX_LINE_BYTES).rstrip(b"\r\n")
    match = _STATUS.fullmatch(first)
    if match is None:
        raise _no_http(first) if first else _ended_early()
    headers: dict[bytes, bytes] = {}
    for _ in range(MAX_HEADERS):
        line = _line(stream)
        if not line:
            return int(match[1]), (match[2] or b"").decode("latin-1").strip(), headers
        name, _, value = line.partition(b":")
        headers.setdefault(name.rstrip().lower(), value.strip())
    raise ReplyProblem(f"this is no HTTP reply (more than {MAX_HEADERS} headers)")


def _chunks(stream: BinaryIO) -> bytes:
    """A body in chunks (RFC 9112, section 7.1)."""
    body = bytearray()
    while True:
        size = _line(stream)
        match = _CHUNK.fullmatch(size)
        if match is None:
            raise _no_http(size)
        length_bytes = int(match[1], 16)
        if not length_bytes:
            return bytes(body)
        body += _exactly(stream, min(length_bytes, MAX_REPLY_BYTES + 1 - len(body)))
        if len(body) > MAX_REPLY_BYTES:
            return bytes(body)
        end = _line(stream)
        if end:
            raise _no_http(end)


def _line(stream: BinaryIO) -> bytes:
    """The next line, without its end."""
    line = stream.readline(MAX_LINE_BYTES + 1)
    if not line.endswith(b"\n"):
        if len(line) > MAX_LINE_BYTES:
            raise _no_http(line)
        raise _ended_early()
    return line.rstrip(b"\r\n")


def _exactly(stream: BinaryIO, length_bytes: int) -> bytes:
    data = stream.read(length_bytes)
    if len(data) < length_bytes:
        raise _ended_early()
    return data


def _ended_early() -> ReplyProblem:
    return ReplyProblem("the reply ended early")


def _no_http(found: bytes) -> ReplyProblem:
    return ReplyProblem(f"this is no HTTP reply ({safe(found[:80].decode('latin-1'), 80)})")


def _refusal(status: int, reason: str) -> str:
    if status in (301, 302, 303, 307, 308):
        return f"HTTP status {status}: redirects are not followed"
    return f"HTTP status {status} {safe(reason, 60)}".rstrip()
