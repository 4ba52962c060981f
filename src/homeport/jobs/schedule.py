"""What starts by itself and when: facts of the table `schedules`.

Holds: a time that passed while nothing ran starts one run when something runs again, however many passed. The runs of
one schedule never overlap. What the configuration says now counts: the row has what its time was worked out from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from homeport.clock import Clock
from homeport.config.plans import NEVER
from homeport.db.database import Database, Transaction
from homeport.jobs import queue
from homeport.jobs.queue import Job
from homeport.jobs.work import Kind, request, skip

#: Who asks for what a schedule starts.
ACTOR: Final = "system"
#: The word of `kinds.SKIPS` for a run whose time comes before the run before it has ended.
ALREADY_RUNNING: Final = "already-running"
#: A clock that is set back by more than this has schedules worked out anew; by less, and no run comes twice.
SET_BACK_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the configuration wants: a job of this kind whenever the cron line says so, in this time zone."""

    name: str
    kind: str
    #: Five fields, or `NEVER`.
    expression: str
    time_zone: str


def next_time(expression: str, time_zone: str, after: float) -> float:
    """The first time after `after` that the cron line means. Raises `ValueError` if it is none, or never comes.

    As Debian's cron: a fixed time that a change to summer time leaves out comes right after the gap, and one that comes
    twice in autumn counts once; what begins with `*` goes by real time.
    """
    start = datetime.fromtimestamp(after, UTC).astimezone(ZoneInfo(time_zone))
    try:
        # In the hour that comes twice a fixed time is meant the first time, and that may be over.
        return next(time for moment in CronSim(expression, start) if (time := moment.timestamp()) > after)
    except (CronSimError, StopIteration):
        raise ValueError(f"'{expression}' is no cron line, or a time that never comes") from None


def sync(tx: Transaction, clock: Clock, plans: Iterable[Plan]) -> None:
    """Make the rows those of `plans`. A row that says the same keeps its time, also one that has passed."""
    wanted = {plan.name: plan for plan in plans if plan.expression != NEVER}
    now = clock.now()
    kept = {Plan(*row) for row in tx.all("SELECT name, kind, expression, time_zone FROM schedules")}
    for plan in kept:
        if plan.name not in wanted:
            tx.run("DELETE FROM schedules WHERE name = ?", (plan.name,))
    for plan in wanted.values():
        if plan not in kept:
            tx.run(
                "INSERT INTO schedules (name, kind, expression, time_zone, next_at, planned_at)"
                " VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, expression = excluded.expression,"
                " time_zone = excluded.time_zone, next_at = excluded.next_at, planned_at = excluded.planned_at",
                (plan.name, plan.kind, plan.expression, plan.time_zone, _next(plan, now), now),
            )


def is_due(tx: Transaction, clock: Clock) -> bool:
    """Whether `tick` has something to do."""
    now = clock.now()
    sql = "SELECT 1 FROM schedules WHERE next_at <= ? OR planned_at > ? LIMIT 1"
    return tx.one(sql, (now, now + SET_BACK_SECONDS)) is not None


def tick(
    tx: Transaction, clock: Clock, kinds: Mapping[str, Kind], on_end: Callable[[Transaction, Job], None]
) -> list[Job]:
    """Ask for what is due; the jobs. One whose run before has not ended is there as skipped, and `on_end` is told."""
    now = clock.now()
    jobs = []
    rows = tx.all(
        "SELECT next_at, name, kind, expression, time_zone FROM schedules WHERE next_at <= ? OR planned_at > ?"
        " ORDER BY next_at",
        (now, now + SET_BACK_SECONDS),
    )
    for next_at, *row in rows:
        plan = Plan(*row)
        tx.run("UPDATE schedules SET next_at = ?, planned_at = ? WHERE name = ?", (_next(plan, now), now, plan.name))
        if next_at > now:
            continue  # It was planned by a clock that has been set back.
        if plan.kind not in kinds:
            continue  # Of another version of the program.
        if queue.unended(tx, plan.name):
            job = skip(tx, clock, kinds[plan.kind], actor=ACTOR, schedule=plan.name, reason=ALREADY_RUNNING)
            on_end(tx, job)
        else:
            job = request(tx, clock, kinds, plan.kind, actor=ACTOR, address="", schedule=plan.name)
        jobs.append(job)
    return jobs


async def step(
    database: Database, clock: Clock, kinds: Mapping[str, Kind], on_end: Callable[[Transaction, Job], None]
) -> list[Job]:
    """Ask for what is due; the jobs. Costs one point read if there is nothing."""
    if not await database.read(is_due, clock):
        return []
    return await database.write(tick, clock, kinds, on_end)


def _next(plan: Plan, after: float) -> float:
    return next_time(plan.expression, plan.time_zone, after)
