"""What the API takes and gives, as types: requests are checked with these, and the OpenAPI document is made of them.

Holds: a request names nothing that is not here. An answer has every field of its type, and no other.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from homeport.config.plans import EventPattern
from homeport.events import Position
from homeport.jobs.queue import State
from homeport.kinds import Outcome
from homeport.notify import sent
from homeport.notify.deliveries import State as DeliveryState
from homeport.oci import patterns

#: What one answer lists at most.
LIMIT_MAX = 1_000
_ID_MAX = 2**63 - 1
#: Longer ago than this, nothing was.
_SECONDS_AGO_MAX = 1e10
_SECONDS = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")


def _whole(value: object) -> object:
    """A whole number as parameters write it: digits, and nothing else."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= len(str(_ID_MAX))):
            raise ValueError("must be a whole number that is not negative")
        return int(value)
    return value


def _flag(value: object) -> object:
    if isinstance(value, str):
        if value not in {"true", "false"}:
            raise ValueError("must be true or false")
        return value == "true"
    return value


def _pattern(value: str) -> str:
    patterns.compiled(value)
    return value


def _since(value: object) -> float | datetime:
    problem = ValueError("must be seconds ago, such as 3600, or a time with its zone, such as 2026-01-31T08:00:00Z")
    if not isinstance(value, str):
        raise problem
    if _SECONDS.fullmatch(value):
        return min(float(value), _SECONDS_AGO_MAX)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise problem from None
    if moment.tzinfo is None:
        raise problem
    return moment


def _position(value: object) -> Position:
    return Position.parse(str(value))


Number = Annotated[int, Field(ge=0, le=_ID_MAX), BeforeValidator(_whole)]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX), BeforeValidator(_whole)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Pattern = Annotated[str, Field(max_length=patterns.PATTERN_CHARACTERS_MAX), AfterValidator(_pattern)]
Since = Annotated[float | datetime, PlainValidator(_since), WithJsonSchema({"type": "string"})]
At = Annotated[Position, PlainValidator(_position), WithJsonSchema({"type": "string", "pattern": "^[0-9]+-[0-9]+$"})]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# --- requests ---------------------------------------------------------------------------------------------------


class Nothing(_Model):
    """No parameters, or an empty body."""


class JobList(_Model):
    """Which jobs are listed, the newest first."""

    kind: Name | None = Field(None, description="Only jobs of this kind.")
    state: State | None = Field(None, description="Only jobs that are waiting, running or ended.")
    before: Number | None = Field(None, description="Only jobs with a smaller id: the next page.")
    limit: Limit = Field(50, description="How many, at most.")


class JobId(_Model):
    """A job."""

    id: Number = Field(description="The id of the job.")


class JobLines(JobId):
    """Which lines of a job's log."""

    after: Number = Field(0, description="Only lines behind the one with this number.")
    limit: Limit = Field(LIMIT_MAX, description="How many, at most.")


class JobFollow(JobId):
    """From where a job's log is followed."""

    after: Number = Field(0, description="Only lines behind the one with this number.")


class RunRequest(_Model):
    """What is to run."""

    kind: Name = Field(description="The kind of the job, such as housekeeping.")
    arguments: dict[str, Any] = Field({}, description="What the kind takes.")


class EventSearch(_Model):
    """Which events, the oldest first; without `after` and `since` the newest."""

    after: At | None = Field(
        None, description="Begin behind this position: `next` of a page, or `position` of an event."
    )
    since: Since | None = Field(
        None, description="Begin so many seconds ago, or at this time, such as 2026-01-31T08:00:00Z."
    )
    kind: EventPattern = Field("*", description="Only kinds that match, such as `tag.set` or `tag.*`.")
    repository: Pattern | None = Field(None, description="Only repositories that match, such as `team/**`.")
    limit: Limit | None = Field(None, description="How many, at most; 100 unless it is said.")
    follow: Flag = Field(
        default=False, description="true: go on with what happens from now on, as a stream; then without `limit`."
    )


