"""Homeport's own sweeper on a folder, at full speed and by a clock that is moved: a process of the benchmark.

Told on standard input, in JSON, where the folder is, how far back the clock stands, and what to do; for each piece of
work it prints the seconds that it took and what went.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from bench.errors import UnexpectedAnswerError
from homeport.clock import SystemClock
from homeport.db.sqlite import SqliteDatabase
from homeport.garbage import totals
from homeport.garbage.guard import ClockGuard
from homeport.garbage.sweep import Pace, Sweeper
from homeport.observe import Log
from homeport.registry.registry import Registry
from homeport.storage.filesystem import FilesystemStore

HOUR, DAY = 3600.0, 86_400.0
LIMIT_SECONDS = 1_800


class MovableClock(SystemClock):
    """The machine's clock, but for what it is set to."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def now(self) -> float:
        return super().now() + self.ahead

    def elapsed(self) -> float:
        """So that it has not jumped: the time has passed."""
        return super().elapsed() + self.ahead


class Unresting(Pace):
    """Does one step after the other."""

    async def rest(self) -> None:
        await self.clock.sleep(0)


@dataclass(frozen=True)
class Sweep:
    """A sweep, when so much time has passed: of what is due, or of everything."""

    after_seconds: float = 0.0
    everything: bool = False


@dataclass(frozen=True)
class Swept:
    """What it took, and what went."""

    seconds: float
    went: dict[str, int]


def sweep(data: Path, *, back_seconds: float, sweeps: Sequence[Sweep]) -> list[Swept]:
    """Sweep in a process of its own, whose clock stands back at first."""
    spec = {"data": str(data), "back_seconds": back_seconds, "sweeps": [asdict(one) for one in sweeps]}
    done = subprocess.run(
        [sys.executable, "-m", "bench.sweeping"],
        input=json.dumps(spec),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode != 0 or done.stderr:
        raise UnexpectedAnswerError(done.stderr.strip()[-3000:])
    return [Swept(**one) for one in json.loads(done.stdout)]


async def _sweep(data: Path, clock: MovableClock, sweeps: Sequence[Sweep]) -> list[Swept]:
    database = SqliteDatabase(data / "homeport.db", clock)
    store = FilesystemStore(data, clock)
    log = Log(sys.stderr, clock)
    registry = Registry(database, store, clock)
    guard = ClockGuard(registry)
    sweeper = Sweeper(registry, log, guard, Unresting(clock, lambda: False))
    done = []
    try:
        if (why := await guard.stopped()) is not None:
            raise UnexpectedAnswerError(why)
        for one in sweeps:
            clock.ahead += one.after_seconds
            before = await database.read(totals.since_last_told)
            started = time.monotonic()
            await (sweeper.sweep_now(0.0) if one.everything else sweeper.sweep())
            seconds = time.monotonic() - started
            after = await database.read(totals.since_last_told)
            done.append(Swept(seconds, {name: after[name] - before[name] for name in after}))
    finally:
        log.flush()
        await database.close()
        await store.close()
    return done


def main() -> None:
    spec = json.load(sys.stdin)
    work = _sweep(Path(spec["data"]), MovableClock(-spec["back_seconds"]), [Sweep(**one) for one in spec["sweeps"]])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump([asdict(one) for one in runner.run(work)], sys.stdout)


if __name__ == "__main__":
    main()
