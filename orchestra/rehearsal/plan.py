"""What is to be rehearsed: a composition, groups of machines, their links and their habits.

Pure. Rates are payload bytes a second, times seconds from the start of the
rehearsal.
"""

from __future__ import annotations

from dataclasses import dataclass

START_S = 0.2
"""Real machines that are told to start together come up within about so much time."""


@dataclass(frozen=True, slots=True)
class Group:
    """Machines that are alike. `holds_all`: they have the composition from the start, and only seed.

    `starts_within_s`: each comes up at a random moment of so much time. `leaves_when_complete`: each says
    goodbye once it has all. `dies_at_share`: each is cut off without a word when it has this share of the
    parts. `leaves_after_copies`: each says goodbye once it has uploaded so many times the composition.
    `gives`: False for free riders, who never unchoke anybody.
    """

    members: int
    up_bytes_s: float
    down_bytes_s: float
    joins_at_s: float = 0.0
    starts_within_s: float = START_S
    holds_all: bool = False
    gives: bool = True
    leaves_when_complete: bool = False
    dies_at_share: float | None = None
    leaves_after_copies: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One rehearsal. The same plan, `seed` included, gives the same rehearsal, message by message."""

    size_bytes: int
    part_size_bytes: int
    groups: tuple[Group, ...]
    latency_s: float = 0.01
    """From one machine to another, one way."""
    limit_s: float = 86_400.0
    """Virtual time after which a rehearsal that does not end is given up."""
    seed: int = 1


def bound_s(plan: Plan) -> float:
    """The least time in which all who stay could have the composition, T* of Kumar and Ross (2006).

    max(F / u_seed, F / d_min, N F / (u_seed + sum of u_i)) with F the size, N the members that fetch. For a
    plan whose groups join at different times, it is counted from the first join, for the machines of all
    groups, and no earlier than the last group can fetch at its full rate. It is as if
    each group started at once.
    """
    fetching = [group for group in plan.groups if not group.holds_all]
    seed_up = sum(group.members * group.up_bytes_s for group in plan.groups if group.holds_all)
    up = seed_up + sum(group.members * group.up_bytes_s for group in fetching if group.gives)
    number = sum(group.members for group in fetching)
    if not number or not seed_up:
        return 0.0
    own_s = [group.joins_at_s + plan.size_bytes / group.down_bytes_s for group in fetching]
    return max(plan.size_bytes / seed_up, number * plan.size_bytes / up, *own_s)
