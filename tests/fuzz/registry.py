"""All targets, by name."""

from __future__ import annotations

from tests.fuzz.sequences import SEQUENCES
from tests.fuzz.target import Target
from tests.fuzz.texts import TEXTS
from tests.fuzz.trackers import TRACKERS
from tests.fuzz.wires import WIRES

TARGETS: dict[str, Target] = {target.name: target for target in (*TEXTS, *TRACKERS, *WIRES, *SEQUENCES)}
