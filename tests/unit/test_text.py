from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.text import ELLIPSIS, safe


@pytest.mark.parametrize(
    ("given_text", "rendered"),
    [
        ("", ""),
        ("plain name.txt", "plain name.txt"),
        ("Grüße 你好 🎼", "Grüße 你好 🎼"),
        ("a\\b", "a\\b"),
        ("a\nb\tc\r", "a\\x0ab\\x09c\\x0d"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x00\x7f\x80\x9b", "\\x00\\x7f\\x80\\x9b"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("no\u00a0break", "no\\xa0break"),
        ("\U000e0001", "\\U000e0001"),
        ("\ud800", "\\ud800"),
        ("caf\udce9", "caf\\xe9"),
        (b"caf\xe9", "caf\\xe9"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\x00", "\\xff\\x00"),
        (b"", ""),
    ],
)
def test_text_is_rendered_in_printable_characters(given_text: str | bytes, rendered: str) -> None:
    assert safe(given_text) == rendered


def test_text_of_exactly_the_limit_is_whole_and_one_more_is_cut_with_an_ellipsis() -> None:
    assert safe("abcde", 5) == "abcde"
    assert safe("abcdef", 5) == "abcd" + ELLIPSIS
    assert safe(b"abcdef", 5) == "abcd" + ELLIPSIS


def test_an_escape_is_never_cut_in_two() -> None:
    assert safe("ab\x1b", 5) == "ab" + ELLIPSIS
    assert safe("a\x1b", 5) == "a\\x1b"
    assert safe("a\x1bb", 5) == "a" + ELLIPSIS


def test_bytes_cut_inside_a_character_show_no_trace_of_the_cut() -> None:
    assert safe("🎼".encode() * 50, 10) == "🎼" * 9 + ELLIPSIS


@given(st.one_of(st.text(), st.binary()), st.integers(1, 40))
def test_whatever_comes_in_the_result_is_short_and_printable(text: str | bytes, limit: int) -> None:
    rendered = safe(text, limit)
    assert len(rendered) <= limit
    assert rendered.isprintable()
    rendered.encode("utf-8")
