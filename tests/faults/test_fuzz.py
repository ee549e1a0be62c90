"""Short fuzz runs with fixed seeds, all of the corpus, and the tool itself (`python3 run.py fuzz`)."""

from __future__ import annotations

import contextlib
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from orchestra import bencode
from orchestra.announcereply import MAX_REPLY_BYTES, ReplyProblem, parse_reply
from orchestra.errors import RemoteProtocolError
from orchestra.extension import decode_extension_handshake
from orchestra.pex import decode_contacts
from tests import figures
from tests.fuzz import __main__ as program
from tests.fuzz.engine import find, fuzz, shrink
from tests.fuzz.registry import TARGETS
from tests.fuzz.sequences import MOST_BYTES, check_sequence, move
from tests.fuzz.stage import Stage
from tests.fuzz.target import CORPUS, Target

SHORT_INPUTS = 400
SHORT_SEQUENCES = 40


@pytest.mark.fault("G2")
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_brings_out_nothing_but_what_is_documented(name: str) -> None:
    target = TARGETS[name]
    inputs = SHORT_SEQUENCES if target.share < 1 else SHORT_INPUTS
    run = fuzz(target, 1, inputs=inputs, judge_time=False)
    assert run.finding is None, run.finding.trace + repr(run.finding.data)
    assert run.inputs >= inputs


@pytest.mark.fault("G2")
@pytest.mark.parametrize("name", TARGETS)
def test_every_file_of_the_corpus_is_survived(name: str) -> None:
    files = TARGETS[name].corpus_files()
    assert files, "each target keeps some inputs"
    for path in files:
        found = find(TARGETS[name], path.read_bytes())
        assert found is None, f"{path}: {found.trace}"


def test_every_folder_of_the_corpus_belongs_to_a_target_and_holds_small_files() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert max(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) <= 65536


# The tool


def _trips(data: bytes) -> str:
    """A parser with a mistake in it."""
    if b"\x00\xff" in data:
        raise IndexError("put there by a test")
    return "fine"


TRIPPING = Target("tripping", _trips, lambda rng: rng.randbytes(20), (b"\x00\xff",))


