"""The same composition as a .torrent: BEP 3, with BEP 12 for several conductors.

Pure; any thread. The info dictionary is the Score's own, so a .torrent made
here has the info hash of its .orch. The text is deterministic: no date in it.
"""

from __future__ import annotations

from netutils import Address, format_address
from orchestra import __version__, bencode
from orchestra.score import Score

CLIENT_METAINFO_LIMIT_BYTES = 10_000_000
"""libtorrent, and the clients built on it, refuse to load a larger .torrent or info dictionary."""
CLIENT_PART_LIMIT_BYTES = 0x1FFFC000
"""libtorrent 2.1 refuses larger parts; any smaller size is fine, a power of two or not."""


class EmptyCompositionError(ValueError):
    """A composition of 0 bytes has no parts, and clients refuse a .torrent without pieces."""

    def __init__(self) -> None:
        super().__init__("an empty file cannot be a .torrent: there is nothing in it to share")


def info_dict_bytes(score: Score) -> bytes:
    """The bencoded info dictionary; its SHA-1 is `score.info_hash`."""
    return bencode.encode(score.info_dictionary())


def torrent_bytes(score: Score) -> bytes:
    """The content of a .torrent that announces to the conductors over HTTP.

    Several conductors are one tier of BEP 12, as in the .orch.
    Raises EmptyCompositionError for a composition of 0 bytes.
    """
    if score.size_bytes == 0:
        raise EmptyCompositionError
    announces = [_announce_url(conductor) for conductor in score.conductors]
    content: dict[bytes, object] = {
        b"announce": announces[0],
        b"created by": f"Orchestra/{__version__}",
        b"info": score.info_dictionary(),
    }
    if len(announces) > 1:
        content[b"announce-list"] = [announces]
    return bencode.encode(content)


def client_problem(score: Score) -> str | None:
    """Why the usual torrent clients would refuse this composition, and what to do; None when they take it.

    Our own members take it all the same. An empty composition is torrent_bytes' affair.
    """
    if score.part_size_bytes > CLIENT_PART_LIMIT_BYTES:
        return (
            f"torrent clients refuse parts of more than {CLIENT_PART_LIMIT_BYTES} bytes: "
            "choose a smaller part size for them"
        )
    length_bytes = len(info_dict_bytes(score))
    if length_bytes > CLIENT_METAINFO_LIMIT_BYTES:
        return (
            f"{score.parts} parts make {length_bytes} bytes of metadata, and many torrent clients refuse "
            f"more than {CLIENT_METAINFO_LIMIT_BYTES}: choose a larger part size for them"
        )
    return None


def _announce_url(conductor: Address) -> str:
    # RFC 6874: the % before the scope of a link-local address is itself escaped in a URL.
    return f"http://{format_address(conductor).replace('%', '%25')}/announce"
