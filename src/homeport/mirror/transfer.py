"""An image on its way from an upstream into a repository of ours: both ends of `client.copying`.

Holds: what is here already is not asked for, so a manifest costs a pull only if its digest is neither here nor was read
before; everything enters by the doors of `registry/`, as a push does; a tag that somebody pushed stays what it is, also
one of a signature, and also if it was pushed while the image was on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

from homeport.client.copying import Choice, Observer
from homeport.client.downloads import BlobDownload
from homeport.client.referrers import Referrer
from homeport.client.repository import FetchedManifest
from homeport.client.uploads import Content, Outcome
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.mirror import holdings, read_ahead
from homeport.mirror.fetching import Fetch, Fetches
from homeport.mirror.rules import Rule
from homeport.mirror.selection import referrer_wanted
from homeport.oci import manifest as oci_manifest
from homeport.oci import platforms
from homeport.oci.digest import Digest
from homeport.oci.manifest import Descriptor, Manifest, Role
from homeport.oci.platforms import Platform
from homeport.registry import blobs, manifests
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import Purpose, UpstreamRepository


class UpstreamEnd:
    """The source: an upstream repository, and what of it is here or was read before."""

    def __init__(self, registry: Registry, repository: str, upstream: UpstreamRepository) -> None:
        self._registry = registry
        self._repository = repository
        self._upstream = upstream
        #: What it has given, or said to have.
        self._shown: set[Digest] = set()

    async def get_manifest(self, target: str) -> FetchedManifest:
        """The manifest; a digest that is here or was read before costs no pull."""
        here = await self._registry.db.read(_here, self._repository, Digest.parse(target)) if ":" in target else None
        if here is not None:
            return here
        read = await read_ahead.get(self._registry, self._upstream, target, shown=self._shown)
        self._shown.add(read.digest)
        return read

    async def head_manifest(self, target: str) -> Descriptor | None:
        """As the upstream says."""
        return await self._upstream.head_manifest(target)

    async def has_blob(self, digest: Digest) -> bool:
        """As the upstream says."""
        return await self._upstream.has_blob(digest)

    def open_blob(self, blob: Descriptor) -> AbstractAsyncContextManager[BlobDownload]:
        """The upstream's bytes, which are verified where they are stored."""
        return self._upstream.open_blob(blob, verify=False)

    async def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """As the upstream says."""
        return await self._upstream.referrers(subject)


class OurEnd:
    """The destination: a repository of ours, as somebody who is trusted to leave things out fills it.

    `shared`: upstream shows the source to everybody, so what is fetched from it may serve other repositories, too.
    `overwrite`: tags that somebody pushed are no obstacle.
    """

    def __init__(
        self,
        registry: Registry,
        fetches: Fetches,
        origin: Origin,
        name: str,
        source: UpstreamEnd,
        wanted: Sequence[Platform],
        *,
        shared: bool,
        overwrite: bool,
    ) -> None:
        self._registry = registry
        self._fetches = fetches
        self._origin = origin
        self._name = name
        self._source = source
        self._wanted = wanted
        self._shared = shared
        self._overwrite = overwrite
        #: What the source names and does not hold.
        self.missing: set[Digest] = set()
        #: The tags that were set, and those that were left as they are.
        self.tagged: dict[str, Digest] = {}
        self.theirs: set[str] = set()

    async def head_manifest(self, target: str) -> Descriptor | None:
        """The manifest, if it is here with all that is wanted of it."""
        return await self._registry.db.read(_whole, self._name, Digest.parse(target), self._wanted)

    async def put_blob(self, content: Content, *, mount_from: str | None, moved: Callable[[int], None]) -> Outcome:
        """Have the blob here, through the one fetch of it that runs, or from another repository that may share it."""
        del mount_from, moved
        blob = content.blob
        if await self._registry.db.read(blobs.find, self._name, blob.digest) is not None:
            return Outcome.PRESENT
        got = await self._fetches.stream(
            self._origin,
            self._name,
            blob,
            lambda: self._source.open_blob(blob),
            shared=self._shared,
            purpose=Purpose.RUNS,
        )
        if not isinstance(got, Fetch):
            return Outcome.MOUNTED
        await got.done()
        return Outcome.SENT

    async def put_manifest(self, pushed: FetchedManifest, tag: str | None = None) -> None:
        """Store it. An index may lack the platforms that are not wanted, and what its source lacks, too."""
        if tag is not None and await self._is_theirs(tag, pushed.digest):
            self.theirs.add(tag)
            return
        left_out = _left_out(pushed.manifest, self._wanted)
        await manifests.push(
            self._registry,
            self._origin,
            self._name,
            pushed.manifest.data,
            pushed.manifest.media_type,
            pushed.digest,
            [tag] if tag is not None else [],
            may_lack=left_out | self.missing,
        )
        if tag is not None:
            self.tagged[tag] = pushed.digest
        await self._registry.db.jot(read_ahead.forget, [pushed.digest])

    async def _is_theirs(self, tag: str, digest: Digest) -> bool:
        return not self._overwrite and await self._registry.db.read(holdings.is_theirs, self._name, tag, digest)


class Picked(Choice):
    """What a rule wants of an image. `tags`: all that upstream has, where they are known."""

    def __init__(self, rule: Rule, tags: frozenset[str] | None) -> None:
        self._rule = rule
        self._tags = tags

    def children(self, manifest: Manifest) -> Iterable[Descriptor]:
        """Those of the platforms that are wanted."""
        return holdings.wanted_children(manifest, self._rule.platforms)

    def takes_referrer(self, artifact_type: str | None) -> bool:
        """Whether the rule takes this type."""
        return referrer_wanted(artifact_type, self._rule.referrer_types, self._rule.not_referrer_types)

    def may_have_tag(self, tag: str) -> bool:
        """Whether the upstream's list has it, or there was none."""
        return self._tags is None or tag in self._tags


class Watching(Observer):
    """Sees to it that what a source lacks is not asked of the destination, and counts what came."""

    def __init__(self, destination: OurEnd) -> None:
        self._destination = destination
        self.bytes = 0

    def is_missing(self, digest: Digest) -> None:
        """The copy is as sparse as its source."""
        self._destination.missing.add(digest)

    def blob_done(self, blob: Descriptor, outcome: Outcome) -> None:
        """Bytes that came from upstream count."""
        if outcome is Outcome.SENT:
            self.bytes += blob.size


def _left_out(manifest: Manifest, wanted: Sequence[Platform]) -> frozenset[Digest]:
    """The platforms of an index that are not wanted."""
    if not manifest.is_index:
        return frozenset()
    return frozenset(child.descriptor.digest for child in platforms.select(manifest, wanted).left_out)


# --- facts ------------------------------------------------------------------------------------------------------


def _here(tx: Transaction, repository: str, digest: Digest) -> FetchedManifest | None:
    stored = manifests.by_digest(tx, repository, digest)
    return FetchedManifest(digest, oci_manifest.parse(stored.data, stored.media_type)) if stored else None


def _whole(tx: Transaction, repository: str, digest: Digest, wanted: Sequence[Platform]) -> Descriptor | None:
    stored = manifests.by_digest(tx, repository, digest)
    if stored is None or not holdings.is_whole(tx, repository, digest, wanted):
        return None
    return Descriptor(stored.media_type, digest, len(stored.data), Role.CHILD)
