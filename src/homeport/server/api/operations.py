"""Every operation of the API, in one table: its routes, its description and its page are made of this."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from homeport.oci.errors import RegistryError
from homeport.server.api import events, jobs, models, notifications, references
from homeport.server.api.answers import Answer
from homeport.server.api.calls import Call
from homeport.server.api.errors import Conflict, Invalid, MediaTypeWrong, NotFound, TooLarge
from homeport.server.api.models import Nothing

PREFIX: Final = "/api/v1"

_SENDING: Final = (MediaTypeWrong, TooLarge)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the API does."""

    #: Its name in the OpenAPI document and in the counters.
    name: str
    method: Literal["GET", "POST"]
    #: Below `PREFIX`. What stands in braces is a parameter; with `:path` behind it, it may have slashes.
    path: str
    summary: str
    handler: Callable[[Call[Any, Any]], Awaitable[Answer]]
    #: The type of the answer: one document, and of each line of one that goes on. None: it has no such answer.
    answer: type[BaseModel] | None
    lines: tuple[type[BaseModel], ...] = ()
    parameters: type[BaseModel] = Nothing
    body: type[BaseModel] = Nothing
    status: int = 200
    #: What it refuses, beside what every operation does.
    refuses: tuple[type[RegistryError], ...] = ()


OPERATIONS: Final = (
    Operation(
        "jobs-list", "GET", "/jobs", "What runs, waits and ran, the newest first.",
        jobs.listed, models.Jobs, parameters=models.JobList, refuses=(Invalid,),
    ),
    Operation(
        "jobs-run", "POST", "/jobs",
        "Ask for a run. Where one that does the same waits already, that one is the answer.",
        jobs.start, models.Job, body=models.RunRequest, status=202, refuses=(Invalid, *_SENDING),
    ),
    Operation(
        "job-show", "GET", "/jobs/{id}", "One job.",
        jobs.one, models.Job, parameters=models.JobId, refuses=(Invalid, NotFound),
    ),
    Operation(
        "job-log", "GET", "/jobs/{id}/log", "What a job said.",
        jobs.log, models.Log, parameters=models.JobLines, refuses=(Invalid, NotFound),
    ),
    Operation(
        "job-follow", "GET", "/jobs/{id}/follow",
        "A job while it goes on: itself when it has changed, and its lines. Ends with the job as it ended.",
        jobs.follow, None, (models.JobChanged, models.JobSaid), models.JobFollow, refuses=(Invalid, NotFound),
    ),
    Operation(
        "job-cancel", "POST", "/jobs/{id}/cancel", "End a job that waits; ask one that runs to stop.",
        jobs.cancel, models.Job, parameters=models.JobId, refuses=(Invalid, NotFound, Conflict, *_SENDING),
    ),
    Operation(
        "job-retry", "POST", "/jobs/{id}/retry", "Ask for what a job did that has ended, as a new job.",
        jobs.retry, models.Job, parameters=models.JobId, status=202, refuses=(Invalid, NotFound, Conflict, *_SENDING),
    ),
    Operation(
        "events-list", "GET", "/events", "The audit log: a page of it, or what happens from now on.",
        events.listed, models.Events, (models.EventHappened,), models.EventSearch, refuses=(Invalid,),
    ),
    Operation(
        "targets-list", "GET", "/targets", "Who is told what happens.",
        notifications.targets, models.Targets, refuses=(Invalid,),
    ),
    Operation(
        "target-test", "POST", "/targets/{name:path}/test", "Send a sample, once; the answer is the receiver's.",
        notifications.test, models.Sent, parameters=models.TargetName, refuses=(Invalid, NotFound, *_SENDING),
    ),
    Operation(
        "deliveries-list", "GET", "/deliveries", "What was told, waits to be told, and was given up; the newest first.",
        notifications.listed, models.Deliveries, parameters=models.DeliveryList, refuses=(Invalid,),
    ),
    Operation(
        "delivery-replay", "POST", "/deliveries/{id}/replay", "Tell it again: it waits as if it had not been told.",
        notifications.replay, models.Delivery, parameters=models.DeliveryId, status=202,
        refuses=(Invalid, NotFound, Conflict, *_SENDING),
    ),
    Operation(
        "secrets-check", "GET", "/secrets", "Read every secret in use, and say where each comes from. Never a value.",
        references.check, models.SecretsChecked, refuses=(Invalid,),
    ),
)  # fmt: skip
