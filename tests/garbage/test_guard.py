"""Whether the clock can be believed: while it runs, over a restart, and between processes."""

from __future__ import annotations

import asyncio

import pytest

from homeport.garbage import guard
from homeport.garbage.guard import JUMP_SECONDS, OFF_SECONDS_MAX, SETTLING_SECONDS, ClockGuard
from homeport.registry import manifests
from homeport.testing.images import image
from tests.garbage.cleaning import DAY, HOUR, LONG, Cleaning, settle
from tests.registry.world import ADA, REPOSITORY

APP = image([b"layer one"])


async def told(cleaning: Cleaning) -> list[str]:
    """Why it stopped, as often as that was told."""
    return [event.reason or "" for event in await cleaning.events() if event.kind == "cleanup.stopped"]


async def confirm(cleaning: Cleaning) -> str | None:
    return await cleaning.registry.db.write(guard.confirm, cleaning.registry, ADA)


async def test_time_that_passes_is_no_jump(cleaning: Cleaning) -> None:
    """Also where the machine slept: the time that a process counts goes on then."""
    for seconds in (1, 59, 61, HOUR, 2 * DAY, 30 * DAY):
        cleaning.pass_time(seconds)
        assert await cleaning.guard.stopped() is None
    assert await told(cleaning) == []


@pytest.mark.parametrize("jump", [2 * HOUR, 400 * DAY, -2 * HOUR, -400 * DAY])
async def test_a_jump_while_it_runs_stops_it(cleaning: Cleaning, jump: float) -> None:
    cleaning.pass_time(HOUR)
    cleaning.clock.wrong += jump
    reason = await cleaning.guard.stopped()
    assert reason is not None
    assert "the clock jumped by" in reason
    assert ("2.0 hours" if abs(jump) < DAY else "400 days") in reason
    assert await told(cleaning) == [reason]


@pytest.mark.parametrize("jump", [JUMP_SECONDS - 60, 60 - JUMP_SECONDS])
async def test_a_clock_that_is_set_right_by_less_than_an_hour_is_believed(cleaning: Cleaning, jump: float) -> None:
    """As where summer time begins on a machine that keeps local time."""
    cleaning.clock.wrong += jump
    assert await cleaning.guard.stopped() is None


async def test_many_small_steps_are_believed_since_time_servers_make_them(cleaning: Cleaning) -> None:
    for _ in range(20):
        cleaning.clock.wrong += 300
        assert await cleaning.guard.stopped() is None


async def test_it_stays_stopped_when_the_clock_is_right_again_and_is_told_once(cleaning: Cleaning) -> None:
    cleaning.clock.wrong += 2 * DAY
    reason = await cleaning.guard.stopped()
    cleaning.clock.wrong = 0.0
    for _ in range(3):
        cleaning.pass_time(HOUR)
        assert await cleaning.guard.stopped() == reason
    assert await told(cleaning) == [reason]


async def test_it_stays_stopped_over_a_restart(cleaning: Cleaning) -> None:
    cleaning.clock.wrong -= 2 * DAY
    reason = await cleaning.guard.stopped()
    await cleaning.restart()
    assert await cleaning.guard.stopped() == reason
    cleaning.clock.wrong = 0.0
    await cleaning.restart()
    assert await cleaning.guard.stopped() == reason
    assert await told(cleaning) == [reason]


async def test_a_machine_that_was_off_for_two_days_goes_on(cleaning: Cleaning) -> None:
    await cleaning.restart()
    cleaning.pass_time(2 * DAY)
    assert await cleaning.guard.stopped() is None


async def test_a_machine_that_was_off_for_a_week_asks_a_person(cleaning: Cleaning) -> None:
    await cleaning.restart()
    cleaning.pass_time(7 * DAY)
    reason = await cleaning.guard.stopped()
    assert reason is not None
    assert "7 days after the last thing that happened" in reason


async def test_it_is_asked_again_and_again_until_a_person_answers(cleaning: Cleaning) -> None:
    """Also while the first minutes last, and whatever happens in them: that has the same time."""
    await cleaning.restart()
    cleaning.pass_time(7 * DAY)
    for _ in range(3):
        assert await cleaning.guard.stopped() is not None
        cleaning.pass_time(5)
        await cleaning.push(APP, "latest")
    assert await told(cleaning) == []
    cleaning.pass_time(SETTLING_SECONDS)
    reason = await cleaning.guard.stopped()
    assert await told(cleaning) == [reason]
    assert await cleaning.guard.stopped() == reason
    assert await confirm(cleaning) == reason
    assert await cleaning.guard.stopped() is None
    cleaning.pass_time(5)
    assert await cleaning.guard.stopped() is None


