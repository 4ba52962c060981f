"""Leases, in simulated time: nobody writes of a job that is not theirs, and none is lost when a worker is."""

from __future__ import annotations

import asyncio

import pytest

from homeport.db.database import DatabaseError, Transaction
from homeport.jobs import queue
from homeport.jobs.queue import Job
from homeport.jobs.summary import Summary
from homeport.jobs.work import Run
from homeport.kinds import Outcome
from homeport.testing.database_faults import FailingDatabase
from tests.jobs.tools import LEASE_SECONDS, SUCCESS, Shop, hang, play


def test_a_long_run_keeps_its_lease() -> None:
    async def story(shop: Shop) -> None:
        async def work(_: Run) -> Summary:
            await shop.clock.sleep(3600)
            return SUCCESS

        shop.kind("work", work)
        asked = await shop.ask("work")
        running = asyncio.ensure_future(shop.worker().run_one())
        other = shop.worker()
        await shop.clock.sleep(1)
        while not running.done():
            assert not await other.run_one()
            await shop.clock.sleep(7)
        job = await shop.job(asked)
        assert (job.outcome, job.epoch) == (Outcome.SUCCESS, 1)

    play(story)


def test_a_worker_takes_no_job_from_itself() -> None:
    async def story(shop: Shop) -> None:
        async def work(_: Run) -> Summary:
            await shop.clock.sleep(5)
            # The machine was suspended, or its clock set forward: the lease seems to be over.
            shop.clock.advance(LEASE_SECONDS + 1)  # type: ignore[attr-defined]
            await shop.clock.sleep(5)
            return SUCCESS

        shop.kind("work", work)
        asked = await shop.ask("work")
        worker = shop.worker(count=3)
        running = asyncio.ensure_future(worker.run())
        while (job := await shop.job(asked)).state != "ended":
            await shop.clock.sleep(1)
        assert (job.outcome, job.epoch) == (Outcome.SUCCESS, 1)
        assert shop.logged("jobs.failed") == []
        await worker.stop(1)
        await running

    for seed in range(5):
        play(story, seed)


def test_jobs_whose_workers_die_end_after_a_few_attempts() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work", hang, attempts_max=3)
        asked = await shop.ask("work")
        for _ in range(3):
            await shop.database.write(queue.claim, shop.clock, "dies", {"work": LEASE_SECONDS})
            await shop.clock.sleep(LEASE_SECONDS)
        assert await shop.worker().run_one()
        job = await shop.job(asked)
        assert (job.outcome, job.reason) == (Outcome.ERROR, "its worker died, and that was attempt 3, the last")
        assert await shop.outcomes() == [(f"job-{job.id}", "error")]

    play(story)


def test_who_stood_still_for_longer_than_a_lease_writes_nothing() -> None:
    async def story(shop: Shop) -> None:
        taken: list[Job] = []

        async def work(run: Run) -> Summary:
            await run.say("mine")
            await shop.clock.sleep(5)
            shop.clock.advance(LEASE_SECONDS + 1)  # type: ignore[attr-defined]
            # Before anything else of this process comes to its turn, somebody else takes the job.
            job = await shop.database.write(queue.claim, shop.clock, "other", {"work": LEASE_SECONDS})
            assert job is not None
            taken.append(job)
            await run.say("not mine any more")
            await run.progress(1, 1)
            return Summary(Outcome.ERROR, "not mine any more")

        shop.kind("work", work)
        asked = await shop.ask("work")
        assert await shop.worker().run_one()
        job = await shop.job(asked)
        assert job == taken[0]
        assert await shop.said(job) == ["mine"]
        assert await shop.told() == []
        assert [line["job"] for line in shop.logged("job.lost")] == [job.id]
        # Whoever has it now ends it.
        assert await shop.database.write(queue.end, shop.clock, job, SUCCESS) is not None

    play(story)


def test_who_lost_its_job_is_stopped() -> None:
    async def story(shop: Shop) -> None:
        stopped: list[float] = []

        async def work(run: Run) -> Summary:
            try:
                return await hang(run)
            finally:
                stopped.append(shop.clock.monotonic())

        shop.kind("work", work)
        asked = await shop.ask("work")
        running = asyncio.ensure_future(shop.worker().run_one())
        await shop.clock.sleep(5)

        def steal(tx: Transaction) -> Job | None:
            tx.run("UPDATE jobs SET lease_until = 0")
            return queue.claim(tx, shop.clock, "other", {"work": LEASE_SECONDS})

        assert await shop.database.write(steal) is not None
        began = shop.clock.monotonic()
        await running
        assert stopped[0] - began < 3
        assert (await shop.job(asked)).state == "running"

    play(story)


def test_who_cannot_renew_its_lease_stops_before_somebody_else_begins() -> None:
    async def story(shop: Shop) -> None:
        stopped: list[float] = []

        async def work(run: Run) -> Summary:
            try:
                return await hang(run)
            finally:
                stopped.append(shop.clock.now())

        shop.kind("work", work)
        asked = await shop.ask("work")
        # It reads, claims, writes the first line; then it hears nothing more.
        cut_off = FailingDatabase(shop.database, 4, forever=True)
        await shop.worker(database=cut_off).run_one()
        job = await shop.job(asked)
        assert (job.state, job.epoch) == ("running", 1)
        assert shop.logged("job.lost")
        began = job.started_at
        assert began is not None
        # The beat that finds it out may come a second after the lease has lapsed.
        assert LEASE_SECONDS <= stopped[0] - began < LEASE_SECONDS + 3

    play(story)


@pytest.mark.parametrize("done", [False, True])
def test_an_end_that_cannot_be_written_is_written_later(done: bool) -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        asked = await shop.ask("work")
        failing = FailingDatabase(shop.database, 3, done=done)
        assert await shop.worker(database=failing).run_one()
        job = await shop.job(asked)
        assert (job.outcome, job.attempts) == (Outcome.SUCCESS, 1)
        assert await shop.outcomes() == [(f"job-{job.id}", "success")]

    play(story)


def test_an_end_that_can_never_be_written_lets_the_lease_lapse() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        asked = await shop.ask("work")
        assert await shop.worker(database=FailingDatabase(shop.database, 3, forever=True)).run_one()
        assert (await shop.job(asked)).state == "running"
        await shop.clock.sleep(LEASE_SECONDS)
        await shop.worker().run_until_idle()
        job = await shop.job(asked)
        assert (job.outcome, job.attempts) == (Outcome.SUCCESS, 2)

    play(story)


def test_the_end_and_what_is_told_of_it_are_one() -> None:
    async def story(shop: Shop) -> None:
        refused: list[int] = []

        class Picky(Shop):
            def on_end(self, tx: Transaction, job: Job) -> None:
                shop.on_end(tx, job)
                refused.append(job.id)
                if len(refused) < 3:
                    raise DatabaseError("not now")

        shop.kind("work")
        picky = Picky(shop.clock, shop.database)
        picky.kinds = shop.kinds
        asked = await shop.ask("work")
        await picky.worker().run_one()
        assert refused == [asked.id] * 3
        assert await shop.outcomes() == [(f"job-{asked.id}", "success")]

    play(story)
