"""What people ask for is done together with the event that says who asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from homeport import administration, events
from homeport.administration import Search
from homeport.clock import SystemClock
from homeport.db.database import Transaction
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.events import START, SYSTEM, Event, Origin
from homeport.jobs import queue
from homeport.jobs.queue import JobEnded, JobError
from homeport.jobs.summary import Summary
from homeport.jobs.work import Kind, Run
from homeport.kinds import Outcome

ADA = Origin("user:ada", "192.0.2.1", "request-1")
CLOCK = SystemClock()


async def run(run: Run) -> Summary:
    return Summary(Outcome.SUCCESS)


KINDS = {"housekeeping": Kind("housekeeping", run)}


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(MEMORY, CLOCK)
    yield database
    await database.close()


async def log(database: SqliteDatabase) -> list[Event]:
    return await database.read(events.after, START)


async def test_who_asked_for_a_run_is_in_the_log(database: SqliteDatabase) -> None:
    job = await database.write(administration.request, CLOCK, KINDS, "housekeeping", ADA, {"a": 1})
    assert (job.actor, job.address, dict(job.arguments)) == ("user:ada", "192.0.2.1", {"a": 1})
    (event,) = await log(database)
    assert (event.kind, event.actor, event.address, event.run) == (
        "job.requested",
        "user:ada",
        "192.0.2.1",
        "request-1",
    )
    assert (event.reason, event.detail) == ("housekeeping", {"job": job.id})
    with pytest.raises(JobError, match="there are: housekeeping"):
        await database.write(administration.request, CLOCK, KINDS, "mirroring", ADA)
    assert len(await log(database)) == 1


async def test_a_job_that_waits_ends_when_it_is_cancelled_and_that_is_told(database: SqliteDatabase) -> None:
    job = await database.write(administration.request, CLOCK, KINDS, "housekeeping", ADA)
    ended = await database.write(administration.cancel, CLOCK, ADA, job.id)
    assert (ended.state, ended.outcome) == ("ended", Outcome.CANCELLED)
    _, cancelled, finished = await log(database)
    assert (cancelled.kind, cancelled.actor) == ("job.cancelled", "user:ada")
    assert (finished.kind, finished.actor, finished.run) == ("housekeeping.finished", "system", f"job-{job.id}")
    assert finished.detail is not None
    assert (finished.detail["outcome"], finished.detail["job"]) == ("cancelled", job.id)
    with pytest.raises(JobEnded):
        await database.write(administration.cancel, CLOCK, ADA, job.id)
    assert len(await log(database)) == 3


async def test_a_job_that_runs_is_asked_to_stop_and_has_not_finished_by_that(database: SqliteDatabase) -> None:
    job = await database.write(administration.request, CLOCK, KINDS, "housekeeping", ADA)
    await database.write(queue.claim, CLOCK, "worker", {"housekeeping": 60.0})
    running = await database.write(administration.cancel, CLOCK, ADA, job.id)
    assert (running.state, running.cancel_requested) == ("running", True)
    assert [event.kind for event in await log(database)] == ["job.requested", "job.cancelled"]


async def test_an_ended_job_can_be_done_again(database: SqliteDatabase) -> None:
    job = await database.write(administration.request, CLOCK, KINDS, "housekeeping", ADA, {"a": 1})
    await database.write(administration.cancel, CLOCK, ADA, job.id)
    again = await database.write(administration.again, CLOCK, SYSTEM, job.id)
    assert again.id != job.id
    assert (again.state, again.actor, dict(again.arguments)) == ("waiting", "system", {"a": 1})
    assert (await log(database))[-1].kind == "job.retried"


def fill(tx: Transaction) -> None:
    for number in range(3_500):
        kind = "user.added" if number in (10, 3_000) else "tag.set"
        repository = None if kind == "user.added" else f"team/{number % 2}"
        events.append(tx, CLOCK, kind, ADA, repository=repository, reason=str(number))


async def test_events_are_found_from_the_end_and_from_a_position(database: SqliteDatabase) -> None:
    empty = await administration.newest(database, CLOCK, Search(), 10)
    assert (empty.events, empty.next) == ([], START)
    await database.write(fill)
    last = await administration.newest(database, CLOCK, Search(), 3)
    assert [event.reason for event in last.events] == ["3497", "3498", "3499"]
    assert last.next == last.events[-1].position
    rare = await administration.newest(database, CLOCK, Search("user.*"), 100)
    assert [event.reason for event in rare.events] == ["10", "3000"]
    assert rare.next == last.next
    assert (await administration.newest(database, CLOCK, Search("user.*"), 1)).events == rare.events[1:]
    odd = Search(repository="team/1")
    first = await administration.after(database, CLOCK, odd, START, 2)
    assert [event.reason for event in first.events] == ["1", "3"]
    rest = await administration.after(database, CLOCK, odd, first.next, 10_000)
    assert [event.reason for event in rest.events[:2]] == ["5", "7"]
    assert rest.next == last.next
    assert (await administration.after(database, CLOCK, odd, rest.next, 10)).events == []
    assert (await administration.after(database, CLOCK, Search("user.*"), START, 1)).events == rare.events[:1]
