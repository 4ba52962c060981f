"""Every operation fails in turn while a repository is deleted, brought back, or purged: once, and from there on.

Nothing is half done meanwhile. Afterwards, in the same process or in a new one, also after a power cut, the same is
done again and is complete; or it is undone, and all that is still listed comes back.
"""

import copy
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import pytest

from homeport.db.database import DatabaseError
from homeport.events import Origin
from homeport.garbage import purge
from homeport.garbage.guard import ClockGuard
from homeport.garbage.sweep import Pace, Sweeper
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import NameUnknown, NotInTrash, RegistryError
from homeport.registry import blobs, manifests, removal, repositories, restoring, uploads
from homeport.registry.registry import Registry
from homeport.storage.blobstore import StorageError
from homeport.storage.filesystem import FilesystemStore
from homeport.testing import images, invariants
from homeport.testing.blobstore_faults import FailingStore
from homeport.testing.blobstore_suite import body, content
from homeport.testing.database_faults import FailingDatabase
from homeport.testing.disk_faults import FailingDisk, MemoryDisk
from homeport.testing.simulation import SimulatedClock, run
from tests.faults.test_faults import FAULTS, Ending, Fault, Process
from tests.simulation.world import ROOT, MemoryDatabase

ADA = Origin("ada")
APP = images.image([b"a layer"])
INDEX = images.index([APP])
SIGNATURE = images.image([b"a layer"], config=b'{"signature":1}', subject=APP)
TAGS = {"latest": INDEX, "app": APP, f"sha256-{APP.digest.encoded}.sig": SIGNATURE}
EVERYTHING = {*(image.digest for image in (APP, INDEX, SIGNATURE))} | {
    Digest.of(data) for image in (APP, SIGNATURE) for data in image.blobs
}


async def push(registry: Registry) -> None:
    for image in (APP, INDEX, SIGNATURE):
        for data in image.blobs:
            await uploads.push(registry, ADA, "app", Digest.of(data), body(data))
        names = [name for name, tagged in TAGS.items() if tagged is image]
        await manifests.push(registry, ADA, "app", image.data, image.media_type, image.digest, names)


async def delete(registry: Registry) -> None:
    try:
        await removal.delete(registry, ADA, "app")
    except NameUnknown:
        """It was deleted although the answer was lost."""


async def restore(registry: Registry) -> None:
    try:
        restored = await restoring.restore_repository(registry, ADA, "app")
    except NotInTrash:
        return  # It was complete although the answer was lost.
    for _, error in restored.failed:
        raise error


async def purge_all(registry: Registry) -> None:
    purged = await purge.purge(registry, ADA, await purge.choose(registry, "app"))
    for _, error in purged.failed:
        raise error


async def sweep(registry: Registry, clock: SimulatedClock) -> None:
    """What is due goes to the trash, and from there."""
    guard = ClockGuard(registry)
    assert await guard.stopped() is None
    sweeper = Sweeper(registry, Log(io.StringIO(), clock), guard, Pace(clock, lambda: False))
    for _ in range(2):
        await sweeper.sweep()
        clock.advance(registry.rules.condemned_seconds + registry.rules.jitter_seconds)
    await sweeper.sweep()


async def nothing(_: Registry) -> None:
    """Nothing is done before."""


async def digests(registry: Registry, table: str) -> set[str]:
    rows = await registry.db.read(lambda tx: tx.all(f"SELECT digest FROM {table}"))
    return {digest for (digest,) in rows}


async def all_is_here(registry: Registry) -> None:
    for name, image in TAGS.items():
        assert (await manifests.get(registry, "app", name)).data == image.data
    for image in (APP, INDEX, SIGNATURE):
        assert (await manifests.get(registry, "app", image.digest)).data == image.data
        for data in image.blobs:
            blob = await blobs.get(registry, "app", Digest.of(data))
            assert await content(registry.blobs, blob.location) == data


async def all_is_in_the_trash(registry: Registry) -> None:
    assert await digests(registry, "trashed_links") == EVERYTHING
    assert await registry.db.read(repositories.page, "", 10) == []


async def all_is_gone(registry: Registry) -> None:
    for table in ("trashed_links", "trashed_blobs", "links", "blobs"):
        assert await digests(registry, table) == set(), table


@dataclass(frozen=True)
class Act:
    """Something that a person asks for, what was done before it, and how it is when it is done."""

    name: str
    before: Callable[[Registry], Awaitable[None]]
    swept: bool
    do: Callable[[Registry], Awaitable[None]]
    done: Callable[[Registry], Awaitable[None]]

    def __str__(self) -> str:
        return self.name