def test_a_mistake_is_found_shrunk_saved_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "TARGETS", {"tripping": TRIPPING})
    monkeypatch.setattr(program, "FOUND", tmp_path)
    assert program.main(["--seed", "1", "--inputs", "10000"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("seed 1 ")
    assert "IndexError: put there by a test" in said
    [short] = [path for path in tmp_path.iterdir() if path.read_bytes() == b"\x00\xff"]
    assert str(short) in said
    assert program.main(["--only", "tripping", "--replay", str(short)]) == 1
    short.write_bytes(b"harmless")
    assert program.main(["--only", "tripping", "--replay", str(short)]) == 0


def test_without_a_mistake_it_ends_with_0_and_tells_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "TARGETS", {name: TARGETS[name] for name in ("bencode", "handshake")})
    assert program.main(["0.2", "--seed", "2"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["bencode", "handshake"]
    assert all("longest" in line and "memory" in line for line in lines)


def test_the_same_seed_makes_the_same_inputs_and_another_one_others() -> None:
    made = []
    for seed in (1, 1, 2):
        seen: list[bytes] = []

        def note(data: bytes, seen: list[bytes] = seen) -> str:
            if seen[-1:] != [data]:  # what seems slow is tried again
                seen.append(data)
            return str(len(data) % 7)

        fuzz(Target("noting", note, TARGETS["bencode"].make, (b"abc",)), seed, inputs=300)
        made.append(seen)
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_an_input_that_is_always_slow_is_a_finding() -> None:
    def slow(_: bytes) -> str:
        start_s = time.thread_time()
        while time.thread_time() - start_s < 0.015:
            pass
        return "slow"

    run = fuzz(Target("slow", slow, lambda rng: rng.randbytes(3)), 1, inputs=2)
    assert run.finding is not None
    assert "TooSlow" in run.finding.what


def test_time_in_which_the_processor_does_something_else_is_none_of_an_input() -> None:
    def waits(_: bytes) -> str:
        time.sleep(0.015)
        return "waits"

    run = fuzz(Target("waits", waits, lambda rng: rng.randbytes(3)), 1, inputs=2)
    assert run.finding is None


def test_what_is_shrunk_still_makes_the_same_mistake() -> None:
    finding = find(TRIPPING, b"abcdefg\x00\xff" + bytes(range(1, 200)))
    assert finding is not None
    assert shrink(TRIPPING, finding).data == b"\x00\xff"


# A broken orchestrator is noticed


@pytest.mark.fault("G2")
@pytest.mark.parametrize(
    "broken",
    [
        "orchestra.downloads.Downloads.give_back",
        "orchestra.picker.Picker.discount_peer",
        "orchestra.flights.Flights.release",
        "orchestra.uploads.Uploads.left",
        "tests.fakes.CountingBuffer.give_back",
    ],
)
def test_an_orchestrator_that_forgets_something_breaks_an_invariant(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(broken, lambda *_, **__: None)
    assert fuzz(TARGETS["sequences"], 1, inputs=3000).finding is not None


class Orchestra(RuleBasedStateMachine):
    """The same moves under hypothesis, which shrinks what it finds to the shortest story."""

    def __init__(self) -> None:
        super().__init__()
        self.stage: Stage | None = None
        self._choices = random.Random(0)

    def _choose(self, below: int) -> int:
        return self._choices.randrange(below)

    @rule(seed=st.integers(0, 255), number=st.integers(0, 255))
    def play(self, seed: int, number: int) -> None:
        """One move."""
        self._choices = random.Random(seed)
        if self.stage is None:
            self.stage = Stage(self._choose)
            self.stage.writer_checks()
            self.stage.listener_works()
        move(self.stage, number)

    @invariant()
    def holds(self) -> None:
        """All that must hold."""
        if self.stage is not None:
            self.stage.check()
            self.stage.check_books()

    def teardown(self) -> None:
        """It always ends."""
        if self.stage is not None:
            self.stage.finish()


@pytest.mark.fault("G2")
def test_the_orchestrator_keeps_its_invariants_under_any_messages() -> None:
    run_state_machine_as_test(Orchestra, settings=settings(max_examples=30, stateful_step_count=60))


@pytest.mark.fault("G2")
@settings(max_examples=40)
@given(st.binary(max_size=MOST_BYTES))
def test_any_bytes_are_a_sequence_that_ends(data: bytes) -> None:
    check_sequence(data)


# G3: what is nested deep, or says that it is long


MONSTERS: dict[str, bytes] = {
    "lists in lists": b"l" * 1_000_000,
    "dictionaries in dictionaries": b"d1:a" * 250_000,
    "closed lists": b"l" * 500_000 + b"e" * 500_000,
    "a number of a million digits": b"i" + b"9" * 1_000_000 + b"e",
    "a negative one": b"i-" + b"9" * 1_000_000 + b"e",
    "a string that is not there": b"99999999999:",
    "a string longer than all numbers": b"9" * 1_000_000 + b":",
    "a dictionary of such a string": b"d99999999999:e",
}
READERS: dict[str, tuple[Callable[[bytes], object], type[Exception]]] = {
    "bencode": (bencode.decode, ValueError),
    "reply": (lambda data: parse_reply(data[:MAX_REPLY_BYTES], loopback=True), ReplyProblem),
    "extension handshake": (lambda data: decode_extension_handshake(data[:32768]), RemoteProtocolError),
    "peer exchange": (lambda data: decode_contacts(data[:32768]), RemoteProtocolError),
}


@pytest.mark.fault("G3")
@pytest.mark.parametrize("reader", READERS)
def test_monstrous_bencode_is_refused_at_once_and_takes_no_memory(reader: str) -> None:
    read, documented = READERS[reader]
    worst_s, worst_bytes = 0.0, 0
    for data in MONSTERS.values():
        with pytest.raises(documented):
            read(data)  # what is imported on first use is there from now on
        worst_s = max(worst_s, min(_time_of(read, data) for _ in range(5)))
        tracemalloc.start()
        _time_of(read, data)
        worst_bytes = max(worst_bytes, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    figures.note("G3", f"{reader}, longest of {len(MONSTERS)} (ms)", f"{1000 * worst_s:.2f}")
    figures.note("G3", f"{reader}, most memory (bytes)", worst_bytes)
    assert worst_bytes <= 1 << 20
    assert worst_s < 1.0  # the mark is 0.010; a busy machine takes longer


def _time_of(read: Callable[[bytes], object], data: bytes) -> float:
    start_s = time.perf_counter()
    with contextlib.suppress(ValueError, RemoteProtocolError):
        read(data)
    return time.perf_counter() - start_s
