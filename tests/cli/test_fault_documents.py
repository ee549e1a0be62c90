"""docs/faults.md has each case once and in order, and names the tests that show it."""

from __future__ import annotations

from tests import faulttable
from tests.fuzz import table
from tests.fuzz.engine import Run
from tests.fuzz.registry import TARGETS

TEXT = faulttable.DOCUMENT.read_text(encoding="utf-8")
HINT = "python -m tests.faulttable writes it"


def test_each_case_stands_in_the_table_once_and_in_order() -> None:
    assert faulttable.listed(TEXT) == faulttable.CASES


def test_every_mark_of_a_test_is_a_case() -> None:
    assert not set(faulttable.marked()) - set(faulttable.CASES)


def test_the_tests_of_each_case_and_the_cases_without_one_are_those_of_the_document() -> None:
    assert faulttable.filled(TEXT, faulttable.marked()) == TEXT, HINT


def test_a_case_without_a_test_and_a_new_test_are_noticed() -> None:
    tests = faulttable.marked()
    fewer = {case: names for case, names in tests.items() if case != "K1"}
    assert "test: K1," in faulttable.filled(TEXT, fewer) or "test: K1." in faulttable.filled(TEXT, fewer)
    more = {**tests, "K1": {"tests/faults/test_new.py"}}
    assert "`tests/faults/test_new.py` |" in faulttable.filled(TEXT, more)


def test_each_target_of_fuzzing_stands_in_its_table_once_and_in_order() -> None:
    assert table.listed(TEXT) == list(TARGETS)


def test_what_came_of_a_run_goes_into_the_row_of_its_target_and_nowhere_else() -> None:
    run = Run("pex", inputs=1_000_000, slowest_s=0.00123, outcomes={"one", "two"})
    run.start_rss_bytes, run.end_rss_bytes = 35_600_000, 35_700_000
    before, after = TEXT.splitlines(), table.filled(TEXT, run).splitlines()
    [new] = set(after) - set(before)
    assert new == "| `pex` | peer exchange (BEP 11) | 1,000,000 | 2 | 1.23 | 35.6 → 35.7 |"
    assert len(after) == len(before)
