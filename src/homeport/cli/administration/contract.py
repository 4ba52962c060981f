"""The contract of what administers a Homeport, method by method. What is told has the JSON of the API.

Errors of every method: `CommandError`, and whatever else `cli.main` knows how to explain.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from homeport.administration import Search
from homeport.cli.output import CommandError
from homeport.jobs.queue import State

#: An object of JSON.
Told: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order of the log, and the position to look on from."""

    events: Sequence[Told]
    next: str


class Unreachable(CommandError):
    """The server cannot be reached. `reason` is a word of `kinds.SKIPS`."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class Administration(ABC):
    """A Homeport as its administrator sees it."""

    # --- jobs ---------------------------------------------------------------------------------------------------

    @abstractmethod
    async def jobs(self, *, kind: str | None, state: State | None, limit: int) -> list[Told]:
        """The newest jobs, the newest first."""

    @abstractmethod
    async def job(self, job_id: int) -> Told:
        """One job."""

    @abstractmethod
    async def log(self, job_id: int) -> list[Told]:
        """The lines of a job that are kept: each with number, at, text."""

    @abstractmethod
    def follow(self, job_id: int, after: int = 0) -> AsyncGenerator[Told, None]:
        """`{"job": ...}` at first and when it changed, `{"line": ...}` behind the line `after`; the ended job is last.

        Ends with that, also where the server was started anew in between.
        """

    @abstractmethod
    async def start(self, kind: str, arguments: Mapping[str, str], *, attend: bool) -> Told:
        """Ask for a run; the job. With `attend` the caller stays: where no worker runs, this process is it.

        Raises `Unreachable`.
        """

    @property
    @abstractmethod
    def works(self) -> bool:
        """Whether a job runs in this process now, and so not without it."""

    @abstractmethod
    async def has_worker(self) -> bool:
        """Whether a process is known to run jobs, or may be one far away."""

    @abstractmethod
    async def loaded_otherwise(self, kind: str) -> list[str]:
        """The parts of the configuration that a run of this kind goes by, and that its worker has loaded otherwise.

        None where the configuration is not that worker's to read.
        """

    @abstractmethod
    async def cancel(self, job_id: int) -> Told:
        """End a job that waits; ask one that runs to stop."""

    @abstractmethod
    async def again(self, job_id: int) -> Told:
        """A new job that does the same as one that has ended."""

    # --- the audit log ------------------------------------------------------------------------------------------

    @abstractmethod
    async def newest(self, search: Search, limit: int) -> Page:
        """The newest events that are meant; its position is the end of the log."""

    @abstractmethod
    async def since(self, search: Search, seconds: float, limit: int) -> Page:
        """The first events that are meant of those that happened in the last `seconds`."""

    @abstractmethod
    async def after(self, search: Search, position: str, limit: int) -> Page:
        """The first events behind `position` that are meant. Fewer than `limit`: there are no more."""

    @abstractmethod
    def follow_events(self, search: Search, position: str) -> AsyncGenerator[Told, None]:
        """Every event behind `position` that is meant, as they happen. Does not end by itself."""

    # --- notifications and secrets ------------------------------------------------------------------------------

    @abstractmethod
    async def test(self, target: str) -> Told:
        """Send a sample to a target: status, answer, outcome, receiver."""

    @abstractmethod
    async def deliveries(self, *, target: str | None, state: str | None, limit: int) -> list[Told]:
        """The newest deliveries, the newest first."""

    @abstractmethod
    async def replay(self, delivery_id: int) -> Told:
        """Let a delivery that was sent or given up wait again; the delivery."""

    @abstractmethod
    async def secrets(self) -> list[Told]:
        """Each secret in use: name, reference, ok, source, problem. Never a value."""
