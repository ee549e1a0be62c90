from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import ExitCode, ScoreError
from orchestra.score import MAX_SIZE_BYTES, format_score, parse_score
from orchestra.scorelines import MAX_SCORE_BYTES
from tests.unit.test_names import HOSTILE_NAMES
from tests.unit.test_score import EXAMPLE, EXAMPLE_LINES, MIB, example_with, make_score

NUMBERS: list[str | bytes] = [
    "",
    " ",
    "-1",
    "+5",
    "1_000",
    " 12",
    "12 ",
    "12\t",
    "012",
    "00",
    "1.0",
    "1e3",
    "0x10",
    "12x",
    "16K",
    "\uff11\uff12",
    "\u0661",
    "²",
    "12\x00",
    "12\x0b",
    "12\x85",
    "12\u2028",
    "1\u00a0000",
    "1,000",
    "nan",
    "True",
    "99999999999999999",
    "9" * 5000,
    b"\xff12",
]
SHA1 = EXAMPLE_LINES[2]
HASHES: list[str | bytes] = [
    "",
    " ",
    SHA1[:-1],
    SHA1 + "0",
    SHA1[:-1] + "g",
    SHA1[:-1] + " ",
    SHA1[:-2] + "  ",
    " " + SHA1[:-1],
    SHA1[:18] + "  " + SHA1[20:],
    "0x" + SHA1[:-2],
    SHA1[:-1] + "\x00",
    SHA1[:-1] + "\r",
    "\r" + SHA1[:-1],
    SHA1[:-1] + "\x0b",
    SHA1[:-1] + "\uff11",
    SHA1[:37] + "\u0661",
    "-" * 40,
    SHA1 + " ",
    SHA1 + "\r",
    SHA1 * 2,
    "é" * 20,
    b"\xff" * 40,
]
CONDUCTORS: list[tuple[str | bytes, str]] = [
    ("", "missing"),
    (" ", "missing"),
    (",", "missing"),
    ("a:1,", "missing"),
    (",a:1", "missing"),
    ("a:1,,b:2", "missing"),
    ("localhost", "no port"),
    (":9999", "no host"),
    ("a:", "port must be"),
    ("a:0", "port must be"),
    ("a:65536", "port must be"),
    ("a:-1", "port must be"),
    ("a:+1", "port must be"),
    ("a:1_0", "port must be"),
    ("a:\uff19", "port must be"),
    ("a:1 2", "port must be"),
    ("a:" + "1" * 5000, "port must be"),
    ("::1:9999", "IPv6"),
    ("[::1]", "IPv6"),
    ("[::1:9999", "IPv6"),
    ("[::1]9999", "IPv6"),
    ("[zz]:1", "IPv6"),
    ("http://localhost:9999", "without http://"),
    ("http://localhost:9999/announce", "without http://"),
    ("localhost:9999/announce", "without a path"),
    ("udp://a:1", "without http://"),
    ("a b:1", "not a host name"),
    ("a;b:1", "not a host name"),
    ("h\u00f6st:1", "not a host name"),
    ("a\x00b:1", "not a host name"),
    ("\x1b[31m:1", "not a host name"),
    ("a\u2028b:1", "not a host name"),
    ("1.2.3:1", "IPv4"),
    ("1.2.3.256:1", "IPv4"),
    ("x" * 254 + ":1", "longer than"),
    ("a:1," * 3000, "longer than 8192"),
    ("a" * 100_000, "longer than 8192"),
    ("\ufefflocalhost:9999", "byte-order mark"),
    ("localhost:9999".encode("utf-16"), "UTF-16"),
    (b"\xfflocalhost:1", "UTF-8"),
    (b"loc\xe9:1", "UTF-8"),
]

TAIL: list[tuple[str | bytes, str]] = [
    ("\n", "empty line after the last part"),
    ("\r\n", "empty line after the last part"),
    ("\n\n", "empty line after the last part"),
    (" ", "more text"),
    ("\x00", "more text"),
    ("\x1a", "more text"),
    ("# a comment\n", "more text"),
    (EXAMPLE_LINES[6] + "\n", "more text"),
    (EXAMPLE_LINES[6], "more text"),
    (EXAMPLE, "more text"),
    ("142044 maxresdefault.jpg\n", "is a folder"),
    ("1 ../x\n", "is a folder"),
    ("\u2028", "more text"),
    (b"\xff\xfe", "more text"),
    ("x" * 3 * MIB, "longer than 8192"),
    ("x\n" * MIB, "more text"),
]


