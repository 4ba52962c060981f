"""Byte ranges: what a `Range` header asks for. Pure. Source: RFC 9110, section 14."""

from __future__ import annotations

import re
from typing import NamedTuple

from homeport.oci.errors import RangeInvalid

#: More ranges than this in one request are answered with the whole; partial pulls of zstd:chunked layers ask for many.
RANGES_MAX = 1_024

_RANGES = re.compile(r"bytes=([0-9,\- \t]*)", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")


class ByteRange(NamedTuple):
    """The bytes from `start` to before `stop`."""

    start: int
    stop: int

    def content_range(self, size: int) -> bytes:
        """As the `Content-Range` header writes it: both ends inclusive."""
        return b"bytes %d-%d/%d" % (self.start, self.stop - 1, size)


def parse(header: str, size: int) -> list[ByteRange] | None:
    """The ranges that are asked for of something of `size` bytes, in the order asked.

    None: answer with the whole, as the RFC has it for what is not understood or asks for more than the whole.
    Raises `RangeInvalid` when nothing of what is asked for is there.
    """
    asked = _RANGES.fullmatch(header.strip())
    if asked is None:
        return None
    parts = [part.strip() for part in asked[1].split(",") if part.strip()]
    if not parts or len(parts) > RANGES_MAX:
        return None
    found = []
    for part in parts:
        matched = _RANGE.fullmatch(part)
        if matched is None or part == "-":
            return None
        one = _clamp(matched[1], matched[2], size)
        if one is not None:
            found.append(one)
    if not found:
        raise RangeInvalid(f"{header[:80]} of {size} bytes")
    if sum(one.stop - one.start for one in found) > size:
        return None  # Ranges that overlap would let a small request cause a large answer.
    return found


def _clamp(first: str, last: str, size: int) -> ByteRange | None:
    """The part of one range that exists, or None."""
    if not first:
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    return ByteRange(start, stop) if start < stop else None
