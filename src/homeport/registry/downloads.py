"""Blobs that are brought here from elsewhere, and read meanwhile.

Holds:
- Where one broke off, with its connection or its process, the next one goes on. What lies there may be wrong after a
  power cut, so only the digest of the whole decides whether any of it counts.
- What lies there and gets no byte for as long as the rules say goes, however often somebody tries to go on with it: an
  upstream that will not send the rest is asked for all of it then.
- It goes on with the bytes of its own repository, actor and source only: nobody gets bytes by naming their digest.
- Two processes may bring the same: the later one takes over what the earlier one has, and the earlier one is told.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import Final, Protocol

from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import UploadOutOfOrder, UploadTakenOver
from homeport.registry import quotas, uploads
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry
from homeport.registry.uploads import Known
from homeport.storage.blobstore import StorageError

#: What broke off with less is brought again from its first byte.
KEPT_BYTES_MIN: Final = 16 << 20


class Source(Protocol):
    """A blob as it comes from elsewhere, from any byte on."""

    @property
    def name(self) -> str:
        """What it is, and how it may be had: sources of one name go on with one another's bytes."""

    def begin(self, upload: str, size: int) -> AsyncIterable[bytes]:
        """All that comes behind the first `size` bytes. Those are in the store under this upload's id, not verified."""

    def verified(self) -> None:
        """All bytes are known to have the digest. They are not in their place yet."""

    def doubts(self, error: Exception) -> bool:
        """Whether what it went on with may be why this went wrong; then nobody goes on with it again."""


async def bring(
    registry: Registry, origin: Origin, repository: str, digest: Digest, source: Source, length: int, *, anew: bool
) -> Blob:
    """Bring a blob of `length` bytes; from its first byte, if it is to be `anew`.

    It is not durable before a manifest that names it is: what a power cut undoes is brought again. Raises
    `QuotaExceeded`, if it can before a byte is received, and `UploadTakenOver`, `UploadOutOfOrder` or
    `BlobUploadUnknown` where somebody else wrote to what it went on with, or ended it.
    """
    registry.check_writable()
    await registry.db.read(quotas.check, registry, repository, digest, length)
    left = None if anew else await registry.db.read(uploads.broken_off, origin, repository, source.name)
    if left in registry.writing:
        left = None
    upload = left or registry.clock.new_id()
    # It gets its row with its first byte, since a server that starts beside this process discards what has none.
    known = Known(epoch=None, moved_at=-math.inf, size=0, resumable_as=source.name)
    registry.writing.add(upload)
    try:
        if left is not None:
            known = await uploads.go_on(registry, origin, repository, upload)
            known.size = await registry.blobs.size(upload)
        size = known.size or 0
        chunks = source.begin(upload, size)
        if size:  # Its hash goes on with the bytes that come. Meanwhile others may read what is here.
            await registry.blobs.digest(upload, digest.algorithm)
        await uploads.receive(registry, origin, repository, upload, known, size, chunks, digest)
        return await uploads.settle(
            registry, origin, repository, upload, known.epoch, digest, source.verified, durable=False
        )
    except (UploadTakenOver, UploadOutOfOrder):  # It is somebody else's now.
        raise
    except BaseException as error:
        if not await _is_worth_keeping(registry, source, upload, error):
            await uploads.forget(registry, origin, repository, upload, known)
        raise
    finally:
        registry.writing.discard(upload)


async def _is_worth_keeping(registry: Registry, source: Source, upload: str, error: BaseException) -> bool:
    """Whether somebody should go on with it. Where the store has failed, it may need the room."""
    doubted = isinstance(error, Exception) and source.doubts(error)
    if not doubted and not isinstance(error, StorageError):
        with suppress(StorageError):
            return await registry.blobs.size(upload) >= KEPT_BYTES_MIN
    return False
