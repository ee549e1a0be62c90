"""member.py, but it serves one peer at a time, and after a moment perhaps another one.

Little is on its way to a peer at a time: one that is choked meanwhile has asked for more than that.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import member
from orchestra import choker, cli, orchestrator, service, swarm, uploads

for module, name, value in (
    (swarm, "UPLOAD_SLOTS", 1),
    (orchestrator, "TICK_S", 0.2),
    (service, "ROUND_S", 0.2),
    (choker, "OPTIMISTIC_ROUNDS", 1),
    (uploads, "MAX_BATCH_BLOCKS", 2),
):
    assert hasattr(module, name)
    setattr(module, name, value)

if __name__ == "__main__":
    cli.leave(cli.run(member.make_parser(), member.perform, usage_if_empty=True))
