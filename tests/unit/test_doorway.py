"""Who comes in: room, crowds, ourselves, the banned, and the one connection that two members keep."""

from __future__ import annotations

import errno
import random

import pytest

from netutils import Address
from orchestra.crowds import MAX_PER_HOST, MAX_PER_NETWORK, SETTLED_S, USELESS_S
from orchestra.doorway import (
    DIALLED_UP_TO,
    DIALS_S,
    HURRY_S,
    MAX_DEPARTED,
    MAX_HALF_OPEN,
    MAX_PEERS,
    NEARLY_FULL,
    REST_S,
    SPARE_PEERS,
    USEFUL_S,
    Doorway,
)
from orchestra.messages import Accepted, LinkUp
from orchestra.peer import Peer
from orchestra.priority import priority
from orchestra.wire import Handshake
from tests.fakes import INFO_HASH, OUR_ID, THEIR_ID, FakeLink, FakeLinks

A, B = ("10.0.0.1", 6881), ("10.0.0.2", 6881)
SMALLER_ID, GREATER_ID = bytes(20), b"\xff" * 20


class Door:
    """A doorway, and the swarm's book of who is in."""

    def __init__(self) -> None:
        self.links = FakeLinks()
        self.peers: dict[int, Peer] = {}
        self.doorway = Doorway(8, OUR_ID, self.links, self.peers, random.Random(1))
        self.now_s = 100.0

    def call(self, address: Address) -> int:
        """Somebody calls from there; the key of the connection."""
        before = set(self.links.made)
        self.doorway.accepted(Accepted(object(), address), self.now_s)
        [key] = set(self.links.made) - before
        return key

    def dial(self, *addresses: Address) -> list[int]:
        """We call them; the keys of the connections."""
        before = set(self.links.made)
        self.doorway.book.add(addresses, self.now_s)
        self.doorway.dial_more(self.now_s)
        return sorted(set(self.links.made) - before)

    def shake(self, key: int, peer_id: bytes = THEIR_ID) -> Peer:
        """The handshake succeeds."""
        peer = self.doorway.link_up(LinkUp(key, Handshake(1 << 20, INFO_HASH, peer_id)), self.now_s)
        self.peers[key] = peer
        return peer

    def leave(self, peer: Peer, *, of_no_use: bool = False) -> None:
        del self.peers[peer.key]
        self.doorway.peer_left(peer, self.now_s, of_no_use=of_no_use)


@pytest.fixture
def door() -> Door:
    return Door()


def test_known_addresses_are_dialled_as_far_as_there_is_room(door: Door) -> None:
    addresses = [("10.0.1.1", port) for port in range(1, 41)]
    keys = door.dial(*addresses)
    assert len(keys) == MAX_HALF_OPEN
    assert len(set(door.links.dialled.values())) == MAX_HALF_OPEN
    for number, key in enumerate(keys):
        door.shake(key, b"%020d" % number)
    door.now_s += MAX_HALF_OPEN / DIALS_S + 0.1
    assert len(door.dial()) == MAX_HALF_OPEN
    assert door.doorway.connections == 2 * MAX_HALF_OPEN


@pytest.mark.fault("T3")
def test_after_the_first_few_no_more_than_ten_a_second_are_dialled(door: Door) -> None:
    door.doorway.book.add(tuple(("10.0.1.1", port) for port in range(1, 2000)), door.now_s)
    dialled = []
    for _ in range(61):
        keys = door.dial()
        dialled.append(len(keys))
        for key in keys:  # nobody answers there
            assert door.doorway.left(key, door.now_s)
        door.now_s += 1.0
    assert dialled == [MAX_HALF_OPEN] + [DIALS_S] * 60
    assert len(door.dial()) == DIALS_S
    assert door.dial() == [], "however often it is asked"
    door.now_s += 0.25
    assert len(door.dial()) == 2


def test_there_are_never_more_connections_than_allowed(door: Door) -> None:
    for number in range(MAX_PEERS):
        door.shake(door.call((f"10.0.{number}.1", 5000)), b"%020d" % number)
    assert door.dial(A) == []
    for number in range(SPARE_PEERS):
        assert door.shake(door.call((f"10.1.{number}.1", 5000)), b"late%016d" % number).closing
    refused = object()
    door.doorway.accepted(Accepted(refused, B), door.now_s)
    assert door.links.refused == [refused]
    door.leave(door.peers[next(iter(door.peers))])
    door.call(B)


