"""The filesystem store on a disk that fails, or loses power, at each of its operations in turn."""

import asyncio
import errno
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from homeport.oci.digest import Digest
from homeport.storage.blobstore import Space, StorageError, StoreFull
from homeport.storage.disk import Disk
from homeport.storage.filesystem import FilesystemStore
from homeport.testing.blobstore_suite import MIB, OTHER, UPLOAD, body, content, pattern, pieces, push
from homeport.testing.disk_faults import FailingDisk, MemoryDisk
from tests.storage.inline import InlineClock

LAYER = pattern(2 * MIB + 5000)
CONFIG = b"config"
MANIFEST = b"manifest"
OLD = b"was here before"
KNOWN = {Digest.of(data): data for data in (LAYER, CONFIG, MANIFEST, OLD)}
SEEDS = range(4)


def open_store(disk: Disk) -> FilesystemStore:
    return FilesystemStore(Path("/data"), InlineClock(), disk=disk, reserve_bytes=0, reserve_percent=0)


@dataclass
class Promises:
    """What the store has answered for."""

    blobs: set[bytes] = field(default_factory=set)
    #: By location.
    trash: dict[str, bytes] = field(default_factory=dict)
    #: On their way between place and trash: they may be in the one or in the other.
    moving: dict[str, bytes] = field(default_factory=dict)


async def live(store: FilesystemStore, promises: Promises) -> None:
    """A life in short: pushes in one and more pieces, a put, what a sweep does and undoes, a push again."""
    half = len(LAYER) // 2
    await store.append(UPLOAD, 0, body(*pieces(LAYER[:half], 65536)))
    assert await store.read_upload(UPLOAD, half - 5, MIB) == LAYER[half - 5 : half]
    await store.append(UPLOAD, half, body(*pieces(LAYER[half:], 65536)))
    await store.finish(UPLOAD, await store.digest(UPLOAD, "sha256"))
    promises.blobs.add(LAYER)
    config = await push(store, CONFIG, OTHER)
    promises.blobs.add(CONFIG)
    await store.put(Digest.of(MANIFEST), MANIFEST)
    promises.blobs.add(MANIFEST)

    promises.blobs.remove(CONFIG)
    promises.moving["trash/1-config"] = CONFIG
    trash = store.retire(config, "1-config")
    store.sync_trash()
    await store.tidy()
    promises.trash[trash] = promises.moving.pop(trash)

    promises.moving[trash] = promises.trash.pop(trash)
    await store.restore(trash, Digest.of(CONFIG))
    promises.blobs.add(promises.moving.pop(trash))

    promises.blobs.remove(CONFIG)
    await store.purge(store.retire(config, "2-config"))
    await push(store, CONFIG, OTHER)
    promises.blobs.add(CONFIG)


async def push_again(store: FilesystemStore, promises: Promises) -> None:
    """What the registry and its clients do after a failure: clear away what is half there, and push all of it again."""
    for upload in [upload async for upload in store.uploads()]:
        await store.cancel(upload)
    for data in (LAYER, CONFIG, MANIFEST):
        await push(store, data)
        promises.blobs.add(data)


async def check(store: FilesystemStore, promises: Promises) -> None:
    """What was promised is there, and nothing lies in a blob's place that is not that blob, whole."""
    there = {digest: location async for digest, location, _ in store.blobs()}
    for digest, location in there.items():
        assert await content(store, location) == KNOWN[digest]
    assert {Digest.of(data) for data in promises.blobs} <= there.keys()
    for trash, data in (promises.trash | promises.moving).items():
        if trash in promises.trash or Digest.of(data) not in there:
            assert await content(store, await store.restore(trash, Digest.of(data))) == data


def prepared(seed: int) -> tuple[MemoryDisk, Promises]:
    """A disk with one blob on it, from a store that is closed."""
    disk = MemoryDisk(random.Random(seed).random)
    asyncio.run(_put_old(disk))
    return disk, Promises(blobs={OLD})


async def _put_old(disk: Disk) -> None:
    await open_store(disk).put(Digest.of(OLD), OLD)


def count_operations() -> int:
    disk = FailingDisk(prepared(0)[0])
    asyncio.run(live(open_store(disk), Promises()))
    return len(disk.operations)


OPERATIONS = range(1, count_operations() + 1)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_the_power_is_cut(operation: int, done: bool) -> None:
    for seed in SEEDS:
        memory, promises = await asyncio.to_thread(prepared, seed)
        with pytest.raises(StorageError):
            await live(open_store(FailingDisk(memory, operation, forever=True, done=done)), promises)
        memory.power_cut()
        store = open_store(memory)
        await check(store, promises)
        await push_again(store, promises)
        memory.power_cut()
        await check(open_store(memory), promises)