def wrong_files() -> list[tuple[str, bytes, int, str]]:
    """A name, the text of a broken .orch, and what the error must say: the line, and a pattern."""
    cases: list[tuple[str, bytes, int, str]] = []
    for number, (text, reason) in enumerate(CONDUCTORS):
        cases.append((f"conductor-{number}", example_with(1, text), 1, reason))
    for number, (name, reason) in enumerate(HOSTILE_NAMES):
        if "\n" not in name:
            cases.append((f"name-{number}", example_with(2, name), 2, f"{reason}|UTF-8"))
    cases.append(("name-forging-lines", example_with(2, "a\u2028b\x85c\x0bd\x1ce"), 2, "separator"))
    cases.append(("name-too-long", example_with(2, "x" * 9000), 2, "the name is longer than"))
    for number, digits in enumerate(HASHES):
        if digits != SHA1 + "\r":
            cases.append((f"sha1-{number}", example_with(3, digits), 3, "SHA-1 of the composition"))
            cases.append((f"part-{number}", example_with(7, digits), 7, "SHA-1 of part 1"))
            cases.append((f"last-part-{number}", example_with(15, digits), 15, "SHA-1 of part 9"))
    for line, field in ((4, "size in bytes"), (5, "part size in bytes"), (6, "number of parts")):
        for number, digits in enumerate(NUMBERS):
            cases.append((f"{field.replace(' ', '-')}-{number}", example_with(line, digits), line, field))
    cases += [
        ("size-beyond-2-53", example_with(4, str(MAX_SIZE_BYTES + 1)), 4, "from 0 to"),
        ("part-size-0", example_with(5, "0"), 5, "from 1 to"),
        ("part-size-beyond-2-53", example_with(5, str(MAX_SIZE_BYTES + 1)), 5, "from 1 to"),
        ("parts-of-1-byte-of-a-huge-file", example_with(4, str(MAX_SIZE_BYTES)), 5, "more than 64 MiB"),
        ("one-part-more", example_with(6, "10"), 6, "10 parts, but 142044 bytes .* make 9"),
        ("one-part-less", example_with(6, "8"), 6, "8 parts, but 142044 bytes .* make 9"),
        ("no-parts", example_with(6, "0"), 6, "0 parts, but"),
        ("a-size-of-one-part-more", example_with(4, str(9 * 16384 + 1)), 6, "9 parts, but"),
        ("size-0-with-parts", example_with(4, "0"), 6, "9 parts, but 0 bytes"),
        ("empty", b"", 1, "the conductor is missing"),
        ("only-a-newline", b"\n", 1, "missing"),
        ("only-crlf", b"\r\n", 1, "missing"),
        ("nul", b"\x00" * 100, 1, "no port|not a host name"),
        ("a-blank-line-on-top", b"\n" + EXAMPLE, 1, "a conductor is missing"),
        ("utf-16", EXAMPLE.decode().encode("utf-16"), 1, "UTF-16"),
        ("old-mac-line-ends", EXAMPLE.replace(b"\n", b"\r"), 1, "port must be"),
        ("a-torrent", b"d8:announce30:http://localhost:9999/announce4:infodee", 1, "without http://"),
        ("a-png", b"\x89PNG\r\n\x1a\n" + bytes(100), 1, "UTF-8"),
        ("one-endless-line", b"x" * 5 * MIB, 1, "longer than"),
    ]
    for number, (tail, reason) in enumerate(TAIL):
        data = tail if isinstance(tail, bytes) else tail.encode()
        cases.append((f"tail-{number}", EXAMPLE + data, 16, reason))
    missing = ["conductor", "name", "SHA-1 of the composition", "size", "part size", "number of parts"]
    missing += [f"SHA-1 of part {part} of 9" for part in range(1, 10)]
    for line, field in enumerate(missing, start=1):
        kept = EXAMPLE_LINES[: line - 1]
        text = "".join(f"{one}\n" for one in kept).encode()
        cases.append((f"ends-before-line-{line}", text, line, f"{field}.* is missing"))
    return cases


WRONG_FILES = wrong_files()


def test_the_corpus_of_wrong_files_is_as_large_as_promised() -> None:
    assert len(WRONG_FILES) >= 150
    assert len({text for _, text, _, _ in WRONG_FILES}) > 0.95 * len(WRONG_FILES)


