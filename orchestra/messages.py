"""Everything that one thread says to another, in one place.

Messages up to the orchestrator may block the sender (that is TCP's back-pressure); messages down never do.
On the hot path one message carries a whole buffer. docs/threads.md has each queue's bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from orchestra.errors import OrchestraError
from orchestra.kinds import kind
from orchestra.shipment import Shipment
from orchestra.wire import Blocks, BlockSpan, Handshake, Message

Address = tuple[str, int]
"""Host (a literal or a name) and port."""

Stamp = tuple[int, ...]
"""What tells whether a file was changed: another one when it was."""

Halves = Mapping[int, list[tuple[int, int]]]
"""For each part that was half fetched: runs of whole blocks on disk, as (begin in the part, length)."""

NO_HALVES: Halves = {}


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


@kind
class Announce(NamedTuple):
    """How we stand, for the conductor (BEP 3). `event`: "started", "completed", "stopped", "" in between."""

    event: str
    port: int
    uploaded_bytes: int
    downloaded_bytes: int
    left_bytes: int
    wanted: int


@kind
class Stop(NamedTuple):
    """End your thread: finish what must be finished, say your last word, return."""


# Announcer -> orchestrator


@kind
class Announced(NamedTuple):
    """A conductor answered. `conductor` is "host:port"; counts are -1 where it gave none."""

    conductor: str
    event: str
    members: tuple[Address, ...]
    interval_s: float
    min_interval_s: float
    seeders: int
    leechers: int


@kind
class AnnounceFailed(NamedTuple):
    """No conductor of the list answered. `reason` is safe to print."""

    event: str
    reason: str


@kind
class AnnouncerEnded(NamedTuple):
    """The announcer's last word."""


# Connection, receiver -> orchestrator


@kind
class Accepted(NamedTuple):
    """The listener has a new connection; the orchestrator says whether it is welcome."""

    sock: Any
    address: Address


@kind
class Starved(NamedTuple):
    """The listener cannot accept a caller: the system has no descriptor or memory for one."""


@kind
class LinkUp(NamedTuple):
    """The handshake with peer `key` succeeded."""

    key: int
    handshake: Handshake


class Received:
    """All that one receive brought. `buffer`, when given, holds the data of the Blocks
    among `messages` and goes back to its pool once it has been written or was not wanted.
    A dataclass, and not frozen, only because a tuple takes twice as long to make, and there are so many.
    """

    __slots__ = ("buffer", "key", "messages")

    def __init__(self, key: int, messages: list[Message], buffer: Buffer | None) -> None:
        self.key = key
        self.messages = messages
        self.buffer = buffer


@kind
class BlocksSent(NamedTuple):
    """A shipment has left; `payload_bytes` is the blocks' data alone."""

    key: int
    payload_bytes: int


@kind
class LinkClosed(NamedTuple):
    """A connection's last word. `reason` is safe to print."""

    key: int
    reason: str


# Orchestrator -> writer


@kind
class Write(NamedTuple):
    """Runs of wanted blocks, whose views point into `buffer`: check, write, give the buffer back."""

    buffer: Buffer
    runs: list[Blocks]


@kind
class Forget(NamedTuple):
    """The blocks of `part` that were written do not count: it will come anew."""

    part: int


@kind
class Install(NamedTuple):
    """The composition is whole and right: make it durable and give it its name. `kept`: it will be shared on,
    so that the next start had better know that it is right.
    """

    kept: bool = True


@kind
class Lost(NamedTuple):
    """`part` is not right any more, or cannot be read. It comes anew after the reader's Withdrawn."""

    part: int


@kind
class Recheck(NamedTuple):
    """All parts should be right, but the whole is not: hash each part again, and say so with Checked."""


# Writer -> orchestrator


@kind
class CheckProgress(NamedTuple):
    """At start: this many bytes of what is on disk have been hashed."""

    checked_bytes: int


@kind
class Checked(NamedTuple):
    """At start: what is on disk. `right` has one byte a part, 1 for a right one; `installed`: under its own
    name. `doubtful`: the resume file says so, and only a sample was looked at. `stamp`: how an installed file
    stood before it was checked. `halves`: what there is of parts that are not whole, unchecked.
    """

    right: bytearray
    installed: bool
    doubtful: bool = False
    stamp: Stamp | None = None
    halves: Halves = NO_HALVES


@kind
class PartsWritten(NamedTuple):
    """These parts are on disk and right, and those were wrong."""

    good: list[int]
    bad: list[int]


@kind
class Installed(NamedTuple):
    """NAME is there, complete and durable; `stamp`: how it stands."""

    path: str
    stamp: Stamp | None = None


@kind
class DiskFailed(NamedTuple):
    """Storage cannot go on: the member stops with this error."""

    error: OrchestraError


# Orchestrator -> reader; reader -> orchestrator


@kind
class Read(NamedTuple):
    """Read these blocks and hand them to `outbox` as one Shipment."""

    key: int
    outbox: Outbox
    blocks: list[BlockSpan]


@kind
class Watch(NamedTuple):
    """What the reader must not take on trust. `doubtful`: one byte a part, 1 for those to be verified before
    they are sent for the first time. `stamp`, once nobody has anything to write: how the file stood when it
    was right; when it stands otherwise all parts are doubtful.
    """

    doubtful: bytearray
    stamp: Stamp | None = None


@kind
class ReadFailed(NamedTuple):
    """Nothing of this Read was sent: parts `lost` cannot be read, or are not right any more."""

    key: int
    blocks: list[BlockSpan]
    lost: list[int]
    reason: str


@kind
class Withdrawn(NamedTuple):
    """The answer to Lost: each Read from before it was dealt with, and nobody reads `part` any more."""

    part: int


# Orchestrator -> writer; digest -> orchestrator. What the disk's threads say to one another: diskmessages.py


@kind
class Digest(NamedTuple):
    """To the writer: all parts before byte `up_to_bytes` are on disk and right, and may be hashed."""

    up_to_bytes: int


@kind
class Digested(NamedTuple):
    """The SHA-1 of the whole composition."""

    sha1: bytes


# Orchestrator -> listener; listener -> orchestrator


@kind
class Listen(NamedTuple):
    """All is ready: take a port and accept connections."""


@kind
class ListenFailed(NamedTuple):
    """The port cannot be had: the member stops with this error."""

    error: OrchestraError


# Threads -> orchestrator, at their end


@kind
class ThreadEnded(NamedTuple):
    """A thread's last word."""

    name: str


# Main -> orchestrator; orchestrator -> main


@kind
class Quit(NamedTuple):
    """The user has had enough: `reason` is "q", "SIGINT" or "SIGTERM"."""

    reason: str


@kind
class Listening(NamedTuple):
    """The member may be dialled on `port`."""

    host: str
    port: int


@kind
class Progress(NamedTuple):
    """How it goes; rates in bytes a second, `eta_s` -1 when unknown."""

    parts_done: int
    parts: int
    downloaded_bytes: int
    uploaded_bytes: int
    rate_bytes_s: int
    upload_bytes_s: int
    members: int
    eta_s: int


@kind
class Complete(NamedTuple):
    """The composition stands under its name, verified."""

    path: str
    downloaded_bytes: int
    elapsed_s: float


@kind
class Notice(NamedTuple):
    """One line for the user: something is odd, but goes on."""

    text: str


@kind
class Ended(NamedTuple):
    """The orchestrator's last word: `error` says why it stopped, if not because it was asked to."""

    reason: str
    complete: bool
    error: BaseException | None
