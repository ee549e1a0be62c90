"""All targets, by name."""

from __future__ import annotations

from tests.fuzz.resumefiles import RESUMES
from tests.fuzz.sequences import SEQUENCES
from tests.fuzz.target import Target
from tests.fuzz.texts import TEXTS
from tests.fuzz.trackers import TRACKERS
from tests.fuzz.wires import WIRES

_ALL = (*TEXTS, *RESUMES, *TRACKERS, *WIRES, *SEQUENCES)
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
