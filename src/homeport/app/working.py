"""The role *work*: jobs are run, schedules kept, people told, engines asked what they run, the cache kept small."""

from __future__ import annotations

from collections.abc import Awaitable

from homeport.app.composition import Program
from homeport.app.loops import every
from homeport.mirror import eviction

#: How late a schedule may be.
TICK_SECONDS = 1.0


class Working:
    """Runs jobs and notifications, and asks engines, beside whatever else the process does."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def loops(self) -> list[Awaitable[None]]:
        """What runs until the process stops."""
        program = self._program
        return [
            every(program.registry.clock, program.log, TICK_SECONDS, program.tick),
            program.worker.run(),
            program.notifier.run(),
            program.sweeper.run(),
            program.walker.run(),
            program.watcher.run(),
            every(program.registry.clock, program.log, eviction.STEP_SECONDS, program.evictor.step),
        ]

    async def stop(self, seconds: float) -> None:
        """Jobs that run may end within `seconds`; the others are handed back for the next worker."""
        await self._program.worker.stop(seconds)
