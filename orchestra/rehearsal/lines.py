"""The two lines of a machine: how long what goes up or comes down takes. Pure arithmetic."""

from __future__ import annotations

QUEUED_BYTES = 8 * 1024
"""What one busy connection has in the device's queue, before a newcomer's packet: TCP keeps it that small."""
PACKET_BYTES = 66
"""Ethernet, IPv4 and TCP headers, with time stamps, of a packet."""
ACKNOWLEDGED_BYTES = 2 * 1448
"""How much payload one acknowledgement is for: every second full packet (RFC 5681)."""


class Lines:
    """Rates in payload bytes a second; times are those of the virtual clock."""

    __slots__ = ("_down_bytes_s", "_down_free_s", "_up_bytes_s", "_up_free_s", "heard_bytes")

    def __init__(self, up_bytes_s: float, down_bytes_s: float) -> None:
        self._up_bytes_s = up_bytes_s
        self._down_bytes_s = down_bytes_s
        # Until when each is taken by what is on it.
        self._up_free_s = 0.0
        self._down_free_s = 0.0
        self.heard_bytes = 0
        """Short messages that have come down since the last data: they took of its time."""

    def send(self, length_bytes: float, now_s: float) -> tuple[float, float]:
        """Put bytes on the uplink: when they begin to leave, and when they will have left."""
        began_s = max(now_s, self._up_free_s)
        self._up_free_s = began_s + length_bytes / self._up_bytes_s
        return began_s, self._up_free_s

    def send_between(self, length_bytes: float, now_s: float, busy: int) -> float:
        """Send short messages beside `busy` connections that have data: when they will have left."""
        _, left_s = self.send(length_bytes, now_s)
        if not busy:
            return left_s
        # What is on its way already goes first, but not all data that is ready.
        return now_s + (busy * QUEUED_BYTES + length_bytes) / self._up_bytes_s

    def receive(self, length_bytes: int, began_s: float, ended_s: float) -> float:
        """Data comes, from when its first byte could be here to when its last could: when it is here."""
        length_bytes += self.heard_bytes
        self.heard_bytes = 0
        start_s = max(self._down_free_s, began_s)
        self._down_free_s = max(ended_s, start_s + length_bytes / self._down_bytes_s)
        return self._down_free_s

    def acknowledge(self, length_bytes: int, now_s: float) -> None:
        """Data has come: its acknowledgements go up."""
        self.send(length_bytes / ACKNOWLEDGED_BYTES * PACKET_BYTES, now_s)
