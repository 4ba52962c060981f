"""What is worth trying again, when, and how often: the one table of it.

A failure is temporary if it is one of `TEMPORARY_STATUSES`, or a connection that failed for a reason that may pass.
Everything else is said at once.
"""

from __future__ import annotations

import email.utils
from collections.abc import Mapping

from homeport.clock import Clock

#: Request Timeout, Too Many Requests, and what a server says of itself; never 501 and 505, which are about the request.
TEMPORARY_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})

#: Tries of one request. A transfer that gets on starts counting anew (`downloads`, `uploads`).
ATTEMPTS_MAX = 5

#: A host that asks us to stay away for longer than this gets its way: the error says for how long, nobody sits waiting.
RETRY_AFTER_SECONDS_MAX = 120.0

BACKOFF_SECONDS_FIRST = 0.25
BACKOFF_SECONDS_MAX = 30.0


def backoff_seconds(failures: int, random: float) -> float:
    """How long to wait after failure number `failures` (from 1): doubling, and spread so that not all come at once.

    `random` is in [0, 1).
    """
    longest = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2.0 ** (failures - 1))
    return longest * (0.5 + random / 2)


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """What `Retry-After` asks for, at least 0; None without one that can be read.

    It is a number of seconds or a date. Source: RFC 9110 section 10.2.3.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return None


class Retries:
    """Counts the failures of one piece of work and waits between them.

    `await failed()` is False when it is time to give up; otherwise it has waited. `progressed()` forgets the failures.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0

    def progressed(self) -> None:
        self._failures = 0

    async def failed(self, headers: Mapping[str, str] | None = None) -> bool:
        self._failures += 1
        asked = retry_after_seconds(headers, self._clock.now()) if headers is not None else None
        if self._failures >= ATTEMPTS_MAX or (asked or 0.0) > RETRY_AFTER_SECONDS_MAX:
            return False
        await self._clock.sleep(max(asked or 0.0, backoff_seconds(self._failures, self._clock.random())))
        return True
