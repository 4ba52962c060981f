"""Runs: asking for them, looking at them, following and stopping them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from homeport import administration
from homeport.clock import Clock
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.jobs import joblog, queue
from homeport.jobs.joblog import Line
from homeport.jobs.queue import Job, JobEnded, JobError, JobNotEnded, JobUnknown
from homeport.server.api import streams
from homeport.server.api.answers import Document, Lines
from homeport.server.api.calls import Call
from homeport.server.api.errors import ApiError, Conflict, Invalid, NotFound
from homeport.server.api.models import JobFollow, JobId, JobLines, JobList, Nothing, RunRequest
from homeport.server.api.services import ApiServices
from homeport.server.api.streams import News

#: Lines of a log that are looked at in one go.
_LINES_STEP = 500


async def listed(call: Call[JobList, Nothing]) -> Document:
    """GET /jobs."""
    asked = call.parameters
    found = await call.services.database.read(
        queue.listed, kind=asked.kind, state=asked.state, before=asked.before, limit=asked.limit
    )
    return Document({"jobs": [job.told() for job in found]})


async def start(call: Call[Nothing, RunRequest]) -> Document:
    """POST /jobs."""
    services, wanted = call.services, call.body
    try:
        job = await services.database.write(
            administration.request, services.clock, services.kinds, wanted.kind, call.origin, wanted.arguments
        )
    except JobError as error:
        raise _refusal(error) from None
    services.call_worker()
    return _begun(job)


async def one(call: Call[JobId, Nothing]) -> Document:
    """GET /jobs/{id}."""
    return Document((await _known(call.services, call.parameters.id)).told())


async def log(call: Call[JobLines, Nothing]) -> Document:
    """GET /jobs/{id}/log."""
    asked = call.parameters
    await _known(call.services, asked.id)
    found = await call.services.database.read(joblog.lines, asked.id, asked.after, asked.limit)
    return Document({"lines": [line.told() for line in found]})


async def follow(call: Call[JobFollow, Nothing]) -> Lines:
    """GET /jobs/{id}/follow."""
    job = await _known(call.services, call.parameters.id)
    follower = _Follower(call.services, job.id, call.parameters.after)
    return Lines(streams.lines(call, follower.look))


async def cancel(call: Call[JobId, Nothing]) -> Document:
    """POST /jobs/{id}/cancel."""
    return Document((await _changed(call, administration.cancel)).told())


async def retry(call: Call[JobId, Nothing]) -> Document:
    """POST /jobs/{id}/retry."""
    job = await _changed(call, administration.again)
    call.services.call_worker()
    return _begun(job)


class _Follower:
    """What is new of a job. Its end is told after its last line, and nothing after its end."""

    def __init__(self, services: ApiServices, job_id: int, after: int) -> None:
        self._services = services
        self._job_id = job_id
        self._after = after
        self._told: Mapping[str, Any] | None = None

    async def look(self) -> News:
        """The job if it has changed, and its new lines."""
        job, lines = await self._services.database.read(_look, self._job_id, self._after)
        if job is None:  # So old that it was forgotten meanwhile.
            return News([], ended=True)
        said: list[Mapping[str, Any]] = [{"line": line.told()} for line in lines]
        if lines:
            self._after = lines[-1].number
        if job.state == "ended":
            return News(said) if lines else News([{"job": job.told()}], ended=True)
        told, before = job.told(), self._told
        self._told = told
        return News(said if told == before else [{"job": told}, *said])


def _look(tx: Transaction, job_id: int, after: int) -> tuple[Job | None, list[Line]]:
    return queue.get(tx, job_id), joblog.lines(tx, job_id, after, _LINES_STEP)


async def _known(services: ApiServices, job_id: int) -> Job:
    job = await services.database.read(queue.get, job_id)
    if job is None:
        raise NotFound(str(JobUnknown(job_id)))
    return job


async def _changed(call: Call[JobId, Nothing], fact: Callable[[Transaction, Clock, Origin, int], Job]) -> Job:
    services = call.services
    try:
        return await services.database.write(fact, services.clock, call.origin, call.parameters.id)
    except JobError as error:
        raise _refusal(error) from None


def _begun(job: Job) -> Document:
    return Document(job.told(), location=f"/api/v1/jobs/{job.id}")


def _refusal(error: JobError) -> ApiError:
    if isinstance(error, JobUnknown):
        return NotFound(str(error))
    return Conflict(str(error)) if isinstance(error, JobEnded | JobNotEnded) else Invalid(str(error))
