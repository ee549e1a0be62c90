"""A disk that is slower than the network: what is fetched waits outside, not in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestra.messages import Complete, Ended
from orchestra.session import Session
from orchestra.storage import Storage
from tests import figures
from tests.compositions import MIB, compose
from tests.invariants import Invariants
from tests.programs import PATIENCE_S, ROOT, Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import wait_until

PEERS = 4
MOST_WAITING_BYTES = 32 * MIB
LOOKS = 25
"""So many looks at how much was sent, a while apart, must find the same."""


@pytest.mark.fault("D13")
def test_a_disk_that_stands_still_stops_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composition = compose(tmp_path / "source", 48 * MIB, 256 * 1024)
    score = composition.score
    may_write, waits = threading.Event(), threading.Event()
    write = Storage.write

    def slow(storage: Storage, views: Sequence[memoryview], offset: int) -> None:
        waits.set()
        assert may_write.wait(PATIENCE_S)
        write(storage, views, offset)

    monkeypatch.setattr(Storage, "write", slow)
    with ExitStack() as stack:
        peers = [stack.enter_context(ScriptedPeer(composition)) for _ in range(PEERS)]
        storage = Storage(tmp_path / "ours", score.name, score.size_bytes)
        session = Session(score, storage, port=0, members=tuple(peer.address for peer in peers), seed=False)
        session.start()
        assert waits.wait(PATIENCE_S)
        looks = [-1]

        def stands_still() -> bool:
            looks.append(sum(peer.sent_bytes for peer in peers))
            return len(looks) > LOOKS and len(set(looks[-LOOKS:])) == 1

        wait_until(stands_still, "no peer can send any more")
        waiting_bytes = looks[-1]
        may_write.set()
        kinds = set()
        while not isinstance(message := session.next_message(), Ended):
            kinds.add(type(message))
        session.join()
        assert Complete in kinds
        assert message.error is None
    assert waiting_bytes <= MOST_WAITING_BYTES
    assert composition.is_at(tmp_path / "ours" / score.name)
    figures.note("D13", "MiB sent by the peers while nothing was written", round(waiting_bytes / MIB, 1))


SLOW = """
import os, time

right = os.pwritev
def slow(*arguments):
    time.sleep(0.05)
    return right(*arguments)
os.pwritev = slow
"""


@pytest.mark.fault("D13")
@pytest.mark.skipif(not hasattr(os, "pwritev"), reason="the member writes with something else here")
def test_with_a_disk_that_takes_50_ms_for_each_write_memory_stays_bounded(
    programs: Programs, invariants: Invariants, tmp_path: Path
) -> None:
    """The invariants say how much: 80 MiB."""
    composition = compose(tmp_path / "source", 24 * MIB, 256 * 1024)
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    with ExitStack() as stack:
        peers = [stack.enter_context(ScriptedPeer(composition)) for _ in range(PEERS)]
        words = [word for peer in peers for word in ("--peer", peer.name)]
        orch, ours = composition.write_orch(tmp_path), tmp_path / "ours"
        member = programs.start("member", orch, "--dir", ours, "--port", "0", "--no-seed", *words, env=env)
        assert member.wait() == 0, member.story()
    assert composition.is_at(invariants.output(composition, ours / "piece.bin"))
    figures.note("D13", "MiB of memory at most, 50 ms for each write", member.peak_rss_bytes >> 20)
