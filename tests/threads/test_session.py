"""All threads of a member together, on real sockets and files, without the program around them."""

from __future__ import annotations

import contextlib
import errno
import queue
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import netutils
from netutils import Address
from orchestra.connection import Connection, Identity
from orchestra.errors import BusyError, NetworkError, StorageError
from orchestra.messages import Complete, Ended, LinkClosed, Listening, Stop
from orchestra.orchestrator import Orchestrator
from orchestra.receiver import FEW_CONNECTIONS
from orchestra.session import PEER_ID_PREFIX, SIGNAL_LOOK_S, Connector, Session, new_peer_id
from orchestra.storage import Storage
from orchestra.worker import Worker
from tests.compositions import Composition, compose
from tests.fakeconductor import FakeConductor, http_reply, replying
from tests.fakes import INFO_HASH, OUR_ID, PATIENCE_S, ScriptedPeer, loopback_pair

SIZE_BYTES, PART_BYTES = 3_000_000, 65536


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Composition:
    return compose(tmp_path_factory.mktemp("source"), SIZE_BYTES, PART_BYTES)


class WatchedStorage(Storage):
    """Notes which of the threads around it still run whenever it is closed while open."""

    def __init__(self, folder: Path, name: str, size_bytes: int) -> None:
        super().__init__(folder, name, size_bytes)
        self.threads: list[Worker] = []
        self.closed_under: list[list[str]] = []

    def close(self) -> None:
        if self.fd >= 0:
            self.closed_under.append([thread.name for thread in self.threads if thread.is_alive()])
        super().close()


class Member:
    """A session, and what main would read from it."""

    def __init__(self, composition: Composition, folder: Path, **options: Any) -> None:
        self.storage = WatchedStorage(folder, composition.score.name, composition.score.size_bytes)
        self.session = Session(composition.score, self.storage, port=options.pop("port", 0), **options)
        self.storage.threads = self.session._workers
        self.session.start()
        self._ended: Ended | None = None

    def wait_for(self, kind: type[Any]) -> Any:
        """The next message of this kind. What comes before it is dropped."""
        while not isinstance(message := self.session.next_message(), kind):
            assert not isinstance(message, Ended), message
        return message

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.wait_for(Listening).port

    def end(self, reason: str = "") -> Ended:
        """Stop it if asked to, and wait until it has ended."""
        if self._ended is None:
            if reason:
                self.session.quit(reason)
            self._ended = self.wait_for(Ended)
            deadline = time.monotonic() + PATIENCE_S
            self.session.join()
            while self.session.stuck and time.monotonic() < deadline:
                self.session.join()  # on a busy machine half a second may be too short
            assert self.session.stuck == []
        assert self._ended is not None
        return self._ended


@pytest.fixture
def members() -> Iterator[list[Member]]:
    """Those started in the test: they are ended when it is over, however it went."""
    started: list[Member] = []
    yield started
    for member in started:
        member.end("test over")


def test_a_member_fetches_from_another_one_and_both_end_when_they_are_told_to(
    composition: Composition, tmp_path: Path, members: list[Member]
) -> None:
    seeder = Member(composition, composition.folder)
    members.append(seeder)
    leecher = Member(composition, tmp_path, members=(seeder.address,))
    members.append(leecher)
    complete = leecher.wait_for(Complete)
    assert complete.path == str(tmp_path / composition.score.name)
    assert complete.downloaded_bytes == SIZE_BYTES
    assert composition.is_at(Path(complete.path))
    assert leecher.end("q") == Ended("q", complete=True, error=None)
    assert seeder.end("SIGTERM") == Ended("SIGTERM", complete=True, error=None)


def test_a_chain_of_members_passes_it_on(
    composition: Composition, tmp_path: Path, members: list[Member]
) -> None:
    members.append(Member(composition, composition.folder))
    for number in range(3):
        members.append(Member(composition, tmp_path / str(number), members=(members[-1].address,)))
    members[-1].wait_for(Complete)
    assert composition.is_at(tmp_path / "2" / composition.score.name)


def test_no_seed_ends_by_itself(composition: Composition, tmp_path: Path, members: list[Member]) -> None:
    members.append(Member(composition, composition.folder))
    leecher = Member(composition, tmp_path, members=(members[0].address,), seed=False)
    members.append(leecher)
    assert leecher.end() == Ended("complete", complete=True, error=None)


