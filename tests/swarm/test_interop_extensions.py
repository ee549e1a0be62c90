"""What is spoken beyond BEP 3, with libtorrent at the other end, which says what it heard and said."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.compositions import MIB, Composition, compose
from tests.foreign import needs_libtorrent, start_libtorrent
from tests.programs import ROOT, Program, Programs
from tests.swarms import Orchestra, member_address, uploaded_bytes, wait_until

pytestmark = [pytest.mark.interop, needs_libtorrent]

ALONE = ("--no-tracker", "--wire")


def heard(client: Program, way: str, kind: str, text: str = "", number: int = 0) -> int:
    """How often a libtorrent client heard ("in") or said ("out") such a message with `text` in it."""
    return sum(
        (event["way"], event["kind"], event["number"]) == (way, kind, number) and text in event["text"]
        for event in list(client.events)
        if event["event"] == "wire"
    )


def address_of(client: Program) -> str:
    """Where to reach a libtorrent client, as --peer takes it."""
    return f"127.0.0.1:{client.wait_for_event('listening')['port']}"


def fetch_by_hand(
    programs: Programs, composition: Composition, folder: Path, *options: str | Path
) -> Program:
    """A member that knows nobody but whom it is told, since there is no conductor."""
    orch = composition.write_orch(programs.folder)
    return programs.start("member", orch, "--dir", folder, "--port", "0", "-v", *options)


# The fast extension (BEP 6)


def test_members_get_what_they_ask_of_a_libtorrent_client_that_chokes_and_rejects(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    torrent = piece.write_torrent(tmp_path)
    client = start_libtorrent(
        programs, torrent, piece.folder, *ALONE, "--no-pex", "--slots", "1", "--up", "9000000"
    )
    folders = [tmp_path / name for name in ("one", "two", "three")]
    members = [fetch_by_hand(programs, piece, folder, "--peer", address_of(client)) for folder in folders]
    for member, folder in zip(members, folders, strict=True):
        member.wait_for_event("complete")
        assert piece.is_at(folder / piece.score.name)
    assert heard(client, "in", "HAVE_NONE") == heard(client, "out", "HAVE_ALL") == 3
    assert heard(client, "out", "CHOKE")
    assert heard(client, "out", "REJECT")
    assert heard(client, "out", "ALLOWED_FAST")
    wait_until(lambda: answers(client) == heard(client, "in", "REQUEST"), "an answer to each request")


def answers(client: Program) -> int:
    """How many requests a libtorrent client has answered."""
    return heard(client, "out", "PIECE") + heard(client, "out", "REJECT")


def test_libtorrent_clients_get_what_they_ask_of_a_member_that_chokes_and_rejects(
    programs: Programs, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, compose(tmp_path / "source", 4 * MIB, 16384))
    # With another source a member shows all that it has, and serves by its rounds alone.
    orchestra.seed()
    script = ROOT / "tests" / "one_slot_member.py"
    command: list[str | Path] = [sys.executable, script, orchestra.orch, "--port", "0", "--json"]
    command += ["--dir", orchestra.composition.folder, "--log-dir", programs.log_dir]
    member = programs.start_other([os.fspath(word) for word in command])
    orchestra.wait_for_members(complete=2)
    clients = start_libtorrent(
        programs,
        orchestra.torrent,
        tmp_path / "theirs",
        member_address(member),
        *(*ALONE, "--no-pex", "--sessions", "3", "--down", "1000000"),
    )
    for number in range(3):
        clients.wait_for_event("complete", number=number)
        assert orchestra.composition.is_at(tmp_path / "theirs" / str(number) / "piece.bin")
        assert heard(clients, "in", "HAVE_ALL", number=number) == 1
    assert sum(heard(clients, "in", "CHOKE", number=number) for number in range(3))
    assert sum(heard(clients, "in", "REJECT", number=number) for number in range(3))
    assert sum(heard(clients, "in", "ALLOWED_FAST", number=number) for number in range(3))


# Peer exchange (BEP 11)


def test_a_member_finds_another_one_through_a_libtorrent_client_that_both_know(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    seeder = fetch_by_hand(programs, piece, piece.folder)
    torrent = piece.write_torrent(tmp_path)
    # So slow that nobody could get all of it from there in time.
    hub = start_libtorrent(
        programs,
        torrent,
        tmp_path / "hub",
        member_address(seeder),
        *(*ALONE, "--up", "100000", "--down", "500000"),
    )
    wait_until(lambda: heard(hub, "in", "PIECE") > 0, "a client that has met the seeding member")
    member = fetch_by_hand(programs, piece, tmp_path / "ours", "--peer", address_of(hub))
    member.wait_for_event("complete")
    assert piece.is_at(tmp_path / "ours" / piece.score.name)
    wait_until(lambda: uploaded_bytes(seeder) > piece.score.size_bytes / 2, "a seeder that gave most of it")
    assert heard(hub, "out", "PEX_FULL") or heard(hub, "out", "PEX_DIFF")


def test_two_libtorrent_clients_find_each_other_through_a_member_that_both_know(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    hub = fetch_by_hand(programs, piece, tmp_path / "hub")
    torrent, address = piece.write_torrent(tmp_path), member_address(hub)
    # So slow that the member does not become complete and part from it before it has told.
    seeder = start_libtorrent(programs, torrent, piece.folder, address, *ALONE, "--up", "2000000")
    hub.wait_for_event("progress", members=1)
    client = start_libtorrent(programs, torrent, tmp_path / "theirs", address, *ALONE)
    ports = [each.wait_for_event("listening")["port"] for each in (seeder, client)]
    wait_until(lambda: called(seeder, ports[1]) or called(client, ports[0]), "clients that meet")
    assert heard(seeder, "in", "PEX") + heard(client, "in", "PEX")


def called(client: Program, port: int) -> bool:
    """Whether a libtorrent client has dialled that port, and has been answered."""
    return any(
        (event["way"], event["kind"], event["port"]) == ("in", "HANDSHAKE", port)
        for event in list(client.events)
        if event["event"] == "wire"
    )


# Who wants nothing (BEP 21), and the rest of the handshake (BEP 10)


def test_each_side_hears_that_the_other_wants_nothing(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    torrent = piece.write_torrent(tmp_path)
    client = start_libtorrent(programs, torrent, piece.folder, *ALONE, "--no-pex", "--up", "9000000")
    member = fetch_by_hand(programs, piece, tmp_path / "ours", "--peer", address_of(client))
    member.wait_for_stderr(", wants nothing")
    address, port = member_address(member), member.wait_for_event("listening")["port"]
    slow = start_libtorrent(
        programs, torrent, tmp_path / "slow", address, *ALONE, "--no-pex", "--down", "2000000"
    )
    wait_until(lambda: heard(slow, "in", "EXTENDED_HANDSHAKE") == 1, "a first handshake")
    assert heard(slow, "in", "EXTENDED_HANDSHAKE", f"'p': {port}, 'reqq': 500, 'v': 'Orchestra")
    assert heard(slow, "in", "EXTENDED_HANDSHAKE", "'yourip': '7f000001'")
    member.wait_for_event("complete")
    wait_until(lambda: heard(slow, "in", "EXTENDED_HANDSHAKE", "'upload_only': 1") == 1, "another handshake")
    late = start_libtorrent(programs, torrent, tmp_path / "late", address, *ALONE, "--no-pex")
    late.wait_for_event("complete")
    assert heard(late, "in", "EXTENDED_HANDSHAKE", "'upload_only': 1") == 1
