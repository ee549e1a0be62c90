"""A scripted peer with an uplink of its own, so that the network is what all wait for."""

from __future__ import annotations

import threading
import time

from tests.compositions import MIB, Composition
from tests.scriptedpeer import Answer, ScriptedPeer, rightly

RATE_BYTES_S = 2 * MIB


class Rated(ScriptedPeer):
    """A peer that gives so many bytes a second to all together; good ones, unless `reply` says otherwise."""

    def __init__(
        self, composition: Composition, rate_bytes_s: float = RATE_BYTES_S, *, reply: Answer = rightly
    ) -> None:
        self._next_s = 0.0
        self._turn = threading.Lock()
        self._rate_bytes_s = rate_bytes_s
        self._reply = reply
        super().__init__(composition, answer=self._in_time)

    def _in_time(self, part: int, begin: int, block: bytes) -> bytes | None:
        with self._turn:
            now_s = time.monotonic()
            self._next_s = max(self._next_s, now_s) + len(block) / self._rate_bytes_s
            wait_s = self._next_s - now_s
        if wait_s > 0:
            threading.Event().wait(wait_s)
        return self._reply(part, begin, block)
