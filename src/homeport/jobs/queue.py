"""What is to be done, is being done, and was done: facts of the table `jobs`.

Holds:
- A job ends once. It is there from the transaction of its cause on, and no crash loses it.
- At most one job waits for a waiting key, and at most one runs for a running key: two unique indexes say so.
- Who runs a job has it on a lease. A lease that is not renewed lapses, and then somebody else may take the job; each
  taking has a new epoch, and whoever still has an older one can write nothing of the job any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum, auto
from typing import Any, Final, Literal, TypeAlias

from homeport.clock import Clock, rfc3339
from homeport.db.database import Row, Transaction
from homeport.jobs.summary import REASON_CHARACTERS_MAX, Summary, shortened
from homeport.kinds import Outcome

State: TypeAlias = Literal["waiting", "running", "ended"]

#: How long the arguments of a job may be, as JSON.
ARGUMENTS_CHARACTERS_MAX: Final = 64 * 1024
#: No lease lasts longer.
LEASE_SECONDS_MAX: Final = 86400.0
#: How long the texts of a progress may be.
PROGRESS_CHARACTERS_MAX: Final = 200

#: Each may have thousands of lines, and whoever forgets them all at once keeps everybody waiting.
_FORGOTTEN_MAX: Final = 4

_COLUMNS: Final = (
    "id, kind, arguments, state, schedule, actor, address, attempts, epoch, created_at, due_at, started_at, ended_at,"
    " cancel_requested, progress, outcome, reason, summary"
)
_HELD: Final = "id = ? AND state = 'running' AND epoch = ?"
_RELEASED: Final = "lease_owner = NULL, lease_until = NULL"


class JobError(Exception):
    """What was asked about a job cannot be done; the text is for people."""


class JobUnknown(JobError):
    """There is no such job."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"there is no job {job_id}; ended ones are forgotten after housekeeping.keep_jobs")


class JobEnded(JobError):
    """It has ended, so nothing of it can be stopped."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} has ended already ({job.outcome})")


class JobNotEnded(JobError):
    """It has not ended, so it cannot be done again."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} has not ended ({job.state}); cancel it first, or wait for its end")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `done` of `total` (None: nobody knows yet), in `unit`, such as bytes, with a word about it."""

    done: float
    total: float | None
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class Job:
    """One row: a run that waits, runs, or has ended. Times are seconds since 1970 UTC."""

    id: int
    kind: str
    arguments: Mapping[str, Any]
    state: State
    #: The schedule that started it; None: somebody or something else did.
    schedule: str | None
    actor: str
    address: str
    #: How many times it was begun, without those that were handed back.
    attempts: int
    #: How many times it was taken from the queue.
    epoch: int
    created_at: float
    #: It does not begin before.
    due_at: float
    #: When the last attempt began.
    started_at: float | None
    ended_at: float | None
    cancel_requested: bool
    progress: Progress | None
    outcome: Outcome | None
    #: Of an ended one: of its summary. Of a waiting one: why the last attempt failed.
    reason: str | None
    summary: Summary | None

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took, by the wall clock; None if it has not ended. 0 if it never began."""
        if self.ended_at is None:
            return None
        return 0.0 if self.started_at is None else max(0.0, self.ended_at - self.started_at)

    def result(self) -> dict[str, Any]:
        """Of an ended one: its summary with its id and its seconds, as events and answers tell it."""
        assert self.summary is not None
        assert self.seconds is not None
        return {"job": self.id, **self.summary.told(), "seconds": round(self.seconds, 3)}

    def told(self) -> dict[str, Any]:
        """The job as JSON has it, in answers."""
        return {
            "id": self.id,
            "kind": self.kind,
            "arguments": dict(self.arguments),
            "state": self.state,
            "schedule": self.schedule,
            "actor": self.actor,
            "address": self.address,
            "attempts": self.attempts,
            "created": rfc3339(self.created_at),
            "due": rfc3339(self.due_at),
            "started": rfc3339(self.started_at),
            "ended": rfc3339(self.ended_at),
            "cancel_requested": self.cancel_requested,
            "progress": None if self.progress is None else asdict(self.progress),
            "outcome": None if self.outcome is None else str(self.outcome),
            "reason": self.reason,
            "summary": None if self.summary is None else self.result(),
        }


class Standing(Enum):
    """What somebody who runs a job learns of it."""

    HELD = auto()
    #: It is theirs, and somebody wants it to stop.
    CANCEL = auto()
    #: The lease lapsed and somebody else has taken it, or it has ended: it is none of their business any more.
    LOST = auto()


