"""When images were made, as they say themselves: for `by: created` only, since who forges an image forges its age.

Holds: the answer for a digest never changes, so it is asked once; asking costs a pull for each manifest on the way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from homeport.client.repository import FetchedManifest
from homeport.mirror import drafts
from homeport.mirror.holdings import wanted_children
from homeport.oci.digest import Digest
from homeport.oci.manifest import Role
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import UpstreamRepository

#: The configuration of an image is a small document.
CONFIG_BYTES_MAX = 1024 * 1024
_NESTING_MAX = 4


class Ages:
    """What is known of the ages of images."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def of(self, upstream: UpstreamRepository, digests: Mapping[str, Digest]) -> dict[str, float]:
        """Of each tag when its image was made; 0 where it does not say. Raises `ClientError`."""
        db = self._registry.db
        known = await db.read(drafts.times, digests.values())
        for digest in sorted({*digests.values()} - known.keys()):
            known[digest] = await self._read(upstream, digest, 0)
            await db.jot(drafts.record_time, digest, known[digest])
        return {tag: known[digest] for tag, digest in digests.items()}

    async def _read(self, upstream: UpstreamRepository, digest: Digest, depth: int) -> float:
        read = await self._manifest(upstream, digest)
        if read.manifest.is_index:
            children = wanted_children(read.manifest, ())
            if not children or depth == _NESTING_MAX:
                return 0.0
            return await self._read(upstream, children[0].digest, depth + 1)
        config = next(each for each in read.manifest.references if each.role is Role.CONFIG)
        if config.size > CONFIG_BYTES_MAX:
            return 0.0
        data = bytearray()
        async with upstream.open_blob(config) as content:
            async for chunk in content.chunks():
                data += chunk
        return created(bytes(data))

    async def _manifest(self, upstream: UpstreamRepository, digest: Digest) -> FetchedManifest:
        kept = await self._registry.db.read(drafts.find, digest)
        if kept is not None:
            return kept
        read = await upstream.get_manifest(digest)
        await self._registry.db.jot(drafts.keep, read, self._registry.clock.now())
        return read


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
