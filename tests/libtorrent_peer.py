"""A libtorrent client as a process: `libtorrent_peer.py TORRENT SAVE_DIR [HOST:PORT...]`.

Stock settings, but for the ways to find and reach peers: only TCP and the
tracker (and the peers given), so that what a test sees went through the
conductor. Prints JSON events as our programs do: `listening` {port},
`complete` {name} when all is on disk, `failed` {what}. Ends by signal.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import libtorrent

SETTINGS = {
    "alert_mask": libtorrent.alert.category_t.status_notification
    | libtorrent.alert.category_t.error_notification
    | libtorrent.alert.category_t.tracker_notification
    | libtorrent.alert.category_t.storage_notification,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_natpmp": False,
    "enable_upnp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    # All members of a test have one address.
    "allow_multiple_connections_per_ip": True,
}


def tell(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)  # noqa: T201 - this is how a test hears of it


def main(torrent: str, folder: str, peers: list[str], host: str = "127.0.0.1") -> None:
    settings: Any = {**SETTINGS, "listen_interfaces": f"{host}:0"}
    session = libtorrent.session(settings)
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(torrent)
    parameters.save_path = folder
    handle = session.add_torrent(parameters)
    for peer in peers:
        address, _, port = peer.rpartition(":")
        handle.connect_peer((address.strip("[]"), int(port)))
    while True:
        session.wait_for_alert(10_000)
        for alert in session.pop_alerts():
            match alert:
                case libtorrent.listen_succeeded_alert():
                    tell("listening", port=alert.port)
                case libtorrent.torrent_finished_alert():
                    handle.flush_cache()
                case libtorrent.cache_flushed_alert():
                    tell("complete", name=handle.status().name)
                case libtorrent.tracker_reply_alert():
                    tell("announced", members=alert.num_peers)
                case libtorrent.torrent_error_alert() | libtorrent.tracker_error_alert():
                    tell("failed", what=alert.message())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
