"""What the orchestrator knows of one connected peer, and how it reaches it.

Pure; owned by the orchestrator.
"""

from __future__ import annotations

from typing import Protocol

from orchestra.bitfield import Bitfield
from orchestra.fast import Fast
from orchestra.flight import Flight
from orchestra.messages import Address, Outbox
from orchestra.patience import Patience
from orchestra.rate import Rate
from orchestra.wire import BlockSpan

FIRST_DEPTH = 32
"""Blocks asked of a new peer at once, before anything is known of its speed."""


STALLED_S = 60.0
"""Who has owed us blocks for so long, and sent none, is closed."""
MAX_STRAY_BLOCKS = 64
"""Blocks that nobody asked for and nobody took back, before a peer is closed."""
FORGIVING_BYTES = 1 << 20
"""For so much that it has rightly given, one more is forgiven."""
MAX_WAVERINGS = 1000
"""Words like choke, interested, or those of extensions that a peer may say in a row."""
WAVERINGS_S = 20.0
"""How many more it may say each second: honest ones change their mind a few times a second at most."""
LONGEST_ANSWER_S = 1.0
"""However long a peer takes to answer, no more is asked ahead for it."""


class Link(Outbox, Protocol):
    """The orchestrator's hold on a connection: send, or end it. Neither blocks."""

    def close(self, reason: str) -> None:
        """Shut the connection down; its last word LinkClosed follows, with this reason."""


