"""The orchestrator under sequences of messages: each byte of an input chooses a move, or how it goes."""

from __future__ import annotations

import random
from collections.abc import Callable

from orchestra.wire import (
    AllowedFast,
    BitfieldReceived,
    BlockSpan,
    Cancels,
    Choke,
    Extended,
    HaveAll,
    HaveNone,
    Haves,
    Interested,
    Message,
    NotInterested,
    Port,
    Rejects,
    Requests,
    Suggestions,
    Unchoke,
)
from tests.fuzz.stage import PlayedLink, Stage
from tests.fuzz.target import Target
from tests.fuzz.wires import make_extension, make_pex

MOST_BYTES = 240
WAITS_S = (*(0.01, 0.06, 0.3, 1.0, 2.5, 6.0) * 4, 10.0, 21.0, 21.0, 46.0, 101.0, 131.0, 700.0, 4000.0)
_RNG = random.Random(5)
_HELLOS = (
    *(make_extension(_RNG) for _ in range(6)),
    b"",
    b"de",
    b"le",
    b"d1:mi0ee",
    b"d1:md6:ut_pexi0eee",
    b"l" * 200,
)
_LETTERS = (
    *(make_pex(_RNG) for _ in range(6)),
    b"",
    b"de",
    b"d5:added1:ae",
    b"d5:added6:\x0a\0\0\5\x1a\xe1e",
)


