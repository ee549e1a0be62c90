"""member.py as a user meets it: its exit codes, its one line of error, and what it refuses to write."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import netutils
from netutils import format_address
from tests.compositions import Composition, compose
from tests.programs import ROOT, Program, Programs

POSIX = os.name == "posix"


@pytest.fixture
def composition(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", 40_000, 16384)


def failure(member: Program, code: int) -> str:
    """The error of a member run with --json: one line, the same in the event, no traceback."""
    assert member.wait() == code, member.story()
    error = member.events[-1]
    assert error["event"] == "error"
    assert error["exit_code"] == code
    assert member.stderr == f"member: error: {error['message']}\n"
    assert "Traceback" not in member.stderr
    message = error["message"]
    assert isinstance(message, str)
    return message


def fails(programs: Programs, code: int, *arguments: str | os.PathLike[str], **options: Any) -> str:
    """Run a member that must fail with `code`; its message."""
    return failure(programs.start("member", *arguments, **options), code)


def contents(folder: Path) -> dict[str, tuple[float, bytes]]:
    """Everything below `folder`: when it was changed, and what is in it."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in folder.rglob("*")
    }


# 0 and 2: the command line


def test_no_argument_at_all_prints_a_short_usage(programs: Programs) -> None:
    command = [sys.executable, str(ROOT / "member.py")]
    member = programs.start_other(command)
    assert member.wait() == 2
    assert member.stderr.startswith("usage: member.py")
    assert "examples:" in member.stderr


def test_help_and_version_end_with_0(programs: Programs) -> None:
    for option in ("--help", "--version"):
        code, member = programs.run("member", option, json=False)
        assert code == 0
        assert member.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["x.orch", "--port", "65536"], "port"),
        (["x.orch", "--port", "-1"], "port"),
        (["x.orch", "--port", "٣"], "port"),
        (["x.orch", "--peer", "nowhere"], "nowhere"),
        (["x.orch", "--peer", "[::1:80"], "IPv6"),
        (["x.orch", "--peer", "\x1b[31m:1"], r"\x1b[31m"),
        (["x.orch", "--timeout", "0"], "above 0"),
        (["x.orch", "--timeout", "nan"], "above 0"),
        (["x.orch", "y.orch"], "y.orch"),
        (["x.orch", "--por", "1"], "--por"),
        (["--no-seed"], "ORCH"),
    ],
)
def test_a_wrong_command_line_is_code_2_and_one_line(
    programs: Programs, arguments: list[str], word: str
) -> None:
    assert word in fails(programs, 2, *arguments)


def test_a_complete_file_with_no_seed_is_verified_and_ends_with_0(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    orch = composition.write_orch(tmp_path)
    code, member = programs.run("member", orch, "--dir", composition.folder, "--no-seed", "--port", "0")
    assert code == 0
    complete = member.wait_for_event("complete")
    assert complete["path"] == str(composition.path)
    assert complete["sha1"] == composition.score.sha1.hex()
    assert complete["size_bytes"] == 40_000
    assert complete["downloaded_bytes"] == 0
    assert member.events[-1] == {"event": "stopped", "reason": "complete"}


# 3: the .orch


def test_a_broken_orch_is_code_3_and_names_the_line(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    orch = composition.write_orch(tmp_path)
    lines = orch.read_bytes().split(b"\n")
    lines[5] = b"10"
    orch.write_bytes(b"\n".join(lines))
    assert fails(programs, 3, orch) == f"{orch}: line 6: 10 parts, but 40000 bytes in parts of 16384 make 3"


def test_parts_beyond_the_reach_of_the_wire_are_code_3(programs: Programs, tmp_path: Path) -> None:
    size = (1 << 32) + 1
    orch = tmp_path / "huge.bin.orch"
    orch.write_text(f"127.0.0.1:1\nhuge.bin\n{'0' * 40}\n{size}\n{size}\n1\n{'0' * 40}\n")
    assert "compose it with a smaller part size" in fails(programs, 3, orch, "--dir", tmp_path)
    assert not (tmp_path / "huge.bin.part").exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"d8:announce3:abce", b"\xff\xfe" * 50], ids=str)
def test_what_is_no_orch_is_code_3(programs: Programs, tmp_path: Path, content: bytes) -> None:
    orch = tmp_path / "x.orch"
    orch.write_bytes(content)
    assert str(orch) in fails(programs, 3, orch)


@pytest.mark.skipif(not POSIX, reason="named pipes and devices are POSIX")
def test_a_folder_a_pipe_and_a_device_are_no_orch(programs: Programs, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.orch"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/zero")):
        assert str(path) in fails(programs, 3, path)


