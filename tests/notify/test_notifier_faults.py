"""Every call of the database fails in turn: nobody misses anything or is told twice, and the loops go on."""

from __future__ import annotations

import asyncio
import io
from typing import cast

import pytest

from homeport.client.transport import Transport
from homeport.db.database import DatabaseError
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.events import SYSTEM
from homeport.notify import deliveries
from homeport.testing.database_faults import FailingDatabase
from homeport.testing.simulation import SimulatedClock, run
from tests.notify.simulated import SimulatedReceivers
from tests.notify.things import append, notifier_on, target

TAGS = ["v1", "v2", "v3"]
TARGETS = [target("a", "http://a.test/", on=("tag.set",)), target("b", "http://b.test/", on=("tag.set",))]
#: More calls than a faultless run makes.
CALLS = 45


async def tell(clock: SimulatedClock, fail_at: int, *, forever: bool, done: bool) -> tuple[SimulatedReceivers, int]:
    """Tell of three changes while call number `fail_at` fails; mended after a minute. How many calls were made."""
    receivers = SimulatedReceivers(clock)
    database = SqliteDatabase(MEMORY, clock)
    failing = FailingDatabase(database, forever=forever, done=done)
    log = io.StringIO()
    notifier = notifier_on(failing, clock, cast("Transport", receivers), log=log)
    await notifier.reconfigure(TARGETS)
    failing._fail_at = fail_at + len(failing.calls) if fail_at else 0
    before = len(failing.calls)
    telling = asyncio.create_task(notifier.run())
    for tag in TAGS:
        await database.write(append, clock, tag=tag, origin=SYSTEM)
    await clock.sleep(3)
    made = len(failing.calls) - before
    await clock.sleep(57)
    failing.mend()
    await clock.sleep(60)
    assert not telling.done()
    telling.cancel()
    waiting = await database.read(deliveries.listed, state="waiting")
    assert waiting == []
    return receivers, made


@pytest.mark.parametrize("done", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
def test_nobody_misses_anything_or_is_told_twice(forever: bool, done: bool) -> None:
    for fail_at in range(1, CALLS + 1):
        clock = SimulatedClock(fail_at)
        receivers, _ = run(clock, lambda c=clock, n=fail_at: tell(c, n, forever=forever, done=done))  # type: ignore[misc]
        for each in TARGETS:
            told = [told["tag"] for host, told, _ in receivers.arrived if host == f"{each.name}.test"]
            assert told == TAGS, f"each once, and in order, although call {fail_at} failed"


def test_every_call_was_among_them() -> None:
    clock = SimulatedClock(0)
    receivers, made = run(clock, lambda: tell(clock, 0, forever=False, done=False))
    assert len(receivers.arrived) == len(TAGS) * len(TARGETS), "each once, where nothing fails"
    assert 20 < made <= CALLS


def test_a_target_that_cannot_be_taken_over_is_not() -> None:
    async def main() -> None:
        database = SqliteDatabase(MEMORY, clock)
        failing = FailingDatabase(database, 1)
        receivers = cast("Transport", SimulatedReceivers(clock))
        notifier = notifier_on(failing, clock, receivers)
        with pytest.raises(DatabaseError):
            await notifier.reconfigure(TARGETS)
        assert notifier.names == ()

    clock = SimulatedClock(0)
    run(clock, main)