# --- asking for one ---------------------------------------------------------------------------------------------


def encoded(arguments: Mapping[str, Any] | None) -> str:
    """The arguments of a job as they are kept: the same arguments give the same text. Raises `JobError`."""
    try:
        text = json.dumps(dict(arguments or {}), sort_keys=True, separators=(",", ":"), allow_nan=False)
        same = json.loads(text) == dict(arguments or {})
    except (TypeError, ValueError, RecursionError) as error:
        raise JobError(f"the arguments of a job must be JSON: {error}") from None
    if not same:
        raise JobError("the arguments of a job must be JSON: objects with text for keys, lists, texts, numbers")
    if len(text) > ARGUMENTS_CHARACTERS_MAX:
        raise JobError(f"the arguments of a job are at most {ARGUMENTS_CHARACTERS_MAX} characters of JSON")
    return text


def enqueue(
    tx: Transaction,
    clock: Clock,
    kind: str,
    *,
    actor: str,
    address: str = "",
    arguments: Mapping[str, Any] | None = None,
    waiting_key: str | None = None,
    running_key: str | None = None,
    schedule: str | None = None,
    due_at: float | None = None,
) -> Job:
    """A new job that waits; or the one that waits for `waiting_key` already, due no later then. Raises `JobError`."""
    told, now = encoded(arguments), clock.now()
    due_at = now if due_at is None else due_at
    if waiting_key is not None:
        which = "state = 'waiting' AND waiting_key = ?"
        # After a failure it may wait for an hour; whoever asks now does not.
        tx.run(f"UPDATE jobs SET due_at = ? WHERE {which} AND due_at > ?", (due_at, waiting_key, due_at))  # noqa: S608
        row = tx.one(f"SELECT {_COLUMNS} FROM jobs WHERE {which}", (waiting_key,))  # noqa: S608
        if row is not None:
            return _job(row)
    row = tx.one(
        "INSERT INTO jobs (kind, arguments, state, waiting_key, running_key, schedule, actor, address,"  # noqa: S608
        " attempts, epoch, created_at, due_at, cancel_requested)"
        f" VALUES (?, ?, 'waiting', ?, ?, ?, ?, ?, 0, 0, ?, ?, 0) RETURNING {_COLUMNS}",
        (kind, told, waiting_key, running_key, schedule, actor, address, now, due_at),
    )
    assert row is not None
    return _job(row)


def skip(
    tx: Transaction,
    clock: Clock,
    kind: str,
    *,
    actor: str,
    schedule: str,
    reason: str,
    waiting_key: str | None = None,
    running_key: str | None = None,
) -> Job:
    """A job that has ended before it began, so that people see why it did not. Its keys are for `again`."""
    now, summary = clock.now(), Summary(Outcome.SKIPPED, reason)
    row = tx.one(
        "INSERT INTO jobs (kind, arguments, state, waiting_key, running_key, schedule, actor, address, attempts,"  # noqa: S608
        " epoch, created_at, due_at, ended_at, cancel_requested, outcome, reason, summary)"
        f" VALUES (?, '{{}}', 'ended', ?, ?, ?, ?, '', 0, 0, ?, ?, ?, 0, ?, ?, ?) RETURNING {_COLUMNS}",
        (
            kind,
            waiting_key,
            running_key,
            schedule,
            actor,
            now,
            now,
            now,
            str(summary.outcome),
            reason,
            json.dumps(summary.told()),
        ),
    )
    assert row is not None
    return _job(row)


def cancel(tx: Transaction, clock: Clock, job_id: int) -> Job:
    """End a job that waits; ask who runs it to stop. Raises `JobUnknown`, `JobEnded`.

    If it has ended by this, the caller tells so in the same transaction (`Worker`'s `on_end`).
    """
    job = _known(tx, job_id)
    if job.state == "ended":
        raise JobEnded(job)
    if job.state == "waiting":
        return _end(tx, clock, "id = ? AND state = 'waiting'", (job_id,), Summary(Outcome.CANCELLED)) or job
    row = tx.one(f"UPDATE jobs SET cancel_requested = 1 WHERE id = ? RETURNING {_COLUMNS}", (job_id,))  # noqa: S608
    return _job(row) if row else job


