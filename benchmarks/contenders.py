"""Who takes part in a transfer, and how each is started, told to go, and heard to be done.

Main thread. All are timed alike: both sides are up, the seeder has checked its
file, the leecher has its disk space; then the leecher connects (`go_s`), and
is heard to say that the last part is verified and on disk (`done`). `began_s`
of its process is the other start that is reported: the moment before exec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.composition import NOBODY, Composition
from benchmarks.processes import ROOT, Process, Stage
from netutils import Address

HERE = Path(__file__).resolve().parent
LOCAL = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Fetch:
    """A leecher that was told to go. `done` waits for its last part, `settled` until nothing is left."""

    process: Process
    go_s: float
    done: Callable[[], float]
    settled: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Seeder:
    """A seeder that is ready, and where it listens."""

    process: Process
    address: Address


@dataclass(frozen=True, slots=True)
class Contender:
    """`seed` and `fetch` take a stage, a composition and a label; `fetch` a folder and its sources, too."""

    name: str
    seed: Callable[[Stage, Composition, str], Seeder]
    fetch: Callable[[Stage, Composition, str, Sequence[Address]], Fetch]


def leecher_folder(stage: Stage, label: str) -> Path:
    """An empty folder for what a leecher gets."""
    folder = stage.folder / f"{label}-got"
    folder.mkdir()
    return folder


# Ours


def start_conductor(stage: Stage) -> Address:
    """A conductor of this stage's own; where it listens."""
    arguments = ("--host", LOCAL, "--port", 0, "--json", "--log-dir", stage.folder / "logs")
    process = stage.python(ROOT / "conductor.py", *arguments, label="conductor")
    _, event = process.wait_for("listening")
    return LOCAL, event["port"]


def start_member(
    stage: Stage, orch: Path, folder: Path, label: str, *, peers: Sequence[Address] = ()
) -> Process:
    """Start member.py as anyone would."""
    by_hand = [word for host, port in peers for word in ("--peer", f"{host}:{port}")]
    arguments = ("--dir", folder, "--port", 0, "--json", "--log-dir", stage.folder / "logs", *by_hand)
    return stage.python(ROOT / "member.py", orch, *arguments, label=label)


def orch_of(stage: Stage, composition: Composition) -> Path:
    """The .orch of this stage, with a conductor that runs: made the first time."""
    path = stage.folder / f"{composition.score.name}.orch"
    return path if path.exists() else composition.write_orch(stage.folder, start_conductor(stage))


def seed_ours(stage: Stage, composition: Composition, label: str) -> Seeder:
    """A member that has the whole file."""
    process = start_member(stage, orch_of(stage, composition), composition.folder, label)
    _, event = process.wait_for("listening")
    process.wait_for("complete")
    return Seeder(process, (LOCAL, event["port"]))


def fetch_ours(stage: Stage, composition: Composition, label: str, sources: Sequence[Address]) -> Fetch:
    """A member that has nothing. It goes by itself, the moment it listens.

    Our own seeders are found through the conductor; foreign ones, which do not know it, are given by hand.
    """
    parts = composition.score.parts
    folder = leecher_folder(stage, label)
    process = start_member(stage, orch_of(stage, composition), folder, label, peers=sources)
    go_s, _ = process.wait_for("listening")
    return Fetch(
        process,
        go_s,
        lambda: process.wait_for("progress", parts_done=parts)[0],
        lambda: process.wait_for("complete")[0],
    )


# libtorrent


def _libtorrent(stage: Stage, composition: Composition, folder: Path, label: str, mode: str) -> Process:
    torrent = stage.folder / f"{composition.score.name}.torrent"
    if not torrent.exists():
        composition.write_torrent(stage.folder, NOBODY)
    return stage.python(HERE / "peer_libtorrent.py", mode, torrent, folder, label=label)


def libtorrent(mode: str) -> Contender:
    """libtorrent, `tuned` or `stock`; see peer_libtorrent.py for what that means."""

    def seed(stage: Stage, composition: Composition, label: str) -> Seeder:
        process = _libtorrent(stage, composition, composition.folder, label, mode)
        _, event = process.wait_for("ready", finished=True)
        return Seeder(process, (LOCAL, event["port"]))

    def fetch(stage: Stage, composition: Composition, label: str, sources: Sequence[Address]) -> Fetch:
        process = _libtorrent(stage, composition, leecher_folder(stage, label), label, mode)
        return _go(process, sources)

    return Contender(f"libtorrent {mode}", seed, fetch)


def _go(process: Process, sources: Sequence[Address]) -> Fetch:
    process.wait_for("ready")
    process.tell("\n".join(f"{host} {port}" for host, port in sources))
    # libtorrent dials at its next tick, up to a second later: that wait is not counted.
    go_s, _ = process.wait_for("connected")
    return Fetch(
        process,
        go_s,
        lambda: process.wait_for("done")[0],
        lambda: process.wait_for("flushed")[0],
    )


# The limit


def seed_limit(stage: Stage, composition: Composition, label: str) -> Seeder:
    """A sender without a protocol."""
    process = stage.python(HERE / "peer_limit.py", "send", composition.path, label=label)
    _, event = process.wait_for("ready")
    return Seeder(process, (LOCAL, event["port"]))


def fetch_limit(stage: Stage, composition: Composition, label: str, sources: Sequence[Address]) -> Fetch:
    """A receiver without a protocol."""
    path = leecher_folder(stage, label) / composition.score.name
    arguments = ("receive", path, composition.score.size_bytes)
    process = stage.python(HERE / "peer_limit.py", *arguments, label=label)
    process.wait_for("ready")
    go_s = process.tell(f"{sources[0][0]} {sources[0][1]}")

    def done() -> float:
        return process.wait_for("done", sha1=composition.score.sha1.hex())[0]

    return Fetch(process, go_s, done, done)


OURS = Contender("ours", seed_ours, fetch_ours)
TUNED = libtorrent("tuned")
STOCK = libtorrent("stock")
LIMIT = Contender("limit", seed_limit, fetch_limit)


def mixed(seeder: Contender, leecher: Contender) -> Contender:
    """One program's seeder with another one's leecher."""
    return Contender(f"{leecher.name} from {seeder.name}", seeder.seed, leecher.fetch)
