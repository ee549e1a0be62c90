"""The invariants' own tests: each of them fails when what it watches over is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import figures
from tests.compositions import Composition, compose
from tests.invariants import Canary, Invariants, check_log, usage_of
from tests.programs import Programs
from tests.referencepeer import fetch_parts
from tests.scriptedpeer import ScriptedPeer, wrongly

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")


@pytest.fixture
def composition(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", 100_000, 16384)


def test_a_canary_notices_bytes_times_names_and_links(tmp_path: Path) -> None:
    def touch(path: Path) -> None:
        os.utime(path, (1, 1))

    deeds: list[Callable[[Path], object]] = [
        lambda folder: (folder / "passwd").write_text("root::0:0\n"),
        lambda folder: (folder / "new").touch(),
        lambda folder: (folder / "link").unlink(),
        lambda folder: touch(folder / "target.bin"),
        lambda folder: (folder / ".ssh" / "authorized_keys").chmod(0o777),
    ]
    for number, deed in enumerate(deeds):
        canary = Canary(tmp_path / str(number))
        canary.check()
        deed(canary.folder)
        with pytest.raises(AssertionError, match="outside"):
            canary.check()


def test_wrong_bytes_fail_and_none_do_not(
    programs: Programs, composition: Composition, tmp_path: Path
) -> None:
    held = Invariants(programs)
    path = held.output(composition, tmp_path / "there.bin")
    held.check()
    path.write_bytes(composition.path.read_bytes())
    held.check()
    path.write_bytes(b"something else")
    with pytest.raises(AssertionError, match="wrong bytes"):
        held.check()


@pytest.mark.parametrize(
    "line", ["Traceback (most recent call last):", "thread reader crashed: X", "unexpected failure"]
)
def test_a_crash_in_a_log_or_on_stderr_fails(programs: Programs, line: str) -> None:
    with pytest.raises(AssertionError, match="a log"):
        check_log(f"fine\n{line}\n", "a log")
    held = Invariants(programs)
    held.check()
    programs.log_dir.mkdir()
    (programs.log_dir / "member-1.log").write_text(f"{line}\n")
    with pytest.raises(AssertionError, match="member-1.log"):
        held.check()


def test_an_exit_code_that_nobody_knows_and_too_much_memory_fail(programs: Programs) -> None:
    held = Invariants(programs)
    program = programs.start_other([sys.executable, "-c", "raise SystemExit(9)"])
    program.name = "member"
    assert program.wait() == 9
    with pytest.raises(AssertionError, match="ended with 9"):
        held.check()
    program.was_killed = True
    held.check()
    program.peak_rss_bytes = 81 << 20
    with pytest.raises(AssertionError, match="81.0 MiB, 80 allowed"):
        held.check()


@needs_proc
def test_a_program_s_threads_descriptors_and_peak_are_seen(programs: Programs) -> None:
    code = "big = bytearray(50 << 20); print('x', flush=True); input()"
    program = programs.start_other([sys.executable, "-c", code], stdin=subprocess.PIPE)
    program.wait_for_noise()
    assert program.peak_rss_bytes > 50 << 20
    usage = usage_of(program.pid)
    assert (usage.threads, usage.descriptors) == (1, 3)
    assert usage.rss_bytes > 50 << 20
    program.kill()
    assert usage_of(program.pid).threads == 0


@needs_proc
def test_what_does_not_settle_fails(programs: Programs) -> None:
    code = "print('x', flush=True); input(); f = [open('/dev/null') for _ in range(9)]; print(1); input()"
    program = programs.start_other([sys.executable, "-uc", code], stdin=subprocess.PIPE)
    program.wait_for_noise()
    held = Invariants(programs)
    with held.settles(program, within_s=0):
        pass

    def leak() -> None:
        with held.settles(program, within_s=0):
            program.press("\n")
            program.wait_for_noise(2)

    with pytest.raises(AssertionError, match="descriptors=12"):
        leak()


def test_the_reference_peer_fails_for_a_wrong_byte(composition: Composition) -> None:
    with (
        ScriptedPeer(composition, answer=wrongly) as liar,
        pytest.raises(AssertionError, match="wrong bytes in part 2"),
    ):
        fetch_parts(liar.address, composition, range(2, 3))


def test_a_figure_beyond_its_mark_fails_where_marks_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_FIGURES", [])
    monkeypatch.setattr(figures, "_HELD", [])
    figures.note("K6", "s to the exit", 3.1, at_most=3)
    figures.hold_marks()
    figures.note("K6", "s to the exit", 3, at_most=3)
    with pytest.raises(AssertionError, match="K6 s to the exit: 3.1, and the mark is 3"):
        figures.note("K6", "s to the exit", 3.1, at_most=3)
    assert len(figures.lines()) == 3, "it is noted even so"
