"""Answering requests: each peer's queue, whose turn it is, and how much is read and sent at a time.

Pure; owned by the orchestrator. Requests wait here as spans, without data. The
uplink is not shared by all who wait: peers take turns, a part each where parts
are small, so that each part is whole somewhere, and passed on, as soon as it
can be. What we have given out least often goes first, since whoever has it can
give it to the others.

What a turn reads is a fraction of a second of the peer's own speed. Turns
overlap by as much as keeps a fast uplink busy: a slow one gets one or two
peers at a time, a fast one all of them. A peer that takes nothing in holds up
nobody but itself.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import islice

from orchestra.bitfield import Bitfield
from orchestra.errors import RemoteProtocolError
from orchestra.geometry import Geometry
from orchestra.messages import Inbox, Read
from orchestra.peer import Peer
from orchestra.rate import Rate
from orchestra.riders import STUCK_S, Riders
from orchestra.shipment import MAX_BLOCKS
from orchestra.wire import BlockSpan, encode_rejects

MAX_ASKED = 500
"""Requests of one peer that may wait; we say so in the extension handshake (`reqq`)."""
MAX_IN_VAIN = 2000
"""Requests that change nothing (refused, made twice, taken back) before a peer is closed."""
EXCUSED_IN_VAIN = 100
"""So many of them are forgotten for each batch that a peer has taken in: a few are no harm."""
MAX_BATCH_BLOCKS = MAX_BLOCKS
LEAST_BATCH_BLOCKS = 1
QUICK_S = 0.05
SLOW_S = 0.25
READS_AT_ONCE = 2
UNDER_WAY_S = 0.2
"""How much may be on its way to all peers together, in seconds of what the uplink has carried of late."""
LEAST_UNDER_WAY_BYTES = 128 * 1024
MOST_UNDER_WAY_BYTES = 16 << 20
"""However fast the uplink: all of it is in memory."""
HOPELESS_S = 60.0
"""One that has not taken a batch for so long is closed."""
MAX_STUCK_READS = 4
"""Batches, up to 4 MiB of memory each, that may lie with who takes nothing in, before some are closed."""
GRACE_S = 2.0
"""Nobody is closed for that who has taken something more recently."""
PATIENCE_S = 2.0
"""Who has waited so long is next, whatever it asks for."""
EIGHTHS = 8
"""Who has fewer eighths of all parts than others is behind."""


class Uploads:
    """Queues of requests by peer; hands Read messages to the reader."""

    def __init__(self, geometry: Geometry, have: Bitfield, reader: Inbox, now_s: float) -> None:
        self._geometry = geometry
        self._have = have
        self._reader = reader
        self._rate = Rate(now_s)
        self._waiting: dict[int, Peer] = {}
        """Peers with requests, by key, who has waited longest first."""
        self._served: dict[int, Peer] = {}
        """Peers to whom something is on its way."""
        self._given_times = array("I", bytes(4 * geometry.parts))
        """How often each part was given to anybody."""
        self._riders = Riders(geometry, have)
        self._lost: set[int] = set()
        """Parts that we had: peers may go on asking for them, since they cannot all be told."""

    @property
    def total_bytes(self) -> int:
        """What has left, blocks alone."""
        return self._rate.total_bytes

    def asked(self, peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
        """`peer` requests blocks. Raises RemoteProtocolError for one that cannot be.

        A choked peer's requests are dropped (BEP 3): it may not have heard yet.
        What exceeds MAX_ASKED is dropped as well, and a block that waits already
        waits once. Who speaks BEP 6 gets what it was granted even then, and hears
        of each request that is dropped. Who asks in vain on and on is closed.
        """
        unheld = self._geometry.first_unheld(blocks)
        if unheld is not None:
            index, begin, length = unheld
            raise RemoteProtocolError(f"a request for {length} bytes at {begin} of part {index}")
        for index in () if self._have.complete else dict.fromkeys([block[0] for block in blocks]):
            if index not in self._have and index not in self._lost:
                raise RemoteProtocolError(f"a request for part {index}, which we do not have")
        admitted = blocks
        if self._lost:
            admitted = [block for block in blocks if block[0] in self._have]
        if peer.choked:
            admitted = [] if peer.fast is None else peer.fast.admit(admitted, peer.have.count)
        waiting = len(peer.asked)
        peer.asked.update(dict.fromkeys(admitted[: MAX_ASKED - waiting]))
        peer.requests += len(blocks)
        in_vain = len(blocks) - (len(peer.asked) - waiting)
        if in_vain:
            _count_in_vain(peer, in_vain)
            _reject(peer, blocks, now_s)
        self.serve(peer, now_s)

    def cancelled(self, peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
        """`peer` no longer wants these; what the reader has been given is sent all the same.

        Raises RemoteProtocolError for one who takes back what it never asked for.
        """
        peer.cancels += len(blocks)
        if peer.cancels > peer.requests + MAX_ASKED:
            raise RemoteProtocolError("cancels of what was not asked for")
        dropped = [block for block in blocks if peer.asked.pop(block, False) is None]
        _count_in_vain(peer, len(dropped))
        if peer.fast is not None and dropped:
            peer.say(encode_rejects(dropped), now_s)

    def lost(self, index: int, peers: Iterable[Peer], now_s: float) -> None:
        """We do not have part `index` any more: who waits for it waits in vain, and hears so where it can."""
        self._lost.add(index)
        for peer in peers:
            self._drop(peer, [block for block in peer.asked if block[0] == index], now_s)

    def unread(self, peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
        """A Read brought nothing: what of it we still have waits for another one."""
        peer.reading -= 1
        peer.reading_bytes -= sum([length for _, _, length in blocks])
        if not peer.reading:
            self._served.pop(peer.key, None)
        peer.asked.update(dict.fromkeys(blocks))
        self._drop(peer, [block for block in blocks if block[0] not in self._have], now_s)
        self.serve(peer, now_s)

    @staticmethod
    def _drop(peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
        """These requests, which were admitted, cannot be answered any more."""
        for block in blocks:
            del peer.asked[block]
        if blocks and peer.fast is not None and not peer.closing:
            peer.say(encode_rejects(blocks), now_s)

    def sent(self, peer: Peer, payload_bytes: int, now_s: float) -> None:
        """A batch has left: adapt the size of the next ones to how long this one took, and go on."""
        peer.reading -= 1
        peer.reading_bytes -= payload_bytes
        peer.up.add(payload_bytes, now_s)
        self._rate.add(payload_bytes, now_s)
        peer.in_vain = max(0, peer.in_vain - EXCUSED_IN_VAIN)
        took_s = now_s - peer.batch_sent_at_s
        peer.batch_sent_at_s = now_s
        if took_s < QUICK_S:
            peer.batch_blocks = min(MAX_BATCH_BLOCKS, 2 * peer.batch_blocks)
        elif took_s > SLOW_S:
            peer.batch_blocks = max(LEAST_BATCH_BLOCKS, peer.batch_blocks // 2)
        if not peer.reading:
            self._served.pop(peer.key, None)
        self.serve(peer, now_s)

    def close_stuck(self, now_s: float) -> None:
        """Close who takes nothing in; soon where much memory lies there, the longest stuck first."""
        stuck = [peer for peer in self._served.values() if now_s - peer.batch_sent_at_s >= GRACE_S]
        reads = sum([peer.reading for peer in stuck])
        for peer in sorted(stuck, key=lambda peer: peer.batch_sent_at_s):
            if reads <= MAX_STUCK_READS and now_s - peer.batch_sent_at_s < HOPELESS_S:
                return
            reads -= peer.reading
            peer.close("takes nothing in")

    def serve(self, peer: Peer, now_s: float) -> None:
        """Let `peer` wait for its turn, if it wants something."""
        if peer.asked and peer.reading < READS_AT_ONCE and not peer.closing and peer.key not in self._waiting:
            self._waiting[peer.key] = peer
            peer.waiting_since_s = now_s
        self.go_on(now_s)

    def left(self, peer: Peer, now_s: float) -> None:
        """`peer` is gone: what is on its way to it does not count any more."""
        self._waiting.pop(peer.key, None)
        self._served.pop(peer.key, None)
        self.go_on(now_s)

    def go_on(self, now_s: float) -> None:
        """Give the reader what is next, as far as the uplink takes it."""
        while self._waiting and self._has_room(now_s):
            key = self._next(now_s)
            if key is None:
                return
            peer = self._waiting.pop(key)
            while peer.asked and not peer.closing and peer.reading < READS_AT_ONCE:
                self._give(peer, now_s)
                if not self._has_room(now_s):
                    break
            if peer.asked and not peer.closing and peer.reading < READS_AT_ONCE:
                self._waiting[peer.key] = peer
                peer.waiting_since_s = now_s

    def _has_room(self, now_s: float) -> bool:
        under_way_bytes = sum(
            [peer.reading_bytes for peer in self._served.values() if now_s - peer.batch_sent_at_s < STUCK_S]
        )
        if under_way_bytes < LEAST_UNDER_WAY_BYTES:
            return True
        return under_way_bytes < min(UNDER_WAY_S * self._rate.bytes_s(now_s), MOST_UNDER_WAY_BYTES)

    def _next(self, now_s: float) -> int | None:
        """The key of the peer whose turn it is: half through a part, or asking for what we gave least.

        None when nobody is to have one now.
        """
        waiting = self._riders.may_have_a_turn(self._waiting, self._served, now_s)
        if len(waiting) < 2:
            return waiting[0].key if waiting else None
        first = waiting[0]
        if now_s - first.waiting_since_s >= PATIENCE_S:
            return first.key
        best, least = first.key, (1 << 32, 0)
        for peer in waiting:
            index = next(iter(peer.asked))[0] if peer.asked else -1
            times = -1 if index in (-1, peer.part_under_way) else self._given_times[index]
            rank = (times, EIGHTHS * peer.have.count // self._geometry.parts)
            if rank < least:
                best, least = peer.key, rank
        return best

    def _give(self, peer: Peer, now_s: float) -> None:
        """The next batch, up to the end of a part if that is not much more or less."""
        wanted = peer.batch_blocks
        batch = list(islice(peer.asked, min(MAX_BATCH_BLOCKS, 2 * wanted)))
        for place in range(wanted, len(batch)):
            if batch[place][0] != batch[place - 1][0]:
                del batch[place:]
                break
        if len(batch) == len(peer.asked):
            # A new one: what held many once keeps its size, and there may be many peers.
            peer.asked = {}
        else:
            for block in batch:
                del peer.asked[block]
        for begun in [index for index, begin, _ in batch if begin == 0]:
            self._given_times[begun] += 1
        peer.part_under_way = batch[-1][0]
        if not peer.reading:
            peer.batch_sent_at_s = now_s
            self._served[peer.key] = peer
        length_bytes = sum([length for _, _, length in batch])
        self._riders.given(peer, length_bytes, now_s)
        peer.reading += 1
        peer.reading_bytes += length_bytes
        self._reader.put(Read(peer.key, peer.link, batch))

    @staticmethod
    def choke(peer: Peer, now_s: float) -> None:
        """A choke, which `peer` has been told of, drops all requests that wait (BEP 3).

        Who speaks BEP 6 keeps what it was granted, and hears of each other one.
        """
        if peer.fast is None:
            peer.asked.clear()
            return
        granted = peer.fast.granted or {}
        dropped = [block for block in peer.asked if block[0] not in granted]
        for block in dropped:
            del peer.asked[block]
        if dropped:
            peer.say(encode_rejects(dropped), now_s)


def _count_in_vain(peer: Peer, requests: int) -> None:
    """So many more of its requests came to nothing. Raises RemoteProtocolError when that is a flood.

    Each costs us time, and costs it nothing. Honest peers make a few: when a choke crosses what they ask,
    when they lose patience and ask again, when somebody else was faster.
    """
    peer.in_vain += requests
    if peer.in_vain > MAX_IN_VAIN:
        raise RemoteProtocolError("too many requests in vain")


def _reject(peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
    """Those of `blocks` that were not admitted get a reject, where BEP 6 is agreed on."""
    refused = [] if peer.fast is None else [block for block in blocks if block not in peer.asked]
    if refused:
        peer.say(encode_rejects(refused), now_s)
