"""The conductor's HTTP front end as a WSGI application: /announce, /scrape, and a word at /.

Called by the web server's threads, several at a time; keeps no state. A request
that cannot be answered gets a bencoded `failure reason` with status 200, as
trackers do (BEP 3), or a plain 4xx where no tracker would be asked that way.
X-Forwarded-For and the like are not looked at: a member is where it speaks from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orchestra import __version__
from orchestra.announce import AnnounceProblem, parse_announce, parse_scrape
from orchestra.announcereply import format_answer, format_failure, format_scrape
from orchestra.tracker import Tracker

_FRONT_PAGE = (
    f"This is a conductor of Orchestra {__version__}, a BitTorrent tracker.\n"
    "It brings those together who share a composition: /announce (BEP 3) and /scrape (BEP 48).\n"
)

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]

REFUSAL = format_failure("too many requests from your address: try again later")
"""The body for who asks too often: the web server answers that with status 429 itself."""


class TrackerApp:
    """WSGI (PEP 3333)."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] != "GET":
            text = "" if environ["REQUEST_METHOD"] == "HEAD" else "Only GET.\n"
            return _text(start_response, "405 Method Not Allowed", text, ("Allow", "GET"))
        if path == "/announce":
            return _body(start_response, "200 OK", self._announce(environ))
        if path == "/scrape":
            return _body(start_response, "200 OK", self._scrape(environ))
        if path == "/":
            return _text(start_response, "200 OK", _FRONT_PAGE)
        return _text(start_response, "404 Not Found", "There is /announce and /scrape.\n")

    def _announce(self, environ: Environ) -> bytes:
        try:
            query = parse_announce(_query(environ))
            answer = self._tracker.announce(query, environ["REMOTE_ADDR"])
        except AnnounceProblem as problem:
            return format_failure(str(problem))
        return format_answer(answer, compact=query.compact, with_ids=query.with_ids)

    def _scrape(self, environ: Environ) -> bytes:
        try:
            return format_scrape(self._tracker.scrape(parse_scrape(_query(environ))))
        except AnnounceProblem as problem:
            return format_failure(str(problem))


def _query(environ: Environ) -> bytes:
    # PEP 3333: text in the environment is bytes, read as Latin-1.
    return bytes(environ.get("QUERY_STRING", ""), "latin-1")


def _text(
    start_response: StartResponse, status: str, text: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    return _body(start_response, status, text.encode(), *headers)


def _body(
    start_response: StartResponse, status: str, body: bytes, *headers: tuple[str, str]
) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers])
    return [body]
