"""The scenarios of the swarm benchmark and their bound. Pure.

The bound is that of Kumar and Ross (2006): nobody can have the file sooner
than its only source can send it once, than the slowest download takes, and
than all uploads together can send a copy to everyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.composition import MIB
from benchmarks.links import MBIT, Host, payload_bytes_s

SIZE_BYTES = 64 * MIB
PART_BYTES = 256 * 1024
SMALL_PART_BYTES = 16 * 1024
UP_BIT_S, DOWN_BIT_S = 40 * MBIT, 80 * MBIT
SLOW_UP_BIT_S = 8 * MBIT


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who takes part. `late`: how many of the leechers, the last ones, start at half of T*.

    `leave_copies`: the seeder is stopped once it has uploaded so much.
    `mixed`: the leechers are of two kinds by turns.
    """

    name: str
    text: str
    seeders: tuple[Host, ...]
    leechers: tuple[Host, ...]
    part_bytes: int = PART_BYTES
    late: int = 0
    leave_copies: float | None = None
    mixed: bool = False

    def bound_s(self, size_bytes: int) -> float:
        """T*, from payload rates, as if all were there from the start."""
        return bound_s(
            size_bytes,
            seed_bytes_s=sum(map(up_bytes_s, self.seeders)),
            up_bytes_s=[up_bytes_s(host) for host in self.leechers],
            down_bytes_s=[payload_bytes_s(host.down_bit_s or 0) for host in self.leechers],
        )

    def starts_s(self, size_bytes: int) -> list[float]:
        """When each leecher starts, in seconds after the gate opens."""
        early = len(self.leechers) - self.late
        return [0.0] * early + [self.bound_s(size_bytes) / 2] * self.late


def bound_s(
    size_bytes: int, *, seed_bytes_s: float, up_bytes_s: Sequence[float], down_bytes_s: Sequence[float]
) -> float:
    """The least time in which all leechers can have the file; the rates are of each leecher."""
    everything_bytes = len(up_bytes_s) * size_bytes
    return max(
        size_bytes / seed_bytes_s,
        size_bytes / min(down_bytes_s),
        everything_bytes / (seed_bytes_s + sum(up_bytes_s)),
    )


def up_bytes_s(host: Host) -> float:
    """Payload that a host can send, a second."""
    return payload_bytes_s(host.up_bit_s or 0)


def leechers(*ups_bit_s: float, down_bit_s: float = DOWN_BIT_S) -> tuple[Host, ...]:
    """Leechers with these uploads."""
    return tuple(Host(f"leecher-{number}", up, down_bit_s) for number, up in enumerate(ups_bit_s))


def seeders(number: int = 1, up_bit_s: float = UP_BIT_S) -> tuple[Host, ...]:
    """So many seeders."""
    return tuple(Host(f"seeder-{index}", up_bit_s, DOWN_BIT_S) for index in range(number))


def _crowd(name: str, text: str, number: int = 10, part_bytes: int = PART_BYTES) -> Scenario:
    return Scenario(name, text, seeders(), leechers(*[UP_BIT_S] * number), part_bytes)


def _slow(number: int) -> Scenario:
    """A crowd on links so slow that two cores are enough for all of its processes."""
    crowd = leechers(*[SLOW_UP_BIT_S] * number, down_bit_s=2 * SLOW_UP_BIT_S)
    text = f"{number} leechers, all with 8 Mbit/s up, 16 down"
    return Scenario(f"slow-{number}", text, seeders(1, SLOW_UP_BIT_S), crowd)


_ALIKE = leechers(*[UP_BIT_S] * 10)
_UNLIKE = leechers(*[10 * MBIT, 80 * MBIT] * 5)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        _crowd("S1", "flash crowd: 1 seeder, 10 leechers, and all stay"),
        Scenario(
            "S2", "as S1, but the seeder leaves once it has uploaded 1.15 copies", seeders(), _ALIKE,
            leave_copies=1.15,
        ),
        Scenario("S3", "as S1, but half of the leechers upload 10 Mbit/s, half 80", seeders(), _UNLIKE),
        Scenario("S4", "1 leecher from 8 seeders of 10 Mbit/s", seeders(8, 10 * MBIT), leechers(UP_BIT_S)),
        Scenario("S5", "as S1, but 5 of the leechers start at half of T*", seeders(), _ALIKE, late=5),
        _crowd("S1-16K", "as S1, in parts of 16 KiB", part_bytes=SMALL_PART_BYTES),
        _crowd("S1-20", "as S1, with 20 leechers", 20),
        _crowd("S1-30", "as S1, with 30 leechers", 30),
        _slow(10),
        _slow(20),
        _slow(30),
        Scenario(
            "S4-up", "as S4, but the leecher starts when the seeders are up, at half of T*: 1.5 is the bound",
            seeders(8, 10 * MBIT), leechers(UP_BIT_S), late=1,
        ),
        Scenario("mixed", "as S1, but the leechers are of two kinds by turns", seeders(), _ALIKE, mixed=True),
    )
}  # fmt: skip
