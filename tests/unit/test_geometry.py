"""Parts and blocks: every number against a plain enumeration."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.geometry import Geometry, neighbours
from orchestra.wire import BLOCK_BYTES, BlockSpan

SHAPES = [
    (0, 16384),
    (1, 16384),
    (1, 1),
    (50, 1),
    (2500, 1000),
    (3000, 1000),
    (16384, 16384),
    (142044, 16384),
    (40000, 20000),
    (45000, 20000),
    (36385, 20000),
    (3 << 20, 1 << 20),
    ((3 << 20) + 1, 1 << 20),
    (5, 2**53),
]


def enumerated(size_bytes: int, part_size_bytes: int) -> list[BlockSpan]:
    """All blocks in order: index, begin, length."""
    blocks: list[BlockSpan] = []
    for index, start in enumerate(range(0, size_bytes, part_size_bytes)):
        part_length = min(part_size_bytes, size_bytes - start)
        begins = range(0, part_length, BLOCK_BYTES)
        blocks += [(index, begin, min(BLOCK_BYTES, part_length - begin)) for begin in begins]
    return blocks


@pytest.mark.parametrize(("size_bytes", "part_size_bytes"), SHAPES)
def test_parts_and_blocks_are_those_of_the_enumeration(size_bytes: int, part_size_bytes: int) -> None:
    geometry, blocks = Geometry(size_bytes, part_size_bytes), enumerated(size_bytes, part_size_bytes)
    indices = {index for index, _, _ in blocks}
    assert geometry.parts == len(indices)
    for index in indices:
        own = [length for number, _, length in blocks if number == index]
        assert geometry.part_blocks(index) == len(own)
        assert geometry.part_length(index) == sum(own)


@pytest.mark.parametrize(("size_bytes", "part_size_bytes"), SHAPES)
def test_keys_number_the_blocks_in_order_and_lead_back_to_them(size_bytes: int, part_size_bytes: int) -> None:
    geometry, blocks = Geometry(size_bytes, part_size_bytes), enumerated(size_bytes, part_size_bytes)
    keys = [geometry.key(index, begin) for index, begin, _ in blocks]
    assert keys == list(range(len(blocks)))
    assert [geometry.span(key) for key in keys] == blocks
    assert geometry.spans(keys) == blocks
    assert geometry.spans(keys[::-2]) == blocks[::-2]
    assert [geometry.part_of(key) for key in keys] == [index for index, _, _ in blocks]
    offsets = [index * part_size_bytes + begin for index, begin, _ in blocks]
    assert [geometry.offset(key) for key in keys] == offsets
    assert geometry.offset(len(blocks)) == size_bytes


@pytest.mark.parametrize(("size_bytes", "part_size_bytes"), SHAPES[:-3])
def test_a_boundary_is_where_a_block_starts_or_the_end(size_bytes: int, part_size_bytes: int) -> None:
    geometry, blocks = Geometry(size_bytes, part_size_bytes), enumerated(size_bytes, part_size_bytes)
    starts = {index * part_size_bytes + begin: key for key, (index, begin, _) in enumerate(blocks)}
    starts[size_bytes] = len(blocks)
    for offset in range(size_bytes + 3):
        assert geometry.boundary_key(offset) == starts.get(offset), offset


@pytest.mark.parametrize(("size_bytes", "part_size_bytes"), [(36390, 20000), (45000, 20000), (2500, 1000)])
def test_a_run_is_whole_blocks_or_nothing(size_bytes: int, part_size_bytes: int) -> None:
    geometry, blocks = Geometry(size_bytes, part_size_bytes), enumerated(size_bytes, part_size_bytes)
    starts = [index * part_size_bytes + begin for index, begin, _ in blocks] + [size_bytes]
    for first, start in enumerate(starts):
        for last, end in enumerate(starts):
            expected = range(first, last) if first < last else None
            assert geometry.run_keys(start, end - start) == expected
            assert geometry.run_keys(start + 1, end - start) is None
            assert geometry.run_keys(start, end - start + 1) is None


def test_a_run_far_behind_the_end_is_nothing() -> None:
    geometry = Geometry(45000, 20000)
    assert geometry.run_keys(2**40, 16384) is None
    assert geometry.run_keys(60000, 16384) is None
    assert geometry.run_keys(40000, 16384) is None


@pytest.mark.parametrize(
    ("block", "held"),
    [
        ((0, 0, 16384), True),
        ((0, 0, 1), True),
        ((0, 19999, 1), True),
        ((0, 5, 16384), True),
        ((2, 0, 5000), True),
        ((0, 0, 0), False),
        ((0, 0, 16385), False),
        ((0, 20000, 1), False),
        ((0, 19999, 2), False),
        ((2, 0, 5001), False),
        ((2, 2**32 - 1, 1), False),
        ((3, 0, 1), False),
        ((2**32 - 1, 0, 1), False),
        ((0, 0, 2**32 - 1), False),
    ],
)
def test_a_request_must_lie_inside_its_part_and_ask_for_one_block_at_most(
    block: BlockSpan, held: bool
) -> None:
    assert Geometry(45000, 20000).holds(block) is held


@given(st.lists(st.integers(0, 12)))
def test_neighbours_are_told_apart_in_their_order(indices: list[int]) -> None:
    runs = list(neighbours(indices))
    assert [index for run in runs for index in run] == indices
    assert all(later.start != sooner.stop for sooner, later in itertools.pairwise(runs))


@given(st.integers(0, 200_000), st.sampled_from([1, 5000, 16384, 16385, 32768, 40_000]), st.randoms())
def test_spans_of_many_are_those_of_each(size: int, part_size: int, rng: random.Random) -> None:
    geometry = Geometry(size, part_size)
    keys = [
        geometry.key(index, 0) + number
        for index in range(geometry.parts)
        for number in range(geometry.part_blocks(index))
    ]
    some = rng.sample(keys, min(len(keys), 7))
    assert geometry.spans(some) == [geometry.span(key) for key in some]


@given(
    st.integers(1, 200_000),
    st.sampled_from([1, 5000, 16384, 32768, 40_000]),
    st.lists(
        st.tuples(
            st.integers(0, 13),
            st.one_of(st.just(0), st.just(16384), st.integers(0, 50_000)),
            st.one_of(st.just(16384), st.integers(0, 40_000)),
        ),
        min_size=1,
    ),
)
def test_the_first_block_that_may_not_be_asked_for_is_found(
    size: int, part_size: int, blocks: list[BlockSpan]
) -> None:
    geometry = Geometry(size, part_size)
    assert geometry.first_unheld(blocks) == next((b for b in blocks if not geometry.holds(b)), None)
