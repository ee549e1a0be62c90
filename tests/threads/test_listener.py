"""The listener on real ports: when it listens, whom it passes on, and how it ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

import netutils
from orchestra import listener as listener_module
from orchestra.errors import ExitCode
from orchestra.listener import Listener
from orchestra.messages import Accepted, Listen, ListenFailed, Listening, Stop, ThreadEnded
from tests.fakes import PATIENCE_S, Reports


class Desk:
    """A listener and what it reports."""

    def __init__(self, port: int | None = 0) -> None:
        self.reports = Reports()
        self.listener = Listener(port, self.reports)
        self.listener.start()

    def end(self) -> None:
        self.listener.put(Stop())
        self.listener.join(PATIENCE_S)
        assert not self.listener.is_alive()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.end()


def test_it_takes_its_port_only_when_it_is_told_to(desk: Desk) -> None:
    assert desk.reports.nothing_more
    desk.listener.put(Listen())
    listening = desk.reports.next(Listening)
    assert listening.port > 0
    netutils.dial(("127.0.0.1", listening.port), PATIENCE_S).close()
    desk.reports.next(Accepted).sock.close()


def test_callers_are_passed_on_with_their_address(desk: Desk) -> None:
    desk.listener.put(Listen())
    port = desk.reports.next(Listening).port
    for _ in range(3):
        with netutils.dial(("127.0.0.1", port), PATIENCE_S) as caller:
            accepted = desk.reports.next(Accepted)
            assert accepted.address == netutils.address_of(caller.getsockname())
            accepted.sock.sendall(b"hello")
            assert caller.recv(5) == b"hello"
            accepted.sock.close()


def test_a_stop_wakes_it_and_frees_the_port(desk: Desk) -> None:
    desk.listener.put(Listen())
    port = desk.reports.next(Listening).port
    desk.listener.put(Stop())
    assert desk.reports.next(ThreadEnded) == ThreadEnded("listener")
    for listener in netutils.listen(None, port):
        listener.close()


def test_a_stop_before_it_ever_listened_ends_it(desk: Desk) -> None:
    desk.listener.put(Stop())
    assert desk.reports.next(ThreadEnded) == ThreadEnded("listener")


def test_a_port_that_is_taken_is_a_network_error_with_advice() -> None:
    taken = netutils.listen(None, 0)
    port = taken[0].getsockname()[1]
    desk = Desk(port)
    desk.listener.put(Listen())
    error = desk.reports.next(ListenFailed).error
    assert str(error).startswith(f"cannot listen on port {port}: ")
    assert str(error).endswith("choose another one with --port")
    assert error.exit_code is ExitCode.NETWORK
    assert desk.reports.next(ThreadEnded) == ThreadEnded("listener")
    desk.end()
    for listener in taken:
        listener.close()


def test_without_a_port_of_its_own_it_takes_the_first_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = netutils.listen(None, 0)
    port = taken[0].getsockname()[1]
    monkeypatch.setattr(listener_module, "FIRST_PORT", port)
    desk = Desk(None)
    desk.listener.put(Listen())
    assert port < desk.reports.next(Listening).port < port + listener_module.PORTS_TRIED
    desk.end()
    for listener in taken:
        listener.close()


@pytest.mark.fault("X1")
def test_a_port_that_cannot_be_named_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nameless:
        closed = False

        def getsockname(self) -> None:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

        def close(self) -> None:
            self.closed = True

    sock = Nameless()
    monkeypatch.setattr(netutils, "listen", lambda *_: [sock])
    desk = Desk(port=7000)
    desk.listener.put(Listen())
    failed = desk.reports.next(ListenFailed)
    assert str(failed.error).startswith("cannot listen on port 7000: No buffer space")
    desk.end()
    assert sock.closed


@pytest.mark.fault("D11")
def test_out_of_descriptors_it_says_so_waits_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener_module, "STARVED_S", 0.001)
    real, tries = netutils.accept, list[int]()

    def starved(*arguments: object) -> object:
        tries.append(1)
        if len(tries) < 4:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(netutils, "accept", starved)
    desk = Desk()
    desk.listener.put(Listen())
    port = desk.reports.next(Listening).port
    with netutils.dial(("127.0.0.1", port), PATIENCE_S):
        desk.reports.skip_to(Accepted).sock.close()
    assert len(tries) >= 4
    assert len(caplog.messages) == 1, "one line for each want, not for each try"
    desk.end()


def test_a_stop_ends_it_also_while_it_is_starved(monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*_: object) -> object:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(listener_module, "STARVED_S", 1000.0)
    monkeypatch.setattr(netutils, "accept", starved)
    desk = Desk()
    desk.listener.put(Listen())
    desk.reports.next(Listening)
    desk.end()
    assert desk.reports.skip_to(ThreadEnded) == ThreadEnded("listener")
