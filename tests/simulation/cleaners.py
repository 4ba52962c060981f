"""What a server does by itself while clients come and go: sweeping, walking; and time, which passes in leaps."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable

from homeport.clock import Clock
from homeport.db.database import DatabaseError
from homeport.garbage.guard import ClockGuard
from homeport.garbage.sweep import Pace, Sweeper
from homeport.garbage.walk import Walker
from homeport.observe import Log
from homeport.registry import quotas
from homeport.storage.blobstore import StorageError
from tests.simulation.asking import Server
from tests.simulation.world import World


class Unpaced(Pace):
    """Gives way to whatever else is ready, and to nothing more."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, lambda: False)

    async def rest(self) -> None:
        await self.clock.sleep(0)


class Cleaner:
    """The sweepers and the walker of one process. What they could not do they say, and that is looked at."""

    def __init__(self, server: Server) -> None:
        self._world = server.world
        self._registry = server.registry
        self._said = io.StringIO()
        clock = server.registry.clock
        log, guard, pace = Log(self._said, clock), ClockGuard(server.registry), Unpaced(clock)
        self._sweeper = Sweeper(server.registry, log, guard, pace)
        self._walker = Walker(server.registry, log, guard, pace)

    async def sweep(self) -> None:
        """Look at what is due."""
        await self._do("sweep", self._sweeper.sweep)

    async def sweep_now(self) -> None:
        """Look at all things, without their grace."""
        with self._world.ledger.oracle.impatience(self._world.clock):
            await self._do("sweep without grace", lambda: self._sweeper.sweep_now(0.0))

    async def walk(self) -> None:
        """Walk along all bytes and rows."""
        await self._do("walk", self._walker.walk)

    async def sweep_while(self, busy: Callable[[], bool]) -> None:
        """Sweep again and again."""
        while busy():
            await self._world.clock.sleep(_now_and_then(self._world, 0.3))
            await (self.sweep_now if self._world.clock.random() < 0.1 else self.sweep)()

    async def walk_while(self, busy: Callable[[], bool]) -> None:
        """Walk from time to time."""
        while busy():
            await self._world.clock.sleep(_now_and_then(self._world, 1.5))
            await self.walk()

    async def _do(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        world = self._world
        world.operations += 1
        world.note(name)
        try:
            await work()
        except (StorageError, DatabaseError) as error:
            if not world.may_fail(error):
                raise AssertionError(f"{name}: {error!r}") from error
            world.note(f"{name} failed: {error!r}")
        if not world.faulty:
            said = self._said.getvalue()
            assert not said, f"{name}: {said}"


async def count_quotas(server: Server) -> None:
    """What the job does, in small steps."""
    clock = server.world.clock
    for step in (quotas.recount, quotas.forget):
        try:
            while await server.registry.db.jot(step, 2) is not None:
                await clock.sleep(clock.random() * 0.2)
        except DatabaseError as error:
            if not server.world.may_fail(error):
                raise AssertionError(f"counting quotas: {error!r}") from error


async def pass_time(server: Server, busy: Callable[[], bool]) -> None:
    """Let time pass in leaps, as where the machine slept: whatever lasts for some time ends in one of them."""
    world, rules = server.world, server.registry.rules
    while busy():
        await world.clock.sleep(_now_and_then(world, 1.3))
        spans = (
            rules.hold_seconds,
            rules.condemned_seconds,
            rules.grace_seconds,
            rules.untagged_seconds,
            rules.keep_seconds,
            rules.uploads_seconds,
            rules.trash_seconds,
        )
        # The short ones more often.
        seconds = spans[int(len(spans) * world.clock.random() ** 1.7)] * 1.3 * world.clock.random()
        world.note(f"{seconds:.0f} seconds pass")
        world.clock.advance(seconds)


def _now_and_then(world: World, mean: float) -> float:
    """The pause before what is done again and again: where a life lasts long, some are long."""
    draw = world.clock.random()
    return 140 * mean * draw**6 if world.is_slow else 2 * mean * draw