HOSTILE_NAMES = {
    "parent": b"../x",
    "absolute": b"/etc/x",
    "two lines": b"a\nb",
    "colour": b"\x1b[31m",
    "dots": b"..",
    "backslash": b"..\\x",
    "not utf-8": b"\xff\xfe",
    "right to left": "a\u202ecod.exe".encode(),
    "device": b"NUL",
    "nul": b"a\x00b",
    "long": b"n" * 241,
    "nothing": b"",
}


def test_a_hostile_name_is_refused_and_nothing_is_written_anywhere(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    around = tmp_path / "around"
    down = around / "down"
    down.mkdir(parents=True)
    (around / "x").write_text("canary")
    lines = composition.write_orch(tmp_path).read_bytes().split(b"\n")
    before = contents(around)
    members = {}
    for title, name in HOSTILE_NAMES.items():
        orch = tmp_path / f"{title}.orch"
        orch.write_bytes(b"\n".join([lines[0], name, *lines[2:]]))
        members[title] = programs.start("member", "-q", orch, "--dir", down, "--no-seed", "--port", "0")
    for title, member in members.items():
        line = 3 if title == "two lines" else 2
        assert f"{title}.orch: line {line}: " in failure(member, 3)
        assert member.stderr.rstrip("\n").isprintable()
    assert contents(around) == before
    assert not Path("/etc/x").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a\nb", "\x1b[31m", "..", "COM1", "", "a" * 241])
def test_a_hostile_output_name_is_a_usage_error(
    programs: Programs, composition: Composition, tmp_path: Path, name: str
) -> None:
    orch = composition.write_orch(tmp_path)
    down = tmp_path / "around" / "down"
    assert "--output" in fails(programs, 2, orch, "--dir", down, "--output", name)
    assert not down.parent.exists()


def test_a_name_that_begins_with_a_dot_needs_output(programs: Programs, tmp_path: Path) -> None:
    hidden = compose(tmp_path / "source", 1000, 1000, name=".bashrc")
    orch = hidden.write_orch(tmp_path)
    down = tmp_path / "down"
    assert "--output" in fails(programs, 3, orch, "--dir", down)
    assert not down.exists()
    down.mkdir()
    (down / "bashrc").write_bytes(hidden.path.read_bytes())
    code, _ = programs.run("member", orch, "--dir", down, "--output", "bashrc", "--no-seed", "--port", "0")
    assert code == 0


# 4: storage


def test_a_missing_orch_is_code_4(programs: Programs, tmp_path: Path) -> None:
    assert "missing.orch" in fails(programs, 4, tmp_path / "missing.orch")


@pytest.mark.parametrize("size_bytes", [39_999, 40_000, 40_001])
def test_an_existing_different_file_is_never_touched_without_force(
    programs: Programs, composition: Composition, tmp_path: Path, size_bytes: int
) -> None:
    down = tmp_path / "down"
    down.mkdir()
    (down / "piece.bin").write_bytes(b"x" * size_bytes)
    orch = composition.write_orch(tmp_path)
    before = contents(down)
    message = fails(programs, 4, orch, "--dir", down, "--port", "0")
    assert "--force" in message
    assert "--output" in message
    assert contents(down) == before


def _named_pipe(path: Path) -> None:
    os.mkfifo(path)


def _link_to_a_file(path: Path) -> None:
    path.symlink_to(path.parent.parent / "canary")


def _dangling_link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "not yet")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.skipif(not POSIX, reason="named pipes and unprivileged links are POSIX")
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["", "force"])
@pytest.mark.parametrize("name", ["piece.bin", "piece.bin.part"])
@pytest.mark.parametrize("make", [_named_pipe, _link_to_a_file, _dangling_link, _folder])
def test_what_is_no_plain_file_is_left_alone(
    programs: Programs, composition: Composition, tmp_path: Path, make: Any, name: str, force: list[str]
) -> None:
    around = tmp_path / "around"
    down = around / "down"
    down.mkdir(parents=True)
    (around / "canary").write_bytes(b"canary")
    make(down / name)
    orch = composition.write_orch(tmp_path)
    before = contents(around)
    assert name in fails(programs, 4, orch, "--dir", down, "--port", "0", *force)
    after = contents(around)
    after.pop("down/piece.bin.part", None) if name == "piece.bin" else None
    assert after.keys() == before.keys()
    assert after["canary"] == before["canary"]


