"""What must be true when nobody comes any more: what the trash lists comes back, and all that nothing keeps goes."""

from __future__ import annotations

import copy
from typing import Final

from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import RegistryError
from homeport.registry import protections, restoring, trash, uploads
from homeport.registry.registry import Registry, Rules
from homeport.storage.filesystem import FilesystemStore
from homeport.testing import invariants
from homeport.testing.disk_faults import MemoryDisk
from homeport.testing.model import Model
from homeport.testing.simulation import run
from tests.simulation.asking import Server
from tests.simulation.cleaners import Cleaner
from tests.simulation.keepers import ENGINE
from tests.simulation.world import ROOT, MemoryDatabase, World

#: How often all is walked along and swept until nothing is left: bytes that no row knows are first given one.
ROUNDS: Final = 2
#: Tables that are empty when nothing is left to be done.
EMPTY: Final = ("reviews", "trashed_links", "trashed_blobs", "uploads", "holds")

#: Of so many jobs of threads one meets a disk that stalls.
NEVER: Final = 1_000_000_000


def restore_all(world: World) -> None:
    """Bring back everything that the trash lists, in a copy of the world; raises if a part of it stays away."""
    world.clock.jobs_per_stall, world.clock.jobs_per_stall_of = NEVER, {}
    disk = copy.deepcopy(world.disk, {id(world.clock): world.clock})
    run(world.clock, lambda: _restore_all(world, disk))


async def _restore_all(world: World, disk: MemoryDisk) -> None:
    database = MemoryDatabase(world.clock, world.committed)
    store = FilesystemStore(ROOT, world.clock, disk=disk, reserve_percent=0, reserve_bytes=0)
    registry = Registry(database, store, world.clock, world.rules)
    listed = await database.read(trash.links, None, ("", ""), 1_000)
    for one in listed:
        try:
            await restoring.restore(registry, Origin("keeper"), one.repository, one.digest)
        except RegistryError as error:
            raise AssertionError(f"{one} cannot be brought back: {error!r}") from error
    await invariants.check(registry)
    held = await database.read(invariants.promises)
    assert {(one.repository, one.digest) for one in listed} <= held.keys()
    database.die()


async def come_to_rest(world: World, registry: Registry) -> None:
    """Sweep until nothing is left that may go, with nobody there who wants it."""
    world.clock.jobs_per_stall, world.clock.jobs_per_stall_of = NEVER, {}
    cleaner = Cleaner(Server(world, registry))
    await registry.db.write(protections.forget_engine, registry.clock, ENGINE)
    world.ledger.oracle.reports.clear()
    rules = registry.rules
    world.clock.advance(_longest(rules))
    await cleaner.sweep()
    await registry.db.read(_check_only_knots_are_left, world.ledger.model, world)
    for _ in range(ROUNDS):
        await cleaner.walk()
        for seconds in (_longest(rules), rules.condemned_seconds + rules.jitter_seconds, rules.trash_seconds):
            world.clock.advance(seconds + 1)
            await cleaner.sweep()
    await registry.db.read(_check_nothing_is_left, world)
    await _check_bytes(registry)


def _longest(rules: Rules) -> float:
    """After this every promise, grace and upload is over."""
    return rules.keep_seconds + rules.grace_seconds + rules.untagged_seconds + rules.uploads_seconds


def _unreachable(tx: Transaction, world: World) -> list[tuple[str, Digest]]:
    """What is there and nothing leads to, by the model as it was brought up to now."""
    ledger = copy.deepcopy(world.ledger)
    ledger.review(invariants.changes(tx, ledger.last_event))
    return [
        (name, digest)
        for name, repository in ledger.model.offered().items()
        for digest in repository.links - ledger.model.reachable(name)
    ]


def _check_only_knots_are_left(tx: Transaction, before: Model, world: World) -> None:
    """One sweep takes all that nothing refers to, however deep; but for manifests that keep one another."""
    left = [
        f"{repository}@{digest}"
        for repository, digest in _unreachable(tx, world)
        if not before.is_knotted(repository, digest)
    ]
    assert not left, f"a sweep left {left}"


def _check_nothing_is_left(tx: Transaction, world: World) -> None:
    left = [f"{repository}@{digest}" for repository, digest in _unreachable(tx, world)]
    assert not left, f"nothing keeps {left}"
    for table in EMPTY:
        rows = tx.all(f"SELECT * FROM {table}")
        assert not rows, f"{table} still has {rows}"
    unlinked = tx.all("SELECT * FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = b.digest)")
    assert not unlinked, f"blobs still has {unlinked}"


async def _check_bytes(registry: Registry) -> None:
    """The store has what the rows say, and nothing besides."""
    live = {blob.location for blob in await registry.db.read(invariants.live_blobs)}
    stored = {location async for _, location, _ in registry.blobs.blobs()}
    assert stored == live, f"no row knows {stored - live}; {live - stored} are missing"
    assert not [one async for one in registry.blobs.trashed()], "the trash is not empty"
    await uploads.discard_strays(registry)
    assert not [one async for one in registry.blobs.uploads()], "bytes of uploads are left"
