"""The command line with the real program behind it, but for what the job `housekeeping` does: that is the test's."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from homeport import administration
from homeport.__main__ import DOORS
from homeport.app.composition import open_services
from homeport.cli.context import Doors, Services
from homeport.config.settings import Settings
from homeport.db.database import Transaction
from homeport.jobs.queue import Job
from homeport.jobs.summary import Summary
from homeport.jobs.work import Kind, Run
from homeport.jobs.worker import Worker
from homeport.observe import Level, Log
from homeport.registry.registry import Registry

Body = Callable[[Run], Awaitable[Summary]]


def doors(body: Body) -> Doors:
    """What `main.run` is handed."""
    return replace(DOORS, open_services=_services(body))


def _services(body: Body) -> Callable[[Settings, Registry], AbstractAsyncContextManager[Services]]:
    @asynccontextmanager
    async def opened(settings: Settings, registry: Registry) -> AsyncIterator[Services]:
        async with open_services(settings, registry) as services:
            clock = registry.clock
            kinds = {"housekeeping": Kind("housekeeping", body)}
            log = Log(sys.stderr, clock, level=Level.ERROR, as_json=False)

            def on_end(tx: Transaction, job: Job) -> None:
                administration.ended(tx, clock, job)

            worker = Worker(registry.db, clock, log, kinds, count=1, on_end=on_end)
            yield Services(kinds, worker, services.mirror)

    return opened
