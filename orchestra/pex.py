"""Peer exchange (BEP 11): telling peers of one another, and what to believe of what they tell.

Pure; owned by the swarm. What we tell is whom we are connected to now, and
could be dialled there. What we hear is hearsay: it is bounded in time, in
number and by where it comes from, and goes to the address book as such. A
`.orch` has no way to forbid it, as BEP 27's `private` does in a .torrent.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from netutils import Address, pack_peers, unpack_peers
from orchestra import bencode
from orchestra.addressbook import AddressBook
from orchestra.addresses import can_dial, is_loopback, within_reach
from orchestra.bencode import Bencoded
from orchestra.errors import RemoteProtocolError
from orchestra.peer import Peer
from orchestra.wire import encode_extended

FIRST_S = 2.0
"""How long after it is agreed on a peer hears of others first; then there may be some to tell of."""
INTERVAL_S = 60.0
LEAST_INTERVAL_S = 45.0
"""What comes sooner after the last message is ignored; BEP 11 has a minute, clocks and queues differ."""
MAX_CONTACTS = 50
"""How many we add, and drop, in one message, and how many we take from one."""
MOST_HEARD = 200
"""A longer message is ignored: the first may be longer than others, and libtorrent adds up to 100 always."""
MAX_ABUSES = 5
"""Messages to be ignored, less those to be heeded, before a peer is closed."""
SEED, REACHABLE = 0x02, 0x10
"""Flags of a contact: it wants nothing; somebody has dialled it."""

_log = logging.getLogger("orchestra.pex")


class Contacts(NamedTuple):
    """One message: who came, with flags, and who went."""

    added: dict[Address, int]
    dropped: list[Address]


def encode_contacts(contacts: Contacts) -> bytes:
    """The payload of a `ut_pex` message. Raises ValueError for a host that is no literal."""
    fields: dict[bytes, bytes] = {}
    for v6, suffix in ((False, b""), (True, b"6")):
        added = [address for address in contacts.added if (":" in address[0]) is v6]
        dropped = [address for address in contacts.dropped if (":" in address[0]) is v6]
        if added:
            fields[b"added" + suffix] = pack_peers(added)[v6]
            fields[b"added" + suffix + b".f"] = bytes(contacts.added[address] for address in added)
        if dropped:
            fields[b"dropped" + suffix] = pack_peers(dropped)[v6]
    return bencode.encode(fields)


def decode_contacts(payload: bytes) -> Contacts:
    """Read such a payload; flags may be missing. Raises RemoteProtocolError when it is none."""
    try:
        fields = bencode.decode(payload)
        if isinstance(fields, dict):
            return _contacts(fields)
    except ValueError:
        pass
    raise RemoteProtocolError("peer exchange that is none")


def _contacts(fields: dict[bytes, Bencoded]) -> Contacts:
    added: dict[Address, int] = {}
    dropped: list[Address] = []
    for family, suffix in ((socket.AF_INET, b""), (socket.AF_INET6, b"6")):
        flags = _bytes(fields.get(b"added" + suffix + b".f"))
        for number, address in enumerate(unpack_peers(_bytes(fields.get(b"added" + suffix)), family)):
            added[address] = flags[number] if number < len(flags) else 0
        dropped += unpack_peers(_bytes(fields.get(b"dropped" + suffix)), family)
    return Contacts(added, dropped)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


class _Correspondence:
    """What one peer and we have told each other."""

    def __init__(self, pex_id: int, due_s: float) -> None:
        self.pex_id = pex_id
        """What it calls `ut_pex`; 0: it does not want to hear of others."""
        self.due_s = due_s
        self.told: list[Address] = []
        self.heard_at_s: float | None = None
        self.abuses = 0


class Exchange:
    """Tells `peers`, the swarm's own, of one another; puts what they tell into `book`."""

    def __init__(self, peers: Mapping[int, Peer], book: AddressBook) -> None:
        self._peers = peers
        self._book = book
        self._letters: dict[int, _Correspondence] = {}

    def agreed(self, peer: Peer, pex_id: int, now_s: float) -> None:
        """`peer` says what it calls the message; 0: no more."""
        letters = self._letters.setdefault(peer.key, _Correspondence(pex_id, now_s + FIRST_S))
        letters.pex_id = pex_id

    def left(self, key: int) -> None:
        """Peer `key` is gone. What it told of others stays: they may be there all the same."""
        self._letters.pop(key, None)

    # Telling

    def tick(self, now_s: float) -> None:
        """Tell those whose time has come who has come and gone since; nothing when nobody has."""
        due = [
            (self._peers[key], letters)
            for key, letters in self._letters.items()
            if letters.pex_id and now_s >= letters.due_s and not self._peers[key].closing
        ]
        if not due:
            return
        present = self._present()
        for peer, letters in due:
            news = self._news_for(peer, letters, present)
            if news.added or news.dropped:
                if news.dropped:
                    gone = set(news.dropped)
                    letters.told = [address for address in letters.told if address not in gone]
                letters.told += news.added
                letters.due_s = now_s + INTERVAL_S
                peer.say(encode_extended(letters.pex_id, encode_contacts(news)), now_s)

    def _present(self) -> dict[Address, int]:
        """Who is connected and may be dialled, with flags."""
        present = {}
        for peer in self._peers.values():
            contact = peer.contact
            if contact is not None and not peer.closing and can_dial(contact):
                seed = SEED if peer.have.complete or peer.upload_only else 0
                present[contact] = seed | (REACHABLE if peer.dialled else 0)
        return present

    @staticmethod
    def _news_for(peer: Peer, letters: _Correspondence, present: dict[Address, int]) -> Contacts:
        told = set(letters.told)
        added = [
            address
            for address in present
            if address not in told and address != peer.contact and within_reach(peer.host, address)
        ]
        dropped = [address for address in letters.told if address not in present]
        flags = {address: present[address] for address in added[:MAX_CONTACTS]}
        return Contacts(flags, dropped[:MAX_CONTACTS])

    # Hearing

    def heard(self, peer: Peer, payload: bytes, now_s: float, *, complete: bool) -> None:
        """`peer` tells of others. `complete`: we want nothing, and seeds are of no use to us.

        Raises RemoteProtocolError when it goes on telling too much, too often, or nonsense.
        """
        letters = self._letters.setdefault(peer.key, _Correspondence(0, now_s))
        if letters.heard_at_s is not None and now_s - letters.heard_at_s < LEAST_INTERVAL_S:
            _ignored(letters, "too soon")
            return
        try:
            said = decode_contacts(payload)
        except RemoteProtocolError:
            _ignored(letters, "broken")
            return
        if max(len(said.added), len(said.dropped)) > MOST_HEARD:
            _ignored(letters, "too long")
            return
        letters.heard_at_s = now_s
        letters.abuses = max(0, letters.abuses - 1)
        # Hosts of this machine share one address, so there a peer is known by its connection.
        source = f"{peer.host} {peer.key}" if is_loopback(peer.host) else peer.host
        wanted = [address for address, flags in said.added.items() if not (complete and flags & SEED)]
        believed = list(_believable(peer.host, wanted))[:MAX_CONTACTS]
        self._book.forget(said.dropped, source)
        self._book.hear_of(believed, now_s, source)
        _log.info("%s tells of %d others, and that %d left", peer.host, len(believed), len(said.dropped))


def _believable(host: str, addresses: Iterable[Address]) -> Iterable[Address]:
    """Those that somebody at `host` may name: one port a host, so that nobody is rung up by many names."""
    named = set()
    for address in addresses:
        if can_dial(address) and within_reach(host, address) and address[0] not in named:
            if not is_loopback(address[0]):
                named.add(address[0])
            yield address


def _ignored(letters: _Correspondence, why: str) -> None:
    letters.abuses += 1
    if letters.abuses > MAX_ABUSES:
        raise RemoteProtocolError(f"peer exchange, again and again {why}")