@pytest.mark.parametrize(
    ("text", "line", "reason"), [case[1:] for case in WRONG_FILES], ids=[case[0] for case in WRONG_FILES]
)
def test_a_wrong_file_is_one_short_printable_error_that_names_the_line(
    text: bytes, line: int, reason: str
) -> None:
    with pytest.raises(ScoreError) as caught:
        parse_score(text, "x.orch")
    message = str(caught.value)
    assert message.startswith(f"x.orch: line {line}: ")
    assert re.search(reason, message)
    assert message.isprintable()
    assert len(message) < 330
    assert caught.value.exit_code == ExitCode.SCORE


@pytest.mark.parametrize("line", range(1, 16))
def test_a_line_that_is_left_out_is_noticed_at_the_latest_where_the_next_does_not_fit(line: int) -> None:
    text = "".join(f"{one}\n" for one in EXAMPLE_LINES[: line - 1] + EXAMPLE_LINES[line:])
    with pytest.raises(ScoreError, match=f"line ({line}|{line + 1}|6|15): "):
        parse_score(text.encode(), "x.orch")


@pytest.mark.parametrize("line", range(1, 16))
def test_a_line_that_is_doubled_is_noticed(line: int) -> None:
    text = "".join(f"{one}\n" for one in EXAMPLE_LINES[:line] + EXAMPLE_LINES[line - 1 :])
    # The conductor's line is, in form, a name.
    expected = "line 3: " if line == 1 else f"line ({line + 1}|6|16): "
    with pytest.raises(ScoreError, match=expected):
        parse_score(text.encode(), "x.orch")


def test_no_prefix_of_a_file_is_a_file_but_the_one_without_the_last_newline() -> None:
    for length in range(len(EXAMPLE) - 1):
        with pytest.raises(ScoreError):
            parse_score(EXAMPLE[:length], "x.orch")


def test_of_several_wrong_lines_the_first_is_named() -> None:
    for line in range(1, 16):
        text = b"\n".join([b" "] * 15)
        good = EXAMPLE.split(b"\n")[: line - 1]
        with pytest.raises(ScoreError, match=f"line {line}: "):
            parse_score(b"\n".join([*good, text]), "x")


def test_the_wrong_line_is_named_far_down_too() -> None:
    parts = 100_000
    lines = format_score(make_score(parts, 1)).split(b"\n")
    for line in (7, 25_581, 25_582, 25_583, 60_000, 100_006):
        broken = list(lines)
        broken[line - 1] = broken[line - 1][:-1] + b"G"
        with pytest.raises(ScoreError, match=f"line {line}: the SHA-1 of part {line - 6} must be"):
            parse_score(b"\n".join(broken), "x")
        broken[line - 1] = b""
        with pytest.raises(ScoreError, match=f'line {line}: .* 40 hex digits, not ""'):
            parse_score(b"\n".join(broken), "x")
        del broken[line - 1]
        with pytest.raises(ScoreError, match="line 100006: the SHA-1 of part 100000 of 100000 is missing"):
            parse_score(b"\n".join(broken), "x")


def test_two_wrong_lines_whose_lengths_make_up_for_each_other_are_noticed() -> None:
    lines = EXAMPLE.split(b"\n")
    lines[8], lines[9] = lines[8] + lines[9][:2], lines[9][2:]
    with pytest.raises(ScoreError, match="line 9: the SHA-1 of part 3"):
        parse_score(b"\n".join(lines), "x")
    swapped = EXAMPLE[:-41] + EXAMPLE[-41:-31] + b"\n" + EXAMPLE[-30:]
    with pytest.raises(ScoreError, match="line 15: the SHA-1 of part 9"):
        parse_score(swapped, "x")


def test_the_source_is_named_in_printable_characters() -> None:
    with pytest.raises(ScoreError) as caught:
        parse_score(b"", "\x1b[31m\n.orch")
    assert str(caught.value).startswith("\\x1b[31m\\x0a.orch: line 1: ")


def test_text_beyond_64_mib_is_refused_by_its_length() -> None:
    with pytest.raises(ScoreError, match="larger than a .orch may be"):
        parse_score(bytes(MAX_SCORE_BYTES + 1), "x.orch")


@given(st.binary(max_size=200))
def test_random_bytes_are_a_score_error(data: bytes) -> None:
    with pytest.raises(ScoreError):
        parse_score(data, "x")


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255), st.sampled_from(["flip", "insert", "delete"]))
def test_a_damaged_example_is_a_score_error_or_a_score_that_round_trips(
    place: int, byte: int, damage: str
) -> None:
    new = b"" if damage == "delete" else bytes([byte])
    data = EXAMPLE[:place] + new + EXAMPLE[place + (damage != "insert") :]
    try:
        score = parse_score(data, "x")
    except ScoreError:
        return
    assert parse_score(format_score(score), "x") == score