def test_an_end_does_not_wait_for_a_peer_that_never_answers_the_call(
    composition: Composition, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    dialling = threading.Event()

    def hang(_address: Address, _s: float, *, cancel: netutils.Cancel, allowed: object = None) -> Any:
        dialling.set()
        select.select([cancel], [], [], 2 * PATIENCE_S)
        raise ConnectionAbortedError("given up")

    monkeypatch.setattr(netutils, "dial", hang)
    member = Member(composition, composition.folder, members=(("127.0.0.1", 1),), seed=True)
    members.append(member)
    assert dialling.wait(PATIENCE_S)
    assert member.end("q").complete


def test_no_seed_does_not_wait_for_such_a_peer_either(
    composition: Composition, tmp_path: Path, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    members.append(Member(composition, composition.folder))
    seeder = members[0].address
    real, dialling = netutils.dial, threading.Event()

    def hang(address: Address, timeout_s: float, *, cancel: netutils.Cancel, allowed: object = None) -> Any:
        if address == seeder:
            assert dialling.wait(PATIENCE_S)
            return real(address, timeout_s, cancel=cancel)
        dialling.set()
        select.select([cancel], [], [], 2 * PATIENCE_S)
        raise ConnectionAbortedError("given up")

    monkeypatch.setattr(netutils, "dial", hang)
    leecher = Member(composition, tmp_path, members=(("127.0.0.1", 1), seeder), seed=False)
    members.append(leecher)
    assert leecher.end() == Ended("complete", complete=True, error=None)


def test_the_file_is_closed_only_when_nobody_reads_from_it_any_more(
    composition: Composition, tmp_path: Path, members: list[Member]
) -> None:
    members.append(Member(composition, composition.folder))
    members.append(Member(composition, tmp_path, members=(members[0].address,)))
    members[1].wait_for(Complete)
    for member in members:
        member.end("q")
        assert member.storage.closed_under == [[]]


def test_a_file_that_another_member_writes_is_busy(
    composition: Composition, tmp_path: Path, members: list[Member]
) -> None:
    members.append(Member(composition, tmp_path))
    members[0].wait_for(Listening)
    second = Member(composition, tmp_path)
    members.append(second)
    assert isinstance(second.end().error, BusyError)


def test_a_different_file_of_that_name_is_a_storage_error(
    composition: Composition, tmp_path: Path, members: list[Member]
) -> None:
    (tmp_path / composition.score.name).write_bytes(b"mine")
    members.append(Member(composition, tmp_path))
    assert isinstance(members[0].end().error, StorageError)


def test_a_port_that_is_taken_is_a_network_error(
    composition: Composition, tmp_path: Path, members: list[Member]
) -> None:
    taken = netutils.listen(None, 0)
    members.append(Member(composition, tmp_path, port=taken[0].getsockname()[1]))
    assert isinstance(members[0].end().error, NetworkError)
    for listener in taken:
        listener.close()


def test_without_a_source_it_gives_up_in_time(
    composition: Composition, tmp_path: Path, members: list[Member]
) -> None:
    members.append(Member(composition, tmp_path, timeout_s=0.2))
    assert isinstance(members[0].end().error, NetworkError)


def test_a_bug_in_the_orchestrator_ends_the_member_and_is_not_hidden(
    composition: Composition, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Orchestrator, "handle", crash)
    member = Member(composition, composition.folder)
    ended = member.wait_for(Ended)
    assert isinstance(ended.error, ZeroDivisionError)
    session = member.session
    session._connector.stop_dialling()
    for inbox in (session._listener, session._announcer, session._reader.inbox, session._writer.inbox):
        inbox.put(Stop())
    member.session.join()
    with contextlib.suppress(queue.Full):
        while True:
            session._orders.put(Stop(), 0)
    session.quit("q")  # nobody is there to take it: it must not wait


class Sleepless:
    """An inbox in which nothing comes for a while, and then something does."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.timeouts: list[float | None] = []

    def get(self, timeout: float | None = None) -> Any:
        """Empty the first time."""
        self.timeouts.append(timeout)
        if len(self.timeouts) == 1:
            raise queue.Empty
        return self.message


def test_main_never_waits_so_long_that_a_signal_goes_unseen(
    composition: Composition, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    members.append(Member(composition, composition.folder))
    inbox = Sleepless(Listening("somewhere", 1))
    with monkeypatch.context() as patched:
        patched.setattr(members[0].session, "inbox", inbox)
        assert members[0].session.next_message() == inbox.message
    # Woken without a message it waits again, and never without an end.
    assert inbox.timeouts == [SIGNAL_LOOK_S, SIGNAL_LOOK_S]


def test_a_peer_that_speaks_nonsense_does_not_disturb_anybody(
    composition: Composition, tmp_path: Path, members: list[Member]
) -> None:
    members.append(Member(composition, composition.folder))
    seeder = members[0].address
    with ScriptedPeer(netutils.dial(seeder, PATIENCE_S)) as nonsense:
        nonsense.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(100))
        nonsense.wait_for_end()
    with ScriptedPeer(netutils.dial(seeder, PATIENCE_S), parts=composition.score.parts) as nonsense:
        nonsense.shake(composition.score.info_hash)
        nonsense.send(b"\xff\xff\xff\xff")
        nonsense.wait_for_end()
    members.append(Member(composition, tmp_path, members=(seeder,)))
    members[1].wait_for(Complete)


def test_it_announces_itself_to_the_conductor_and_says_goodbye(
    composition: Composition, members: list[Member]
) -> None:
    [listener] = netutils.listen("127.0.0.1", 0)
    somebody, _ = netutils.pack_peers([netutils.address_of(listener.getsockname())])
    reply = replying(http_reply(b"d8:intervali120e5:peers6:" + somebody + b"e"))
    with listener, FakeConductor(reply) as conductor:
        members.append(Member(composition.conducted_by(conductor.address), composition.folder))
        assert b"event=started" in conductor.requests.get(timeout=PATIENCE_S)
        listener.settimeout(PATIENCE_S)
        listener.accept()[0].close()  # it has read the answer, and calls whom it names
        members[0].end("q")
        assert b"event=stopped" in conductor.requests.get(timeout=PATIENCE_S)


def test_the_connector_knows_its_running_connections_and_closes_those_it_refuses() -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    connector = Connector(Identity(INFO_HASH, OUR_ID, 8, 16384), inbox.put)
    ours, theirs = loopback_pair()
    connection = connector.adopt(5, ours, ("127.0.0.1", 1))
    assert connector.running == [connection]
    connection.close("over")
    assert inbox.get(timeout=PATIENCE_S) == LinkClosed(5, "over")
    connection.join(PATIENCE_S)
    assert connector.running == []
    theirs.close()
    ours, theirs = loopback_pair()
    connector.refuse(ours)
    with ScriptedPeer(theirs) as caller:
        assert caller.wait_for_end() == 0
    connector.close()


def test_from_the_fifth_on_connections_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    monkeypatch.setattr(Connection, "take_turns", lambda connection: turns.append(connection.key))
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    connector = Connector(Identity(INFO_HASH, OUR_ID, 8, 16384), inbox.put)
    pairs = [loopback_pair() for _ in range(FEW_CONNECTIONS + 1)]
    made = []
    for key, (ours, _) in enumerate(pairs):
        assert turns == []
        made.append(connector.adopt(key, ours, ("127.0.0.1", 1)))
    assert turns == list(range(FEW_CONNECTIONS + 1))
    for connection in made:
        connection.close("over")
        connection.join(PATIENCE_S)
    for _, theirs in pairs:
        theirs.close()
    connector.close()


def test_every_session_has_a_peer_id_of_its_own() -> None:
    ids = {new_peer_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(peer_id) == 20 and peer_id.startswith(PEER_ID_PREFIX) for peer_id in ids)
    assert all(peer_id.isascii() and peer_id.decode().isprintable() for peer_id in ids)


@pytest.mark.fault("X1")
@pytest.mark.parametrize("spare", [0, 1])
def test_no_socket_to_spare_at_the_start_is_a_network_error(
    composition: Composition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    made: list[netutils.Cancel] = []
    Cancel = netutils.Cancel  # noqa: N806 - a class

    def scarce() -> netutils.Cancel:
        if len(made) == spare:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(Cancel())
        return made[-1]

    monkeypatch.setattr(netutils, "Cancel", scarce)
    storage = Storage(tmp_path, composition.score.name, composition.score.size_bytes)
    with pytest.raises(NetworkError, match="cannot open a socket: Too many open files"):
        Session(composition.score, storage)
    assert all(cancel.fileno() < 0 for cancel in made), "a socket was left open"
