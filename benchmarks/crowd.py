"""One swarm, from the gate to the last leecher, on links of its own.

Main thread. Every process is forked beforehand and waits at a gate in its
host's namespace: opening the gate is the start for all, so that what it takes
to start counts. Late ones have a gate of their own. Nobody is told of anybody:
all hear of each other from the conductor, whose link is not shaped.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.clients import FIGURES_S, RPC_PORT, Cast, Client, Seat
from benchmarks.composition import Composition
from benchmarks.contenders import HERE
from benchmarks.links import FRAME_BYTES, PAYLOAD_BYTES, Host, Network, address_of
from benchmarks.measure import Figures, Window
from benchmarks.processes import BenchmarkError, Event, Process, Stage, parse_json
from benchmarks.scenarios import Scenario
from benchmarks.timeline import Timeline

CONDUCTOR = Host("conductor")
CONDUCTOR_PORT = 6969
GRACE_S = 60.0
"""How long after T* a swarm whose seeder has left may take."""
PATIENCE_BOUNDS = 8
"""How many T* any other may take."""
LOOK_S = 0.05
LAST_WORD_S = 1.2
"""How long after the end the last of what was uploaded may be told."""
WAITING = "at the gate"
GATE = f"""echo '{{"event": "{WAITING}"}}'; : <"$0"; exec "$@\""""
"""For sh: wait until someone has the fifo open for writing, then become the program."""

Parse = Callable[[bytes], Event | None]


@dataclass(slots=True)
class Player:
    """A member, from the gate on. `starts_s` after the first gate opens."""

    host: int
    client: Client
    process: Process
    starts_s: float = 0.0
    timeline: Timeline = field(default_factory=Timeline)


class Ear:
    """Hears of players, each time what is new: from a process, of its own player or of any by its address."""

    def __init__(self, process: Process, players: dict[str, Player]) -> None:
        self._process = process
        self._players = players
        self._heard = 0

    def hear(self, opened_s: float) -> None:
        """Note in the players' timelines what was said since the last time."""
        news = self._process.events(self._heard)
        self._heard += len(news)
        for at_s, event in news:
            if player := self._players.get(event.get("host", "")):
                player.timeline.take(at_s - opened_s, event)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Everybody at the gate."""

    scenario: Scenario
    size_bytes: int
    seeders: Sequence[Player]
    leechers: Sequence[Player]
    gates: dict[float, Path]
    ears: Sequence[Ear]

    @property
    def bound_s(self) -> float:
        """T*."""
        return self.scenario.bound_s(self.size_bytes)

    @property
    def players(self) -> Sequence[Player]:
        """Everybody."""
        return (*self.seeders, *self.leechers)

    @property
    def give_up_s(self) -> float:
        """When it is not waited for any longer."""
        alone = self.scenario.leave_copies is not None
        return self.bound_s + GRACE_S if alone else self.bound_s * PATIENCE_BOUNDS

    def done(self, leecher: Player) -> float:
        """When it had everything, in T* from the first gate; infinite when it has not."""
        return leecher.timeline.done_s / self.bound_s if leecher.timeline.done else math.inf

    def hear(self, opened_s: float) -> None:
        """Note what everybody has said since the last time."""
        for ear in self.ears:
            ear.hear(opened_s)

    def uploaded_copies(self, now_s: float) -> float:
        """What the seeders have uploaded by now, as they say."""
        return sum(player.timeline.uploaded_by(now_s) for player in self.seeders) / self.size_bytes


def measure_crowd(
    scenario: Scenario, cast: Cast, composition: Composition, parent: Path, ours: Path
) -> Figures:
    """Run a swarm once. Raises BenchmarkError, Skip."""
    hosts = [CONDUCTOR, *scenario.seeders, *scenario.leechers]
    with Network(hosts) as network, Stage(parent) as stage:
        crowd = seat(scenario, cast, composition, Place(stage, network, ours))
        window = Window(stage.processes)
        opened_s = time.monotonic()
        watch(crowd, opened_s)
        window.close()
        wire_bytes = sum(network.sent_frame_bytes(player.host) for player in crowd.seeders)
        time.sleep(LAST_WORD_S)
        crowd.hear(opened_s)
        figures = figures_of(crowd, wire_bytes)
        figures["cpu_s"] = sum(window.cpu_s[player.process.label] for player in crowd.players)
        figures["other_load"] = window.other_load
        for player in crowd.players:
            # All at once: one after the other, each would wait for those before it.
            with suppress(ProcessLookupError):
                player.process.signal(signal.SIGTERM)
    return figures


@dataclass(frozen=True, slots=True)
class Place:
    """Where a crowd meets, and whose programs are ours."""

    stage: Stage
    network: Network
    ours: Path

    def start(self, host: int, command: Sequence[str], label: str, parse: Parse = parse_json) -> Process:
        """Start a process on a host."""
        return self.stage.start(self.network.inside(host, command), label=label, parse=parse)


def seat(scenario: Scenario, cast: Cast, composition: Composition, place: Place) -> Crowd:
    """Start the conductor, and have everybody wait at the gates."""
    folder = place.stage.folder
    conductor = (address_of(0), CONDUCTOR_PORT)
    orch = composition.write_orch(folder, conductor)
    torrent = composition.write_torrent(folder, conductor)
    logs = folder / "logs"
    options = ["--host", conductor[0], "--port", str(conductor[1]), "--json", "--log-dir", str(logs)]
    command = [sys.executable, str(place.ours / "conductor.py"), *options]
    place.start(0, command, "conductor").wait_for("listening")
    size_bytes = composition.score.size_bytes
    starts_s = [0.0] * len(scenario.seeders) + scenario.starts_s(size_bytes)
    gates = {start_s: folder / f"gate-{start_s:.3f}" for start_s in starts_s}
    for gate in gates.values():
        os.mkfifo(gate)
    players: list[Player] = []
    hosts = (*scenario.seeders, *scenario.leechers)
    for index, (host, start_s) in enumerate(zip(hosts, starts_s, strict=True)):
        number = index - len(scenario.seeders)
        seeds = number < 0
        client = cast.seeder if seeds else cast.leecher(number)
        own = composition.folder if seeds else folder / host.name
        own.mkdir(exist_ok=True)
        seat = Seat(address_of(index + 1), own, logs, orch, torrent, place.ours, seeds)
        command = ["sh", "-c", GATE, str(gates[start_s]), *client.command(seat)]
        process = place.start(index + 1, command, host.name, _hearing(client))
        players.append(Player(index + 1, client, process, start_s))
    for player in players:
        player.process.wait_for(WAITING)
    ears = [Ear(player.process, {"": player}) for player in players]
    asked = {address_of(player.host): player for player in players if player.client.asked}
    if asked:
        ears.append(Ear(_start_asking(place, list(asked), seeders=len(scenario.seeders)), asked))
    seeders, leechers = players[: len(scenario.seeders)], players[len(scenario.seeders) :]
    return Crowd(scenario, size_bytes, seeders, leechers, gates, ears)


def _start_asking(place: Place, addresses: list[str], *, seeders: int) -> Process:
    """Ask players how it goes, from the conductor's host; the seeders are the first."""
    script = [sys.executable, str(HERE / "ask_aria2.py")]
    return place.start(0, [*script, str(RPC_PORT), str(FIGURES_S), str(seeders), *addresses], "asking")


