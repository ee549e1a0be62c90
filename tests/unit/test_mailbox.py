"""The mailbox: in order, never more than its capacity, waited for on both sides."""

from __future__ import annotations

import queue
import threading

import pytest

from orchestra.mailbox import Mailbox
from tests.fakes import PATIENCE_S


def test_messages_come_out_in_the_order_in_which_they_went_in() -> None:
    box: Mailbox[int] = Mailbox(3)
    for number in range(3):
        box.put(number)
    assert [box.get(), box.get(0), box.get(PATIENCE_S)] == [0, 1, 2]


def test_an_empty_one_says_so_at_once_when_there_is_no_time_to_wait() -> None:
    box: Mailbox[int] = Mailbox(1)
    for timeout_s in (0, -1.5, 0.001):
        with pytest.raises(queue.Empty):
            box.get(timeout_s)


def test_a_full_one_takes_nothing_until_something_is_taken_out() -> None:
    box: Mailbox[int] = Mailbox(2)
    box.put(1)
    box.put(2)
    for timeout_s in (0, 0.001):
        with pytest.raises(queue.Full):
            box.put(3, timeout_s)
    assert box.get() == 1
    box.put(3, 0)
    assert [box.get(0), box.get(0)] == [2, 3]
    with pytest.raises(queue.Empty):
        box.get(0)


def test_whoever_waits_for_room_goes_on_when_there_is_some() -> None:
    box: Mailbox[str] = Mailbox(1)
    box.put("first")
    putter = threading.Thread(target=box.put, args=("second",))
    putter.start()
    assert [box.get(PATIENCE_S), box.get(PATIENCE_S)] == ["first", "second"]
    putter.join(PATIENCE_S)
    assert not putter.is_alive()


def test_whoever_waits_for_a_message_gets_it() -> None:
    box: Mailbox[str] = Mailbox(1)
    got: list[str] = []
    getter = threading.Thread(target=lambda: got.append(box.get()))
    getter.start()
    box.put("here")
    getter.join(PATIENCE_S)
    assert got == ["here"]
