from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestra.regular import NotRegularError, open_regular


def test_a_file_is_opened_through_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    (tmp_path / "link").symlink_to("x")
    for name in ("x", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"content"
            assert not file.writable()


def test_what_is_no_regular_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path, kind in (
            (tmp_path, "a folder"),
            (tmp_path / "pipe", "a named pipe"),
            (tmp_path / "socket", "a socket"),
            (Path("/dev/zero"), "a device"),
        ):
            with pytest.raises(NotRegularError) as caught:
                open_regular(path)
            assert caught.value.kind == kind
            assert caught.value.strerror == f"is {kind}, not a file"


def test_a_path_that_becomes_a_pipe_just_before_it_is_opened_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.touch()
    really_open = os.open

    def exchange_and_open(opened: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return really_open(opened, flags)

    monkeypatch.setattr(os, "open", exchange_and_open)
    with pytest.raises(NotRegularError, match="named pipe"):
        open_regular(path)


def test_what_the_system_refuses_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "missing")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "loop")
