"""The receiver thread: what comes in on all connections.

Owns the memory that it comes in to, and the stream of each connection from the
end of its handshake on. It waits for all of them at once, since most of what
many peers say is a few bytes: to wake a thread of its own for each would cost
more than to hear it. What it decodes it reports, and at the end of a stream it
lets go of the socket, which is the connection's.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from orchestra.buffers import Pool
from orchestra.decoder import Decoder, missing_bytes
from orchestra.errors import RemoteProtocolError
from orchestra.landing import MESSAGE_BYTES, SLOTS, Landing
from orchestra.messages import Received, Stop, ThreadEnded
from orchestra.patience import Patience
from orchestra.socketflow import Arrival, Bell
from orchestra.text import safe
from orchestra.wire import BLOCK_BYTES, Blocks, Requests
from orchestra.worker import Worker

BUFFERS = 3
FEW_SLOTS = 2
"""How much of a landing to fill where no blocks come, 32 KiB: little at a time for the orchestrator
to hear, since such messages are not bounded by the memory that they came in."""
TRICKLE_SLOTS = 12
"""How much of a landing to fill where blocks come slowly."""
GATHERED_BLOCKS = 3
GATHER_S = 0.015
"""Where blocks come slowly, how many more to wait for, and how long at the most."""
FLOOD_BYTES = 1 << 20
FLOOD_S = 0.004
"""The same where they come fast, in bytes: each receive costs the writer a message and a system call."""
FEW_CONNECTIONS = 4
ROUNDS_AT_ONCE = 12
REST_S = 0.02
"""Who has more connections than a few hears them so often in a row, and then rests each time, in the end so
long, unless much moves: what many say meanwhile wakes the others once, and not each time."""
FIRST_REST_S = 0.001
AWAKE_S = 0.2
"""After so long without a rest the next one is the first again, and each is twice as long as the one before:
who begins to move much shall not wait long until that shows."""
HASTE_BYTES_S = 16 << 20
HASTE_S = 0.05
"""So much moves while it goes on so for so long: what the system holds of a connection can be less than what
comes in during a rest, and what was asked ahead of us less than what leaves."""
MAX_TALK_BYTES = 4 << 20
"""What a peer may say in a row that is not blocks. A bitfield of a million parts is 128 KiB."""
TALK_BYTES_S = 2 << 20
"""How much more of it each second: the requests for 1 GiB are 1 MiB."""
_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)
"""Not on Windows, where what is readable can be received."""


class Speaker(Protocol):
    """Whose socket it is."""

    @property
    def is_closed(self) -> bool:
        """We have closed it: what the system still holds of it is not worth the time to decode."""

    def over(self, reason: str) -> None:
        """Nothing more comes, for this reason, and the socket is not used here any more."""


class Intake:
    """What comes in on one connection, and how far it has been decoded. The receiver's, once it has it."""

    def __init__(self, key: int, sock: socket.socket, decoder: Decoder, speaker: Speaker) -> None:
        self.key = key
        self.sock = sock
        self.decoder = decoder
        self.speaker = speaker
        self.arrival = Arrival(sock)
        self.rest = b""
        """The beginning of a message that is not whole yet."""
        self.talk = Patience(MAX_TALK_BYTES, TALK_BYTES_S)
        self.slots = FEW_SLOTS
        """How many messages there is to be room for: more where blocks come, and come fast."""
        self.floods = True
        """Whether FLOOD_BYTES more are worth waiting for: not where less than that is asked for at a time."""
        self.moved_bytes = 0
        """What came when it was heard last, and what was asked for."""

    @property
    def missing_bytes(self) -> int:
        """What the block or the message that has begun lacks, at least 1."""
        return min(missing_bytes(self.rest), BLOCK_BYTES)

    def receive_into(self, landing: Landing) -> tuple[list[Any], int]:
        """Receive once, without waiting: the whole messages, and how many bytes they have.

        Raises BlockingIOError, EOFError, OSError, RemoteProtocolError.
        """
        sock, rest = self.sock, self.rest
        room = landing.room(len(rest), self.slots)
        if hasattr(sock, "recvmsg_into"):
            got = sock.recvmsg_into(room, 0, _AT_ONCE)[0]
            landing.lay(rest)
        else:  # Windows
            data = sock.recv(sum(map(len, room)))
            landing.lay(rest + data)
            got = len(data)
        if got == 0:
            raise EOFError
        filled = len(rest) + got
        messages, self.rest = landing.decode(filled, self.decoder)
        self.floods = self.floods or got >= FLOOD_BYTES
        blocks_bytes = sum([message.length for message in messages if isinstance(message, Blocks)])
        if not blocks_bytes:
            self.slots = FEW_SLOTS
            if not self.talk.lasts(filled - len(self.rest), time.monotonic()):
                raise RemoteProtocolError("talks without end and gives nothing")
        elif got < self._fast_bytes or 2 * blocks_bytes < got:
            # Many small messages in one receive would keep all others waiting.
            self.slots = TRICKLE_SLOTS
        else:
            self.slots = SLOTS
        asked = sum([len(message.blocks) for message in messages if isinstance(message, Requests)])
        self.moved_bytes = got + asked * BLOCK_BYTES
        return messages, filled - len(self.rest)

    @property
    def _fast_bytes(self) -> int:
        """From so much in one receive on, it comes fast."""
        return (2 if self.slots == TRICKLE_SLOTS else 1) * GATHERED_BLOCKS * MESSAGE_BYTES


