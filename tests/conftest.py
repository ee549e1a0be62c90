"""What holds for every test: nothing may be left over, nothing may hang, nothing of the user's is read.

A thread that outlives its test, an unclosed socket or file, a descriptor left
open and an exception in a thread all fail the test that caused them.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import figures
from tests.invariants import Invariants
from tests.programs import Programs

# No time is asserted, and a run depends on no run before it: a busy machine finds what an idle one finds.
settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

THREAD_GRACE_S = 5.0
"""How long a thread that is already ending may take. Only a leak waits that long."""
NO_SKIPS = os.environ.get("ORCHESTRA_NO_SKIPS") == "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `python3 run.py soak` says."""
    parser.addoption("--hold-marks", action="store_true", help="fail where a case's mark of time is missed")


def pytest_configure(config: pytest.Config) -> None:
    """Heed it."""
    if config.getoption("--hold-marks"):
        figures.hold_marks()


@pytest.fixture(scope="session", autouse=True)
def _settled_heap() -> None:
    """Keep what exists now out of every later collection: they run after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left_over() -> Iterator[None]:
    """Fail a test that leaves a thread, an open file or socket, or a bare descriptor behind."""
    threads, descriptors = set(threading.enumerate()), _open_descriptors()
    yield
    gc.collect()  # an unclosed socket in a cycle complains here, in the test that made it
    deadline = time.monotonic() + THREAD_GRACE_S
    left = [thread for thread in threading.enumerate() if thread not in threads]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    names = sorted(thread.name for thread in left if thread.is_alive())
    assert not names, f"threads left running: {names}"
    opened = _opened_since(descriptors)
    while opened and time.monotonic() < deadline:
        # Who listens to a program that outlives the test looks at its memory now and then.
        opened = _opened_since(descriptors)
    assert not opened, f"left open: {opened}"


def _opened_since(before: dict[int, str]) -> dict[int, str]:
    return {number: what for number, what in _open_descriptors().items() if before.get(number) != what}


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours, widths and proxies are for the tests to set."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Start composer, conductor and member as processes: `programs.start("conductor", "--port", "0")`."""
    started = Programs(tmp_path)
    yield started
    started.close()


@pytest.fixture
def invariants(programs: Programs) -> Iterator[Invariants]:
    """What must hold whatever the test does to its programs; checked when the test is over."""
    held = Invariants(programs)
    yield held
    held.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Where everything is installed (ORCHESTRA_NO_SKIPS=1), a skip hides something: it fails."""
    return _without_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """The same for a module that skips itself."""
    return _without_skip((yield))


def _without_skip(report: Any) -> Any:
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but ORCHESTRA_NO_SKIPS is set: {report.longrepr[2]}"
    return report


def _open_descriptors() -> dict[int, str]:
    """Descriptors of this process and what they stand for, where the system tells (Linux)."""
    folder, opened = Path("/proc/self/fd"), {}
    if folder.is_dir():
        for entry in folder.iterdir():
            try:
                opened[int(entry.name)] = str(entry.readlink())
            except OSError:  # the descriptor that lists them
                continue
    return opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the fault tests measured; `python3 run.py soak` runs them in one process."""
    if figures.lines():
        terminalreporter.section("figures")
        for line in figures.lines():
            terminalreporter.write_line(line)