class TargetName(_Model):
    """A target of notifications."""

    name: Name = Field(description="The name of the target in the configuration.")


class DeliveryList(_Model):
    """Which deliveries are listed, the newest first."""

    target: Name | None = Field(None, description="Only those for this target.")
    state: DeliveryState | None = Field(None, description="Only those that are waiting, sent or given-up.")
    before: Number | None = Field(None, description="Only those with a smaller id: the next page.")
    limit: Limit = Field(50, description="How many, at most.")


class DeliveryId(_Model):
    """A delivery."""

    id: Number = Field(description="The id of the delivery.")


# --- answers ----------------------------------------------------------------------------------------------------


class Failure(_Model):
    """One thing that could not be done, and why."""

    what: str
    why: str


class RunSummary(_Model):
    """How a run ended."""

    job: int
    outcome: Outcome
    reason: str | None
    counts: dict[str, int]
    failures: list[Failure]
    #: How many things failed: there may be more than are listed.
    failed: int
    seconds: float


class Progress(_Model):
    """How far a run is."""

    done: float
    total: float | None
    unit: str
    text: str


class Job(_Model):
    """A run that waits, runs or has ended."""

    id: int
    kind: str
    arguments: dict[str, Any]
    state: State
    schedule: str | None
    actor: str
    address: str
    attempts: int
    created: Moment
    due: Moment
    started: Moment | None
    ended: Moment | None
    cancel_requested: bool
    progress: Progress | None
    outcome: Outcome | None
    reason: str | None
    summary: RunSummary | None


class Jobs(_Model):
    """Jobs, the newest first."""

    jobs: list[Job]


class Line(_Model):
    """Something that a job said. Where numbers are missing, older lines were forgotten."""

    number: int
    at: Moment
    text: str


class Log(_Model):
    """Lines of a job's log, in their order."""

    lines: list[Line]


class JobChanged(_Model):
    """The job, as it is now."""

    job: Job


class JobSaid(_Model):
    """A new line of its log."""

    line: Line


class Event(_Model):
    """Something that happened."""

    id: int
    position: str
    time: Moment
    kind: str
    actor: str
    address: str
    repository: str | None
    digest: str | None
    tag: str | None
    reason: str | None
    run: str | None
    detail: dict[str, Any] | None


class Events(_Model):
    """A page of the audit log. If `next` is where the request began, there is nothing more yet."""

    events: list[Event]
    next: str


class EventHappened(_Model):
    """One event of a log that is followed."""

    event: Event


class Target(_Model):
    """Somebody who is told what happens; of secrets only where they are."""

    name: str
    url: str
    on: list[str]
    repositories: list[str]
    format: str
    method: str | None
    secret: str | None
    headers: dict[str, str]


class Targets(_Model):
    """The targets, in the order of the configuration."""

    targets: list[Target]


class Sent(_Model):
    """What came of one try to tell a target."""

    status: int | None
    answer: str
    outcome: sent.Outcome
    receiver: str


class Delivery(_Model):
    """One event for one target."""

    id: int
    target: str
    event: int
    kind: str
    message: str
    state: DeliveryState
    time: Moment
    due: Moment | None
    attempts: int
    tried: Moment | None
    status: int | None
    answer: str | None


class Deliveries(_Model):
    """Deliveries, the newest first."""

    deliveries: list[Delivery]


class SecretChecked(_Model):
    """Whether a secret can be read, and where it comes from. Never its value."""

    name: str
    reference: str
    ok: bool
    source: str
    problem: str | None


class SecretsChecked(_Model):
    """Every secret that the configuration refers to."""

    secrets: list[SecretChecked]


class Problem(_Model):
    """Why a request failed."""

    code: str
    message: str
    #: Under this id the request is in the log.
    request: str


class Failed(_Model):
    """The one form of every error."""

    error: Problem
