"""How many connections the limit of open files leaves room for."""

from __future__ import annotations

import pytest

from orchestra.descriptors import LEAST_PEERS, OWN_DESCRIPTORS, room_for_peers

resource = pytest.importorskip("resource", reason="POSIX only")


@pytest.mark.fault("D11")
@pytest.mark.parametrize(
    ("limit", "room"),
    [(1024, 132), (OWN_DESCRIPTORS + 50, 50), (OWN_DESCRIPTORS, LEAST_PEERS), (-1, 132)],
)
def test_what_the_member_needs_itself_is_kept_back(
    monkeypatch: pytest.MonkeyPatch, limit: int, room: int
) -> None:
    soft = resource.RLIM_INFINITY if limit < 0 else limit
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert room_for_peers(132) == room
