"""Bitfields against sets of numbers, and the bytes of the wire."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.bitfield import Bitfield
from orchestra.errors import RemoteProtocolError
from tests.fakes import bitfield, full_bitfield


@pytest.mark.parametrize("parts", [0, 1, 7, 8, 9, 16, 100])
def test_a_full_one_has_every_part_and_no_spare_bit(parts: int) -> None:
    field = Bitfield.full(parts)
    assert field.complete
    assert Bitfield.from_wire(field.to_wire(), parts).indices() == list(range(parts))


@pytest.mark.parametrize(
    ("parts", "present", "data"),
    [
        (0, [], b""),
        (1, [0], b"\x80"),
        (8, [0, 7], b"\x81"),
        (9, [8], b"\0\x80"),
        (11, [0, 1, 10], b"\xc0\x20"),
        (16, list(range(16)), b"\xff\xff"),
    ],
)
def test_the_first_part_is_the_highest_bit_of_the_first_byte(
    parts: int, present: list[int], data: bytes
) -> None:
    assert bitfield(parts, *present).to_wire() == data
    field = Bitfield.from_wire(data, parts)
    assert field.indices() == present
    assert field.count == len(present)
    assert field.complete is (len(present) == parts)


@pytest.mark.parametrize(
    ("parts", "data"), [(8, b""), (8, b"\0\0"), (9, b"\0"), (0, b"\0"), (17, b"\0\0"), (1, b"")]
)
def test_a_wrong_length_is_refused(parts: int, data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{len(data)} bytes for {parts} parts"):
        Bitfield.from_wire(data, parts)


@pytest.mark.parametrize(
    ("parts", "data"), [(1, b"\x40"), (7, b"\x01"), (9, b"\xff\x40"), (15, b"\0\x01"), (12, b"\0\x08")]
)
def test_spare_bits_must_be_zero(parts: int, data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="spare bits"):
        Bitfield.from_wire(data, parts)


def test_every_bit_but_the_spare_ones_may_be_set() -> None:
    for parts in range(1, 26):
        assert Bitfield.from_wire(full_bitfield(parts).to_wire(), parts).complete


@settings(deadline=None)
@given(st.integers(1, 40), st.lists(st.tuples(st.booleans(), st.integers(0, 39))))
def test_it_behaves_like_a_set(parts: int, changes: list[tuple[bool, int]]) -> None:
    field, model = Bitfield(parts), set[int]()
    for adds, number in changes:
        index = number % parts
        if adds:
            assert field.add(index) is (index not in model)
            model.add(index)
        else:
            assert field.remove(index) is (index in model)
            model.discard(index)
        assert field.count == len(model)
    assert [index in field for index in range(parts)] == [index in model for index in range(parts)]
    assert field.indices() == sorted(model)
    assert Bitfield.from_wire(field.to_wire(), parts).indices() == sorted(model)
    assert field.as_integer() == sum(1 << field.width - 1 - index for index in model)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40))))
def test_runs_are_set_and_cleared_like_single_parts(changes: list[tuple[bool, int, int]]) -> None:
    field, model = Bitfield(40), set[int]()
    for adds, start, stop in changes:
        run = range(start, stop)
        if adds:
            field.add_all(run)
            model.update(run)
        else:
            field.remove_all(run)
            model.difference_update(run)
        assert field.indices() == sorted(model)
        assert field.count == len(model)
        assert field.count_in(run) == len(model.intersection(run))
        assert field.count_in(range(3, 29)) == len(model.intersection(range(3, 29)))


@settings(deadline=None)
@given(st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19)))
def test_what_one_lacks_of_the_other_is_counted(mine: set[int], theirs: set[int]) -> None:
    assert bitfield(20, *mine).lacking(bitfield(20, *theirs)) == len(theirs - mine)
    assert bitfield(20, *theirs).beyond(bitfield(20, *mine)) == sorted(theirs - mine)


@settings(deadline=None)
@given(st.integers(0, 40), st.sets(st.integers(0, 39), max_size=3), st.data())
def test_a_run_ends_at_the_first_part_that_is_not_there(
    parts: int, lacking: set[int], data: st.DataObject
) -> None:
    field = bitfield(parts, *(set(range(parts)) - lacking))
    start = data.draw(st.integers(0, parts))
    assert field.end_of_run(start) == min([parts, *(index for index in lacking if start <= index < parts)])


def test_a_composition_without_parts_is_complete() -> None:
    assert Bitfield(0).complete
    assert Bitfield(0).indices() == []


def test_several_are_set_at_once_and_those_that_are_new_are_told() -> None:
    field = bitfield(20, 3, 9)
    assert field.without([9, 4, 3, 19]) == 2
    assert field.add_each([9, 4, 4, 19]) == [4, 19], "each once, in the order in which they were told"
    assert (field.indices(), field.count) == ([3, 4, 9, 19], 4)
    assert field.add_each([3, 19]) == []
    assert field.without([3, 4, 9, 19]) == 0
