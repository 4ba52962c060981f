"""One seed decides when processes die, when the power is cut, and what goes wrong between: nobody misses anything.

`SEEDS=n` tries n of them instead of a few; a failure names the one to replay.
"""

from __future__ import annotations

import asyncio
import os
from typing import cast

import pytest

from homeport import events
from homeport.client.transport import Transport
from homeport.db.database import Transaction
from homeport.events import SYSTEM, Event
from homeport.notify import deliveries
from homeport.notify.targets import Target
from homeport.testing.simulation import ProcessDied, SimulatedClock, run
from tests.notify.simulated import SimulatedReceivers
from tests.notify.things import notifier_on, target
from tests.simulation.world import MemoryDatabase

SEEDS = int(os.environ.get("SEEDS", "25"))
LIVES = 6
CHANGES_PER_LIFE = 25
TARGETS = [
    target("a", "http://a.test/", on=("tag.*",)),
    target("b", "http://b.test/", on=("tag.set", "user.*")),
    target("flaky", "http://flaky.test/", on=("tag.set",)),
]


class RolledBack(Exception):
    """A change that did not come to be."""


class World:
    """Events that are written, processes that die, and what arrived at last."""

    def __init__(self, seed: int) -> None:
        self.clock = SimulatedClock(seed)
        self.receivers = SimulatedReceivers(self.clock, {"flaky.test": 3})
        self.changes = 0
        self.committed: bytes | None = None
        self.database: MemoryDatabase | None = None

    def live(self) -> list[Event]:
        """All lives, one after the other; the log as it is in the end."""
        for life in range(1, LIVES + 1):
            last = life == LIVES
            steps_max = 1_000_000 if last else 200 + int(6_000 * self.clock.random() ** 2)
            try:
                log = run(self.clock, lambda last=last: self._process(last=last), lambda steps, n=steps_max: steps >= n)  # type: ignore[misc]
            except ProcessDied:
                assert not last, "it does not come to an end"
                assert self.database is not None
                left = self.database.die()
                cut = self.clock.random() < 0.5
                self.committed = left[self.clock.below(len(left)) if cut else -1]
            else:
                assert self.database is not None
                self.committed = self.database.die()[-1]
                if last:
                    return log
            self.clock.advance(self.clock.random() * 3600)
        raise AssertionError

    async def _process(self, *, last: bool) -> list[Event]:
        clock = self.clock
        self.database = database = MemoryDatabase(clock, self.committed)
        notifier = notifier_on(database, clock, cast("Transport", self.receivers), busy=lambda: clock.random() < 0.3)
        await notifier.reconfigure(TARGETS)
        telling = asyncio.create_task(notifier.run())
        try:
            for _ in range(CHANGES_PER_LIFE):
                await self._change(database)
                await clock.sleep(clock.random() * 2)
            if last:
                await _idle(database, clock)
        finally:
            telling.cancel()
        return await database.read(events.after, events.START, 10_000)

    async def _change(self, database: MemoryDatabase) -> None:
        self.changes += 1
        kind = ("tag.set", "tag.set", "tag.deleted", "user.added")[self.clock.below(4)]
        broken = self.clock.random() < 0.2

        def change(tx: Transaction) -> None:
            events.append(tx, self.clock, kind, SYSTEM, repository="app", tag=f"v{self.changes}")
            if broken:
                raise RolledBack

        try:
            await (database.jot if self.clock.random() < 0.3 else database.write)(change)
        except RolledBack:
            assert broken


async def _idle(database: MemoryDatabase, clock: SimulatedClock) -> None:
    """Until everybody was told everything."""
    while True:
        await clock.sleep(60)
        end = await database.read(events.end)
        ahead = [await database.read(deliveries.ahead, each.name, 1) for each in TARGETS]
        waiting = await database.read(deliveries.listed, state="waiting")
        if not waiting and all(each is not None and each[0] == end for each in ahead):
            return


def expected(name: Target, log: list[Event]) -> list[Event]:
    return [event for event in log if event.kind in name.on or (event.kind.startswith("tag.") and "tag.*" in name.on)
            or (event.kind.startswith("user.") and "user.*" in name.on)]  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
def test_everybody_is_told_everything_in_order_and_nothing_else(seed: int) -> None:
    world = World(seed)
    log = world.live()
    for each in TARGETS:
        arrived = [(told, message) for host, told, message in world.receivers.arrived if host == f"{each.name}.test"]
        first: dict[str, str] = {}
        for told, message in arrived:
            assert first.setdefault(told["tag"], message) == message, "the same event, the same id"
        assert list(first) == [event.tag for event in expected(each, log)]
        assert len(set(first.values())) == len(first)
