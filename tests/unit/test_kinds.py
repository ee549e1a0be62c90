"""Messages are told apart by what they are called, and are never false."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from orchestra import diskmessages, messages, wire
from orchestra.kinds import kind


@kind
class Bare(NamedTuple):
    """Nothing in it."""


@kind
class Other(NamedTuple):
    """Nothing in it either."""


@kind
class Left(NamedTuple):
    number: int
    names: list[str]


@kind
class Right(NamedTuple):
    number: int
    names: list[str]


PAIRS: list[tuple[object, object]] = [
    (Bare(), Other()),
    (Bare(), ()),
    (Left(1, []), Right(1, [])),
    (Left(1, []), (1, [])),
    (Left(1, []), Left(1, ["a"])),
    (Left(1, []), "q"),
    (Left(1, []), None),
]


@pytest.mark.parametrize(("one", "other"), PAIRS + [(other, one) for one, other in PAIRS])
def test_another_kind_or_other_fields_are_not_equal(one: object, other: object) -> None:
    assert one != other
    # By itself: that they differ does not say that they are not equal.
    assert (one == other) is False


def test_the_same_kind_with_the_same_fields_is_equal() -> None:
    one, other = Left(1, ["a"]), Left(1, ["a"])
    assert one == other
    assert (one != other) is False
    assert len({Bare(), Bare(), Other()}) == 2


def test_a_message_without_fields_is_true() -> None:
    assert bool(Bare()) is True
    assert bool(Left(0, [])) is True


@pytest.mark.parametrize("module", [messages, wire, diskmessages], ids=lambda module: str(module.__name__))
def test_every_message_is_of_its_own_kind(module: object) -> None:
    tuples = [found for found in vars(module).values() if type(found) is type and issubclass(found, tuple)]
    assert len(tuples) > 4
    assert [found.__name__ for found in tuples if found.__eq__ is tuple.__eq__] == []
