"""One peer's connection: a thread that dials, shakes hands and sends, around one socket.

The thread owns the socket's life: it dials if it must, shakes hands, lends the
socket to the receiver, sends what is in the outbox, and says LinkClosed as the
last word, after the receiver has let go of the socket. The orchestrator holds
the Connection as its Link and may only `send` and `close`, which never block.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import netutils
from orchestra.decoder import Decoder
from orchestra.errors import RemoteProtocolError
from orchestra.messages import Address, BlocksSent, LinkClosed, LinkUp
from orchestra.receiver import Intake, Receiver
from orchestra.shipment import Shipment
from orchestra.socketflow import Backlog
from orchestra.text import safe
from orchestra.wire import HANDSHAKE_BYTES, Handshake, decode_handshake, encode_handshake
from orchestra.worker import Worker

DIAL_S = 10.0
HANDSHAKE_S = 10.0
MAX_OUTBOX = 1000
"""Items that may wait for a peer; more means that it takes nothing in."""
_AT_ONCE = socket.MSG_DONTWAIT if sys.platform.startswith("linux") else 0
"""Elsewhere it is not there, or means something to who receives only."""

_log = logging.getLogger("orchestra.connection")


class Identity(NamedTuple):
    """What both sides must agree on, and who we are."""

    info_hash: bytes
    peer_id: bytes
    parts: int
    part_size_bytes: int


class Connection(Worker):
    """The sending thread, and the handle on it. `sock` is an accepted socket, or None to dial `address`.

    `receiver` hears what the peer says; `cancel` wakes a dial that takes too long when the member stops.
    """

    def __init__(  # noqa: PLR0913 - what a connection is made of, given once
        self,
        key: int,
        address: Address,
        identity: Identity,
        report: Callable[[Any], None],
        *,
        sock: socket.socket | None,
        receiver: Receiver,
        cancel: netutils.Cancel,
    ) -> None:
        super().__init__(f"peer-{key}", report)
        self.key = key
        self._address = address
        self._identity = identity
        self._sock = sock
        self._dials = sock is None
        self._receiver = receiver
        self._cancel = cancel
        self._outbox: queue.SimpleQueue[bytes | Shipment | None] = queue.SimpleQueue()
        self._close_reason = ""
        self._end_reason = ""
        self._intake: Intake | None = None
        self._let_go = threading.Event()
        self._ended = threading.Event()
        # Guards the socket against being shut after it was closed: its number may be another's by then.
        self._sock_lock = threading.Lock()
        self._backlog = Backlog()
        self._line = threading.Lock()
        """Held by who sends, so that messages go out whole."""
        self._open_line: socket.socket | None = None
        """The socket, while there is anything to be sent on it. Under `_line`, as is the next."""
        self._cut = b""
        """What is left of words that the system took a part of; to be sent before all else."""
        # What was put into the outbox, each counted by the one thread that puts it, and what has left it.
        self._put_words = self._put_shipments = self._sent = 0

    # The orchestrator's and the reader's side

    def send(self, item: bytes | Shipment) -> bool:
        """Send `item` or queue it; False, and neither, when the peer takes nothing in or is gone.

        Words come from one thread, shipments from one.
        """
        if self._ended.is_set() or self._outbox.qsize() >= MAX_OUTBOX:
            return False
        if isinstance(item, bytes):
            self._say(item)
        else:
            self._put_shipments += 1
            self._outbox.put(item)
        if self._ended.is_set():
            # The connection ended in between: nobody else empties the outbox now. The word that
            # ends the thread may have been in it.
            _drain(self._outbox)
            self._outbox.put(None)
        return True

    def _say(self, words: bytes) -> None:
        """Send `words` at once if that takes no waiting, else after all that waits.

        To wake another thread for a few bytes costs more than to send them.
        """
        rest = words
        queued = self._put_words + self._put_shipments - self._sent
        if _AT_ONCE and not queued and self._line.acquire(blocking=False):
            try:
                rest = self._try(words)
                if len(rest) < len(words):
                    self._cut, rest = rest, b""
            finally:
                self._line.release()
        if rest or self._cut:
            self._put_words += 1
            self._outbox.put(rest)

    def _try(self, words: bytes) -> bytes:
        """Send what the system takes of `words` without waiting; returns the rest."""
        if self._open_line is None:
            return words
        try:
            return words[self._open_line.send(words, _AT_ONCE) :]
        except OSError:
            # Full, or broken, which the thread that sends the rest will find out.
            return words

    def close(self, reason: str) -> None:
        """End the connection: who waits for it wakes up, and the last word carries `reason`."""
        if not self._ended.is_set():
            # Else it has ended for a reason of its own, and could take nothing in any more.
            self._close_reason = self._close_reason or reason
        self._shut()

    def _shut(self) -> None:
        with self._sock_lock:
            if self._sock is not None:
                netutils.shut(self._sock)

    # The receiver's side

    @property
    def is_closed(self) -> bool:
        """See receiver.Speaker."""
        return bool(self._close_reason)

    def over(self, reason: str) -> None:
        """See receiver.Speaker."""
        self._end_reason = self._end_reason or reason
        self._ended.set()
        self._shut()
        self._outbox.put(None)
        self._let_go.set()

    # The thread

    def work(self) -> None:
        """Dial, shake hands, send until the end, say the last word."""
        reason = "crashed"
        try:
            reason = self._live()
        except RemoteProtocolError as error:
            reason = str(error)
        except OSError as error:
            reason = safe(error.strerror or str(error))
        finally:
            if self._intake is not None:
                # What comes in ends with it, and says how it ended.
                self._shut()
                self._let_go.wait()
            self._ended.set()
            self._shut()
            _drain(self._outbox)
            with self._sock_lock:
                sock, self._sock = self._sock, None
            if sock is not None:
                sock.close()
            self._report(LinkClosed(self.key, self._close_reason or self._end_reason or reason))

    def _live(self) -> str:
        if self._sock is None:
            sock = netutils.dial(self._address, DIAL_S, cancel=self._cancel)
            with self._sock_lock:
                self._sock = sock
        if self._close_reason:
            return self._close_reason
        handshake = self._shake_hands(self._sock)
        self._backlog.begin(self._sock)
        identity = self._identity
        decoder = Decoder(identity.parts, identity.part_size_bytes, fast=handshake.speaks_fast)
        self._open_line = self._sock
        try:
            self._report(LinkUp(self.key, handshake))
            self._intake = Intake(self.key, self._sock, decoder, self)
            self._receiver.put(self._intake)
            while self._send_some(self._sock):
                pass
        except OSError as error:
            _log.info("sending to connection %d ended: %s", self.key, error.strerror)
        finally:
            with self._line:
                self._open_line = None
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

    def _send_some(self, sock: socket.socket) -> bool:
        """All that waits, in one call where it can; False when there is nothing more to be sent."""
        item = self._outbox.get()
        words = []
        while isinstance(item, bytes):
            words.append(item)
            if self._outbox.empty():
                break
            item = self._outbox.get()
        payload_bytes = item.payload_bytes if isinstance(item, Shipment) else 0
        try:
            with self._line:
                cut, self._cut = self._cut, b""
                if cut or words:
                    sock.sendall(b"".join([cut, *words]))
                if isinstance(item, Shipment):
                    _send_shipment(sock, item)
                    self._backlog.sent(sock, payload_bytes)
                self._sent += len(words) + isinstance(item, Shipment)
        finally:
            if isinstance(item, Shipment):
                item.give_back()
        if payload_bytes:
            self._report(BlocksSent(self.key, payload_bytes))
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