class Choices:
    """Numbers out of bytes, the first ones first; zeros when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def more(self) -> bool:
        """Whether there are bytes left."""
        return self._place < len(self._data)

    def __call__(self, below: int) -> int:
        """A number from 0 to `below` - 1; `below` is at most 256."""
        self._place += 1
        return self._data[self._place - 1] % below if self._place <= len(self._data) else 0


def check_sequence(data: bytes) -> str:
    """Play the moves that `data` says, then quit. Raises AssertionError for a broken invariant."""
    choices = Choices(data)
    stage = Stage(choices)
    if choices(8):
        # Mostly the usual beginning, so that few bytes get far.
        stage.writer_checks()
        stage.listener_works()
        for _ in range(choices(6)):
            stage.caller()
            stage.link_up()
            _peer_opens(stage)
    while choices.more and not stage.ended:
        move(stage, choices(256))
        stage.check()
    stage.check_books()
    said = f"{stage.orchestrator.phase.name} {len(stage.links)} {stage.orchestrator.swarm.picker.have.count}"
    stage.finish()
    reason = stage.main[-1]
    return f"{said} {reason.reason} {reason.complete} {type(reason.error).__name__}"


def move(stage: Stage, number: int) -> None:
    """Make move `number`, below 256. The more often one stands in the table, the likelier it is."""
    _MOVES[number](stage)


def _wait(stage: Stage) -> None:
    stage.wait(WAITS_S[stage.choose(len(WAITS_S))])


def _peer_says(stage: Stage) -> None:
    """A peer says something, legal or not."""
    link = stage.some_link("up")
    if link is not None:
        stage.say(link, *_words(stage, link))


def _peer_gives(stage: Stage) -> None:
    """A peer sends blocks."""
    link = stage.some_link("up")
    if link is not None:
        stage.say(link, *stage.blocks(link))


def _peer_opens(stage: Stage) -> None:
    """A peer shows what it has, lets us ask, and wants something: what most do."""
    link = stage.some_link("up")
    if link is not None:
        stage.say(link, _field(stage), Unchoke(), *([Interested()] if stage.choose(2) else []))


def _peer_takes(stage: Stage) -> None:
    """A peer wants parts, waits for a turn to be unchoked, asks, and gets some of it or not."""
    if not any(link.state == "up" for link in stage.links.values()):
        stage.caller()
        stage.link_up()
    link = stage.some_link("up")
    swarm = stage.orchestrator.swarm
    peer = None if link is None else swarm.peers.get(link.key)
    if link is None or peer is None or (not swarm.picker.have.count and stage.choose(32) < 31):
        return
    if peer.choked and stage.choose(8) < 7:
        stage.say(link, Interested())
        stage.wait(1.0)
    # The tick may have ended it all, but not the connection: its last word has not come.
    stage.say(link, Requests([_span(stage) for _ in range(1 + stage.choose(6))]))
    for _ in range(stage.choose(4)):
        stage.reader_works()
    if stage.choose(4):
        stage.wait((0.01, 0.06, 0.3)[stage.choose(3)])
        stage.shipment_leaves()


def _ends(stage: Stage) -> None:
    """What ends everything: seldom, so that much comes before."""
    which = stage.choose(16)
    if which < 4:
        (stage.quit, stage.disk_fails, stage.thread_crashes, stage.quit)[which]()


def _link_fills(stage: Stage) -> None:
    link = stage.some_link("up")
    if link is not None:
        link.full = not link.full


def _field(stage: Stage) -> Message:
    parts = stage.geometry.parts
    kind = stage.choose(16)
    length = (parts + 7) // 8
    if kind < 2 or not length:
        return BitfieldReceived(bytes(length))
    full = ((1 << parts) - 1) << (8 * length - parts)
    if kind < 8:
        return BitfieldReceived(full.to_bytes(length, "big"))
    data = bytes(stage.choose(256) for _ in range(length))
    # Of kind 15 the spare bits stay as they came, which is illegal if any is set.
    return BitfieldReceived(
        data if kind == 15 else (int.from_bytes(data, "big") & full).to_bytes(length, "big")
    )


def _index(stage: Stage) -> int:
    """A part; one that is not there now and then."""
    parts = stage.geometry.parts
    return (
        2**32 - 1 if stage.choose(64) == 63 else stage.choose(min(parts + (stage.choose(32) == 31), 255) or 1)
    )


def _span(stage: Stage) -> BlockSpan:
    """A block, mostly one that may be asked for."""
    index = _index(stage)
    have = stage.orchestrator.swarm.picker.have
    if have.count and stage.choose(16) < 15:
        held = have.indices()
        index = held[stage.choose(min(len(held), 256))]
    begin = 16384 * stage.choose(3) if stage.choose(4) == 3 else 0
    if stage.choose(16) == 15:
        return index, begin + (1, 2**32 - 1)[stage.choose(2)] % 2**32, (0, 16385, 2**32 - 1)[stage.choose(3)]
    left = stage.geometry.part_length(index) - begin if index < stage.geometry.parts else 1
    return index, begin, max(1, min(16384, left)) if left > 0 else 1


def _words(  # noqa: C901, PLR0911, PLR0912 - a line or two for each kind of message
    stage: Stage, link: PlayedLink
) -> list[Message]:
    choose = stage.choose
    kinds = 14 if link.fast else 9
    match choose(kinds):
        case 0:
            return [_field(stage)]
        case 1:
            return [Haves([_index(stage) for _ in range(1 + choose(4))])]
        case 2:
            return [Unchoke()]
        case 3:
            return [(Choke(), Interested(), NotInterested(), Port(6881))[choose(4)]]
        case 4 | 5:
            if choose(4) == 3:
                return [Interested()]
            return [Requests([_span(stage) for _ in range(1 + choose(5))])]
        case 6:
            return [Cancels([_span(stage) for _ in range(1 + choose(3))])]
        case 7:
            return [Extended(0, _HELLOS[choose(len(_HELLOS))])]
        case 8:
            return [Extended(1 + choose(3), _LETTERS[choose(len(_LETTERS))])]
        case 9:
            return [HaveAll()]
        case 10:
            return [HaveNone()]
        case 11:
            owed = [stage.geometry.span(key) for key in list(link.owed)[: 1 + choose(3)]]
            for index, begin, _ in owed:
                del link.owed[stage.geometry.key(index, begin)]
            return [Rejects(owed if owed and choose(4) else [_span(stage)])]
        case 12:
            return [AllowedFast([_index(stage) for _ in range(1 + choose(3))])]
        case _:
            return [Suggestions([_index(stage)])]


_TABLE: tuple[tuple[int, Callable[[Stage], None]], ...] = (
    (28, _wait),
    (14, Stage.caller),
    (22, Stage.link_up),
    (10, Stage.link_ends),
    (16, _peer_opens),
    (28, _peer_says),
    (22, _peer_takes),
    (38, _peer_gives),
    (34, Stage.writer_works),
    (12, Stage.reader_works),
    (10, Stage.shipment_leaves),
    (9, Stage.announcer_works),
    (6, Stage.listener_works),
    (3, Stage.writer_checks),
    (3, _link_fills),
    (1, _ends),
)
_MOVES = tuple(play for times, play in _TABLE for _ in range(times))
assert len(_MOVES) == 256


def make_sequence(rng: random.Random) -> bytes:
    """Moves without any order: the moves themselves keep the rules."""
    return bytes([rng.randrange(256), rng.randrange(256)]) + rng.randbytes(rng.randrange(MOST_BYTES))


SEQUENCES = (Target("sequences", check_sequence, make_sequence, (), MOST_BYTES, share=0.1, judge_time=False),)