class Gathering:
    """Who is not heard before `more_bytes` more have come, or `patience_s` have passed."""

    def __init__(self, more_bytes: int, patience_s: float) -> None:
        self.more_bytes = more_bytes
        self._patience_s = patience_s
        self.until_s: dict[Intake, float] = {}
        """The soonest first, since all wait equally long."""

    def add(self, intake: Intake, now_s: float) -> None:
        """From now on this one; it must not be here already."""
        self.until_s[intake] = now_s + self._patience_s

    @property
    def soonest_s(self) -> float:
        """Until when the first one waits; there must be one."""
        return next(iter(self.until_s.values()))

    def pop_due(self, now_s: float) -> Iterator[Intake]:
        """Those whose time is over; they are not here any more."""
        while self.until_s and self.soonest_s <= now_s:
            intake = next(iter(self.until_s))
            del self.until_s[intake]
            yield intake


class Haste:
    """Whether so much moves that a rest would slow it down: HASTE_BYTES_S, in these HASTE_S or the last."""

    def __init__(self) -> None:
        self.moved_bytes = 0
        """Added to by whoever moves something."""
        self._since_s = 0.0
        self._was_on = False

    def is_on(self, now_s: float) -> bool:
        """Whether it is, `now_s`."""
        elapsed_s = now_s - self._since_s
        if elapsed_s >= HASTE_S:
            self._was_on = self.moved_bytes >= HASTE_BYTES_S * elapsed_s
            self._since_s, self.moved_bytes = now_s, 0
        return self._was_on or self.moved_bytes >= HASTE_BYTES_S * HASTE_S


