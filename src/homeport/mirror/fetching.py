"""Blobs on their way here from upstream: each fetched once, and streamed meanwhile to whoever asks.

Holds:
- Of one blob at most one fetch runs, however many ask: one for a digest where upstream shows it to everybody, else one
  for a digest in a repository. Whoever asks on behalf of another repository has it linked there when it is here; where
  the fetch of another repository fails before its first byte, their own is tried.
- A fetch belongs to none of those who wait for it: it goes on when they leave, and nobody waits for the slowest.
- What people ask for has turns of its own, so none of it waits until a run's blobs have come from a slow upstream.
- Who reads gets every byte that they asked for or an error, never fewer. The bytes come from memory to those who keep
  up, and from the store to all others; what is in memory does not grow with the blob or its readers.
- What broke off goes on where it was, also in another process; if that spoils the blob, it comes once more as a whole.
- A repository gets a blob for its bytes, which upstream gave to it now, or once to everybody; never because another
  repository holds a digest that a manifest of upstream names.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, TypeAlias

from homeport.client.errors import BadAnswer, ContentMismatch, Refused
from homeport.client.uploads import Content
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.mirror import public_blobs
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    Unavailable,
    UploadOutOfOrder,
    UploadTakenOver,
)
from homeport.oci.manifest import Descriptor
from homeport.registry import blobs, downloads
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry
from homeport.storage.blobstore import UNSEEN_BYTES_MAX, StorageError, StoreFull, UploadMissing
from homeport.upstreams.upstreams import Purpose

#: How many blobs are fetched at once for people, and for runs. Each has some of its last bytes in memory.
AT_ONCE: Final = 12
#: What a reader is given at a time. Of one that stands still the server keeps several such chunks in memory: with
#: 256 KiB fifty of them took 40 MiB more, and with 1 MiB 260.
CHUNK_BYTES: Final = 128 << 10
#: How many fetches there are, those that wait for their turn included. Whoever asks for one more is told to come later.
FETCHES_MAX: Final = 1_000
#: Into how many other repositories one fetch brings its blob.
REPOSITORIES_MAX: Final = 1_000

#: What upstream answers where it has no byte at the position, or cannot begin there.
_RANGE_REFUSED: Final = frozenset({400, 416, 501})
_STOPPING: Final = "Homeport stops"

OpenBlob: TypeAlias = Callable[[], AbstractAsyncContextManager[Content]]


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes two wishes one fetch. The size is part of it, so that who lies about it fails alone."""

    #: None: any, since upstream shows the blob to everybody.
    repository: str | None
    digest: Digest
    size: int


