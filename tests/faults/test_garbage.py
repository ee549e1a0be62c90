"""G1, the member's side: garbage on its port. It goes on, quietly, and a good peer is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import figures
from tests.compositions import compose
from tests.garbage import is_served, peak_rss_bytes, streams, throw
from tests.programs import Programs

STREAMS = 150
MOST_RSS_BYTES = 80 * 1024 * 1024


@pytest.mark.fault("G1")
def test_a_member_is_not_moved_by_garbage_on_its_port(programs: Programs, tmp_path: Path) -> None:
    composition = compose(tmp_path / "source", 200_000, 16384)
    orch = composition.write_orch(tmp_path)
    member = programs.start("member", orch, "--dir", composition.folder, "--port", "0")
    address = ("127.0.0.1", member.wait_for_event("listening")["port"])
    score = composition.score
    for data in streams(STREAMS, score.info_hash, score.parts, seed=1):
        throw(address, data)
    waited_s = is_served(address, score.info_hash)
    peak_bytes = peak_rss_bytes(member.pid)
    assert member.process.poll() is None
    assert member.stop() in (-15, 143)
    assert "Traceback" not in member.stderr
    log = "".join(path.read_text() for path in programs.log_dir.iterdir())
    assert "Traceback" not in log
    assert composition.is_at(composition.path)
    figures.note("G1", f"member, after {STREAMS} streams: a good peer waits (s)", f"{waited_s:.2f}")
    figures.note("G1", "member, most memory (MiB)", peak_bytes >> 20)
    assert peak_bytes <= MOST_RSS_BYTES
