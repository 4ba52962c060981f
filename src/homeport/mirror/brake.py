"""The brake: a list of tags that lost too much at once is not believed until a person does. Owns `mirror_brakes`.

Holds: where it is on, nothing of that upstream repository is marked or removed; copying goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from homeport import events
from homeport.clock import Clock
from homeport.db.database import Transaction
from homeport.events import SYSTEM, Origin
from homeport.mirror.addresses import Source

#: So many tags of a repository may be gone at once; of more this part.
TAGS_MAX: Final = 5
PART_MAX: Final = 0.2
#: How long a stop can be released, and a release counts.
RELEASE_SECONDS_MAX: Final = 90 * 86_400.0


class BrakeError(Exception):
    """What was asked about a run that stopped cannot be done; the text is for people."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """An upstream repository that a run did not believe."""

    run: int
    source: Source
    reason: str
    stopped_at: float
    released_at: float | None


def why_not(known: int, lost: int, listed: int, listed_before: int | None) -> str | None:
    """Why a complete list is not believed; None: it is.

    `known`: how many tags of it we hold, of which `lost` are not on it. `listed`: how many it has, and had before.
    """
    if not listed and (known or listed_before):
        return "the list of its tags is empty"
    if lost > _limit(known):
        return f"{lost} of the {known} tags that are here are not on its list, and {_limit(known)} may be gone at once"
    before = listed_before or 0
    if before - listed > _limit(before):
        return f"its list had {before} tags and has {listed}"
    return None


def told(reason: str, run: int) -> str:
    """What people are told of a stop."""
    return f"{reason}; nothing of it is removed until `homeport mirror release {run}`"


def _limit(count: int) -> int:
    return max(TAGS_MAX, int(count * PART_MAX))


# --- facts ------------------------------------------------------------------------------------------------------


def stop(tx: Transaction, clock: Clock, run: int, source: Source, reason: str, listed: int) -> None:
    """Remember that the run did not believe the list, which had so many tags, and tell it."""
    now = clock.now()
    tx.run("DELETE FROM mirror_brakes WHERE stopped_at < ?", (now - RELEASE_SECONDS_MAX,))
    is_new = tx.run(
        "INSERT INTO mirror_brakes (run, host, repository, reason, listed, stopped_at) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run, host, repository) DO NOTHING",
        (run, *source, reason, listed, now),
    )
    if is_new:  # Else the run is done again after a crash.
        text = f"{source}: {told(reason, run)}"
        events.append(tx, clock, "mirror.stopped", Origin(SYSTEM.actor, run=f"job-{run}"), reason=text)


def release(tx: Transaction, clock: Clock, origin: Origin, run: int) -> list[Source]:
    """A person believes the lists that the run did not; of which repositories. Raises `BrakeError`."""
    rows = tx.all("SELECT host, repository FROM mirror_brakes WHERE run = ? ORDER BY host, repository", (run,))
    if not rows:
        raise BrakeError(f"job {run} is no mirror run that stopped because too many tags were gone")
    tx.run("UPDATE mirror_brakes SET released_at = ? WHERE run = ? AND released_at IS NULL", (clock.now(), run))
    events.append(tx, clock, "mirror.released", origin, reason=f"job-{run}", detail={"job": run})
    return [Source(*row) for row in rows]


def is_released(tx: Transaction, source: Source, listed: int, now: float) -> bool:
    """Whether a person believed a list of this repository that was no longer than this one."""
    return bool(
        tx.one(
            "SELECT 1 FROM mirror_brakes WHERE host = ? AND repository = ? AND listed <= ? AND released_at >= ?",
            (*source, listed, now - RELEASE_SECONDS_MAX),
        )
    )


def clear(tx: Transaction, source: Source) -> None:
    """The list is believed again, so what was stopped and released before is over."""
    tx.run("DELETE FROM mirror_brakes WHERE host = ? AND repository = ?", source)


def stopped(tx: Transaction) -> list[Stopped]:
    """What is not believed, the newest first."""
    rows = tx.all(
        "SELECT run, host, repository, reason, stopped_at, released_at FROM mirror_brakes"
        " ORDER BY run DESC, host, repository LIMIT 1000"
    )
    return [Stopped(run, Source(host, name), *rest) for run, host, name, *rest in rows]
