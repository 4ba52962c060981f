"""What is old is forgotten, in small steps, and what fails keeps nothing else from going."""

from __future__ import annotations

import pytest

from homeport import events, housekeeping
from homeport.auth import tokens
from homeport.auth.actors import Limit, Right
from homeport.auth.tokens import Secret, Token
from homeport.db.database import DatabaseError, Transaction
from homeport.events import SYSTEM
from homeport.housekeeping import BATCH_ROWS, Prune
from homeport.jobs import queue
from homeport.jobs.queue import Job, JobError
from homeport.jobs.summary import Failure
from homeport.jobs.work import request
from homeport.kinds import JOBS, Outcome
from homeport.testing.simulation import SimulatedClock
from tests.jobs.tools import Shop, play

DAY = 86400.0


def pruned(shop: Shop, **prunes: tuple[Prune, float]) -> None:
    """The shop's only kind is a housekeeping with these."""
    shop.kinds = {housekeeping.NAME: housekeeping.kind(shop.database, shop.clock, lambda: prunes)}


async def tidy(shop: Shop, schedule: str | None = None) -> Job:
    def ask(tx: Transaction) -> Job:
        return request(tx, shop.clock, shop.kinds, housekeeping.NAME, actor="ada", address="", schedule=schedule)

    asked = await shop.database.write(ask)
    await shop.worker().run_until_idle()
    return await shop.job(asked)


def test_a_schedule_whose_clock_jumped_forgets_nothing_until_the_next_time() -> None:
    async def story(shop: Shop) -> None:
        def append(tx: Transaction) -> None:
            events.append(tx, shop.clock, "tag.set", SYSTEM)

        pruned(shop, events=(events.prune, 400 * DAY))
        for _ in range(3):
            await shop.database.write(append)
        await shop.clock.sleep(DAY)
        assert (await tidy(shop, "housekeeping")).outcome is Outcome.SUCCESS
        await shop.clock.sleep(2 * 365 * DAY)
        jumped = await tidy(shop, "housekeeping")
        assert (jumped.outcome, jumped.reason) == (Outcome.SKIPPED, housekeeping.CLOCK_JUMPED)
        assert len(await shop.database.read(events.latest, 99)) == 5
        await shop.clock.sleep(DAY)
        assert (await tidy(shop, "housekeeping")).outcome is Outcome.SUCCESS
        # Whoever asks for it has looked at the clock.
        await shop.clock.sleep(2 * 365 * DAY)
        assert (await tidy(shop)).outcome is Outcome.SUCCESS

    play(story)


def test_what_is_old_is_forgotten_and_the_rest_stays() -> None:
    async def story(shop: Shop) -> None:
        def append(tx: Transaction) -> None:
            events.append(tx, shop.clock, "tag.set", SYSTEM)

        pruned(shop, events=(events.prune, 400 * DAY), jobs=(queue.prune, 30 * DAY))
        for _ in range(3):
            await shop.database.write(append)
        old = await tidy(shop)
        await shop.clock.sleep(100 * DAY)
        job = await tidy(shop)
        assert job.summary is not None
        assert (job.outcome, job.summary.counts) == (Outcome.SUCCESS, {"events": 0, "jobs": 1})
        assert job.progress is not None
        assert (job.progress.done, job.progress.total) == (2, 2)
        assert await shop.said(job) == ["jobs: 1 forgotten"]
        assert await shop.database.read(queue.get, old.id) is None
        await shop.clock.sleep(350 * DAY)
        job = await tidy(shop)
        assert job.summary is not None
        assert job.summary.counts == {"events": 4, "jobs": 1}
        assert len(await shop.told()) == 2

    play(story)


def test_in_small_steps() -> None:
    async def story(shop: Shop) -> None:
        left, limits = [2 * BATCH_ROWS + 1], []

        def prune(tx: Transaction, before: float, limit: int) -> int:
            gone = min(limit, left[0])
            left[0] -= gone
            limits.append((limit, shop.clock.now() - before))
            return gone

        pruned(shop, things=(prune, 7 * DAY))
        job = await tidy(shop)
        assert job.summary is not None
        assert job.summary.counts == {"things": 2 * BATCH_ROWS + 1}
        assert {limit for limit, _ in limits} == {BATCH_ROWS}
        assert all(7 * DAY <= keep < 7 * DAY + 10 for _, keep in limits)

    play(story)


@pytest.mark.parametrize("error", [DatabaseError("the disk is full"), ValueError("the disk is full")])
def test_what_fails_keeps_nothing_else_from_going(error: Exception) -> None:
    async def story(shop: Shop) -> None:
        def broken(tx: Transaction, before: float, limit: int) -> int:
            raise error

        pruned(shop, jobs=(queue.prune, DAY))
        old = await tidy(shop)
        await shop.clock.sleep(2 * DAY)
        pruned(shop, events=(broken, DAY), jobs=(queue.prune, DAY))
        job = await tidy(shop)
        assert job.summary is not None
        assert job.outcome is Outcome.PARTIAL
        assert job.summary.failures == (Failure("events", "the disk is full"),)
        assert await shop.database.read(queue.get, old.id) is None
        pruned(shop, events=(broken, DAY))
        assert (await tidy(shop)).outcome is Outcome.ERROR

    play(story)


def test_the_tokens_that_expired_long_ago_go() -> None:
    async def story(shop: Shop) -> None:
        now = shop.clock.now()

        def add(tx: Transaction, days: float | None) -> str:
            assert isinstance(shop.clock, SimulatedClock)
            secret = Secret.new(shop.clock)
            expires = None if days is None else now + days * DAY
            limits = (Limit(("**",), frozenset({Right.PULL})),)
            token = Token(secret.id, "robot", "ci", None, secret.hash(), limits, "", now, expires, None)
            tokens.add(tx, shop.clock, SYSTEM, token)
            return secret.id

        gone = [await shop.database.write(add, days) for days in (1, 9)]
        kept = [await shop.database.write(add, days) for days in (11, 100, None)]
        await shop.clock.sleep(20 * DAY)
        pruned(shop, tokens=(tokens.prune, 10 * DAY))
        job = await tidy(shop)
        assert job.summary is not None
        assert job.summary.counts == {"tokens": len(gone)}
        assert {token.id for token in await shop.database.read(tokens.all_of)} == set(kept)
        # A batch is no larger than it is told.
        assert await shop.database.write(tokens.prune, shop.clock.now() + 1_000 * DAY, 1) == 1

    play(story)


def test_the_kind_is_one_that_people_know() -> None:
    assert housekeeping.NAME in JOBS


def test_an_argument_is_refused() -> None:
    async def story(shop: Shop) -> None:
        pruned(shop)
        with pytest.raises(JobError, match="housekeeping has no argument 'keep'; it takes none"):
            await shop.ask(housekeeping.NAME, {"keep": "1d"})

    play(story)
