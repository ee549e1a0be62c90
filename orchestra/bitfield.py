"""Which parts somebody has: one bit a part (BEP 3).

Pure; each instance is owned by the orchestrator.
"""

from __future__ import annotations

from orchestra.errors import RemoteProtocolError

_BITS = [tuple(bit for bit in range(8) if byte & (0x80 >> bit)) for byte in range(256)]
"""Which bits are set in each byte."""


class Bitfield:
    """`parts` bits, the first part in the highest bit of the first byte."""

    __slots__ = ("_bits", "count", "parts")

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.count = 0
        self._bits = bytearray((parts + 7) // 8)

    @classmethod
    def from_wire(cls, data: bytes, parts: int) -> Bitfield:
        """Read a `bitfield` payload. Raises RemoteProtocolError on a wrong length or spare bits set."""
        field = cls(parts)
        if len(data) != len(field._bits):
            raise RemoteProtocolError(f"a bitfield of {len(data)} bytes for {parts} parts")
        if parts % 8 and data[-1] & (0xFF >> parts % 8):
            raise RemoteProtocolError("a bitfield with spare bits set")
        field._bits[:] = data
        field.count = int.from_bytes(data, "big").bit_count()
        return field

    @classmethod
    def full(cls, parts: int) -> Bitfield:
        """One with every part set."""
        field = cls(parts)
        field._bits[:] = (((1 << parts) - 1) << (-parts % 8)).to_bytes(len(field._bits), "big")
        field.count = parts
        return field

    def __contains__(self, index: int) -> bool:
        return bool(self._bits[index >> 3] & (0x80 >> (index & 7)))

    def add(self, index: int) -> bool:
        """Set one bit; True when it was not set before."""
        mask = 0x80 >> (index & 7)
        if self._bits[index >> 3] & mask:
            return False
        self._bits[index >> 3] |= mask
        self.count += 1
        return True

    def add_each(self, indices: list[int]) -> list[int]:
        """Set these bits; those that were not set before, in the same order."""
        bits, news = self._bits, []
        for index in indices:
            mask = 0x80 >> (index & 7)
            if not bits[index >> 3] & mask:
                bits[index >> 3] |= mask
                news.append(index)
        self.count += len(news)
        return news

    def without(self, indices: list[int]) -> int:
        """How many of these are not set."""
        bits = self._bits
        return len([index for index in indices if not bits[index >> 3] & (0x80 >> (index & 7))])

    def remove(self, index: int) -> bool:
        """Clear one bit; True when it was set before."""
        mask = 0x80 >> (index & 7)
        if not self._bits[index >> 3] & mask:
            return False
        self._bits[index >> 3] ^= mask
        self.count -= 1
        return True

    def add_all(self, run: range) -> None:
        """Set the bits of neighbouring parts, at C speed."""
        self._change(run, set_them=True)

    def remove_all(self, run: range) -> None:
        """Clear the bits of neighbouring parts, at C speed."""
        self._change(run, set_them=False)

    def _change(self, run: range, *, set_them: bool) -> None:
        if not run:
            return
        start, stop = run.start >> 3, (run.stop + 7) >> 3
        old = int.from_bytes(self._bits[start:stop], "big")
        mask = ((1 << len(run)) - 1) << (8 * stop - run.stop)
        new = old | mask if set_them else old & ~mask
        self._bits[start:stop] = new.to_bytes(stop - start, "big")
        self.count += new.bit_count() - old.bit_count()

    def count_in(self, run: range) -> int:
        """How many of neighbouring parts are there."""
        if not run or not self.count:
            return 0
        if len(run) == 1:
            return int(run.start in self)
        start, stop = run.start >> 3, (run.stop + 7) >> 3
        bits = int.from_bytes(self._bits[start:stop], "big") >> (8 * stop - run.stop)
        return (bits & ((1 << len(run)) - 1)).bit_count()

    def end_of_run(self, start: int) -> int:
        """The first part from `start` on that is not there; `parts` when all of them are."""
        bits, index = self._bits, start
        while index < self.parts and index in self:
            # Whole bytes at a time: there may be a million parts.
            index += 8 if not index & 7 and bits[index >> 3] == 0xFF else 1
        return index

    @property
    def complete(self) -> bool:
        """True when every part is there; so it is for a composition of no parts."""
        return self.count == self.parts

    def to_wire(self) -> bytes:
        """The payload of a `bitfield` message."""
        return bytes(self._bits)

    def as_integer(self) -> int:
        """All bits as one number, for set operations at C speed; bit `width - 1 - index` is part `index`."""
        return int.from_bytes(self._bits, "big")

    @property
    def width(self) -> int:
        """Bits in `as_integer`, spare ones included."""
        return 8 * len(self._bits)

    def meets(self, other: Bitfield) -> bool:
        """True when there is a part that both have."""
        return bool(self.as_integer() & other.as_integer())

    def lacking(self, other: Bitfield) -> int:
        """How many of the parts of `other` are not in this one."""
        return (other.as_integer() & ~self.as_integer()).bit_count()

    def beyond(self, other: Bitfield) -> list[int]:
        """The parts that are not in `other`, in order; costs little when there are none."""
        news = Bitfield(self.parts)
        news._bits[:] = (self.as_integer() & ~other.as_integer()).to_bytes(len(self._bits), "big")
        return news.indices() if any(news._bits) else []

    def indices(self) -> list[int]:
        """The parts that are there, in order."""
        if self.complete:
            return list(range(self.parts))
        found = []
        for number, byte in enumerate(self._bits):
            if byte:
                base = number * 8
                found += [base + bit for bit in _BITS[byte]]
        return found
