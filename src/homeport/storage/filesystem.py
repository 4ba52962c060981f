"""A `BlobStore` in a folder.

    <root>/
    ├── docker/registry/v2/blobs/       where `distribution` keeps them, so that its volume is adopted as it lies
    │   ├── sha256/ab/<64 hex>/data     a blob; "ab" are its first two digits
    │   └── sha512/ab/<128 hex>/data
    ├── uploads/<32 hex>                an upload's bytes, and for a moment those of a `put`
    └── trash/<name>                    a retired blob, under the name that the caller gave

A location is the path below the root. All of it must lie on one file system, since bytes get their place by a rename.
The order of the operations on the disk, and why, is in `homeport.storage.folder`; here they are put on threads.

What must stay true:
- *The event loop does not wait for the disk.* Threads do, but for retiring, which the contract wants at once, and for
  the size of a file that we just wrote, which the kernel has in memory.
- *An upload's file is the truth.* Its hash in memory is a cache that knows how many bytes it covers.
- *Memory is bounded*: an append has two batches in memory and a read has two chunks, however long the blob is.
- *Nothing goes on behind the caller's back*: a cancelled method returns when its thread is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from homeport.clock import Clock, Threads
from homeport.oci.digest import ENCODED_CHARACTERS, Digest
from homeport.storage.blobstore import BlobStore, Space, StorageError, StoreFull
from homeport.storage.disk import WRITE_PARTS_MAX, Disk, SystemDisk
from homeport.storage.folder import BATCH_BYTES, BlobFolder, RunningHash

P = ParamSpec("P")
T = TypeVar("T")

#: Threads for pushes and sweeps, and others for pulls and looks, which so never wait behind a sync.
_WRITERS = 8
_READERS = 4
#: An append of no more than this is written on the event loop.
_NOW_BYTES = 64 << 10
#: What one thread job hashes where an upload must be read again.
_REREAD_BYTES = 8 << 20
#: How many files one thread job looks at where blobs are listed.
_LISTED_FILES = 256
#: How many empty folders are taken away at a time, and in how many threads.
_TIDIED_FOLDERS = 256
_TIDIERS = 4
#: How many uploads' hashes are remembered.
_HASHES_MAX = 1024


class FilesystemStore(BlobStore):
    """Blobs, uploads and trash below the folder `root`, which is made where its parent is there.

    Writing ends with `StoreFull` where less than `reserve_percent` of the medium or less than `reserve_bytes` would be
    left; what gives room back is never refused.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        *,
        disk: Disk | None = None,
        reserve_percent: float = 2.0,
        reserve_bytes: int = 1 << 30,
    ) -> None:
        self._clock = clock
        self._folder = BlobFolder(root, clock, disk or SystemDisk(), reserve_percent, reserve_bytes)
        self._writers = clock.threads("storage-write", _WRITERS)
        self._readers = clock.threads("storage-read", _READERS)
        #: By upload; the one begun last is at the end.
        self._hashes: dict[str, RunningHash] = {}

    # --- uploads: bytes that are coming -------------------------------------------------------------------------

    async def append(self, upload: str, offset: int, chunks: AsyncIterable[bytes]) -> int:
        path = self._folder.upload_path(upload)
        running = self._running_hash(upload, offset)
        appender = _Appender(
            offset,
            lambda size, batch: self._job(self._writers, self._folder.append, path, size, batch, running),
            lambda size, batch: self._append_now(path, size, batch, running),
        )
        try:
            async for chunk in chunks:
                await appender.take(chunk)
        except BaseException:
            # What came is kept, and the thread is done before anybody else may append. If that fails (it may be what
            # brought us here), the upload's size tells; the reason to stop must not be hidden by it.
            with contextlib.suppress(StorageError):
                await appender.end()
            raise
        return await appender.end()

    async def size(self, upload: str) -> int:
        path = self._folder.upload_path(upload)
        size = self._size_now(path) if upload in self._hashes else await self._read(self._folder.size, path)
        return size or 0

    async def read_upload(self, upload: str, offset: int, count: int) -> bytes:
        return await self._read(self._folder.read_upload, self._folder.upload_path(upload), offset, count)

    async def digest(self, upload: str, algorithm: str) -> Digest:
        path = self._folder.upload_path(upload)
        running = self._hashes.get(upload)
        if running is None or running.algorithm != algorithm or running.size != self._size_now(path):
            running = RunningHash(algorithm)
            while await self._write(self._folder.rehash, path, running, _REREAD_BYTES):
                pass
            self._remember(upload, running)
        return running.digest()

    async def finish(self, upload: str, digest: Digest) -> str:
        self._hashes.pop(upload, None)
        return await self._write(self._folder.finish, self._folder.upload_path(upload), digest)

    async def cancel(self, upload: str) -> None:
        self._hashes.pop(upload, None)
        await self._write(self._folder.unlink, self._folder.upload_path(upload))

    async def uploads(self) -> AsyncIterator[str]:
        for upload in await self._read(self._folder.uploads):
            yield upload

    # --- blobs: bytes that are there ----------------------------------------------------------------------------

    async def put(self, digest: Digest, data: bytes) -> str:
        # By way of an upload of a new id: what a crash leaves behind is listed, and cleared away, like any other.
        path = self._folder.upload_path(self._clock.new_id())
        return await self._write(self._folder.put, path, digest, data)

    async def stat(self, location: str) -> int | None:
        # One look at an inode, on the loop as a point read of the database is: a thread takes a hundred times that.
        return self._size_now(self._folder.blob_path(location))

    def path(self, location: str) -> Path | None:
        return self._folder.file(self._folder.blob_path(location))

    async def read(self, location: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        reader = self._folder.reader(self._folder.blob_path(location), start, stop)
        reading = self._job(self._readers, reader.next)
        try:
            while True:
                chunk = await _settled(reading)
                if reader.ended:
                    break
                # While the caller uses this chunk, the next one is read.
                reading = self._job(self._readers, reader.next)
                yield chunk
            if chunk:
                yield chunk
        finally:
            try:
                with contextlib.suppress(StorageError):
                    await _settled(reading)
            finally:
                reader.close()

    async def blobs(self) -> AsyncIterator[tuple[Digest, str, int]]:
        for algorithm in ENCODED_CHARACTERS:
            for prefix in await self._read(self._folder.prefixes, algorithm):
                names = await self._read(self._folder.names, prefix)
                for first in range(0, len(names), _LISTED_FILES):
                    for blob in await self._read(self._folder.look, prefix, names[first : first + _LISTED_FILES]):
                        yield blob

    async def foreign(self) -> str | None:
        return await self._read(self._folder.foreign)

    # --- trash: bytes that are going ----------------------------------------------------------------------------

    def retire(self, location: str, trash: str) -> str:
        with _translated():
            return self._folder.retire(self._folder.blob_path(location), trash)

    def sync_trash(self) -> None:
        with _translated():
            self._folder.sync_trash()

    async def tidy(self) -> None:
        while emptied := self._folder.take_emptied(_TIDIED_FOLDERS):
            parts = (emptied[first::_TIDIERS] for first in range(_TIDIERS))
            await asyncio.gather(*(self._write(self._folder.tidy, part) for part in parts))

    def trash_location(self, location: str, trash: str) -> str:  # noqa: ARG002 (a disk has one trash)
        return self._folder.trash_location(trash)

    async def trashed(self) -> AsyncIterator[tuple[str, str, int]]:
        names = await self._read(self._folder.trashed)
        for first in range(0, len(names), _LISTED_FILES):
            for found in await self._read(self._folder.look_at_trash, names[first : first + _LISTED_FILES]):
                yield found

    async def restore(self, trash: str, digest: Digest) -> str:
        return await self._write(self._folder.restore, self._folder.trash_path(trash), digest)

    async def purge(self, trash: str) -> None:
        await self._write(self._folder.purge, self._folder.trash_path(trash))

    # --- the medium ---------------------------------------------------------------------------------------------

    async def space(self) -> Space | None:
        return await self._read(self._folder.space)

    async def close(self) -> None:
        self._writers.close()
        self._readers.close()

    # --- hashes and threads -------------------------------------------------------------------------------------

    def _running_hash(self, upload: str, offset: int) -> RunningHash | None:
        """The hash of what lies before `offset`, to go on with; None if it is not known."""
        running = self._hashes.get(upload)
        if running is not None and running.size == offset:
            return running
        if offset != 0:
            return None
        running = RunningHash("sha256")
        self._remember(upload, running)
        return running

    def _append_now(self, path: Path, size: int, batch: list[bytes], running: RunningHash | None) -> int:
        """Append a little on the event loop: it goes to memory, which takes less than handing it to a thread."""
        with _translated():
            return self._folder.append(path, size, batch, running)

    def _size_now(self, path: Path) -> int | None:
        """The size of a file that was just written, without a trip to a thread: the kernel has it in memory."""
        with _translated():
            return self._folder.size(path)

    def _remember(self, upload: str, running: RunningHash) -> None:
        self._hashes.pop(upload, None)
        self._hashes[upload] = running
        if len(self._hashes) > _HASHES_MAX:
            del self._hashes[next(iter(self._hashes))]

    async def _write(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await _settled(self._job(self._writers, function, *args, **kwargs))

    async def _read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await _settled(self._job(self._readers, function, *args, **kwargs))

    def _job(self, threads: Threads, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Begin `function` in a thread. Who begins it waits for its end, by `_settled`."""
        return asyncio.ensure_future(_in_thread(threads, function, *args, **kwargs))


class _Appender:
    """Gathers chunks into batches and has them written one after the other, the next one gathered meanwhile."""

    def __init__(
        self,
        offset: int,
        write: Callable[[int, list[bytes]], asyncio.Future[int]],
        write_now: Callable[[int, list[bytes]], int],
    ) -> None:
        self._size = offset
        self._write = write
        self._write_now = write_now
        self._writing: asyncio.Future[int] | None = None
        self._batch: list[bytes] = []
        self._batch_bytes = 0

    async def take(self, chunk: bytes) -> None:
        """Add the chunk; wait if there are two batches now."""
        self._batch.append(chunk)
        self._batch_bytes += len(chunk)
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) == WRITE_PARTS_MAX:
            await self._turn()

    async def end(self) -> int:
        """Write what is left and wait for it; the upload's size. An append of nothing writes that, once."""
        if self._writing is None and self._batch_bytes <= _NOW_BYTES:
            batch, self._batch = self._batch, []
            return self._write_now(self._size, batch)
        if self._batch or self._writing is None:
            await self._turn()
        assert self._writing is not None
        return await _settled(self._writing)

    async def _turn(self) -> None:
        if self._writing is not None:
            self._size = await _settled(self._writing)
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._writing = self._write(self._size, batch)


async def _in_thread(threads: Threads, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with _translated():
        return await threads.run(function, *args, **kwargs)


async def _settled(job: asyncio.Future[T]) -> T:
    """Wait for the job's end, also where the caller is cancelled meanwhile, however often; its result."""
    cancelled: asyncio.CancelledError | None = None
    while not job.done():
        try:
            await _ended(job)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not job.cancelled():
            job.exception()  # so that asyncio does not report it as never looked at
        raise cancelled
    return job.result()


async def _ended(job: asyncio.Future[T]) -> None:
    """Return when the job has ended in whatever way; being cancelled does not touch it. (`asyncio.wait`, for one.)"""
    ended = asyncio.get_running_loop().create_future()

    def tell(_: object) -> None:
        if not ended.done():
            ended.set_result(None)

    job.add_done_callback(tell)
    try:
        await ended
    finally:
        job.remove_done_callback(tell)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """What the disk says, in the contract's words."""
    try:
        yield
    except OSError as error:
        kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(str(error)) from error
