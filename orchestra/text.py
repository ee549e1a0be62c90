"""Text of others, made fit for a terminal, a log or an error line.

Pure; any thread. Names, conductor hosts, failure reasons, peer ids and the
texts of exceptions that quote them all go through `safe` before they are
printed or logged: none may move the cursor, forge a line or hide text
(CWE-150). The rendering is for reading, not for reading back: a backslash in
the text stays one backslash.
"""

from __future__ import annotations

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def safe(text: str | bytes, limit: int = 200) -> str:
    """Render `text` in printable characters, at most `limit` of them (at least 1).

    What is not printable (controls, format and bidirectional marks, odd blanks,
    private and unassigned code points, bytes that are not UTF-8) becomes \\xNN,
    \\uNNNN or \\UNNNNNNNN. What is cut off leaves an ellipsis. The cost is
    bounded by `limit`, not by the length of `text`.
    """
    if isinstance(text, bytes):
        # A UTF-8 character has at most four bytes; a sequence cut here lies beyond the limit.
        text = text[: 4 * limit + 4].decode("utf-8", "surrogateescape")
    if len(text) <= limit and text.isprintable():
        return text
    rendered: list[str] = []
    room = limit
    for position, character in enumerate(text):
        piece = character if character.isprintable() else _escape(ord(character))
        at_the_end = position == len(text) - 1
        if len(piece) + (not at_the_end) > room:
            # The ellipsis has its place: every piece before this one left a column for it.
            return "".join(rendered) + ELLIPSIS
        rendered.append(piece)
        room -= len(piece)
    return "".join(rendered)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # surrogateescape (PEP 383): a byte that was not UTF-8
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
