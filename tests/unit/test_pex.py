"""Peer exchange (BEP 11): exact bytes, who is told of whom and when, and how little a liar achieves."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netutils import Address
from orchestra.addressbook import MAX_FROM_ONE, MAX_HEARSAY, AddressBook
from orchestra.errors import RemoteProtocolError
from orchestra.geometry import Geometry
from orchestra.peer import Peer
from orchestra.pex import (
    FIRST_S,
    INTERVAL_S,
    LEAST_INTERVAL_S,
    MAX_ABUSES,
    MAX_CONTACTS,
    MOST_HEARD,
    REACHABLE,
    SEED,
    Contacts,
    Exchange,
    decode_contacts,
    encode_contacts,
)
from orchestra.wire import Extended
from tests.fakes import bitfield, full_bitfield, link_of, make_peer

GEOMETRY = Geometry(4 * 16384, 16384)
THEIR_PEX_ID = 3
A, B, C = ("10.0.0.1", 6881), ("10.0.0.2", 6882), ("10.0.0.3", 6883)
V6 = ("2001:db8::1", 6881)


class Post:
    """An exchange, and peers that the test makes and asks what they were told."""

    def __init__(self) -> None:
        self.book = AddressBook(random.Random(1))
        self.peers: dict[int, Peer] = {}
        self.exchange = Exchange(self.peers, self.book)
        self.now_s = 1000.0

    def join(self, host: str, *, port: int = 6881, dialled: bool = False, pex: bool = True) -> Peer:
        """A peer that lacks everything and takes `ut_pex`; it called us, unless it was dialled."""
        key = len(self.peers) + 100
        peer = make_peer(key, GEOMETRY, have=bitfield(4), host=host)
        if dialled:
            peer.dialled = (host, port)
        else:
            peer.listen_port = port
        self.peers[key] = peer
        if pex:
            self.exchange.agreed(peer, THEIR_PEX_ID, self.now_s)
        return peer

    def leave(self, peer: Peer) -> None:
        del self.peers[peer.key]
        self.exchange.left(peer.key)

    def tick(self, seconds: float = 0.0) -> None:
        self.now_s += seconds
        self.exchange.tick(self.now_s)

    def hear(self, peer: Peer, payload: bytes, *, complete: bool = False) -> None:
        self.exchange.heard(peer, payload, self.now_s, complete=complete)

    def told(self, peer: Peer) -> Contacts | None:
        """The one message that the peer was sent since the last look, if there is one."""
        messages = link_of(peer).said()
        if not messages:
            return None
        [message] = messages
        assert isinstance(message, Extended)
        assert message.extended_id == THEIR_PEX_ID
        return decode_contacts(message.payload)

    def known(self) -> set[Address]:
        """What the book would give out."""
        return set(iter(lambda: self.book.take(self.now_s), None))


@pytest.fixture
def post() -> Post:
    return Post()


def added(*addresses: Address, flags: int = 0) -> bytes:
    return encode_contacts(Contacts(dict.fromkeys(addresses, flags), []))


def many(count: int, net: int = 0) -> list[Address]:
    return [(f"10.{net}.{n // 250}.{n % 250 + 1}", 6881) for n in range(count)]


# Bytes


def test_a_message_has_exactly_these_bytes() -> None:
    contacts = Contacts({A: REACHABLE, V6: SEED, B: 0}, [C])
    assert encode_contacts(contacts) == (
        b"d5:added12:\x0a\0\0\1\x1a\xe1\x0a\0\0\2\x1a\xe27:added.f2:\x10\0"
        b"6:added618:\x20\x01\x0d\xb8" + bytes(11) + b"\1\x1a\xe18:added6.f1:\x02"
        b"7:dropped6:\x0a\0\0\3\x1a\xe3e"
    )
    assert decode_contacts(encode_contacts(contacts)) == contacts


def test_missing_and_short_flags_are_zeros() -> None:
    assert decode_contacts(b"d5:added12:\x0a\0\0\1\x1a\xe1\x0a\0\0\2\x1a\xe27:added.f1:\x10e") == Contacts(
        {A: REACHABLE, B: 0}, []
    )
    assert decode_contacts(b"de") == Contacts({}, [])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"le",
        b"i5e",
        b"d",
        b"d5:added5:12345e",
        b"d7:dropped7:1234567e",
        b"d6:added66:123456e",
        b"de rest",
    ],
)
def test_what_is_no_such_message_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="peer exchange"):
        decode_contacts(payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    try:
        decode_contacts(payload)
    except RemoteProtocolError:
        return


# Telling


def test_each_is_told_of_the_others_soon_after_it_was_agreed_and_not_of_itself(post: Post) -> None:
    caller, dialled, seed = post.join("10.0.0.1"), post.join("10.0.0.2", dialled=True), post.join("10.0.0.3")
    seed.have = full_bitfield(4)
    post.tick(FIRST_S - 0.1)
    assert post.told(caller) is None
    post.tick(0.1)
    assert post.told(caller) == Contacts({("10.0.0.2", 6881): REACHABLE, ("10.0.0.3", 6881): SEED}, [])
    assert post.told(dialled) == Contacts({("10.0.0.1", 6881): 0, ("10.0.0.3", 6881): SEED}, [])


def test_who_wants_nothing_is_flagged_as_a_seed_is(post: Post) -> None:
    reader, other = post.join("10.0.0.1"), post.join("10.0.0.2")
    other.upload_only = True
    post.tick(FIRST_S)
    assert post.told(reader) == Contacts({("10.0.0.2", 6881): SEED}, [])


def test_news_are_told_once_and_at_most_once_a_minute(post: Post) -> None:
    reader, other = post.join("10.0.0.1"), post.join("10.0.0.2", pex=False)
    post.tick(FIRST_S)
    assert post.told(reader) is not None
    post.leave(other)
    post.join("10.0.0.3", pex=False)
    post.tick(INTERVAL_S - 0.1)
    assert post.told(reader) is None
    post.tick(0.1)
    assert post.told(reader) == Contacts({("10.0.0.3", 6881): 0}, [("10.0.0.2", 6881)])
    post.tick(10 * INTERVAL_S)
    assert post.told(reader) is None
    post.join("10.0.0.4", pex=False)
    post.tick(1)
    assert post.told(reader) == Contacts({("10.0.0.4", 6881): 0}, [])


def test_who_comes_and_goes_between_two_messages_is_not_mentioned(post: Post) -> None:
    reader, other = post.join("10.0.0.1"), post.join("10.0.0.2", pex=False)
    post.tick(FIRST_S)
    post.told(reader)
    post.leave(other)
    transient = post.join("10.0.0.9", pex=False)
    post.leave(transient)
    post.join("10.0.0.2", pex=False)
    post.tick(INTERVAL_S)
    assert post.told(reader) is None


def test_nobody_is_named_who_cannot_be_dialled(post: Post) -> None:
    reader = post.join("10.0.0.1")
    post.join("10.0.0.2", port=0)
    post.join("peer.example", dialled=True)
    post.join("10.0.0.3").close("going")
    post.tick(FIRST_S)
    assert post.told(reader) is None


def test_nobody_is_told_of_addresses_that_mean_nothing_where_it_is(post: Post) -> None:
    local, private, public = post.join("127.0.0.1"), post.join("10.0.0.1"), post.join("8.8.8.8")
    post.join("127.0.0.1", port=7777, pex=False)
    post.join("10.0.0.2", pex=False)
    post.join("9.9.9.9", pex=False)
    post.tick(FIRST_S)
    found = []
    for peer in (local, private, public):
        told = post.told(peer)
        assert told is not None
        found.append({host for host, _ in told.added})
    assert found == [
        {"127.0.0.1", "10.0.0.1", "10.0.0.2", "8.8.8.8", "9.9.9.9"},
        {"10.0.0.2", "8.8.8.8", "9.9.9.9"},
        {"9.9.9.9"},
    ]


def test_a_message_has_at_most_fifty_each_way_and_the_rest_follows(post: Post) -> None:
    reader = post.join("10.0.0.1")
    others = [post.join(host, pex=False) for host, _ in many(70, 9)]
    post.tick(FIRST_S)
    first = post.told(reader)
    post.tick(INTERVAL_S)
    second = post.told(reader)
    assert first is not None
    assert second is not None
    assert (len(first.added), len(second.added)) == (MAX_CONTACTS, 70 - MAX_CONTACTS)
    for other in others:
        post.leave(other)
    post.tick(INTERVAL_S)
    gone = post.told(reader)
    assert gone is not None
    assert len(gone.dropped) == MAX_CONTACTS


def test_who_does_not_take_the_message_or_no_more_is_told_nothing(post: Post) -> None:
    plain, reader = post.join("10.0.0.1", pex=False), post.join("10.0.0.2")
    post.exchange.agreed(reader, 0, post.now_s)
    post.tick(FIRST_S)
    assert post.told(plain) is None
    assert post.told(reader) is None
    post.exchange.agreed(reader, THEIR_PEX_ID, post.now_s)
    post.tick()
    assert post.told(reader) is not None


# Hearing


def test_what_a_peer_tells_may_be_dialled(post: Post) -> None:
    post.hear(post.join("10.0.0.9"), added(A, B))
    assert post.known() == {A, B}


def test_what_comes_too_soon_is_ignored_and_ends_the_connection_if_it_goes_on(post: Post) -> None:
    peer = post.join("10.0.0.9")
    post.hear(peer, added(A))
    post.now_s += LEAST_INTERVAL_S - 1
    for _ in range(MAX_ABUSES):
        post.hear(peer, added(B))
    with pytest.raises(RemoteProtocolError, match="peer exchange, again and again too soon"):
        post.hear(peer, added(B))
    assert post.known() == {A}


def test_who_is_a_little_early_now_and_then_is_forgiven(post: Post) -> None:
    peer = post.join("10.0.0.9")
    for address in many(50):
        post.hear(peer, added(address))
        post.now_s += 30
    assert len(post.known()) == 25


@pytest.mark.parametrize("payload", [b"junk", added(*many(MOST_HEARD + 1))])
def test_what_is_broken_or_too_long_is_ignored_and_ends_the_connection_if_it_goes_on(
    post: Post, payload: bytes
) -> None:
    peer = post.join("10.0.0.9")
    for _ in range(MAX_ABUSES):
        post.hear(peer, payload)
    post.hear(peer, added(A))
    assert post.known() == {A}
    post.now_s += LEAST_INTERVAL_S
    post.hear(peer, payload)
    post.now_s += LEAST_INTERVAL_S
    with pytest.raises(RemoteProtocolError, match="peer exchange, again and again"):
        post.hear(peer, payload)


def test_of_one_message_fifty_are_taken(post: Post) -> None:
    post.hear(post.join("10.0.0.9"), added(*many(MOST_HEARD)))
    assert len(post.known()) == MAX_CONTACTS


@pytest.mark.parametrize(
    ("host", "believed"),
    [
        ("127.0.0.1", {("127.0.0.1", 22), ("10.0.0.1", 22), ("8.8.8.8", 22)}),
        ("10.0.0.9", {("10.0.0.1", 22), ("8.8.8.8", 22)}),
        ("9.9.9.9", {("8.8.8.8", 22)}),
    ],
)
def test_nobody_names_addresses_that_mean_nothing_where_it_is(
    post: Post, host: str, believed: set[Address]
) -> None:
    named = [("127.0.0.1", 22), ("10.0.0.1", 22), ("8.8.8.8", 22), ("224.0.0.1", 22), ("0.0.0.0", 22)]
    post.hear(post.join(host), added(*named, ("8.8.4.4", 0)))
    assert post.known() == believed


def test_one_host_is_named_once_in_a_message(post: Post) -> None:
    post.hear(post.join("10.0.0.9"), added(*[("10.0.0.1", port) for port in range(1, 40)]))
    assert len(post.known()) == 1


def test_seeds_are_of_no_use_to_a_complete_member(post: Post) -> None:
    payload = encode_contacts(Contacts({A: SEED, B: REACHABLE}, []))
    post.hear(post.join("10.0.0.9"), payload, complete=True)
    assert post.known() == {B}
    post.hear(post.join("10.0.0.8"), payload)
    assert post.known() == {A}


def test_who_is_dropped_is_forgotten_unless_somebody_else_has_named_it(post: Post) -> None:
    one, two = post.join("10.0.0.8"), post.join("10.0.0.9")
    post.hear(one, added(A, B))
    post.hear(two, added(B))
    post.now_s += INTERVAL_S
    post.hear(one, encode_contacts(Contacts({}, [A, B])))
    assert len(post.book) == 1
    assert post.book.take(post.now_s) == B


def test_one_peer_cannot_fill_the_book_nor_can_all_of_them(post: Post) -> None:
    for net in range(20):
        liar = post.join(f"10.200.0.{net + 1}")
        for round_number in range(4):
            post.hear(liar, added(*many(250, net)[round_number * 50 : round_number * 50 + 50]))
            post.now_s += INTERVAL_S
        assert len(post.book) == min((net + 1) * MAX_FROM_ONE, MAX_HEARSAY)
    post.book.add((A,), post.now_s)
    assert post.book.take(post.now_s) == A, "what a conductor names comes first"


def test_leaving_and_coming_back_does_not_help_a_liar(post: Post) -> None:
    for number in range(5):
        liar = post.join("10.200.0.1")
        post.hear(liar, added(*many(250)[number * 50 : number * 50 + 50]))
        post.leave(liar)
    assert len(post.book) == MAX_FROM_ONE
