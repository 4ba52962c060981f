"""The registry on its data folder, which nearly every verb of the command line works on.

Holds: no HTTP client and no feature is imported here, so that a verb that only looks or asks starts fast.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from homeport.clock import Clock, SystemClock
from homeport.config.settings import Settings
from homeport.db.sqlite import SqliteDatabase
from homeport.registry.registry import Registry, Rules
from homeport.registry.retention import ImmutableTags, KeepRule, Retention
from homeport.storage.filesystem import FilesystemStore


@asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[Registry]:
    """The registry on its data folder, for a verb of the command line, also beside a running server."""
    async with AsyncExitStack() as stack:
        yield await build(settings, SystemClock(), stack)


async def build(settings: Settings, clock: Clock, stack: AsyncExitStack) -> Registry:
    """The registry; `stack` takes it down."""
    database = SqliteDatabase(settings.database_path, clock)
    stack.push_async_callback(database.close)
    store = FilesystemStore(
        settings.data,
        clock,
        reserve_percent=settings.storage.reserve_percent,
        reserve_bytes=settings.storage.reserve_bytes,
    )
    stack.push_async_callback(store.close)
    return Registry(database, store, clock, rules_of(settings))


def rules_of(settings: Settings) -> Rules:
    """What the settings say of the registry itself."""
    return Rules(
        manifest_bytes_max=settings.limits.manifest_bytes,
        sparse=settings.repositories.sparse,
        read_only=settings.server.read_only,
        grace_seconds=settings.cleanup.grace,
        untagged_seconds=settings.cleanup.untagged_after,
        uploads_seconds=settings.cleanup.uploads_after,
        trash_seconds=settings.cleanup.trash,
        quotas={quota.repositories: quota.bytes for quota in settings.quotas},
        engines=tuple(sorted(settings.in_use.engines)),
        retention=retention_of(settings),
    )


def retention_of(settings: Settings) -> Retention:
    """What the settings say is to be kept."""
    return Retention(
        keep=tuple(KeepRule(**dict(rule)) for rule in settings.cleanup.keep),
        immutable=tuple(ImmutableTags(**dict(each)) for each in settings.repositories.immutable),
        protected=settings.repositories.protected,
    )
