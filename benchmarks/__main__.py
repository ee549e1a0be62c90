"""The body of `python3 run.py bench`: run benchmarks, print their tables. Main thread."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    compose,
    document,
    fans,
    idle,
    recheck,
    rehearsed,
    scale,
    scenarios,
    startstop,
    steps,
    swarm,
    transfer,
)
from benchmarks.composition import workspace
from benchmarks.plan import Plan
from benchmarks.processes import ROOT, BenchmarkError, compile_modules
from benchmarks.report import Report
from orchestra import humans

BENCHMARKS: dict[str, Callable[[Plan], Report]] = {
    "transfer": transfer.run,
    "fans": fans.run,
    "compose": compose.run,
    "recheck": recheck.run,
    "idle": idle.run,
    "scale": scale.run,
    "start-stop": startstop.run,
    "steps": steps.run,
    "swarm": swarm.run,
    "rehearsal": rehearsed.run,
}
SIZES_BYTES = {"swarm": scenarios.SIZE_BYTES}
"""The file's, where it is not 1 GiB."""


def size(text: str) -> int:
    """Bytes from 256M."""
    try:
        return humans.parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: write bytes as 16384, 16K or 1M") from error


def sizes(text: str) -> list[int]:
    """Bytes from 16K,1M."""
    return [size(word) for word in text.split(",")]


def count(text: str) -> int:
    """How often: at least once."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="run.py bench", description="Measure, beside others of the trade.",
        epilog=f"names: {', '.join(BENCHMARKS)}",
    )  # fmt: skip
    parser.add_argument("names", metavar="NAME", nargs="*", help="what to measure (default: everything)")
    parser.add_argument("--runs", type=count, default=5, help="runs of which the median counts (default: 5)")
    parser.add_argument(
        "--peer-runs", type=count, metavar="N",
        help="in a swarm, runs of all but ours, which take most of the time (default: as many)",
    )  # fmt: skip
    parser.add_argument("--size", type=size, help="bytes in the file (default: 1G; 64M in a swarm)")
    parser.add_argument(
        "--parts", type=sizes, default=[1 << 20, 16384], help="part sizes of a transfer (default: 1M,16K)"
    )
    parser.add_argument(
        "--only", metavar="WHO", type=lambda text: text.split(","), default=[],
        help="contenders, by their names or the start of them: ours,libtorrent,limit",
    )  # fmt: skip
    parser.add_argument(
        "--scenario", metavar="S", type=lambda text: text.split(","), default=[],
        help=f"of a swarm, by their names: {', '.join(scenarios.SCENARIOS)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--ours", metavar="DIR", type=Path, default=ROOT,
        help="the checkout whose member.py and conductor.py make a swarm (default: this one)",
    )  # fmt: skip
    parser.add_argument(
        "--write", action="store_true",
        help="put the results into docs/performance.md, those of a swarm into docs/swarm.md",
    )  # fmt: skip
    return parser


def main() -> int:
    """Run what was asked for."""
    parser = make_parser()
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}")
    for checkout in {ROOT, arguments.ours.resolve()}:
        compile_modules(checkout)
    try:
        with workspace() as folder:
            for name in arguments.names or BENCHMARKS:
                plan = plan_of(name, arguments, folder)
                report = BENCHMARKS[name](plan)
                for table in report.all_tables:
                    print(f"\n{table.as_text()}", flush=True)
                if report.skipped:
                    print(f"\n{name}: SKIPPED, {report.skipped}", flush=True)
                elif arguments.write:
                    document.write(name, report, plan)
    except BenchmarkError as error:
        print(f"run.py bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def plan_of(name: str, arguments: argparse.Namespace, folder: Path) -> Plan:
    """The options as a plan."""
    return Plan(
        folder=folder,
        runs=arguments.runs,
        size_bytes=arguments.size or SIZES_BYTES.get(name, 1 << 30),
        part_sizes=tuple(arguments.parts),
        only=tuple(arguments.only),
        scenarios=tuple(arguments.scenario),
        ours=arguments.ours.resolve(),
        peer_runs=arguments.peer_runs,
    )


if __name__ == "__main__":
    sys.exit(main())
