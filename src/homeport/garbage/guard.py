"""Whether the time can be believed, on which every grace rests. Owns the table `cleanup_clock`.

Holds: once the wall clock has jumped, nothing is deleted until a person says that it is right, also not by another
process or after a restart. A machine that was off for less than `OFF_SECONDS_MAX` has not jumped. In the first minutes
of a process a clock that is wrong only makes it wait: many a machine starts with any time, and asks for the right one
then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from homeport import events
from homeport.clock import rfc3339
from homeport.db.database import Transaction
from homeport.events import SYSTEM, Origin
from homeport.registry.registry import Registry

#: By how much the wall clock may move more, or less, than time has passed.
JUMP_SECONDS: Final = 3600.0
#: How far ahead of what was last recorded the clock may be: for so long a machine is off without anybody wondering.
OFF_SECONDS_MAX: Final = 3 * 86_400.0
#: For so long after its start a process expects that somebody sets the clock.
SETTLING_SECONDS: Final = 600.0
#: How often the time is recorded. A disk may sleep meanwhile.
RECORD_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Doubt:
    """The time was not found right yet since the process began, or since it was set in the first minutes."""

    #: When the last thing had happened by then: what happens from then on has the time that is in doubt.
    happened_at: float | None
    #: The time that had been seen by then. Only a person lets another one be seen while this lasts.
    seen_at: float | None


class ClockGuard:
    """Watches the clock of one process. Whatever cleans up asks it first."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._seen: tuple[float, float] | None = None
        self._settled_at: float | None = None
        self._doubt: _Doubt | None = None

    async def stopped(self) -> str | None:
        """Why the time cannot be believed, or None. Costs a point read, and every ten minutes a write."""
        clock, db = self._registry.clock, self._registry.db
        now, elapsed = clock.now(), clock.elapsed()
        before, self._seen = self._seen, (now, elapsed)
        if self._settled_at is None:
            self._settled_at = elapsed + SETTLING_SECONDS
        settling = elapsed < self._settled_at
        drift = None if before is None else (now - before[0]) - (elapsed - before[1])
        if drift is None or (settling and abs(drift) > JUMP_SECONDS):  # As if it began now.
            self._doubt = await db.read(_begin_to_doubt)
        if self._doubt is not None:
            drift = None
        found = await db.read(_found, now, drift)
        if found is not None and found[1]:
            self._doubt = None  # A person ends it.
            return found[0]
        problem = await db.write(_record, self._registry, drift, settling, self._doubt)
        if problem is None or not settling:
            self._doubt = None
        return problem

    async def may_delete(self) -> bool:
        """Whether a cleanup may delete anything: the registry is not read-only, and the time can be believed."""
        return self._registry.rules.read_only is None and await self.stopped() is None


# --- facts ------------------------------------------------------------------------------------------------------


def why_stopped(tx: Transaction) -> str | None:
    """Why nothing is deleted at the moment."""
    row = tx.one("SELECT stopped FROM cleanup_clock")
    return row[0] if row else None


def confirm(tx: Transaction, registry: Registry, origin: Origin) -> str | None:
    """A person says that the clock is right; what had been wrong, or None.

    Also what no process has written down yet, since its first minutes are not over.
    """
    now = registry.clock.now()
    row = tx.one("SELECT seen_at, stopped FROM cleanup_clock")
    seen_at, stopped = row or (None, None)
    stopped = stopped or _problem(now, _latest(seen_at, _last_happened(tx)), None)
    _see(tx, now, None)
    if stopped is not None:
        events.append(tx, registry.clock, "cleanup.confirmed", origin, reason=stopped)
    return stopped


def _found(tx: Transaction, now: float, drift: float | None) -> tuple[str | None, bool] | None:
    """What is known, and whether that is all there is to it: nothing has to be written."""
    row = tx.one("SELECT seen_at, stopped FROM cleanup_clock")
    if row is None:
        return None
    seen_at, stopped = row
    is_fresh = 0 <= now - seen_at < RECORD_SECONDS and drift is not None and abs(drift) <= JUMP_SECONDS
    return stopped, stopped is not None or is_fresh


def _record(
    tx: Transaction, registry: Registry, drift: float | None, settling: bool, doubt: _Doubt | None
) -> str | None:
    """Write down the time, or that it jumped; why nothing may be deleted. `drift` is None while it is in `doubt`."""
    now = registry.clock.now()
    row = tx.one("SELECT seen_at, stopped FROM cleanup_clock")
    if row is not None and row[1] is not None:
        stopped: str = row[1]
        return stopped
    seen_at = row[0] if row else None
    happened_at = doubt.happened_at if doubt is not None and doubt.seen_at == seen_at else _last_happened(tx)
    problem = _problem(now, _latest(seen_at, happened_at), drift)
    if problem is None:
        _see(tx, now, None)
        return None
    if settling:
        return problem
    # The time that was seen stays: what comes is compared with the last one that was right.
    _see(tx, now if seen_at is None else seen_at, problem)
    events.append(tx, registry.clock, "cleanup.stopped", SYSTEM, reason=problem)
    return problem


def _begin_to_doubt(tx: Transaction) -> _Doubt:
    row = tx.one("SELECT seen_at FROM cleanup_clock")
    return _Doubt(_last_happened(tx), row[0] if row else None)


def _last_happened(tx: Transaction) -> float | None:
    newest = events.latest(tx, 1)
    return newest[0].happened_at if newest else None


def _latest(*moments: float | None) -> float | None:
    return max((at for at in moments if at is not None), default=None)


def _problem(now: float, recorded: float | None, drift: float | None) -> str | None:
    if drift is not None and abs(drift) > JUMP_SECONDS:
        return f"the clock jumped by {_hours(drift)} while Homeport ran; it shows {rfc3339(int(now))}"
    gap = 0.0 if recorded is None else now - recorded
    if gap < -JUMP_SECONDS:
        return f"the clock shows {rfc3339(int(now))}, {_hours(gap)} before the last thing that happened"
    if gap > OFF_SECONDS_MAX and drift is None:
        return f"the clock shows {rfc3339(int(now))}, {_hours(gap)} after the last thing that happened"
    return None


def _see(tx: Transaction, seen_at: float, stopped: str | None) -> None:
    tx.run(
        "INSERT INTO cleanup_clock (id, seen_at, stopped) VALUES (1, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, stopped = excluded.stopped",
        (seen_at, stopped),
    )


def _hours(seconds: float) -> str:
    hours = abs(seconds) / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.0f} days"
