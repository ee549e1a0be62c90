"""Two hundred transfers through one conductor and one seeder: what they hold stays what it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import figures
from tests.compositions import MIB, compose
from tests.invariants import Invariants, Usage, usage_of
from tests.programs import Program, Programs
from tests.referencepeer import fetch_parts
from tests.swarms import Orchestra

TRANSFERS = 200
WARM_UP = 30
STRANGERS = 250
"""Short visits before: what is remembered of so many peers at most (200 who have left, a hundred shapes of
headers) is there by then. Without them the seeder grew by 1.9 KiB a transfer."""
SLOPE_BYTES = 1024
"""How much a transfer may leave behind in memory."""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")


@needs_proc
@pytest.mark.fault("U2")
def test_200_transfers_leave_nothing_behind(
    programs: Programs, invariants: Invariants, tmp_path: Path
) -> None:
    composition = compose(tmp_path / "source", 4 * MIB, 65536)
    orchestra = Orchestra(programs, composition)
    seeder, conductor = orchestra.seed(), orchestra.conductor
    held: dict[str, list[Usage]] = {"seeder": [], "conductor": []}

    def transfer() -> None:
        member = orchestra.fetch("ours", "--no-seed")
        assert member.wait(600) == 0, member.story()
        assert orchestra.fetched("ours")
        shutil.rmtree(tmp_path / "ours")
        member.close()
        programs.running.remove(member)
        # Nobody else is left, at the conductor and at the seeder.
        orchestra.wait_for_members(complete=1, incomplete=0)
        _wait_for_none(seeder)

    address = ("127.0.0.1", seeder.wait_for_event("listening")["port"])
    for nth in range(STRANGERS):
        fetch_parts(address, composition, range(nth % 64, 64, 8), peer_id=b"-XX0003-%012d" % nth)
    for _ in range(WARM_UP):
        transfer()
    with invariants.settles(seeder, conductor):
        for _ in range(TRANSFERS):
            transfer()
            held["seeder"].append(usage_of(seeder.pid))
            held["conductor"].append(usage_of(conductor.pid))
    for name, usages in held.items():
        slope_bytes = slope([usage.rss_bytes for usage in usages])
        figures.note("U2", f"{name}, bytes of memory more per transfer", round(slope_bytes))
        for what, numbers in (
            ("threads", [usage.threads for usage in usages]),
            ("descriptors", [usage.descriptors for usage in usages]),
        ):
            figures.note("U2", f"{name}, {what}, least and most", (min(numbers), max(numbers)))
            first, last = numbers[: TRANSFERS // 4], numbers[-TRANSFERS // 4 :]
            assert max(last) <= max(first) + 2, f"{what} of the {name}: {numbers}"
        assert slope_bytes <= SLOPE_BYTES, f"memory of the {name}: {[usage.rss_bytes for usage in usages]}"


def _wait_for_none(seeder: Program) -> None:
    seeder.wait_for_event("progress", after=max(0, len(seeder.events) - 1), members=0)


def slope(numbers: list[int]) -> float:
    """How much they grow from one to the next: the line of the least squares."""
    middle, mean = (len(numbers) - 1) / 2, sum(numbers) / len(numbers)
    weights = [nth - middle for nth in range(len(numbers))]
    products = sum(weight * (number - mean) for weight, number in zip(weights, numbers, strict=True))
    return products / sum(weight * weight for weight in weights)
