"""Who runs the jobs: a step, `run_one`, and the loops around it.

Holds:
- A job runs while its lease is renewed. A worker that lost it, or that cannot know (the database did not answer for as
  long as a lease lasts), cancels the task and writes nothing more of the job.
- What a job said, how it ended, and `on_end` are one transaction.
- Whatever a job raises, it ends: as an error, as cancelled, or it waits for its next attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from homeport.clock import Clock
from homeport.db.database import Database, DatabaseError, Transaction
from homeport.jobs import joblog, queue
from homeport.jobs.queue import Job, Progress, Standing
from homeport.jobs.summary import REASON_CHARACTERS_MAX, Summary, shortened
from homeport.jobs.work import Kind, Run, Temporary, write
from homeport.kinds import Outcome
from homeport.observe import Log

#: How often a run is looked after: its lease, its lines, whether it is to stop.
BEAT_SECONDS: Final = 1.0
#: A lease is renewed this often while it lasts.
RENEWALS_PER_LEASE: Final = 3
#: The pause before the second attempt; twice as long before each one after it, up to the second of these.
RETRY_SECONDS: Final = 10.0
RETRY_SECONDS_MAX: Final = 3600.0
#: How long a run that was cancelled to hand it back may take to stop before it is handed back all the same.
STUBBORN_SECONDS: Final = 10.0
#: How often, once a beat, the end of a run is written if the database refuses. After that its lease lapses.
ENDS_TRIED: Final = 30

_TRACEBACK_CHARACTERS_MAX: Final = 16_000


class _Stop(Enum):
    """Why a run's task is cancelled."""

    CANCELLED = auto()
    HANDED_BACK = auto()
    LOST = auto()


class _Running:
    """A job that this worker runs."""

    def __init__(self, job: Job, kind: Kind, run: Run, task: asyncio.Task[Summary | Temporary], renewed: float) -> None:
        self.job = job
        self.kind = kind
        self.run = run
        self.task = task
        #: When, by the monotonic clock, its lease was last renewed.
        self.renewed = renewed
        self.stop: _Stop | None = None

    def cancel(self, stop: _Stop) -> None:
        """Make its task stop, unless it is done. Called at each beat, since a task can miss it."""
        if not self.task.done():
            if self.stop is None or stop is _Stop.LOST:
                self.stop = stop
            self.run.cancelled = self.stop is _Stop.CANCELLED
            self.task.cancel()
        elif self.task.cancelled() and self.stop is None:
            self.stop = stop  # Whoever ends the whole program cancelled it together with its worker.

    def verdict(self) -> Summary | Temporary | None:
        """What the row is to say of its end; None: that it was handed back."""
        if self.stop is _Stop.HANDED_BACK:
            return None
        result = None if self.task.cancelled() else self.task.result()
        if self.stop is _Stop.CANCELLED:
            done = result if isinstance(result, Summary) else Summary(Outcome.CANCELLED)
            return replace(done, outcome=Outcome.CANCELLED, reason=None)
        if result is None:
            return Summary(Outcome.ERROR, "it cancelled itself")
        if isinstance(result, Temporary) and self.job.attempts >= self.kind.attempts_max:
            return Summary(Outcome.ERROR, _sentence(result))
        return result


