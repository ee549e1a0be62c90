"""A libtorrent client in a process of its own: `peer_libtorrent.py MODE TORRENT FOLDER`.

MODE is `tuned` or `stock`. Says {"event": "ready", "port": ...} when it has
checked what is in FOLDER; then reads peers to connect to from stdin, a line
`HOST PORT` each; says `connected` when the first of them has answered, `done`
when the torrent is finished, and `flushed` when what it had in memory is
written; with `--figures S`, every S seconds how much payload it has uploaded.
Ends on SIGTERM, and when stdin ends.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import signal
import sys
import threading
import time
from typing import Any

import libtorrent as lt

PLAIN_TCP = {
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "in_enc_policy": 2,  # disabled: no Diffie-Hellman, no cipher
    "out_enc_policy": 2,
    "allow_multiple_connections_per_ip": True,
    "alert_mask": lt.alert.category_t.status_notification
    | lt.alert.category_t.storage_notification
    | lt.alert.category_t.connect_notification,
}


def settings_of(mode: str, listen: str) -> Any:
    """The session's settings: the defaults over plain TCP, or what is fastest over it."""
    plain = {**PLAIN_TCP, "listen_interfaces": listen}
    if mode == "stock":
        return plain
    return {
        **lt.high_performance_seed(),
        **plain,
        "hashing_threads": 2,
        "max_out_request_queue": 3000,
        "max_allowed_in_request_queue": 3000,
        "send_buffer_watermark": 8 << 20,
    }


def say(event: str, **fields: object) -> None:
    """One line on stdout, in one write."""
    os.write(1, (json.dumps({"event": event, **fields}) + "\n").encode())


def read_peers(handle: lt.torrent_handle, orders: queue.SimpleQueue[bool]) -> None:
    """Connect to every peer that stdin names."""
    for line in sys.stdin:
        host, port = line.split()
        handle.connect_peer((host, int(port)))
    orders.put(True)


class Watcher(threading.Thread):
    """Tells of the end of the check, of the first connection, of the download and of the writing.

    And every `figures_s` of what was uploaded.
    """

    def __init__(self, session: lt.session, handle: lt.torrent_handle, figures_s: float) -> None:
        super().__init__()
        self._figures_s = figures_s
        self._figures_due_s = time.monotonic() + figures_s
        self._session = session
        self._handle = handle
        self._said: set[str] = set()
        self._stopped = False

    def run(self) -> None:
        """Pass on alerts until stopped."""
        while not self._stopped:
            self._session.wait_for_alert(int(min(1.0, self._figures_s) * 1000))
            for alert in self._session.pop_alerts():
                self._pass_on(type(alert).__name__)
            if time.monotonic() >= self._figures_due_s:
                self._figures_due_s += self._figures_s
                self._tell_figures()

    def _tell_figures(self) -> None:
        say("figures", uploaded_bytes=self._handle.status().total_payload_upload)

    def _pass_on(self, kind: str) -> None:
        first = kind not in self._said
        self._said.add(kind)
        if kind == "torrent_checked_alert" and first:
            status = self._handle.status()
            say("ready", port=self._session.listen_port(), finished=status.is_seeding)
        elif kind == "peer_connect_alert" and first:
            say("connected")
        elif kind == "torrent_finished_alert":
            say("done")
            self._handle.flush_cache()
        elif kind == "cache_flushed_alert":
            say("flushed")

    def stop(self) -> None:
        """End it at once."""
        self._stopped = True
        self._session.post_session_stats()  # an alert: it wakes the thread
        self.join()


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="A libtorrent client of the benchmarks.")
    parser.add_argument("mode", choices=("tuned", "stock"))
    parser.add_argument("torrent")
    parser.add_argument("folder")
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:0")
    parser.add_argument("--super-seed", action="store_true", help="BEP 16, when it has everything")
    parser.add_argument("--figures", metavar="S", type=float, default=math.inf)
    return parser


def main() -> None:
    """Run until told to end."""
    arguments = make_parser().parse_args()
    session = lt.session(settings_of(arguments.mode, arguments.listen))
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(arguments.torrent)
    parameters.save_path = arguments.folder
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if arguments.super_seed:
        parameters.flags |= lt.torrent_flags.super_seeding
    handle = session.add_torrent(parameters)
    watcher = Watcher(session, handle, arguments.figures)
    watcher.start()
    ended: queue.SimpleQueue[bool] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: ended.put(True))
    threading.Thread(target=read_peers, args=(handle, ended), daemon=True).start()
    ended.get()
    watcher.stop()
    # The session ends with its last reference: it tells its trackers, and waits for them a while.
    del watcher, handle, session


if __name__ == "__main__":
    main()
