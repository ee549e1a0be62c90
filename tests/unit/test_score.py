from __future__ import annotations

import hashlib
import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netutils import Address
from orchestra.errors import ExitCode, ScoreError, StorageError
from orchestra.names import NameProblem, check_name
from orchestra.score import (
    MAX_PARTS,
    MAX_SIZE_BYTES,
    Score,
    default_part_size,
    format_score,
    parse_conductors,
    parse_score,
    part_count,
    read_score,
)
from orchestra.scorelines import MAX_LINE_BYTES, MAX_SCORE_BYTES, FieldProblem
from tests.unit.test_names import GOOD_NAMES

EXAMPLE_FILE = Path(__file__).parents[1] / "data" / "maxresdefault.orch"
EXAMPLE = EXAMPLE_FILE.read_bytes()
EXAMPLE_LINES = EXAMPLE.decode().split("\n")[:-1]
KIB, MIB, GIB = 1024, 1024**2, 1024**3
HOME: tuple[Address, ...] = (("localhost", 9999),)


def example_with(line: int, text: str | bytes) -> bytes:
    """The example with another text on a line (from 1)."""
    lines = EXAMPLE.split(b"\n")
    lines[line - 1] = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return b"\n".join(lines)


def make_score(
    size_bytes: int, part_size_bytes: int, conductors: tuple[Address, ...] = HOME, name: str = "n"
) -> Score:
    """A score with hashes of its own, right in form."""
    parts = part_count(size_bytes, part_size_bytes)
    sha1s = random.Random(parts).randbytes(20 * parts)
    return Score(conductors, name, hashlib.sha1(sha1s).digest(), size_bytes, part_size_bytes, sha1s)


# What is right


def test_the_example_that_defines_the_format_is_read_and_written_to_the_byte() -> None:
    score = parse_score(EXAMPLE, "x.orch")
    assert score.conductors == (("192.168.1.1", 9999),)
    assert score.name == "maxresdefault.jpg"
    assert score.sha1.hex() == "2953289a34e0cc2bf776decc3f8b86622d66b705"
    assert (score.size_bytes, score.part_size_bytes, score.parts) == (142044, 16384, 9)
    assert score.part_sha1(0).hex() == "d53bff7979a4ac6f56da2f7085e6c2dff49656eb"
    assert score.part_sha1(8).hex() == "c0a63314f9a0e677ecdd5bebeb5b746024deabba"
    assert [score.part_length(index) for index in (0, 7, 8)] == [16384, 16384, 142044 - 8 * 16384]
    assert format_score(score) == EXAMPLE
    assert read_score(EXAMPLE_FILE) == score


def test_the_document_of_the_format_shows_that_example_and_its_error() -> None:
    document = (Path(__file__).parents[2] / "docs" / "orch-format.md").read_text(encoding="utf-8")
    blocks = document.split("```")[1::2]
    assert blocks[0].lstrip("\n") == EXAMPLE.decode()
    assert parse_score(EXAMPLE, "x").info_hash.hex() in document
    with pytest.raises(ScoreError) as caught:
        parse_score(example_with(6, "10"), "x.orch")
    assert blocks[2].strip() == str(caught.value)


def test_the_info_hash_of_the_example_is_what_another_tool_computes() -> None:
    # lines 7 and up to hex; the dictionary by hand; hashed by coreutils:
    # (printf 'd6:lengthi142044e4:name17:maxresdefault.jpg12:piece lengthi16384e6:pieces180:';
    #  tail -n +7 maxresdefault.orch | xxd -r -p; printf e) | sha1sum
    assert parse_score(EXAMPLE, "x").info_hash.hex() == "3a5e3b7c7fb66d1465f2b24929e7c1b0c43abad5"


