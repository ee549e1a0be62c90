"""When a member was up, had moved so much, and was done. Pure; times in s from the gate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from benchmarks.processes import Event


@dataclass(slots=True)
class Timeline:
    """One member's, from its events (clients.py says which); nan is never, or unknown."""

    up_s: float = math.nan
    done_s: float = math.nan
    uploads: list[tuple[float, int]] = field(default_factory=list)
    """What it had uploaded, and when it said so."""

    @property
    def done(self) -> bool:
        """Whether its last part is on disk."""
        return not math.isnan(self.done_s)

    @property
    def uploaded_bytes(self) -> float:
        """The last that it said."""
        return self.uploads[-1][1] if self.uploads else math.nan

    def take(self, at_s: float, event: Event) -> None:
        """Note an event."""
        name = event["event"]
        if name == "up" and math.isnan(self.up_s):
            self.up_s = at_s
        if name == "figures":
            self.uploads.append((at_s, event["uploaded_bytes"]))
        if not self.done and (name == "done" or event.get("whole")):
            self.done_s = at_s

    def uploaded_by(self, now_s: float) -> float:
        """What it has uploaded by now, if it went on as between the last two times that it said it."""
        if len(self.uploads) < 2:
            return 0.0
        (before_s, before), (last_s, last) = self.uploads[-2:]
        interval_s = last_s - before_s
        silent_s = min(now_s - last_s, interval_s)
        return last + (last - before) * silent_s / interval_s if interval_s else last

    def reached_s(self, uploaded_bytes: float) -> float:
        """When it had uploaded so much, between the times at which it said it; nan when it had not."""
        before_s, before = 0.0, 0
        for at_s, now in self.uploads:
            if now >= uploaded_bytes:
                return before_s + (at_s - before_s) * (uploaded_bytes - before) / ((now - before) or 1)
            before_s, before = at_s, now
        return math.nan
