"""What the command line says of a rehearsal, made into a plan.

Pure. All values come as the words that were typed; each bad one is a UsageError
of one line. Rates are typed as links are sold, in bits a second on the wire.
"""

from __future__ import annotations

import math
import re
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from orchestra import humans
from orchestra.errors import UsageError
from orchestra.rehearsal.plan import START_S, Group, Plan, bound_s
from orchestra.score import MAX_SIZE_BYTES, Score, check_part_size, default_part_size, part_count
from orchestra.scorelines import FieldProblem
from orchestra.text import safe

PAYLOAD_SHARE = 1448 / 1514
"""Of what a link carries, what is left for a composition: a full Ethernet frame of 1,514 bytes has 1,448
behind its Ethernet, IPv4 and TCP headers (with timestamps)."""
MOST_PARTS = 1024
"""So many parts are rehearsed at most: neighbours are merged until they are no more. A rehearsal costs
members times parts, and beyond some hundred parts the times hardly change."""
MANY_MEMBERS, PARTS_OF_MANY = 256, 512
"""With more members than these, so many parts at most."""
MOST_PART_BYTES = 256 * 1024
"""Parts are rehearsed no larger than this: larger ones are made smaller, and all rates with them. That
takes the same times, with fewer blocks."""
MOST_MEMBERS = 100_000
HALF_WAY = 0.5
"""Members that die do so with this share of the parts."""
GIVEN_UP_BOUNDS, GIVEN_UP_S = 10.0, 600.0
"""A rehearsal is over after so many times the bound, so many seconds, and the time within which machines
start: what is left then never comes."""

