"""What people read and write: sizes, rates, times, columns."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import humans


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("16384", 16384),
        ("16K", 16384),
        ("16k", 16384),
        ("1M", 1 << 20),
        ("2MiB", 2 << 20),
        ("1g", 1 << 30),
    ],
)
def test_sizes_are_read_as_they_are_typed(text: str, value: int) -> None:
    assert humans.parse_size(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "12x",
        "-1",
        "+5",
        " 12",
        "12 ",
        "1_000",
        "1.5M",
        "16KB",
        "１６",
        "٣",
        "1 M",
        "9" * 17,
        "K",
        "1\n",
    ],
)
def test_what_is_not_a_size_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ValueError, match="16K"):
        humans.parse_size(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.00 kB"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (99_960, "100 kB"),
        (142_044, "142 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (12_300_000, "12.3 MB"),
        (3 * 10**9, "3.00 GB"),
        (2**53, "9.01 PB"),
        (10**19, "10000 PB"),
    ],
)
def test_sizes_are_shown_in_three_digits(value: float, text: str) -> None:
    assert humans.size(value) == text


def test_a_rate_is_a_size_a_second() -> None:
    assert humans.rate(12_300_000) == "12.3 MB/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (math.inf, "unknown"),
        (math.nan, "unknown"),
        (-1, "0 s"),
        (0, "0 s"),
        (0.44, "0.4 s"),
        (3, "3 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (80, "1 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (3 * 86400 + 4 * 3600 + 59, "3 d 4 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    assert humans.duration(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [(0, 0, 100), (0, 9, 0), (999, 1000, 99), (1000, 1000, 100), (2, 1, 100), (-1, 5, 0)],
)
def test_a_hundred_percent_means_complete(done: int, total: int, percent: int) -> None:
    assert humans.percent(done, total) == percent


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert humans.columns("写真.jpg") == 8
    assert humans.columns("e\u0301") == 1


@given(st.text(), st.integers(0, 40))
def test_what_is_fitted_fits(text: str, limit: int) -> None:
    fitted = humans.fit(text, limit)
    assert humans.columns(fitted) <= limit
    assert fitted == text or humans.columns(text) > limit


def test_what_is_cut_says_so() -> None:
    assert humans.fit("maxresdefault.jpg", 10) == "maxresd..."
