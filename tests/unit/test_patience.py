"""A bucket that is emptied at once, and fills up with time."""

from __future__ import annotations

from orchestra.patience import Patience


def test_so_much_at_once_and_no_more() -> None:
    patience = Patience(10, 1.0)
    assert patience.lasts(10, 1000.0)
    assert not patience.lasts(1, 1000.0)


def test_it_comes_back_with_time_but_never_beyond_what_it_was() -> None:
    patience = Patience(10, 2.0)
    assert patience.lasts(10, 1000.0)
    assert patience.lasts(4, 1002.0)
    assert not patience.lasts(1, 1002.0)
    assert patience.lasts(9, 5000.0)
    assert not patience.lasts(3, 5000.0)
