"""The contract of the place where bytes live, method by method.

There is no rename in the contract: object stores have none. A *location* is text that the store made up and that the
caller keeps in the blob's row; only the store understands it. An *upload* is named by its id (32 hexadecimal digits,
`Clock.new_id`); its bytes belong to nobody until `finish` gave them a location.

Safe for concurrent use by the tasks of one event loop. The caller sees to it that an upload has one appender at a
time; nothing else needs a lock. Every method may be called again after a failure or a crash.

`homeport.testing.blobstore_suite` is this contract as tests; every implementation passes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from homeport.oci.digest import Digest

#: How much of what it took `append` may hold back from those who read the upload meanwhile, if no chunk is larger than
#: 1 MiB.
UNSEEN_BYTES_MAX = 4 << 20


class StorageError(Exception):
    """The store could not do it; what was there before is unharmed."""


class UploadMissing(StorageError):
    """The store has no bytes under this upload's id."""


class BlobMissing(StorageError):
    """There are no bytes at this location."""


class StoreFull(StorageError):
    """There is no room, or the reserve is reached; an upload keeps the bytes that it has."""


class WrongOffset(StorageError):
    """An append does not begin where the upload ends. `size` is where that is."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the upload has {size} bytes")
        self.size = size


@dataclass(frozen=True, slots=True)
class Space:
    """The room on the medium, in bytes."""

    total_bytes: int
    free_bytes: int
    #: So much of what is free no upload gets.
    reserve_bytes: int = 0

    @property
    def room_bytes(self) -> int:
        """What uploads may still take."""
        return max(0, self.free_bytes - self.reserve_bytes)


class BlobStore(ABC):
    """Bytes that are coming (uploads), bytes that are there (blobs), bytes that are going (trash)."""

    # --- uploads: bytes that are coming -------------------------------------------------------------------------

    @abstractmethod
    async def append(self, upload: str, offset: int, chunks: AsyncIterable[bytes]) -> int:
        """Write `chunks` behind what the upload has, which must be `offset` bytes; the new size.

        The first append begins the upload. Bytes are kept as they come: when the iterator raises, or the task is
        cancelled, what came before stays and `size` tells how much that is. Nothing is promised about a power cut
        until `finish`. Memory stays bounded however long the body is: the next chunks are not asked for before the
        last were taken. Raises `WrongOffset`, `StoreFull`.
        """

    @abstractmethod
    async def size(self, upload: str) -> int:
        """How many bytes the upload has; 0 for one that never got any."""

    @abstractmethod
    async def read_upload(self, upload: str, offset: int, count: int) -> bytes:
        """At most `count` bytes of what the upload has from `offset` on; none where no more have come yet.

        Also while it is appended to: of what `append` took all but the last `UNSEEN_BYTES_MAX` bytes are seen. Nobody
        has compared these bytes with a digest. Raises `UploadMissing` before the first byte, and once the upload was
        finished or cancelled.
        """

    @abstractmethod
    async def digest(self, upload: str, algorithm: str) -> Digest:
        """The digest of all that the upload has. Remembered from appending where possible, else read again."""

    @abstractmethod
    async def finish(self, upload: str, digest: Digest) -> str:
        """Give the upload's bytes their place and return its location; they survive a power cut after this line.

        The caller has compared `digest` with `self.digest`. Bytes that are already in that place are replaced: a
        push heals a damaged blob. After this the upload is gone. Called again after a crash that came in between,
        it raises `UploadMissing`, and the bytes are either in place or not.
        """

    @abstractmethod
    async def cancel(self, upload: str) -> None:
        """Forget the upload's bytes. Nothing happens if there are none."""

    @abstractmethod
    def uploads(self) -> AsyncIterator[str]:
        """The ids of all uploads that have bytes."""

    # --- blobs: bytes that are there ----------------------------------------------------------------------------

    @abstractmethod
    async def put(self, digest: Digest, data: bytes) -> str:
        """`append` and `finish` in one, for small bytes that are in memory and known to have `digest`."""

    @abstractmethod
    async def stat(self, location: str) -> int | None:
        """The size of the blob, or None when its bytes are not there."""

    @abstractmethod
    def path(self, location: str) -> Path | None:
        """The file that holds exactly the blob's bytes, for the server to send without reading; None: there is none."""

    @abstractmethod
    def read(self, location: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `stop`, in chunks of at most 1 MiB. Raises `BlobMissing`."""

    @abstractmethod
    def blobs(self) -> AsyncIterator[tuple[Digest, str, int]]:
        """Digest, location and size of everything that lies in a blob's place, referenced or not."""

    @abstractmethod
    async def foreign(self) -> str | None:
        """Who else keeps facts about these blobs, in words, so that one that we do not know may be theirs.

        None: nobody. A volume of `distribution` that was not imported is an example.
        """

    # --- trash: bytes that are going ----------------------------------------------------------------------------

    @abstractmethod
    def retire(self, location: str, trash: str) -> str:
        """Take the blob out of its place and keep it under the name `trash`; the trash's location.

        With `sync_trash` the one piece of I/O that is allowed inside a transaction, so it is synchronous and quick.
        Idempotent: called again with the same arguments after a crash it returns the same. Missing bytes are no error.
        """

    @abstractmethod
    def sync_trash(self) -> None:
        """All that was retired survives a power cut after this line: once for many, before a row says where it is."""

    @abstractmethod
    async def tidy(self) -> None:
        """Take away what this process left empty by retiring. Nothing rests on it, so failing is no error."""

    @abstractmethod
    def trash_location(self, location: str, trash: str) -> str:
        """Where `retire` puts the bytes with these arguments: its answer, also where that was lost. Touches nothing."""

    @abstractmethod
    def trashed(self) -> AsyncIterator[tuple[str, str, int]]:
        """Location, name and size of everything that lies in the trash, listed somewhere or not."""

    @abstractmethod
    async def restore(self, trash: str, digest: Digest) -> str:
        """Put retired bytes back into the place of `digest`, durably; the location. Raises `BlobMissing`."""

    @abstractmethod
    async def purge(self, trash: str) -> None:
        """Delete retired bytes for good. Nothing happens if there are none."""

    # --- the medium ---------------------------------------------------------------------------------------------

    @abstractmethod
    async def space(self) -> Space | None:
        """The room that is left, or None where the medium knows no bound."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of files, connections and threads."""
