"""Slowing down those who guess passwords.

Holds: a few failures cost nothing; after that each doubles the wait, up to a minute, so nobody is locked out for good.
A user's wait holds only for addresses that failed themselves: who guesses at ada's password from elsewhere does not
keep ada out. All of it is in memory, bounded, and forgotten after a quiet quarter of an hour.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from homeport.clock import Clock
from homeport.oci.errors import TooManyRequests

ADDRESS_FAILURES_FREE = 10
USER_FAILURES_FREE = 5
WAIT_SECONDS_MAX = 60.0
FORGET_SECONDS = 15 * 60.0
#: How many addresses, and how many users, are remembered. Those that failed last stay.
REMEMBERED_MAX = 10_000
#: Passwords that wait to be checked at once: of one address (which may be a proxy before a whole school), in all, and
#: of one user from one address. The last are different passwords, since the same one is checked only once.
ADDRESS_WAITING_MAX = 32
WAITING_MAX = 128
USER_WAITING_MAX = 4


@dataclass(slots=True)
class Attempt:
    """One password that is being checked. `right` says how it ended; None: it could not be told."""

    right: bool | None = None


class _Failures:
    """How often each key failed lately, and until when it has to wait."""

    def __init__(self, clock: Clock, free: int) -> None:
        self._clock = clock
        self._free = free
        self._known: dict[str, tuple[int, float]] = {}

    def count(self, key: str) -> int:
        count, failed_at = self._known.get(key, (0, 0.0))
        return count if self._clock.monotonic() - failed_at < FORGET_SECONDS else 0

    def wait_seconds(self, key: str) -> float:
        extra = self.count(key) - self._free
        if extra < 0:
            return 0.0
        wait = min(WAIT_SECONDS_MAX, 2.0 ** min(extra, 16))
        return max(0.0, self._known[key][1] + wait - self._clock.monotonic())

    def add(self, key: str) -> None:
        count = self.count(key)
        self._known.pop(key, None)  # To the end: the order is that of the last failure.
        if len(self._known) >= REMEMBERED_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = (count + 1, self._clock.monotonic())

    def clear(self, key: str) -> None:
        self._known.pop(key, None)


class Throttle:
    """Decides who may try a password now."""

    def __init__(self, clock: Clock) -> None:
        self._addresses: Final = _Failures(clock, ADDRESS_FAILURES_FREE)
        self._users: Final = _Failures(clock, USER_FAILURES_FREE)
        self._waiting: Counter[tuple[str, ...]] = Counter()

    @contextmanager
    def attempt(self, address: str, user: str, *, trusted: bool) -> Iterator[Attempt]:
        """Around the checking of a password. Raises `TooManyRequests` where it must wait.

        `trusted`: this very login was right before, so it is no guess; it is let through at once.
        """
        network = _network(address)
        if not trusted:
            self._admit(network, user)
        waiting = Counter([(), (network,), (network, user)])
        self._waiting += waiting
        attempt = Attempt()
        try:
            yield attempt
        finally:
            self._waiting -= waiting
            if attempt.right is False:
                self._addresses.add(network)
                self._users.add(user)
            elif attempt.right:
                self._users.clear(user)

    def _admit(self, network: str, user: str) -> None:
        waiting = self._waiting
        if (
            waiting[()] >= WAITING_MAX
            or waiting[network,] >= ADDRESS_WAITING_MAX
            or waiting[network, user] >= USER_WAITING_MAX
        ):
            raise TooManyRequests("too many logins at once", retry_after_seconds=1)
        wait = self._addresses.wait_seconds(network)
        if self._addresses.count(network):
            wait = max(wait, self._users.wait_seconds(user))
        if wait > 0:
            raise TooManyRequests("too many failed logins", retry_after_seconds=math.ceil(wait))


def _network(address: str) -> str:
    """What an attacker has one of: an IPv4 address, or a /64 of IPv6."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return parsed.exploded[:19]
        parsed = parsed.ipv4_mapped
    return str(parsed)
