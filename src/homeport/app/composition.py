"""Building the parts of the program from the settings."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from homeport import administration, events, housekeeping
from homeport.app import core
from homeport.app.upstreaming import Upstreaming
from homeport.auth import tokens
from homeport.cli.context import Outgoing, Services
from homeport.client.errors import ClientError
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.clock import Clock, SystemClock
from homeport.config.environment import process_environment
from homeport.config.errors import ConfigError, Problem
from homeport.config.settings import Settings
from homeport.config.tree import secret_references
from homeport.db.database import DatabaseError, Transaction
from homeport.events import SYSTEM
from homeport.garbage import job as cleanup
from homeport.garbage.guard import ClockGuard
from homeport.garbage.sweep import Pace, Sweeper
from homeport.garbage.walk import Walker
from homeport.housekeeping import Prune
from homeport.inuse import Watcher
from homeport.jobs import queue, schedule, work
from homeport.jobs.queue import Job
from homeport.jobs.schedule import Plan
from homeport.jobs.work import Kind
from homeport.jobs.worker import Worker
from homeport.mirror import ages, read_ahead, sightings
from homeport.mirror import job as mirror
from homeport.mirror.eviction import Evictor
from homeport.notify import deliveries
from homeport.notify.notifier import Notifier
from homeport.notify.targets import Target, targets_of
from homeport.observe import Level, Log
from homeport.registry import quotas
from homeport.registry.registry import Registry
from homeport.secretstore.store import SecretStore, Tell

#: What is known of an upstream and nothing has needed for so long is forgotten.
UNNEEDED_SECONDS = 90 * 86_400.0
#: How long a run waits at most that was asked for without the bell of the data folder (`storage/bell.py`).
LOOK_SECONDS = 0.5


@asynccontextmanager
async def open_services(settings: Settings, registry: Registry) -> AsyncIterator[Services]:
    """What runs jobs on the registry, for a verb of the command line. Nothing runs by itself."""
    clock = registry.clock
    log = program_log(settings, clock, least=Level.WARNING)
    async with AsyncExitStack() as stack:
        stack.callback(log.flush)
        transport = await stack.enter_async_context(Transport(ClientSettings.of(settings.client), clock))
        secrets = SecretStore(
            clock, process_environment(), transport, settings=settings.secrets, tell=_teller(registry, log)
        )
        stack.callback(secrets.close)
        secrets.use(reference for _, reference in secret_references(settings))
        cleaner = _Cleaner.of(registry, log, busy=lambda: False)
        upstreaming = await Upstreaming.open(
            registry, transport, secrets, log, lambda: settings, cleaner.guard.may_delete, stack
        )
        upstreaming.reconfigure(settings)
        kinds = _kinds(registry, cleaner, upstreaming, lambda: settings)
        worker = _worker(registry, kinds, log, settings)
        yield Services(kinds=kinds, worker=worker, mirror=upstreaming.parts)


@asynccontextmanager
async def open_outgoing(settings: Settings) -> AsyncIterator[Outgoing]:
    """What tells the settings' targets, without a data folder: nothing is remembered, nothing tried again later."""
    clock = SystemClock()
    log = program_log(settings, clock, least=Level.WARNING)

    async def tell(kind: str, reason: str) -> None:
        """Nobody: what cannot be read is in the answer of whoever asked for it."""

    async with AsyncExitStack() as stack:
        stack.callback(log.flush)
        environ = process_environment()
        transport = await stack.enter_async_context(Transport(ClientSettings.of(settings.client), clock))
        secrets = SecretStore(clock, environ, transport, settings=settings.secrets, tell=tell)
        stack.callback(secrets.close)
        found = secret_references(settings)
        secrets.use(reference for _, reference in found)
        url = settings.server.url or ""
        notifier = Notifier(
            None, clock, transport, secrets, log, server_url=lambda: url, busy=lambda: False, environ=environ
        )
        await notifier.reconfigure(targets_of(settings.notify))
        yield Outgoing(notifier=notifier, secrets=secrets, references=found)


async def _nothing() -> None:
    """Nobody is served here."""


