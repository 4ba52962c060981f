"""What starts by itself: at the right time in every zone, once for what was missed, never beside itself."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest

from homeport.db.database import Row, Transaction
from homeport.jobs import queue, schedule
from homeport.jobs.queue import Job
from homeport.jobs.schedule import Plan, next_time
from homeport.kinds import SKIPS, Outcome
from tests.jobs.tools import SUCCESS, Shop, play

NIGHTLY = Plan("nightly", "work", "0 2 * * *", "UTC")


def times(expression: str, zone: str, start: str, count: int) -> list[str]:
    """The next times after `start` (UTC), as the clock on a wall of that zone shows them, with its offset."""
    after, found = datetime.fromisoformat(f"{start}+00:00").timestamp(), []
    for _ in range(count):
        after = next_time(expression, zone, after)
        found.append(datetime.fromtimestamp(after, ZoneInfo(zone)).strftime("%d %H:%M %z"))
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        ("0 2 * * *", "UTC", "2026-11-23T01:59:59", ["23 02:00 +0000", "24 02:00 +0000"]),
        ("0 2 * * *", "UTC", "2026-11-23T02:00", ["24 02:00 +0000"]),
        ("0 2 * * *", "America/New_York", "2026-11-23T01:00", ["23 02:00 -0500"]),
        ("*/20 * * * *", "UTC", "2026-11-23T02:30", ["23 02:40 +0000", "23 03:00 +0000"]),
        ("0 0 29 2 *", "UTC", "2026-11-23T00:00", ["29 00:00 +0000"]),
        ("0 12 * * SUN", "Europe/Paris", "2026-11-23T00:00", ["29 12:00 +0100"]),
        # Spring: on the 29th of March 2026 there is no time between 02:00 and 03:00 in Paris.
        ("30 2 * * *", "Europe/Paris", "2026-03-28T00:00", ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]),
        ("0 2 * * *", "Europe/Paris", "2026-03-28T12:00", ["29 03:00 +0200", "30 02:00 +0200"]),
        ("0 3 * * *", "Europe/Paris", "2026-03-28T12:00", ["29 03:00 +0200", "30 03:00 +0200"]),
        ("0 * * * *", "Europe/Paris", "2026-03-28T23:30", ["29 01:00 +0100", "29 03:00 +0200", "29 04:00 +0200"]),
        # Autumn: on the 25th of October 2026 the hour from 02:00 comes twice in Paris.
        ("30 2 * * *", "Europe/Paris", "2026-10-24T12:00", ["25 02:30 +0200", "26 02:30 +0100"]),
        ("0 3 * * *", "Europe/Paris", "2026-10-24T12:00", ["25 03:00 +0100", "26 03:00 +0100"]),
        ("0 * * * *", "Europe/Paris", "2026-10-24T23:30", ["25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"]),
        # Asked between the two, a time that had its turn does not come again.
        ("30 2 * * *", "Europe/Paris", "2026-10-25T01:10", ["26 02:30 +0100"]),
        ("30 2 * * *", "Europe/Paris", "2026-10-25T00:31", ["26 02:30 +0100"]),
        # Half an hour of summer time.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", ["04 02:30 +1100", "05 02:15 +1100"]),
    ],
)
def test_the_next_time(expression: str, zone: str, start: str, expected: list[str]) -> None:
    assert times(expression, zone, start, len(expected)) == expected


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/30 2 * * *", "0 * * * *", "17 1-3 * * *", "*/7 * * * 6,0"])
@pytest.mark.parametrize("start", ["2026-03-28T21:00", "2026-10-24T21:00"])
def test_it_always_lies_ahead(expression: str, start: str) -> None:
    moment = datetime.fromisoformat(f"{start}+00:00").timestamp()
    for minute in range(0, 10 * 60, 7):
        after = moment + 60 * minute + 0.25
        found = next_time(expression, "Europe/Paris", after)
        assert found > after
        assert datetime.fromtimestamp(found, UTC).second == 0


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6 *", "often"])
def test_a_time_that_never_comes(expression: str) -> None:
    with pytest.raises(ValueError, match="never comes"):
        next_time(expression, "UTC", 1_800_000_000)


# --- the rows ---------------------------------------------------------------------------------------------------


def rows(tx: Transaction) -> list[Row]:
    return tx.all("SELECT name, kind, expression, time_zone, next_at FROM schedules ORDER BY name")


def clock_time(shop: Shop) -> str:
    return datetime.fromtimestamp(shop.clock.now(), UTC).strftime("%d %H:%M")


async def sync(shop: Shop, *plans: Plan) -> list[Row]:
    await shop.database.write(schedule.sync, shop.clock, plans)
    return await shop.database.read(rows)


async def step(shop: Shop) -> list[Job]:
    return await schedule.step(shop.database, shop.clock, shop.kinds, shop.on_end)


def test_it_starts_when_it_is_due() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        await sync(shop, NIGHTLY)
        assert clock_time(shop) == "14 22:13"
        assert await step(shop) == []
        await shop.clock.sleep(4 * 3600)
        (job,) = await step(shop)
        assert (job.kind, job.state, job.schedule, job.actor) == ("work", "waiting", "nightly", "system")
        assert await step(shop) == []
        await shop.worker().run_until_idle()
        assert (await shop.job(job)).outcome is Outcome.SUCCESS
        await shop.clock.sleep(24 * 3600)
        assert len(await step(shop)) == 1

    play(story)


def test_what_was_missed_starts_once() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        await sync(shop, NIGHTLY)
        await shop.clock.sleep(10 * 86400)
        # The program starts again, with the same configuration.
        await sync(shop, NIGHTLY)
        assert len(await step(shop)) == 1
        assert await step(shop) == []
        (row,) = await shop.database.read(rows)
        assert 0 < row[4] - shop.clock.now() < 86400

    play(story)


def test_a_clock_that_is_set_back_stops_no_schedule() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        right = shop.clock.now()
        shop.clock.advance(365 * 86400)  # type: ignore[attr-defined]
        await sync(shop, NIGHTLY)
        await shop.clock.sleep(86400)
        assert len(await step(shop)) == 1
        wrong = shop.clock.now()
        with patch.object(shop.clock, "now", lambda: wrong - 1800):
            assert not await shop.database.read(schedule.is_due, shop.clock)
        with patch.object(shop.clock, "now", lambda: right):
            assert await step(shop) == []
            assert not await shop.database.read(schedule.is_due, shop.clock)
        (row,) = await shop.database.read(rows)
        assert 0 < row[4] - right < 86400

    play(story)


def test_runs_of_one_schedule_never_overlap() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        await sync(shop, NIGHTLY)
        await shop.clock.sleep(86400)
        (first,) = await step(shop)
        # Waiting, and then running.
        for running in (False, True):
            if running:
                claimed = await shop.database.write(queue.claim, shop.clock, "me", {"work": 7 * 86400.0})
                assert claimed is not None
                first = claimed
            await shop.clock.sleep(86400)
            (skipped,) = await step(shop)
            assert (skipped.state, skipped.outcome, skipped.reason) == ("ended", Outcome.SKIPPED, "already-running")
            assert skipped.reason in SKIPS
            assert (skipped.schedule, skipped.seconds) == ("nightly", 0.0)
            assert (await shop.outcomes())[-1] == (f"job-{skipped.id}", "skipped")
        await shop.database.write(queue.end, shop.clock, first, SUCCESS)
        await shop.clock.sleep(86400)
        (second,) = await step(shop)
        assert second.state == "waiting"

    play(story)


def test_a_skipped_run_that_is_asked_for_again_waits_for_the_one_that_runs() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        await sync(shop, NIGHTLY)
        await shop.clock.sleep(86400)
        await step(shop)
        running = await shop.database.write(queue.claim, shop.clock, "me", {"work": 60.0})
        assert running is not None
        await shop.clock.sleep(86400)
        await shop.database.write(queue.renew, shop.clock, running, 60.0)
        (skipped,) = await step(shop)
        again = await shop.database.write(queue.again, shop.clock, skipped.id, "ada", "")
        assert await shop.database.write(queue.claim, shop.clock, "other", {"work": 60.0}) is None
        assert await shop.ask("work") == again
        await shop.database.write(queue.end, shop.clock, running, SUCCESS)
        assert await shop.database.read(queue.claimable, shop.clock, ["work"]) == again.id

    play(story)


def test_another_schedule_of_the_kind_and_people_are_no_overlap() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        asked = await shop.ask("work", {"by": "hand"})
        await sync(shop, NIGHTLY, Plan("other", "work", "0 2 * * *", "UTC"))
        await shop.clock.sleep(86400)
        found = await step(shop)
        # The two want the same, so one job that waits serves for both.
        assert [job.state for job in found] == ["waiting"] * 2
        assert len({asked.id, *(job.id for job in found)}) == 2

    play(story)


def test_what_the_configuration_says_now_counts() -> None:
    async def story(shop: Shop) -> None:
        shop.kind("work")
        before = await sync(shop, NIGHTLY, Plan("weekly", "work", "0 0 * * 0", "UTC"))
        assert [row[0] for row in before] == ["nightly", "weekly"]
        # Nothing changed, and it is no matter that time went by.
        await shop.clock.sleep(60)
        assert await sync(shop, NIGHTLY, Plan("weekly", "work", "0 0 * * 0", "UTC")) == before
        (paris,) = await sync(shop, Plan("nightly", "work", "0 2 * * *", "Europe/Paris"))
        assert paris[4] == before[0][4] - 3600
        (hourly,) = await sync(shop, Plan("nightly", "work", "0 * * * *", "Europe/Paris"))
        assert 0 < hourly[4] - shop.clock.now() <= 3600
        # What was due under the old line and did not start is not due any more.
        await shop.clock.sleep(2 * 3600)
        await sync(shop, NIGHTLY)
        assert await step(shop) == []
        assert await sync(shop, Plan("nightly", "work", "never", "UTC")) == []
        await shop.clock.sleep(86400)
        assert await step(shop) == []

    play(story)


def test_a_kind_that_only_another_version_has() -> None:
    async def story(shop: Shop) -> None:
        await sync(shop, NIGHTLY)
        await shop.clock.sleep(86400)
        assert await step(shop) == []
        assert await shop.database.read(queue.listed) == []
        assert not await shop.database.read(schedule.is_due, shop.clock)

    play(story)
