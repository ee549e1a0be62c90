"""One peer's connection: a receiving and a sending thread around one socket.

The receiving thread owns the socket's life: it dials if it must, shakes
hands, starts the sending thread, turns bytes into messages, and says LinkClosed
as the last word, after the sending thread has ended. The orchestrator holds
the Connection as its Link and may only `send` and `close`, which never block.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import netutils
from orchestra.buffers import Pool
from orchestra.decoder import Decoder, missing_bytes
from orchestra.errors import RemoteProtocolError
from orchestra.landing import MESSAGE_BYTES, Landing
from orchestra.messages import Address, BlocksSent, LinkClosed, LinkUp, Received
from orchestra.patience import Patience
from orchestra.shipment import Shipment
from orchestra.socketflow import Arrival, Backlog
from orchestra.text import safe
from orchestra.wire import BLOCK_BYTES, HANDSHAKE_BYTES, Blocks, Handshake, decode_handshake, encode_handshake
from orchestra.worker import Worker, start_thread

DIAL_S = 10.0
HANDSHAKE_S = 10.0
FEW_SLOTS = 4
"""How much of a landing to fill where no blocks come, 32 KiB: little at a time for the orchestrator
to hear, since such messages are not bounded by the memory that they came in."""
GATHERED_BLOCKS = 3
GATHER_S = 0.015
"""Where blocks come slowly, how many more to wait for, and how long at the most."""
MAX_TALK_BYTES = 4 << 20
"""What a peer may say in a row that is not blocks. A bitfield of a million parts is 128 KiB."""
TALK_BYTES_S = 2 << 20
"""How much more of it each second: the requests for 1 GiB are 1 MiB."""
MAX_OUTBOX = 1000
"""Items that may wait for a peer; more means that it takes nothing in."""

_log = logging.getLogger("orchestra.connection")


class Identity(NamedTuple):
    """What both sides must agree on, and who we are."""

    info_hash: bytes
    peer_id: bytes
    parts: int
    part_size_bytes: int


class Connection(Worker):
    """The receiving thread, and the handle on both. `sock` is an accepted socket, or None to dial `address`.

    `pool` lends the receiving buffers; `cancel` wakes a dial that takes too long when the member stops.
    """

    def __init__(  # noqa: PLR0913 - what a connection is made of, given once
        self,
        key: int,
        address: Address,
        identity: Identity,
        report: Callable[[Any], None],
        *,
        sock: socket.socket | None,
        pool: Pool[Landing],
        cancel: netutils.Cancel,
    ) -> None:
        super().__init__(f"peer-{key}-in", report)
        self.key = key
        self._address = address
        self._identity = identity
        self._sock = sock
        self._dials = sock is None
        self._pool = pool
        self._cancel = cancel
        self._outbox: queue.SimpleQueue[bytes | Shipment | None] = queue.SimpleQueue()
        self._close_reason = ""
        self._brings_blocks = False
        self._talk = Patience(MAX_TALK_BYTES, TALK_BYTES_S)
        self._trickles = False
        """Blocks come, a few at a time."""
        self._ended = threading.Event()
        # Guards the socket against being shut after it was closed: its number may be another's by then.
        self._sock_lock = threading.Lock()
        self._sender = _Sender(self.key, self._outbox, report, self._shut)

    # The orchestrator's and the reader's side

    def send(self, item: bytes | Shipment) -> bool:
        """Queue `item`; False, and nothing queued, when the peer takes nothing in or is gone."""
        if self._ended.is_set() or self._outbox.qsize() >= MAX_OUTBOX:
            return False
        self._outbox.put(item)
        if self._ended.is_set():
            # The connection ended in between: nobody else empties the outbox now. The word that
            # ends the sending thread may have been in it.
            _drain(self._outbox)
            self._outbox.put(None)
        return True

    def close(self, reason: str) -> None:
        """End the connection: both threads wake up and the last word carries `reason`."""
        if not self._ended.is_set():
            # Else it has ended for a reason of its own, and could take nothing in any more.
            self._close_reason = self._close_reason or reason
        self._shut()

    def _shut(self) -> None:
        with self._sock_lock:
            if self._sock is not None:
                netutils.shut(self._sock)

    # The receiving thread

    def work(self) -> None:
        """Dial, shake hands, receive until the end, say the last word."""
        try:
            reason = self._live()
        except RemoteProtocolError as error:
            reason = str(error)
        except EOFError:
            reason = "closed by the peer"
        except OSError as error:
            reason = safe(error.strerror or str(error))
        finally:
            self._ended.set()
            self._shut()
            self._outbox.put(None)
            if self._sender.ident is not None:
                self._sender.join()
            _drain(self._outbox)
            with self._sock_lock:
                sock, self._sock = self._sock, None
            if sock is not None:
                sock.close()
        self._report(LinkClosed(self.key, self._close_reason or reason))

    def _live(self) -> str:
        if self._sock is None:
            sock = netutils.dial(self._address, DIAL_S, cancel=self._cancel)
            with self._sock_lock:
                self._sock = sock
        if self._close_reason:
            return self._close_reason
        handshake = self._shake_hands(self._sock)
        # The sender first: what LinkUp brings about must find it running.
        self._sender.begin(self._sock)
        self._report(LinkUp(self.key, handshake))
        self._receive(self._sock, fast=handshake.speaks_fast)
        return "ended"

    def _shake_hands(self, sock: socket.socket) -> Handshake:
        """Both handshakes, within one deadline. The caller speaks first, so that only members hear us."""
        deadline = time.monotonic() + HANDSHAKE_S
        ours = encode_handshake(self._identity.info_hash, self._identity.peer_id)
        if self._dials:
            sock.sendall(ours)
        theirs = netutils.recv_exactly(sock, HANDSHAKE_BYTES - 20, deadline)
        if not theirs.startswith(ours[:20]):
            raise RemoteProtocolError("not a BitTorrent handshake")
        if theirs[28:48] != self._identity.info_hash:
            raise RemoteProtocolError("a handshake for another composition")
        if not self._dials:
            sock.sendall(ours)
        theirs += netutils.recv_exactly(sock, 20, deadline)
        return decode_handshake(theirs)

    def _receive(self, sock: socket.socket, *, fast: bool) -> None:
        """Receive and decode until the connection ends. Raises EOFError, OSError, RemoteProtocolError."""
        arrival = Arrival(sock)
        decoder = Decoder(self._identity.parts, self._identity.part_size_bytes, fast=fast)
        rest = b""
        # Once we have closed it, what the system still holds of it is not worth the time to decode.
        while not self._close_reason:
            # Wait without a buffer, so that a hundred idle peers hold none; and for the rest of a block, or a
            # few of them while they come, not for each packet of it.
            missing = min(missing_bytes(rest), BLOCK_BYTES)
            if self._trickles:
                arrival.wait(missing + GATHERED_BLOCKS * MESSAGE_BYTES, GATHER_S)
            else:
                arrival.wait(missing)
            landing = self._pool.take()
            try:
                rest = self._receive_into(sock, landing, rest, decoder)
            except BaseException:
                landing.give_back()
                raise

    def _receive_into(self, sock: socket.socket, landing: Landing, rest: bytes, decoder: Decoder) -> bytes:
        """Receive once, report the whole messages, return the bytes of the one that is not whole yet.

        Gives the landing back, or passes it on with the report; not when it raises.
        """
        landing.lay(rest)
        room = landing.room(len(rest))
        if not self._brings_blocks:
            room = room[:FEW_SLOTS]
        if hasattr(sock, "recvmsg_into"):
            got = sock.recvmsg_into(room)[0]
        else:  # Windows
            data = sock.recv(sum(map(len, room)))
            landing.lay(rest + data)
            got = len(data)
        if got == 0:
            raise EOFError
        filled = len(rest) + got
        messages, rest = landing.decode(filled, decoder)
        self._brings_blocks = any(message.__class__ is Blocks for message in messages)
        self._trickles = self._brings_blocks and got < GATHERED_BLOCKS * MESSAGE_BYTES
        if self._brings_blocks:
            self._report(Received(self.key, messages, landing))
        else:
            if not self._talk.lasts(filled - len(rest), time.monotonic()):
                raise RemoteProtocolError("talks without end and gives nothing")
            landing.give_back()
            if len(rest) < filled:
                # A keep-alive is no message, but a sign of life.
                self._report(Received(self.key, messages, None))
        return rest


class _Sender(Worker):
    """Sends what is in the outbox, all that waits in one call where it can. None ends it."""

    def __init__(
        self,
        key: int,
        outbox: queue.SimpleQueue[bytes | Shipment | None],
        report: Callable[[Any], None],
        shut: Callable[[], None],
    ) -> None:
        super().__init__(f"peer-{key}-out", report)
        self._key = key
        self._outbox = outbox
        self._shut = shut
        self._sock: socket.socket | None = None
        self._backlog = Backlog()

    def begin(self, sock: socket.socket) -> None:
        """Start sending on `sock`. Raises OSError when the system has no thread to spare."""
        self._sock = sock
        start_thread(self)

    def work(self) -> None:
        """Send until told to end, or until the connection has ended."""
        assert self._sock is not None
        try:
            self._backlog.begin(self._sock)
            while self._send_some(self._sock):
                pass
        except OSError as error:
            _log.info("sending to connection %d ended: %s", self._key, error.strerror)
        finally:
            # Wakes the receiving thread, which ends the connection and empties the outbox.
            self._shut()

    def _send_some(self, sock: socket.socket) -> bool:
        item = self._outbox.get()
        words = []
        while isinstance(item, bytes):
            words.append(item)
            if self._outbox.empty():
                break
            item = self._outbox.get()
        payload_bytes = item.payload_bytes if isinstance(item, Shipment) else 0
        try:
            if words:
                sock.sendall(b"".join(words))
            if isinstance(item, Shipment):
                _send_shipment(sock, item)
                self._backlog.sent(sock, payload_bytes)
        finally:
            if isinstance(item, Shipment):
                item.give_back()
        if payload_bytes:
            self._report(BlocksSent(self._key, payload_bytes))
        return item is not None


def _send_shipment(sock: socket.socket, shipment: Shipment) -> None:
    if not hasattr(sock, "sendmsg"):  # Windows
        sock.sendall(b"".join(shipment.slots))
        return
    whole = sum(map(len, shipment.slots))
    sent = sock.sendmsg(shipment.slots)
    while sent < whole:
        sent += sock.sendmsg(shipment.unsent(sent))


def _drain(outbox: queue.SimpleQueue[bytes | Shipment | None]) -> None:
    """Give back the buffers of what will never be sent."""
    with contextlib.suppress(queue.Empty):
        while True:
            item = outbox.get_nowait()
            if isinstance(item, Shipment):
                item.give_back()
