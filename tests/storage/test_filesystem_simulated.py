"""The filesystem store where a seed decides when each thread job runs, when it is seen to end, and who is cancelled."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeport.oci.digest import Digest
from homeport.storage.blobstore import BlobStore
from homeport.storage.filesystem import FilesystemStore
from homeport.testing.blobstore_suite import MIB, content, pattern
from homeport.testing.disk_faults import MemoryDisk
from homeport.testing.simulation import SimulatedClock, run

CLIENTS = 5
DATA = pattern(3 * MIB)


async def slow_body(clock: SimulatedClock, data: bytes) -> AsyncIterator[bytes]:
    while data:
        count = 1 + int(clock.random() * 700_000)
        await clock.sleep(clock.random() / 50)
        yield data[:count]
        data = data[count:]


async def push_with_cuts(store: BlobStore, clock: SimulatedClock, number: int) -> str:
    """A client whose connection is cut again and again; it goes on where the upload ends, until all has come."""
    upload, data = f"{number:032x}", DATA[: int(clock.random() * len(DATA))] + bytes([number])
    while (size := await store.size(upload)) < len(data):
        append = asyncio.create_task(store.append(upload, size, slow_body(clock, data[size:])))
        await clock.sleep(clock.random() / 4)
        for _ in range(int(clock.random() * 3)):
            append.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([append])
    digest = await store.digest(upload, "sha256")
    assert digest == Digest.of(data)
    location = await store.finish(upload, digest)
    assert await content(store, location) == data
    return location


async def read_with_cuts(store: BlobStore, clock: SimulatedClock, location: str) -> None:
    while True:
        read = asyncio.create_task(content(store, location))
        await clock.sleep(clock.random() / 10)
        if clock.random() < 0.5:
            read.cancel()
        await asyncio.wait([read])
        if not read.cancelled():
            assert read.result() == DATA
            return


async def live(clock: SimulatedClock, disk: MemoryDisk) -> None:
    store = FilesystemStore(Path("/data"), clock, disk=disk, reserve_bytes=0, reserve_percent=0)
    there = await store.put(Digest.of(DATA), DATA)
    pushes = [push_with_cuts(store, clock, number) for number in range(CLIENTS)]
    reads = [read_with_cuts(store, clock, there) for _ in range(CLIENTS)]
    locations, _ = await asyncio.gather(asyncio.gather(*pushes), asyncio.gather(*reads))
    assert {location async for _, location, _ in store.blobs()} == {there, *locations}
    assert [upload async for upload in store.uploads()] == []
    assert disk.handles_open == 0
    await store.close()


@pytest.mark.parametrize("seed", range(40))
def test_cut_pushes_go_on_and_cut_reads_leave_nothing_behind(seed: int) -> None:
    clock = SimulatedClock(seed)
    disk = MemoryDisk(random.Random(seed).random)
    run(clock, lambda: live(clock, disk))