@pytest.mark.skipif(not POSIX, reason="a second name is a thing of POSIX file systems")
def test_a_file_that_has_another_name_elsewhere_is_not_written_to(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    down = tmp_path / "down"
    down.mkdir()
    (tmp_path / "canary").write_bytes(b"canary")
    (down / "piece.bin.part").hardlink_to(tmp_path / "canary")
    orch = composition.write_orch(tmp_path)
    assert "piece.bin.part" in fails(programs, 4, orch, "--dir", down, "--port", "0", "--force")
    assert (tmp_path / "canary").read_bytes() == b"canary"


def test_a_dir_that_is_a_file_is_code_4(programs: Programs, composition: Composition, tmp_path: Path) -> None:
    orch = composition.write_orch(tmp_path)
    assert str(orch) in fails(programs, 4, orch, "--dir", orch, "--port", "0")


def test_a_missing_dir_is_made(programs: Programs, composition: Composition, tmp_path: Path) -> None:
    down = tmp_path / "new" / "down"
    member = programs.start("member", composition.write_orch(tmp_path), "--dir", down, "--port", "0")
    member.wait_for_event("listening")
    assert (down / "piece.bin.part").exists()


# 5: network


def test_a_taken_port_is_code_5(programs: Programs, composition: Composition, tmp_path: Path) -> None:
    listeners = netutils.listen(None, 0)
    port = str(listeners[0].getsockname()[1])
    try:
        orch = composition.write_orch(tmp_path)
        message = fails(programs, 5, orch, "--dir", tmp_path / "down", "--port", port)
        assert port in message
        assert "--port" in message
    finally:
        for listener in listeners:
            listener.close()


def test_no_source_before_the_timeout_is_code_5(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    orch = composition.write_orch(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_address = format_address(silent.getsockname())
        message = fails(
            programs,
            5,
            "-q",
            orch,
            "--dir",
            tmp_path / "down",
            "--port",
            "0",
            "--timeout",
            "1.5",
            "--peer",
            silent_address,
        )
    assert "1.5 s" in message


# 6: another member


def test_two_members_on_the_same_file_are_one_too_many(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    orch = composition.write_orch(tmp_path)
    down = tmp_path / "down"
    first = programs.start("member", orch, "--dir", down, "--port", "0")
    first.wait_for_event("listening")
    assert "another member" in fails(programs, 6, orch, "--dir", down, "--port", "0")
    assert first.process.poll() is None


# Signals


@pytest.mark.skipif(not POSIX, reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_it_cleanly_and_by_that_signal(
    programs: Programs, composition: Composition, tmp_path: Path, name: str
) -> None:
    orch = composition.write_orch(tmp_path)
    member = programs.start("member", "-q", orch, "--dir", tmp_path / "down", "--port", "0")
    member.wait_for_event("listening")
    member.signal(signal.Signals[name])
    assert member.wait() == -signal.Signals[name]
    assert member.events[-1] == {"event": "stopped", "reason": name}
    assert member.stderr == ""


@pytest.mark.skipif(not POSIX, reason="Windows has no such signals")
def test_sigkill_leaves_no_lock_behind(programs: Programs, composition: Composition, tmp_path: Path) -> None:
    orch = composition.write_orch(tmp_path)
    for _ in range(2):
        member = programs.start("member", orch, "--dir", tmp_path / "down", "--port", "0")
        member.wait_for_event("listening")
        member.kill()


# 1: bugs


def crashing(folder: Path, target: str) -> dict[str, str]:
    """An environment in which `module:Class.method` of the program raises: a bug, put there by the test."""
    module, _, path = target.partition(":")
    owner, _, method = path.rpartition(".")
    (folder / "sitecustomize.py").write_text(
        f"import {module}\n"
        "def fail(*_, **__):\n"
        "    raise RuntimeError('put there by a test')\n"
        f"{module}.{owner}.{method} = fail\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@pytest.mark.parametrize(
    "target",
    [
        "orchestra.writer:Writer._open",
        "orchestra.writer:Writer.work",
        "orchestra.reader:Reader.work",
        "orchestra.digest:DigestWorker.work",
        "orchestra.listener:Listener.work",
        "orchestra.announcer:Announcer.work",
        "orchestra.connection:Connection._live",
        "orchestra.orchestrator:Orchestrator.handle",
        "orchestra.orchestrator:Orchestrator.tick",
        "orchestra.session:Session.next_message",
        "orchestra.console:Bar.update",
        "orchestra.storage:Storage.open_part",
    ],
)
def test_a_bug_anywhere_is_code_1_with_the_traceback_in_the_log_only(
    programs: Programs, composition: Composition, tmp_path: Path, target: str
) -> None:
    orch = composition.write_orch(tmp_path)
    quiet_peer = "127.0.0.1:1"
    member = programs.start(
        "member",
        "-q",
        orch,
        "--dir",
        tmp_path / "down",
        "--port",
        "0",
        "--peer",
        quiet_peer,
        env=crashing(tmp_path, target),
    )
    assert member.wait() == 1
    lines = member.stderr.splitlines()
    assert len(lines) == 1, member.stderr
    assert lines[0].startswith("member: error: unexpected failure: RuntimeError")
    logs = "".join(path.read_text() for path in programs.log_dir.iterdir())
    assert "Traceback" in logs
    assert "put there by a test" in logs
