"""The reply of a conductor, from the socket to its body: HTTP as http.client reads it.

The announcer's thread. http.client brings along what reads e-mail and speaks
TLS, 13 ms of imports. So this is a module of its own, which trackerclient does
not import before an announce is on its way: the conductor answers meanwhile.
"""

from __future__ import annotations

import http.client
import socket

from orchestra.announcereply import MAX_REPLY_BYTES, ReplyProblem
from orchestra.text import safe


def read_body(sock: socket.socket) -> bytes:
    """The body of the reply to a GET; of one that is too long, the first MAX_REPLY_BYTES + 1 bytes.

    Raises OSError as the socket does, ReplyProblem for all that is no whole reply of status 200.
    """
    response = http.client.HTTPResponse(sock, method="GET")
    try:
        response.begin()
        body = response.read(MAX_REPLY_BYTES + 1) if response.status == http.client.OK else b""
    except OSError:
        raise
    except http.client.IncompleteRead:
        raise ReplyProblem("the reply ended early") from None
    except (http.client.HTTPException, ValueError, OverflowError) as error:
        # The last two are how http.client takes a chunk of negative length.
        text = safe(str(error) or type(error).__name__, 80)
        raise ReplyProblem(f"this is no HTTP reply ({text})") from None
    finally:
        response.close()
    if response.status != http.client.OK:
        raise ReplyProblem(_status(response.status, response.reason))
    if response.length and len(body) <= MAX_REPLY_BYTES:  # what is left of the Content-Length
        raise ReplyProblem("the reply ended early")
    return body


def _status(status: int, reason: str) -> str:
    if status in (301, 302, 303, 307, 308):
        return f"HTTP status {status}: redirects are not followed"
    return f"HTTP status {status} {safe(reason, 60)}".rstrip()
