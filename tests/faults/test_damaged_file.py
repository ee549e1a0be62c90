"""NAME changes, or cannot be read, while it is shared: nothing wrong is sent, the rest is still shared."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import netutils
from netutils import Address
from orchestra import ledger as ledger_module
from orchestra.errors import StorageError
from orchestra.messages import Complete, Ended, Listening, Notice, Progress
from orchestra.session import Session
from orchestra.storage import Storage
from orchestra.wire import (
    BLOCK_BYTES,
    Blocks,
    Extended,
    HaveAll,
    MessageId,
    Rejects,
    Unchoke,
    encode_requests,
    encode_state,
)
from tests import figures
from tests.compositions import Composition, compose
from tests.fakes import PATIENCE_S, ScriptedPeer

PART_BYTES, PARTS = 65536, 24
DEADLINE_S = 60.0


@pytest.fixture
def composition(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", PARTS * PART_BYTES - 77, PART_BYTES)


class Member:
    """A session, and what main would read from it."""

    def __init__(self, composition: Composition, folder: Path, **options: Any) -> None:
        score = composition.score
        self.storage = Storage(folder, score.name, score.size_bytes)
        self.session = Session(score, self.storage, port=0, **options)
        self.session.start()
        self._ended: Ended | None = None

    def wait_for(self, kind: type[Any], **fields: Any) -> Any:
        """The next message of this kind, with these fields. What comes before it is dropped."""
        while True:
            message = self.session.next_message()
            if isinstance(message, Ended):
                self._ended = message
            if isinstance(message, kind) and all(
                getattr(message, name) == value for name, value in fields.items()
            ):
                return message
            assert not isinstance(message, Ended), message

    def wait_for_notice(self, text: str) -> None:
        """Until the user is told this. That there is no conductor is told as well."""
        while text not in self.wait_for(Notice).text:
            pass

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.wait_for(Listening).port

    def end(self) -> Ended:
        if self._ended is None:
            self.session.quit("q")
            self.wait_for(Ended)
        assert self._ended is not None
        deadline_s = time.monotonic() + PATIENCE_S
        self.session.join()
        while self.session.stuck and time.monotonic() < deadline_s:
            self.session.join()
        return self._ended


Start = Callable[..., Member]


@pytest.fixture
def start(composition: Composition) -> Iterator[Start]:
    """Start members of the composition; they are stopped at the end."""
    members: list[Member] = []

    def begin(folder: Path, **options: Any) -> Member:
        members.append(Member(composition, folder, **options))
        return members[-1]

    yield begin
    for member in members:
        member.end()


class Leech(ScriptedPeer):
    """Asks for what it is told to, and compares every byte that it gets."""

    def __init__(self, composition: Composition, data: bytes, address: Address) -> None:
        super().__init__(netutils.dial(address, PATIENCE_S), parts=PARTS, part_size_bytes=PART_BYTES)
        self._data = data
        self.bad_bytes = 0
        self.shake(composition.score.info_hash)
        self.next(HaveAll)
        self.send(encode_state(MessageId.INTERESTED))
        self.next(Extended)
        self.next(Unchoke)

    def __enter__(self) -> Leech:
        return self

    def ask(self, index: int) -> bool:
        """Whether the first block of a part is sent, or rejected."""
        self.send(encode_requests([(index, 0, BLOCK_BYTES)]))
        message = self.next(object)
        while isinstance(message, Extended):
            message = self.next(object)
        if isinstance(message, Rejects):
            assert list(message.blocks) == [(index, 0, BLOCK_BYTES)]
            return False
        assert isinstance(message, Blocks), message
        sent = b"".join(message.views)
        right = self._data[message.offset : message.offset + message.length]
        assert message.offset == index * PART_BYTES
        self.bad_bytes += sum(one != other for one, other in zip(sent, right, strict=True))
        return True


def flip(path: Path, index: int) -> None:
    with path.open("r+b") as file:
        file.seek(index * PART_BYTES + 5)
        byte = file.read(1)[0]
        file.seek(index * PART_BYTES + 5)
        file.write(bytes([byte ^ 0x40]))


def in_place(path: Path) -> None:
    flip(path, 3)
    flip(path, 7)


def secretly(path: Path) -> None:
    """With the time of change put back: the system still notes that something happened."""
    status = path.stat()
    in_place(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, 3 * PART_BYTES + 100)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


def removed(path: Path) -> None:
    path.unlink()


def touched(path: Path) -> None:
    os.utime(path)


@pytest.mark.fault("D7")
@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (in_place, {3, 7}),
        (secretly, {3, 7}),
        (cut, set(range(3, PARTS))),
        (grown, set()),
        # The open file is another one than that which has its name now: it is as it was.
        (replaced, set()),
        (removed, set()),
        (touched, set()),
    ],
)
def test_a_file_that_changes_while_it_is_shared(
    start: Start, composition: Composition, change: Callable[[Path], None], gone: set[int]
) -> None:
    data = composition.path.read_bytes()
    seeder = start(composition.folder)
    seeder.wait_for(Complete)
    with Leech(composition, data, seeder.address) as leech:
        assert leech.ask(3)
        assert leech.ask(5)
        change(composition.path)
        served = {index for index in range(PARTS) if leech.ask(index)}
        assert served == set(range(PARTS)) - gone
        # Once more: what is withdrawn stays withdrawn, and the connection is kept.
        assert {index for index in range(PARTS) if leech.ask(index)} == served
        assert leech.bad_bytes == 0
        seeder.wait_for_notice("was changed")
        if gone:
            seeder.wait_for_notice("are not shared any more")
    end = seeder.end()
    assert isinstance(end.error, StorageError) == bool(gone)
    figures.note("D7", f"bad bytes served, {change.__name__}", leech.bad_bytes)


@pytest.mark.fault("D7")
def test_a_file_of_which_nothing_is_left_ends_the_member(start: Start, composition: Composition) -> None:
    data = composition.path.read_bytes()
    seeder = start(composition.folder)
    with Leech(composition, data, seeder.address) as leech, contextlib.suppress(AssertionError, OSError):
        os.truncate(composition.path, 0)
        for index in range(PARTS):
            assert not leech.ask(index)
    end = seeder.wait_for(Ended)
    assert isinstance(end.error, StorageError)
    assert f"{PARTS} of its {PARTS} parts are not right" in str(end.error)


@pytest.mark.fault("D4")
def test_a_part_that_cannot_be_read_is_withdrawn_and_the_connection_kept(
    start: Start, composition: Composition, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = composition.path.read_bytes()
    seeder = start(composition.folder)
    seeder.wait_for(Complete)
    read = Storage.read

    def broken(storage: Storage, views: Sequence[memoryview], offset: int) -> None:
        if offset <= 3 * PART_BYTES + 20_000 < offset + sum(map(len, views)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        read(storage, views, offset)

    with Leech(composition, data, seeder.address) as leech:
        assert leech.ask(3)
        monkeypatch.setattr(Storage, "read", broken)
        leech.send(encode_requests([(3, BLOCK_BYTES, BLOCK_BYTES)]))
        message = leech.next(object)
        while not isinstance(message, Rejects):
            assert isinstance(message, Extended)
            message = leech.next(object)
        assert not leech.ask(3)
        assert all(leech.ask(index) for index in range(PARTS) if index != 3)
    seeder.wait_for_notice("1 of its 24 parts")


@pytest.mark.fault("D4")
@pytest.mark.fault("D7")
def test_a_member_gets_all_but_the_damaged_parts_and_those_from_who_has_them(
    start: Start, composition: Composition, tmp_path: Path
) -> None:
    shutil.copytree(composition.folder, tmp_path / "intact")
    seeder = start(composition.folder)
    seeder_address = seeder.address
    in_place(composition.path)
    flip(composition.path, 0)
    began_s = time.monotonic()
    leecher = start(tmp_path / "ours", members=(seeder_address,))
    leecher_address = leecher.address
    leecher.wait_for(Progress, parts_done=PARTS - 3)
    figures.note("D4", "time to all but the damaged parts, s", f"{time.monotonic() - began_s:.1f}")
    good = start(tmp_path / "intact", members=(leecher_address,))
    good.wait_for(Complete)
    leecher.wait_for(Complete)
    assert composition.is_at(tmp_path / "ours" / "piece.bin")
    figures.note("D4", "time to the whole, s", f"{time.monotonic() - began_s:.1f}")


@pytest.mark.fault("D6")
@pytest.mark.fault("D7")
def test_a_part_of_a_download_that_went_bad_is_fetched_again(
    start: Start, composition: Composition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resume file is believed, and wrong: nothing wrong is installed, and nobody is to blame."""
    monkeypatch.setattr(ledger_module, "LEAST_BYTES", 0)
    ours = tmp_path / "ours"
    seeder = start(composition.folder)
    address = seeder.address
    first = start(ours, members=(address,))
    first.wait_for(Progress, parts_done=PARTS)
    first.end()
    if (ours / "piece.bin").exists():
        (ours / "piece.bin").rename(ours / "piece.bin.part")
    part = ours / "piece.bin.part"
    held = {index for index in range(PARTS) if right_at(part, composition, index)}
    status = part.stat()
    for index in (2, 4):
        flip(part, index)
    os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
    monkeypatch.setattr(ledger_module, "sample_is_right", lambda *_: True)
    again = start(ours, members=(address,))
    complete = again.wait_for(Complete)
    assert composition.is_at(ours / "piece.bin")
    assert complete.downloaded_bytes <= (PARTS - len(held - {2, 4})) * PART_BYTES


def right_at(path: Path, composition: Composition, index: int) -> bool:
    length = composition.score.part_length(index)
    begin = index * PART_BYTES
    with path.open("rb") as file, composition.path.open("rb") as original:
        file.seek(begin)
        original.seek(begin)
        return file.read(length) == original.read(length)
