"""X1: the Nth file, socket or thread-start call fails, for each N that there is, up to 500."""

from __future__ import annotations

from collections import Counter

import pytest

from tests import figures
from tests.compositions import compose
from tests.nthcalls import Outcome, conduct, fetch
from tests.programs import Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra

MOST_CALLS = 500
MOST_S = 20.0


@pytest.mark.fault("X1")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["thread", "file", "socket"])
def test_a_member_survives_the_failure_of_any_call(programs: Programs, kind: str) -> None:
    composition = compose(programs.folder / "source", 200_000, 16384)
    orchestra = Orchestra(programs, composition)
    outcomes = []
    with ScriptedPeer(composition) as peer:
        for nth in range(1, MOST_CALLS + 1):
            outcome = fetch(programs, orchestra, peer, kind, nth)
            if not outcome.reached:
                break
            outcomes.append(outcome)
    _note(f"member, {kind} calls", outcomes)


@pytest.mark.fault("X1")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["thread", "file", "socket"])
def test_a_conductor_survives_the_failure_of_any_call(programs: Programs, kind: str) -> None:
    outcomes = []
    for nth in range(1, MOST_CALLS + 1):
        outcome = conduct(programs, kind, nth)
        if not outcome.reached:
            break
        outcomes.append(outcome)
    _note(f"conductor, {kind} calls", outcomes)


def _note(what: str, outcomes: list[Outcome]) -> None:
    codes = Counter(outcome.code for outcome in outcomes)
    slowest_s = max(outcome.elapsed_s for outcome in outcomes)
    figures.note("X1", f"{what} that failed, each as documented", len(outcomes))
    figures.note("X1", f"{what}, exit codes", ", ".join(f"{code}: {n}" for code, n in sorted(codes.items())))
    figures.note("X1", f"{what}, slowest run (s)", f"{slowest_s:.1f}")
    assert outcomes
    assert slowest_s <= MOST_S
