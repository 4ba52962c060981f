"""Workers, in simulated time: every job ends, however it goes, and what it said is there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from homeport.db.database import DatabaseError
from homeport.jobs import joblog, queue
from homeport.jobs.joblog import LINES_MAX
from homeport.jobs.queue import Job, JobEnded, Progress
from homeport.jobs.summary import Failure, Summary
from homeport.jobs.work import Run, Temporary
from homeport.jobs.worker import RETRY_SECONDS, RETRY_SECONDS_MAX, retry_seconds
from homeport.kinds import Outcome
from homeport.testing.database_faults import FailingDatabase
from tests.jobs.tools import LEASE_SECONDS, SUCCESS, Shop, hang, play

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