def test_one_host_may_call_three_times_but_this_machine_as_often_as_it_likes(door: Door) -> None:
    for port in range(MAX_PER_HOST):
        door.call(("10.0.0.1", port))
    door.doorway.accepted(Accepted(object(), ("10.0.0.1", 99)), door.now_s)
    assert len(door.links.refused) == 1
    for port in range(10):
        door.call(("127.0.0.1", port))
        door.call(("::1", port))


def test_a_handshake_makes_a_peer_that_knows_where_it_came_from(door: Door) -> None:
    [dialled] = door.dial(A)
    peer = door.shake(dialled)
    assert (peer.key, peer.host, peer.dialled, peer.peer_id) == (dialled, "10.0.0.1", A, THEIR_ID)
    assert peer.speaks_extensions
    called = door.shake(door.call(B), b"another-peer-id-1234")
    assert (called.host, called.dialled) == ("10.0.0.2", None)
    assert called.choked
    assert called.choking_us
    assert not called.closing


def test_we_do_not_talk_to_ourselves_and_do_not_dial_ourselves_again(door: Door) -> None:
    [out] = door.dial(A)
    calling, called = door.shake(out, OUR_ID), door.shake(door.call(B), OUR_ID)
    assert calling.closing
    assert called.closing
    for peer in (calling, called):
        door.leave(peer)
    door.now_s += 10_000
    assert door.dial(A) == []


def test_a_banned_peer_does_not_come_in_again(door: Door) -> None:
    peer = door.shake(door.call(A))
    door.doorway.ban(peer, "part 3 was wrong")
    assert peer.closing
    door.leave(peer)
    door.doorway.accepted(Accepted(object(), ("10.0.0.1", 7000)), door.now_s)
    assert len(door.links.refused) == 1
    assert door.dial(("10.0.0.1", 6881)) == []
    assert door.shake(door.call(B), THEIR_ID).closing


def test_who_left_before_what_it_sent_turned_out_wrong_does_not_come_in_again(door: Door) -> None:
    peer = door.shake(door.call(A))
    door.leave(peer)
    door.doorway.ban_departed(peer.key)
    door.doorway.accepted(Accepted(object(), ("10.0.0.1", 7000)), door.now_s)
    assert len(door.links.refused) == 1


def test_of_those_who_left_only_the_last_are_remembered(door: Door) -> None:
    first = door.shake(door.call(A))
    door.leave(first)
    for _ in range(MAX_DEPARTED):
        door.leave(door.shake(door.call(A)))
    door.doorway.ban_departed(first.key)
    assert not door.doorway.book.is_banned("10.0.0.1", b"")


