"""Every operation fails in turn, of the disk, the store and the database: once, and from there on.

What was answered before stays true, nothing is half done, and when the fault is gone the same push succeeds, in the
same process and in a new one.
"""

import copy
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from typing import Any

import pytest

from homeport.db.database import DatabaseError, DatabaseFull
from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import RegistryError
from homeport.registry import blobs, manifests, tags, uploads
from homeport.registry.registry import Registry
from homeport.registry.uploads import Sessions
from homeport.storage.blobstore import StorageError, StoreFull
from homeport.storage.filesystem import FilesystemStore
from homeport.testing import images, invariants
from homeport.testing.blobstore_faults import FailingStore
from homeport.testing.blobstore_suite import body, content, pattern, pieces
from homeport.testing.database_faults import FailingDatabase
from homeport.testing.disk_faults import FailingDisk, MemoryDisk
from homeport.testing.model import Model
from homeport.testing.simulation import SimulatedClock, run
from tests.simulation.world import ROOT, MemoryDatabase

ADA = Origin("ada")
OLD = images.image([b"was here before"])
LAYERS = (pattern(9_000), b"a small layer")
IMAGE = images.image(LAYERS)
INDEX = images.index([IMAGE])
CONTENTS = {image.digest: image for image in (OLD, IMAGE, INDEX)}


@dataclass(frozen=True)
class Fault:
    """What fails, and how."""

    part: type[FailingDisk | FailingStore | FailingDatabase]
    options: dict[str, Any]

    def __str__(self) -> str:
        named = (f"{name}={getattr(value, '__name__', value)}" for name, value in self.options.items())
        return "-".join([self.part.__name__, *named])


class Ending(StrEnum):
    """What becomes of the process that met the fault."""

    MENDED = "mended"
    KILLED = "killed"
    POWER_CUT = "power-cut"


MENDED, KILLED, POWER_CUT = Ending
#: Each fault with what comes after it.
FAULTS = [
    (Fault(FailingDisk, {"number": errno.EIO}), (MENDED, POWER_CUT)),
    (Fault(FailingDisk, {"number": errno.EIO, "forever": True}), (KILLED,)),
    (Fault(FailingDisk, {"number": errno.EIO, "done": True}), (POWER_CUT,)),
    (Fault(FailingDisk, {"number": errno.ENOSPC, "forever": True}), (MENDED,)),
    (Fault(FailingStore, {}), (MENDED,)),
    (Fault(FailingStore, {"forever": True}), (MENDED,)),
    (Fault(FailingStore, {"done": True}), (MENDED, KILLED)),
    (Fault(FailingStore, {"error": StoreFull, "forever": True}), (MENDED,)),
    (Fault(FailingDatabase, {}), (MENDED, KILLED)),
    (Fault(FailingDatabase, {"forever": True}), (MENDED,)),
    (Fault(FailingDatabase, {"done": True}), (MENDED, POWER_CUT)),
    (Fault(FailingDatabase, {"error": DatabaseFull, "forever": True}), (MENDED,)),
]


@dataclass
class Step:
    """Something that a client asks for, and what it changes."""

    ask: Callable[[Registry, Sessions], Awaitable[object]]
    changes: Callable[[Model], object]


async def push_in_chunks(repository: str, data: bytes, registry: Registry, sessions: Sessions) -> None:
    """As docker does."""
    upload = await uploads.start(registry, sessions, ADA, repository)
    half = len(data) // 2
    for start, stop in ((0, half), (half, len(data))):
        chunks = body(*pieces(data[start:stop], 4_000))
        assert await uploads.append(registry, sessions, ADA, repository, upload, start, chunks) == stop
    digest = Digest.of(data)
    await uploads.finish(registry, sessions, ADA, repository, upload, digest, len(data), None)


async def push_at_once(repository: str, data: bytes, registry: Registry, _: Sessions) -> None:
    await uploads.push(registry, ADA, repository, Digest.of(data), body(data))


async def mount(digest: Digest, registry: Registry, _: Sessions) -> None:
    assert await blobs.mount(registry, ADA, "copy", digest, "app", lambda _, name: True)


async def push_manifest(image: images.Image, names: list[str], registry: Registry, _: Sessions) -> None:
    await manifests.push(registry, ADA, "app", image.data, image.media_type, image.digest, names)


async def delete(name: str, registry: Registry, _: Sessions) -> None:
    await tags.delete(registry, ADA, "app", name)


def push_of(repository: str, data: bytes) -> Callable[[Model], object]:
    return lambda model: model.push_blob(repository, Digest.of(data))


def manifest_of(image: images.Image, names: list[str]) -> Callable[[Model], object]:
    return lambda model: model.push_manifest("app", image.digest, names)


BEFORE = [
    *(Step(partial(push_at_once, "app", data), push_of("app", data)) for data in OLD.blobs),
    Step(partial(push_manifest, OLD, ["old"]), manifest_of(OLD, ["old"])),
]
PUSH = [
    *(Step(partial(push_in_chunks, "app", data), push_of("app", data)) for data in LAYERS),
    Step(partial(push_at_once, "app", IMAGE.blobs[-1]), push_of("app", IMAGE.blobs[-1])),
    Step(partial(mount, Digest.of(LAYERS[0])), lambda model: model.mount("copy", Digest.of(LAYERS[0]), "app")),
    Step(partial(push_manifest, IMAGE, ["v1"]), manifest_of(IMAGE, ["v1"])),
    Step(partial(push_manifest, INDEX, ["v1", "latest"]), manifest_of(INDEX, ["v1", "latest"])),
    Step(partial(push_in_chunks, "app", LAYERS[1]), push_of("app", LAYERS[1])),
    Step(partial(push_manifest, IMAGE, ["v2"]), manifest_of(IMAGE, ["v2"])),
    Step(partial(delete, "v2"), lambda model: model.delete_tag("app", "v2")),
]