class Worker:
    """Takes jobs of these kinds from the queue and runs them, at most `count` at once.

    It looks for work when it is told to `look_now`, and else up to `count` times in `look_seconds`, each a point read.

    `on_end` is called in each transaction in which a job ends, with the job as it is then; it may be called twice for
    one end (a fact may run twice), so it has no effect but through its transaction.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        log: Log,
        kinds: Mapping[str, Kind],
        *,
        count: int,
        on_end: Callable[[Transaction, Job], None],
        look_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._kinds = kinds
        self._count = count
        self._on_end = on_end
        self._look_seconds = look_seconds
        self._owner = clock.new_id()
        self._running: dict[int, _Running] = {}
        self._stopping = asyncio.Event()
        #: Is set, and replaced, when there is a reason to look for work before it is time.
        self._woken = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def active(self) -> int:
        """How many jobs it runs now."""
        return len(self._running)

    # --- steps and loops ----------------------------------------------------------------------------------------

    async def run_one(self, only: int | None = None) -> bool:
        """Take the job that is next (`only` this one) and run it to its end, or to where it waits again.

        False: there is none that is due and may run. Costs one point read then. Raises `DatabaseError`.
        """
        if self._stopping.is_set():
            return False
        # What it runs is not to be taken, also when the clock was set forward and the lease seems to have lapsed.
        mine = tuple(self._running)
        if await self._database.read(queue.claimable, self._clock, tuple(self._kinds), only, mine) is None:
            return False
        asked = self._clock.monotonic()
        job = await self._take(only)
        if job is not None and job.state == "running":
            await self._perform(job, asked)
        return job is not None

    async def run_until_idle(self) -> None:
        """Run one job after the other until none is due."""
        while await self.run_one():
            pass

    async def run(self) -> None:
        """Run jobs as they come until `stop`, or until it is cancelled, which hands back what runs."""
        async with asyncio.TaskGroup() as loops:
            for number in range(self._count):  # One looks after the other: a job waits for whoever is next.
                loops.create_task(self._loop(self._look_seconds * number / self._count))

    def look_now(self) -> None:
        """Look for work at once: somebody has left some."""
        self._woken.set()
        self._woken = asyncio.Event()

    async def stop(self, seconds: float) -> None:
        """Begin nothing more; let what runs come to its end for so long, then cancel it and hand it back."""
        self._stopping.set()
        self.look_now()
        await self._idle(seconds)
        for running in self._running.values():
            running.cancel(_Stop.HANDED_BACK)
        await self._idle(STUBBORN_SECONDS)

    async def _loop(self, phase: float) -> None:
        while not self._stopping.is_set():
            woken = self._woken
            try:
                if await self.run_one():
                    continue
            except Exception as error:  # noqa: BLE001 (a loop that died would be missed by nobody until it is needed)
                self._log.error("jobs.failed", error=repr(error), traceback=traceback.format_exc())
                await self._pause(BEAT_SECONDS, self._stopping)
            else:
                await self._pause(self._look_seconds - (self._clock.monotonic() - phase) % self._look_seconds, woken)

    async def _pause(self, seconds: float, end: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(seconds):
                await end.wait()

    async def _idle(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(seconds):
                while self._running:
                    self._changed.clear()
                    await self._changed.wait()

    # --- one job ------------------------------------------------------------------------------------------------

    async def _take(self, only: int | None) -> Job | None:
        """Claim a job. Who is stopped or cancelled meanwhile hands it back, as if it had not been begun."""
        claiming = asyncio.ensure_future(self._database.write(self._claim, only))
        try:
            job = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await self._put_back(await claiming)
            raise
        if not self._stopping.is_set():
            return job
        await self._put_back(job)
        return None

    async def _put_back(self, job: Job | None) -> None:
        if job is not None:
            await self._database.write(queue.hand_back, self._clock, job)

    def _claim(self, tx: Transaction, only: int | None) -> Job | None:
        """Take the next job, or end it if it must not be begun again."""
        leases = {name: kind.lease_seconds for name, kind in self._kinds.items()}
        job = queue.claim(tx, self._clock, self._owner, leases, only, tuple(self._running))
        if job is None:
            return None
        if job.cancel_requested:
            return self._ended(tx, queue.end(tx, self._clock, job, Summary(Outcome.CANCELLED)))
        if job.attempts > self._kinds[job.kind].attempts_max:
            died = Summary(Outcome.ERROR, f"its worker died, and that was attempt {job.attempts - 1}, the last")
            return self._ended(tx, queue.end(tx, self._clock, job, died))
        return job

    async def _perform(self, job: Job, asked: float) -> None:
        kind = self._kinds[job.kind]
        run = Run(self._database, self._clock, job)
        task = asyncio.ensure_future(self._attempt(kind, run))
        running = self._running[job.id] = _Running(job, kind, run, task, asked)
        self._log.info("job.started", job=job.id, kind=job.kind, attempt=job.attempts)
        try:
            await self._look_after(running)
        except asyncio.CancelledError:
            running.cancel(_Stop.HANDED_BACK)
            await self._settled(task, STUBBORN_SECONDS)
            await self._conclude(running)
            raise
        else:
            await self._conclude(running)
        finally:
            del self._running[job.id]
            self._changed.set()

    async def _attempt(self, kind: Kind, run: Run) -> Summary | Temporary:
        """What the job returned, or what comes to that it raised."""
        try:
            summary = await kind.run(run)
            if not isinstance(summary, Summary):
                raise TypeError(f"the job returned no summary but {type(summary).__name__}")
        except Temporary as error:
            return error
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
            raise
        # SystemExit among them, which would end the whole program: a library may call `sys.exit`.
        except BaseException as error:  # noqa: BLE001
            told = traceback.format_exc()[-_TRACEBACK_CHARACTERS_MAX:]
            self._log.error("job.raised", job=run.job.id, kind=kind.name, traceback=told)
            return Summary(Outcome.ERROR, _sentence(error))
        return summary

    async def _look_after(self, running: _Running) -> None:
        """Until its task is done, or given up: keep the lease, write what it says, and cancel it when that is asked."""
        stubborn_beats = 0
        while not running.task.done() and stubborn_beats < STUBBORN_SECONDS / BEAT_SECONDS:
            await self._settled(running.task, BEAT_SECONDS)
            if running.task.done():
                return
            stop = await self._beat(running)
            if stop is not None:
                running.cancel(stop)
            stubborn_beats += running.stop is _Stop.HANDED_BACK

    async def _beat(self, running: _Running) -> _Stop | None:
        """Write what was said, and renew the lease when it is time; why the run has to stop, if it has to."""
        now, lease = self._clock.monotonic(), running.kind.lease_seconds
        try:
            found = await running.run.flush()
            if found is not Standing.LOST and now - running.renewed >= lease / RENEWALS_PER_LEASE:
                found = await self._database.jot(queue.renew, self._clock, running.job, lease)
                running.renewed = now
        except DatabaseError as error:
            self._log.warning("job.unheard", job=running.job.id, error=str(error))
            found = Standing.HELD if now - running.renewed < lease else Standing.LOST
        if found is Standing.LOST:
            return _Stop.LOST
        return _Stop.CANCELLED if found is Standing.CANCEL else running.stop

    async def _settled(self, task: asyncio.Task[Summary | Temporary], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(seconds):
                await asyncio.wait([task])

    # --- its end ------------------------------------------------------------------------------------------------

    async def _conclude(self, running: _Running) -> None:
        """Write how it ended. If the database refuses, again at the next beat, for a while; then its lease lapses."""
        job = running.job
        if running.stop is _Stop.LOST:
            self._log.warning("job.lost", job=job.id, kind=job.kind)
            return
        said, progress = running.run.take()
        pause = retry_seconds(job.attempts, self._clock.random())
        for _ in range(ENDS_TRIED):
            try:
                left = await self._database.write(self._write_end, job, running.verdict(), said, progress, pause)
            except DatabaseError as error:
                self._log.warning("job.unwritten", job=job.id, kind=job.kind, error=str(error))
                await self._clock.sleep(BEAT_SECONDS)
                continue
            if left is None:
                self._log.warning("job.lost", job=job.id, kind=job.kind)
            else:
                state = left.outcome or left.state
                self._log.info("job.left", job=job.id, kind=job.kind, state=state, reason=left.reason)
            return

    def _write_end(
        self,
        tx: Transaction,
        job: Job,
        verdict: Summary | Temporary | None,
        said: list[str],
        progress: Progress | None,
        pause: float,
    ) -> Job | None:
        """What the job said last, and its end or its return to the queue; None: it is not ours any more."""
        if queue.standing(tx, job) is Standing.LOST:
            return None
        write(tx, self._clock, job, said, progress)
        if isinstance(verdict, Summary):
            return self._ended(tx, queue.end(tx, self._clock, job, verdict))
        if verdict is None:
            left = queue.hand_back(tx, self._clock, job)
        else:
            joblog.say(tx, self._clock, job.id, [f"{_sentence(verdict)} (trying again in {pause:.0f} seconds)"])
            left = queue.retry_later(tx, job, self._clock.now() + pause, _sentence(verdict))
        if left is not None and left.cancel_requested:
            return self._ended(tx, queue.cancel(tx, self._clock, job.id))
        return left

    def _ended(self, tx: Transaction, job: Job | None) -> Job | None:
        if job is not None:
            self._on_end(tx, job)
        return job


def retry_seconds(attempts: int, random: float) -> float:
    """How long to wait after so many attempts. `random`, in [0, 1), keeps those that failed together apart."""
    doubled = RETRY_SECONDS * 2.0 ** min(attempts - 1, 32)
    return float(min(RETRY_SECONDS_MAX, doubled) * (0.5 + random / 2))


def _sentence(error: BaseException) -> str:
    """What people are told of an error: one line of its text, with its name where that alone says little."""
    text, name = " ".join(str(error).split()), type(error).__name__
    if not text or type(error).__module__ == "builtins":
        text = f"{name}: {text}" if text else name
    return shortened(text, REASON_CHARACTERS_MAX)
