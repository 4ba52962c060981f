"""Whoever asks a simulated registry for something, and writes down what was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from homeport.db.database import DatabaseError, Transaction
from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import RegistryError
from homeport.registry.registry import Registry
from homeport.registry.uploads import Sessions
from homeport.storage.blobstore import StorageError
from homeport.testing.model import Change, Model
from tests.simulation.ledger import Request
from tests.simulation.world import World

T = TypeVar("T")

Refusals = dict[type[RegistryError], Callable[[Model], bool]]


class NoAnswer(Exception):
    """The request ended without one: the client hung up, or the registry could not do it at the moment."""


def whatever(_: Model) -> bool:
    """True at any moment: an answer that says nothing about images."""
    return True


@dataclass
class Server:
    """One process of a registry, as those see it who ask it."""

    world: World
    registry: Registry
    sessions: Sessions = field(default_factory=Sessions)
    #: Requests whose clients did not wait for the answer.
    hung_up: list[asyncio.Task[object]] = field(default_factory=list)


class Asker:
    """Asks for one thing after the other."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._world = server.world
        self._registry = server.registry
        self._sessions = server.sessions
        self._name = name
        self._requests = 0

    async def _attempt(self, action: Callable[..., Awaitable[object]], *args: object) -> None:
        try:
            await action(*args)
        except (RegistryError, NoAnswer) as error:
            self._world.note(f"{self._name} gives up: {type(error).__name__}")

    # --- drawing ------------------------------------------------------------------------------------------------

    def _draw(self) -> float:
        return self._world.clock.random()

    def _one(self, things: Iterable[T]) -> T:
        found = list(things)
        return found[self._world.clock.below(len(found))]

    # --- requests -----------------------------------------------------------------------------------------------

    async def _ask(
        self,
        text: str,
        call: Callable[[Origin], Coroutine[Any, Any, T]],
        *,
        answer: Callable[[T], Callable[[Model], bool]] = lambda _: whatever,
        refusals: Refusals | None = None,
        causes: Iterable[Change] = (),
        must_cause: bool = False,
        durable: bool = False,
        promises: Iterable[tuple[str, Digest]] = (),
        gradual: bool = False,
    ) -> T:
        """Make a request and write down what it was answered.

        `answer` gives what must have been true of the images for this result, `refusals` for an error; any other
        error is a fault of the registry. `durable`: the answer says that something was done that lasts. `gradual`: it
        is done bit by bit.
        """
        world = self._world
        self._requests += 1
        world.operations += 1
        run = f"{world.life}-{self._name}-{self._requests}"
        since = await world.observed.read(_last_change)
        request = Request(run, f"{run} {text}", frozenset(causes), since, world.clock.now(), gradual=gradual)
        world.ledger.begin(request)
        world.note(request.text)
        try:
            result = await self._until_hung_up(call(Origin(self._name, run=run)))
        except RegistryError as error:
            if type(error) not in (refusals or {}):
                raise AssertionError(f"{request.text}: {error!r}") from error
            request.witness = (refusals or {})[type(error)]
            request.until = await world.observed.read(_last_change)
            world.note(f"{run} refused: {type(error).__name__}")
            raise
        except (StorageError, DatabaseError) as error:
            if not world.may_fail(error):
                raise AssertionError(f"{request.text}: {error!r}") from error
            world.note(f"{run} failed: {error!r}")
            raise NoAnswer from error
        request.witness = answer(result)
        request.must_cause = must_cause
        request.durable = durable
        request.promises = tuple(promises)
        request.until = await world.observed.read(_last_change)
        request.ended_at = world.clock.now()
        world.note(f"{run} answered")
        return result

    async def _until_hung_up(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for the answer; one client in twenty hangs up, and does not wait until the server has noticed."""
        task = asyncio.create_task(call)
        if self._draw() < 0.05:
            await asyncio.wait([task], timeout=self._draw() * 0.2)
            if not task.done():
                task.cancel()
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._server.hung_up.append(task)
                raise NoAnswer
        return await task


def _last_change(tx: Transaction) -> int:
    row = tx.one("SELECT coalesce(max(id), 0) FROM events WHERE repository IS NOT NULL AND digest IS NOT NULL")
    assert row is not None
    last: int = row[0]
    return last


def going(tx: Transaction, now: float) -> list[str]:
    """The blobs that a sweep is about to take; if there are none, those that it took lately, or somebody writes."""
    rows = tx.all("SELECT digest FROM blobs WHERE state = 'condemned' AND location IS NOT NULL") or tx.all(
        "SELECT digest FROM holds UNION SELECT digest FROM trashed_blobs WHERE retired_at > ?", (now - 600,)
    )
    return [digest for (digest,) in rows]
