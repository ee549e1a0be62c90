"""O3, the long case: a file of 8 GiB, all of it a hole."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestra.score import read_score
from tests import figures
from tests.programs import Programs

SIZE_BYTES = 8 << 30


@pytest.mark.fault("O3")
@pytest.mark.timeout(900)
def test_a_sparse_file_of_8_gib_is_composed(programs: Programs, tmp_path: Path) -> None:
    file = tmp_path / "hole"
    with file.open("wb") as hole:
        hole.truncate(SIZE_BYTES)
    began_s = time.monotonic()
    composer = programs.start("composer", file, "localhost:9999", "-q")
    event = composer.wait_for_event("composed", 600.0)
    figures.note("O3", "8 GiB composed, s", round(time.monotonic() - began_s, 1))
    assert composer.wait(60.0) == 0
    score = read_score(tmp_path / "hole.orch")
    assert (score.size_bytes, score.parts) == (SIZE_BYTES, event["parts"])
    assert len({score.part_sha1(index) for index in range(score.parts)}) == 1
    figures.note("O3", "8 GiB composed, MiB of memory at most", composer.peak_rss_bytes >> 20)
