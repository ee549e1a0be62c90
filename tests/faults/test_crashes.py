"""A bug in any thread ends the program: exit 1, a log with the traceback, one line for the user."""

from __future__ import annotations

import ast
import contextlib
import os
import pty
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.compositions import Composition, compose
from tests.programs import PATIENCE_S, ROOT, Programs
from tests.scriptedpeer import ScriptedPeer

SOURCES = sorted([*ROOT.glob("*.py"), *(ROOT / "orchestra").rglob("*.py")])
NODES = [(path, node) for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
OTHER_THREADS = {"kbhit.py": 2, "company.py": 1}
"""Not Workers: the keys, which import nothing of ours (cli.run looks after their crashes), and the demo's."""


def test_no_unexpected_exception_is_swallowed() -> None:
    """Whoever catches everything raises it again or reports it."""
    for path, handler in NODES:
        if not isinstance(handler, ast.ExceptHandler) or not _catches_all(handler):
            continue
        raises = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
        reports = {"_report", "put", "fail", "critical"} & {
            node.attr for node in ast.walk(handler) if isinstance(node, ast.Attribute)
        }
        assert raises or reports, f"{path.name}:{handler.lineno} swallows an exception"


def _catches_all(handler: ast.ExceptHandler) -> bool:
    names = (
        {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else {""}
    )
    return bool(names & {"", "Exception", "BaseException"})


def test_exceptions_of_any_kind_are_not_suppressed() -> None:
    suppressed = [
        f"{path.name}: {ast.unparse(node)}"
        for path, node in NODES
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "contextlib.suppress"
        and {"Exception", "BaseException"} & {ast.unparse(argument) for argument in node.args}
    ]
    assert not suppressed


def test_every_thread_is_a_worker_but_those_that_are_named_here() -> None:
    made = Counter(path.name for path, node in NODES if _makes_a_thread(node))
    assert made == OTHER_THREADS | {"worker.py": 1}


def _makes_a_thread(node: ast.AST) -> bool:
    if isinstance(node, ast.ClassDef):
        return any(ast.unparse(base) in ("Thread", "threading.Thread") for base in node.bases)
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("Thread", "threading.Thread")


# Crashes


def crashing(folder: Path, target: str) -> dict[str, str]:
    """An environment in which `module:Class.method` of the program raises: a bug, put there by the test."""
    module, _, path = target.partition(":")
    owner, _, name = path.rpartition(".")
    (folder / "sitecustomize.py").write_text(
        f"import {module}\n"
        "def fail(*_, **__):\n"
        "    raise RuntimeError('put there by a test')\n"
        f"setattr({module}{'.' if owner else ''}{owner}, {name!r}, fail)\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def assert_it_was_said(stderr: str, log_dir: Path, program: str) -> None:
    [line] = stderr.splitlines()
    assert line.startswith(
        f"{program}: error: unexpected failure: RuntimeError: put there by a test (the log"
    )
    logs = "".join(path.read_text() for path in log_dir.iterdir())
    assert "Traceback" in logs
    assert "put there by a test" in logs


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Composition:
    return compose(tmp_path_factory.mktemp("source"), 100_000, 16384)


@pytest.mark.parametrize(
    "target",
    [
        "orchestra.line:Line.send_waiting",
        "orchestra.receiver:Receiver._receive",
        "orchestra.landing:Landing.decode",
        "orchestra.writer:Writer._write",
        "orchestra.digestfeed:DigestFeed.written",
        "orchestra.swarm:Swarm.received",
        "orchestra.humans:rate",
    ],
)
def test_a_bug_in_the_midst_of_a_transfer_ends_the_member(
    programs: Programs, composition: Composition, tmp_path: Path, target: str
) -> None:
    orch = composition.write_orch(tmp_path)
    environment = crashing(tmp_path, target)
    arguments: list[str | Path] = [orch, "--dir", tmp_path / "down", "--port", "0", "-q"]
    with ScriptedPeer(composition) as peer:
        member = programs.start("member", *arguments, "--peer", peer.name, env=environment, json=False)
        assert member.wait() == 1
    assert_it_was_said(member.stderr, programs.log_dir, "member")
    assert not (tmp_path / "down" / composition.score.name).exists()


@pytest.mark.parametrize(
    "target",
    [
        "orchestra.webserver:wasyncore.loop",
        "orchestra.tracker:Tracker.announce",
        "orchestra.announce:_fields",
        "orchestra.webserver:_Channel.received",
        "orchestra.webserver:_Parser.parse_header",
        "orchestra.webserver:_Listener._let_in",
        "orchestra.webserver:_OneRequest.start",
        "waitress.channel:HTTPChannel._flush_some",
        "waitress.channel:HTTPChannel.service",
        "waitress.buffers:OverflowableBuffer.close",
    ],
)
def test_a_bug_in_a_thread_of_the_conductor_ends_it(programs: Programs, tmp_path: Path, target: str) -> None:
    environment = crashing(tmp_path, target)
    if target == "orchestra.announce:_fields":
        (tmp_path / "sitecustomize.py").write_text(
            "import orchestra.trackerapp as app\n"
            "def fail(*_): raise RuntimeError('put there by a test')\n"
            "app.parse_announce = fail\n"
        )
    conductor = programs.start("conductor", "--host", "127.0.0.1", "--port", "0", "-q", env=environment)
    if "wasyncore" not in target:
        port = conductor.wait_for_event("listening")["port"]
        query = "info_hash=" + "a" * 20 + "&peer_id=" + "b" * 20 + "&port=7000&uploaded=0&downloaded=0&left=0"
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
            sock.sendall(f"GET /announce?{query} HTTP/1.0\r\n\r\n".encode())
            sock.settimeout(PATIENCE_S)
            with contextlib.suppress(ConnectionError):
                while sock.recv(4096):
                    pass
    assert conductor.wait() == 1
    assert_it_was_said(conductor.stderr, programs.log_dir, "conductor")


@pytest.mark.parametrize("target", ["orchestra.parthash:PartHasher.update", "orchestra.hashing:_Parts.give"])
def test_a_bug_in_the_composer_ends_it_and_leaves_no_file(
    programs: Programs, composition: Composition, tmp_path: Path, target: str
) -> None:
    out = tmp_path / "x.orch"
    composer = programs.start(
        "composer", composition.path, "-o", out, "-q", env=crashing(tmp_path, target), json=False
    )
    assert composer.wait() == 1
    assert_it_was_said(composer.stderr, programs.log_dir, "composer")
    assert not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="a terminal as POSIX has them")
def test_a_bug_in_the_thread_of_the_keys_ends_the_program(tmp_path: Path) -> None:
    """The one thread of ours that no Worker looks after: it imports nothing of ours."""
    environment = {**os.environ, **crashing(tmp_path, "kbhit:_Listener._report")}
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "conductor.py"), "--host", "127.0.0.1", "--port", "0", "-q"]
    log_dir = tmp_path / "logs"
    process = subprocess.Popen(
        [*command, "--log-dir", str(log_dir), "--json"],
        env=environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        os.write(ours, b"x")
        _, stderr = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 1
    assert_it_was_said(stderr.decode(), log_dir, "conductor")
