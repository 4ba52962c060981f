"""Many tags, put into a stopped Homeport's database by its own functions: over HTTP a million would take an hour."""

import asyncio
from pathlib import Path

from bench import pulls
from homeport.clock import SystemClock
from homeport.db.database import Transaction
from homeport.db.sqlite import SqliteDatabase
from homeport.events import SYSTEM
from homeport.oci.digest import Digest
from homeport.registry import repositories, tags
from homeport.registry.registry import Registry
from homeport.storage.filesystem import FilesystemStore

#: Tags that are set in one transaction.
BATCH = 10_000


def add_tags(data: Path, present: int, wanted: int) -> None:
    """Tags up to `wanted`, with their history and events; they point at the manifests of those `present` in turn."""
    asyncio.run(_add_tags(data, present, wanted))


async def _add_tags(data: Path, present: int, wanted: int) -> None:
    clock = SystemClock()
    store = FilesystemStore(data, clock)
    database = SqliteDatabase(data / "homeport.db", clock)
    try:
        registry = Registry(database, store, clock)
        for first in range(present, wanted, BATCH):
            await database.write(_set_tags, registry, present, range(first, min(first + BATCH, wanted)))
    finally:
        await database.close()
        await store.close()


def _set_tags(tx: Transaction, registry: Registry, present: int, numbers: range) -> None:
    repository_id = repositories.find(tx, pulls.REPOSITORY)
    assert repository_id is not None
    targets = tx.all(
        "SELECT manifest_id, digest FROM tag_targets WHERE repository_id = ? AND name < ?",
        (repository_id, pulls.tag(present)),
    )
    for number in numbers:
        manifest_id, digest = targets[number % present]
        name = pulls.tag(number)
        tags.set_tag(tx, registry, SYSTEM, pulls.REPOSITORY, repository_id, name, manifest_id, Digest(digest))
