from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import bencode

VALUES = [
    (0, b"i0e"),
    (-1, b"i-1e"),
    (2**63, b"i9223372036854775808e"),
    (b"", b"0:"),
    (b"spam", b"4:spam"),
    ([], b"le"),
    ({}, b"de"),
    ([b"a", [1, {}]], b"l1:ali1edeee"),
    ({b"a": 1, b"b": [b"x"]}, b"d1:ai1e1:bl1:xee"),
]

MALFORMED = [
    b"",
    b"e",
    b"x",
    b"i",
    b"ie",
    b"i-e",
    b"i-0e",
    b"i01e",
    b"i+1e",
    b"i 1e",
    b"i1_0e",
    b"i1",
    b"i" + b"9" * 21 + b"e",
    b"i" + b"9" * 1_000_000 + b"e",
    b"1",
    b"1:",
    b"2:a",
    b"01:a",
    b"-1:a",
    b"1 :a",
    b":",
    b"99999999999:string",
    b"9999999999:string",
    b"l",
    b"li1e",
    b"lee",
    b"d",
    b"d1:ae",
    b"d1:a",
    b"di1e1:ae",
    b"d1:bi1e1:ai1ee",
    b"d1:ai1e1:ai2ee",
    b"dle1:ae",
    b"d5000:" + b"k" * 5000 + b"le5000:" + b"k" * 5000 + b"lee",
    b"i1ei2e",
    b"le ",
    b"i1ee",
    b"de1:a",
    b"d1:a1:b1:ce",
    b"1:a1:b",
    b"4:spam\n",
    b"l" * 1_000_000,
    b"l" * 1_000_000 + b"e" * 1_000_000,
    b"d1:a" * 100_000 + b"i1e" + b"e" * 100_000,
    b"\xff\xfe",
    "\u0661:a".encode(),
]


@pytest.mark.parametrize(("value", "encoded"), VALUES)
def test_values_have_exactly_one_encoding(value: object, encoded: bytes) -> None:
    assert bencode.encode(value) == encoded
    assert bencode.decode(encoded) == value


def test_text_is_encoded_as_utf8_and_keys_are_sorted_as_bytes() -> None:
    assert bencode.encode({"b": "é", "a": 1, b"B": (b"x",)}) == b"d1:Bl1:xe1:ai1e1:b2:\xc3\xa9e"


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data[:12]))
def test_anything_malformed_is_a_value_error_with_a_short_printable_text(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        bencode.decode(data)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("value", "encoded"), VALUES)
def test_no_prefix_of_a_value_is_a_value(value: object, encoded: bytes) -> None:
    for length in range(len(encoded)):
        with pytest.raises(ValueError, match=r"^.+$"):
            bencode.decode(encoded[:length])


def test_nesting_is_read_up_to_the_limit_and_not_beyond() -> None:
    deepest = b"l" * bencode.MAX_DEPTH + b"e" * bencode.MAX_DEPTH
    assert bencode.encode(bencode.decode(deepest)) == deepest
    with pytest.raises(ValueError, match="nested deeper"):
        bencode.decode(b"l" + deepest + b"e")


def test_the_deepest_value_fits_on_the_smallest_stack_that_a_thread_may_have() -> None:
    decoded: list[object] = []
    before = threading.stack_size(256 * 1024)
    try:
        deepest = b"d1:a" * bencode.MAX_DEPTH + b"i1e" + b"e" * bencode.MAX_DEPTH
        thread = threading.Thread(target=lambda: decoded.append(bencode.decode(deepest)))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert len(decoded) == 1


@pytest.mark.parametrize("value", [None, 1.5, [None], {"a": None}, {1: 2}, {"a": bytearray(b"x")}])
def test_what_bencode_has_no_form_for_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        bencode.encode(value)


values = st.recursive(
    st.integers(-(10**19), 10**19) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=8), inner, max_size=4),
)


@given(values)
def test_what_was_encoded_is_decoded_to_the_same_value(value: object) -> None:
    assert bencode.decode(bencode.encode(value)) == value


@given(st.one_of(st.binary(max_size=60), st.text("ilde0123456789:-a", max_size=60).map(str.encode)))
def test_random_bytes_are_refused_with_value_error_or_are_canonical(data: bytes) -> None:
    try:
        value = bencode.decode(data)
    except ValueError:
        return
    assert bencode.encode(value) == data