def test_without_a_thread_to_spare_callers_are_refused_and_calls_wait(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> FakeLink:
        raise OSError(errno.EAGAIN, "no thread to spare")

    with monkeypatch.context() as short:
        short.setattr(door.links, "dial", fail)
        short.setattr(door.links, "adopt", fail)
        assert door.dial(A) == []
        door.doorway.accepted(Accepted(object(), B), door.now_s)
    assert len(door.links.refused) == 1
    assert door.doorway.connections == 0
    door.now_s += 100
    assert len(door.dial()) == 1


@pytest.mark.parametrize("we_dial_first", [True, False])
@pytest.mark.parametrize(("their_id", "ours_stays"), [(SMALLER_ID, True), (GREATER_ID, False)])
def test_when_both_dial_the_connection_of_the_greater_peer_id_stays(
    door: Door, their_id: bytes, ours_stays: bool, we_dial_first: bool
) -> None:
    [out] = door.dial(A)
    calls = [out, door.call(A)]
    for key in calls if we_dial_first else reversed(calls):
        door.shake(key, their_id)
    dialled, called = (door.peers[key] for key in calls)
    assert (dialled.closing, called.closing) == (not ours_stays, ours_stays)


def test_the_same_peer_calling_twice_keeps_its_first_connection(door: Door) -> None:
    first, second = door.shake(door.call(A)), door.shake(door.call(A))
    assert not first.closing
    assert second.closing


def test_a_peer_that_is_just_leaving_does_not_stand_in_the_way_of_its_return(door: Door) -> None:
    first = door.shake(door.call(A))
    first.close("gone")
    assert not door.shake(door.call(A)).closing


def test_an_address_that_leads_to_a_peer_that_is_here_is_left_alone_for_a_while(door: Door) -> None:
    door.shake(door.call(A))
    [out] = door.dial(A)
    twice = door.shake(out)
    assert twice.closing
    door.leave(twice)
    door.now_s += REST_S - 1
    assert door.dial() == []
    door.now_s += 2
    assert door.dial() != []


def test_a_connection_that_ends_before_its_handshake_counts_as_a_failure(door: Door) -> None:
    waits = []
    for _ in range(3):
        [key] = door.dial(A)
        assert door.doorway.left(key, door.now_s)
        due_s = door.doorway.book.next_try_s()
        assert due_s is not None
        waits.append(due_s - door.now_s)
        door.now_s = due_s
    assert waits[0] < waits[1] < waits[2]
    assert not door.doorway.left(12345, door.now_s)
    assert door.doorway.connections == 0


@pytest.mark.parametrize("useful", ["data", "long", "neither"])
def test_only_a_connection_that_was_worth_it_is_dialled_again_soon(door: Door, useful: str) -> None:
    for _ in range(4):
        [key] = door.dial(A)
        peer = door.shake(key)
        if useful == "data":
            peer.down.add(1, door.now_s)
        door.now_s += USEFUL_S + 1 if useful == "long" else 1
        door.leave(peer)
        due_s = door.doorway.book.next_try_s()
        assert due_s is not None
        wait_s = due_s - door.now_s
        door.now_s = due_s
    assert wait_s > 10 if useful == "neither" else wait_s < 5


def test_where_neither_could_gain_the_address_rests(door: Door) -> None:
    [key] = door.dial(A)
    peer = door.shake(key)
    peer.up.add(1, door.now_s)
    door.leave(peer, of_no_use=True)
    due_s = door.doorway.book.next_try_s()
    assert due_s is not None
    assert due_s >= door.now_s + REST_S


def test_where_neither_could_gain_who_called_us_is_not_called_either(door: Door) -> None:
    peer = door.shake(door.call(("10.3.0.1", 40_000)))
    peer.listen_port = A[1]
    contact = peer.contact
    assert contact is not None
    door.doorway.book.add((contact,), door.now_s)
    door.leave(peer, of_no_use=True)
    due_s = door.doorway.book.next_try_s()
    assert due_s is not None
    assert due_s >= door.now_s + REST_S


def test_all_half_open_connections_can_be_ended(door: Door) -> None:
    keys = [*door.dial(A), door.call(B)]
    door.doorway.close_half_open("we stop")
    assert all(door.links.made[key].closed == ["we stop"] for key in keys)


def test_a_peer_is_closed_only_once(door: Door) -> None:
    peer = door.shake(door.call(A))
    peer.close("first")
    peer.close("second")
    assert isinstance(peer.link, FakeLink)
    assert peer.link.closed == ["first"]


# Whom to dial, and who gives way (BEP 40)

OUR_HOST = "123.213.32.10"


def crowd(door: Door, count: int, *, witnesses: int = 2) -> list[Peer]:
    """So many callers, of which the first ones say where they see us."""
    peers = []
    for number in range(count):
        peer = door.shake(door.call((f"10.{number}.1.1", 5000)), b"%020d" % number)
        peer.our_host = OUR_HOST if number < witnesses else ""
        peers.append(peer)
    return peers


def wanting_crowd(door: Door, count: int, *, witnesses: int = 2) -> list[Peer]:
    """The same; all of them want something of us."""
    peers = crowd(door, count, witnesses=witnesses)
    for peer in peers:
        peer.interested = True
    return peers


def rank(host: str) -> int:
    """BEP 40's priority of a host for us."""
    found = priority((OUR_HOST, 0), (host, 0))
    assert found is not None
    return found


def test_those_of_the_best_priority_are_dialled_first(door: Door) -> None:
    crowd(door, 2)
    addresses = [(f"{n + 20}.76.1.1", 6881) for n in range(MAX_HALF_OPEN * 3)]
    door.dial(*addresses)
    best = sorted(addresses, key=lambda address: rank(address[0]))[-MAX_HALF_OPEN:]
    assert set(door.links.dialled.values()) == set(best)


def test_without_two_hosts_that_say_where_they_see_us_the_order_is_random(door: Door) -> None:
    crowd(door, 2, witnesses=1)
    addresses = [(f"{n + 20}.76.1.1", 6881) for n in range(MAX_HALF_OPEN * 3)]
    door.dial(*addresses)
    best = sorted(addresses, key=lambda address: rank(address[0]))[-MAX_HALF_OPEN:]
    assert set(door.links.dialled.values()) != set(best)


def test_who_has_called_us_is_not_dialled(door: Door) -> None:
    caller = door.shake(door.call(("10.0.0.1", 40_000)))
    caller.listen_port = A[1]
    assert door.dial(A) == []
    door.leave(caller)
    assert len(door.dial()) == 1


def test_room_is_left_for_callers_once_somebody_is_of_use(door: Door) -> None:
    peers = crowd(door, DIALLED_UP_TO)
    assert len(door.dial(A)) == 1
    peers[0].interesting = True
    assert door.dial(B) == []
    peers[0].interesting, peers[0].interested = False, True
    assert door.dial() == []


def newcomer(door: Door, *, better_than: str, worse: bool = False) -> Peer:
    """A caller whose priority is better, or worse, than that of a host."""
    hosts = (f"98.{n}.1.1" for n in range(256))
    host = next(host for host in hosts if (rank(host) < rank(better_than)) is worse)
    return door.shake(door.call((host, 5000)), b"newcomer-newcomer-20")


def worst_of(peers: list[Peer]) -> Peer:
    return min(peers, key=lambda peer: rank(peer.host))


def test_when_all_is_full_the_idle_peer_of_the_worst_priority_gives_way_to_a_better_one(door: Door) -> None:
    peers = wanting_crowd(door, MAX_PEERS)
    door.now_s += SETTLED_S
    worst = worst_of(peers)
    new = newcomer(door, better_than=worst.host)
    assert [peer for peer in (*peers, new) if peer.closing] == [worst]


def test_a_newcomer_of_no_better_priority_goes_again(door: Door) -> None:
    peers = wanting_crowd(door, MAX_PEERS)
    door.now_s += SETTLED_S
    new = newcomer(door, better_than=worst_of(peers).host, worse=True)
    assert [peer for peer in (*peers, new) if peer.closing] == [new]


@pytest.mark.parametrize("busy", ["gives", "takes", "owes", "waits", "new"])
def test_a_peer_that_is_busy_or_new_does_not_give_way(door: Door, busy: str) -> None:
    peers = wanting_crowd(door, MAX_PEERS)
    door.now_s += SETTLED_S
    worst = worst_of(peers)
    match busy:
        case "gives":
            worst.down.add(1, door.now_s)
        case "takes":
            worst.up.add(1, door.now_s)
        case "owes":
            worst.outstanding.add(1)
        case "waits":
            worst.asked[0, 0, 1] = None
        case "new":
            worst.since_s = door.now_s
    next_worst = worst_of([peer for peer in peers if peer is not worst])
    new = newcomer(door, better_than=next_worst.host)
    assert [peer for peer in (*peers, new) if peer.closing] == [next_worst]


def test_only_a_few_callers_are_let_in_to_see_whether_somebody_gives_way(door: Door) -> None:
    crowd(door, MAX_PEERS)
    for number in range(SPARE_PEERS + 3):
        door.doorway.accepted(Accepted(object(), (f"98.{number}.1.1", 5000)), door.now_s)
    assert len(door.links.refused) == 3


# Who holds room without use


@pytest.mark.fault("P7")
def test_one_ipv6_network_may_have_eight_connections(door: Door) -> None:
    for number in range(MAX_PER_NETWORK):
        door.call((f"2001:db8::{number:x}:1", 5000))
    door.doorway.accepted(Accepted(object(), ("2001:db8::ffff:1", 5000)), door.now_s)
    assert len(door.links.refused) == 1
    door.call(("2001:db8:0:1::1", 5000))


@pytest.mark.fault("P9")
def test_of_too_many_callers_before_their_handshake_the_first_of_the_largest_crowd_goes(door: Door) -> None:
    honest = door.call(("10.0.0.1", 5000))
    crowd_of = [door.call((f"2001:db8::{number:x}:1", 5000)) for number in range(MAX_PER_NETWORK)]
    others = [door.call((f"10.2.{number}.1", 5000)) for number in range(MAX_HALF_OPEN - 1 - MAX_PER_NETWORK)]
    door.now_s += HURRY_S
    assert all(link.closed == [] for link in door.links.made.values())
    door.call(("10.3.0.1", 5000))
    assert door.links.made[crowd_of[0]].closed == ["too many before their handshake"]
    door.call(("10.4.0.1", 5000))
    assert door.links.made[crowd_of[1]].closed == ["too many before their handshake"]
    assert not any(door.links.made[key].closed for key in (honest, *others, *crowd_of[2:]))
    assert not door.shake(honest).closing


@pytest.mark.fault("P9")
def test_many_who_call_at_once_and_are_quick_are_all_let_in(door: Door) -> None:
    keys = [door.call((f"10.2.{number}.1", 5000)) for number in range(MAX_PEERS)]
    assert not any(door.shake(key, b"%020d" % key).closing for key in keys)


@pytest.mark.fault("P9")
def test_callers_before_their_handshake_do_not_keep_us_from_calling(door: Door) -> None:
    for number in range(MAX_HALF_OPEN):
        door.call((f"10.2.{number}.1", 5000))
    assert len(door.dial(A, B)) == 2


@pytest.mark.fault("P8")
def test_who_is_of_no_use_gives_way_to_anybody_after_ten_seconds(door: Door) -> None:
    peers = wanting_crowd(door, MAX_PEERS, witnesses=0)
    peers[7].interested = False
    door.now_s += USELESS_S
    assert not door.shake(door.call(("98.1.1.1", 5000)), b"newcomer-newcomer-20").closing
    assert [peer for peer in peers if peer.closing] == [peers[7]]


@pytest.mark.fault("P8")
def test_of_useless_peers_those_of_the_most_crowded_network_go_first(door: Door) -> None:
    neighbours = [
        door.shake(door.call((f"2001:db8::{number:x}:1", 5000)), b"neighbour%011d" % number)
        for number in range(3)
    ]
    crowd(door, MAX_PEERS - 3, witnesses=0)
    door.now_s += USELESS_S
    door.shake(door.call(("98.1.1.1", 5000)), b"newcomer-newcomer-20")
    assert [peer.closing for peer in neighbours] == [True, False, False]


@pytest.mark.fault("P8")
def test_nearly_full_the_useless_leave_some_room_after_a_minute(door: Door) -> None:
    peers = crowd(door, MAX_PEERS, witnesses=0)
    for peer in peers[: MAX_PEERS // 2]:
        peer.interested = True
    door.now_s += SETTLED_S - 1
    door.doorway.tick(door.now_s)
    assert not any(peer.closing for peer in peers)
    door.now_s += 1
    door.doorway.tick(door.now_s)
    assert sum(not peer.closing for peer in peers) == int(NEARLY_FULL * MAX_PEERS)
    assert not any(peer.closing for peer in peers[: MAX_PEERS // 2])


def test_with_room_enough_nobody_has_to_go(door: Door) -> None:
    peers = crowd(door, MAX_PEERS // 2, witnesses=0)
    door.now_s += 1000
    door.doorway.tick(door.now_s)
    assert not any(peer.closing for peer in peers)


@pytest.mark.fault("D11")
def test_without_a_descriptor_one_goes_at_a_time_and_nobody_who_is_busy(door: Door) -> None:
    busy, idle = wanting_crowd(door, 2)
    caller = door.call(("10.5.0.1", 5000))
    busy.outstanding.add(1)
    door.doorway.starved(door.now_s)
    assert door.links.made[caller].closed == ["no descriptor to spare"]
    door.doorway.starved(door.now_s)
    assert not idle.closing, "it has just come"
    door.now_s += SETTLED_S
    door.doorway.starved(door.now_s)
    assert (busy.closing, idle.closing) == (False, True)
    door.doorway.starved(door.now_s)
    assert not busy.closing


@pytest.mark.fault("D11")
def test_with_few_descriptors_there_are_few_connections() -> None:
    door = Door()
    door.doorway = Doorway(8, OUR_ID, door.links, door.peers, random.Random(1), max_peers=5)
    assert len(door.dial(*((f"10.0.{number}.1", 6881) for number in range(20)))) == 5
