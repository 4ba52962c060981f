"""Workers, in simulated time: every job ends, however it goes, and nobody writes of a job that is not theirs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from homeport.db.database import DatabaseError, Transaction
from homeport.jobs import joblog, queue
from homeport.jobs.joblog import LINES_MAX
from homeport.jobs.queue import Job, JobEnded, Progress
from homeport.jobs.summary import Failure, Summary
from homeport.jobs.work import Run, Temporary
from homeport.jobs.worker import RETRY_SECONDS, RETRY_SECONDS_MAX, STUBBORN_SECONDS, retry_seconds
from homeport.kinds import Outcome
from homeport.testing.database_faults import FailingDatabase
from tests.jobs.tools import SUCCESS, Shop, play

LEASE_SECONDS = 60


async def hang(run: Run) -> Summary:
    await run.say("begun")
    await asyncio.Event().wait()
    raise AssertionError


# --- from the queue to the end ----------------------------------------------------------------------------------


def test_a_job_runs_to_its_end() -> None:
    async def story(shop: Shop) -> None:
        async def work(run: Run) -> Summary:
            await run.say(f"copying {run.arguments['image']}\ncopied")
            await run.progress(1, 2, "images", "app:1")
            await shop.clock.sleep(5)
            return Summary.of({"copied": 1}, [Failure("app:2", "gone")], 1)

        shop.kind("work", work)
        asked = await shop.ask("work", {"image": "app:1"})
        worker = shop.worker()
        assert await worker.run_one()
        job = await shop.job(asked)
        assert (job.state, job.outcome, job.attempts) == ("ended", Outcome.PARTIAL, 1)
        assert job.progress == Progress(1, 2, "images", "app:1")
        assert await shop.said(job) == ["copying app:1", "copied"]
        (event,) = await shop.told()
        assert (event.detail, event.run) == (job.result(), f"job-{job.id}")
        assert job.seconds is not None
        assert 5 <= job.seconds < 7
        assert not await worker.run_one()
        assert worker.active == 0

    play(story)


def test_until_idle_and_only_one() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        first, second, third = [await shop.ask("work", {"n": number}) for number in range(3)]
        worker = shop.worker()
        assert await worker.run_one(second.id)
        assert not await worker.run_one(second.id)
        assert [(await shop.job(job)).state for job in (first, second, third)] == ["waiting", "ended", "waiting"]
        await worker.run_until_idle()
        assert [outcome for _, outcome in await shop.outcomes()] == ["success"] * 3

    play(story)


class Unusual(BaseException):
    """What no `except Exception` catches."""


async def _nothing(_: Run) -> Summary:
    return None  # type: ignore[return-value]


async def _raise(error: BaseException) -> Summary:
    raise error


async def _recursion(run: Run) -> Summary:
    return await _recursion(run)


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (lambda _: _raise(ValueError("no such\nthing")), "ValueError: no such thing"),
        (lambda _: _raise(KeyError("x")), "KeyError: 'x'"),
        (lambda _: _raise(TimeoutError()), "TimeoutError"),
        (lambda _: _raise(DatabaseError("the disk is full")), "the disk is full"),
        (lambda _: _raise(SystemExit(3)), "SystemExit: 3"),
        (lambda _: _raise(Unusual("odd")), "odd"),
        (lambda _: _raise(asyncio.CancelledError()), "it cancelled itself"),
        (lambda _: _raise(StopAsyncIteration()), "StopAsyncIteration"),
        (lambda _: sys.exit("not like this"), "SystemExit: not like this"),
        (_nothing, "TypeError: the job returned no summary but NoneType"),
        (_recursion, "RecursionError: maximum recursion depth exceeded"),
        (lambda _: _raise(ValueError("x" * 10_000_000)), "ValueError: " + "x" * 987 + "…"),
    ],
    ids=range(12),
)
def test_whatever_it_raises_it_ends(work: Callable[[Run], Awaitable[Summary]], reason: str) -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work", work)
        shop.kind("next")
        asked, after = await shop.ask("work"), await shop.ask("next")
        await shop.worker().run_until_idle()
        job = await shop.job(asked)
        assert (job.state, job.outcome) == ("ended", Outcome.ERROR)
        assert job.reason is not None
        assert job.reason.startswith(reason)
        assert "Traceback" not in job.reason
        assert await shop.outcomes() == [(f"job-{job.id}", "error"), (f"job-{after.id}", "success")]
        traces = [line["traceback"] for line in shop.logged("job.raised")]
        assert all("Traceback" in trace or len(trace) > 1_000 for trace in traces)
        assert len(traces) == (0 if "cancelled" in reason else 1)

    play(story)


# --- again later ------------------------------------------------------------------------------------------------


def test_what_may_be_gone_later_is_tried_again() -> None:
    async def story(shop: Shop) -> None:
        async def work(run: Run) -> Summary:
            if run.job.attempts < 3:
                raise Temporary("the vault is locked")
            return SUCCESS

        shop.kind("work", work)
        asked = await shop.ask("work")
        worker = shop.worker()
        for attempt in (1, 2):
            began = shop.clock.now()
            assert await worker.run_one()
            job = await shop.job(asked)
            assert (job.state, job.attempts, job.reason) == ("waiting", attempt, "the vault is locked")
            pause = job.due_at - began
            assert RETRY_SECONDS * 2 ** (attempt - 1) / 2 <= pause <= RETRY_SECONDS * 2 ** (attempt - 1) + 1
            assert await shop.told() == []
            assert not await worker.run_one()
            await shop.clock.sleep(pause)
        assert await worker.run_one()
        assert (await shop.job(asked)).outcome is Outcome.SUCCESS
        said = await shop.said(asked)
        assert [line.partition(" (")[0] for line in said] == ["the vault is locked"] * 2

    play(story)


def test_but_not_for_ever() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work", lambda _: _raise(Temporary("the vault is locked")), attempts_max=2)
        asked = await shop.ask("work")
        worker = shop.worker()
        assert await worker.run_one()
        await shop.clock.sleep(3600)
        assert await worker.run_one()
        job = await shop.job(asked)
        assert (job.outcome, job.reason, job.attempts) == (Outcome.ERROR, "the vault is locked", 2)
        assert await shop.outcomes() == [(f"job-{job.id}", "error")]

    play(story)


def test_the_pauses_grow_up_to_an_hour() -> None:
    assert [retry_seconds(attempts, 0.0) for attempts in (1, 2, 3)] == [5.0, 10.0, 20.0]
    for attempts in (1, 5, 10, 1_000_000):
        low, high = retry_seconds(attempts, 0.0), retry_seconds(attempts, 0.999999)
        assert low < high < 2 * low + 0.1
        assert high <= RETRY_SECONDS_MAX


# --- cancel -----------------------------------------------------------------------------------------------------


def test_a_run_that_is_cancelled_stops() -> None:
    async def story(shop: Shop) -> None:
        seen: list[bool] = []

        async def work(run: Run) -> Summary:
            try:
                return await hang(run)
            finally:
                seen.append(run.cancelled)

        shop.kind("work", work)
        asked = await shop.ask("work")
        running = asyncio.ensure_future(shop.worker().run_one())
        await shop.clock.sleep(10)
        assert await shop.said(asked) == ["begun"]
        assert (await shop.database.write(queue.cancel, shop.clock, asked.id)).state == "running"
        began = shop.clock.now()
        assert await running
        assert shop.clock.now() - began < 3
        job = await shop.job(asked)
        assert (job.outcome, job.reason, seen) == (Outcome.CANCELLED, None, [True])
        assert await shop.outcomes() == [(f"job-{job.id}", "cancelled")]
        with pytest.raises(JobEnded):
            await shop.database.write(queue.cancel, shop.clock, asked.id)

    play(story)


def test_what_a_cancelled_run_has_done_is_told() -> None:
    async def story(shop: Shop) -> None:
        async def work(run: Run) -> Summary:
            try:
                return await hang(run)
            except asyncio.CancelledError:
                return Summary(Outcome.SUCCESS, "stopped early", {"copied": 3})

        shop.kind("work", work)
        asked = await shop.ask("work")
        running = asyncio.ensure_future(shop.worker().run_one())
        await shop.clock.sleep(3)
        await shop.database.write(queue.cancel, shop.clock, asked.id)
        await running
        job = await shop.job(asked)
        assert job.summary == Summary(Outcome.CANCELLED, None, {"copied": 3})

    play(story)


def test_a_run_that_misses_that_it_is_cancelled_is_cancelled_again() -> None:
    async def story(shop: Shop) -> None:
        async def work(run: Run) -> Summary:
            for _ in range(5):
                try:
                    await hang(run)
                except asyncio.CancelledError:
                    continue
            raise Temporary("it has nothing more to hold on to")

        shop.kind("work", work)
        asked = await shop.ask("work")
        running = asyncio.ensure_future(shop.worker().run_one())
        await shop.clock.sleep(3)
        await shop.database.write(queue.cancel, shop.clock, asked.id)
        await running
        assert (await shop.job(asked)).outcome is Outcome.CANCELLED

    play(story)


def test_one_that_waits_for_its_next_attempt_is_cancelled_at_once() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work", lambda _: _raise(Temporary("not yet")))
        asked = await shop.ask("work")
        worker = shop.worker()
        await worker.run_one()
        job = await shop.database.write(queue.cancel, shop.clock, asked.id)
        assert (job.state, job.outcome) == ("ended", Outcome.CANCELLED)
        await shop.clock.sleep(3600)
        assert not await worker.run_one()

    play(story)


def test_one_that_fails_for_now_while_it_is_cancelled_is_not_tried_again() -> None:
    async def story(shop: Shop) -> None:
        async def work(run: Run) -> Summary:
            await shop.database.write(queue.cancel, shop.clock, run.job.id)
            raise Temporary("not yet")

        shop.kind("work", work)
        asked = await shop.ask("work")
        await shop.worker().run_one()
        assert (await shop.job(asked)).outcome is Outcome.CANCELLED
        assert await shop.outcomes() == [(f"job-{asked.id}", "cancelled")]

    play(story)


def test_one_whose_worker_died_is_cancelled_when_its_lease_has_lapsed() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work", hang)
        asked = await shop.ask("work")
        await shop.database.write(queue.claim, shop.clock, "dead", {"work": LEASE_SECONDS})
        await shop.database.write(queue.cancel, shop.clock, asked.id)
        worker = shop.worker()
        assert not await worker.run_one()
        await shop.clock.sleep(LEASE_SECONDS)
        assert await worker.run_one()
        assert (await shop.job(asked)).outcome is Outcome.CANCELLED
        assert await shop.outcomes() == [(f"job-{asked.id}", "cancelled")]

    play(story)


# --- leases -----------------------------------------------------------------------------------------------------


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


# --- the loop, and its end --------------------------------------------------------------------------------------


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


# --- storms -----------------------------------------------------------------------------------------------------


def test_a_storm_of_progress_is_a_write_a_second() -> None:
    async def story(shop: Shop) -> None:
        async def work(run: Run) -> Summary:
            began = shop.clock.monotonic()
            for number in range(20_000):
                await run.progress(number, 20_000, "bytes")
            await run.progress(20_000, 20_000, "bytes")
            seconds.append(shop.clock.monotonic() - began)
            return SUCCESS

        seconds: list[float] = []
        shop.kind("work", work)
        asked = await shop.ask("work")
        counted = FailingDatabase(shop.database)
        await shop.worker(database=counted).run_one()
        assert len(counted.calls) <= seconds[0] + 5
        assert (await shop.job(asked)).progress == Progress(20_000, 20_000, "bytes", "")

    play(story)


def test_a_storm_of_lines_keeps_the_last_ones() -> None:
    async def story(shop: Shop) -> None:
        async def work(run: Run) -> Summary:
            for number in range(12_345):
                await run.say(f"line {number}")
            await run.say("x" * 10_000_000)
            await run.say("\n" * 1_000_000)
            await run.say("last")
            return SUCCESS

        shop.kind("work", work)
        asked = await shop.ask("work")
        counted = FailingDatabase(shop.database)
        await shop.worker(database=counted).run_one()
        said = await shop.said(asked)
        assert len(said) == LINES_MAX
        assert said[-1] == "last"
        assert counted.calls.count("_write") < 100

    play(story)


def test_lines_are_there_while_it_runs_and_in_order() -> None:
    async def story(shop: Shop) -> None:
        async def work(run: Run) -> Summary:
            for number in range(30):
                await run.say(str(number))
                await shop.clock.sleep(0.7)
            return SUCCESS

        shop.kind("work", work)
        asked = await shop.ask("work")
        running = asyncio.ensure_future(shop.worker().run_one())
        await shop.clock.sleep(10)
        assert 8 <= len(await shop.said(asked)) < 20
        await running
        lines = await shop.database.read(joblog.lines, asked.id)
        assert [(line.number, line.text) for line in lines] == [(number + 1, str(number)) for number in range(30)]
        assert lines == sorted(lines, key=lambda line: line.said_at)

    for seed in range(5):
        play(story, seed)


def test_the_rows_that_a_run_is_handed_do_not_change() -> None:
    async def story(shop: Shop) -> None:
        seen: list[Job] = []

        async def work(run: Run) -> Summary:
            seen.append(run.job)
            return SUCCESS

        shop.kind("work", work)
        asked = await shop.ask("work", {"x": [1, 2]})
        await shop.worker().run_one()
        (job,) = seen
        assert job == replace(asked, state="running", attempts=1, epoch=1, started_at=job.started_at)

    play(story)
