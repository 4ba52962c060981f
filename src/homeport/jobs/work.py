"""What a kind of job is: what runs, how often it is tried, and what it is handed.

A job says how far it is and what it does through its `Run`, stops when it is cancelled (at any `await`, as every task),
and returns a `Summary`. It may be run again from its beginning after a crash, so it does nothing twice that would hurt.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from homeport.clock import Clock
from homeport.db.database import Database, Transaction
from homeport.jobs import joblog, queue
from homeport.jobs.queue import Job, JobError, Progress, Standing
from homeport.jobs.summary import Summary
from homeport.kinds import JOB_ARGUMENTS

#: How many lines of a run wait to be written; more, and whoever says them waits.
_LINES_WAITING_MAX: Final = 1_000


class Temporary(Exception):
    """Raised by a job for what may be gone in a while: it is tried again, later each time. The text says what it is."""


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of job as those see it who ask for one."""

    name: str
    #: The names of the arguments that it takes; None: any.
    takes: tuple[str, ...] | None = field(default=None, kw_only=True)
    #: At most one of the kind runs; one that waits serves for all that ask for the same arguments.
    one_at_a_time: bool = field(default=True, kw_only=True)


#: What may be asked for where nothing is there that could run it.
FORMS: Final[Mapping[str, Form]] = {name: Form(name, takes=takes) for name, takes in JOB_ARGUMENTS.items()}


@dataclass(frozen=True, slots=True)
class Kind(Form):
    """A kind of job, with what runs."""

    run: Callable[[Run], Awaitable[Summary]]
    #: How often it is begun before it ends as an error: after a `Temporary`, or when its worker died.
    attempts_max: int = 3
    #: How long after its worker's death somebody else takes it.
    lease_seconds: float = 60


class Run:
    """A job that runs, as it sees itself. What it tells is written once a second, and only while it is its own."""

    def __init__(self, database: Database, clock: Clock, job: Job) -> None:
        self._database = database
        self._clock = clock
        self.job = job
        #: Somebody wants it to stop; its task is being cancelled.
        self.cancelled = False
        self._progress: Progress | None = None
        self._lines: deque[str] = deque()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was asked to do."""
        return self.job.arguments

    async def progress(self, done: float, total: float | None, unit: str = "", text: str = "") -> None:
        """Say how far it is. Costs nothing, however often it is called: the last one of a second is written."""
        self._progress = Progress(done, total, unit, text)
        await self._clock.sleep(0)

    async def say(self, text: str) -> None:
        """Add lines to its log."""
        self._lines.extend(joblog.cut(text))
        if len(self._lines) >= _LINES_WAITING_MAX:
            await self.flush()
        await self._clock.sleep(0)

    async def flush(self) -> Standing:
        """Write what it said, and learn whether the job is still its own."""
        if self._progress is None and not self._lines:
            return await self._database.read(queue.standing, self.job)
        return await self._database.jot(self._write, *self.take())

    def take(self) -> tuple[list[str], Progress | None]:
        """What it said and was not written yet. Taken once, so that nothing is written twice."""
        said, self._lines = list(self._lines), deque()
        progress, self._progress = self._progress, None
        return said, progress

    def _write(self, tx: Transaction, said: list[str], progress: Progress | None) -> Standing:
        found = queue.standing(tx, self.job)
        if found is not Standing.LOST:
            write(tx, self._clock, self.job, said, progress)
        return found


def write(tx: Transaction, clock: Clock, job: Job, said: list[str], progress: Progress | None) -> None:
    """Write what a job said that is known to be the caller's."""
    if said:
        joblog.say(tx, clock, job.id, said)
    if progress is not None:
        queue.report(tx, job, progress)


def request(
    tx: Transaction,
    clock: Clock,
    kinds: Mapping[str, Form],
    name: str,
    *,
    actor: str,
    address: str,
    arguments: Mapping[str, Any] | None = None,
    schedule: str | None = None,
) -> Job:
    """A job of this kind that waits, a new one or one that does the same already. Raises `JobError`."""
    kind = kinds.get(name)
    if kind is None:
        raise JobError(f"no kind of job is called '{name[:64]}'; there are: {', '.join(sorted(kinds))}")
    _check(kind, arguments or {})
    waiting_key, running_key = _keys(kind, arguments)
    return queue.enqueue(
        tx,
        clock,
        name,
        actor=actor,
        address=address,
        arguments=arguments,
        waiting_key=waiting_key,
        running_key=running_key,
        schedule=schedule,
    )


def _check(kind: Form, arguments: Mapping[str, Any]) -> None:
    if kind.takes is not None and (unknown := sorted(arguments.keys() - set(kind.takes))):
        known = f"it takes {', '.join(kind.takes)}" if kind.takes else "it takes none"
        raise JobError(f"{kind.name} has no argument '{unknown[0][:64]}'; {known}")


def skip(tx: Transaction, clock: Clock, kind: Form, *, actor: str, schedule: str, reason: str) -> Job:
    """A job of this kind that has ended before it began: done again, it is as any other that was asked for."""
    waiting_key, running_key = _keys(kind, None)
    return queue.skip(
        tx,
        clock,
        kind.name,
        actor=actor,
        schedule=schedule,
        reason=reason,
        waiting_key=waiting_key,
        running_key=running_key,
    )


def _keys(kind: Form, arguments: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """What a job of this kind waits for and runs under: the same for the same work, and short enough for an index."""
    if not kind.one_at_a_time:
        return None, None
    return f"{kind.name} {hashlib.sha256(queue.encoded(arguments).encode()).hexdigest()[:32]}", kind.name
