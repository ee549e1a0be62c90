"""Canonical peer priority (BEP 40), and whose word on our own address counts."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.priority import crc32c, own_hosts, priority

US = ("123.213.32.10", 6881)


def test_crc32c_is_that_of_rfc_3720() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"") == 0


def test_the_examples_of_the_bep_come_out() -> None:
    assert priority(US, ("98.76.54.32", 6881)) == 0xEC2D7224
    assert priority(US, ("123.213.32.234", 6881)) == 0x99568189


@pytest.mark.parametrize(
    ("other", "masked"),
    [
        # Another /16: every other bit of the last two bytes counts.
        ("98.76.54.32", "624c1400 7bd50000"),
        ("98.76.255.255", "624c5555 7bd50000"),
        # The same /16, the same /24.
        ("123.213.99.255", "7bd52000 7bd56355"),
        ("123.213.32.234", "7bd5200a 7bd520ea"),
    ],
)
def test_the_closer_the_addresses_the_more_of_them_counts(other: str, masked: str) -> None:
    assert priority(US, (other, 1)) == crc32c(bytes.fromhex(masked))


@pytest.mark.parametrize(
    ("one", "other", "mask"),
    [
        ("2001:db8:1:ffff:ffff::ffff", "2001:db8:2:ffff:ffff::ffff", "ffffffffffff55555555555555555555"),
        ("2001:db8:1:1ff:ffff::ffff", "2001:db8:1:2ff:ffff::ffff", "ffffffffffffff555555555555555555"),
        ("2001:db8:1:101:ffff::ffff", "2001:db8:1:102:ffff::ffff", "ffffffffffffffff5555555555555555"),
        ("2001:db8:1:1:1ff::ffff", "2001:db8:1:1:2ff::ffff", "ffffffffffffffffff55555555555555"),
        ("2001:db8::ff01", "2001:db8::ff02", "ffffffffffffffffffffffffffffffff"),
    ],
)
def test_ipv6_is_masked_in_the_same_way(one: str, other: str, mask: str) -> None:
    low, high = (int(ipaddress.ip_address(host)) & int(mask, 16) for host in (one, other))
    assert priority((one, 1), (other, 2)) == crc32c(low.to_bytes(16, "big") + high.to_bytes(16, "big"))


def test_on_one_host_the_ports_decide() -> None:
    assert priority(("10.0.0.1", 258), ("10.0.0.1", 1)) == crc32c(b"\0\1\1\2")
    assert priority(("10.0.0.1", 1), ("10.0.0.1", 258)) == crc32c(b"\0\1\1\2")


def test_two_families_and_names_have_no_priority() -> None:
    assert priority(US, ("2001:db8::1", 1)) is None
    assert priority(US, ("peer.example", 1)) is None


@given(st.ip_addresses(), st.ip_addresses())
def test_both_sides_work_out_the_same(one: object, other: object) -> None:
    ours, theirs = (str(one), 1), (str(other), 2)
    assert priority(ours, theirs) == priority(theirs, ours)


# Our own address


def test_our_address_is_what_most_hosts_see() -> None:
    seen = [("10.0.0.1", "1.2.3.4"), ("10.0.0.2", "1.2.3.4"), ("10.0.0.3", "5.6.7.8")]
    assert own_hosts(seen) == {False: "1.2.3.4"}


def test_one_host_is_not_believed_however_often_it_says_so() -> None:
    assert own_hosts([("10.0.0.1", "1.2.3.4")] * 5) == {}
    assert own_hosts([("10.0.0.1", "1.2.3.4")] * 5 + [("10.0.0.2", "5.6.7.8")]) == {}
    assert own_hosts([("10.0.0.1", ""), ("10.0.0.2", "")]) == {}


def test_without_a_majority_nothing_is_known() -> None:
    seen = [(f"10.0.0.{n}", host) for n, host in enumerate(["1.2.3.4"] * 2 + ["5.6.7.8"] * 2)]
    assert own_hosts(seen) == {}


def test_each_family_has_an_address_of_its_own() -> None:
    seen = [("10.0.0.1", "1.2.3.4"), ("10.0.0.2", "1.2.3.4"), ("2001:db8::1", "2001:db8::9")]
    assert own_hosts(seen) == {False: "1.2.3.4"}
    assert own_hosts([*seen, ("2001:db8::2", "2001:db8::9")]) == {False: "1.2.3.4", True: "2001:db8::9"}
