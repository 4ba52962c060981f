"""When images were made, as they say themselves: for `by: created` only, since who forges an image forges its age.

Owns the table `image_times`. Holds: the answer for a digest never changes, so it is asked once; asking costs a pull for
each manifest on the way. What nobody has needed for long is forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from homeport.db import batches
from homeport.db.database import Transaction
from homeport.mirror import read_ahead
from homeport.mirror.holdings import wanted_children
from homeport.oci.digest import Digest
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import UpstreamRepository

#: The configuration of an image is a small document.
CONFIG_BYTES_MAX = 1024 * 1024
_NESTING_MAX = 4
#: That an age was needed is written again after so long only, so that a quiet night costs no writes.
_RENEWAL_SECONDS = 7 * 86_400.0


class Ages:
    """What is known of the ages of images."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def of(self, upstream: UpstreamRepository, digests: Mapping[str, Digest]) -> dict[str, float]:
        """Of each tag when its image was made; 0 where it does not say. Raises `ClientError`."""
        db, now = self._registry.db, self._registry.clock.now()
        known, stale = await db.read(_times, digests.values(), now)
        if stale:
            await db.jot(_renew, stale, now)
        for digest in sorted({*digests.values()} - known.keys()):
            known[digest] = await self._read(upstream, digest, 0)
            await db.jot(_record, digest, known[digest], now)
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


def prune(tx: Transaction, before: float, limit: int = 1_000) -> int:
    """Forget at most `limit` that nobody has needed since `before`; how many those were."""
    return tx.run(
        "DELETE FROM image_times WHERE digest IN (SELECT digest FROM image_times WHERE used_at < ? LIMIT ?)",
        (before, limit),
    )


def _times(tx: Transaction, digests: Iterable[Digest], now: float) -> tuple[dict[Digest, float], list[Digest]]:
    """When the images of these digests were made, of those that were read; and whose use is to be noted again."""
    found: dict[Digest, float] = {}
    stale: list[Digest] = []
    for some, marks in batches.of(digests):
        sql = f"SELECT digest, created_at, used_at FROM image_times WHERE digest IN ({marks})"  # noqa: S608
        for text, created_at, used_at in tx.all(sql, some):
            digest = Digest(text)
            found[digest] = created_at
            if used_at is None or not 0 <= now - used_at < _RENEWAL_SECONDS:
                stale.append(digest)
    return found, stale


def _record(tx: Transaction, digest: Digest, created_at: float, now: float) -> None:
    tx.run(
        "INSERT INTO image_times (digest, created_at, used_at) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        (digest, created_at, now),
    )


def _renew(tx: Transaction, digests: Iterable[Digest], now: float) -> None:
    for digest in digests:
        tx.run("UPDATE image_times SET used_at = ? WHERE digest = ?", (now, digest))
