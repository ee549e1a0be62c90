"""A member whose disk is full, read-only or failing: code 4, one line, and nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compositions import MIB, Composition, compose
from tests.programs import PATIENCE_S, ROOT, Program, Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import member_address


def can_mount() -> bool:
    """Whether a process may have mounts of its own: root may, and users where the system lets them."""
    if shutil.which("unshare") is None:
        return False
    test = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(test, capture_output=True, check=False).returncode == 0


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
        member = start_mounted(programs, mount, orch, "--dir", small, "--peer", peer.name)
        message = failure(member)
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
    assert "ead-only" in failure(start_mounted(programs, mount, orch, "--dir", folder))


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
    orch = composition.write_orch(tmp_path)
    options = [str(orch), "-q", "--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed"]
    half = range(composition.score.parts // 2)
    with ScriptedPeer(composition, parts=half) as peer:
        member = programs.start("member", *options, "--peer", peer.name)
        member.wait_for_event("progress", parts_done=len(half))
        member.stop()
    with ScriptedPeer(composition) as peer:
        env = failing(tmp_path, "pwritev", error, after=1)
        message = failure(programs.start("member", *options, "--peer", peer.name, env=env))
        assert str(tmp_path / "ours" / "piece.bin.part") in message
        assert ("disk is full" in message) == (error == "ENOSPC")
        assert not (tmp_path / "ours" / "piece.bin").exists()

        code, member = programs.run("member", *options, "--peer", peer.name)
        assert code == 0
        assert member.wait_for_event("progress")["parts_done"] >= len(half)
    assert composition.is_at(tmp_path / "ours" / "piece.bin")


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
        code, second = programs.run("member", *options, "--peer", peer.name)
        assert code == 6
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
