"""Real processes on a real file: what one left when it was killed, another one takes over, and never too early."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeport.clock import SystemClock
from homeport.db.database import Transaction
from homeport.db.sqlite import SqliteDatabase
from homeport.jobs import queue
from homeport.kinds import Outcome
from tests.jobs.tools import Shop

pytestmark = pytest.mark.long

#: A worker whose job says where it is, and hangs.
CHILD = """
import asyncio, signal, sys
from homeport.clock import SystemClock
from homeport.db.sqlite import SqliteDatabase
from homeport.jobs.work import Kind
from homeport.jobs.worker import Worker
from homeport.observe import Log

async def hang(run):
    await run.say("begun by the one that dies")
    await run.flush()
    print("begun", run.job.epoch, flush=True)
    await asyncio.Event().wait()

async def main():
    clock = SystemClock()
    database = SqliteDatabase(sys.argv[1], clock)
    kinds = {"work": Kind("work", hang)}
    worker = Worker(database, clock, Log(sys.stderr, clock), kinds, count=1, on_end=lambda tx, job: None)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    running = asyncio.create_task(worker.run())
    await stopping.wait()
    await worker.stop(0.1)
    await running
    await database.close()

asyncio.run(main())
"""


class LaterClock(SystemClock):
    """The machine's time, and as much later as a test says."""

    later = 0.0

    def now(self) -> float:
        return super().now() + self.later


def lapse(tx: Transaction) -> None:
    """Let it be later for whoever holds a lease."""
    tx.run("UPDATE jobs SET lease_until = 1 WHERE state = 'running'")


class Victim:
    """A process with a worker."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def begun(self) -> str:
        """Wait until its job has begun."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def terminate(self) -> int:
        """SIGTERM; how it ended."""
        self.process.terminate()
        return self.process.wait()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    clock = LaterClock()
    database = SqliteDatabase(tmp_path / "homeport.db", clock)
    shop = Shop(clock, database)
    shop.kind("work")
    yield shop
    await database.close()


async def test_what_a_killed_process_ran_is_taken_over(shop: Shop, tmp_path: Path) -> None:
    asked = await shop.ask("work")
    victim = Victim(tmp_path / "homeport.db")
    try:
        assert victim.begun() == "begun 1"
    finally:
        victim.kill()
    worker = shop.worker()
    assert not await worker.run_one()
    assert isinstance(shop.clock, LaterClock)
    shop.clock.later = 61
    assert await worker.run_one()
    job = await shop.job(asked)
    assert (job.outcome, job.attempts, job.epoch) == (Outcome.SUCCESS, 2, 2)
    assert await shop.said(job) == ["begun by the one that dies"]
    assert await shop.outcomes() == [(f"job-{job.id}", "success")]


async def test_who_is_asked_to_end_hands_back_what_it_ran(shop: Shop, tmp_path: Path) -> None:
    asked = await shop.ask("work")
    victim = Victim(tmp_path / "homeport.db")
    try:
        assert victim.begun() == "begun 1"
        assert victim.terminate() == 0
    finally:
        victim.kill()
    # At once, and it counts as the first attempt.
    assert await shop.worker().run_one()
    job = await shop.job(asked)
    assert (job.outcome, job.attempts, job.epoch) == (Outcome.SUCCESS, 1, 2)


async def test_what_kills_its_processes_ends(shop: Shop, tmp_path: Path) -> None:
    asked = await shop.ask("work")
    for epoch in (1, 2, 3):
        victim = Victim(tmp_path / "homeport.db")
        try:
            assert victim.begun() == f"begun {epoch}"
        finally:
            victim.kill()

        await shop.database.write(lapse)
    assert await shop.worker().run_one()
    job = await shop.job(asked)
    assert (job.outcome, job.reason) == (Outcome.ERROR, "its worker died, and that was attempt 3, the last")
    assert len(await shop.said(job)) == 3


async def test_two_processes_share_the_work(shop: Shop, tmp_path: Path) -> None:
    first = await shop.ask("work")
    victim = Victim(tmp_path / "homeport.db")
    try:
        assert victim.begun() == "begun 1"
        # The other process has it, and at most one of the kind runs.
        second = await shop.ask("work")
        assert second.id != first.id
        worker = shop.worker()
        assert not await worker.run_one()
        # Cancelled from here, it stops over there, and this one is next.
        await shop.database.write(queue.cancel, shop.clock, first.id)
        while (await shop.job(first)).state != "ended":
            await shop.clock.sleep(0.05)
        assert (await shop.job(first)).outcome is Outcome.CANCELLED
        await worker.run_one(second.id)
    finally:
        victim.kill()
