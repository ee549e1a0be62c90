"""The documents as tests read them: commands, code words, links, tables. No more Markdown than they use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.programs import ROOT

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INDENTED_COMMAND = re.compile(r"^ {4}(python3 .*?)(?: {2,}.*)?$", re.MULTILINE)
_CODE_WORD = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """A Markdown file of the checkout."""

    path: Path

    @property
    def name(self) -> str:
        """Its path in the checkout."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def prose(self) -> str:
        """Without fenced blocks."""
        return _FENCED.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of that language."""
        return [body for found, body in _FENCED.findall(self.text) if found == language]

    def code_words(self) -> list[str]:
        """What stands in backticks, outside of fenced blocks."""
        return [" ".join(word.split()) for word in _CODE_WORD.findall(self.prose)]

    def commands(self) -> list[str]:
        """Each command line that it shows: in `sh` blocks, indented, or in a sentence."""
        lines = [line for block in self.blocks("sh") for line in block.splitlines()]
        lines += _INDENTED_COMMAND.findall(self.prose)
        lines += [word for word in self.code_words() if word.startswith("python3 ")]
        return list(dict.fromkeys(lines))

    def links(self) -> list[str]:
        """The targets of its links and pictures, but for other sites."""
        return [target for target in _LINK.findall(self.prose) if "://" not in target]

    def anchors(self) -> set[str]:
        """What a link may have behind a #, as GitHub makes it of the headings."""
        return {
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in _HEADING.findall(self.prose)
        }

    def table_after(self, line: str) -> list[list[str]]:
        """The cells of the first table after a line of that text, without its head."""
        return next(_tables(self.text.split(f"\n{line}\n", 1)[1]))[1:]

    def table_headed(self, *head: str) -> list[list[str]]:
        """The cells of the table with that head."""
        return next(table[1:] for table in _tables(self.text) if table[0] == list(head))


def code_in(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return _CODE_WORD.findall(cell)


def _tables(text: str) -> Iterator[list[list[str]]]:
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if set("".join(cells)) - set("-: "):
                rows.append(cells)
        elif rows:
            yield rows
            rows = []