@dataclass(slots=True)
class Program:
    """The parts that every process has that runs for long, whatever its role."""

    #: As they count now; replaced as a whole when the configuration is read again.
    settings: Settings
    environ: Mapping[str, str]
    registry: Registry
    log: Log
    transport: Transport
    secrets: SecretStore
    notifier: Notifier
    watcher: Watcher
    worker: Worker
    kinds: Mapping[str, Kind]
    sweeper: Sweeper
    walker: Walker
    evictor: Evictor
    upstreaming: Upstreaming
    #: Whether it is this process that keeps schedules, runs jobs and tells people.
    works: bool
    #: Whether requests are being answered, which must not be slowed down.
    busy: Callable[[], bool] = field(default=lambda: False)
    #: The same within the last second: between two requests of one client nobody is served for a moment.
    asked_lately: Callable[[], bool] = field(default=lambda: False)
    #: Writes down which images were pulled here.
    flush_pulls: Callable[[], Awaitable[None]] = field(default=_nothing)

    @property
    def server_url(self) -> str:
        """Where people reach the registry, for the links in what they are told; empty where nobody said."""
        return self.settings.server.url or ""

    async def apply(self, settings: Settings, targets: list[Target]) -> None:
        """Go by other settings from now on, as far as they may change while the program runs.

        Raises `ConfigError` or `DatabaseError`, and then goes by the old ones.
        """
        before = self.transport.settings
        try:
            self.transport.reconfigure(ClientSettings.of(settings.client))
        except ClientError as error:
            raise ConfigError([Problem("client", str(error))]) from None
        try:
            if self.works:
                await self.registry.db.write(_sync, self.registry.clock, self.kinds, settings)
            await self.notifier.reconfigure(targets)
        except DatabaseError:
            self.transport.reconfigure(before)
            raise
        self.settings = settings
        self.registry.rules = core.rules_of(settings)
        self.watcher.reconfigure(settings.in_use)
        self.upstreaming.reconfigure(settings)
        self.log.level = Level[settings.log.level.upper()]
        self.secrets.reconfigure(settings.secrets)
        self.secrets.use(reference for _, reference in secret_references(settings))

    async def tick(self) -> None:
        """Start what is due."""
        clock = self.registry.clock
        await schedule.step(self.registry.db, clock, self.kinds, _ended(clock))


async def open_program(
    settings: Settings, environ: Mapping[str, str], log: Log, clock: Clock, stack: AsyncExitStack, *, works: bool
) -> Program:
    """Build the parts, of which those that work by themselves do so if `works`. `stack` takes them down.

    Raises `ConfigError`.
    """
    targets = targets_of(settings.notify)
    registry = await core.build(settings, clock, stack)
    transport = await stack.enter_async_context(Transport(ClientSettings.of(settings.client), clock))

    secrets = SecretStore(clock, environ, transport, settings=settings.secrets, tell=_teller(registry, log))
    stack.callback(secrets.close)
    notifier = Notifier(
        registry.db,
        clock,
        transport,
        secrets,
        log,
        server_url=lambda: program.server_url,
        busy=lambda: program.busy(),  # noqa: PLW0108 (it is set later)
        environ=environ,
        follows=works,
    )
    cleaner = _Cleaner.of(registry, log, busy=lambda: program.asked_lately())  # noqa: PLW0108 (it is set later)
    upstreaming = await Upstreaming.open(
        registry, transport, secrets, log, lambda: program.settings, cleaner.guard.may_delete, stack
    )
    kinds = _kinds(registry, cleaner, upstreaming, lambda: program.settings)
    worker = _worker(registry, kinds, log, settings)
    program = Program(
        settings,
        environ,
        registry,
        log,
        transport,
        secrets,
        notifier,
        Watcher(registry.db, clock, log, settings.in_use),
        worker,
        kinds,
        cleaner.sweeper,
        Walker(registry, log, cleaner.guard, cleaner.pace),
        Evictor(
            registry,
            log,
            cleaner.pace,
            cleaner.guard.may_delete,
            lambda: program.settings.cache,
            lambda: program.flush_pulls(),  # noqa: PLW0108 (it is set later)
        ),
        upstreaming,
        works,
    )
    await program.apply(settings, targets)
    return program