async def test_a_clock_that_went_back_while_the_machine_was_off_is_seen(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    await cleaning.restart()
    cleaning.clock.wrong -= 30 * DAY
    reason = await cleaning.guard.stopped()
    assert reason is not None
    assert "30 days before the last thing that happened" in reason


async def test_a_clock_that_is_set_right_just_after_a_start_is_believed(cleaning: Cleaning) -> None:
    """A machine without a clock of its own begins with the time of its last shutdown, or with any."""
    await cleaning.push(APP)
    await cleaning.restart()
    cleaning.pass_time(DAY)
    cleaning.clock.wrong = -DAY
    assert await cleaning.guard.stopped() is None
    cleaning.clock.wrong = 0.0
    assert await cleaning.guard.stopped() is None
    cleaning.pass_time(2 * SETTLING_SECONDS)
    assert await cleaning.guard.stopped() is None
    assert await told(cleaning) == []


async def test_a_clock_that_is_wrong_just_after_a_start_makes_it_wait(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    await cleaning.restart()
    cleaning.clock.wrong = -20_000 * DAY
    assert await cleaning.guard.stopped() is not None
    cleaning.clock.wrong = 0.0
    assert await cleaning.guard.stopped() is None
    assert await told(cleaning) == []


async def test_a_clock_that_stays_wrong_after_a_start_asks_a_person(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    await cleaning.restart()
    cleaning.clock.wrong = -DAY
    assert await cleaning.guard.stopped() is not None
    cleaning.pass_time(SETTLING_SECONDS)
    reason = await cleaning.guard.stopped()
    cleaning.clock.wrong = 0.0
    assert await cleaning.guard.stopped() == reason is not None
    assert await told(cleaning) == [reason]


async def test_a_person_need_not_wait_until_it_has_settled(cleaning: Cleaning) -> None:
    """What happened last is later than the time that they say is right, so it is their saying so that must count."""
    await cleaning.push(APP)
    await cleaning.restart()
    cleaning.clock.wrong = -DAY
    reason = await cleaning.guard.stopped()
    assert await confirm(cleaning) == reason is not None
    assert await cleaning.guard.stopped() is None


async def test_what_happened_is_looked_at_too(cleaning: Cleaning) -> None:
    """A server that serves and does not clean up writes no time, but events."""
    cleaning.pass_time(OFF_SECONDS_MAX + DAY)
    await cleaning.push(APP)
    await cleaning.restart()
    cleaning.pass_time(DAY)
    assert await cleaning.guard.stopped() is None


async def test_a_first_start_believes_the_clock(cleaning: Cleaning) -> None:
    await cleaning.registry.db.write(lambda tx: tx.run("DELETE FROM cleanup_clock"))
    assert await ClockGuard(cleaning.registry).stopped() is None


async def test_a_person_says_that_it_is_right(cleaning: Cleaning) -> None:
    assert await confirm(cleaning) is None
    cleaning.clock.wrong += 30 * DAY
    reason = await cleaning.guard.stopped()
    assert await confirm(cleaning) == reason
    assert await cleaning.guard.stopped() is None
    await cleaning.restart()
    assert await cleaning.guard.stopped() is None
    event = (await cleaning.events())[-1]
    assert (event.kind, event.actor, event.reason) == ("cleanup.confirmed", "ada", reason)


async def test_a_person_says_so_of_a_clock_that_went_back(cleaning: Cleaning) -> None:
    """What happened has a time that is yet to come, and is no reason to stop again."""
    await cleaning.push(APP)
    cleaning.clock.wrong -= 30 * DAY
    assert await cleaning.guard.stopped() is not None
    await confirm(cleaning)
    assert await cleaning.guard.stopped() is None
    cleaning.pass_time(HOUR)
    assert await cleaning.guard.stopped() is None


async def test_what_one_process_saw_stops_the_other(cleaning: Cleaning) -> None:
    other = ClockGuard(cleaning.registry)
    await settle(cleaning, cleaning.guard, other)
    cleaning.clock.wrong += 2 * DAY
    reason = await cleaning.guard.stopped()
    assert reason is not None
    assert await other.stopped() == reason
    assert await told(cleaning) == [reason]


async def test_two_that_see_it_at_once_tell_it_once(cleaning: Cleaning) -> None:
    other = ClockGuard(cleaning.registry)
    await settle(cleaning, cleaning.guard, other)
    cleaning.clock.wrong += 2 * DAY
    one, two = await asyncio.gather(cleaning.guard.stopped(), other.stopped())
    assert one == two is not None
    assert await told(cleaning) == [one]


async def test_one_that_is_confirmed_is_believed_by_the_other_process_too(cleaning: Cleaning) -> None:
    other = ClockGuard(cleaning.registry)
    await settle(cleaning, cleaning.guard, other)
    cleaning.clock.wrong += 2 * DAY
    assert await cleaning.guard.stopped() is not None
    await confirm(cleaning)
    # The other one has not looked since: it sees the jump for itself, and a person says so once more.
    if await other.stopped() is not None:
        await confirm(cleaning)
    assert await other.stopped() is None
    assert await cleaning.guard.stopped() is None


async def test_it_costs_a_write_every_ten_minutes(cleaning: Cleaning) -> None:
    seen = [await cleaning.rows("SELECT seen_at FROM cleanup_clock")]
    for _ in range(30):
        cleaning.pass_time(50)
        await cleaning.guard.stopped()
        seen.append(await cleaning.rows("SELECT seen_at FROM cleanup_clock"))
    assert len({tuple(each) for each in seen}) in {3, 4}


async def test_nothing_is_deleted_while_it_is_stopped(cleaning: Cleaning) -> None:
    """Not by the sweep, not from the trash, no upload, and no walk begins."""
    await cleaning.push(APP)
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, APP.digest)
    await cleaning.sweep_after(2 * DAY)
    upload = await cleaning.start()
    await cleaning.append(upload, b"half")
    await cleaning.push(APP, "latest")
    untagged = image([b"untagged"], config=b'{"untagged":1}')
    await cleaning.push(untagged)
    trash, before = cleaning.trash(), await cleaning.digests()
    assert len(trash) == 3
    cleaning.clock.wrong += 400 * DAY
    await cleaning.sweep()
    await cleaning.sweeper.sweep_now(0)
    assert (cleaning.trash(), await cleaning.digests()) == (trash, before)
    assert cleaning.strays() == [upload]
    await confirm(cleaning)
    cleaning.pass_time(LONG)
    await cleaning.sweep()
    assert cleaning.strays() == []
    assert untagged.digest not in await cleaning.digests()
