"""The command line on a program of the test's own: the real one, but for what the job `housekeeping` does."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from homeport import administration, app, config
from homeport.cli.context import Doors, Outgoing, Services
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.clock import SystemClock
from homeport.config import Settings, process_environment
from homeport.db.database import Transaction
from homeport.jobs.queue import Job
from homeport.jobs.summary import Summary
from homeport.jobs.work import Kind, Run
from homeport.jobs.worker import Worker
from homeport.kinds import Outcome
from homeport.notify.notifier import Notifier
from homeport.notify.targets import targets_of
from homeport.observe import Level, Log
from homeport.secretstore import SecretStore

Body = Callable[[Run], Awaitable[Summary]]


async def nothing(run: Run) -> Summary:
    await run.say("nothing to do")
    return Summary(Outcome.SUCCESS, counts={"rows": 3})


def services(body: Body) -> Callable[[Settings], AbstractAsyncContextManager[Services]]:
    @asynccontextmanager
    async def opened(settings: Settings) -> AsyncIterator[Services]:
        async with app.open_registry(settings) as registry:
            clock = registry.clock
            log = Log(sys.stderr, clock, level=Level.WARNING, as_json=False)
            kinds = {"housekeeping": Kind("housekeeping", body)}

            def on_end(tx: Transaction, job: Job) -> None:
                administration.ended(tx, clock, job)

            worker = Worker(registry.db, clock, log, kinds, count=1, on_end=on_end)
            yield Services(registry, kinds, worker)

    return opened


@asynccontextmanager
async def outgoing(settings: Settings) -> AsyncIterator[Outgoing]:
    clock, environ = SystemClock(), process_environment()
    log = Log(sys.stderr, clock, level=Level.WARNING, as_json=False)

    async def tell(kind: str, reason: str) -> None:
        log.warning(kind, reason=reason)

    async with Transport(ClientSettings.of(settings.client), clock) as transport:
        secrets = SecretStore(clock, environ, transport, settings=settings.secrets, tell=tell)
        try:
            notifier = Notifier(
                None,
                clock,
                transport,
                secrets,
                log,
                server_url=lambda: settings.server.url or "",
                busy=lambda: False,
                environ=environ,
            )
            await notifier.reconfigure(targets_of(settings.notify))
            yield Outgoing(notifier, secrets, config.references(settings))
        finally:
            secrets.close()


def doors(body: Body = nothing) -> Doors:
    """What `main.run` is handed."""
    return Doors(
        run=app.run,
        open_registry=app.open_registry,
        open_services=services(body),
        open_outgoing=outgoing,
        problems=app.problems,
    )