class Fetch:
    """A blob that is on its way into a repository, as one of those who asked for it sees it."""

    def __init__(self, coming: _Coming, repository: str) -> None:
        self._coming = coming
        self._repository = repository

    @property
    def size(self) -> int:
        """How many bytes the blob has."""
        return self._coming.wanted.size

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `stop` as they come, in chunks of at most `CHUNK_BYTES`.

        Raises what the fetch failed with. Where the blob's last byte is asked for, it is in the repository at the end.
        """
        size = self.size
        stop = size if stop is None else min(stop, size)
        async for chunk in self._coming.read(start, stop):
            yield chunk
        if stop == size:
            await self.done()

    async def done(self) -> Blob:
        """The blob, when it is in the repository. Raises what the fetch failed with."""
        blob = await self._coming.done()
        refusal = self._coming.refusals.get(self._repository)
        if refusal is not None:
            raise refusal
        return blob


class Fetches:
    """The fetches of this process. They live in its `async with`, and are broken off at the end of it."""

    def __init__(self, registry: Registry, log: Log, *, at_once: int = AT_ONCE) -> None:
        self._registry = registry
        self._log = log
        self._turns = {purpose: asyncio.Semaphore(at_once) for purpose in Purpose}
        self._coming: dict[_Key, _Coming] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Fetches:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Break off what runs, and refuse what comes after. The next process goes on with what is worth it."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._coming:  # Also those whose task had not even begun.
            _, coming = self._coming.popitem()
            coming.fail(Unavailable(_STOPPING))

    async def stream(
        self,
        origin: Origin,
        repository: str,
        wanted: Descriptor,
        open_blob: OpenBlob,
        *,
        shared: bool,
        purpose: Purpose = Purpose.PEOPLE,
    ) -> Fetch | Blob:
        """The blob, if the repository has it or gets it without that bytes move; else its fetch, once bytes come.

        `open_blob` opens it at upstream, if no fetch of it runs already, to be read from any position and so without
        being verified; `shared`: upstream shows it to everybody.
        What goes wrong before the first byte is raised here: errors of the client, and those of any push.
        """
        present = await blobs.find_whole(self._registry, repository, wanted.digest)
        if present is not None:
            return present
        mine = _Coming(self._registry, origin, repository, wanted, open_blob, shared=shared, purpose=purpose)
        coming = self._join(_Key(None if shared else repository, wanted.digest, wanted.size), mine)
        try:
            await coming.begun()
        except Exception:
            if coming.repository == repository:
                raise
            # That another repository's way to the blob leads nowhere says nothing of ours.
            coming = self._join(_Key(repository, wanted.digest, wanted.size), mine)
            await coming.begun()
        fetch = Fetch(coming, repository)
        return fetch if coming.moves_bytes else await fetch.done()

    def _join(self, key: _Key, mine: _Coming) -> _Coming:
        """The fetch that runs, or else `mine`, which then begins."""
        coming = self._coming.get(key)
        if coming is not None:
            coming.join(mine.origin, mine.repository)
            return coming
        if self._closed or len(self._coming) >= FETCHES_MAX:
            raise Unavailable(_STOPPING if self._closed else "too many blobs are on their way from upstream")
        self._coming[key] = mine
        task = asyncio.create_task(self._run(key, mine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return mine

    async def _run(self, key: _Key, coming: _Coming) -> None:
        """Bring the blob, and tell those who wait. Behind the last link of it nobody joins any more."""
        try:
            blob = await self._bring(coming)
            await coming.link_elsewhere(blob)
        except Exception as error:  # noqa: BLE001 (it is for all who wait)
            self._log.warning("fetch.failed", repository=coming.repository, digest=key.digest, error=repr(error))
            del self._coming[key]
            coming.fail(error)
        else:
            del self._coming[key]
            coming.succeed(blob)

    async def _bring(self, coming: _Coming) -> Blob:
        registry, digest = self._registry, coming.wanted.digest
        if coming.shared:
            present = await _linked(registry, coming)
        else:
            present = await blobs.find_whole(registry, coming.repository, digest)
        if present is not None:  # Perhaps a fetch that ended while this one was being asked for has brought it.
            return present
        async with self._turns[coming.purpose]:
            begun_at = registry.clock.monotonic()
            blob = await coming.fetch()
        if coming.shared:
            await registry.db.jot(public_blobs.record, digest)
        seconds = round(registry.clock.monotonic() - begun_at, 3)
        self._log.info(
            "blob.fetched",
            repository=coming.repository,
            digest=digest,
            bytes=blob.size,
            resumed_at=coming.resumed_at,
            seconds=seconds,
        )
        return blob


class _Coming:
    """One fetch: what it has so far, and who else wants it."""

    def __init__(
        self,
        registry: Registry,
        origin: Origin,
        repository: str,
        wanted: Descriptor,
        open_blob: OpenBlob,
        *,
        shared: bool,
        purpose: Purpose,
    ) -> None:
        self.origin = origin
        self.repository = repository
        self.wanted = wanted
        #: Whether upstream shows it to everybody.
        self.shared = shared
        self.purpose = purpose
        #: Whether its bytes come from upstream.
        self.moves_bytes = False
        #: Why the blob could not be linked in another repository.
        self.refusals: dict[str, Exception] = {}
        self._registry = registry
        self._open_blob = open_blob
        #: How much of it was here when it began; nobody had verified that.
        self.resumed_at = 0
        self._upload = ""
        #: Whether upstream has sent a byte: until then it may still be that nobody gets any.
        self._sent = False
        #: Why it began anew, if it did.
        self._spoilt: Exception | None = None
        self._elsewhere: dict[str, Origin] = {}
        self._outcome: asyncio.Future[Blob] = asyncio.get_running_loop().create_future()
        #: Is set, and replaced, whenever there is more to read or the fetch has ended.
        self._moved = asyncio.Event()
        self._size = 0
        #: The blob's last bytes: nobody gets them before all of it was verified, so nobody gets a wrong blob whole.
        self._last = b""
        #: The last chunks with their positions: all that the store may not show yet.
        self._tail: deque[tuple[int, bytes]] = deque()

    # --- those who wait -----------------------------------------------------------------------------------------

    def join(self, origin: Origin, repository: str) -> None:
        """Have the blob linked in this repository too."""
        if repository == self.repository or repository in self._elsewhere:
            return
        if len(self._elsewhere) >= REPOSITORIES_MAX:
            raise Unavailable("too many repositories wait for this blob")
        self._elsewhere[repository] = origin

    async def begun(self) -> None:
        """Return when there are bytes from upstream, or the blob is here. Raises what it has failed with."""
        while not (self._sent and self._size) and not self._outcome.done():
            await self._moved.wait()
        if self._outcome.done():
            self._outcome.result()

    async def done(self) -> Blob:
        """The blob when it is here. Raises what it failed with."""
        while not self._outcome.done():
            await self._moved.wait()
        return self._outcome.result()

    async def read(self, position: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `position` to before `stop`, as they come."""
        spoilt = self._spoilt
        while position < stop:
            if self._spoilt is not spoilt:
                assert self._spoilt is not None
                raise self._spoilt
            moved, count = self._moved, min(stop - position, CHUNK_BYTES)
            if self._outcome.done():
                chunk = await self._stored(self._outcome.result(), position, count)
            else:
                chunk = self._remembered(position, count) or await self._written(position, count)
            if chunk:
                position += len(chunk)
                yield chunk
            else:
                await moved.wait()

    def _remembered(self, position: int, count: int) -> bytes:
        """What is in memory from `position` on, to the end of what came in one."""
        number = bisect_right(self._tail, position, key=lambda part: part[0]) - 1
        if number < 0:
            return b""
        start, chunk = self._tail[number]
        return chunk[position - start : position - start + count]

    async def _written(self, position: int, count: int) -> bytes:
        """What the store shows from `position` on; nothing where that is not here yet, or not an upload any more.

        The store may have the last bytes before they were verified, so it is asked for none behind `_size`.
        """
        count = min(count, self._size - position)
        if count <= 0:
            return b""
        try:
            return await self._registry.blobs.read_upload(self._upload, position, count)
        except UploadMissing:
            return b""

    async def _stored(self, blob: Blob, position: int, count: int) -> bytes:
        """The same of the blob. Each time anew: a read that goes on has two mebibytes in memory, for each reader."""
        chunks = [chunk async for chunk in self._registry.blobs.read(blob.location, position, position + count)]
        if not chunks:
            raise StorageError(f"{blob.digest} ended at {position} of {self.wanted.size} bytes")
        return b"".join(chunks)

    # --- the one who fetches ------------------------------------------------------------------------------------

    async def fetch(self) -> Blob:
        """Bring the bytes here from upstream, going on with what broke off."""
        self.moves_bytes = True
        try:
            return await self._bring()
        except Exception as error:
            in_other_hands = isinstance(error, UploadTakenOver | UploadOutOfOrder | BlobUploadUnknown)
            if not in_other_hands and not self.doubts(error):
                raise
            self._spoil(error)
        return await self._bring(anew=True)

    async def _bring(self, *, anew: bool = False) -> Blob:
        wanted = self.wanted
        try:
            return await downloads.bring(
                self._registry, self.origin, self.repository, wanted.digest, self, wanted.size, anew=anew
            )
        except DigestInvalid as error:
            raise ContentMismatch(f"what upstream sends as blob {wanted.digest}: {error.detail}") from None

    @property
    def name(self) -> str:
        """Bytes that upstream shows to us only never become part of a blob that everybody may have."""
        return f"{self.wanted.digest}, {self.wanted.size} bytes, {'shared' if self.shared else 'ours'}"

    def begin(self, upload: str, size: int) -> AsyncGenerator[bytes, None]:
        """What comes behind the first `size` bytes. Those can be read, but for the blob's last, once upstream sends."""
        self._upload, self.resumed_at = upload, size
        self._size = max(0, min(size, self.wanted.size - 1))
        return self._chunks(size)

    def verified(self) -> None:
        """Let the last bytes go: all of them together have the digest."""
        self._take(self._last)
        self._last = b""

    def doubts(self, error: Exception) -> bool:
        """Whether it went on with something, and upstream's bytes do not fit to that or cannot begin behind it."""
        if isinstance(error, Refused) and error.status not in _RANGE_REFUSED:
            return False
        return self.resumed_at > 0 and isinstance(error, BadAnswer | Refused)

    async def link_elsewhere(self, blob: Blob) -> None:
        """Link the blob wherever it is waited for. Where that cannot be, only those are told who wait there."""
        while self._elsewhere:
            repository, origin = self._elsewhere.popitem()
            try:
                linked = await blobs.mount(
                    self._registry, origin, repository, blob.digest, self.repository, readable=_by_everybody
                )
                if linked is None:
                    raise BlobUnknown(f"{blob.digest} went when it had just come")
            except Exception as error:  # noqa: BLE001 (it is for those who wait there)
                self.refusals[repository] = error

    def succeed(self, blob: Blob) -> None:
        self._outcome.set_result(blob)
        self._end()

    def fail(self, error: Exception) -> None:
        self._outcome.set_exception(error)
        self._outcome.exception()  # So that asyncio does not report it where all who asked have left.
        self._end()

    def _spoil(self, error: Exception) -> None:
        """What came counts for nothing, and whoever has begun to read it is told."""
        self._spoilt = error
        self._size, self._last, self._sent = 0, b"", False
        self._end()

    async def _chunks(self, position: int) -> AsyncGenerator[bytes, None]:
        await _check_room(self._registry, self.wanted.size - position)
        async with self._open_blob() as content:
            while chunk := await content.read(position):
                position += len(chunk)
                self._sent = True
                if position < self.wanted.size:
                    self._take(chunk)
                else:
                    self._last = chunk
                yield chunk

    def _take(self, chunk: bytes) -> None:
        self._tail.append((self._size, chunk))
        self._size += len(chunk)
        while len(self._tail) > 1 and self._size - self._tail[1][0] >= UNSEEN_BYTES_MAX:
            self._tail.popleft()
        self._tell()

    def _end(self) -> None:
        self._tail.clear()
        self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


async def _linked(registry: Registry, coming: _Coming) -> Blob | None:
    """The blob, linked here from wherever it is, if it once came from where everybody can read it."""
    digest = coming.wanted.digest
    if not await registry.db.read(public_blobs.is_public, digest):
        return None
    return await blobs.mount(registry, coming.origin, coming.repository, digest, None, readable=_by_everybody)


async def _check_room(registry: Registry, count: int) -> None:
    """Raise `StoreFull` where so much would not fit: better before it comes, when a node can still ask upstream."""
    space = await registry.blobs.space()
    if space is not None and space.room_bytes < count:
        raise StoreFull(f"{count} bytes do not fit beside the reserve of the disk (storage.reserve_bytes)")


def _by_everybody(_tx: Transaction, _repository: str) -> bool:
    """What is linked by these functions came from where everybody can read it."""
    return True
