"""How many pulls each upstream still allows. Owns the table `upstream_quotas`.

Holds: a pull is counted when it is begun and corrected by what the upstream says next, in which those that are on their
way may not be counted yet; once a window has passed since it last said anything, all of its pulls are there again. Runs
leave a reserve, people and nodes do not.

Source: Docker Hub's `ratelimit-*` headers. A GET of a manifest is a pull there; a HEAD, a list and a blob are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from homeport.client.ratelimits import PULLS_WINDOW_SECONDS_MIN, Quota
from homeport.clock import Clock
from homeport.db.database import Transaction

#: The window that is assumed where an upstream does not say: Docker Hub's.
WINDOW_SECONDS: Final = 6 * 3600.0
#: Answers overtake one another: of what is said within so long the least counts.
_OVERTAKEN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What one upstream said last of its quota, with the pulls that were made since."""

    host: str
    pulls_max: int | None
    remaining: int | None
    window_seconds: float
    #: For whom it counts, in the upstream's words: an address or an account.
    source: str | None
    seen_at: float
    #: It told us to stay away until then.
    limited_until: float | None = None


class Budget:
    """The pulls of one upstream, as this process knows of them."""

    def __init__(self, host: str, clock: Clock) -> None:
        self.host = host
        self.reserve = 0
        self._clock = clock
        self._known: Standing | None = None
        self._changed = False
        #: Pulls that are on their way, and how often the upstream has said something.
        self._under_way = 0
        self._told = 0

    def learned(self, quota: Quota) -> None:
        """The upstream said so. What is full again in minutes is a limit of requests, and none of pulls."""
        window = float(quota.window_seconds or 0)
        if window < PULLS_WINDOW_SECONDS_MIN:
            return
        now, remaining, known = self._clock.now(), quota.remaining, self._known
        if known is not None and known.remaining is not None and 0 <= now - known.seen_at < _OVERTAKEN_SECONDS:
            remaining = min(remaining, known.remaining)
        self._known = Standing(self.host, quota.limit, remaining, window, quota.source, now)
        self._told += 1
        self._changed = True

    def limited(self, seconds: float | None) -> None:
        """It refused a pull: there are none left, for so long or for the rest of a window."""
        now = self._clock.now()
        known = self._known
        window = known.window_seconds if known else WINDOW_SECONDS
        until = now + (window if seconds is None else seconds)
        pulls_max, source = (known.pulls_max, known.source) if known else (None, None)
        self._known = Standing(self.host, pulls_max, 0, window, source, now, until)
        self._told += 1
        self._changed = True

    @property
    def standing(self) -> Standing | None:
        """What is known; None: the upstream has never said anything of a limit."""
        return self._known

    @property
    def remaining(self) -> int | None:
        """How many pulls are left; None: as far as anybody knows there is no limit."""
        left = self._left
        return None if left is None else max(0, left - self._under_way)

    @property
    def _left(self) -> int | None:
        """The same before what is on its way."""
        known, now = self._known, self._clock.now()
        if known is None or known.remaining is None:
            return None
        if known.limited_until is not None and now < known.limited_until:
            return 0
        passed = not 0 <= now - known.seen_at < known.window_seconds
        return known.pulls_max if passed or known.limited_until is not None else known.remaining

    @property
    def wait_seconds(self) -> float | None:
        """After how long there are pulls again, where there are none; None: there are some, or nobody knows."""
        known = self._known
        if known is None or self.remaining != 0:
            return None
        until = known.limited_until if known.limited_until is not None else known.seen_at + known.window_seconds
        return max(0.0, until - self._clock.now())

    @property
    def kept_for_people(self) -> int:
        """What runs leave: the reserve, but at most half of a small quota."""
        most = self._known.pulls_max if self._known is not None else None
        return self.reserve if most is None else min(self.reserve, most // 2)

    @property
    def left_for_runs(self) -> int | None:
        """The same as `remaining` without what is kept for people."""
        remaining = self.remaining
        return None if remaining is None else max(0, remaining - self.kept_for_people)

    @contextmanager
    def pull(self) -> Iterator[None]:
        """A pull is made while this lasts."""
        told = self._told
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if self._told == told:
                self._count()

    def _count(self) -> None:
        """A pull was made of which the upstream said nothing."""
        known, left = self._known, self._left
        if known is not None and left is not None:
            seen_at = self._clock.now() if left == known.pulls_max else known.seen_at
            self._known = replace(known, remaining=max(0, left - 1), seen_at=seen_at, limited_until=None)
            self._changed = True

    def take_change(self) -> Standing | None:
        """What is to be written down, once."""
        changed, self._changed = self._changed, False
        return self._known if changed else None

    def load(self, standing: Standing) -> None:
        """What was written down, unless something newer is known."""
        if self._known is None or self._known.seen_at < standing.seen_at:
            self._known = standing


# --- facts ------------------------------------------------------------------------------------------------------


def write(tx: Transaction, standing: Standing) -> None:
    """Write down what is known of an upstream's quota."""
    tx.run(
        "INSERT INTO upstream_quotas (host, pulls_max, remaining, window_seconds, source, seen_at, limited_until)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (host) DO UPDATE SET pulls_max = excluded.pulls_max,"
        " remaining = excluded.remaining, window_seconds = excluded.window_seconds, source = excluded.source,"
        " seen_at = excluded.seen_at, limited_until = excluded.limited_until",
        (
            standing.host,
            standing.pulls_max,
            standing.remaining,
            standing.window_seconds,
            standing.source,
            standing.seen_at,
            standing.limited_until,
        ),
    )


def every(tx: Transaction) -> list[Standing]:
    """What is known of all upstreams, by host."""
    rows = tx.all(
        "SELECT host, pulls_max, remaining, window_seconds, source, seen_at, limited_until FROM upstream_quotas"
        " ORDER BY host LIMIT 1000"
    )
    return [
        Standing(host, pulls_max, remaining, window or WINDOW_SECONDS, source, seen_at, limited_until)
        for host, pulls_max, remaining, window, source, seen_at, limited_until in rows
    ]
