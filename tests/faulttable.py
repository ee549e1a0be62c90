"""The table of cases in docs/faults.md, and the tests that are marked with them.

`python -m tests.faulttable` fills its last column, and the line of cases that
no test shows yet. tests/cli/test_fault_documents.py fails until that is done.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from tests.programs import ROOT

DOCUMENT = ROOT / "docs" / "faults.md"
_NUMBERS = {"K": 6, "T": 3, "D": 13, "P": 14, "G": 3, "O": 3, "C": 7, "N": 3, "U": 2, "X": 3}
CASES = [f"{letter}{nth}" for letter, last in _NUMBERS.items() for nth in range(1, last + 1)]
"""All of them, in their order."""
_ROW = re.compile(rf"^(\| ({'|'.join(CASES)}) \|.*\|)[^|\n]*\|$", re.MULTILINE)
_NOT_YET = re.compile(r"^Not yet shown by a test: .*$", re.MULTILINE)


def marked(folder: Path = ROOT / "tests") -> dict[str, set[str]]:
    """For each id of a mark `fault(id)` the files with it, as the document names them."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "fault"
            ):
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{path}: an id that is not written out"
                    found[str(argument.value)].add(f"tests/{path.relative_to(folder).as_posix()}")
    return dict(found)


def listed(text: str) -> list[str]:
    """The ids in the table, as they stand."""
    return [case for _, case in _ROW.findall(text)]


def filled(text: str, tests: dict[str, set[str]]) -> str:
    """The document with its column of tests and its list of what is missing."""

    def with_tests(row: re.Match[str]) -> str:
        return f"{row[1]} {' '.join(f'`{name}`' for name in sorted(tests.get(row[2], ()))) or '—'} |"

    missing = ", ".join(case for case in CASES if case not in tests) or "none"
    return _NOT_YET.sub(f"Not yet shown by a test: {missing}.", _ROW.sub(with_tests, text))


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), marked()), encoding="utf-8")
