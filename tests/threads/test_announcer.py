"""The announcer's thread: orders in, reports out, and an end that no conductor can delay."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import netutils
from netutils import Address, format_address
from orchestra import announcer as announcer_module
from orchestra.announce import parse_announce
from orchestra.announcer import Announcer
from orchestra.messages import Announce, Announced, AnnounceFailed, AnnouncerEnded, Stop
from orchestra.worker import ThreadCrashed
from tests.fakeconductor import PATIENCE_S, FakeConductor, http_reply, replying

INFO_HASH = bytes(range(20))
PEER_ID = b"-OR0100-abcdefghijkl"
GOOD = http_reply(
    b"d8:completei1e10:incompletei2e8:intervali120e12:min intervali10e5:peers6:\x0a\x00\x00\x01\x1a\xe1e"
)


def order(event: str) -> Announce:
    return Announce(event=event, port=6881, uploaded_bytes=1, downloaded_bytes=2, left_bytes=3, wanted=50)


class Reports:
    """What the announcer said, in order."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[object] = queue.SimpleQueue()

    def __call__(self, message: object) -> None:
        self._said.put(message)

    def next(self) -> Any:
        message = self._said.get(timeout=PATIENCE_S)
        assert not isinstance(message, ThreadCrashed), message.error
        return message


@contextmanager
def running(*conductors: Address) -> Iterator[tuple[Announcer, Reports]]:
    reports = Reports()
    announcer = Announcer(conductors, INFO_HASH, peer_id=PEER_ID, report=reports)
    announcer.start()
    try:
        yield announcer, reports
    finally:
        announcer.put(Stop())
        announcer.join(PATIENCE_S)
        assert not announcer.is_alive()


def nobody() -> Address:
    """An address where nobody listens."""
    [listener] = netutils.listen("127.0.0.1", 0)
    address = netutils.address_of(listener.getsockname())
    listener.close()
    return address


def events_heard(conductor: FakeConductor) -> list[str]:
    heard = []
    while not conductor.requests.empty():
        head = conductor.requests.get()
        heard.append(parse_announce(head.split(b" ")[1].partition(b"?")[2]).event)
    return heard


def test_an_announce_is_answered_with_what_the_conductor_said() -> None:
    with FakeConductor(replying(GOOD)) as conductor, running(conductor.address) as (announcer, reports):
        announcer.put(order("started"))
        assert reports.next() == Announced(
            conductor=format_address(conductor.address),
            event="started",
            members=(("10.0.0.1", 6881),),
            interval_s=120.0,
            min_interval_s=10.0,
            seeders=1,
            leechers=2,
        )
        query = parse_announce(conductor.requests.get().split(b" ")[1].partition(b"?")[2])
    assert (query.info_hash, query.peer_id, query.port) == (INFO_HASH, PEER_ID, 6881)
    assert (query.uploaded_bytes, query.downloaded_bytes, query.left_bytes, query.wanted) == (1, 2, 3, 50)


def test_the_next_conductor_is_tried_and_the_one_that_works_comes_first_from_then_on() -> None:
    with (
        FakeConductor(replying(http_reply(b"", "500 No"))) as broken,
        FakeConductor(replying(GOOD)) as working,
        running(broken.address, working.address) as (announcer, reports),
    ):
        for event in ("started", "", "completed"):
            announcer.put(order(event))
            said = reports.next()
            assert (said.event, said.conductor) == (event, format_address(working.address))
        assert events_heard(broken) == ["started"]
        assert events_heard(working) == ["started", "", "completed"]


def test_when_none_answers_the_reason_of_each_is_reported() -> None:
    gone = nobody()
    refusing = replying(http_reply(b"d14:failure reason10:go \x1b away!e"))
    with FakeConductor(refusing) as conductor, running(gone, conductor.address) as (announcer, reports):
        announcer.put(order("started"))
        said = reports.next()
    assert isinstance(said, AnnounceFailed)
    assert said.event == "started"
    assert said.reason == (
        f"{format_address(gone)}: Connection refused; "
        f"{format_address(conductor.address)}: refused: go \\x1b away!"
    )


def test_stop_ends_it_although_a_conductor_hangs() -> None:
    with (
        FakeConductor(None) as conductor,
        running(conductor.address, nobody()) as (announcer, reports),
    ):
        announcer.put(order("started"))
        conductor.requests.get(timeout=PATIENCE_S)  # it is under way
        announcer.put(Stop())
        assert reports.next() == AnnounceFailed("started", f"{format_address(conductor.address)}: given up")
        assert reports.next() == AnnouncerEnded()


