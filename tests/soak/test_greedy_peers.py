"""Peers that take all they can and give nothing, on links of 20 Mbit/s: what is left for the others."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from pathlib import Path

import pytest

from tests import figures
from tests.compositions import MIB, Composition, compose
from tests.hosts import Hosts, ipv4, needs_hosts
from tests.programs import ROOT, Programs

pytestmark = needs_hosts

SEEDERS, LEECHERS, GREEDY = 2, 3, 10
BIT_S = 20e6
RUNS = 3
PORT, MEMBER_PORT = 9999, 6881


def leechers_s(programs: Programs, composition: Composition, folder: Path, greedy: int) -> float:
    """How long until the last honest leecher is complete; the greedy ones are there before the leechers."""
    orch = composition.write_orch(programs.folder)
    honest = SEEDERS + LEECHERS
    with Hosts(programs, honest + greedy, bit_s=BIT_S) as hosts:
        hosts.start(0, "conductor", "--port", str(PORT)).wait_for_event("listening")
        for number in range(SEEDERS):
            words = ("--dir", composition.folder, "--port", str(MEMBER_PORT))
            hosts.start(number, "member", orch, *words).wait_for_event("listening")
        victims = [f"{ipv4(number)}:{MEMBER_PORT}" for number in range(honest)]
        for number in range(honest, honest + greedy):
            command = [sys.executable, str(ROOT / "tests/greedy.py"), str(orch), *victims]
            hosts.run(number, command, "greedy").was_killed = True
        if greedy:
            time.sleep(2.0)
        began_s = time.monotonic()
        leechers = [
            hosts.start(number, "member", orch, "--dir", folder / str(number), "--port", str(MEMBER_PORT))
            for number in range(SEEDERS, honest)
        ]
        for leecher in leechers:
            leecher.wait_for_event("complete", 300)
        took_s = time.monotonic() - began_s
    for number in range(SEEDERS, honest):
        assert composition.is_at(folder / str(number) / "piece.bin")
    shutil.rmtree(folder)
    return took_s


@pytest.mark.fault("P13")
@pytest.mark.timeout(1800)
def test_ten_greedy_peers_cost_the_honest_ones_half_the_time_again_at_most(
    programs: Programs, tmp_path: Path
) -> None:
    composition = compose(tmp_path / "source", 48 * MIB, 256 * 1024).conducted_by((ipv4(0), PORT))
    clean_s = statistics.median(leechers_s(programs, composition, tmp_path / "clean", 0) for _ in range(RUNS))
    greedy_s = statistics.median(
        leechers_s(programs, composition, tmp_path / "greedy", GREEDY) for _ in range(RUNS)
    )
    figures.note("P13", "3 leechers alone, s", f"{clean_s:.1f}")
    figures.note("P13", f"the same among {GREEDY} greedy peers, times as long", f"{greedy_s / clean_s:.2f}")
    assert greedy_s <= 1.5 * clean_s