@pytest.mark.parametrize("part_size_bytes", [1, 1000, 16384, 20000, MIB])
@pytest.mark.parametrize("size_bytes", [0, 1, 2, 1000, 16384, 20000, 40000, 40001])
def test_sizes_and_part_sizes_round_trip_to_the_byte(size_bytes: int, part_size_bytes: int) -> None:
    score = make_score(size_bytes, part_size_bytes)
    text = format_score(score)
    assert text.count(b"\n") == 6 + score.parts
    again = parse_score(text, "x")
    assert again == score
    assert again.info_hash == score.info_hash
    assert format_score(again) == text


@pytest.mark.parametrize("size_bytes", [3 * MIB, 3 * MIB + 1, 5 * GIB, MAX_SIZE_BYTES])
def test_large_sizes_round_trip_to_the_byte(size_bytes: int) -> None:
    text = format_score(make_score(size_bytes, max(MIB, size_bytes // 100)))
    assert format_score(parse_score(text, "x")) == text


@pytest.mark.parametrize(
    "line",
    [
        "localhost:1",
        "tracker.example.org:65535",
        "[::1]:9999",
        "[2001:DB8::1]:9999",
        "[fe80::1%eth0]:9999",
        "10.0.0.1:9999,[2001:db8::2]:80,backup.example:9998",
    ],
)
def test_conductors_round_trip_to_the_byte(line: str) -> None:
    text = example_with(1, line)
    assert format_score(parse_score(text, "x")) == text


def test_several_conductors_keep_their_order_and_lose_the_blanks_of_a_hand_edit() -> None:
    score = parse_score(example_with(1, " b.example:2 ,\ta.example:1"), "x")
    assert score.conductors == (("b.example", 2), ("a.example", 1))
    assert format_score(score).startswith(b"b.example:2,a.example:1\nmaxres")


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names_round_trip_to_the_byte(name: str) -> None:
    text = example_with(2, name)
    score = parse_score(text, "x")
    assert score.name == name
    assert format_score(score) == text


@pytest.mark.parametrize("lines_with_cr", [range(15), [0], [14], [5, 6, 9]])
def test_crlf_is_read_on_any_line_and_lf_is_written(lines_with_cr: list[int]) -> None:
    text = b"".join(
        line.encode() + (b"\r\n" if number in lines_with_cr else b"\n")
        for number, line in enumerate(EXAMPLE_LINES)
    )
    assert format_score(parse_score(text, "x")) == EXAMPLE


def test_a_missing_last_newline_is_accepted_and_written() -> None:
    assert format_score(parse_score(EXAMPLE[:-1], "x")) == EXAMPLE
    empty = format_score(make_score(0, 16384))
    assert format_score(parse_score(empty[:-1], "x")) == empty


def test_upper_case_hex_is_read_and_lower_case_is_written() -> None:
    lines = [line.upper() if len(line) == 40 else line for line in EXAMPLE_LINES]
    assert format_score(parse_score("\n".join(lines).encode(), "x")) == EXAMPLE


@given(
    st.integers(0, MAX_SIZE_BYTES),
    st.integers(1, 60),
    st.lists(
        st.tuples(st.sampled_from(["localhost", "10.1.2.3", "::1", "a-b.example"]), st.integers(1, 65535)),
        min_size=1,
        max_size=4,
    ),
    st.text(min_size=1, max_size=60),
)
def test_whatever_a_score_may_hold_is_read_back_the_same(
    size_bytes: int, most_parts: int, conductors: list[Address], name: str
) -> None:
    try:
        check_name(name)
    except NameProblem:
        name = "n"
    part_size_bytes = max(1, part_count(size_bytes, most_parts))
    score = make_score(size_bytes, part_size_bytes, tuple(conductors), name)
    text = format_score(score)
    assert parse_score(text, "x") == score
    assert format_score(parse_score(text, "x")) == text


@given(st.integers(2_000, 90_000), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_parts_are_read_alike_wherever_the_chunks_of_the_file_are_cut(
    parts: int, line_end: bytes, last_newline: bool
) -> None:
    score = make_score(parts, 1)
    text = format_score(score).replace(b"\n", line_end)
    assert parse_score(text if last_newline else text.removesuffix(line_end), "x") == score


@pytest.mark.parametrize(
    ("size_bytes", "part_size_bytes"),
    [
        (0, 16 * KIB),
        (1, 16 * KIB),
        (256 * MIB, 16 * KIB),
        (256 * MIB + 1, 32 * KIB),
        (512 * MIB, 32 * KIB),
        (512 * MIB + 1, 64 * KIB),
        (100 * GIB, 8 * MIB),
    ],
)
def test_the_default_part_size_makes_at_most_16384_parts(size_bytes: int, part_size_bytes: int) -> None:
    assert default_part_size(size_bytes) == part_size_bytes


# Files


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="none.orch: cannot read the .orch: No such file") as caught:
        read_score(tmp_path / "none.orch")
    assert caught.value.exit_code == ExitCode.STORAGE


def test_a_folder_is_no_orch(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="is a folder, not a file"):
        read_score(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "x.orch"
    os.mkfifo(pipe)
    with pytest.raises(ScoreError, match="is a named pipe, not a file"):
        read_score(pipe)
    with pytest.raises(ScoreError, match="is a device, not a file"):
        read_score(Path("/dev/zero"))


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "x.orch"
    with file.open("wb") as sparse:
        sparse.truncate(200 * GIB)
    with pytest.raises(ScoreError, match="larger than a .orch may be"):
        read_score(file)


def test_a_million_parts_are_read_and_written(tmp_path: Path) -> None:
    score = make_score(1_000_000, 1)
    file = tmp_path / "x.orch"
    file.write_bytes(format_score(score))
    assert read_score(file) == score


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux reports it")
def test_a_declared_size_allocates_nothing() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = example_with(4, str(MAX_SIZE_BYTES)).split(b"\n")
    text[4], text[5] = str(MAX_SIZE_BYTES // 1_000_000).encode(), b"1000001"
    with pytest.raises(ScoreError, match="part 10 of 1000001 is missing"):
        parse_score(b"\n".join(text), "x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * KIB


# The constructor


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"conductors": ()}, 1),
        ({"conductors": (("a b", 1),)}, 1),
        ({"conductors": (("a", 0),)}, 1),
        ({"conductors": (("a:1,b", 1),)}, 1),
        ({"name": "../x"}, 2),
        ({"sha1": b"short"}, 3),
        ({"size_bytes": -1}, 4),
        ({"size_bytes": MAX_SIZE_BYTES + 1}, 4),
        ({"part_size_bytes": 0}, 5),
        ({"size_bytes": MAX_PARTS + 1, "part_size_bytes": 1}, 5),
        ({"part_sha1s": bytes(19)}, 6),
        ({"part_sha1s": bytes(40)}, 6),
    ],
)
def test_no_score_can_be_made_that_the_format_does_not_allow(changes: dict[str, object], line: int) -> None:
    fields: dict[str, object] = {
        "conductors": HOME,
        "name": "n",
        "sha1": bytes(20),
        "size_bytes": 5,
        "part_size_bytes": 5,
        "part_sha1s": bytes(20),
    }
    assert Score(**fields).parts == 1  # type: ignore[arg-type]
    with pytest.raises(FieldProblem) as caught:
        Score(**{**fields, **changes})  # type: ignore[arg-type]
    assert caught.value.line == line


def test_the_largest_score_that_can_be_made_can_be_read() -> None:
    name = "x" * 240
    longest = tuple(("y" * 60 + ".example", 65535) for _ in range(108))
    score = make_score(MAX_PARTS, 1, longest, name)
    text = format_score(score)
    assert MAX_SCORE_BYTES - 2 * MAX_LINE_BYTES < len(text) <= MAX_SCORE_BYTES
    assert parse_score(text, "x") == score


def test_conductors_on_a_command_line_are_read_as_on_line_1() -> None:
    assert parse_conductors("a:1, [::1]:2") == (("a", 1), ("::1", 2))
    with pytest.raises(ValueError, match="without http"):
        parse_conductors("http://a:1")
