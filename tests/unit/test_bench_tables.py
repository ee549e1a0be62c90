"""The pure parts of the benchmarks: tables, marks, the picture, and the document's blocks."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest

from benchmarks.document import body, replaced
from benchmarks.measure import Series
from benchmarks.picture import draw
from benchmarks.processes import BenchmarkError, parse_json
from benchmarks.report import Bar, Column, Report, series_table
from benchmarks.tables import Mark, Table, marks_table, mib, number, part_size_text, percent, ratio

SVG = "{http://www.w3.org/2000/svg}"
TABLE = Table("Speeds", ["", "s", "MB/s"], [["ours", "0.70", "1,534"], ["the others", "10.00", "9"]])
DOCUMENT = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nbetween\n<!-- b: begin -->\n<!-- b: end -->\n"


def test_a_text_table_has_its_columns_in_line() -> None:
    assert TABLE.as_text() == (
        "Speeds\n"
        "                s   MB/s\n"
        "------------------------\n"
        "ours         0.70  1,534\n"
        "the others  10.00      9"
    )


def test_a_markdown_table_has_names_left_and_figures_right() -> None:
    assert TABLE.as_markdown() == (
        "**Speeds**\n\n"
        "|  | s | MB/s |\n"
        "| --- | --: | --: |\n"
        "| ours | 0.70 | 1,534 |\n"
        "| the others | 10.00 | 9 |"
    )


def test_figures_are_shown_alike() -> None:
    assert number(1234.567) == "1,234.57"
    assert number(1234.567, 0) == "1,235"
    assert number(math.nan) == percent(math.nan) == mib(math.nan) == "-"
    assert mib(3 << 20) == "3"
    assert percent(0.125) == "12%"
    assert [part_size_text(size) for size in (16384, 1 << 20)] == ["16 KiB", "1 MiB"]


def test_a_ratio_to_what_is_missing_is_not_a_number() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert math.isnan(ratio(1.0, math.nan))
    assert math.isnan(ratio(1.0, 0.0))


@pytest.mark.parametrize(
    ("mark", "met"),
    [
        (Mark("", 1.05, least=1.05), True),
        (Mark("", 1.04, least=1.05), False),
        (Mark("", 1.25, most=1.25), True),
        (Mark("", 1.26, most=1.25), False),
        (Mark("", math.nan, most=1.25), None),
        (Mark("", 1.0), None),
    ],
)
def test_a_mark_is_met_within_its_bound(mark: Mark, met: bool | None) -> None:
    assert mark.met is met


def test_the_marks_say_how_they_came_out() -> None:
    marks = [Mark("fast", 1.3, least=1.05), Mark("slow", 2.0, most=1.0), Mark("?", math.nan, most=1)]
    table = marks_table(marks)
    assert [list(row) for row in table.rows] == [
        ["fast", "1.30", "at least 1.05", "met"],
        ["slow", "2.00", "at most 1.00", "NOT met"],
        ["?", "-", "at most 1.00", "-"],
    ]


def test_who_was_skipped_stands_in_the_table_with_the_reason() -> None:
    one = Series(runs=[{"wall_s": 0.5, "peak_bytes": 1 << 20, "other_load": 0.0}])
    table = series_table("T", {"a": one, "b": Series(skipped="not here")}, [Column("ms", "wall_s", 0, 1e3)])
    assert [list(row) for row in table.rows] == [
        ["a", "500", "1", "0%", "0"],
        ["b: skipped, not here", "", "", "", ""],
    ]
    assert {len(row) for row in table.rows} == {len(table.heading)}


def test_the_picture_has_two_bars_a_contender_as_long_as_their_figures() -> None:
    bars = [
        Bar("1 MiB", "ours", 1000.0, 1.0),
        Bar("1 MiB", "x<&y", 500.0, 2.0),
        Bar("16 KiB", "ours", 250.0, 0.5),
    ]
    root = ET.fromstring(draw(bars))
    ground, *drawn = root.iter(f"{SVG}rect")
    widths = [float(bar.attrib["width"]) for bar in drawn]
    longest = max(widths)
    assert [width / longest for width in widths] == pytest.approx([1, 0.5, 0.5, 1, 0.25, 0.25], abs=0.001)
    assert max(float(bar.attrib["y"]) for bar in drawn) < float(ground.attrib["height"])
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "x<&y" in texts
    assert texts.count("1 MiB") == texts.count("16 KiB") == 1


def test_a_block_of_the_document_is_replaced_and_nothing_else() -> None:
    new = replaced(DOCUMENT, "a", "new")
    assert new == DOCUMENT.replace("old", "new")
    assert replaced(new, "a", "old") == DOCUMENT
    assert "begin -->\nnew\n<!-- b: end" in replaced(DOCUMENT, "b", "new")


@pytest.mark.parametrize("name", ["c", "A", ""])
def test_a_block_that_is_not_there_is_not_invented(name: str) -> None:
    with pytest.raises(BenchmarkError, match="has no block"):
        replaced(DOCUMENT, name, "new")


def test_a_report_becomes_note_conditions_tables_and_marks() -> None:
    text = body(Report([TABLE], [Mark("m", 1.0, least=1.0)], note="What it is."), "a machine")
    assert text.startswith("What it is.\n\n*a machine*\n\n**Speeds**\n\n|")
    assert "| m | 1.00 | at least 1.00 | met |" in text


def test_the_picture_stands_with_the_figures_that_it_shows() -> None:
    with_bars = Report([TABLE], bars=[Bar("g", "ours", 1.0, 1.0)])
    assert "](performance.svg)\n\n**Speeds**" in body(with_bars, "")
    assert "performance.svg" not in body(Report([TABLE]), "")


def test_only_json_objects_are_events() -> None:
    assert parse_json(b'{"event": "done"}') == {"event": "done"}
    assert parse_json(b"Download complete") is None
