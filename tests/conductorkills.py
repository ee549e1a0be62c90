"""A conductor that is killed again and again while members come and go."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass
from threading import Event

from orchestra.schedule import LONGEST_RETRY_S
from tests.programs import Program
from tests.swarms import Orchestra

KNOWN_AGAIN_S = 1.25 * LONGEST_RETRY_S + 15.0
"""A member that met a dead conductor many times in a row tries again after so long at the latest."""
MEMBERS_AT_ONCE = 2


@dataclass(frozen=True)
class KillReport:
    """How it went. `known_again_s`: after the last restart, until the seeder was listed again."""

    kills: int
    killed_while_starting: int
    fetched: int
    slowest_restart_s: float
    known_again_s: float


def kill_conductor(orchestra: Orchestra, kills: int, chance: random.Random) -> KillReport:
    """Kill -9 the conductor of `orchestra` so often, at random moments; fails where anything is lost.

    A seeder stays all the time; members come, fetch and go. Every restart has to listen, and every
    member has to end with 0 and the right file, once it can: the last ones when the kills are over.
    """
    orchestra.seed()
    fetching: dict[str, Program] = {}
    fetched = early = done = 0
    slowest_s = 0.0
    while done < kills:
        fetched += _take_away(orchestra, fetching)
        if len(fetching) < MEMBERS_AT_ONCE:
            name = f"member-{fetched + len(fetching)}"
            fetching[name] = orchestra.fetch(name, "--no-seed")
        Event().wait(chance.uniform(0.0, 2.0))
        orchestra.conductor.kill()
        done += 1
        begun_s = time.monotonic()
        starting = orchestra.start_conductor()
        if done < kills and chance.random() < 0.25:
            Event().wait(chance.uniform(0.0, 0.3))
            starting.kill()
            done += 1
            early += 1
            begun_s = time.monotonic()
            starting = orchestra.start_conductor()
        starting.wait_for_event("listening")
        slowest_s = max(slowest_s, time.monotonic() - begun_s)
    begun_s = time.monotonic()
    orchestra.wait_for_members(timeout_s=KNOWN_AGAIN_S, complete=1)
    known_again_s = time.monotonic() - begun_s
    for member in fetching.values():
        member.wait(KNOWN_AGAIN_S)
    fetched += _take_away(orchestra, fetching)
    assert not fetching
    assert orchestra.conductor.stop() == -signal.SIGTERM
    return KillReport(done, early, fetched, slowest_s, known_again_s)


def _take_away(orchestra: Orchestra, fetching: dict[str, Program]) -> int:
    """How many have ended since, each with the whole file."""
    ended = [name for name, member in fetching.items() if member.process.poll() is not None]
    for name in ended:
        member = fetching.pop(name)
        assert member.wait() == 0, member.story()
        assert orchestra.fetched(name), f"{name} has something else than the composition"
    return len(ended)
