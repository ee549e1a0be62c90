"""Answering requests: each peer's queue, and how much of it is read and sent at a time.

Pure; owned by the orchestrator. Requests wait here as spans, without data. The
reader is given a batch of a fraction of a second of the peer's own speed, two
batches at the most, so that a slow peer ties up little memory, hears of a
choke soon, and its cancels still find their blocks.
"""

from __future__ import annotations

from itertools import islice

from orchestra.bitfield import Bitfield
from orchestra.errors import RemoteProtocolError
from orchestra.geometry import Geometry
from orchestra.messages import Inbox, Read
from orchestra.peer import Peer
from orchestra.shipment import MAX_BLOCKS
from orchestra.wire import BlockSpan, encode_rejects

MAX_ASKED = 500
"""Requests of one peer that may wait; we say so in the extension handshake (`reqq`)."""
MAX_BATCH_BLOCKS = MAX_BLOCKS
LEAST_BATCH_BLOCKS = 1
QUICK_S = 0.05
SLOW_S = 0.25
READS_AT_ONCE = 2


class Uploads:
    """Queues of requests by peer; hands Read messages to the reader."""

    def __init__(self, geometry: Geometry, have: Bitfield, reader: Inbox) -> None:
        self._geometry = geometry
        self._have = have
        self._reader = reader
        self.total_bytes = 0

    def asked(self, peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
        """`peer` requests blocks. Raises RemoteProtocolError for one that cannot be.

        A choked peer's requests are dropped (BEP 3): it may not have heard yet.
        What exceeds MAX_ASKED is dropped as well. Who speaks BEP 6 gets what it
        was granted even then, and hears of each request that is dropped.
        """
        unheld = self._geometry.first_unheld(blocks)
        if unheld is not None:
            index, begin, length = unheld
            raise RemoteProtocolError(f"a request for {length} bytes at {begin} of part {index}")
        for index, _, _ in () if self._have.complete else blocks:
            if index not in self._have:
                raise RemoteProtocolError(f"a request for part {index}, which we do not have")
        admitted = blocks
        if peer.choked:
            admitted = [] if peer.fast is None else peer.fast.admit(blocks, peer.have.count)
        admitted = admitted[: MAX_ASKED - len(peer.asked)]
        peer.asked.update(dict.fromkeys(admitted))
        if peer.fast is not None and len(admitted) < len(blocks):
            refused = [block for block in blocks if block not in peer.asked]
            peer.fast.refuse(len(refused))
            peer.say(encode_rejects(refused), now_s)
        self.serve(peer, now_s)

    def cancelled(self, peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
        """`peer` no longer wants these; what the reader has been given is sent all the same."""
        dropped = [block for block in blocks if peer.asked.pop(block, False) is None]
        if peer.fast is not None and dropped:
            peer.say(encode_rejects(dropped), now_s)

    def sent(self, peer: Peer, payload_bytes: int, now_s: float) -> None:
        """A batch has left: adapt the size of the next ones to how long this one took, and go on."""
        peer.reading -= 1
        peer.up.add(payload_bytes, now_s)
        self.total_bytes += payload_bytes
        if peer.fast is not None:
            peer.fast.refusals = 0
        took_s = now_s - peer.batch_sent_at_s
        peer.batch_sent_at_s = now_s
        if took_s < QUICK_S:
            peer.batch_blocks = min(MAX_BATCH_BLOCKS, 2 * peer.batch_blocks)
        elif took_s > SLOW_S:
            peer.batch_blocks = max(LEAST_BATCH_BLOCKS, peer.batch_blocks // 2)
        self.serve(peer, now_s)

    def serve(self, peer: Peer, now_s: float) -> None:
        """Give the reader what `peer` waits for, as far as its share allows."""
        if peer.closing:
            return
        asked = peer.asked
        while asked and peer.reading < READS_AT_ONCE:
            if peer.reading == 0:
                peer.batch_sent_at_s = now_s
            batch = list(islice(asked, peer.batch_blocks))
            for block in batch:
                del asked[block]
            peer.reading += 1
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
