"""The fast extension (BEP 6): the canonical set, and the bounds of what is granted, allowed and refused."""

from __future__ import annotations

import pytest

from orchestra.fast import GRANTED_PARTS, MAX_ALLOWANCES, Fast, canonical_set

INFO_HASH = b"\xaa" * 20


def test_the_canonical_set_is_that_of_the_examples_in_the_bep() -> None:
    seven = (1059, 431, 808, 1217, 287, 376, 1188)
    assert canonical_set("80.4.4.200", INFO_HASH, 1313, 7) == seven
    assert canonical_set("80.4.4.200", INFO_HASH, 1313, 9) == (*seven, 353, 508)


def test_one_network_has_one_set_and_another_network_another() -> None:
    ours = canonical_set("80.4.4.200", INFO_HASH, 1313)
    assert len(ours) == GRANTED_PARTS
    assert canonical_set("80.4.4.7", INFO_HASH, 1313) == ours
    assert canonical_set("80.4.5.200", INFO_HASH, 1313) != ours
    assert canonical_set("80.4.4.200", b"\xab" * 20, 1313) != ours
    v6 = canonical_set("2001:db8:1:2:3::4", INFO_HASH, 1313)
    assert len(v6) == GRANTED_PARTS
    assert canonical_set("2001:db8:1:2:ffff::1", INFO_HASH, 1313) == v6
    assert canonical_set("2001:db8:1:3::1", INFO_HASH, 1313) != v6


@pytest.mark.parametrize("parts", [0, 1, 9, 10, 11, 12])
def test_a_small_composition_has_a_small_set(parts: int) -> None:
    chosen = canonical_set("80.4.4.200", INFO_HASH, parts)
    assert len(set(chosen)) == len(chosen) == min(parts, GRANTED_PARTS)
    assert all(0 <= index < parts for index in chosen)


def test_a_host_without_an_address_is_granted_nothing() -> None:
    assert canonical_set("peer.example", INFO_HASH, 1313) == ()


def test_allowances_are_heeded_up_to_a_bound() -> None:
    fast = Fast()
    fast.allow([3, 4, 3])
    assert list(fast.allowed) == [3, 4]
    fast.allow(range(10_000))
    assert len(fast.allowed) <= fast.allowances == MAX_ALLOWANCES
    fast.allowed.clear()
    fast.allow([1])
    assert not fast.allowed, "one that is rejected and allowed again and again is not asked for ever"


def test_only_what_was_granted_is_admitted_and_only_so_often() -> None:
    fast = Fast()
    block = (3, 0, 16384)
    assert fast.admit([block], 0) == []
    fast.granted = {3: 2}
    assert fast.admit([block, (4, 0, 16384)], 0) == [block]
    assert fast.admit([block, block], GRANTED_PARTS) == [block]
    assert fast.admit([block], 0) == []


def test_who_has_enough_to_give_is_granted_nothing_more() -> None:
    fast = Fast(granted={3: 2})
    assert fast.admit([(3, 0, 16384)], GRANTED_PARTS + 1) == []
    assert fast.granted == {3: 2}
