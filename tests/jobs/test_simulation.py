"""Several processes with workers, people who ask and cancel, deaths and power cuts, drawn by a seed.

`SIMULATIONS=5000 pytest tests/jobs` looks at more seeds, `SIMULATION_SEED=17` at that one.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Concatenate

import pytest

from homeport import events
from homeport.db.database import Database, P, T, Transaction
from homeport.events import Origin
from homeport.jobs import queue
from homeport.jobs.queue import Job, JobError
from homeport.jobs.summary import Summary
from homeport.jobs.work import Kind, Run, Temporary, request
from homeport.jobs.worker import Worker
from homeport.kinds import Outcome
from homeport.observe import Log
from homeport.testing.simulation import ProcessDied, SimulatedClock, run
from tests.simulation.world import MemoryDatabase

LIVES = 4
WORKERS = 3
SEEDS = (
    [int(os.environ["SIMULATION_SEED"])]
    if "SIMULATION_SEED" in os.environ
    else range(int(os.environ.get("SIMULATIONS", "30")))
)
#: How many seeds a fault may pass unseen.
SEEDS_TO_SEE_A_FAULT = 60

_STEPS_MAX = 1_000_000


class Mortal(Database):
    """The database as one process sees it: once that is dead, it waits for ever."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dead = False
        self._graves: list[asyncio.Future[None]] = []

    async def pass_away(self) -> None:
        if self.dead:
            self._graves.append(asyncio.get_running_loop().create_future())
            await self._graves[-1]

    async def read(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self.pass_away()
        return await self._database.read(fact, *args, **kwargs)

    async def write(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self.pass_away()
        result = await self._database.write(fact, *args, **kwargs)
        await self.pass_away()
        return result

    async def jot(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self.pass_away()
        return await self._database.jot(fact, *args, **kwargs)

    async def close(self) -> None:
        """It belongs to all of them."""


class World:
    """All that there is. What it saw on the disk once must be there for ever."""

    def __init__(self, seed: int) -> None:
        self.clock = SimulatedClock(seed)
        self.trace: list[str] = []
        #: Jobs whose request was answered, and how jobs ended that were seen.
        self.asked: set[int] = set()
        self.ended: dict[int, tuple[Any, ...]] = {}
        self.seen: Counter[str] = Counter()
        self._committed: bytes | None = None
        self._database: MemoryDatabase | None = None
        #: Dead ones too: nothing of them goes on, or is collected while the others live.
        self._processes: list[Mortal] = []
        #: Who runs a job now, in processes that live: (job, epoch) by running key.
        self._bodies: dict[str, list[tuple[int, int]]] = {}

    def note(self, what: str, line: str = "") -> None:
        self.seen[what] += 1
        self.trace.append(f"{self.clock.monotonic():.3f} {what} {line}")

    # --- lives --------------------------------------------------------------------------------------------------

    def live(self) -> None:
        for life in range(1, LIVES + 1):
            last = life == LIVES
            steps_max = _STEPS_MAX if last else int(6_000 * self.clock.random() ** 2)
            self.clock.jobs_per_stall = 50 if self.clock.random() < 0.3 else 5_000
            self.note("life", f"{life}: {steps_max} steps")
            died = self._one_life(steps_max, last=last)
            assert not (died and last), "it does not come to an end"
            if self._database is not None:
                left = self._database.die()
                self._database = None
                power_cut = died and self.clock.random() < 0.5
                self._committed = left[self.clock.below(len(left)) if power_cut else -1]
            self.clock.advance(self.clock.random() * 300)

    def _one_life(self, steps_max: int, *, last: bool) -> bool:
        """Whether it was killed."""
        try:
            run(self.clock, lambda: self._process(last=last), lambda steps: steps >= steps_max)
        except ProcessDied:
            self.note("death")
            return True
        return False

    async def _process(self, *, last: bool) -> None:
        self._database = MemoryDatabase(self.clock, self._committed)
        self._bodies, self._processes = {}, []
        await self._database.read(self.review)
        people = [asyncio.ensure_future(self._person(name)) for name in ("ada", "bob")]
        fate = asyncio.ensure_future(self._workers())
        await asyncio.gather(*people)
        if not last:
            await self.clock.sleep(self.clock.random() * 120)
        while last and await self._database.read(queue.listed, state="waiting", limit=1) + await self._database.read(
            queue.listed, state="running", limit=1
        ):
            await self.clock.sleep(10)
        fate.cancel()
        await asyncio.wait([fate])
        await self._database.read(self.review)

    # --- who does what ------------------------------------------------------------------------------------------

    async def _workers(self) -> None:
        """Processes with workers: they begin, and are killed or stopped after a while, and others begin."""
        async with asyncio.TaskGroup() as processes:
            for number in range(WORKERS):
                processes.create_task(self._successive(number))

    async def _successive(self, number: int) -> None:
        assert self._database is not None
        while True:
            mortal = Mortal(self._database)
            self._processes.append(mortal)
            kinds = self._kinds(mortal)
            log = Log(io.StringIO(), self.clock)
            worker = Worker(mortal, self.clock, log, kinds, count=2, on_end=self.on_end)
            loop = asyncio.ensure_future(worker.run())
            try:
                await self.clock.sleep(300 * self.clock.random())
                if self.clock.random() < 0.5:
                    self.note("kill", str(number))
                    mortal.dead = True
                else:
                    self.note("stop", str(number))
                    await worker.stop(20 * self.clock.random())
                    await loop
                    assert worker.active == 0
            finally:
                mortal.dead = True

    def _kinds(self, mortal: Mortal) -> dict[str, Kind]:
        async def work(run: Run) -> Summary:
            return await self._body(mortal, run)

        return {
            "alone": Kind("alone", work, lease_seconds=30),
            "many": Kind("many", work, one_at_a_time=False, lease_seconds=30),
        }

    async def _body(self, mortal: Mortal, run: Run) -> Summary:
        job, clock = run.job, self.clock
        key = "alone" if job.kind == "alone" else f"many {job.id}"
        bodies = self._bodies.setdefault(key, [])
        bodies.append((job.id, job.epoch))
        try:
            for step in range(clock.below(5)):
                await run.say(f"{job.epoch}: {step}")
                await run.progress(step, None)
                await clock.sleep(40 * clock.random() ** 3)
                if clock.random() < 0.03:
                    self.note("standstill")
                    clock.advance(60 * clock.random())
                await mortal.pass_away()
                self._look(key)
            draw = clock.random()
            if draw < 0.15:
                raise Temporary("not now")
            if draw < 0.25:
                raise LookupError("broken")
        except asyncio.CancelledError:
            await clock.sleep(clock.random())
            raise
        finally:
            if not mortal.dead:
                bodies.remove((job.id, job.epoch))
        return Summary(Outcome.SUCCESS, counts={"epoch": job.epoch})

    async def _person(self, name: str) -> None:
        assert self._database is not None
        clock, database = self.clock, self._database
        for _ in range(clock.below(8)):
            await clock.sleep(60 * clock.random())
            draw = clock.random()
            kinds = self._kinds(Mortal(database))
            if draw < 0.6 or not self.asked:
                kind, arguments = ("alone", "many")[clock.below(2)], {"n": clock.below(3)}
                job = await database.write(request, clock, kinds, kind, actor=name, address="", arguments=arguments)
                self.asked.add(job.id)
                self.note("asked", f"{job.id} {kind}")
                continue
            chosen = sorted(self.asked)[clock.below(len(self.asked))]
            try:
                if draw < 0.85:
                    job = await database.write(self._cancel, chosen)
                    self.note("cancelled", f"{chosen} {job.state}")
                else:
                    job = await database.write(queue.again, clock, chosen, name, "")
                    self.asked.add(job.id)
                    self.note("again", f"{chosen} as {job.id}")
            except JobError as error:
                self.note("refused", str(error))

    def _cancel(self, tx: Transaction, job_id: int) -> Job:
        job = queue.cancel(tx, self.clock, job_id)
        if job.state == "ended":
            self.on_end(tx, job)
        return job

    def on_end(self, tx: Transaction, job: Job) -> None:
        events.append(
            tx, self.clock, "housekeeping.finished", Origin("system", run=f"job-{job.id}"), detail=job.result()
        )

    # --- looking ------------------------------------------------------------------------------------------------

    def _look(self, key: str) -> None:
        """At most one of those who run for this key has a lease that lasts."""
        assert self._database is not None
        sql = "SELECT id, epoch FROM jobs WHERE state = 'running' AND lease_until > ?"
        holders = set(self._database._writer.execute(sql, (self.clock.now(),)))
        holding = [body for body in self._bodies[key] if body in holders]
        assert len(holding) <= 1, holding

    def review(self, tx: Transaction) -> None:
        """Every job that was asked for is there, has ended at most once, and who ended it had it."""
        rows = {
            row[0]: row[1:]
            for row in tx.all("SELECT id, state, outcome, epoch, attempts, summary, ended_at, started_at FROM jobs")
        }
        assert self.asked <= rows.keys(), "a job is lost"
        ends = Counter(event.run for event in events.after(tx, events.START, 1_000_000))
        for job_id, row in rows.items():
            state, outcome, epoch, attempts, _, _, _ = row
            assert ends[f"job-{job_id}"] == (state == "ended"), f"job {job_id} is {state}"
            assert 0 <= attempts <= 4
            assert attempts <= epoch
            if job_id in self.ended:
                assert self.ended[job_id] == row, f"job {job_id} ended again"
            if state == "ended":
                job = queue.get(tx, job_id)
                assert job is not None
                assert job.summary is not None
                assert job.summary.counts.get("epoch", epoch) == epoch, "somebody else ended it"
                self.ended[job_id] = row
                self.seen[f"ended {outcome}"] += 1
        keyed = tx.all(
            "SELECT running_key FROM jobs WHERE state = 'running' AND running_key IS NOT NULL"
            " GROUP BY running_key HAVING count(*) > 1"
        )
        assert keyed == []


def simulate(seed: int) -> World:
    """Run the world of this seed to its end; what goes wrong has its last lines."""
    world = World(seed)
    try:
        world.live()
        assert world.asked <= world.ended.keys(), "a job never ends"
    except BaseException as error:
        error.add_note("\n".join([*world.trace[-40:], f"replay it with SIMULATION_SEED={seed}"]))
        raise
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_every_job_ends_once(seed: int) -> None:
    simulate(seed)


# --- the simulation itself --------------------------------------------------------------------------------------


def test_a_seed_replays_exactly() -> None:
    for seed in range(3):
        assert simulate(seed).trace == simulate(seed).trace


def test_it_comes_everywhere() -> None:
    seen: Counter[str] = Counter()
    for seed in range(10):
        seen += simulate(seed).seen
    wanted = ["death", "kill", "stop", "standstill", "asked", "cancelled", "again", "refused"]
    wanted += [f"ended {outcome}" for outcome in ("success", "error", "cancelled")]
    assert all(seen[what] > 1 for what in wanted), seen


def test_a_fault_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever once began the job may write of it, whoever has it now."""
    monkeypatch.setattr(queue, "_HELD", "id = ? AND state = 'running' AND ? > 0")

    def simulate_many() -> None:
        for seed in range(SEEDS_TO_SEE_A_FAULT):
            simulate(seed)

    with pytest.raises(AssertionError):
        simulate_many()
