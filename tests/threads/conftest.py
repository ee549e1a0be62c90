"""The writer's desk, which four modules of tests share; other modules have desks of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra import pen
from tests.writerdesk import Desk


@pytest.fixture(params=[pen.LEAST_BYTES, 1], ids=["by the writer", "by the pen"])
def desk(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(pen, "LEAST_BYTES", request.param)
    made = Desk(tmp_path / "download")
    made.folder.mkdir()
    yield made
    made.close()