DELETE = Act("delete", nothing, False, delete, all_is_in_the_trash)
RESTORE = Act("restore", delete, True, restore, all_is_here)
RESTORE_AT_ONCE = Act("restore-at-once", delete, False, restore, all_is_here)
PURGE = Act("purge", delete, True, purge_all, all_is_gone)


class Then(StrEnum):
    """What a person does after the fault."""

    AGAIN = "again"
    UNDO = "undo"


@cache
def prepared(act: Act) -> tuple[bytes, MemoryDisk]:
    """A database and a disk on which all of that was done before."""
    clock = SimulatedClock(0)
    disk, database = MemoryDisk(clock.random), MemoryDatabase(clock, None)
    registry = Registry(database, FilesystemStore(ROOT, clock, disk=disk, reserve_percent=0, reserve_bytes=0), clock)

    async def prepare() -> None:
        await push(registry)
        await act.before(registry)
        if act.swept:
            await sweep(registry, clock)

    run(clock, prepare)
    return database.die()[-1], disk


class World:
    """A disk and a database, and processes on them of which a part fails."""

    def __init__(self, act: Act) -> None:
        committed, disk = prepared(act)
        self.clock = SimulatedClock(1)
        self.clock.advance(3_600)
        self.disk = copy.deepcopy(disk)
        self.database = MemoryDatabase(self.clock, committed)

    def open(self, fault: Fault | None = None, operation: int = 0) -> Process:
        def options(part: type) -> dict[str, object]:
            return {"fail_at": operation, **fault.options} if fault is not None and fault.part is part else {}

        disk = FailingDisk(self.disk, **options(FailingDisk))  # type: ignore[arg-type]
        files = FilesystemStore(ROOT, self.clock, disk=disk, reserve_percent=0, reserve_bytes=0)
        store = FailingStore(files, **options(FailingStore))  # type: ignore[arg-type]
        database = FailingDatabase(self.database, **options(FailingDatabase))  # type: ignore[arg-type]
        return Process(Registry(database, store, self.clock), disk, store, database)

    def die(self, *, power_cut: bool) -> None:
        left = self.database.die()
        self.database = MemoryDatabase(self.clock, left[0 if power_cut else -1])
        if power_cut:
            self.disk.power_cut()


def survive(act: Act, fault: Fault, operation: int, ending: Ending, then: Then) -> bool:
    """Do it while the operation fails, and what comes after; whether the operation came at all."""
    world = World(act)

    async def meet_the_fault() -> int:
        process = world.open(fault, operation)
        try:
            await act.do(process.registry)
        except (StorageError, DatabaseError, RegistryError):
            await world.clock.sleep(10)  # What it began comes to its end.
        process.mend()
        await invariants.check(world.open().registry)
        if ending is Ending.MENDED:
            await go_on(process.registry)
        return process.operations(fault)

    async def go_on(registry: Registry) -> None:
        await invariants.check(registry)
        if then is Then.AGAIN:
            await act.do(registry)
            if act is PURGE:  # What broke off between rows and bytes.
                await sweep(registry, world.clock)
            await act.done(registry)
        else:
            listed = await digests(registry, "trashed_links")
            await restore(registry)
            assert listed <= await digests(registry, "held_blobs")
            if act is not PURGE:
                await all_is_here(registry)
        await invariants.check(registry)

    operations = run(world.clock, meet_the_fault)
    if ending is not Ending.MENDED:
        world.die(power_cut=ending is Ending.POWER_CUT)
        run(world.clock, lambda: go_on(world.open().registry))
    world.database.die()
    return operations >= operation


@pytest.mark.parametrize(
    ("act", "then"),
    [
        (DELETE, Then.AGAIN),
        (DELETE, Then.UNDO),
        (RESTORE, Then.AGAIN),
        (RESTORE_AT_ONCE, Then.AGAIN),
        (PURGE, Then.AGAIN),
        (PURGE, Then.UNDO),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("fault", "ending"),
    [(fault, ending) for fault, endings in FAULTS for ending in endings if "error" not in fault.options],
    ids=str,
)
def test_every_operation_may_fail(act: Act, fault: Fault, ending: Ending, then: Then) -> None:
    operation = 1
    while survive(act, fault, operation, ending, then):
        operation += 1
    assert operation > 3 or (act is DELETE and fault.part is not FailingDatabase)
