"""The filesystem store: the contract on a real disk and on one in memory, and what only a store of files promises."""

import asyncio
import os
import random
import stat
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from homeport.clock import SystemClock
from homeport.oci.digest import Digest
from homeport.storage.blobstore import BlobStore, StorageError
from homeport.storage.disk import SystemDisk
from homeport.storage.filesystem import FilesystemStore
from homeport.testing.blobstore_suite import (
    HELLO,
    MIB,
    OTHER,
    UPLOAD,
    BlobStoreSuite,
    StoreFactory,
    body,
    content,
    endless_body,
    pattern,
    pieces,
    push,
)
from homeport.testing.disk_faults import MemoryDisk
from tests.storage.inline import InlineClock
from tests.support.components import need_root


class TestOnTheSystemsDisk(BlobStoreSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> StoreFactory:
        def open_store(*, full: bool = False) -> BlobStore:
            return FilesystemStore(tmp_path, SystemClock(), reserve_bytes=0, reserve_percent=100 if full else 0)

        return open_store


class TestOnADiskInMemory(BlobStoreSuite):
    @pytest.fixture
    def open_store(self) -> StoreFactory:
        disk = MemoryDisk(random.Random(0).random)

        def open_store(*, full: bool = False) -> BlobStore:
            percent = 100.1 if full else 0
            return FilesystemStore(Path("/data"), InlineClock(), disk=disk, reserve_bytes=0, reserve_percent=percent)

        return open_store


class GatedDisk(SystemDisk):
    """Writes and reads wait at a gate, which lets through as many as it is told, and tell that they stand there."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)

    def write(self, handle: int, parts: Sequence[bytes], offset: int) -> int:
        self._pass()
        return super().write(handle, parts, offset)

    def read(self, handle: int, count: int, offset: int) -> bytes:
        self._pass()
        return super().read(handle, count, offset)

    async def someone_waits(self) -> None:
        assert await asyncio.to_thread(self.waiting.acquire, timeout=60)

    def _pass(self) -> None:
        self.waiting.release()
        assert self.gate.acquire(timeout=60)


OpenStore = Callable[..., FilesystemStore]


@pytest.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[OpenStore]:
    stores: list[FilesystemStore] = []

    def open_store(disk: SystemDisk | None = None) -> FilesystemStore:
        stores.append(FilesystemStore(tmp_path / "data", SystemClock(), disk=disk, reserve_bytes=0, reserve_percent=0))
        return stores[-1]

    yield open_store
    for store in stores:
        await store.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_blobs_lie_where_distribution_looks_for_them(open_store: OpenStore, tmp_path: Path) -> None:
    digest = Digest.of(HELLO)
    location = await push(open_store(), HELLO)
    assert location == f"docker/registry/v2/blobs/sha256/{digest.encoded[:2]}/{digest.encoded}/data"
    assert (tmp_path / "data" / location).read_bytes() == HELLO
    assert open_store().path(location) == tmp_path / "data" / location


async def test_what_we_make_is_for_its_owner_and_what_was_there_is_left_alone(
    open_store: OpenStore, tmp_path: Path
) -> None:
    there = tmp_path / "data" / "docker"
    there.mkdir(parents=True, mode=0o755)
    await open_store().append(OTHER, 0, body(HELLO))
    await push(open_store(), HELLO)
    for path in (tmp_path / "data").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path == there else 0o700 if path.is_dir() else 0o600)


async def test_what_root_makes_belongs_to_the_owner_of_the_folder(open_store: OpenStore, tmp_path: Path) -> None:
    need_root()
    root = tmp_path / "data"
    root.mkdir()
    os.chown(root, 12345, 12346)
    store = open_store()
    await store.append(OTHER, 0, body(HELLO))
    await store.put(Digest.of(HELLO), HELLO)
    store.retire(await push(store, b"bye"), "1-bye")
    made = list(root.rglob("*"))
    assert len(made) > 10
    for path in made:
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


async def test_foreign_files_are_neither_listed_nor_touched(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store()
    location = await push(store, HELLO)
    place = (tmp_path / "data" / location).parent
    (place / "notes").touch()
    (place.parent / "lost+found").mkdir()
    (place.parent / ("0" * 64)).mkdir()
    wrong_prefix = place.parent.parent / "zz" / Digest.of(b"").encoded
    wrong_prefix.mkdir(parents=True)
    (wrong_prefix / "data").touch()
    link = place.parent.parent / "e3" / Digest.of(b"").encoded
    link.mkdir(parents=True)
    (link / "data").symlink_to("/etc/passwd")
    (tmp_path / "data/uploads" / "README").touch()
    assert [blob async for blob in store.blobs()] == [(Digest.of(HELLO), location, 5)]
    assert [upload async for upload in store.uploads()] == []
    with pytest.raises(StorageError):
        await content(store, str((link / "data").relative_to(tmp_path / "data")))
    store.retire(location, "1-hello")
    store.sync_trash()
    await store.tidy()
    assert (place / "notes").exists()


async def test_foreign_files_in_the_trash_are_neither_listed_nor_touched(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store()
    trash = store.retire(await push(store, HELLO), "1-hello")
    folder = tmp_path / "data/trash"
    (folder / ".hidden").touch()
    (folder / "a folder").mkdir()
    (folder / "folder").mkdir()
    assert [found async for found in store.trashed()] == [(trash, "1-hello", 5)]


async def test_repositories_of_distribution_are_seen(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store()
    assert await store.foreign() is None
    folder = tmp_path / "data/docker/registry/v2/repositories"
    folder.mkdir(parents=True)
    assert await store.foreign() is None
    (folder / "app").mkdir()
    assert "repositories of another registry" in (await store.foreign() or "")


async def test_a_sweep_leaves_no_empty_folder_and_a_push_makes_it_again(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store()
    location = await push(store, HELLO)
    store.retire(location, "1-hello")
    store.sync_trash()
    await store.tidy()
    assert not (tmp_path / "data" / location).parent.exists()
    assert await content(store, await push(store, HELLO)) == HELLO


async def test_a_folder_that_is_swept_just_before_the_rename_is_made_again(open_store: OpenStore) -> None:
    class Swept(SystemDisk):
        sweeps = 2

        def rename(self, source: Path, target: Path) -> None:
            if self.sweeps and target.name == "data":
                self.sweeps -= 1
                target.parent.rmdir()
            super().rename(source, target)

    store = open_store(Swept())
    assert await content(store, await push(store, HELLO)) == HELLO


async def test_bytes_are_asked_for_no_faster_than_they_are_written(open_store: OpenStore) -> None:
    disk = GatedDisk()
    store = open_store(disk)
    taken = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal taken
        for chunk in pieces(pattern(8 * MIB), 65536):
            taken += len(chunk)
            yield chunk

    append = asyncio.create_task(store.append(UPLOAD, 0, counted()))
    await disk.someone_waits()
    for _ in range(200):
        await asyncio.sleep(0)
    assert taken == 2 * MIB
    disk.gate.release(100)
    assert await append == 8 * MIB


async def test_a_cancelled_append_returns_after_its_last_write(open_store: OpenStore) -> None:
    disk = GatedDisk()
    store = open_store(disk)
    came = asyncio.Event()
    append = asyncio.create_task(store.append(UPLOAD, 0, endless_body(came, pattern(MIB), b"and more")))
    await disk.someone_waits()
    await came.wait()
    for _ in range(3):
        append.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not append.done()
    disk.gate.release(100)
    with pytest.raises(asyncio.CancelledError):
        await append
    size = await store.size(UPLOAD)
    assert size == MIB
    assert await store.append(UPLOAD, size, body(b"!")) == MIB + 1
    assert await store.digest(UPLOAD, "sha256") == Digest.of(pattern(MIB) + b"!")


@pytest.mark.parametrize("chunks_used", [0, 1])
async def test_a_read_that_is_given_up_closes_its_file_after_the_last_thread_has_read(
    open_store: OpenStore, chunks_used: int
) -> None:
    location = await push(open_store(), pattern(3 * MIB))
    disk = GatedDisk()
    chunks = open_store(disk).read(location)
    before = open_files()
    for _ in range(chunks_used):
        disk.gate.release()
        await anext(chunks)
        await disk.someone_waits()
    use = asyncio.create_task(next_chunk(chunks))
    await disk.someone_waits()
    use.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not use.done()
    assert open_files() == before + 1
    disk.gate.release(100)
    with pytest.raises(asyncio.CancelledError):
        await use
    assert open_files() == before


async def next_chunk(chunks: AsyncIterator[bytes]) -> bytes:
    return await anext(chunks)


async def test_a_read_that_is_left_closes_its_file_after_the_last_thread_has_read(open_store: OpenStore) -> None:
    location = await push(open_store(), pattern(3 * MIB))
    disk = GatedDisk()
    chunks = open_store(disk).read(location)
    before = open_files()
    disk.gate.release()
    assert await anext(chunks) == pattern(MIB)
    await disk.someone_waits()
    await disk.someone_waits()
    leave = asyncio.create_task(chunks.aclose())  # type: ignore[attr-defined]
    for _ in range(10):
        await asyncio.sleep(0)
    assert not leave.done()
    assert open_files() == before + 1
    disk.gate.release(100)
    await leave
    assert open_files() == before


async def test_a_read_goes_on_while_the_blob_is_swept(open_store: OpenStore) -> None:
    store = open_store()
    data = pattern(5 * MIB)
    location = await push(store, data)
    before = open_files()
    chunks = store.read(location)
    got = await anext(chunks)
    await store.purge(store.retire(location, "1-data"))
    async for chunk in chunks:
        got += chunk
    assert got == data
    assert open_files() == before


async def test_a_file_that_shrinks_while_it_is_read_is_an_error(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store()
    location = await push(store, pattern(5 * MIB))
    chunks = store.read(location)
    await anext(chunks)
    with (tmp_path / "data" / location).open("r+b") as file:
        file.truncate(MIB)
    with pytest.raises(StorageError, match="ended at"):
        async for _ in chunks:
            pass


async def test_a_small_push_is_one_trip_to_a_thread(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store()
    trips = 0
    run = store._writers.run

    async def counted(*args: object) -> object:
        nonlocal trips
        trips += 1
        return await run(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(store._writers, "run", counted)
    monkeypatch.setattr(store._readers, "run", counted)
    await store.append(UPLOAD, 0, body(pattern(4096)))
    assert await store.size(UPLOAD) == 4096
    await store.digest(UPLOAD, "sha256")
    assert trips == 0
    location = await store.finish(UPLOAD, Digest.of(pattern(4096)))
    assert trips == 1
    await store.put(Digest.of(HELLO), HELLO)
    assert trips == 2
    assert await store.stat(location) == 4096
    assert trips == 2
    assert await content(store, location) == pattern(4096)
    assert trips == 3


async def test_hashes_that_are_remembered_are_bounded(open_store: OpenStore) -> None:
    store = open_store()
    for number in range(1030):
        await store.append(f"{number:032x}", 0, body(HELLO))
    assert len(store._hashes) == 1024
    assert await store.digest("0" * 32, "sha256") == Digest.of(HELLO)
    assert len(store._hashes) == 1024


async def test_no_file_stays_open(open_store: OpenStore) -> None:
    store = open_store()
    await push(store, HELLO)
    before = open_files()
    for number in range(20):
        data = pattern(number * 100_000)
        await content(store, await push(store, data))
        await store.append(f"{number:032x}", 0, body(HELLO))
        await store.digest(f"{number:032x}", "sha512")
    assert open_files() == before