def program_log(settings: Settings, clock: Clock, *, least: Level = Level.INFO) -> Log:
    """Log lines to standard error, none below `least`."""
    level = max(least, Level[settings.log.level.upper()])
    return Log(sys.stderr, clock, level=level, as_json=settings.log.format == "json")


def plans(settings: Settings) -> list[Plan]:
    """What runs when."""
    wanted = {cleanup.NAME: settings.cleanup.schedule, housekeeping.NAME: settings.housekeeping.schedule}
    if settings.mirror.images or settings.mirror.follow:
        wanted[mirror.NAME] = settings.mirror.schedule
    return [Plan(name, name, expression, settings.time_zone) for name, expression in wanted.items()]


def _sync(tx: Transaction, clock: Clock, kinds: Mapping[str, Kind], settings: Settings) -> None:
    """Bring the rows that follow the configuration to what it says, and ask for what that takes."""
    schedule.sync(tx, clock, plans(settings))
    if quotas.sync(tx, [quota.repositories for quota in settings.quotas]):
        work.request(tx, clock, kinds, quotas.RECOUNT, actor=SYSTEM.actor, address=SYSTEM.address)


@dataclass(frozen=True, slots=True)
class _Cleaner:
    """What cleans up, all day and in runs."""

    guard: ClockGuard
    pace: Pace
    sweeper: Sweeper

    @classmethod
    def of(cls, registry: Registry, log: Log, busy: Callable[[], bool]) -> _Cleaner:
        """That of a process, which knows whether it is `busy` with requests."""
        guard, pace = ClockGuard(registry), Pace(registry.clock, busy)
        return cls(guard, pace, Sweeper(registry, log, guard, pace))


def _teller(registry: Registry, log: Log) -> Tell:
    """Tells the log and the audit log what became of a secret."""

    async def tell(kind: str, reason: str) -> None:
        log.warning(kind, reason=reason)
        try:
            await registry.db.write(events.append, registry.clock, kind, SYSTEM, reason=reason)
        except DatabaseError as error:
            log.warning("event.lost", kind=kind, error=str(error))

    return tell


def _kinds(
    registry: Registry, cleaner: _Cleaner, upstreaming: Upstreaming, settings: Callable[[], Settings]
) -> Mapping[str, Kind]:
    found = [
        cleanup.kind(
            registry, cleaner.sweeper, cleaner.guard, cleaner.pace, lambda: settings().cleanup.skip_while_uploading
        ),
        mirror.kind(upstreaming.parts),
        housekeeping.kind(registry.db, registry.clock, lambda: _prunes(settings())),
        quotas.kind(registry),
    ]
    return {kind.name: kind for kind in found}


def _worker(registry: Registry, kinds: Mapping[str, Kind], log: Log, settings: Settings) -> Worker:
    clock = registry.clock
    workers = settings.jobs.workers
    on_end = _ended(clock)
    return Worker(registry.db, clock, log, kinds, count=workers, on_end=on_end, look_seconds=LOOK_SECONDS)


def _ended(clock: Clock) -> Callable[[Transaction, Job], None]:
    """The fact that tells of a job that ended, in the transaction in which it ends."""
    return lambda tx, job: administration.ended(tx, clock, job)


def _prunes(settings: Settings) -> dict[str, tuple[Prune, float]]:
    keep = settings.housekeeping
    return {
        "events": (events.prune, keep.keep_events),
        "jobs": (queue.prune, keep.keep_jobs),
        "deliveries": (deliveries.prune, keep.keep_deliveries),
        "tokens": (tokens.prune, 0.0),
        "sightings": (sightings.prune, UNNEEDED_SECONDS),
        "upstream_lists": (sightings.prune_lists, UNNEEDED_SECONDS),
        "image_times": (ages.prune, UNNEEDED_SECONDS),
        "read_manifests": (read_ahead.prune, read_ahead.KEPT_SECONDS),
    }
