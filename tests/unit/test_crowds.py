"""Neighbourhoods, and who among the peers is of least use."""

from __future__ import annotations

import pytest

from orchestra.crowds import (
    MAX_PER_HOST,
    MAX_PER_NETWORK,
    SETTLED_S,
    USELESS_S,
    idle_s,
    is_crowded,
    least_useful_first,
    neighbourhood,
)
from orchestra.geometry import Geometry
from tests.fakes import make_peer

GEOMETRY = Geometry(8 * 16384, 16384)


@pytest.mark.parametrize(
    ("host", "other", "together"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("example.org", "example.org", True),
    ],
)
def test_who_shares_a_limit_with_whom(host: str, other: str, together: bool) -> None:
    assert (neighbourhood(host) == neighbourhood(other)) is together


def test_three_of_one_address_eight_of_one_network_and_this_machine_is_free() -> None:
    assert not is_crowded("10.0.0.1", ["10.0.0.1"] * (MAX_PER_HOST - 1))
    assert is_crowded("10.0.0.1", ["10.0.0.1"] * MAX_PER_HOST)
    network = [f"2001:db8::{number}" for number in range(MAX_PER_NETWORK)]
    assert not is_crowded("2001:db8::99", network[1:])
    assert is_crowded("2001:db8::99", network)
    assert not is_crowded("127.0.0.1", ["127.0.0.1"] * 100)


def test_idle_is_who_has_moved_nothing_for_a_while() -> None:
    peer = make_peer(1, GEOMETRY)
    peer.since_s, peer.block_at_s, peer.batch_sent_at_s = 10.0, 20.0, 30.0
    assert idle_s(peer, 100.0) == 70.0
    peer.asked[0, 0, 1] = None
    assert idle_s(peer, 100.0) == 0.0


def test_the_useless_come_before_the_idle_and_the_longest_idle_before_the_others() -> None:
    useless, idle, longer_idle, busy, new = peers = [
        make_peer(key, GEOMETRY, host=f"10.0.0.{key}") for key in range(5)
    ]
    for peer in (idle, longer_idle, busy, new):
        peer.interested = True
    busy.outstanding.add(1)
    now_s = SETTLED_S + 1
    useless.since_s, idle.since_s, new.since_s = now_s - USELESS_S, 1.0, now_s - 1
    assert least_useful_first(peers, now_s) == [useless, longer_idle, idle]
    useless.closing = True
    assert least_useful_first(peers, now_s) == [longer_idle, idle]
