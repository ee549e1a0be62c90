"""A libtorrent client as a process: `libtorrent_peer.py TORRENT SAVE_DIR [HOST:PORT...] [options]`.

Stock settings, but for the ways to find and reach peers: only TCP and the
tracker (and the peers given), so that what a test sees went through the
conductor. Prints JSON events as our programs do: `listening` {port},
`complete` {name} when all is on disk, `failed` {what}, with --wire also `wire`
{way, kind, port, text}, what libtorrent notes of each message and to or from
whom. Ends by signal.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
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
WIRE = re.compile(r"(<==|==>) (\w+) ?(.*)", re.DOTALL)


def tell(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)  # noqa: T201 - this is how a test hears of it


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("torrent")
    parser.add_argument("folder", type=Path)
    parser.add_argument("peers", nargs="*")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--no-tracker", action="store_true", help="know nobody but the peers given")
    parser.add_argument("--no-pex", action="store_true")
    parser.add_argument("--slots", type=int, help="serve so many at a time, and others after a second")
    parser.add_argument("--sessions", type=int, default=1, help="so many clients, in folders 0, 1, 2...")
    parser.add_argument("--up", type=int, default=0, help="bytes a second that a client sends at most")
    parser.add_argument("--down", type=int, default=0, help="bytes a second that a client takes at most")
    parser.add_argument("--wire", action="store_true")
    return parser.parse_args()


def start(arguments: argparse.Namespace, folder: Path) -> tuple[Any, Any]:
    """A session, and its handle on the torrent."""
    settings: Any = {**SETTINGS, "listen_interfaces": f"{arguments.host}:0"}
    if arguments.slots:
        settings |= {"unchoke_slots_limit": arguments.slots, "num_optimistic_unchoke_slots": 1}
        settings |= {"unchoke_interval": 1, "optimistic_unchoke_interval": 1}
    if arguments.down:
        settings["recv_socket_buffer_size"] = 65536  # else the kernel takes megabytes in on its behalf
    if arguments.wire:
        settings["alert_mask"] |= libtorrent.alert.category_t.peer_log_notification
        settings["alert_queue_size"] = 1_000_000  # else some are dropped
    session = libtorrent.session(settings)
    if arguments.slots:
        # By itself libtorrent serves all who are on its own network.
        local = session.get_peer_class(libtorrent.session.local_peer_class_id)
        session.set_peer_class(
            libtorrent.session.local_peer_class_id, {**local, "ignore_unchoke_slots": False}
        )
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(arguments.torrent)
    folder.mkdir(exist_ok=True)
    parameters.save_path = str(folder)
    if arguments.no_tracker:
        parameters.flags |= libtorrent.torrent_flags.override_trackers
    if arguments.no_pex:
        parameters.flags |= libtorrent.torrent_flags.disable_pex
    if arguments.up:
        parameters.upload_limit = arguments.up
    if arguments.down:
        parameters.download_limit = arguments.down
    handle = session.add_torrent(parameters)
    for peer in arguments.peers:
        address, _, port = peer.rpartition(":")
        handle.connect_peer((address.strip("[]"), int(port)))
    return session, handle


def hear(alert: Any, handle: Any, number: int) -> None:
    """Tell what a test may wait for."""
    match alert:
        case libtorrent.listen_succeeded_alert():
            tell("listening", port=alert.port, number=number)
        case libtorrent.torrent_finished_alert():
            handle.flush_cache()
        case libtorrent.cache_flushed_alert():
            tell("complete", name=handle.status().name, number=number)
        case libtorrent.tracker_reply_alert():
            tell("announced", members=alert.num_peers)
        case libtorrent.torrent_error_alert() | libtorrent.tracker_error_alert():
            tell("failed", what=alert.message())
        case libtorrent.peer_log_alert():
            found = WIRE.search(alert.message())
            if found:
                way = "in" if found[1] == "<==" else "out"
                tell("wire", way=way, kind=found[2], port=alert.endpoint[1], text=found[3], number=number)


def main() -> None:
    arguments = parse()
    many = arguments.sessions > 1
    folders = [arguments.folder / str(n) if many else arguments.folder for n in range(arguments.sessions)]
    sessions = [start(arguments, folder) for folder in folders]
    while True:
        for number, (session, handle) in enumerate(sessions):
            session.wait_for_alert(100 if many else 10_000)
            for alert in session.pop_alerts():
                hear(alert, handle, number)


if __name__ == "__main__":
    main()
