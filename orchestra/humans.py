"""Sizes, rates and durations as people write and read them.

Pure. Sizes are shown in decimal units (1 MB = 1,000,000 bytes), as links and
disks are sold; sizes that are typed in (part sizes) are binary, as parts are
cut: `16K` is 16,384 bytes.
"""

from __future__ import annotations

import math
import re
import unicodedata

_SIZE = re.compile(r"([0-9]{1,16})(?:([KMG])(?:iB)?)?", re.ASCII | re.IGNORECASE)
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def parse_size(text: str) -> int:
    """Bytes meant by `text`: digits, and at most one of K, M, G (or KiB, MiB, GiB), of 1,024 each.

    ValueError says what is accepted. Zero is returned as it is: the caller knows its own bounds.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a size: {text!r} (write bytes as 16384, 16K or 1M)")
    return int(match[1]) * _FACTORS[(match[2] or "").upper()]


def size(length_bytes: float) -> str:
    """`length_bytes` in three significant digits: "999 B", "1.23 kB", "12.3 MB"."""
    value = float(length_bytes)
    for unit in _UNITS:
        # 999.5 would round to "1000": it belongs to the next unit.
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{_three_digits(value) if unit != 'B' else round(value)} {unit}"


def rate(bytes_per_s: float) -> str:
    """A transfer rate: "12.3 MB/s"."""
    return f"{size(bytes_per_s)}/s"


def duration(seconds: float | None) -> str:
    """A time span in at most two units: "0.4 s", "59 s", "1 min 20 s", "2 h 5 min", "3 d 4 h".

    None, infinite and NaN are "unknown".
    """
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    for large, large_s, small, small_s in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= large_s:
            rest = whole % large_s // small_s
            return f"{whole // large_s} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def percent(done: int, total: int) -> int:
    """Whole percent, rounded down: 100 means complete. Nothing to do is complete."""
    return 100 if total <= 0 else max(0, min(100, done * 100 // total))


def columns(text: str) -> int:
    """Terminal columns that `text` takes: East Asian wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def fit(text: str, limit: int) -> str:
    """`text`, cut with "..." when it is wider than `limit` columns."""
    if columns(text) <= limit:
        return text
    if limit <= 3:
        return ""
    kept, used = [], 3
    for character in text:
        used += _columns_of(character)
        if used > limit:
            break
        kept.append(character)
    return "".join(kept) + "..."


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _three_digits(value: float) -> str:
    digits_before_point = len(str(int(abs(value))))
    if abs(value) >= 99.95:
        return str(round(value))
    return f"{value:.{max(0, 3 - digits_before_point)}f}"