def again(tx: Transaction, clock: Clock, job_id: int, actor: str, address: str) -> Job:
    """A new job that does the same as one that has ended. Raises `JobUnknown`, `JobNotEnded`."""
    job = _known(tx, job_id)
    if job.state != "ended":
        raise JobNotEnded(job)
    row = tx.one("SELECT waiting_key, running_key FROM jobs WHERE id = ?", (job_id,))
    waiting_key, running_key = row or (None, None)
    return enqueue(
        tx,
        clock,
        job.kind,
        actor=actor,
        address=address,
        arguments=job.arguments,
        waiting_key=waiting_key,
        running_key=running_key,
    )


# --- looking ----------------------------------------------------------------------------------------------------


def get(tx: Transaction, job_id: int) -> Job | None:
    """The job with this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,))  # noqa: S608
    return _job(row) if row else None


def listed(
    tx: Transaction, *, kind: str | None = None, state: State | None = None, before: int | None = None, limit: int = 50
) -> list[Job]:
    """The newest `limit` jobs (of the kind, in the state, with ids below `before`), the newest first."""
    # Most have ended: those are read from the newest on. By the index on `state` all of them would be sorted.
    in_state = "state || '' = ?" if state == "ended" else "state = ?"
    conditions = {"kind = ?": kind, in_state: state, "id < ?": before}
    wanted = {condition: value for condition, value in conditions.items() if value is not None}
    where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
    rows = tx.all(f"SELECT {_COLUMNS} FROM jobs {where} ORDER BY id DESC LIMIT ?", (*wanted.values(), limit))  # noqa: S608
    return list(map(_job, rows))


def unended(tx: Transaction, schedule: str) -> bool:
    """Whether a job that this schedule started waits or runs."""
    sql = "SELECT 1 FROM jobs WHERE state IN ('waiting', 'running') AND schedule = ? LIMIT 1"
    return tx.one(sql, (schedule,)) is not None


# --- running it -------------------------------------------------------------------------------------------------


def claimable(
    tx: Transaction, clock: Clock, kinds: Sequence[str], only: int | None = None, besides: Sequence[int] = ()
) -> int | None:
    """The id of the job that is next: one whose lease lapsed, or the first that is due and whose running key is free.

    Of these kinds; with `only`: that one or none; never one of `besides`. A clock that was set back leaves leases that
    end, and jobs that begin, too far in the future: these lapsed, and are due.
    """
    now, marks = clock.now(), ", ".join("?" * len(kinds))
    meant = f"kind IN ({marks}) AND id = coalesce(?, id)"
    row = tx.one(
        f"SELECT id FROM jobs WHERE state = 'running' AND (lease_until <= ? OR lease_until > ?) AND {meant}"  # noqa: S608
        + (f" AND id NOT IN ({', '.join('?' * len(besides))})" if besides else "")
        + " ORDER BY lease_until, id LIMIT 1",
        (now, now + LEASE_SECONDS_MAX, *kinds, only, *besides),
    ) or tx.one(
        f"SELECT id FROM jobs WHERE state = 'waiting' AND (due_at <= ? OR created_at > ? OR started_at > ?)"  # noqa: S608
        f" AND {meant} AND (running_key IS NULL OR running_key NOT IN"
        " (SELECT running_key FROM jobs WHERE state = 'running' AND running_key IS NOT NULL))"
        " ORDER BY due_at, id LIMIT 1",
        (now, now, now, *kinds, only),
    )
    return row[0] if row else None


def claim(
    tx: Transaction,
    clock: Clock,
    owner: str,
    leases: Mapping[str, float],
    only: int | None = None,
    besides: Sequence[int] = (),
) -> Job | None:
    """Take the job that is next, of the kinds in `leases`, for so many seconds; None: there is none.

    It may be one that was to be cancelled, or that was begun too often by workers that died: the caller sees to that.
    """
    job_id = claimable(tx, clock, tuple(leases), only, besides)
    found = get(tx, job_id) if job_id is not None else None
    if found is None:
        return None
    now = clock.now()
    row = tx.one(
        "UPDATE jobs SET state = 'running', attempts = attempts + 1, epoch = epoch + 1, started_at = ?,"  # noqa: S608
        " progress = NULL, reason = NULL, lease_owner = ?, lease_until = ?"
        f" WHERE id = ? AND epoch = ? RETURNING {_COLUMNS}",
        (now, owner, now + leases[found.kind], found.id, found.epoch),
    )
    return _job(row) if row else None


def standing(tx: Transaction, job: Job) -> Standing:
    """What somebody who took `job` has to know. One point read."""
    row = tx.one(f"SELECT cancel_requested FROM jobs WHERE {_HELD}", (job.id, job.epoch))  # noqa: S608
    if row is None:
        return Standing.LOST
    return Standing.CANCEL if row[0] else Standing.HELD


def renew(tx: Transaction, clock: Clock, job: Job, seconds: float) -> Standing:
    """Keep the job for `seconds` from now, also if its lease lapsed and nobody took it."""
    until = clock.now() + seconds
    tx.run(f"UPDATE jobs SET lease_until = ? WHERE {_HELD}", (until, job.id, job.epoch))  # noqa: S608
    return standing(tx, job)


def report(tx: Transaction, job: Job, progress: Progress) -> None:
    """Note how far the job is, if it is still the caller's."""
    texts = {"unit": progress.unit, "text": progress.text}
    told = {**asdict(progress), **{key: shortened(text, PROGRESS_CHARACTERS_MAX) for key, text in texts.items()}}
    tx.run(f"UPDATE jobs SET progress = ? WHERE {_HELD}", (json.dumps(told), job.id, job.epoch))  # noqa: S608


