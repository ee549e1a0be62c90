"""Members killed hundreds of times: at random moments, at each call that changes the disk, in a row."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import figures
from tests.compositions import MIB, Composition, compose
from tests.invariants import Invariants
from tests.kills import Download, Rationed, parts_on_disk, small_files
from tests.programs import PATIENCE_S, ROOT, Program, Programs
from tests.ratedpeer import Rated
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra, member_address, uploaded_bytes, wait_until

SEED = 5
KILLS = 200
PART = 65536
LONGEST_S = 600.0
"""How long a start may take on a machine that has much else to do. Only a hang takes that long."""
DISK_CALLS = (
    "pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,fallocate,ftruncate,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat"
)
"""What changes a folder or a file at an offset, or makes a change durable."""
SAVES_EAGERLY = "ledger.LONGEST_INTERVAL_S=0 ledger.SHORTEST_INTERVAL_S=0"

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def long_piece(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """64 MiB in parts of 64 KiB."""
    folder = tmp_path_factory.mktemp("long")
    yield compose(folder / "source", 64 * MIB, PART)
    shutil.rmtree(folder)


@pytest.mark.fault("K1")
def test_200_kills_at_random_moments_lose_no_verified_part(
    programs: Programs, invariants: Invariants, long_piece: Composition, tmp_path: Path
) -> None:
    """One seeding member, one download at a time: killed again and again until it is done, then the next."""
    numbers = random.Random(SEED)
    orchestra = Orchestra(programs, long_piece)
    seeder = orchestra.seed()
    options = ["--no-seed", "--peer", member_address(seeder)]
    clean_s = _clean_run(programs, orchestra, options)
    kills, downloads, slowest_s = 0, 0, 0.0
    while kills < KILLS:
        # A witness of its own each time: what a killed member said may still be on its way to the old one.
        with ScriptedPeer(long_piece, parts=(), curious=True) as witness:
            download = Download(programs, long_piece, tmp_path / "ours", witness)
            for _ in range(numbers.randrange(1, 11)):
                member = download.start(orchestra.orch, *options)
                killed = _killed_after(member, numbers.uniform(0, clean_s))
                download.ended(member)
                _forget(programs, member)
                if not killed:
                    break
                kills += 1
            began_s = time.monotonic()
            member = download.start(orchestra.orch, *options)
            assert member.wait(LONGEST_S) == 0, member.story()
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            download.ended(member)
            assert download.finished()
            _forget(programs, member)
        shutil.rmtree(tmp_path / "ours")
        downloads += 1
    seeder.stop()
    invariants.canary.check()
    size = long_piece.score.size_bytes
    again_bytes = uploaded_bytes(seeder) - (downloads + 1) * size
    figures.note("K1", f"verified parts lost in {kills} kills at random moments", 0)
    figures.note("K1", f"wrong bytes, {kills} kills, seed {SEED}", 0)
    figures.note("K1", "bytes sent again per kill, parts of 65536, one seeder", again_bytes // kills)
    figures.note("K1", f"s of the slowest last start; {clean_s:.1f} s without a kill", round(slowest_s, 1))


@pytest.mark.fault("K1")
@pytest.mark.parametrize("percent", [10, 50, 95])
def test_a_kill_in_mid_flow_costs_a_part_for_each_connection_at_most(
    programs: Programs, invariants: Invariants, tmp_path: Path, percent: int
) -> None:
    """Three peers as fast as a link of 16 Mbit/s each, which go on sending until the member is dead."""
    composition = compose(tmp_path / "source", 32 * MIB, 256 * 1024)
    orch, size = composition.write_orch(tmp_path), composition.score.size_bytes
    with contextlib.ExitStack() as stack:
        witness = stack.enter_context(ScriptedPeer(composition, parts=(), curious=True))
        peers = [stack.enter_context(Rated(composition)) for _ in range(3)]
        options = ["--no-seed", *[word for peer in peers for word in ("--peer", peer.name)]]
        began_s = time.monotonic()
        member = programs.start("member", orch, "--dir", tmp_path / "clean", "--port", "0", *options)
        assert member.wait(LONGEST_S) == 0
        clean_s, before_bytes = time.monotonic() - began_s, _sent_bytes(peers)
        download = Download(programs, composition, tmp_path / "ours", witness)
        began_s = time.monotonic()
        member = download.start(orch, *options)
        wait_until(lambda: _sent_bytes(peers) - before_bytes >= percent * size // 100, "its time to die", 60)
        member.kill()
        wait_until(lambda: all(peer.left.is_set() for peer in peers), "peers that know")
        download.ended(member)
        right = parts_on_disk(composition, tmp_path / "ours")
        lost_bytes = _sent_bytes(peers) - before_bytes - sum(map(composition.score.part_length, right))
        member = download.start(orch, *options)
        assert member.wait(LONGEST_S) == 0
        more_s = time.monotonic() - began_s - clean_s
        download.ended(member)
    assert download.finished()
    figures.note("K1", f"bytes to fetch again, 3 peers, parts of 262144, killed at {percent} %", lost_bytes)
    figures.note("K1", f"s more than without a kill at {percent} %", round(more_s, 1), at_most=3)
    assert lost_bytes <= 3 * composition.score.part_size_bytes


def _sent_bytes(peers: Sequence[ScriptedPeer]) -> int:
    return sum(peer.sent_bytes for peer in peers)


def _clean_run(programs: Programs, orchestra: Orchestra, options: list[str]) -> float:
    began_s = time.monotonic()
    member = orchestra.fetch("clean", *options)
    assert member.wait(LONGEST_S) == 0
    shutil.rmtree(orchestra.folder / "clean")
    _forget(programs, member)
    return time.monotonic() - began_s


def _killed_after(member: Program, delay_s: float) -> bool:
    """Kill it then; False when it has ended before, which it may only do when it is done."""
    with contextlib.suppress(AssertionError):
        assert member.wait(delay_s) == 0
        return False
    assert member.process.returncode in {None, 0}, member.story()
    member.kill()
    return member.process.returncode != 0


def _forget(programs: Programs, member: Program) -> None:
    """Close a program for good: hundreds would fill this process."""
    member.close()
    programs.running.remove(member)


@needs_strace
@pytest.mark.fault("K2")
@pytest.mark.parametrize(
    ("calls", "points"),
    [(DISK_CALLS, range(1, 201, 20)), (DISK_CALLS, range(1, 201)), ("write", range(1, 21))],
    ids=["sample", "all", "small files"],
)
def test_a_kill_at_each_call_that_changes_the_disk(
    programs: Programs, invariants: Invariants, tmp_path: Path, calls: str, points: range
) -> None:
    """strace kills a member that saves its state all the time, on entry to the Nth such call of a thread.

    Small files are written as long as parts arrive: these must not come at once.
    """
    composition = compose(tmp_path / "source", 16 * MIB, 16384)
    orch = composition.write_orch(tmp_path)
    killed = 0
    with (
        ScriptedPeer(composition, parts=(), curious=True) as witness,
        Rated(composition, 8 * MIB if calls == "write" else 1024 * MIB) as peer,
    ):
        for point in points:
            folder = tmp_path / f"ours-{point}"
            download = Download(programs, composition, folder, witness)
            heard = len(witness.told)
            command = [
                *("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"),
                *("-e", f"inject={calls}:signal=KILL:when={point}"),
                *(sys.executable, str(ROOT / "tests/tuned_member.py"), str(orch), "--dir", str(folder)),
                *("--json", "-q"),
                *("--port", "0", "--no-seed", "--log-dir", str(tmp_path / "logs")),
                *("--peer", peer.name, "--peer", witness.name),
            ]
            member = programs.start_other(command, env={"TUNING": SAVES_EAGERLY})
            member.was_killed = True
            killed += member.wait(LONGEST_S) != 0
            for told in witness.told[heard:]:
                download.promised |= told
            again = download.start(orch, "--no-seed", "--peer", peer.name)
            assert again.wait(LONGEST_S) == 0, again.story()
            download.ended(again)
            assert download.finished(), f"at call {point}: {sorted(os.listdir(folder))}"
            _forget(programs, member)
            _forget(programs, again)
            shutil.rmtree(folder)
    invariants.canary.check()
    figures.note("K2", f"killed at {killed} of {len(points)} points; restarts that did not finish", 0)
    assert killed >= len(points) // 2


@pytest.mark.fault("K3")
def test_twenty_kills_in_a_row_cost_at_most_a_part_each(
    programs: Programs, invariants: Invariants, tmp_path: Path
) -> None:
    composition = compose(tmp_path / "source", 32 * MIB, PART)
    orch, name = composition.write_orch(tmp_path), composition.score.name
    numbers = random.Random(SEED)
    beside: list[tuple[int, int]] = []
    ration = Rationed()
    with (
        ScriptedPeer(composition, parts=(), curious=True) as witness,
        ScriptedPeer(composition, answer=ration) as peer,
    ):
        download = Download(programs, composition, tmp_path / "ours", witness)
        for _ in range(20):
            ration.left_bytes = share = numbers.randrange(40, 100) * 16384
            member = download.start(orch, "--no-seed", "--peer", peer.name)
            member.wait_for_event("progress", downloaded_bytes=share)
            member.kill()
            download.ended(member)
            beside.append(small_files(tmp_path / "ours", [name, f"{name}.part"]))
        ration.left_bytes = 64 * MIB
        member = download.start(orch, "--no-seed", "--peer", peer.name)
        assert member.wait(PATIENCE_S) == 0
        download.ended(member)
        again_bytes = peer.sent_bytes - composition.score.size_bytes
    assert download.finished()
    invariants.output(composition, tmp_path / "ours" / name)
    figures.note("K3", "bytes fetched again by 20 kills in a row, parts of 65536", again_bytes)
    figures.note("K3", "files beside NAME.part, and their bytes, at most", max(beside))
    assert again_bytes <= 20 * PART
    assert max(beside) <= (2, 65536), "the state grows"


@pytest.mark.fault("K5")
def test_leechers_go_on_when_their_only_seeder_is_back_after_20_s(
    programs: Programs, invariants: Invariants, long_piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, long_piece)
    seeder = orchestra.seed()
    with ScriptedPeer(long_piece, parts=(), curious=True) as witness:
        leechers = [orchestra.fetch(name, "--no-seed", "--peer", witness.name) for name in ("one", "two")]
        wait_until(lambda: any(len(told) >= 10 for told in witness.told), "some parts")
        seeder.kill()
        time.sleep(20)
        assert all(leecher.process.poll() is None for leecher in leechers), "they were done before the kill"
        began_s = time.monotonic()
        programs.start("member", orchestra.orch, "--dir", long_piece.folder, "--port", "0")
        for leecher in leechers:
            assert leecher.wait(LONGEST_S) == 0
        took_s = time.monotonic() - began_s
    for name in ("one", "two"):
        assert orchestra.fetched(name)
    invariants.canary.check()
    figures.note("K5", "s from the seeder's return to the end, killed for 20 s", round(took_s, 1))
    assert took_s <= 30
