"""A libtorrent client in a process of its own: `peer_libtorrent.py MODE TORRENT FOLDER`.

MODE is `tuned` or `stock`. Says {"event": "ready", "port": ...} when it has
checked what is in FOLDER; then reads peers to connect to from stdin, a line
`HOST PORT` each; says `connected` when the first of them has answered, `done`
when the torrent is finished, and `flushed` when what it had in memory is
written. Ends on SIGTERM, and when stdin ends.

A tuned leecher has its disk space reserved before it is ready, as our member
does: libtorrent itself would do that during the transfer, if at all.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import Any

import libtorrent as lt

PLAIN_TCP = {
    "listen_interfaces": "127.0.0.1:0",
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


def settings_of(mode: str) -> Any:
    """The session's settings: the defaults over plain TCP, or what is fastest over it."""
    if mode == "stock":
        return PLAIN_TCP
    return {
        **lt.high_performance_seed(),
        **PLAIN_TCP,
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


def watch(session: lt.session, handle: lt.torrent_handle) -> None:
    """Tell of the end of the check, of the download and of the writing."""
    said: set[str] = set()
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            kind = type(alert).__name__
            first = kind not in said
            said.add(kind)
            if kind == "torrent_checked_alert" and first:
                say("ready", port=session.listen_port(), finished=handle.status().is_seeding)
            elif kind == "peer_connect_alert" and first:
                say("connected")
            elif kind == "torrent_finished_alert":
                say("done")
                handle.flush_cache()
            elif kind == "cache_flushed_alert":
                say("flushed")


def reserve(parameters: lt.add_torrent_params) -> None:
    """Claim the space of a file that is not there, and have libtorrent believe that nothing is in it."""
    info = parameters.ti
    assert info is not None
    path = os.path.join(parameters.save_path, info.files().file_path(0))
    if not os.path.exists(path) and hasattr(os, "posix_fallocate"):
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, info.total_size())
        parameters.have_pieces = [False] * info.num_pieces()
        parameters.flags |= lt.torrent_flags.no_verify_files


def main() -> None:
    """Run until told to end."""
    mode, torrent, folder = sys.argv[1:]
    session = lt.session(settings_of(mode))
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(torrent)
    parameters.save_path = folder
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if mode == "tuned":
        reserve(parameters)
    handle = session.add_torrent(parameters)
    ended: queue.SimpleQueue[bool] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: ended.put(True))
    threading.Thread(target=read_peers, args=(handle, ended), daemon=True).start()
    threading.Thread(target=watch, args=(session, handle), daemon=True).start()
    ended.get()
    # At once: there is nothing to save, and nobody to tell.
    os._exit(0)


if __name__ == "__main__":
    main()
