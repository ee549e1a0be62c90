"""Peers that shake hands and then say nothing: `peer_idle.py HOST PORT COUNT INFO_HASH`.

Says {"event": "ready", "peers": N} when all have either had the other side's
handshake or been sent away; then reads and forgets what comes, until it is
ended.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys

HANDSHAKE_BYTES = 68
PATIENCE_S = 5.0


def shake_hands(address: tuple[str, int], info_hash: bytes, number: int) -> socket.socket | None:
    """One idle peer (BEP 3); None when it is not let in."""
    peer_id = b"-XX0000-%012d" % number
    sock = socket.create_connection(address, PATIENCE_S)
    try:
        sock.sendall(b"\x13BitTorrent protocol" + bytes(8) + info_hash + peer_id)
        got = 0
        while got < HANDSHAKE_BYTES:
            data = sock.recv(HANDSHAKE_BYTES - got)
            if not data:
                break
            got += len(data)
    except OSError:
        got = 0
    if got < HANDSHAKE_BYTES:
        sock.close()
        return None
    sock.setblocking(False)
    return sock


def main() -> None:
    """Run until told to end."""
    host, port, count, info_hash = sys.argv[1:]
    selector = selectors.DefaultSelector()
    peers = 0
    for number in range(int(count)):
        sock = shake_hands((host, int(port)), bytes.fromhex(info_hash), number)
        if sock is not None:
            peers += 1
            selector.register(sock, selectors.EVENT_READ)
    os.write(1, (json.dumps({"event": "ready", "peers": peers}) + "\n").encode())
    buffer = bytearray(1 << 16)
    while selector.get_map():
        for key, _ in selector.select():
            peer = key.fileobj
            assert isinstance(peer, socket.socket)
            try:
                open_still = peer.recv_into(buffer) > 0
            except OSError:
                open_still = False
            if not open_still:
                selector.unregister(peer)
                peer.close()
    sys.stdin.read()


if __name__ == "__main__":
    main()
