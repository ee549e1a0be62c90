"""The handshake of the extension protocol (BEP 10): who we are, and what we take.

Pure. Unknown keys are ignored, as the BEP asks; malformed known ones too,
since nothing here is needed to talk.
"""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass

from orchestra import __version__, bencode
from orchestra.errors import RemoteProtocolError

CLIENT = f"Orchestra {__version__}"
HANDSHAKE_ID = 0
LEAST_REQQ, MOST_REQQ = 1, 2000


@dataclass(frozen=True, slots=True)
class ExtensionHandshake:
    """What a peer says of itself: `client` is raw text, to be escaped; 0 where it said nothing."""

    client: str = ""
    port: int = 0
    max_requests: int = 0


def encode_extension_handshake(*, port: int, max_requests: int, your_host: str) -> bytes:
    """Our handshake: our listening port, how many requests may wait, and the peer's address as we see it."""
    fields: dict[bytes, object] = {b"m": {}, b"p": port, b"reqq": max_requests, b"v": CLIENT.encode()}
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
    return ExtensionHandshake(
        client=client.decode("utf-8", "replace") if isinstance(client, bytes) else "",
        port=port if isinstance(port, int) and 0 < port < 65536 else 0,
        max_requests=min(max(max_requests, LEAST_REQQ), MOST_REQQ) if isinstance(max_requests, int) else 0,
    )
