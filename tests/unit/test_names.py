from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.names import MAX_NAME_BYTES, NameProblem, check_name, check_writable_name

GOOD_NAMES = [
    "a",
    "maxresdefault.jpg",
    "-rf",
    "~",
    ".profile",
    "...hidden",
    " leading blank",
    "two  blanks",
    "Screenshot 9.41\u202fAM.png",
    "no\u00a0break",
    "Grüße",
    "名前",
    "🎼",
    "a:b*c?.txt",
    'quoted "name" <x> | y',
    "$(reboot)",
    "%2e%2e%2f",
    "x" * MAX_NAME_BYTES,
    "é" * (MAX_NAME_BYTES // 2),
    "COM",
    "COM10",
    "CONSOLE",
    "console.txt",
    "NULL",
    "my.con",
    "a.nul",
]

HOSTILE_NAMES = [
    ("", "empty"),
    (".", "not a name"),
    ("..", "not a name"),
    ("../x", "path component"),
    ("..\\x", "path component"),
    ("/etc/passwd", "path component"),
    ("a/b", "path component"),
    ("a/", "path component"),
    ("C:\\x", "path component"),
    ("\\\\server\\share", "path component"),
    ("a\x00b", "control"),
    ("a\nb", "control"),
    ("a\rb", "control"),
    ("a\tb", "control"),
    ("\x1b[31m", "control"),
    ("a\x7f", "control"),
    ("a\x0bb", "control"),
    ("a\x0cb", "control"),
    ("a\x1cb", "control"),
    ("a\x1db", "control"),
    ("a\x1eb", "control"),
    ("a\x1fb", "control"),
    ("a\x85b", "control"),
    ("a\x9b31m", "control"),
    ("a\u2028b", "line separator"),
    ("a\u2029b", "paragraph separator"),
    ("\u202egpj.exe", "invisible"),
    ("a\u200bb", "invisible"),
    ("a\u200db", "invisible"),
    ("a\u200eb", "invisible"),
    ("a\u2066b", "invisible"),
    ("a\u00adb", "invisible"),
    ("\ufeffa", "invisible"),
    ("a\u061cb", "invisible"),
    ("a\U000e0041b", "invisible"),
    ("caf\udce9", "not UTF-8"),
    ("a\ud800", "not UTF-8"),
    ("name.", "dot or a space"),
    ("name ", "dot or a space"),
    ("...", "dot or a space"),
    (". .", "dot or a space"),
    (" ", "dot or a space"),
    ("cafe\u0301", "composed form"),
    ("\u212b", "composed form"),
    ("CON", "device"),
    ("con", "device"),
    ("Nul", "device"),
    ("PRN", "device"),
    ("AUX.txt", "device"),
    ("nul.tar.gz", "device"),
    ("NUL .txt", "device"),
    ("COM1", "device"),
    ("com0.x", "device"),
    ("LPT9.log", "device"),
    ("COM\u00b9", "device"),
    ("lpt\u00b3.txt", "device"),
    ("CONIN$", "device"),
    ("conout$", "device"),
    ("x" * (MAX_NAME_BYTES + 1), "241 bytes"),
    ("é" * (MAX_NAME_BYTES // 2) + "x", "241 bytes"),
    ("名" * 100, "300 bytes"),
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_that_any_file_system_can_hold_is_accepted(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(("name", "reason"), HOSTILE_NAMES)
def test_a_hostile_name_is_refused_with_a_reason_that_is_safe_to_print(name: str, reason: str) -> None:
    with pytest.raises(NameProblem, match=reason) as caught:
        check_name(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 120


@given(st.text(max_size=300))
def test_an_accepted_name_is_one_printable_line_and_one_path_component(name: str) -> None:
    try:
        check_name(name)
    except NameProblem:
        return
    assert 1 <= len(name.encode("utf-8")) <= MAX_NAME_BYTES
    assert name.splitlines() == [name]
    assert not set(name) & set("/\\\0\n\r\x1b")


def test_a_leading_dot_is_a_name_but_not_one_to_write_unasked() -> None:
    check_name(".bashrc")
    with pytest.raises(NameProblem, match="starts with a dot"):
        check_writable_name(".bashrc", windows=False)
    check_writable_name("bashrc.", windows=False)


@pytest.mark.parametrize("name", ["C:x", "file:stream", "a*b", 'a"b', "a<b", "a>b", "a|b", "a?b"])
def test_what_windows_cannot_hold_is_refused_there_and_only_there(name: str) -> None:
    check_writable_name(name, windows=False)
    with pytest.raises(NameProblem, match="Windows"):
        check_writable_name(name, windows=True)
