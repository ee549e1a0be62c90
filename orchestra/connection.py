"""One peer's connection: a thread that dials, shakes hands and sends, around one socket.

The thread owns the socket's life: it dials if it must, shakes hands, lends the
socket to the receiver, sends what could not be sent at once (line.py), and says
LinkClosed as the last word, after the receiver has let go of the socket. The
orchestrator holds the Connection as its Link and may only `send` and `close`,
which never block.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import netutils
from orchestra.decoder import Decoder
from orchestra.errors import RemoteProtocolError
from orchestra.line import Line
from orchestra.messages import Address, LinkClosed, LinkUp
from orchestra.receiver import Intake, Receiver
from orchestra.shipment import Shipment
from orchestra.socketflow import for_turns
from orchestra.text import safe
from orchestra.wire import HANDSHAKE_BYTES, Handshake, decode_handshake, encode_handshake
from orchestra.worker import Worker

DIAL_S = 10.0
HANDSHAKE_S = 10.0

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
        self._takes_turns = False
        self._line = Line(key, report)
        self._close_reason = ""
        self._end_reason = ""
        self._intake: Intake | None = None
        self._let_go = threading.Event()
        self._ended = threading.Event()
        # Guards the socket against being shut after it was closed: its number may be another's by then.
        self._sock_lock = threading.Lock()

    # The orchestrator's and the reader's side

    def send(self, item: bytes | Shipment) -> bool:
        """Send `item`, at once or later; False, and neither, when the peer takes nothing in or is gone."""
        if self._ended.is_set() or self._line.full:
            return False
        self._line.send(item)
        if self._ended.is_set():
            # It ended in between: nobody else empties the line now.
            self._line.drain()
        return True

    def take_turns(self) -> None:
        """From now on several others send at the same line."""
        if not self._takes_turns:
            self._takes_turns = True
            with self._sock_lock:
                if self._sock is not None:
                    for_turns(self._sock)

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
        self._line.end()
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
            self._line.close()
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
        identity = self._identity
        decoder = Decoder(identity.parts, identity.part_size_bytes, fast=handshake.speaks_fast)
        if self._takes_turns:
            # It was told so before there was a socket.
            for_turns(self._sock)
        self._line.open(self._sock)
        try:
            self._report(LinkUp(self.key, handshake))
            self._intake = Intake(self.key, self._sock, decoder, self)
            self._receiver.put(self._intake)
            while self._line.send_waiting():
                pass
        except OSError as error:
            _log.info("sending to connection %d ended: %s", self.key, error.strerror)
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