class Receiver(Worker):
    """Hears all connections that it is given; ends after Stop, with the last of them.

    Raises OSError when the system has no descriptor to spare.
    """

    def __init__(self, report: Callable[[Any], None]) -> None:
        super().__init__("receiver", report)
        self.pool: Pool[Landing] = Pool(BUFFERS, Landing)
        self._coming: queue.SimpleQueue[Intake | Stop] = queue.SimpleQueue()
        with contextlib.ExitStack() as on_failure:
            self._bell = Bell()
            on_failure.callback(self._bell.close)
            self._selector = selectors.DefaultSelector()
            on_failure.callback(self._selector.close)
            self._selector.register(self._bell, selectors.EVENT_READ)
            on_failure.pop_all()
        self._gatherings = {
            TRICKLE_SLOTS: Gathering(GATHERED_BLOCKS * MESSAGE_BYTES, GATHER_S),
            SLOTS: Gathering(FLOOD_BYTES, FLOOD_S),
        }
        self._rounds = Patience(ROUNDS_AT_ONCE, 1 / REST_S)
        self._haste = Haste()
        self._rests = False
        """Whether it rests when it was woken too often."""
        self._rest_s, self._rested_s = REST_S, 0.0
        """How long the last rest was, and when it began."""
        self._heard: list[Received] = []
        """What is not reported yet; nothing here has a landing that others wait for."""
        self._stopping = self._ended = False

    def put(self, item: Intake | Stop) -> None:
        """Any thread: hear this connection from now on, or end when there is none any more."""
        self._coming.put(item)
        self._bell.ring()
        if self._ended:
            self._take_in()

    def close(self) -> None:
        """Release what waiting needs; after it has ended."""
        self._selector.close()
        self._bell.close()

    def work(self) -> None:
        """Receive and report, until told to stop and nobody is connected."""
        try:
            self._hear_all()
        finally:
            self._ended = True
            for key in list(self._selector.get_map().values()):
                if key.fileobj is not self._bell:
                    self._let_go(key.data, "crashed")
            self._take_in()
        self._report(ThreadEnded(self.name))

    def _hear_all(self) -> None:
        while True:
            patience_s = self._patience_s()
            # The bell is always there.
            if self._stopping and len(self._selector.get_map()) == 1:
                return
            for key, _ in self._selector.select(patience_s):
                if key.fileobj is self._bell:
                    self._bell.hush()
                else:
                    self._receive(key.data)
            self._take_in()
            self._tell()
            self._rest()

    def _rest(self) -> None:
        """After a round: wait a moment, where there are many of whom little comes, and it goes on so."""
        now_s = time.monotonic()
        # The bell is always there.
        hears_many = len(self._selector.get_map()) > 1 + FEW_CONNECTIONS
        self._rests = hears_many and not self._haste.is_on(now_s)
        if self._rests and not self._rounds.lasts(1, now_s):
            was_awake = now_s - self._rested_s >= AWAKE_S
            self._rest_s = FIRST_REST_S if was_awake else min(2 * self._rest_s, REST_S)
            self._rested_s = now_s
            time.sleep(self._rest_s)

    def _take_in(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._coming.get_nowait()
                if isinstance(item, Stop):
                    self._stopping = True
                elif self._ended:
                    item.speaker.over("we stop")
                else:
                    self._begin(item)

    def _begin(self, intake: Intake) -> None:
        try:
            self._selector.register(intake.sock, selectors.EVENT_READ, intake)
        except OSError as error:
            intake.speaker.over(_why(error))

    def _patience_s(self) -> float | None:
        """How long to wait; who has gathered for long enough is given what there is."""
        now_s = time.monotonic()
        for gathering in self._gatherings.values():
            for intake in gathering.pop_due(now_s):
                intake.floods = intake.floods and intake.slots != SLOTS
                try:
                    intake.arrival.ask_for(intake.missing_bytes)
                except OSError as error:
                    self._let_go(intake, _why(error))
        soonest_s = [gathering.soonest_s for gathering in self._gatherings.values() if gathering.until_s]
        return max(0.0, min(soonest_s) - now_s) if soonest_s else None

    def _receive(self, intake: Intake) -> None:
        self._gather_no_more(intake)
        try:
            with contextlib.suppress(BlockingIOError):
                self._hear(intake)
                self._haste.moved_bytes += intake.moved_bytes
            # Wait for the rest of a block, or a few of them while they come, not for each packet of it.
            # Where it rests they come meanwhile.
            gathering = None if self._rests else self._gatherings.get(intake.slots)
            worth_it = intake.arrival.can_gather and (intake.floods or intake.slots != SLOTS)
            if gathering is not None and worth_it:
                intake.arrival.ask_for(intake.missing_bytes + gathering.more_bytes)
                gathering.add(intake, time.monotonic())
            else:
                intake.arrival.ask_for(intake.missing_bytes)
        except (RemoteProtocolError, EOFError, OSError) as error:
            self._let_go(intake, _why(error))

    def _gather_no_more(self, intake: Intake) -> None:
        for gathering in self._gatherings.values():
            gathering.until_s.pop(intake, None)

    def _hear(self, intake: Intake) -> None:
        if intake.speaker.is_closed:
            raise EOFError
        landing = self.pool.take()
        lent = False
        try:
            messages, whole_bytes = intake.receive_into(landing)
            lent = intake.slots != FEW_SLOTS
        finally:
            if not lent:
                landing.give_back()
        if lent:
            self._heard.append(Received(intake.key, messages, landing))
            self._tell()
        elif whole_bytes:
            # A keep-alive is no message, but a sign of life.
            self._heard.append(Received(intake.key, messages, None))

    def _tell(self) -> None:
        """Report what was heard: all at once where it is little, so that the orchestrator is woken once."""
        for heard in self._heard:
            self._report(heard)
        self._heard.clear()

    def _let_go(self, intake: Intake, reason: str) -> None:
        self._tell()
        self._gather_no_more(intake)
        self._selector.unregister(intake.sock)
        intake.speaker.over(reason)


def _why(error: Exception) -> str:
    """Why a stream has ended, in words that are safe to print."""
    if isinstance(error, EOFError):
        return "closed by the peer"
    if isinstance(error, OSError):
        return safe(error.strerror or str(error))
    return str(error)
