"""Who takes part in a transfer, and how each is started, told to go, and heard to be done.

Main thread. All are timed alike: both sides are up and the seeder has checked
its file; then the leecher connects (`go_s`), and is heard to say that the last
part is verified and on disk (`done`). `began_s` of its process is the other
start that is reported: the moment before exec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.composition import Composition
from benchmarks.conductors import LOCAL, Conductor
from benchmarks.processes import ROOT, Process, Stage
from netutils import Address

HERE = Path(__file__).resolve().parent


class Scene:
    """A stage, what is moved on it, and a conductor that is started when someone needs it."""

    def __init__(self, stage: Stage, composition: Composition) -> None:
        self.stage = stage
        self.composition = composition
        self.announced_seeders = 0

    @cached_property
    def conductor(self) -> Conductor:
        """A conductor of this scene's own."""
        return Conductor(self.stage)

    @cached_property
    def orch(self) -> Path:
        """The .orch that names the conductor."""
        return self.composition.write_orch(self.stage.folder, self.conductor.address)

    @cached_property
    def torrent(self) -> Path:
        """The .torrent for those who are told their peers: it names nobody who answers."""
        return self.composition.write_torrent(self.stage.folder)

    def empty_folder(self, label: str) -> Path:
        """Where the leecher of that label puts what it gets."""
        folder = self.stage.folder / f"{label}-got"
        folder.mkdir()
        return folder

    def wait_for_announced(self) -> None:
        """Another seeder is ready; wait until the conductor knows of it."""
        self.announced_seeders += 1
        self.conductor.wait_for_seeders(self.composition.score.info_hash, self.announced_seeders)


@dataclass(frozen=True, slots=True)
class Seeder:
    """A seeder that is ready. `announced`: the scene's conductor knows it."""

    process: Process
    address: Address
    announced: bool = False


@dataclass(frozen=True, slots=True)
class Leecher:
    """A leecher that was told to go. `done` waits for its last part, `settled` until nothing is left."""

    process: Process
    go_s: float
    done: Callable[[], float]
    settled: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Contender:
    """`seed` starts a seeder, `fetch` a leecher of these seeders; the text is the label of the process."""

    name: str
    seed: Callable[[Scene, str], Seeder]
    fetch: Callable[[Scene, str, Sequence[Seeder]], Leecher]


# Ours


def start_member(
    stage: Stage,
    orch: Path,
    folder: Path,
    label: str,
    *,
    peers: Sequence[Address] = (),
    stdin: int | None = None,
) -> Process:
    """Start member.py as anyone would."""
    by_hand = [word for host, port in peers for word in ("--peer", f"{host}:{port}")]
    options = ("--dir", folder, "--port", 0, "--json", "--log-dir", stage.folder / "logs", *by_hand)
    return stage.python(ROOT / "member.py", orch, *options, label=label, stdin=stdin)


def seed_ours(scene: Scene, label: str) -> Seeder:
    """A member that has the whole file."""
    process = start_member(scene.stage, scene.orch, scene.composition.folder, label)
    _, event = process.wait_for("listening")
    process.wait_for("complete")
    scene.wait_for_announced()
    return Seeder(process, (LOCAL, event["port"]), announced=True)


def fetch_ours(scene: Scene, label: str, seeders: Sequence[Seeder]) -> Leecher:
    """A member that has nothing. It goes by itself, the moment it listens.

    It finds our own seeders through the conductor; others are given by hand.
    """
    by_hand = [seeder.address for seeder in seeders if not seeder.announced]
    process = start_member(scene.stage, scene.orch, scene.empty_folder(label), label, peers=by_hand)
    go_s, _ = process.wait_for("listening")
    return leecher_of(process, scene, go_s)


def leecher_of(process: Process, scene: Scene, go_s: float) -> Leecher:
    """A member of ours as a Leecher."""
    parts = scene.composition.score.parts
    return Leecher(
        process,
        go_s,
        lambda: process.wait_for("progress", parts_done=parts)[0],
        lambda: process.wait_for("complete")[0],
    )


# libtorrent


def start_libtorrent(mode: str, stage: Stage, torrent: Path, folder: Path, label: str) -> Process:
    """Start peer_libtorrent.py; see there for the modes."""
    return stage.python(HERE / "peer_libtorrent.py", mode, torrent, folder, label=label)


def tell_peers(process: Process, addresses: Sequence[Address]) -> None:
    """Have a process of peer_libtorrent.py or peer_limit.py connect to these."""
    process.tell("\n".join(f"{host} {port}" for host, port in addresses))


def libtorrent(mode: str) -> Contender:
    """libtorrent, `tuned` or `stock`."""

    def seed(scene: Scene, label: str) -> Seeder:
        process = start_libtorrent(mode, scene.stage, scene.torrent, scene.composition.folder, label)
        _, event = process.wait_for("ready", finished=True)
        return Seeder(process, (LOCAL, event["port"]))

    def fetch(scene: Scene, label: str, seeders: Sequence[Seeder]) -> Leecher:
        folder = scene.empty_folder(label)
        process = start_libtorrent(mode, scene.stage, scene.torrent, folder, label)
        process.wait_for("ready")
        tell_peers(process, [seeder.address for seeder in seeders])
        # libtorrent dials at its next tick, up to a second later: that wait is not counted.
        go_s, _ = process.wait_for("connected")
        return Leecher(
            process, go_s, lambda: process.wait_for("done")[0], lambda: process.wait_for("flushed")[0]
        )

    return Contender(f"libtorrent {mode}", seed, fetch)


# The limit


def seed_limit(scene: Scene, label: str) -> Seeder:
    """A sender without a protocol."""
    process = scene.stage.python(HERE / "peer_limit.py", "send", scene.composition.path, label=label)
    _, event = process.wait_for("ready")
    return Seeder(process, (LOCAL, event["port"]))


def fetch_limit(scene: Scene, label: str, seeders: Sequence[Seeder]) -> Leecher:
    """A receiver without a protocol."""
    score = scene.composition.score
    arguments = ("receive", scene.empty_folder(label) / score.name, score.size_bytes)
    process = scene.stage.python(HERE / "peer_limit.py", *arguments, label=label)
    go_s, _ = process.wait_for("ready")
    tell_peers(process, [seeders[0].address])

    def done() -> float:
        return process.wait_for("done", sha1=score.sha1.hex())[0]

    return Leecher(process, go_s, done, done)


OURS = Contender("ours", seed_ours, fetch_ours)
TUNED = libtorrent("tuned")
STOCK = libtorrent("stock")
LIMIT = Contender("limit", seed_limit, fetch_limit)


def mixed(seeder: Contender, leecher: Contender) -> Contender:
    """One program's seeder with another one's leecher."""
    return Contender(f"{leecher.name} from {seeder.name}", seeder.seed, leecher.fetch)
