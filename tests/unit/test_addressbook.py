"""Whom to dial, and when, by a given clock and a seeded rng."""

from __future__ import annotations

import random

import pytest

from orchestra.addressbook import (
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    MAX_BANNED_HOSTS,
    MAX_FAILURES,
    MAX_HEARSAY_FAILURES,
    MAX_KNOWN,
    MAX_PORTS,
    AddressBook,
)

A, B, C = ("10.0.0.1", 6881), ("10.0.0.2", 6881), ("10.0.0.3", 6881)


@pytest.fixture
def book() -> AddressBook:
    return AddressBook(random.Random(1))


def test_each_address_is_given_out_once_until_it_is_released(book: AddressBook) -> None:
    book.add((A, B, A), 0.0)
    assert {book.take(0.0), book.take(0.0)} == {A, B}
    assert book.take(0.0) is None
    assert book.next_try_s() is None
    book.add((A, B), 1.0)
    assert book.take(1000.0) is None


def test_the_order_is_random(book: AddressBook) -> None:
    addresses = tuple(("10.0.0.1", port) for port in range(1, 9))
    book.add(addresses, 0.0)
    taken = [book.take(0.0) for _ in addresses]
    assert sorted(address for address in taken if address) == list(addresses)
    assert taken != list(addresses)


def test_what_is_urged_comes_first_in_its_order_if_it_may_be_tried(book: AddressBook) -> None:
    addresses = tuple(("10.0.0.1", port) for port in range(1, 100))
    book.add((*addresses, A, B, C), 0.0)
    book.urge((A, ("10.9.9.9", 1), B, C))
    assert book.take(0.0, but={B}, rank=lambda address: address[1]) == A
    assert book.take(0.0, but={B}, rank=lambda address: address[1]) == C
    assert book.take(0.0, but={B}, rank=lambda address: -address[1]) == addresses[0]
    book.release(A, 0.0, worked=False)
    book.urge((A, B))
    assert book.take(0.0) == B


def test_a_failed_address_waits_twice_as_long_each_time_and_is_forgotten_at_last(book: AddressBook) -> None:
    book.add((A,), 0.0)
    now_s = 0.0
    for failures in range(1, MAX_FAILURES):
        assert book.take(now_s) == A
        book.release(A, now_s, worked=False)
        due_s = book.next_try_s()
        assert due_s is not None
        nominal_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**failures)
        assert 0.75 * nominal_s <= due_s - now_s <= 1.25 * nominal_s
        assert book.take(due_s - 0.001) is None
        now_s = due_s
    assert book.take(now_s) == A
    book.release(A, now_s, worked=False)
    assert len(book) == 0
    assert book.next_try_s() is None


def test_an_address_given_by_hand_is_never_forgotten(book: AddressBook) -> None:
    book.add((A,), 0.0, by_hand=True)
    now_s = 0.0
    for _ in range(3 * MAX_FAILURES):
        assert book.take(now_s) == A
        book.release(A, now_s, worked=False)
        due_s = book.next_try_s()
        assert due_s is not None
        assert due_s - now_s <= 1.25 * LONGEST_RETRY_S
        now_s = due_s


def test_a_handshake_that_worked_forgives_the_failures(book: AddressBook) -> None:
    book.add((A,), 0.0)
    for worked in (False, False, False, True):
        now_s = book.next_try_s() or 0.0
        assert book.take(now_s) == A
        book.release(A, now_s, worked=worked)
    due_s = book.next_try_s()
    assert due_s is not None
    assert 0.75 * FIRST_RETRY_S <= due_s - now_s <= 1.25 * FIRST_RETRY_S


def test_a_conductor_that_names_a_failed_address_again_hastens_its_next_try(book: AddressBook) -> None:
    book.add((A,), 0.0)
    for _ in range(5):
        now_s = book.next_try_s() or 0.0
        book.take(now_s)
        book.release(A, now_s, worked=False)
    book.add((A,), now_s)
    assert book.next_try_s() == now_s + FIRST_RETRY_S


def test_a_resting_address_is_left_alone_until_then(book: AddressBook) -> None:
    book.add((A, B), 0.0)
    taken = book.take(0.0)
    assert taken is not None
    book.rest(taken, 600.0)
    book.release(taken, 1.0, worked=True)
    other = book.take(1.0)
    assert {taken, other} == {A, B}
    assert book.take(599.0) is None
    assert book.take(600.0) == taken


def test_a_rest_is_not_cut_short_by_the_conductor_naming_it(book: AddressBook) -> None:
    book.add((A,), 0.0)
    book.take(0.0)
    book.rest(A, 600.0)
    book.release(A, 1.0, worked=True)
    book.add((A,), 2.0)
    assert book.next_try_s() == 600.0


def test_our_own_address_is_never_dialled_again(book: AddressBook) -> None:
    book.add((A, B), 0.0)
    book.is_own(A)
    book.add((A,), 1.0)
    assert len(book) == 1
    assert book.take(1.0) == B
    book.release(A, 2.0, worked=False)
    assert book.take(2.0) is None


def test_a_banned_host_is_gone_with_all_its_ports(book: AddressBook) -> None:
    book.add((A, ("10.0.0.1", 7000), B), 0.0)
    book.ban("10.0.0.1", b"bad-peer-id-bad-peer")
    book.add((A,), 1.0)
    assert len(book) == 1
    assert book.take(1.0) == B
    assert book.is_banned("10.0.0.1", b"")
    assert book.is_banned("10.0.0.9", b"bad-peer-id-bad-peer")
    assert not book.is_banned("10.0.0.2", b"")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.4.5", "::1"])
