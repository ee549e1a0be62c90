"""The listener thread: accepts connections and passes them on.

Owns the listening sockets. It waits for Listen, takes its port, says so with
Listening, and accepts until Stop.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import netutils
from orchestra.errors import NetworkError
from orchestra.messages import Accepted, Listen, ListenFailed, Listening, Starved, Stop, ThreadEnded
from orchestra.worker import Worker

FIRST_PORT = 6881
PORTS_TRIED = 1000
STARVED_S = 0.1

_log = logging.getLogger("orchestra.listener")


class Listener(Worker):
    """`port`: the one to listen on, 0 for any, None for the first free one from 6881 up."""

    def __init__(self, port: int | None, report: Callable[[Any], None]) -> None:
        super().__init__("listener", report)
        self._port = port
        self._inbox: queue.SimpleQueue[Listen | Stop] = queue.SimpleQueue()
        self._cancel = netutils.Cancel()
        self._starving = threading.Event()

    def put(self, message: Listen | Stop) -> None:
        """Deliver a message; a Stop wakes the thread from accepting."""
        self._inbox.put(message)
        if isinstance(message, Stop):
            self._starving.set()
            self._cancel.set()

    def work(self) -> None:
        """Listen when told to, until told to stop."""
        try:
            if isinstance(self._inbox.get(), Listen):
                self._listen()
        finally:
            self._cancel.close()
        self._report(ThreadEnded(self.name))

    def _listen(self) -> None:
        sockets: list[Any] = []
        try:
            if self._port is None:
                sockets = netutils.listen_first_free(None, FIRST_PORT, PORTS_TRIED)
            else:
                sockets = netutils.listen(None, self._port)
            host, port_taken = netutils.address_of(sockets[0].getsockname())
        except OSError as error:
            port = "any port from 6881 up" if self._port is None else f"port {self._port}"
            text = f"cannot listen on {port}: {error.strerror or error}: choose another one with --port"
            self._report(ListenFailed(NetworkError(text)))
        else:
            self._report(Listening(host, port_taken))
            self._accept(sockets)
        finally:
            for sock in sockets:
                sock.close()

    def _accept(self, sockets: list[Any]) -> None:
        starved = False
        while True:
            try:
                accepted = netutils.accept(sockets, self._cancel)
            except OSError as error:
                # Out of descriptors or memory: the callers' queue stays readable, trying on would spin.
                if not starved:
                    _log.warning("cannot accept: %s", error.strerror)
                starved = True
                self._report(Starved())
                if self._starving.wait(STARVED_S):
                    return
                continue
            if accepted is None:
                return
            starved = False
            self._report(Accepted(*accepted))
