"""When images were made, as they say themselves: for `by: created` only, since who forges an image forges its age.

Owns the table `image_times`. Holds: the answer for a digest never changes, so it is asked once; asking costs a pull for
each manifest on the way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from homeport.db.database import Transaction
from homeport.mirror import read_ahead
from homeport.mirror.holdings import wanted_children
from homeport.oci.digest import Digest
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import UpstreamRepository

#: The configuration of an image is a small document.
CONFIG_BYTES_MAX = 1024 * 1024
_NESTING_MAX = 4
_BATCH = 100


class Ages:
    """What is known of the ages of images."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def of(self, upstream: UpstreamRepository, digests: Mapping[str, Digest]) -> dict[str, float]:
        """Of each tag when its image was made; 0 where it does not say. Raises `ClientError`."""
        db = self._registry.db
        known = await db.read(_times, digests.values())
        for digest in sorted({*digests.values()} - known.keys()):
            known[digest] = await self._read(upstream, digest, 0)
            await db.jot(_record, digest, known[digest])
        return {tag: known[digest] for tag, digest in digests.items()}

    async def _read(self, upstream: UpstreamRepository, digest: Digest, depth: int) -> float:
        read = await read_ahead.get(self._registry, upstream, digest)
        if read.manifest.is_index:
            children = wanted_children(read.manifest, ())
            if not children or depth == _NESTING_MAX:
                return 0.0
            return await self._read(upstream, children[0].digest, depth + 1)
        config = read.manifest.config
        if config is None or config.size > CONFIG_BYTES_MAX:
            return 0.0
        data = bytearray()
        async with upstream.open_blob(config) as content:
            async for chunk in content.chunks():
                data += chunk
        return created(bytes(data))


def created(config: bytes) -> float:
    """When an image's configuration says that it was made, in seconds since 1970; 0 where it does not say.

    Source: OCI image-spec, config.md, "created" (RFC 3339, section 5.6).
    """
    try:
        text = json.loads(config)["created"]
        made = datetime.fromisoformat(text)
        return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0.0


# --- facts ------------------------------------------------------------------------------------------------------


def _times(tx: Transaction, digests: Iterable[Digest]) -> dict[Digest, float]:
    """When the images of these digests were made, of those that were read."""
    wanted, found = list(digests), {}
    for first in range(0, len(wanted), _BATCH):
        some = wanted[first : first + _BATCH]
        marks = ",".join("?" * len(some))
        rows = tx.all(f"SELECT digest, created_at FROM image_times WHERE digest IN ({marks})", some)  # noqa: S608
        found.update({Digest(digest): created_at for digest, created_at in rows})
    return found


def _record(tx: Transaction, digest: Digest, created_at: float) -> None:
    tx.run(
        "INSERT INTO image_times (digest, created_at) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
        (digest, created_at),
    )
