"""G1 at its full size, the member's side."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path

import pytest

from tests import figures
from tests.compositions import compose
from tests.garbage import is_served, peak_rss_bytes, streams, throw
from tests.programs import Programs

STREAMS, PACKETS = 2000, 20_000
MOST_RSS_BYTES = 80 * 1024 * 1024


@pytest.mark.fault("G1")
@pytest.mark.timeout(900)
def test_a_member_is_not_moved_by_thousands_of_streams_and_packets(
    programs: Programs, tmp_path: Path
) -> None:
    composition = compose(tmp_path / "source", 200_000, 16384)
    orch = composition.write_orch(tmp_path)
    member = programs.start("member", orch, "--dir", composition.folder, "--port", "0")
    address = ("127.0.0.1", member.wait_for_event("listening")["port"])
    score = composition.score
    rng = random.Random(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(PACKETS):
            sock.sendto(rng.randbytes(rng.randrange(1, 1400)), address)
    for data in streams(STREAMS, score.info_hash, score.parts, seed=2):
        throw(address, data)
    waited_s = is_served(address, score.info_hash)
    cpu_s = _cpu_s(member.pid)
    time.sleep(5.0)
    idle_s = _cpu_s(member.pid) - cpu_s
    peak_bytes = peak_rss_bytes(member.pid)
    assert member.stop() in (-15, 143)
    assert "Traceback" not in member.stderr
    figures.note(
        "G1", f"member, {STREAMS} streams, {PACKETS} packets: a good peer waits (s)", f"{waited_s:.2f}"
    )
    figures.note("G1", "member, processor in the 5 s afterwards (s)", f"{idle_s:.2f}")
    figures.note("G1", "member, most memory (MiB)", peak_bytes >> 20)
    assert waited_s <= 5.0
    assert idle_s <= 0.5
    assert peak_bytes <= MOST_RSS_BYTES


def _cpu_s(pid: int) -> float:
    """The processor's time that a process has had; 0 where the system does not tell."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
