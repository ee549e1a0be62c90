"""X1, a sample: a file, socket or thread-start call fails. tests/soak/test_nth_call.py has all of them."""

from __future__ import annotations

import pytest

from tests.compositions import compose
from tests.nthcalls import conduct, fetch
from tests.programs import Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra


@pytest.mark.fault("X1")
@pytest.mark.parametrize(
    ("kind", "calls"), [("thread", (1, 3, 7)), ("file", (2, 9, 21, 30)), ("socket", (1, 8, 30, 60))]
)
def test_a_member_survives_the_failure_of_a_call(
    programs: Programs, kind: str, calls: tuple[int, ...]
) -> None:
    composition = compose(programs.folder / "source", 200_000, 16384)
    orchestra = Orchestra(programs, composition)
    with ScriptedPeer(composition) as peer:
        assert all(fetch(programs, orchestra, peer, kind, nth).reached for nth in calls)


@pytest.mark.fault("X1")
@pytest.mark.parametrize(
    ("kind", "nth"),
    [("thread", 1), ("thread", 3), ("file", 3), ("socket", 2), ("socket", 6), ("socket", 8), ("socket", 11)],
)
def test_a_conductor_survives_the_failure_of_a_call(programs: Programs, kind: str, nth: int) -> None:
    assert conduct(programs, kind, nth).reached