class Peer:
    """One peer, from the handshake to the connection's last word.

    `key` names the connection for its life. `dialled` is the address in the
    address book when we called, None when the peer did. Flags as BEP 3 has them.
    """

    __slots__ = (
        "answer_s",
        "asked",
        "asked_idle_at_s",
        "barren_since",
        "batch_blocks",
        "batch_sent_at_s",
        "began_parts",
        "block_at_s",
        "cancels",
        "choked",
        "choking_us",
        "client",
        "closing",
        "counted",
        "depth",
        "depth_set_at_s",
        "dialled",
        "dont_have_id",
        "down",
        "engaged",
        "fast",
        "has_spoken",
        "have",
        "haves",
        "heard_at_s",
        "hellos",
        "host",
        "in_vain",
        "interested",
        "interesting",
        "key",
        "link",
        "listen_port",
        "max_requests",
        "our_host",
        "outstanding",
        "part_under_way",
        "peer_id",
        "reading",
        "reading_bytes",
        "requests",
        "said_contact",
        "searched_at_s",
        "since_s",
        "snubbed",
        "speaks_extensions",
        "spoke_at_s",
        "stalled_since_s",
        "stray_blocks",
        "to_ask",
        "told",
        "told_in_vain",
        "told_upload_only",
        "unanswered",
        "up",
        "upload_only",
        "waiting_since_s",
        "wanted_parts",
        "waverings",
    )

    def __init__(self, key: int, host: str, link: Link, have: Bitfield, now_s: float) -> None:  # noqa: PLR0915 - a list
        """`now_s`: the time of its handshake."""
        self.key = key
        self.host = host
        self.link = link
        self.have = have
        self.down = Rate(now_s)
        self.up = Rate(now_s)
        self.since_s = self.heard_at_s = self.spoke_at_s = now_s
        self.dialled: Address | None = None
        self.peer_id = b""
        self.client = ""
        self.hellos = 0
        """Handshakes of the extension protocol that it has sent."""
        self.speaks_extensions = False
        self.listen_port = 0
        """Where it may be dialled, if it said so (BEP 10)."""
        self.said_contact: Address | None = None
        """Its host and `listen_port`, once they were asked for: many hear of it, and hold the same one."""
        self.our_host = ""
        """Our address as it sees it, if it said so (BEP 10)."""
        self.dont_have_id = 0
        """What it calls an `lt_donthave` message (BEP 54), 0 if it takes none."""
        self.fast: Fast | None = None
        """What the fast extension adds, where both sides speak it (BEP 6)."""
        self.max_requests = 250
        self.has_spoken = False
        """It has said something since its handshake."""
        self.closing = False
        self.counted = False
        """True when its parts are counted in the picker's availability."""

        # What we want of it
        self.choking_us = True
        self.interesting = False
        """We have told it that we are interested."""
        self.began_parts = 0
        """How many parts it had when it came."""
        self.wanted_parts = 0
        """How many of its parts we do not have yet; only kept while it is partial."""
        self.engaged = False
        """Something was asked of it, or is to be, since it last gave all back."""
        self.outstanding: set[int] = set()
        """Keys of blocks asked for and not received."""
        self.depth = FIRST_DEPTH
        """How many blocks to keep outstanding."""
        self.depth_set_at_s = 0.0
        self.barren_since = -1
        """What the picker's `returned` was when nothing that it has was missing; -1: it may have some."""
        self.searched_at_s = float("-inf")
        """When nothing was found for it among what others were asked for."""
        self.asked_idle_at_s: float | None = None
        """When it was asked for something while it owed us nothing; None once it has answered."""
        self.answer_s = LONGEST_ANSWER_S
        """The least time that it took to answer such a request: the round trip, and its wait for a turn."""
        self.to_ask: list[Flight] = []
        """Flights of this peer that may have blocks to ask for, the oldest first."""
        self.block_at_s = 0.0
        """When it last sent a wanted block, or was first asked for one."""
        self.snubbed = False
        self.stalled_since_s: float | None = None
        """Since when it owes us blocks, and has sent none; None when it does not, or for less than SNUB_S."""
        self.unanswered = 0
        """Requests that we took back: each may be answered all the same, by its block or a reject."""
        self.stray_blocks = 0
        """Blocks that it sent or rejected although it did not owe them to us."""
        self.haves = 0
        """How many parts it has told us of, one by one."""
        self.waverings = Patience(MAX_WAVERINGS, WAVERINGS_S)
        """Its words that are neither of blocks nor of parts."""

        # What it wants of us
        self.choked = True
        self.interested = False
        self.upload_only = False
        """It says that it wants nothing, interested or not (BEP 21)."""
        self.told_upload_only = False
        """It knows that we want nothing."""
        self.told_in_vain = False
        """It has heard of a part that it lacks, and shows no interest: more such news can wait."""
        self.told = 0
        """How much of the swarm's news it has heard."""
        self.asked: dict[BlockSpan, None] = {}
        """Its requests that the reader was not given yet, in order: a block asked for twice waits once."""
        self.reading = 0
        """Reads under way or in its outbox."""
        self.reading_bytes = 0
        """What these bring it."""
        self.part_under_way = -1
        """The part of the last block that the reader was given for it."""
        self.waiting_since_s = 0.0
        """When it began to wait for its turn."""
        self.requests = 0
        """How many blocks it has asked for."""
        self.cancels = 0
        """How many of these it has taken back."""
        self.in_vain = 0
        """Its requests that changed nothing, less what it was excused for taking something in."""
        self.batch_blocks = 4
        """How many blocks to read and send at once: a fraction of a second of this peer's speed."""
        self.batch_sent_at_s = 0.0

    @property
    def contact(self) -> Address | None:
        """Where it may be dialled, as far as we know."""
        if self.dialled is not None or not self.listen_port:
            return self.dialled
        if self.said_contact is None or self.said_contact[1] != self.listen_port:
            self.said_contact = (self.host, self.listen_port)
        return self.said_contact

    @property
    def downloads_too(self) -> bool:
        """True for a partial peer that has something or wants something."""
        return self.counted and not self.upload_only and (self.have.count > 0 or self.interested)

    @property
    def wants(self) -> bool:
        """True when it would ask us for parts, if we let it."""
        return self.interested and not self.upload_only

    def answers(self, now_s: float) -> bool:
        """True when it is worth asking this peer for something."""
        if self.closing or not self.interesting:
            return False
        fast = self.fast
        if fast is None:
            return not self.choking_us
        return now_s >= fast.rest_until_s and (not self.choking_us or bool(fast.allowed))

    def gives(self, index: int) -> bool:
        """True when it has part `index`, and we may ask it for that now."""
        if index not in self.have:
            return False
        return not self.choking_us or (self.fast is not None and index in self.fast.allowed)

    def unexplained(self, count: int) -> int:
        """It has sent or rejected so many blocks that it does not owe us: those that we did not take back."""
        explained = min(count, self.unanswered)
        self.unanswered -= explained
        return count - explained

    def stalls(self, now_s: float) -> bool:
        """True when it has let us wait for STALLED_S."""
        return self.stalled_since_s is not None and now_s - self.stalled_since_s >= STALLED_S

    @property
    def strays_too_much(self) -> bool:
        """True when it has sent or rejected more that was not asked for than its merits excuse."""
        return self.stray_blocks > MAX_STRAY_BLOCKS + self.down.total_bytes // FORGIVING_BYTES

    def say(self, data: bytes, now_s: float) -> None:
        """Send `data`, or close a peer that takes nothing in. One that is closing is told nothing more."""
        if self.closing:
            return
        self.spoke_at_s = now_s
        if not self.link.send(data):
            self.close("too far behind")

    def close(self, reason: str) -> None:
        """End the connection; its last word follows."""
        if not self.closing:
            self.closing = True
            self.link.close(reason)
