"""What is asked of the system about a connection's data."""

from __future__ import annotations

import socket

import pytest

from orchestra.socketflow import for_turns
from tests.fakes import loopback_pair

CONGESTION = getattr(socket, "TCP_CONGESTION", 13)


class Socket:
    """One whose system chose `algorithm`, and may not let us choose."""

    def __init__(self, algorithm: bytes, *, fails: bool = False) -> None:
        self.algorithm = algorithm
        self._fails = fails

    def getsockopt(self, level: int, option: int, length: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, CONGESTION)
        return self.algorithm.ljust(length, b"\0")

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.IPPROTO_TCP, CONGESTION)
        if self._fails:
            raise OSError(2, "No such file or directory")
        self.algorithm = value


@pytest.mark.parametrize(
    ("chosen", "fails", "then"),
    [
        (b"bbr", False, b"cubic"),
        (b"bbr2", False, b"cubic"),
        (b"cubic", False, b"cubic"),
        (b"vegas", False, b"vegas"),
        (b"bbr", True, b"bbr"),
    ],
)
def test_where_turns_are_taken_bbr_makes_room(
    monkeypatch: pytest.MonkeyPatch, chosen: bytes, fails: bool, then: bytes
) -> None:
    monkeypatch.setattr(socket, "TCP_CONGESTION", CONGESTION, raising=False)
    sock = Socket(chosen, fails=fails)
    for_turns(sock)  # type: ignore[arg-type]
    assert sock.algorithm == then


def test_where_the_system_has_no_such_choice_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_CONGESTION", raising=False)
    sock = Socket(b"bbr")
    for_turns(sock)  # type: ignore[arg-type]
    assert sock.algorithm == b"bbr"


def test_a_real_socket_can_be_asked() -> None:
    for sock in loopback_pair():
        for_turns(sock)
        sock.close()
