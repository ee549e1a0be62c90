"""What had come of a large part at a clean stop is not fetched again; if it is wrong, nobody is to blame."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestra import ledger as ledger_module
from orchestra.messages import Ended, Progress
from orchestra.session import Session
from orchestra.storage import Storage
from tests import figures
from tests.compositions import MIB, Composition, compose
from tests.scriptedpeer import ScriptedPeer

PART_BYTES, PARTS = 2 * MIB, 3


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "LEAST_BYTES", 0)


@pytest.fixture
def composition(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", PARTS * PART_BYTES - 5000, PART_BYTES)


def session_of(composition: Composition, folder: Path, peer: ScriptedPeer, *, seed: bool = True) -> Session:
    storage = Storage(folder, composition.score.name, composition.score.size_bytes)
    session = Session(composition.score, storage, port=0, members=(peer.address,), seed=seed)
    session.start()
    return session


def end(session: Session) -> Ended:
    while not isinstance(message := session.next_message(), Ended):
        pass
    session.join()
    while session.stuck:
        session.join()
    return message


def stop_before_the_last_block(composition: Composition, folder: Path) -> int:
    """A clean stop when all but one block of each part has come; how many bytes came."""
    left_out = 5 * 16384

    def all_but_one(_part: int, begin: int, block: bytes) -> bytes | None:
        return None if begin == left_out else block

    wanted_bytes = composition.score.size_bytes - PARTS * 16384
    with ScriptedPeer(composition, answer=all_but_one) as peer:
        session = session_of(composition, folder, peer)
        progress = None
        while progress is None or progress.downloaded_bytes < wanted_bytes:
            message = session.next_message()
            assert not isinstance(message, Ended), message
            if isinstance(message, Progress):
                progress = message
        session.quit("q")
        end(session)
    return wanted_bytes


def test_only_the_blocks_that_lack_are_fetched_after_a_clean_stop(
    composition: Composition, tmp_path: Path
) -> None:
    stop_before_the_last_block(composition, tmp_path / "ours")
    with ScriptedPeer(composition) as peer:
        session = session_of(composition, tmp_path / "ours", peer, seed=False)
        assert end(session).complete
        assert peer.sent_bytes == PARTS * 16384
        figures.note("K1", "bytes fetched again after a clean stop", peer.sent_bytes - PARTS * 16384)
    assert composition.is_at(tmp_path / "ours" / "piece.bin")


@pytest.mark.fault("D6")
def test_a_half_fetched_part_that_went_bad_is_fetched_whole_and_nobody_is_banned(
    composition: Composition, tmp_path: Path
) -> None:
    stop_before_the_last_block(composition, tmp_path / "ours")
    path = tmp_path / "ours" / "piece.bin.part"
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(PART_BYTES + 77)
        byte = file.read(1)[0]
        file.seek(PART_BYTES + 77)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with ScriptedPeer(composition) as peer:
        session = session_of(composition, tmp_path / "ours", peer, seed=False)
        assert end(session).complete
        assert peer.sent_bytes == PARTS * 16384 + PART_BYTES
        assert peer.connections == 1
    assert composition.is_at(tmp_path / "ours" / "piece.bin")


def test_once_there_is_a_doubt_no_block_counts(composition: Composition, tmp_path: Path) -> None:
    stop_before_the_last_block(composition, tmp_path / "ours")
    os.utime(tmp_path / "ours" / "piece.bin.part")
    with ScriptedPeer(composition) as peer:
        session = session_of(composition, tmp_path / "ours", peer, seed=False)
        assert end(session).complete
        assert peer.sent_bytes == composition.score.size_bytes
    assert composition.is_at(tmp_path / "ours" / "piece.bin")
