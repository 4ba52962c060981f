"""What people and scripts ask of a system that runs: the API and the command line do it here, so they do the same.

Holds: who asked for a run, cancelled one or wanted it again stands in the audit log, from the same transaction on; and
every run that ends writes `KIND.finished`, also one that was cancelled before it began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from homeport import events
from homeport.clock import Clock
from homeport.db.database import Database, Transaction
from homeport.events import SYSTEM, Event, Origin, Position
from homeport.jobs import queue, work
from homeport.jobs.queue import Job
from homeport.jobs.work import Form
from homeport.oci import patterns

#: How many events are looked at in one read: a thousandth of a second or two, and others have their turn.
_PAGE: Final = 250


# --- jobs -------------------------------------------------------------------------------------------------------


def request(
    tx: Transaction,
    clock: Clock,
    kinds: Mapping[str, Form],
    name: str,
    origin: Origin,
    arguments: Mapping[str, Any] | None = None,
) -> Job:
    """Ask for a run: a job that waits, a new one or one that does the same already. Raises `JobError`."""
    job = work.request(tx, clock, kinds, name, actor=origin.actor, address=origin.address, arguments=arguments)
    _tell(tx, clock, "job.requested", origin, job)
    return job


def cancel(tx: Transaction, clock: Clock, origin: Origin, job_id: int) -> Job:
    """End a job that waits; ask who runs it to stop. Raises `JobUnknown`, `JobEnded`."""
    job = queue.cancel(tx, clock, job_id)
    _tell(tx, clock, "job.cancelled", origin, job)
    if job.state == "ended":
        ended(tx, clock, job)
    return job


def again(tx: Transaction, clock: Clock, origin: Origin, job_id: int) -> Job:
    """A new job that does the same as one that has ended. Raises `JobUnknown`, `JobNotEnded`."""
    job = queue.again(tx, clock, job_id, origin.actor, origin.address)
    _tell(tx, clock, "job.retried", origin, job)
    return job


def ended(tx: Transaction, clock: Clock, job: Job) -> None:
    """Tell that a job has ended, in the transaction in which it does."""
    origin = Origin(SYSTEM.actor, run=f"job-{job.id}")
    events.append(tx, clock, f"{job.kind}.finished", origin, reason=job.reason, detail=job.result())


def _tell(tx: Transaction, clock: Clock, kind: str, origin: Origin, job: Job) -> None:
    events.append(tx, clock, kind, origin, reason=job.kind, detail={"job": job.id})


# --- the audit log ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Search:
    """Which events are meant: their kind, such as `tag.*`, and their repository, such as `team/**` (None: any)."""

    kind: str = "*"
    repository: str | None = None

    def finds(self, event: Event) -> bool:
        """Whether the event is one of these. Raises `ValueError` if the repository is no pattern."""
        if not fnmatchcase(event.kind, self.kind):
            return False
        if self.repository is None:
            return True
        return event.repository is not None and patterns.matches(self.repository, event.repository)


@dataclass(frozen=True, slots=True)
class Found:
    """Events in the order of the log, and where to look on: behind everything that was looked at."""

    events: list[Event]
    next: Position


async def newest(database: Database, clock: Clock, search: Search, limit: int) -> Found:
    """The newest events that are meant, at most `limit`."""
    end = await database.read(events.end)
    at = Position(end.transaction, end.id + 1)
    found: list[Event] = []
    while len(found) < limit and (page := await database.read(events.before, at, _PAGE)):
        found += [event for event in reversed(page) if search.finds(event)]
        at = page[0].position
        await clock.sleep(0)  # Whoever else is served here has its turn.
    return Found(found[:limit][::-1], end)


async def after(database: Database, clock: Clock, search: Search, position: Position, limit: int) -> Found:
    """The first events behind `position` that are meant, at most `limit`."""
    found: list[Event] = []
    while page := await database.read(events.after, position, _PAGE):
        for event in page:
            position = event.position
            if search.finds(event):
                found.append(event)
                if len(found) == limit:
                    return Found(found, position)
        await clock.sleep(0)
    return Found(found, position)
