"""The loop of a worker and its end, in simulated time: what cannot be finished is handed back, nothing is cut off."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate

import pytest

from homeport.db.database import Database, P, T, Transaction
from homeport.jobs import queue
from homeport.jobs.queue import Job
from homeport.jobs.summary import Summary
from homeport.jobs.work import Run
from homeport.jobs.worker import STUBBORN_SECONDS
from homeport.kinds import Outcome
from homeport.testing.database_faults import FailingDatabase
from tests.jobs.tools import SUCCESS, Shop, hang, play


def test_at_most_one_of_a_kind_and_at_most_so_many_at_once() -> None:
    async def story(shop: Shop) -> None:
        now: list[str] = []
        most: dict[str, int] = {}

        def body(name: str) -> Callable[[Run], Awaitable[Summary]]:
            async def work(_: Run) -> Summary:
                now.append(name)
                most[name] = max(most.get(name, 0), now.count(name))
                most["all"] = max(most.get("all", 0), len(now))
                await shop.clock.sleep(1 + 3 * shop.clock.random())
                now.remove(name)
                return SUCCESS

            return work

        shop.kind("alone", body("alone"))
        shop.kind("many", body("many"), one_at_a_time=False)
        for number in range(10):
            await shop.ask("alone", {"n": number})
            await shop.ask("many")
        worker = shop.worker(count=3)
        running = asyncio.ensure_future(worker.run())
        while len(await shop.told()) < 20:
            await shop.clock.sleep(1)
        assert (most["alone"], most["all"]) == (1, 3)
        await worker.stop(10)
        await running

    for seed in range(5):
        play(story, seed)


def test_who_has_nothing_to_do_reads_once_a_second() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        counted = FailingDatabase(shop.database)
        worker = shop.worker(database=counted)
        running = asyncio.ensure_future(worker.run())
        await shop.clock.sleep(600)
        assert set(counted.calls) == {"claimable"}
        assert 500 < len(counted.calls) <= 601
        asked = await shop.ask("work")
        await shop.clock.sleep(2)
        assert (await shop.job(asked)).state == "ended"
        await worker.stop(0)
        await running

    play(story)


def test_who_is_told_to_look_more_often_begins_sooner() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        worker = shop.worker(look_seconds=0.1)
        running = asyncio.ensure_future(worker.run())
        await shop.clock.sleep(10)
        asked = await shop.ask("work")
        await shop.clock.sleep(0.2)
        assert (await shop.job(asked)).state == "ended"
        await worker.stop(0)
        await running

    play(story)


def test_who_is_told_that_there_is_work_begins_at_once() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        worker = shop.worker(look_seconds=60, count=2)
        running = asyncio.ensure_future(worker.run())
        await shop.clock.sleep(100)
        asked = await shop.ask("work")
        worker.look_now()
        await shop.clock.sleep(1)
        assert (await shop.job(asked)).state == "ended"
        await worker.stop(0)
        await running

    play(story)


def test_what_is_told_while_it_looks_is_not_missed() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        late: list[Job] = []

        class Late(FailingDatabase):
            """Answers what was true when it was asked, and then there is a job."""

            async def read(self, fact: Any, *args: Any, **kwargs: Any) -> Any:
                found = await super().read(fact, *args, **kwargs)
                if not late:
                    late.append(await shop.ask("work"))
                    worker.look_now()
                return found

        worker = shop.worker(database=Late(shop.database), look_seconds=60)
        running = asyncio.ensure_future(worker.run())
        await shop.clock.sleep(1)
        assert (await shop.job(late[0])).state == "ended"
        await worker.stop(0)
        await running

    play(story)


def test_those_who_look_take_turns() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        counted = FailingDatabase(shop.database)
        times: list[float] = []
        worker = shop.worker(database=counted, count=4)
        running = asyncio.ensure_future(worker.run())
        for _ in range(100):
            before = len(counted.calls)
            await shop.clock.sleep(0.1)
            times += [shop.clock.now()] * (len(counted.calls) - before)
        gaps = [after - before for before, after in itertools.pairwise(times[8:])]
        assert max(gaps) < 0.5
        await worker.stop(0)
        await running

    play(story)


def test_a_database_that_fails_is_not_asked_more_often_for_that() -> None:
    async def story(shop: Shop) -> None:
        failing = FailingDatabase(shop.database, 1, forever=True)
        worker = shop.worker(database=failing, look_seconds=0.1)
        shop.kind("work")
        running = asyncio.ensure_future(worker.run())
        await shop.clock.sleep(60)
        assert len(failing.calls) <= 61
        await worker.stop(0)
        await running

    play(story)


def test_a_loop_outlives_a_database_that_fails() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        asked = await shop.ask("work")
        failing = FailingDatabase(shop.database, 1, forever=True)
        worker = shop.worker(database=failing)
        running = asyncio.ensure_future(worker.run())
        await shop.clock.sleep(10)
        assert len(shop.logged("jobs.failed")) >= 9
        failing.mend()
        await shop.clock.sleep(2)
        assert (await shop.job(asked)).state == "ended"
        await worker.stop(0)
        await running

    play(story)


def test_who_is_stopped_lets_run_what_ends_in_time() -> None:
    async def story(shop: Shop) -> None:
        async def work(_: Run) -> Summary:
            await shop.clock.sleep(10)
            return SUCCESS

        shop.kind("work", work)
        first, second = await shop.ask("work", {"n": 1}), await shop.ask("work", {"n": 2})
        worker = shop.worker()
        running = asyncio.ensure_future(worker.run())
        await shop.clock.sleep(5)
        assert worker.active == 1
        began = shop.clock.now()
        await worker.stop(30)
        assert shop.clock.now() - began < 10
        await running
        assert [(await shop.job(job)).state for job in (first, second)] == ["ended", "waiting"]
        assert not await worker.run_one()

    play(story)


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
def test_what_does_not_end_in_time_is_handed_back(how: str) -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work", hang, attempts_max=1)
        asked = await shop.ask("work")
        worker = shop.worker()
        running = asyncio.ensure_future(worker.run())
        await shop.clock.sleep(5)
        if how == "stopped":
            await worker.stop(3)
            await running
        else:
            running.cancel()
            await asyncio.wait([running])
        job = await shop.job(asked)
        assert (job.state, job.attempts, job.epoch) == ("waiting", 0, 1)
        assert await shop.said(job) == ["begun"]
        assert await shop.told() == []
        # Somebody else begins at once, without waiting for a lease.
        shop.kind("work", attempts_max=1)
        assert await shop.worker().run_one()
        assert (await shop.job(asked)).outcome is Outcome.SUCCESS

    play(story)


def test_what_does_not_stop_is_handed_back_all_the_same() -> None:
    async def story(shop: Shop) -> None:
        done = asyncio.Event()

        async def work(_: Run) -> Summary:
            while not done.is_set():
                try:
                    await shop.clock.sleep(1_000_000)
                except asyncio.CancelledError:
                    continue
            raise LookupError

        shop.kind("work", work)
        asked = await shop.ask("work")
        worker = shop.worker()
        running = asyncio.ensure_future(worker.run())
        await shop.clock.sleep(5)
        began = shop.clock.now()
        await worker.stop(3)
        await running
        assert shop.clock.now() - began < 3 + 2 * STUBBORN_SECONDS
        assert (await shop.job(asked)).state == "waiting"
        done.set()

    play(story)


def test_who_stops_what_is_being_cancelled_ends_it() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work", hang)
        asked = await shop.ask("work")
        worker = shop.worker()
        running = asyncio.ensure_future(worker.run_one())
        await shop.clock.sleep(5)
        await shop.database.write(queue.cancel, shop.clock, asked.id)
        await worker.stop(0)
        await running
        assert (await shop.job(asked)).outcome is Outcome.CANCELLED
        assert await shop.outcomes() == [(f"job-{asked.id}", "cancelled")]

    play(story)


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
def test_what_is_taken_at_that_moment_is_put_back(how: str) -> None:
    async def story(shop: Shop) -> None:
        begun: list[int] = []

        async def work(run: Run) -> Summary:
            begun.append(run.job.id)
            return SUCCESS

        shop.kind("work", work, attempts_max=1)
        asked = await shop.ask("work")
        slow = SlowDatabase(shop.database)
        worker = shop.worker(database=slow)
        running = asyncio.ensure_future(worker.run())
        await slow.committed.wait()
        assert (await shop.job(asked)).state == "running"
        if how == "stopped":
            await worker.stop(0)
            slow.answer.set()
            await running
        else:
            running.cancel()
            await shop.clock.sleep(1)
            slow.answer.set()
            await asyncio.wait([running])
        job = await shop.job(asked)
        assert (job.state, job.attempts, begun) == ("waiting", 0, [])

    for seed in range(5):
        play(story, seed)


class SlowDatabase(FailingDatabase):
    """Commits the first write, and answers when it is told to."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.committed = asyncio.Event()
        self.answer = asyncio.Event()

    async def write(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result = await super().write(fact, *args, **kwargs)
        self.committed.set()
        await self.answer.wait()
        return result
