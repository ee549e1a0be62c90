"""When peers are told of the parts that we get."""

from __future__ import annotations

import pytest

from orchestra.geometry import Geometry
from orchestra.news import GATHER_S, RARE_S, SHOWN_A_SECOND, TOLD_A_SECOND, News
from orchestra.peer import Peer
from orchestra.wire import Haves
from tests.fakes import bitfield, link_of, make_peer

GEOMETRY = Geometry(100, 1)


def peers_of(count: int) -> list[Peer]:
    """So many peers that have nothing, and want something of us."""
    peers = [make_peer(key, GEOMETRY, have=bitfield(100)) for key in range(count)]
    for peer in peers:
        peer.interested = True
    return peers


def heard(peer: Peer) -> list[int]:
    """The parts that the peer was told of since the last time."""
    return [index for said in link_of(peer).said() if isinstance(said, Haves) for index in said.indices]


def test_the_first_news_are_told_at_once_and_the_next_ones_together() -> None:
    news, peers = News(), peers_of(3)
    news.tell(peers, [5], 10.0)
    assert [heard(peer) for peer in peers] == [[5]] * 3
    news.tell(peers, [7], 10.0 + GATHER_S / 3)
    news.tell(peers, [8], 10.0 + GATHER_S / 2)
    assert [heard(peer) for peer in peers] == [[]] * 3
    assert news.due_s == 10.0 + GATHER_S
    news.tell_waiting(peers, news.due_s)
    assert [heard(peer) for peer in peers] == [[7, 8]] * 3
    assert news.due_s is None


@pytest.mark.parametrize("first", ["told at once", "told after a while"])
def test_who_has_many_peers_tells_them_less_often(first: str) -> None:
    news, peers = News(), peers_of(50)
    news.tell(peers, [1], 10.0)
    told_at_s = 10.0
    if first == "told after a while":
        news.tell(peers, [2], 10.0)
        assert news.due_s is not None
        told_at_s = news.due_s
        news.tell_waiting(peers, told_at_s)
    news.tell(peers, [3], told_at_s)
    assert news.due_s == told_at_s + len(peers) / TOLD_A_SECOND
    assert not heard(peers[0]).count(3)


def test_what_is_rare_does_not_wait_for_longer() -> None:
    news, peers = News(), peers_of(50)
    news.tell(peers, [1], 10.0)
    news.tell(peers, [2], 10.0 + GATHER_S / 2)
    news.tell(peers, [3], 10.0 + GATHER_S / 2, rare=True)
    assert news.due_s == 10.0 + RARE_S
    news.tell_waiting(peers, news.due_s)
    news.tell(peers, [4], 10.0 + 2 * RARE_S, rare=True)
    assert heard(peers[0]) == [1, 2, 3, 4]


def test_who_serves_us_and_wants_nothing_is_told_at_once_all_the_same() -> None:
    news, [source] = News(), peers_of(1)
    source.engaged, source.interested = True, False
    news.tell([source], [1], 10.0)
    news.tell([source], [2], 10.0)
    assert heard(source) == [1, 2]


def test_a_complete_peer_hears_once_a_second_of_some_of_what_we_got() -> None:
    news, source, other = News(), make_peer(1, GEOMETRY), make_peer(2, GEOMETRY)
    news.tell([source, other], list(range(90)), 10.0)
    assert heard(source) == []
    news.tell_the_rest([source, other], 10.5)
    assert heard(source) == heard(other) == list(range(90 - SHOWN_A_SECOND, 90))
    news.tell_the_rest([source], 11.5)
    assert heard(source) == []
