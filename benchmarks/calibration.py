"""Whether a shaped link carries what its rate says: a plain TCP transfer over one, each way. Main thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.composition import MIB, write_random
from benchmarks.contenders import HERE
from benchmarks.links import Host, Network, address_of, payload_bytes_s
from benchmarks.processes import BenchmarkError, Stage
from benchmarks.scenarios import DOWN_BIT_S, UP_BIT_S

SIZE_BYTES = 16 * MIB
TOLERANCE = 0.02
TRIES = 3
"""A machine that was busy for a moment gets another chance: it is the link that is asked about."""


def calibrate(parent: Path) -> tuple[float, float]:
    """Payload through an upload and through a download, over what it should be. Raises BenchmarkError."""
    up = _checked(lambda: carried(parent, Host("sender", UP_BIT_S), Host("receiver"), UP_BIT_S))
    shaped = Host("receiver", down_bit_s=DOWN_BIT_S)
    return up, _checked(lambda: carried(parent, Host("sender"), shaped, DOWN_BIT_S))


def _checked(measure: Callable[[], float]) -> float:
    for _ in range(TRIES):
        share = measure()
        if abs(share - 1) <= TOLERANCE:
            return share
    raise BenchmarkError(f"a shaped link carries {share:.3f} of what its rate says")


def carried(parent: Path, sender: Host, receiver: Host, bit_s: float) -> float:
    """Payload a second from one to the other, over that of a link of `bit_s`."""
    with Network([sender, receiver]) as network, Stage(parent) as stage:
        path = stage.folder / "calibration.bin"
        write_random(path, SIZE_BYTES)
        program = [sys.executable, str(HERE / "peer_limit.py")]
        send = [*program, "send", str(path), address_of(0)]
        receive = [*program, "receive", str(stage.folder / "got.bin"), str(SIZE_BYTES)]
        sending = stage.start(network.inside(0, send), label="sender")
        receiving = stage.start(network.inside(1, receive), label="receiver")
        receiving.wait_for("ready")
        _, ready = sending.wait_for("ready")
        went_s = receiving.tell(f"{address_of(0)} {ready['port']}")
        done_s, _ = receiving.wait_for("done")
    return SIZE_BYTES / (done_s - went_s) / payload_bytes_s(bit_s)