def end(tx: Transaction, clock: Clock, job: Job, summary: Summary) -> Job | None:
    """End the job; None: it is not the caller's any more."""
    return _end(tx, clock, _HELD, (job.id, job.epoch), summary)


def retry_later(tx: Transaction, job: Job, due_at: float, reason: str) -> Job | None:
    """Let the job wait until `due_at` for its next attempt; None: it is not the caller's any more."""
    return _release(tx, job, "due_at = ?, reason = ?", (due_at, shortened(reason, REASON_CHARACTERS_MAX)))


def hand_back(tx: Transaction, clock: Clock, job: Job) -> Job | None:
    """Let somebody else begin the job anew, as if it had not been begun; None: it is not the caller's any more."""
    return _release(tx, job, "due_at = ?, started_at = NULL, attempts = attempts - 1", (clock.now(),))


def prune(tx: Transaction, before: float, limit: int = 1_000) -> int:
    """Forget the oldest jobs, at most `limit` and few, that ended before `before`, with their logs; how many."""
    return tx.run(
        "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs"
        " WHERE state = 'ended' AND due_at < ? AND ended_at < ? ORDER BY due_at LIMIT ?)",
        (before, before, min(limit, _FORGOTTEN_MAX)),
    )


def _release(tx: Transaction, job: Job, change: str, parameters: tuple[str | float, ...]) -> Job | None:
    # While it ran, another one with its waiting key may have come to wait: then it waits beside that, without the key.
    row = tx.one(
        f"UPDATE jobs SET state = 'waiting', {_RELEASED}, progress = NULL, {change}, waiting_key = CASE WHEN EXISTS"  # noqa: S608
        " (SELECT 1 FROM jobs other WHERE other.state = 'waiting' AND other.waiting_key = jobs.waiting_key)"
        f" THEN NULL ELSE waiting_key END WHERE {_HELD} RETURNING {_COLUMNS}",
        (*parameters, job.id, job.epoch),
    )
    return _job(row) if row else None


def _end(tx: Transaction, clock: Clock, where: str, which: tuple[int, ...], summary: Summary) -> Job | None:
    told = summary.told()
    row = tx.one(
        f"UPDATE jobs SET state = 'ended', {_RELEASED}, ended_at = ?, outcome = ?, reason = ?, summary = ?"  # noqa: S608
        f" WHERE {where} RETURNING {_COLUMNS}",
        (clock.now(), told["outcome"], told["reason"], json.dumps(told), *which),
    )
    return _job(row) if row else None


def _known(tx: Transaction, job_id: int) -> Job:
    job = get(tx, job_id)
    if job is None:
        raise JobUnknown(job_id)
    return job


def _job(row: Row) -> Job:
    job = dict(zip(_COLUMNS.split(", "), row, strict=True))
    job["arguments"] = json.loads(job["arguments"])
    job["cancel_requested"] = bool(job["cancel_requested"])
    if job["progress"] is not None:
        job["progress"] = Progress(**json.loads(job["progress"]))
    if job["outcome"] is not None:
        job["outcome"] = Outcome(job["outcome"])
    if job["summary"] is not None:
        job["summary"] = Summary.parse(json.loads(job["summary"]))
    return Job(**job)