@dataclass
class Process:
    """A registry and its parts, one of which may fail."""

    registry: Registry
    disk: FailingDisk
    store: FailingStore
    database: FailingDatabase

    def operations(self, fault: Fault) -> int:
        """How often the part that fails was used."""
        if fault.part is FailingDisk:
            return len(self.disk.operations)
        return len((self.store if fault.part is FailingStore else self.database).calls)

    def mend(self) -> None:
        for part in (self.disk, self.store, self.database):
            part.mend()


@cache
def with_an_image() -> tuple[bytes, MemoryDisk]:
    """A database and a disk on which a registry has been."""
    clock = SimulatedClock(0)
    disk, database = MemoryDisk(clock.random), MemoryDatabase(clock, None)
    registry = Registry(database, FilesystemStore(ROOT, clock, disk=disk, reserve_percent=0, reserve_bytes=0), clock)

    async def push() -> None:
        for step in BEFORE:
            await step.ask(registry, Sessions())

    run(clock, push)
    return database.die()[-1], disk


class World:
    """A disk and a database with an image on them, a registry that sees one of them fail, and what must be there."""

    def __init__(self) -> None:
        committed, disk = with_an_image()
        self.clock = SimulatedClock(1)
        self.disk = copy.deepcopy(disk)
        self.database = MemoryDatabase(self.clock, committed)
        self.model = Model({digest: image.manifest for digest, image in CONTENTS.items()})
        for step in BEFORE:
            step.changes(self.model)

    def open(self, fault: Fault | None = None, operation: int = 0) -> Process:
        """A new process, of which one part fails."""

        def options(part: type) -> dict[str, Any]:
            return {"fail_at": operation, **fault.options} if fault is not None and fault.part is part else {}

        disk = FailingDisk(self.disk, **options(FailingDisk))
        files = FilesystemStore(ROOT, self.clock, disk=disk, reserve_percent=0, reserve_bytes=0)
        store = FailingStore(files, **options(FailingStore))
        database = FailingDatabase(self.database, **options(FailingDatabase))
        return Process(Registry(database, store, self.clock), disk, store, database)

    async def push(self, steps: list[Step], registry: Registry, sessions: Sessions) -> Step | None:
        """Take the steps until one fails, which is returned; the model takes them too."""
        for step in steps:
            try:
                await step.ask(registry, sessions)
            except (StorageError, DatabaseError, RegistryError):
                await self.clock.sleep(10)  # What it began comes to its end.
                return step
            step.changes(self.model)
        return None

    async def check(self, undecided: Step | None = None) -> None:
        """What was answered is there, and nothing is half done; a step that failed was taken as a whole or not."""
        registry = self.open().registry
        await invariants.check(registry)
        different = await self.database.read(invariants.same, self.model)
        if different and undecided is not None:
            undecided.changes(self.model)
            different = await self.database.read(invariants.same, self.model)
        assert not different

    async def pull(self) -> None:
        """Everything that was pushed can be pulled."""
        registry = self.open().registry
        for tag, image in (("old", OLD), ("v1", INDEX), ("latest", INDEX), (IMAGE.digest, IMAGE)):
            assert (await manifests.get(registry, "app", tag)).data == image.data
            for data in image.blobs:
                blob = await blobs.get(registry, "app", Digest.of(data))
                assert await content(registry.blobs, blob.location) == data

    def die(self, *, power_cut: bool) -> None:
        """The process ends, with the power or without."""
        left = self.database.die()
        self.database = MemoryDatabase(self.clock, left[0 if power_cut else -1])
        if power_cut:
            self.disk.power_cut()


def survive(fault: Fault, operation: int, ending: Ending) -> bool:
    """Push while the operation fails, and again after it; whether it came at all."""
    world = World()

    async def meet_the_fault() -> int:
        process, sessions = world.open(fault, operation), Sessions()
        await world.check(await world.push(PUSH, process.registry, sessions))
        if ending is Ending.MENDED:
            process.mend()
            assert await world.push(PUSH, process.registry, sessions) is None
            await world.check()
        return process.operations(fault)

    async def start_again() -> None:
        await world.check()
        registry = world.open().registry
        await uploads.discard_strays(registry)
        assert await world.push(PUSH, registry, Sessions()) is None
        await world.check()
        await world.pull()

    operations = run(world.clock, meet_the_fault)
    world.die(power_cut=ending is Ending.POWER_CUT)
    run(world.clock, start_again)
    world.database.die()
    return operations >= operation


@pytest.mark.parametrize(
    ("fault", "ending"), [(fault, ending) for fault, endings in FAULTS for ending in endings], ids=str
)
def test_every_operation_may_fail(fault: Fault, ending: Ending) -> None:
    operation = 1
    while survive(fault, operation, ending):
        operation += 1
    assert operation > 20
