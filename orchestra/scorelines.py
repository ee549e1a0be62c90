"""The lines of a .orch: split, matched and converted, before anyone asks what they mean.

Pure; any thread. What stands on which line, and which values make sense, is
the business of score.py. Rules: lines end at LF and nowhere else, numbers and
hashes are matched as ASCII before they are converted, nothing is allocated by
a declared size, time and memory are linear in the length of the text.
"""

from __future__ import annotations

import binascii
import io
import re
from typing import BinaryIO

from orchestra.text import safe

MAX_SCORE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 8192
SHA1_BYTES = 20
SHA1_LINE_BYTES = 2 * SHA1_BYTES + 1  # hex digits and LF

_HEADER_LINES = 6
_CHUNK_BYTES = 1024 * 1024
_SHA1 = re.compile(rb"[0-9a-fA-F]{40}")
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,15}")
_FILE_LINE = re.compile(rb"[0-9]+ ")


class FieldProblem(ValueError):
    """A value that the format does not allow. The text is safe to print; `line` is its place in a .orch."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Lines:
    """The lines of a .orch, taken from the front. A line ends with LF or CRLF; the last may lack it.

    Every method raises FieldProblem, with the number of the line, for what it
    does not find. `what` names the field, for that text.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._line = 0

    def text(self, what: str) -> str:
        """The next line, as text; with help for what editors do to a file."""
        line = self._next(what)
        if line.startswith(b"\xef\xbb\xbf"):
            raise FieldProblem(self._line, "starts with a byte-order mark: save it as UTF-8 without BOM")
        if line.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise FieldProblem(self._line, "is UTF-16: save the file as UTF-8")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            raise FieldProblem(self._line, f'{what} is not UTF-8 text: "{safe(line, 60)}"') from None

    def number(self, what: str) -> int:
        """The next line, as a decimal number of at most 16 digits."""
        line = self._next(what)
        if not _NUMBER.fullmatch(line):
            form = "a decimal number of at most 16 digits, without sign, blank or leading zero"
            raise FieldProblem(self._line, f'{what} must be {form}, not "{safe(line, 60)}"')
        return int(line)

    def sha1(self, what: str) -> bytes:
        """The next line, as the 20 bytes of a SHA-1."""
        line = self._next(what)
        if not _SHA1.fullmatch(line):
            raise FieldProblem(self._line, _not_a_sha1(line, what))
        return binascii.unhexlify(line)

    def part_sha1s(self, parts: int) -> bytes:
        """The SHA-1s of `parts` parts, one a line, which must be the rest of the text.

        Reads no further than the first line that is wrong or too many.
        """
        sha1s = io.BytesIO()
        rest = b""
        while chunk := self._stream.read(_CHUNK_BYTES):
            text = (rest + chunk).replace(b"\r\n", b"\n")
            end = text.rfind(b"\n") + 1
            sha1s.write(self._convert(text[:end], parts))
            rest = text[end:]
            if len(rest) > MAX_LINE_BYTES:
                raise FieldProblem(self._line + 1, f"longer than {MAX_LINE_BYTES} bytes")
        if rest:
            sha1s.write(self._convert(rest + b"\n", parts))
        found = self._line - _HEADER_LINES
        if found != parts:
            reason = f"the SHA-1 of part {found + 1} of {parts} is missing: the file ends here"
            raise FieldProblem(self._line + 1, reason)
        return sha1s.getvalue()

    def _next(self, what: str) -> bytes:
        """The next line of the header, without its end."""
        self._line += 1
        line = self._stream.readline(MAX_LINE_BYTES + 2)
        if not line:
            raise FieldProblem(self._line, f"{what} is missing: the file ends here")
        if line.endswith(b"\n"):
            line = line[:-1].removesuffix(b"\r")
        if len(line) > MAX_LINE_BYTES:
            raise FieldProblem(self._line, f"{what} is longer than {MAX_LINE_BYTES} bytes")
        return line

    def _convert(self, block: bytes, parts: int) -> bytes:
        """Convert a block of whole lines at the speed of C; look at single lines only to name a wrong one."""
        lines, left_over = divmod(len(block), SHA1_LINE_BYTES)
        fit = left_over == 0 and self._line - _HEADER_LINES + lines <= parts
        if fit and block[SHA1_LINE_BYTES - 1 :: SHA1_LINE_BYTES] == b"\n" * lines:
            try:
                # Unlike bytes.fromhex this takes no blanks: the full length means nothing but hex digits.
                sha1s = binascii.unhexlify(block.translate(None, b"\n"))
            except binascii.Error:
                raise self._first_fault(block, parts) from None
            if len(sha1s) == lines * SHA1_BYTES:
                self._line += lines
                return sha1s
        raise self._first_fault(block, parts)

    def _first_fault(self, block: bytes, parts: int) -> FieldProblem:
        """What is wrong with the first line of `block` that is not as it should be. One must be wrong."""
        number, line = self._line, b""
        for number, line in enumerate(block.split(b"\n"), start=self._line + 1):
            if number > parts + _HEADER_LINES:
                return FieldProblem(number, _surplus(line))
            if not _SHA1.fullmatch(line):
                break
        return FieldProblem(number, _not_a_sha1(line, f"the SHA-1 of part {number - _HEADER_LINES}"))


def _not_a_sha1(line: bytes, what: str) -> str:
    return f'{what} must be 40 hex digits, not "{safe(line, 60)}"'


def _surplus(line: bytes) -> str:
    if not line:
        return "an empty line after the last part: remove it"
    if _FILE_LINE.match(line):
        # The folder's file lines, which a later version will read here.
        return "this composition is a folder (a line a file after the parts), which this version cannot read"
    return f'more text after the last part: "{safe(line, 60)}"'