async def test_the_power_is_cut_when_all_is_done() -> None:
    for seed in SEEDS:
        memory, promises = await asyncio.to_thread(prepared, seed)
        await live(open_store(memory), promises)
        memory.power_cut()
        await check(open_store(memory), promises)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_one_operation_fails(operation: int, number: int, done: bool) -> None:
    """The same store goes on after it; and what it then promises holds in a power cut."""
    memory, promises = await asyncio.to_thread(prepared, operation)
    disk = FailingDisk(memory, operation, done=done, number=number)
    store = open_store(disk)
    try:
        await live(store, promises)
    except StorageError as error:
        assert isinstance(error, StoreFull) == (number == errno.ENOSPC)  # noqa: PT017 - some are rightly survived
    assert memory.handles_open == 0
    await check(store, promises)
    await push_again(store, promises)
    await check(store, promises)
    memory.power_cut()
    await check(open_store(memory), promises)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_the_disk_fails_for_ever_and_another_process_finds_it_whole(operation: int) -> None:
    memory, promises = await asyncio.to_thread(prepared, operation)
    with pytest.raises(StorageError):
        await live(open_store(FailingDisk(memory, operation, forever=True)), promises)
    assert memory.handles_open == 0
    store = open_store(memory)
    await check(store, promises)
    await push_again(store, promises)
    await check(store, promises)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_restore_that_failed_is_called_again(seed: int, done: bool) -> None:
    """Its second call answers for the bytes, wherever the first one left them."""
    for operation in range(1, 50):
        memory, promises = await asyncio.to_thread(prepared, seed)
        before = open_store(memory)
        trash = before.retire(await before.put(Digest.of(OLD), OLD), "1-old")
        before.sync_trash()
        store = open_store(FailingDisk(memory, operation, done=done))
        try:
            await store.restore(trash, Digest.of(OLD))
        except StorageError:
            await store.restore(trash, Digest.of(OLD))
        else:
            return
        memory.power_cut()
        await check(open_store(memory), promises)
    pytest.fail("a restore has fewer operations than that")


async def test_a_put_that_failed_leaves_no_upload() -> None:
    for operation in range(1, 50):
        memory, _ = await asyncio.to_thread(prepared, 0)
        store = open_store(FailingDisk(memory, operation, number=errno.ENOSPC))
        try:
            await store.put(Digest.of(CONFIG), CONFIG)
        except StoreFull:
            assert [upload async for upload in store.uploads()] == []
        else:
            return
    pytest.fail("a put has fewer operations than that")


async def test_an_upload_whose_sync_failed_is_gone() -> None:
    """A second sync would succeed without having written anything."""
    memory, _ = await asyncio.to_thread(prepared, 0)
    first = FailingDisk(memory)
    await push(open_store(first), CONFIG)
    disk = FailingDisk(memory, first.operations.index("sync") + 1)
    store = open_store(disk)
    with pytest.raises(StorageError):
        await push(store, CONFIG)
    assert await store.size(UPLOAD) == 0
    assert [upload async for upload in store.uploads()] == []


class DiskWithQuota(MemoryDisk):
    """The medium has room, but not for us: nothing tells before a write fails, maybe in its middle."""

    def space(self, path: Path) -> Space:
        return Space(1 << 40, 1 << 40)


@pytest.mark.parametrize("kind", [MemoryDisk, DiskWithQuota])
@pytest.mark.parametrize("capacity_bytes", [300_000, MIB + 600_000, 2 * MIB + 50_000, 4 * MIB])
async def test_a_disk_that_fills_up_keeps_what_it_took_and_goes_on_when_there_is_room(
    kind: type[MemoryDisk], capacity_bytes: int
) -> None:
    disk = kind(random.Random(0).random, capacity_bytes=capacity_bytes)
    store = open_store(disk)
    ballast = await store.put(Digest.of(LAYER[:200_000]), LAYER[:200_000])
    long = LAYER + LAYER
    assert await store.append(UPLOAD, 0, body(long[:1000])) == 1000
    with pytest.raises(StoreFull):
        await store.append(UPLOAD, 1000, body(*pieces(long[1000:], 65536)))
    size = await store.size(UPLOAD)
    assert await store.digest(UPLOAD, "sha256") == Digest.of(long[:size])
    with pytest.raises(StoreFull):
        await store.put(Digest.of(LAYER), LAYER)
    assert [upload async for upload in store.uploads()] == [UPLOAD]
    await store.purge(store.retire(ballast, "1-ballast"))
    more = long[size : size + 100_000]
    assert await store.append(UPLOAD, size, body(more)) == size + len(more)
    assert await store.digest(UPLOAD, "sha256") == Digest.of(long[: size + len(more)])
    assert disk.handles_open == 0
