"""What a restore finds in its place is durable when it is offered, whoever put it there."""

import io
from pathlib import Path

import pytest

from homeport.clock import Clock
from homeport.events import Origin
from homeport.garbage.guard import ClockGuard
from homeport.garbage.sweep import Sweeper
from homeport.garbage.walk import Walker
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.registry import blobs, restoring
from homeport.registry.registry import Registry
from homeport.storage.filesystem import FilesystemStore
from homeport.testing import invariants
from homeport.testing.disk_faults import FailingDisk, MemoryDisk
from homeport.testing.simulation import SimulatedClock, run
from tests.garbage.cleaning import Unpaced
from tests.simulation.world import ROOT, MemoryDatabase

DATA = b"pushed, deleted, and pushed again by somebody who died"
ADA = Origin("ada")


class NoFolderSync(FailingDisk):
    def sync_folder(self, path: Path) -> None:
        pass


def store(clock: Clock, disk: MemoryDisk | NoFolderSync) -> FilesystemStore:
    return FilesystemStore(ROOT, clock, disk=disk, reserve_percent=0, reserve_bytes=0)


@pytest.mark.parametrize("seed", range(8))
def test_bytes_of_a_push_that_died_are_durable_before_they_are_offered(seed: int) -> None:
    clock = SimulatedClock(seed)
    disk = MemoryDisk(clock.random)
    registry = Registry(MemoryDatabase(clock, None), store(clock, disk), clock)
    guard, log = ClockGuard(registry), Log(io.StringIO(), clock)
    sweeper = Sweeper(registry, log, guard, Unpaced(clock))
    walker = Walker(registry, log, guard, Unpaced(clock))
    digest = Digest.of(DATA)

    async def main() -> None:
        location = await registry.blobs.put(digest, DATA)
        await registry.db.write(blobs.hold, registry, digest, "0" * 32)
        blob = blobs.Blob(digest, len(DATA), location)
        await registry.db.write(blobs.offer, registry, "app", blob, "0" * 32)
        await blobs.delete(registry, ADA, "app", digest)
        await sweeper.sweep()
        clock.advance(registry.rules.condemned_seconds + 1)
        await sweeper.sweep()
        # The push dies after the rename, and the kernel takes its time with the folder.
        await store(clock, NoFolderSync(disk)).put(digest, DATA)
        await walker.walk()
        clock.advance(registry.rules.grace_seconds + registry.rules.jitter_seconds + 1)
        await sweeper.sweep()
        await restoring.restore(registry, ADA, "app", digest)
        disk.power_cut()
        assert await invariants.content(registry.blobs, await registry.db.read(invariants.live_blobs)) == []

    run(clock, main)
