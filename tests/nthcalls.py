"""Runs a member or a conductor of which the Nth file, socket or thread-start call fails: how does it end?"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tests.programs import ROOT, Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra, scrape

DOCUMENTED = set(range(8))
PATIENCE_S = 60.0
"""Stands for "does not hang". The mark of FAULTS.md is 20 s; the soak test holds it."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `reached`: there were so many calls."""

    reached: bool
    code: int
    elapsed_s: float


def failing(kind: str, nth: int, mark: Path) -> dict[str, str]:
    """The environment in which that call fails."""
    mark.unlink(missing_ok=True)
    path = os.pathsep.join([str(ROOT / "tests" / "shims"), str(ROOT)])
    return {"PYTHONPATH": path, "FAIL_NTH": f"{kind}:{nth}", "FAIL_MARK": str(mark)}


def fetch(programs: Programs, orchestra: Orchestra, peer: ScriptedPeer, kind: str, nth: int) -> Outcome:
    """A member fetches, and that call of it fails: it ends as documented, and the file is right or absent."""
    folder = programs.folder / "fetched"
    shutil.rmtree(folder, ignore_errors=True)
    mark = programs.folder / "reached"
    start_s = time.monotonic()
    member = programs.start(
        "member",
        orchestra.orch,
        *("--dir", folder, "--port", "0", "--no-seed", "--timeout", "10", "--peer", peer.name, "-q"),
        env=failing(kind, nth, mark),
        json=False,
    )
    code = member.wait(PATIENCE_S)
    elapsed_s = time.monotonic() - start_s
    what = f"{kind} {nth}: {code}\n{member.story()}"
    assert code in DOCUMENTED, what
    assert "Traceback" not in member.stderr, what
    assert kind == "thread" or "unexpected failure" not in member.stderr, what
    assert code == 0 or member.stderr, what
    found = folder / orchestra.composition.score.name
    assert not found.exists() or orchestra.composition.is_at(found), f"a wrong file: {what}"
    assert code != 0 or found.exists(), what
    programs.running.remove(member)
    member.close()
    return Outcome(mark.exists(), code, elapsed_s)


def conduct(programs: Programs, kind: str, nth: int) -> Outcome:
    """A conductor of which that call fails: it serves on, or ends as documented; SIGTERM always ends it."""
    mark = programs.folder / "reached"
    start_s = time.monotonic()
    conductor = programs.start(
        "conductor", "--host", "127.0.0.1", "--port", "0", env=failing(kind, nth, mark)
    )
    code = 0
    try:
        port = conductor.wait_for_event("listening")["port"]
        for _ in range(2):
            try:
                scrape(("127.0.0.1", port), bytes(20))
            except (OSError, EOFError, ValueError, KeyError, HTTPException):
                continue  # the one call that fails may be that of this question
    except AssertionError:  # it says nothing more: so it is about to end
        conductor.wait(PATIENCE_S)
    if conductor.process.poll() is None:
        conductor.stop(PATIENCE_S)
    else:
        code = conductor.wait(PATIENCE_S)
    elapsed_s = time.monotonic() - start_s
    what = f"{kind} {nth}: {code}\n{conductor.story()}"
    assert code in DOCUMENTED, what
    assert "Traceback" not in conductor.stderr, what
    assert kind == "thread" or "unexpected failure" not in conductor.stderr, what
    programs.running.remove(conductor)
    conductor.close()
    return Outcome(mark.exists(), code, elapsed_s)
