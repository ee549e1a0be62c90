"""The benchmarks really start their contenders, hear them, and leave none behind. No figure is judged."""

from __future__ import annotations

import io
import math
import sys
import tempfile
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.composition import MIB, Composition, cut, write_random
from benchmarks.conductors import NotingConductor
from benchmarks.contenders import LIMIT, OURS, TUNED, Contender, mixed, start_member
from benchmarks.processes import BenchmarkError, Stage, compile_modules
from benchmarks.transfer import measure_pair

SIZE_BYTES = 1 << 20
wait4 = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell what a process used")


@pytest.fixture
def composition(tmp_path: Path) -> Composition:
    path = tmp_path / "seed" / "piece.bin"
    write_random(path, SIZE_BYTES)
    return cut(path, 65536)


@pytest.mark.parametrize("contender", [OURS, LIMIT], ids=lambda contender: contender.name)
def test_a_pair_is_measured(contender: Contender, composition: Composition, tmp_path: Path) -> None:
    check_pair(contender, composition, tmp_path)


@pytest.mark.interop
@pytest.mark.parametrize("contender", [TUNED, mixed(TUNED, OURS)], ids=lambda contender: contender.name)
def test_a_pair_with_libtorrent_is_measured(
    contender: Contender, composition: Composition, tmp_path: Path
) -> None:
    pytest.importorskip("libtorrent")
    check_pair(contender, composition, tmp_path)


def check_pair(contender: Contender, composition: Composition, folder: Path) -> None:
    before = set(folder.iterdir())
    figures = measure_pair(contender, composition, folder)
    assert 0 < figures["wall_s"] <= figures["settled_s"]
    assert figures["wall_s"] < figures["exec_s"]
    assert all(value > 0 or math.isnan(value) for value in figures.values() if value != figures["other_load"])
    assert set(folder.iterdir()) == before


def test_a_process_that_ends_without_a_word_is_reported_with_what_it_said(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        process = stage.start([sys.executable, "-c", "import sys; sys.exit('no such thing')"], label="it")
        with pytest.raises(BenchmarkError, match="(?s)it ended without the event 'done'.*no such thing"):
            process.wait_for("done")


def test_a_process_caches_what_it_compiles_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = """import json, sys; print(json.dumps({"event": "said", "caches": not sys.dont_write_bytecode}))"""
    with Stage(tmp_path) as stage:
        process = stage.start([sys.executable, "-c", code], label="it")
        assert process.wait_for("said")[1]["caches"]


def test_the_modules_of_a_checkout_are_compiled_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "orchestra" / "inner").mkdir(parents=True)
    modules = [tmp_path / name for name in ("kbhit.py", "orchestra/wire.py", "orchestra/inner/plan.py")]
    for module in modules:
        module.write_text("")
    assert compile_modules(tmp_path)
    assert all(Path(cache_from_source(str(module))).exists() for module in modules)


def test_a_checkout_without_room_for_compiled_modules_is_measured_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orchestra").mkdir()
    (tmp_path / "orchestra" / "wire.py").write_text("")
    (tmp_path / "orchestra" / "__pycache__").write_text("in the way")
    assert not compile_modules(tmp_path)
    assert "each start compiles them anew" in capsys.readouterr().out


@wait4
def test_a_process_is_reaped_with_what_it_used(tmp_path: Path) -> None:
    code = "import time\nwhile time.process_time() < 0.05: pass\nraise SystemExit(3)"
    with Stage(tmp_path) as stage:
        process = stage.start([sys.executable, "-c", code], label="it")
        process.wait()
        assert process.usage is not None
        assert process.usage.exit_code == 3
        assert process.usage.cpu_s >= 0.05
        assert process.cpu_s() == process.usage.cpu_s
        assert process.usage.peak_bytes > 1 << 20


@wait4
def test_a_process_that_does_not_end_is_killed_at_its_deadline(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        process = stage.start([sys.executable, "-c", "import sys; sys.stdin.read()"], label="it")
        process.wait(timeout_s=0.01)
        assert process.usage is not None
        assert process.usage.exit_code < 0


def test_the_noting_conductor_knows_which_announces_came(composition: Composition, tmp_path: Path) -> None:
    with NotingConductor() as conductor, Stage(tmp_path) as stage:
        orch = composition.write_orch(stage.folder, conductor.address)
        member = start_member(stage, orch, composition.folder, "member")
        assert conductor.wait_for("started") > member.began_s
        assert not conductor.told("stopped")
        member.stop()
        assert conductor.told("stopped")


@pytest.mark.parametrize("in_memory", [True, False])
def test_memory_is_warmed_by_as_much_as_asked_where_files_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    path = tmp_path / "warmed"
    monkeypatch.setattr(processes, "in_memory", lambda folder: in_memory and folder.parent == tmp_path)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: io.FileIO(path, "w"))
    with Stage(tmp_path) as stage:
        stage.warm_memory(3 * MIB + 1)
    assert path.exists() == in_memory
    assert not in_memory or path.stat().st_size == 4 * MIB


def test_nothing_is_left_of_warm_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "in_memory", lambda _: True)
    with Stage(tmp_path) as stage:
        stage.warm_memory(12_345)
        assert list(stage.folder.iterdir()) == []
