"""What the composer is measured against: `peer_compose.py sha1 FILE`, or `libtorrent FILE PART_SIZE OUT`."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

BUFFER_BYTES = 1 << 20


def sha1(path: str) -> str:
    """One pass over the file, in one thread."""
    digest = hashlib.sha1()
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(buffer):
            digest.update(buffer[:length])
    return digest.hexdigest()


def libtorrent(path: str, part_size_bytes: int, out: str) -> None:
    """A .torrent of the file, as libtorrent makes it."""
    import libtorrent as lt  # noqa: PLC0415 - the other mode does without

    files = lt.file_storage()
    lt.add_files(files, path)
    torrent = lt.create_torrent(files, part_size_bytes, lt.create_torrent.v1_only)
    torrent.add_tracker("http://127.0.0.1:9999/announce")
    lt.set_piece_hashes(torrent, str(Path(path).parent))
    Path(out).write_bytes(lt.bencode(torrent.generate()))


if __name__ == "__main__":
    if sys.argv[1] == "sha1":
        print(sha1(sys.argv[2]))
    else:
        libtorrent(sys.argv[2], int(sys.argv[3]), sys.argv[4])
