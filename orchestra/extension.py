"""The handshake of the extension protocol (BEP 10): who we are, what we speak, take and want.

Pure. Unknown keys are ignored, as the BEP asks; malformed known ones too,
since nothing here is needed to talk. A later handshake changes what it names.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import NamedTuple

from netutils import normal_host
from orchestra import __version__, bencode
from orchestra.errors import RemoteProtocolError

CLIENT = f"Orchestra {__version__}"
HANDSHAKE_ID = 0
PEX_ID = 1
"""What peers are to call a `ut_pex` message (BEP 11)."""
UPLOAD_ONLY_ID = 2
"""What peers are to call a message that consists of one byte, `upload_only` alone: libtorrent says so."""
LEAST_REQQ, MOST_REQQ = 1, 2000

DONT_HAVE_ID = 3
"""What peers are to call an `lt_donthave` message (BEP 54): a part, 4 bytes, that they have lost."""


class ExtensionHandshake(NamedTuple):
    """What a peer says of itself: `client` is raw text, to be escaped; 0, "" or None where it said nothing.

    `upload_only`: it wants nothing (BEP 21). `our_host`: our address as it sees it.
    `pex_id`: what it calls a `ut_pex` message (BEP 11), 0 when it takes none any more.
    `dont_have_id`: the same for `lt_donthave` (BEP 54).
    """

    client: str = ""
    port: int = 0
    max_requests: int = 0
    upload_only: bool | None = None
    our_host: str = ""
    pex_id: int | None = None
    dont_have_id: int | None = None


def encode_extension_handshake(
    *, port: int, max_requests: int, your_host: str, upload_only: bool = False
) -> bytes:
    """Our handshake: our listening port, how many requests may wait, the peer's address as we see it,
    and that we want nothing (BEP 21), if that is so."""
    fields: dict[bytes, object] = {
        b"m": {b"lt_donthave": DONT_HAVE_ID, b"upload_only": UPLOAD_ONLY_ID, b"ut_pex": PEX_ID},
        b"p": port,
        b"reqq": max_requests,
        b"v": CLIENT.encode(),
    }
    if upload_only:
        fields[b"upload_only"] = 1
    with contextlib.suppress(ValueError):  # a host name says nothing that the peer could use
        fields[b"yourip"] = ipaddress.ip_address(your_host).packed
    return bencode.encode(fields)


def decode_extension_handshake(payload: bytes) -> ExtensionHandshake:
    """Read a peer's handshake. Raises RemoteProtocolError when it is not a bencoded dictionary."""
    try:
        fields = bencode.decode(payload)
    except ValueError:
        raise RemoteProtocolError("an extension handshake that is not bencoded") from None
    if not isinstance(fields, dict):
        raise RemoteProtocolError("an extension handshake that is not a dictionary")
    client = fields.get(b"v")
    port = fields.get(b"p")
    max_requests = fields.get(b"reqq")
    upload_only = fields.get(b"upload_only")
    names = fields.get(b"m")
    return ExtensionHandshake(
        client=client.decode("utf-8", "replace") if isinstance(client, bytes) else "",
        port=port if isinstance(port, int) and 0 < port < 65536 else 0,
        max_requests=min(max(max_requests, LEAST_REQQ), MOST_REQQ) if isinstance(max_requests, int) else 0,
        upload_only=bool(upload_only) if isinstance(upload_only, int) else None,
        our_host=_host(fields.get(b"yourip")),
        pex_id=_id(names, b"ut_pex"),
        dont_have_id=_id(names, b"lt_donthave"),
    )


def _id(names: object, message: bytes) -> int | None:
    """What a peer calls a message, None when it said nothing of it."""
    number = names.get(message) if isinstance(names, dict) else None
    return number if isinstance(number, int) and 0 <= number < 256 else None


def _host(packed: object) -> str:
    """The literal that 4 or 16 bytes stand for, or ""."""
    if not isinstance(packed, bytes) or len(packed) not in (4, 16):
        return ""
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return normal_host(socket.inet_ntop(family, packed))
