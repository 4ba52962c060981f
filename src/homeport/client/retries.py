"""What is worth trying again, when, and how often: the one table of it.

A failure is temporary if it is one of `TEMPORARY_STATUSES`, but for a quota of pulls that is used up, or a connection
that failed for a reason that may pass. Everything else is said at once. How long one goes on is its `Patience`.
"""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass

from homeport.client import ratelimits
from homeport.client.errors import Limit
from homeport.clock import Clock

#: Request Timeout, Too Many Requests, and what a server says of itself; never 501 and 505, which are about the request.
TEMPORARY_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})

BACKOFF_SECONDS_FIRST = 0.25
BACKOFF_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller goes on trying."""

    #: Tries of one request. A transfer that gets on starts counting anew (`downloads`, `uploads`).
    attempts: int = 5
    #: A host that asks us to stay away for longer gets its way: the error says for how long, nobody sits waiting.
    longest_wait_seconds: float = 120.0
    #: The longest time that an answer that is small by its nature may take, with all tries and waits; None: no end.
    total_seconds: float | None = None


#: That of whoever says nothing else.
PATIENCE = Patience()


def is_temporary(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether an answer says what may be otherwise soon."""
    return status in TEMPORARY_STATUSES and ratelimits.passed(status, headers, body) is not Limit.PULLS


def backoff_seconds(failures: int, random: float) -> float:
    """How long to wait after failure number `failures` (from 1): doubling, and spread so that not all come at once.

    `random` is in [0, 1).
    """
    longest = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2.0 ** (failures - 1))
    return longest * (0.5 + random / 2)


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """What `Retry-After` asks for, at least 0; None without one that can be read.

    It is a number of seconds or a date, which is by the host's clock: that stands in `Date`, else `now` has to do.
    Source: RFC 9110 sections 10.2.3 and 6.6.1.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    moment = _seconds(text)
    if moment is None:
        return None
    of_host = _seconds(headers.get("Date", ""))
    return max(0.0, moment - (now if of_host is None else of_host))


def _seconds(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


class Retries:
    """Counts the failures of one piece of work and waits between them.

    `await failed()` is False when it is time to give up; otherwise it has waited. `progressed()` forgets the failures.
    """

    def __init__(self, clock: Clock, patience: Patience = PATIENCE) -> None:
        self._clock = clock
        self._patience = patience
        self._failures = 0

    def progressed(self) -> None:
        self._failures = 0

    async def failed(self, headers: Mapping[str, str] | None = None) -> bool:
        self._failures += 1
        asked = retry_after_seconds(headers, self._clock.now()) if headers is not None else None
        longest = self._patience.longest_wait_seconds
        if self._failures >= self._patience.attempts or (asked or 0.0) > longest:
            return False
        await self._clock.sleep(max(asked or 0.0, min(longest, backoff_seconds(self._failures, self._clock.random()))))
        return True
