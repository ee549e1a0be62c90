"""Which names a composition may have: rule 2 of the .orch format.

Pure; any thread. The one place where names are judged, whatever they came in
by: the composer's argument, a .orch, a .torrent. A name is refused, never
repaired. `check_name` is the rule of the format, the same on every machine;
`check_writable_name` is what the member asks on top before it creates a file
of that name on this machine.
"""

from __future__ import annotations

import os
import re
import unicodedata

from orchestra.text import safe

MAX_NAME_BYTES = 240

_DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(?:\..*)?",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
_REFUSED_CATEGORIES = {
    "Cc": "a control character",
    "Cf": "an invisible format character",
    "Cs": "a byte that is not UTF-8",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
_WINDOWS_ONLY = '<>:"|?*'


class NameProblem(ValueError):
    """A name that may not be used. The text is the reason, safe to print."""


def check_name(name: str) -> None:
    """Raise NameProblem unless `name` is one safe path component as the format defines it."""
    if not name:
        raise NameProblem("the name is empty")
    length_bytes = len(name.encode("utf-8", "surrogatepass"))
    if length_bytes > MAX_NAME_BYTES:
        raise NameProblem(f"the name has {length_bytes} bytes of UTF-8, more than {MAX_NAME_BYTES}")
    if name in (".", ".."):
        raise NameProblem(f'"{name}" is not a name for a file')
    for character in name:
        _check_character(character)
    if name[-1] in ". ":
        raise NameProblem("the name ends with a dot or a space")
    if not unicodedata.is_normalized("NFC", name):
        raise NameProblem("the name is not in the composed form (NFC) of Unicode")
    if _DEVICE.fullmatch(name):
        raise NameProblem(f'"{safe(name)}" is the name of a device on Windows')


def _check_character(character: str) -> None:
    if character in "/\\":
        raise NameProblem(f'the name has a "{character}" in it; it must be one path component')
    reason = _REFUSED_CATEGORIES.get(unicodedata.category(character))
    if reason is not None:
        raise NameProblem(f"the name has {reason} in it ({safe(character)})")


def check_writable_name(name: str, *, windows: bool = os.name == "nt") -> None:
    """Raise NameProblem if this machine should not create `name` unless the user says so.

    A name with a leading dot hides itself and may configure other programs;
    on Windows a colon leaves the folder or names a stream, and some characters
    cannot be in a name at all. `name` must have passed `check_name`.
    """
    if name.startswith("."):
        raise NameProblem("the name starts with a dot")
    if windows:
        for character in _WINDOWS_ONLY:
            if character in name:
                raise NameProblem(f'the name has a "{character}" in it, which Windows does not allow')