def _hearing(client: Client) -> Parse:
    """What the shell says at the gate, then what the client says."""
    waiting = f'{{"event": "{WAITING}"}}'.encode()
    return lambda line: {"event": WAITING} if line == waiting else client.parse(line)


def watch(crowd: Crowd, opened_s: float) -> None:
    """Open the gates when it is time, have the seeder leave when it may, until all are done or it is late.

    Raises BenchmarkError when a leecher ends by itself.
    """
    waiting = sorted(crowd.gates)
    leave_copies = crowd.scenario.leave_copies
    with ExitStack() as opened:
        while (now_s := time.monotonic() - opened_s) < crowd.give_up_s:
            while waiting and waiting[0] <= now_s:
                # Read and write: opening a fifo only to write waits for a reader.
                opened.enter_context(crowd.gates[waiting.pop(0)].open("r+b", buffering=0))
            crowd.hear(opened_s)
            if all(player.timeline.done for player in crowd.leechers):
                return
            for player in crowd.leechers:
                if player.process.ended:
                    raise BenchmarkError(f"{player.process.label} ended\n{player.process.story()}")
            if leave_copies is not None and crowd.uploaded_copies(now_s) >= leave_copies:
                leave_copies = None
                for player in crowd.seeders:
                    player.process.signal(signal.SIGTERM)
            time.sleep(LOOK_S)


def figures_of(crowd: Crowd, wire_bytes: int) -> Figures:
    """What came of it, as told until now; `wire_bytes` left the seeders in frames.

    Times of leechers are over T*, from the first gate; infinite: it is not done.
    """
    size_bytes = crowd.size_bytes
    needed_bytes = size_bytes * len(crowd.leechers)
    done = sorted(crowd.done(player) for player in crowd.leechers)
    finished = sum(map(math.isfinite, done))
    alone = crowd.seeders[0].timeline if len(crowd.seeders) == 1 else Timeline()
    figures = {
        "finished": float(finished),
        "last": done[-1],
        "median": statistics.median(done),
        "up_s": max(player.timeline.up_s - player.starts_s for player in crowd.players),
        "copies": sum(player.timeline.uploaded_bytes for player in crowd.seeders) / size_bytes,
        "wire_copies": wire_bytes * PAYLOAD_BYTES / FRAME_BYTES / size_bytes,
        "one_copy_s": alone.reached_s(size_bytes),
        "sent": sum(player.timeline.uploaded_bytes for player in crowd.players) / needed_bytes,
    }
    for kind in {player.client.name for player in crowd.leechers}:
        of_kind = [player for player in crowd.leechers if player.client.name == kind]
        figures[f"last {kind}"] = max(map(crowd.done, of_kind))
    return figures | {f"done {number}": at for number, at in enumerate(done[:finished], 1)}