def test_stopped_does_not_wait_for_the_announce_under_way() -> None:
    with (
        FakeConductor(replying(GOOD), None, replying(GOOD)) as conductor,
        running(conductor.address) as (announcer, reports),
    ):
        announcer.put(order("started"))
        assert isinstance(reports.next(), Announced)
        conductor.requests.get(timeout=PATIENCE_S)
        announcer.put(order(""))
        conductor.requests.get(timeout=PATIENCE_S)  # the second one hangs
        announcer.put(order("stopped"))
        announcer.put(Stop())
        assert isinstance(reports.next(), AnnounceFailed)
        stopped = reports.next()
        assert (type(stopped), stopped.event) == (Announced, "stopped")
        assert reports.next() == AnnouncerEnded()
        assert events_heard(conductor) == ["stopped"]


def test_a_conductor_that_may_have_heard_us_is_told_goodbye() -> None:
    with (
        FakeConductor(None, replying(GOOD)) as conductor,
        running(conductor.address) as (announcer, reports),
    ):
        announcer.put(order("started"))
        conductor.requests.get(timeout=PATIENCE_S)  # its answer is not there yet
        announcer.put(order("stopped"))
        announcer.put(Stop())
        assert isinstance(reports.next(), AnnounceFailed)
        stopped = reports.next()
        assert (type(stopped), stopped.event) == (Announced, "stopped")
        assert reports.next() == AnnouncerEnded()
        assert events_heard(conductor) == ["stopped"]


def test_an_announce_still_in_the_queue_is_skipped_once_the_end_is_near() -> None:
    with (
        FakeConductor(None) as conductor,
        running(conductor.address) as (announcer, reports),
    ):
        announcer.put(order("started"))
        conductor.requests.get(timeout=PATIENCE_S)
        announcer.put(order(""))
        announcer.put(Stop())
        assert [reports.next().event for _ in range(2)] == ["started", ""]
        assert reports.next() == AnnouncerEnded()
        assert events_heard(conductor) == []


def test_a_conductor_that_never_answered_is_not_told_goodbye() -> None:
    with (
        FakeConductor(replying(http_reply(b"", "500 No"))) as conductor,
        running(conductor.address) as (announcer, reports),
    ):
        announcer.put(order("started"))
        assert isinstance(reports.next(), AnnounceFailed)
        announcer.put(order("stopped"))
        assert reports.next() == AnnounceFailed("stopped", "no conductor knows us")
        assert events_heard(conductor) == ["started"]


def test_after_a_goodbye_it_can_be_started_again() -> None:
    with FakeConductor(replying(GOOD)) as conductor, running(conductor.address) as (announcer, reports):
        for event in ("started", "stopped", "started"):
            announcer.put(order(event))
            said = reports.next()
            assert (type(said), said.event) == (Announced, event)


def test_every_conductor_that_knows_us_is_told_goodbye() -> None:
    down = replying(http_reply(b"", "503 Later"))
    with (
        FakeConductor(replying(GOOD), down, replying(GOOD)) as first,
        FakeConductor(replying(GOOD)) as second,
        running(first.address, second.address) as (announcer, reports),
    ):
        for event in ("started", "", "stopped"):
            announcer.put(order(event))
            assert isinstance(reports.next(), Announced)
        assert events_heard(first) == ["started", "", "stopped"]
        assert events_heard(second) == ["", "stopped"]


def test_goodbye_to_a_conductor_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer_module, "STOPPED_TIMEOUT_S", 0.05)
    with (
        FakeConductor(replying(GOOD), None) as conductor,
        running(conductor.address) as (announcer, reports),
    ):
        announcer.put(order("started"))
        assert isinstance(reports.next(), Announced)
        announcer.put(order("stopped"))
        announcer.put(Stop())
        assert reports.next() == AnnounceFailed("stopped", f"{format_address(conductor.address)}: timed out")
        assert reports.next() == AnnouncerEnded()


def test_goodbye_is_bounded_below_a_second() -> None:
    assert announcer_module.STOPPED_TIMEOUT_S <= 0.7


@pytest.mark.fault("T3")
def test_a_warning_of_the_conductor_is_logged_once_and_escaped(caplog: pytest.LogCaptureFixture) -> None:
    body = b"d8:intervali120e5:peers0:15:warning message6:ho\x1b[0me"
    with (
        caplog.at_level(logging.WARNING),
        FakeConductor(replying(http_reply(body))) as conductor,
        running(conductor.address) as (announcer, reports),
    ):
        for _ in range(2):
            announcer.put(order(""))
            assert isinstance(reports.next(), Announced)
    assert [record.getMessage() for record in caplog.records] == [
        f"conductor {format_address(conductor.address)} says: ho\\x1b[0m"
    ]


def test_main_may_end_without_it() -> None:
    assert Announcer([nobody()], INFO_HASH, peer_id=PEER_ID, report=print).daemon
