"""What foreign clients make of a refusal: why the conductor says 429, and not a failure reason."""

from __future__ import annotations

import queue
import time
from pathlib import Path

import pytest

from orchestra import bencode
from orchestra.throttle import Throttle
from orchestra.trackerapp import REFUSAL
from orchestra.webserver import _Gate
from tests.compositions import Composition, compose
from tests.fakeconductor import FakeConductor, http_reply, replying
from tests.figures import note
from tests.foreign import needs_libtorrent, start_libtorrent
from tests.programs import Programs

pytestmark = pytest.mark.timeout(120)
ANSWER = replying(http_reply(bencode.encode({"interval": 120, "peers": b""})))
WAIT_S = 30.0


@pytest.fixture
def piece(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", 100_000, 16384)


def seconds_until_it_asks_again(programs: Programs, piece: Composition, refusal: bytes) -> float | None:
    """How long a libtorrent client waits after a refusal; None: longer than WAIT_S."""
    with FakeConductor(replying(refusal), ANSWER) as conductor:
        torrent = piece.conducted_by(conductor.address).write_torrent(programs.folder)
        start_libtorrent(programs, torrent, programs.folder / "theirs")
        conductor.requests.get(timeout=WAIT_S)
        begun_s = time.monotonic()
        try:
            conductor.requests.get(timeout=WAIT_S)
        except queue.Empty:
            return None
        return time.monotonic() - begun_s


@needs_libtorrent
@pytest.mark.fault("C4")
def test_libtorrent_asks_again_soon_after_429(programs: Programs, piece: Composition) -> None:
    waited_s = seconds_until_it_asks_again(programs, piece, _Gate(Throttle(), REFUSAL).refusal)
    note("C4", "libtorrent asks again after 429, s", waited_s)
    assert waited_s is not None


@needs_libtorrent
@pytest.mark.fault("C4")
def test_after_a_failure_reason_it_would_wait_much_longer(programs: Programs, piece: Composition) -> None:
    assert seconds_until_it_asks_again(programs, piece, http_reply(REFUSAL)) is None
