"""What a copy would cost before it is made: bytes that would come, and pulls that upstream would count.

Holds: what has to be read for it is kept, so the run that follows does not pay for it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from homeport.db.database import Transaction
from homeport.mirror import read_ahead
from homeport.mirror.holdings import wanted_children
from homeport.mirror.remaining import Copy
from homeport.mirror.rules import Rule
from homeport.oci import manifest as oci_manifest
from homeport.oci.digest import Digest
from homeport.oci.manifest import INDEX_DEPTH_MAX, Manifest
from homeport.registry import blobs, manifests
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import Purpose, Upstreams


@dataclass(slots=True)
class Cost:
    """What copies would cost. `unread`: manifests of which nothing is known, so their parts are not counted."""

    pulls: int = 0
    bytes: int = 0
    unread: int = 0
    _counted: set[Digest] = field(default_factory=set)

    def add(self, other: Cost) -> None:
        """Both together; what they share counts in each."""
        self.pulls += other.pulls
        self.bytes += other.bytes
        self.unread += other.unread

    def meet(self, digest: Digest) -> bool:
        """Remember that the digest was counted; whether that is for the first time."""
        new = digest not in self._counted
        self._counted.add(digest)
        return new


class Estimate:
    """The costs of copies. `reads`: manifests that are not here are read, which costs what the run would pay."""

    def __init__(self, registry: Registry, upstreams: Upstreams, *, reads: bool) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._reads = reads

    async def of(self, copy: Copy, rule: Rule) -> Cost:
        """What one copy would cost. Raises `ClientError`."""
        cost = Cost()
        await self._add(cost, copy, rule, copy.digest, 0)
        return cost

    async def _add(self, cost: Cost, copy: Copy, rule: Rule, digest: Digest, depth: int) -> None:
        if depth > INDEX_DEPTH_MAX or not cost.meet(digest):
            return
        known = await self._registry.db.read(_known, copy.repository, digest)
        if known is None and not self._reads:
            cost.pulls += 1
            cost.unread += 1
            return
        if known is None:
            upstream = await self._upstreams.repository(*copy.source, Purpose.RUNS)
            known = (await read_ahead.get(self._registry, upstream, digest)).manifest
            cost.pulls += 1
        parts = [each for each in known.references if each.must_be_held and not each.is_manifest]
        for part in parts:
            if cost.meet(part.digest) and not await self._registry.db.read(blobs.find, copy.repository, part.digest):
                cost.bytes += part.size
        for child in wanted_children(known, rule.platforms):
            await self._add(cost, copy, rule, child.digest, depth + 1)


def _known(tx: Transaction, repository: str, digest: Digest) -> Manifest | None:
    stored = manifests.by_digest(tx, repository, digest)
    if stored is not None:
        return oci_manifest.parse(stored.data, stored.media_type)
    read = read_ahead.find(tx, digest)
    return read.manifest if read else None
