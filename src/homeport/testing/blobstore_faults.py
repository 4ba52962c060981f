"""Blob stores that fail, for testing what is built on them."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from homeport.oci.digest import Digest
from homeport.storage.blobstore import BlobStore, Space, StorageError

P = ParamSpec("P")
T = TypeVar("T")


class FailingStore(BlobStore):
    """Hands everything to `store`, counts it, and fails call `fail_at` (the first is 1; 0: none) with `error`.

    `forever`: and all that come after it. `done`: the call is carried out all the same, and fails then, as when only
    the answer was lost. `path` and `close` do not count, since they cannot fail.
    """

    def __init__(
        self,
        store: BlobStore,
        fail_at: int = 0,
        *,
        forever: bool = False,
        done: bool = False,
        error: Callable[[str], StorageError] = StorageError,
    ) -> None:
        self._store = store
        self._fail_at = fail_at
        self._forever = forever
        self._done = done
        self._error = error
        #: The names of the calls so far.
        self.calls: list[str] = []

    def mend(self) -> None:
        """Nothing fails any more."""
        self._fail_at = 0

    def _count(self, name: str) -> bool:
        """Count the call; whether it is one that fails when it is done. Raises if it fails before that."""
        self.calls.append(name)
        count = len(self.calls)
        fails = count == self._fail_at or (self._forever and 0 < self._fail_at < count)
        if fails and not (self._done and count == self._fail_at):
            raise self._failure(name)
        return fails

    def _failure(self, name: str) -> StorageError:
        return self._error(f"{name} failed because a test wanted it to")

    async def _do(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        fails = self._count(call.__name__)
        result = await call(*args, **kwargs)
        if fails:
            raise self._failure(call.__name__)
        return result

    async def _each(self, call: Callable[P, AsyncIterator[T]], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        """The same for what is handed out piece by piece; what fails when it is done fails after the first piece."""
        fails = self._count(call.__name__)
        async for item in call(*args, **kwargs):
            yield item
            if fails:
                break
        if fails:
            raise self._failure(call.__name__)

    async def append(self, upload: str, offset: int, chunks: AsyncIterable[bytes]) -> int:
        return await self._do(self._store.append, upload, offset, chunks)

    async def size(self, upload: str) -> int:
        return await self._do(self._store.size, upload)

    async def read_upload(self, upload: str, offset: int, count: int) -> bytes:
        return await self._do(self._store.read_upload, upload, offset, count)

    async def digest(self, upload: str, algorithm: str) -> Digest:
        return await self._do(self._store.digest, upload, algorithm)

    async def finish(self, upload: str, digest: Digest) -> str:
        return await self._do(self._store.finish, upload, digest)

    async def cancel(self, upload: str) -> None:
        await self._do(self._store.cancel, upload)

    def uploads(self) -> AsyncIterator[str]:
        return self._each(self._store.uploads)

    async def put(self, digest: Digest, data: bytes) -> str:
        return await self._do(self._store.put, digest, data)

    async def stat(self, location: str) -> int | None:
        return await self._do(self._store.stat, location)

    def path(self, location: str) -> Path | None:
        return self._store.path(location)

    def read(self, location: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        return self._each(self._store.read, location, start, stop)

    def blobs(self) -> AsyncIterator[tuple[Digest, str, int]]:
        return self._each(self._store.blobs)

    async def foreign(self) -> str | None:
        return await self._do(self._store.foreign)

    def retire(self, location: str, trash: str) -> str:
        fails = self._count("retire")
        result = self._store.retire(location, trash)
        if fails:
            raise self._failure("retire")
        return result

    def sync_trash(self) -> None:
        fails = self._count("sync_trash")
        self._store.sync_trash()
        if fails:
            raise self._failure("sync_trash")

    async def tidy(self) -> None:
        await self._do(self._store.tidy)

    def trash_location(self, location: str, trash: str) -> str:
        return self._store.trash_location(location, trash)

    def trashed(self) -> AsyncIterator[tuple[str, str, int]]:
        return self._each(self._store.trashed)

    async def restore(self, trash: str, digest: Digest) -> str:
        return await self._do(self._store.restore, trash, digest)

    async def purge(self, trash: str) -> None:
        await self._do(self._store.purge, trash)

    async def space(self) -> Space | None:
        return await self._do(self._store.space)

    async def close(self) -> None:
        await self._store.close()
