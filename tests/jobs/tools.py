"""What the tests of jobs share: a queue in simulated time, whose ended jobs are told as the program tells them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from homeport import events
from homeport.clock import Clock
from homeport.db.database import Database, Transaction
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.events import Event, Origin
from homeport.jobs import joblog, queue
from homeport.jobs.queue import Job
from homeport.jobs.summary import Summary
from homeport.jobs.work import Kind, Run, request
from homeport.jobs.worker import BEAT_SECONDS, Worker
from homeport.kinds import Outcome
from homeport.observe import Log
from homeport.testing.simulation import SimulatedClock, run

SUCCESS = Summary(Outcome.SUCCESS)
#: Of the kinds that say nothing else.
LEASE_SECONDS = 60


async def succeed(_: Run) -> Summary:
    return SUCCESS


async def hang(run: Run) -> Summary:
    """Say so, and come to no end."""
    await run.say("begun")
    await asyncio.Event().wait()
    raise AssertionError


class Shop:
    """A database, and workers on it."""

    def __init__(self, clock: Clock, database: Database) -> None:
        self.clock = clock
        self.database = database
        self.stream = io.StringIO()
        self.log = Log(self.stream, clock)
        self.kinds: dict[str, Kind] = {}

    def kind(self, name: str, run: Callable[[Run], Awaitable[Summary]] = succeed, **options: Any) -> Kind:
        self.kinds[name] = Kind(name, run, **options)
        return self.kinds[name]

    def worker(self, count: int = 1, database: Database | None = None, look_seconds: float = BEAT_SECONDS) -> Worker:
        return Worker(
            database or self.database,
            self.clock,
            self.log,
            self.kinds,
            count=count,
            on_end=self.on_end,
            look_seconds=look_seconds,
        )

    def on_end(self, tx: Transaction, job: Job) -> None:
        """As the program does it, but for the kind of the event, which these jobs have not."""
        events.append(
            tx, self.clock, "housekeeping.finished", Origin(job.actor, run=f"job-{job.id}"), detail=job.result()
        )

    async def ask(self, name: str, arguments: Mapping[str, Any] | None = None) -> Job:
        return await self.database.write(
            request, self.clock, self.kinds, name, actor="ada", address="192.0.2.1", arguments=arguments
        )

    async def job(self, job: Job) -> Job:
        found = await self.database.read(queue.get, job.id)
        assert found is not None
        return found

    async def said(self, job: Job) -> list[str]:
        return [line.text for line in await self.database.read(joblog.lines, job.id, limit=1_000_000)]

    async def told(self) -> list[Event]:
        return await self.database.read(events.after, events.START)

    async def outcomes(self) -> list[tuple[str | None, str]]:
        """Run and outcome of what was told."""
        return [(event.run, event.detail["outcome"]) for event in await self.told() if event.detail]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of the program's log with this event."""
        self.log.flush()
        lines: Sequence[dict[str, Any]] = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


def play(story: Callable[[Shop], Awaitable[None]], seed: int = 1) -> None:
    """Let a story happen in simulated time, on SQLite in memory."""
    clock = SimulatedClock(seed)

    async def main() -> None:
        database = SqliteDatabase(MEMORY, clock)
        await story(Shop(clock, database))
        await database.close()

    run(clock, main)
