"""A member whose disk is full, read-only or failing: code 4, one line, and nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import figures
from tests.compositions import MIB, Composition, compose
from tests.invariants import Invariants
from tests.kills import Download
from tests.programs import PATIENCE_S, ROOT, Program, Programs
from tests.ratedpeer import Rated
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import member_address


def can_mount() -> bool:
    """Whether a process may have mounts of its own: root may, and users where the system lets them."""
    if shutil.which("unshare") is None:
        return False
    test = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(test, capture_output=True, check=False).returncode == 0


SOON_S = 2.0
"""How long a member may take, with the start of Python, to find that it cannot go on."""

needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs Linux, and leave to mount in a namespace")


@pytest.fixture
def composition(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", 4 * MIB, 65536)


def start_mounted(programs: Programs, mount: str, *arguments: str | Path) -> Program:
    """A member after `mount` (shell commands), in a mount namespace that ends with it."""
    member = [sys.executable, str(ROOT / "member.py"), *map(str, arguments), "--json", "-q", "--port", "0"]
    member += ["--log-dir", str(programs.log_dir)]
    shell = ["sh", "-c", f'{mount} && exec "$@"', "sh"]
    return programs.start_other(["unshare", "--user", "--map-root-user", "--mount", *shell, *member])


def failure(member: Program) -> str:
    """The message of a member that must end with code 4 and one line on stderr."""
    assert member.wait() == 4, member.story()
    message = member.events[-1]["message"]
    assert isinstance(message, str)
    assert member.stderr == f"member: error: {message}\n"
    return message


@pytest.mark.fault("D1")
@needs_mounts
def test_a_disk_that_is_too_small_is_known_before_anything_is_fetched(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    orch = composition.write_orch(tmp_path)
    with ScriptedPeer(composition) as peer:
        mount = f"mount -t tmpfs -o size=1m none '{small}'"
        began_s = time.monotonic()
        member = start_mounted(programs, mount, orch, "--dir", small, "--peer", peer.name)
        message = failure(member)
        took_s = round(time.monotonic() - began_s, 2)
        figures.note("D1", "s from the start to the exit on a full disk", took_s, at_most=SOON_S)
        assert peer.sent_bytes == 0
    assert str(small / "piece.bin.part") in message
    assert str(4 * MIB) in message


@pytest.mark.fault("D8")
@needs_mounts
def test_a_folder_that_cannot_be_written_to(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    folder = tmp_path / "fixed"
    folder.mkdir()
    orch = composition.write_orch(tmp_path)
    mount = f"mount -t tmpfs -o ro none '{folder}'"
    began_s = time.monotonic()
    assert "ead-only" in failure(start_mounted(programs, mount, orch, "--dir", folder))
    _ended_soon("a read-only folder", began_s)


@pytest.mark.fault("D8")
@pytest.mark.skipif(os.name == "nt" or shutil.which("setpriv") is None, reason="needs setpriv")
def test_a_folder_that_may_not_be_written_to(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    """Who is root may do so whatever the mode says, without that capability not even root."""
    folder = tmp_path / "fixed"
    folder.mkdir(mode=0o500)
    orch = composition.write_orch(tmp_path)
    member = [sys.executable, str(ROOT / "member.py"), str(orch), "--dir", str(folder), "--json", "-q"]
    command = ["setpriv", "--bounding-set", "-dac_override", *member] if os.geteuid() == 0 else member
    began_s = time.monotonic()
    ended = programs.start_other([*command, "--port", "0", "--log-dir", str(programs.log_dir)])
    assert "Permission denied" in failure(ended)
    _ended_soon("no permission", began_s)


@pytest.mark.fault("D8")
@pytest.mark.skipif(os.name == "nt", reason="makes links and pipes")
@pytest.mark.parametrize("name", ["piece.bin", "piece.bin.part"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "link", "dangling link", "hard link"])
def test_what_is_in_the_way_is_refused_at_once_and_left_alone(
    programs: Programs, invariants: Invariants, composition: Composition, tmp_path: Path, kind: str, name: str
) -> None:
    """Links lead to the canary."""
    folder, target = tmp_path / "ours", invariants.canary.target
    folder.mkdir()
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    _place(folder / name, kind, target)
    before = (folder / name).lstat()
    with ScriptedPeer(composition) as peer:
        began_s = time.monotonic()
        words = ["--dir", str(folder), "--port", "0", "-q", "--peer", peer.name]
        assert name in failure(programs.start("member", composition.write_orch(tmp_path), *words))
        _ended_soon(f"a {kind} in the place of {name}", began_s)
        assert peer.sent_bytes == 0
    assert os.path.samestat((folder / name).lstat(), before)


def _place(path: Path, kind: str, target: Path) -> None:
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
        case "link":
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(target.with_name("nowhere"))
        case _:
            os.link(target, path)


def _ended_soon(what: str, began_s: float) -> None:
    figures.note("D8", f"{what}: s to the exit", round(time.monotonic() - began_s, 2), at_most=SOON_S)


@needs_mounts
def test_a_complete_file_is_seeded_from_where_nothing_can_be_written(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    orch = composition.write_orch(tmp_path)
    folder = composition.folder
    mount = f"mount --bind '{folder}' '{folder}' && mount -o remount,bind,ro '{folder}'"
    seeder = start_mounted(programs, mount, orch, "--dir", folder)
    options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed", "--peer", member_address(seeder)]
    code, _ = programs.run("member", orch, *options)
    assert code == 0
    assert composition.is_at(tmp_path / "ours" / "piece.bin")


def failing(folder: Path, function: str, error: str, after: int) -> dict[str, str]:
    """An environment in which os.`function` fails with `error` from its call number `after` on."""
    (folder / "sitecustomize.py").write_text(
        "import errno, itertools, os\n"
        f"right, calls = os.{function}, itertools.count()\n"
        "def fail(*arguments):\n"
        f"    if next(calls) >= {after}:\n"
        f"        raise OSError(errno.{error}, os.strerror(errno.{error}))\n"
        "    return right(*arguments)\n"
        f"os.{function} = fail\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@pytest.mark.fault("D2")
@pytest.mark.fault("D4")
@pytest.mark.skipif(not hasattr(os, "pwritev"), reason="the member writes with something else here")
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_disk_that_fails_half_way_costs_no_finished_part(
    programs: Programs, composition: Composition, tmp_path: Path, error: str
) -> None:
    """What came and could not be written comes again, no more: the peer is no faster than a network."""
    orch, ours = composition.write_orch(tmp_path), tmp_path / "ours"
    half, size = range(composition.score.parts // 2), composition.score.size_bytes
    with ScriptedPeer(composition, parts=(), curious=True) as witness:
        download = Download(programs, composition, ours, witness)
        with ScriptedPeer(composition, parts=half) as peer:
            member = download.start(orch, "-q", "--no-seed", "--peer", peer.name)
            member.wait_for_event("progress", parts_done=len(half))
            member.stop()
            download.ended(member)
        with Rated(composition, MIB) as peer:
            options = ["-q", "--no-seed", "--peer", peer.name]
            member = download.start(orch, *options, env=failing(tmp_path, "pwritev", error, after=9))
            message = failure(member)
            assert str(ours / "piece.bin.part") in message
            assert ("disk is full" in message) == (error == "ENOSPC")
            assert not (ours / "piece.bin").exists()
            download.ended(member)
            assert len(download.promised) >= len(half)

            member = download.start(orch, *options)
            assert member.wait() == 0
            download.ended(member)
            assert peer.connections == 2, "it was not blamed"
            again_bytes = peer.sent_bytes - size // 2
    assert download.finished()
    case, mark = ("D2", 65536) if error == "ENOSPC" else ("D4", None)
    figures.note(case, f"bytes fetched again after {error}, parts of 65536", again_bytes, at_most=mark)


@pytest.mark.fault("D1")
@pytest.mark.fault("D4")
@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="files are not reserved here")
@pytest.mark.parametrize(("function", "error"), [("posix_fallocate", "ENOSPC"), ("fsync", "EIO")])
def test_a_disk_that_fails_at_the_beginning_or_at_the_very_end_installs_nothing(
    programs: Programs, composition: Composition, tmp_path: Path, function: str, error: str
) -> None:
    orch = composition.write_orch(tmp_path)
    options = [str(orch), "-q", "--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed"]
    with ScriptedPeer(composition) as peer:
        env = failing(tmp_path, function, error, after=0)
        failure(programs.start("member", *options, "--peer", peer.name, env=env))
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["piece.bin.part"]


@pytest.mark.fault("D9")
def test_of_two_members_with_one_folder_one_is_told_and_the_other_finishes(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    orch = composition.write_orch(tmp_path)
    options = [str(orch), "-q", "--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed"]
    with ScriptedPeer(composition) as peer:
        peer.may_answer.clear()
        first = programs.start("member", *options, "--peer", peer.name)
        assert peer.asked.wait(PATIENCE_S)
        began_s = time.monotonic()
        code, second = programs.run("member", *options, "--peer", peer.name)
        assert code == 6
        took_s = round(time.monotonic() - began_s, 2)
        figures.note("D9", "s from the second one's start to its exit", took_s, at_most=SOON_S)
        assert "another member is writing this file" in second.stderr
        peer.may_answer.set()
        assert first.wait() == 0, first.story()
    assert composition.is_at(tmp_path / "ours" / "piece.bin")


@pytest.mark.fault("D7")
def test_a_file_that_is_cut_short_while_it_is_seeded_is_shared_as_far_as_it_goes_and_is_code_4_in_the_end(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    orch = composition.write_orch(tmp_path)
    seeder = programs.start("member", "-q", orch, "--dir", composition.folder, "--port", "0")
    address = member_address(seeder)
    os.truncate(composition.path, MIB)
    options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--peer", address]
    member = programs.start("member", orch, *options)
    member.wait_for_event("progress", parts_done=16)
    seeder.signal(signal.SIGTERM)
    assert "piece.bin was changed, or cannot be read: " in failure(seeder)
    assert member.process.poll() is None
