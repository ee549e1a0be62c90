"""Everything that one thread says to another, in one place.

Messages up to the orchestrator may block the sender (that is TCP's back-pressure); messages down never do.
On the hot path one message carries a whole buffer. docs/threads.md has each queue's bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestra.errors import OrchestraError
from orchestra.shipment import Shipment
from orchestra.wire import Blocks, BlockSpan, Handshake, Message

Address = tuple[str, int]
"""Host (a literal or a name) and port."""

Stamp = tuple[int, ...]
"""What tells whether a file was changed: another one when it was."""

Halves = dict[int, list[tuple[int, int]]]
"""For each part that was half fetched: runs of whole blocks on disk, as (begin in the part, length)."""


class Inbox(Protocol):
    """Where a thread's messages go."""

    def put(self, message: Any, /) -> None:
        """Deliver one message."""


class Buffer(Protocol):
    """Borrowed memory: whoever holds the message that carries it gives it back."""

    def give_back(self) -> None:
        """Return the memory to its pool; it must not be touched afterwards."""


class Outbox(Protocol):
    """Where bytes for one peer go; never blocks."""

    def send(self, item: bytes | Shipment) -> bool:
        """False when the peer is so far behind that it should be closed."""


# Orchestrator -> announcer


@dataclass(frozen=True, slots=True)
class Announce:
    """How we stand, for the conductor (BEP 3). `event`: "started", "completed", "stopped", "" in between."""

    event: str
    port: int
    uploaded_bytes: int
    downloaded_bytes: int
    left_bytes: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End your thread: finish what must be finished, say your last word, return."""


# Announcer -> orchestrator


@dataclass(frozen=True, slots=True)
class Announced:
    """A conductor answered. `conductor` is "host:port"; counts are -1 where it gave none."""

    conductor: str
    event: str
    members: tuple[Address, ...]
    interval_s: float
    min_interval_s: float
    seeders: int
    leechers: int


@dataclass(frozen=True, slots=True)
class AnnounceFailed:
    """No conductor of the list answered. `reason` is safe to print."""

    event: str
    reason: str


@dataclass(frozen=True, slots=True)
class AnnouncerEnded:
    """The announcer's last word."""


# Connection -> orchestrator


@dataclass(frozen=True, slots=True)
class Accepted:
    """The listener has a new connection; the orchestrator says whether it is welcome."""

    sock: Any
    address: Address


@dataclass(frozen=True, slots=True)
class Starved:
    """The listener cannot accept a caller: the system has no descriptor or memory for one."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The handshake with peer `key` succeeded."""

    key: int
    handshake: Handshake


@dataclass(slots=True)
class Received:
    """All that one receive brought. `buffer`, when given, holds the data of the Blocks
    among `messages` and goes back to its pool once it has been written or was not wanted.
    Not frozen only because a frozen one takes twice as long to make, and there are so many.
    """

    key: int
    messages: list[Message]
    buffer: Buffer | None


@dataclass(frozen=True, slots=True)
class BlocksSent:
    """A shipment has left; `payload_bytes` is the blocks' data alone."""

    key: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """A connection's last word. `reason` is safe to print."""

    key: int
    reason: str


# Orchestrator -> writer


@dataclass(frozen=True, slots=True)
class Write:
    """Runs of wanted blocks, whose views point into `buffer`: check, write, give the buffer back."""

    buffer: Buffer
    runs: list[Blocks]


@dataclass(frozen=True, slots=True)
class Forget:
    """The blocks of part `index` that were written do not count: it will come anew."""

    index: int


@dataclass(frozen=True, slots=True)
class Install:
    """The composition is whole and right: make it durable and give it its name. `kept`: it will be shared on,
    so that the next start had better know that it is right.
    """

    kept: bool = True


@dataclass(frozen=True, slots=True)
class Lost:
    """Part `index` is not right any more, or cannot be read. It comes anew after the reader's Withdrawn."""

    index: int


@dataclass(frozen=True, slots=True)
class Recheck:
    """All parts should be right, but the whole is not: hash each part again, and say so with Checked."""


# Writer -> orchestrator


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """At start: this many bytes of what is on disk have been hashed."""

    checked_bytes: int


@dataclass(frozen=True, slots=True)
class Checked:
    """At start: what is on disk. `right` has one byte a part, 1 for a right one; `installed`: under its own
    name. `doubtful`: the resume file says so, and only a sample was looked at. `stamp`: how an installed file
    stood before it was checked. `halves`: what there is of parts that are not whole, unchecked.
    """

    right: bytearray
    installed: bool
    doubtful: bool = False
    stamp: Stamp | None = None
    halves: Halves = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartsWritten:
    """These parts are on disk and right, and those were wrong."""

    good: list[int]
    bad: list[int]


@dataclass(frozen=True, slots=True)
class Installed:
    """NAME is there, complete and durable; `stamp`: how it stands."""

    path: str
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class DiskFailed:
    """Storage cannot go on: the member stops with this error."""

    error: OrchestraError


# Orchestrator -> reader; reader -> orchestrator


@dataclass(frozen=True, slots=True)
class Read:
    """Read these blocks and hand them to `outbox` as one Shipment."""

    key: int
    outbox: Outbox
    blocks: list[BlockSpan]


@dataclass(frozen=True, slots=True)
class Watch:
    """What the reader must not take on trust. `doubtful`: one byte a part, 1 for those to be verified before
    they are sent for the first time. `stamp`, once nobody has anything to write: how the file stood when it
    was right; when it stands otherwise all parts are doubtful.
    """

    doubtful: bytearray
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """Nothing of this Read was sent: parts `lost` cannot be read, or are not right any more."""

    key: int
    blocks: list[BlockSpan]
    lost: list[int]
    reason: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The answer to Lost: each Read from before it was dealt with, and nobody reads part `index` any more."""

    index: int


# Orchestrator -> writer; digest -> orchestrator. What the disk's threads say to one another: diskmessages.py


@dataclass(frozen=True, slots=True)
class Digest:
    """To the writer: all parts before byte `up_to_bytes` are on disk and right, and may be hashed."""

    up_to_bytes: int


@dataclass(frozen=True, slots=True)
class Digested:
    """The SHA-1 of the whole composition."""

    sha1: bytes


# Orchestrator -> listener; listener -> orchestrator


@dataclass(frozen=True, slots=True)
class Listen:
    """All is ready: take a port and accept connections."""


@dataclass(frozen=True, slots=True)
class ListenFailed:
    """The port cannot be had: the member stops with this error."""

    error: OrchestraError


# Threads -> orchestrator, at their end


@dataclass(frozen=True, slots=True)
class ThreadEnded:
    """A thread's last word."""

    name: str


# Main -> orchestrator; orchestrator -> main


@dataclass(frozen=True, slots=True)
class Quit:
    """The user has had enough: `reason` is "q", "SIGINT" or "SIGTERM"."""

    reason: str


@dataclass(frozen=True, slots=True)
class Listening:
    """The member may be dialled on `port`."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How it goes; rates in bytes a second, `eta_s` -1 when unknown."""

    parts_done: int
    parts: int
    downloaded_bytes: int
    uploaded_bytes: int
    rate_bytes_s: int
    upload_bytes_s: int
    members: int
    eta_s: int


@dataclass(frozen=True, slots=True)
class Complete:
    """The composition stands under its name, verified."""

    path: str
    downloaded_bytes: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Notice:
    """One line for the user: something is odd, but goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The orchestrator's last word: `error` says why it stopped, if not because it was asked to."""

    reason: str
    complete: bool
    error: BaseException | None
