"""member.py, but it serves one peer at a time, and after a second perhaps another one."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import member
from orchestra import choker, cli, service, swarm

for module, name, value in (
    (swarm, "UPLOAD_SLOTS", 1),
    (service, "ROUND_S", 1.0),
    (choker, "OPTIMISTIC_ROUNDS", 1),
):
    assert hasattr(module, name)
    setattr(module, name, value)

if __name__ == "__main__":
    cli.leave(cli.run(member.make_parser(), member.perform, usage_if_empty=True))