def test_on_this_machine_a_ban_hits_the_peer_id_alone(book: AddressBook, host: str) -> None:
    book.add(((host, 6881),), 0.0)
    book.ban(host, b"bad-peer-id-bad-peer")
    assert not book.is_banned(host, b"good-peer-id-good-pe")
    assert book.is_banned(host, b"bad-peer-id-bad-peer")
    assert book.take(0.0) == (host, 6881)


def test_a_flood_of_addresses_is_bounded_but_one_by_hand_always_finds_room(book: AddressBook) -> None:
    flood = tuple((f"10.{number >> 8}.{number & 255}.1", 1) for number in range(MAX_KNOWN + 500))
    book.add(flood, 0.0)
    assert len(book) == MAX_KNOWN
    book.add((C,), 0.0, by_hand=True)
    assert len(book) == MAX_KNOWN + 1


def test_releasing_what_was_never_known_is_harmless(book: AddressBook) -> None:
    book.release(A, 0.0, worked=True)
    book.rest(A, 5.0)
    assert len(book) == 0


# Hearsay


def test_hearsay_is_tried_after_all_that_is_known(book: AddressBook) -> None:
    book.hear_of([A], 0.0, "one")
    book.add((B, C), 0.0)
    assert {book.take(0.0), book.take(0.0)} == {B, C}
    assert book.take(0.0) == A


def test_hearsay_is_given_up_sooner(book: AddressBook) -> None:
    book.hear_of([A], 0.0, "one")
    for _ in range(MAX_HEARSAY_FAILURES):
        assert book.take(10_000.0) == A
        book.release(A, 0.0, worked=False)
    assert len(book) == 0


@pytest.mark.parametrize("confirmed", ["conductor", "handshake"])
def test_what_a_conductor_names_or_has_answered_is_no_hearsay_any_more(
    book: AddressBook, confirmed: str
) -> None:
    book.hear_of([A], 0.0, "one")
    if confirmed == "conductor":
        book.add((A,), 0.0)
    else:
        assert book.take(0.0) == A
        book.release(A, 0.0, worked=True)
    book.forget([A], "one")
    assert len(book) == 1
    for _ in range(MAX_FAILURES - 1):
        assert book.take(1e9) == A
        book.release(A, 0.0, worked=False)
    assert len(book) == 1


def test_only_who_said_so_can_take_it_back_and_not_while_it_is_in_use(book: AddressBook) -> None:
    book.hear_of([A], 0.0, "one")
    book.forget([A, B], "two")
    assert len(book) == 1
    assert book.take(0.0) == A
    book.forget([A], "one")
    assert len(book) == 1


def test_hearsay_adds_few_ports_of_one_host_but_for_this_machine(book: AddressBook) -> None:
    book.hear_of([("10.0.0.1", port) for port in range(1, 50)], 0.0, "one")
    assert len(book) == MAX_PORTS
    book.hear_of([("127.0.0.1", port) for port in range(1, 50)], 0.0, "two")
    assert len(book) == MAX_PORTS + 49


def test_hearsay_of_ourselves_and_of_the_banned_is_not_taken(book: AddressBook) -> None:
    book.is_own(A)
    book.ban(B[0], bytes(20))
    book.hear_of([A, B], 0.0, "one")
    assert len(book) == 0


def test_what_is_forgotten_makes_room_for_more_of_the_same_source(book: AddressBook) -> None:
    for number in range(1000):
        address = (f"10.1.{number // 250}.{number % 250}", 1)
        book.hear_of([address], 0.0, "one")
        book.forget([address], "one")
    assert len(book) == 0
    assert not book._told_by


# Ranks


def test_the_highest_rank_goes_first_and_some_not_at_all(book: AddressBook) -> None:
    book.add((A, B, C), 0.0)
    ranks = {A: 1, B: 3, C: 2}
    assert book.take(0.0, rank=ranks.__getitem__, but={B}) == C
    assert book.take(0.0, rank=ranks.__getitem__) == B
    assert book.take(0.0, rank=ranks.__getitem__) == A


@pytest.mark.fault("P1")
def test_after_three_of_its_hosts_an_ipv6_network_is_banned_and_an_ipv4_neighbour_is_not() -> None:
    book = AddressBook(random.Random(1))
    for number in range(MAX_BANNED_HOSTS):
        assert not book.is_banned("2001:db8::99", b"")
        book.ban(f"2001:db8::{number}", b"%020d" % number)
        book.ban(f"10.0.0.{number}", b"%020d" % number)
    assert book.is_banned("2001:db8::99", b"")
    assert not book.is_banned("2001:db8:0:1::99", b"")
    assert not book.is_banned("10.0.0.99", b"")


@pytest.mark.fault("P1")
def test_where_a_banned_peer_was_called_nobody_is_called_again() -> None:
    book = AddressBook(random.Random(1))
    address = ("127.0.0.1", 6881)
    book.add((address, ("127.0.0.1", 6882)), 0.0)
    book.ban("127.0.0.1", b"x" * 20, address)
    book.add((address,), 0.0)
    assert book.take(0.0) == ("127.0.0.1", 6882)
    assert book.take(0.0) is None