_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([KMG]?)(?:bit)?(?:/s)?", re.ASCII | re.IGNORECASE)
_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_SLOWEST_BITS_S, _FASTEST_BITS_S = 10**3, 10**12
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|min|h)", re.ASCII)
_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600)}
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", re.ASCII)
_COPIES = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,6})?", re.ASCII)
_LATENCY_S, _LONGEST_LATENCY_S = 0.01, 10.0
_LATEST_JOIN_S = 86_400.0
_SEED, _LARGEST_SEED = 1, 2**63 - 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What was asked for (`plan`), and what is rehearsed in its place: the same in fewer and smaller parts.

    `name` is that of the composition, "" for one that is only a size.
    """

    name: str
    plan: Plan
    rehearsed: Plan

    @property
    def machines(self) -> int:
        """Machines that fetch."""
        return sum(group.members for group in self.plan.groups if not group.holds_all)

    @property
    def parts(self) -> int:
        """Parts of the composition."""
        return part_count(self.plan.size_bytes, self.plan.part_size_bytes)

    @property
    def rehearsed_parts(self) -> int:
        """Parts that the rehearsal has."""
        return part_count(self.rehearsed.size_bytes, self.rehearsed.part_size_bytes)


def read_scenario(options: Namespace, score: Score | None) -> Scenario:
    """The scenario that the options describe, of `score` or of --size. Raises UsageError."""
    size_bytes, part_size_bytes = _composition(options, score)
    members = _needed(options, "members", _members)
    up_bytes_s = _needed(options, "up", _rate)
    down_bytes_s = _given(options, "down", _rate, up_bytes_s)
    seed_up_bytes_s = _given(options, "seed_up", _rate, up_bytes_s)
    churn = _given(options, "churn", _churn, Churn())
    sharer = Group(
        members=1,
        up_bytes_s=seed_up_bytes_s,
        down_bytes_s=max(seed_up_bytes_s, down_bytes_s),
        holds_all=True,
        leaves_after_copies=churn.sharer_leaves_after_copies,
    )
    everybody = Group(
        members,
        up_bytes_s,
        down_bytes_s,
        starts_within_s=_given(options, "start_within", _join, START_S),
        leaves_when_complete=churn.leaves,
    )
    plan = Plan(
        size_bytes=size_bytes,
        part_size_bytes=part_size_bytes,
        groups=(sharer, *_habits(options, everybody, churn)),
        latency_s=_given(options, "latency", _latency, _LATENCY_S),
        seed=_given(options, "seed", _seed, _SEED),
    )
    patience_s = GIVEN_UP_S + everybody.starts_within_s
    plan = replace(plan, limit_s=GIVEN_UP_BOUNDS * bound_s(plan) + patience_s)
    return Scenario(score.name if score else "", plan, rehearsed(plan))


def rehearsed(plan: Plan) -> Plan:
    """A plan that takes about the same times with fewer messages: see MOST_PARTS, MOST_PART_BYTES."""
    members = sum(group.members for group in plan.groups if not group.holds_all)
    most = MOST_PARTS if members <= MANY_MEMBERS else PARTS_OF_MANY
    merged = -(-part_count(plan.size_bytes, plan.part_size_bytes) // most)
    part_size_bytes = plan.part_size_bytes * merged
    scale = min(Fraction(1), Fraction(MOST_PART_BYTES, min(part_size_bytes, plan.size_bytes)))
    groups = tuple(
        replace(
            group, up_bytes_s=group.up_bytes_s * float(scale), down_bytes_s=group.down_bytes_s * float(scale)
        )
        for group in plan.groups
    )
    size_bytes, part_size_bytes = math.ceil(plan.size_bytes * scale), math.ceil(part_size_bytes * scale)
    return replace(plan, size_bytes=size_bytes, part_size_bytes=part_size_bytes, groups=groups)


def _composition(options: Namespace, score: Score | None) -> tuple[int, int]:
    """Size and part size in bytes."""
    if score is not None:
        if options.size is not None or options.part_size is not None:
            raise UsageError("the .orch has a size and a part size: leave out --size and --part-size")
        size_bytes, part_size_bytes = score.size_bytes, score.part_size_bytes
    else:
        if options.size is None:
            raise UsageError("nothing to rehearse: give a .orch, --rehearse FILE.orch, or --size as 5G")
        size_bytes = _given(options, "size", _size, 0)
        part_size_bytes = _given(options, "part_size", _size, default_part_size(size_bytes))
    if not size_bytes:
        raise UsageError("nothing to rehearse: an empty composition has no parts")
    try:
        check_part_size(size_bytes, part_size_bytes)
    except FieldProblem as problem:
        raise UsageError(f"--part-size: {problem}") from None
    return size_bytes, part_size_bytes


# Habits


@dataclass(frozen=True, slots=True)
class Churn:
    """Who goes when."""

    leaves: bool = False
    dying: Fraction = Fraction(0)
    sharer_leaves_after_copies: float | None = None


def _habits(options: Namespace, everybody: Group, churn: Churn) -> tuple[Group, ...]:
    """`everybody`, split by what the options say of some of them: each share is of all."""
    groups = [everybody]
    if slow := _given(options, "slow", _share_and(_rate), None):
        groups = _split(groups, slow[0], lambda group: replace(group, up_bytes_s=slow[1]))
    groups = _split(
        groups,
        _given(options, "free_riders", _share, Fraction(0)),
        lambda group: replace(group, gives=False),
    )
    if late := _given(options, "join_later", _share_and(_join), None):
        groups = _split(groups, late[0], lambda group: replace(group, joins_at_s=late[1]))
    groups = _split(groups, churn.dying, lambda group: replace(group, dies_at_share=HALF_WAY))
    return tuple(groups)


def _split(groups: list[Group], share: Fraction, change: Callable[[Group], Group]) -> list[Group]:
    """`groups` with `share` of the members of each changed, rounded so that the share is that of all."""
    done: list[Group] = []
    seen = changed = 0
    for group in groups:
        seen += group.members
        others = math.floor(seen * share + Fraction(1, 2)) - changed
        changed += others
        done += [replace(group, members=group.members - others), change(replace(group, members=others))]
    return [group for group in done if group.members]


# Words


def _needed(options: Namespace, name: str, read: Callable[[str], T]) -> T:
    text = getattr(options, name)
    if text is None:
        raise UsageError("a rehearsal needs --members and --up, as in --members 500 --up 100M")
    return _read(name, text, read)


def _given(options: Namespace, name: str, read: Callable[[str], T], default: T) -> T:
    text = getattr(options, name)
    return default if text is None else _read(name, text, read)


def _read(name: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except ValueError as error:
        option = f"--{name.replace('_', '-')}"
        raise UsageError(f'argument {option} "{safe(text, 60)}": {error} (see conductor.py --help)') from None


def _size(text: str) -> int:
    try:
        size_bytes = humans.parse_size(text)
    except ValueError:
        size_bytes = 0
    if not 1 <= size_bytes <= MAX_SIZE_BYTES:
        raise ValueError("write bytes as 16384, 16K, 700M or 5G (of 1,024 each)")
    return size_bytes


def _members(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= MOST_MEMBERS):
        raise ValueError(f"a whole number from 1 to {MOST_MEMBERS}")
    return int(text)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= _LARGEST_SEED):
        raise ValueError(f"a whole number from 0 to {_LARGEST_SEED}")
    return int(text)


def _rate(text: str) -> float:
    """Payload bytes a second of a link of so many bits a second."""
    match = _RATE.fullmatch(text)
    bits_s = Fraction(match[1]) * _FACTORS[match[2].upper()] if match else Fraction(0)
    if not _SLOWEST_BITS_S <= bits_s <= _FASTEST_BITS_S:
        raise ValueError("write bits a second as 500K, 100M or 2.5G, from 1K to 1000G")
    return float(bits_s) / 8 * PAYLOAD_SHARE


def line_bits_s(bytes_s: float) -> float:
    """Bits a second on the wire that carry so many payload bytes."""
    return bytes_s * 8 / PAYLOAD_SHARE


def _time_s(text: str, example: str, longest_s: float) -> float:
    match = _TIME.fullmatch(text)
    seconds = float(Fraction(match[1]) * _SECONDS[match[2]]) if match else -1.0
    if not 0 <= seconds <= longest_s:
        raise ValueError(f"write a time as {example}, at most {humans.duration(longest_s)}")
    return seconds


def _latency(text: str) -> float:
    return _time_s(text, "10ms or 0.5s", _LONGEST_LATENCY_S)


def _join(text: str) -> float:
    return _time_s(text, "30s, 5min or 1h", _LATEST_JOIN_S)


def _share(text: str) -> Fraction:
    match = _SHARE.fullmatch(text)
    if match is None or Fraction(match[1]) > 100:
        raise ValueError("write a share as 20%, from 0% to 100%")
    return Fraction(match[1]) / 100


def _share_and(read: Callable[[str], float]) -> Callable[[str], tuple[Fraction, float] | None]:
    """A reader of SHARE:VALUE."""

    def read_both(text: str) -> tuple[Fraction, float]:
        share, colon, value = text.partition(":")
        if not colon:
            raise ValueError("write a share, a colon, and what it has, as in 50%:10M or 50%:30s")
        return _share(share), read(value)

    return read_both


def _churn(text: str) -> Churn:
    churn = Churn()
    for kind in text.split(","):
        name, _, value = kind.partition(":")
        if kind == "leave":
            churn = replace(churn, leaves=True)
        elif name == "die":
            churn = replace(churn, dying=_share(value))
        elif name == "sharer" and _COPIES.fullmatch(value) and float(value) > 0:
            churn = replace(churn, sharer_leaves_after_copies=float(value))
        else:
            raise ValueError("write leave, die:20%, sharer:1.1 or several of these with commas between")
    return churn
