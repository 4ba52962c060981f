"""Copying an image, or any other artifact, from one repository into another: all platforms, every digest kept.

First everything that the image consists of is listed (manifests are read, blobs are only named), then blobs are moved
and then manifests pushed, what is named before what names it and the tag last. So an interrupted copy leaves nothing
half-made under the tag, and the next one finds what is there already. Holds: bytes go through memory in pieces, never
to disk; a layer's `urls` are never fetched; what the source says of sizes and digests is checked on the way.

Source and destination are protocols: `homeport copy` gives two `RemoteRepository`, a mirror its own destination.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from homeport.client.errors import BadAnswer, ClientError, CopyFailed, NotFound
from homeport.client.referrers import COSIGN_SUFFIXES, Referrer
from homeport.client.repository import FetchedManifest
from homeport.client.uploads import Content, Outcome
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.manifest import INDEX_DEPTH_MAX, Descriptor, Manifest

#: Blobs, or requests for manifests, that are on their way at once.
AT_ONCE = 4

MANIFESTS_MAX = 10_000
MANIFEST_BYTES_MAX = 32 * 1024 * 1024

T = TypeVar("T")
R = TypeVar("R")


class Source(Protocol):
    """Where an image is read from. `RemoteRepository` documents the calls."""

    async def get_manifest(self, target: str) -> FetchedManifest: ...

    async def head_manifest(self, target: str) -> Descriptor | None: ...

    async def has_blob(self, digest: Digest) -> bool: ...

    def open_blob(self, blob: Descriptor) -> AbstractAsyncContextManager[Content]: ...

    async def referrers(self, subject: Digest) -> Sequence[Referrer]: ...


class Destination(Protocol):
    """Where an image is copied to. A manifest that it holds is held with everything that it names, but for an index."""

    async def head_manifest(self, target: str) -> Descriptor | None: ...

    async def put_blob(self, content: Content, *, mount_from: str | None, moved: Callable[[int], None]) -> Outcome: ...

    async def put_manifest(self, pushed: FetchedManifest, tag: str | None = None) -> None: ...


class Choice:
    """What of an image is copied: all of it, unless a method says otherwise."""

    def children(self, manifest: Manifest) -> Iterable[Descriptor]:
        """The manifests that it names and that are copied with it."""
        return (reference for reference in manifest.references if _is_manifest(reference))

    def takes_referrer(self, artifact_type: str | None) -> bool:
        """Whether a referrer of this type comes with its subject."""
        del artifact_type
        return True

    def may_have_tag(self, tag: str) -> bool:
        """Whether it is worth asking the source for this tag of cosign's."""
        del tag
        return True


class Observer:
    """Is told how a copy gets on. Each method may be left as it is."""

    def planned(self, blobs: Sequence[Descriptor]) -> None:
        """These blobs belong to the image; some may be there already."""

    def is_missing(self, digest: Digest) -> None:
        """An index of the source names this manifest, and the source does not hold it."""

    def blob_moved(self, blob: Descriptor, position: int) -> None:
        """So many bytes of the blob went out. May go back when a transfer is resumed."""

    def blob_done(self, blob: Descriptor, outcome: Outcome) -> None:
        """The destination holds the blob."""


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did."""

    #: The digest of what was asked for.
    digest: Digest
    manifests_pushed: int
    blobs: Mapping[Outcome, int]
    bytes_sent: int
    #: Manifests that an index names and the source does not hold: the copy is as sparse as its source.
    missing: tuple[Digest, ...]
    #: Layers that may not be distributed and that the source does not hold; the image names where they come from.
    foreign: tuple[Digest, ...]


async def copy(
    source: Source,
    target: str,
    destination: Destination,
    tag: str | None,
    *,
    referrers: bool = False,
    mount_from: str | None = None,
    observer: Observer | None = None,
    choice: Choice | None = None,
) -> CopyReport:
    """Copies what the tag or digest `target` is in `source` to `destination`, under `tag` or under its digest alone.

    `referrers`: also signatures, attestations and whatever else refers to it or to one of its platforms, and what
    refers to those; cosign's tags count. `choice`: only what it chooses of all that. `mount_from`: the name of the
    source's repository if both are in one registry.
    A failure names the blob or manifest that it is about; what was copied before stays, and need not be copied again.
    """
    observer = observer or Observer()
    contents = _Contents(source, destination, choice or Choice(), observer)
    top = await source.get_manifest(target)
    await contents.add([top])
    tagged = await contents.add_referrers() if referrers else []
    blobs = await contents.blobs()
    moving = _BlobCopies(source, destination, mount_from, observer)
    await moving.run(blobs)
    pushed = 0
    for manifest in contents.in_order():
        if manifest.digest != top.digest or tag is None or referrers:
            await _push(destination, manifest, None)
            pushed += 1
    for name, manifest in (*tagged, *([(tag, top)] if tag is not None else [])):
        await _push(destination, manifest, name)
        pushed += 1
    return CopyReport(
        digest=top.digest,
        manifests_pushed=pushed,
        blobs=moving.outcomes,
        bytes_sent=moving.bytes_sent,
        missing=tuple(contents.missing),
        foreign=tuple(contents.foreign),
    )


async def _push(destination: Destination, manifest: FetchedManifest, tag: str | None) -> None:
    try:
        await destination.put_manifest(manifest, tag)
    except ClientError as error:
        raise CopyFailed(f"manifest {manifest.digest} could not be pushed: {error}") from error


class _Contents:
    """Everything that has to be at the destination, as it is found out."""

    def __init__(self, source: Source, destination: Destination, choice: Choice, observer: Observer) -> None:
        self._source = source
        self._destination = destination
        self._choice = choice
        self._observer = observer
        self._manifests: dict[Digest, FetchedManifest] = {}
        self._roots: list[Digest] = []
        #: Image manifests that the destination holds, so their blobs too.
        self._held: set[Digest] = set()
        self._manifest_bytes = 0
        self.missing: list[Digest] = []
        self.foreign: list[Digest] = []

    async def add(self, roots: Iterable[FetchedManifest]) -> None:
        """Adds manifests with all that they name, and reads the children of indexes."""
        found = [root for root in roots if root.digest not in self._manifests]
        self._roots += [root.digest for root in found]
        for _ in range(INDEX_DEPTH_MAX):
            for manifest in found:
                self._keep(manifest)
            children = {child.digest: child for manifest in found for child in self._children(manifest)}
            wanted = [child for child in children.values() if self._is_new(child.digest)]
            if not wanted:
                return
            found = [manifest for manifest in await _in_parallel(self._read, wanted) if manifest is not None]
        raise BadAnswer(f"{self._roots[0]} nests indexes deeper than {INDEX_DEPTH_MAX}")

    async def add_referrers(self) -> list[tuple[str, FetchedManifest]]:
        """Adds what refers to anything that was added, and again to that. The tags of cosign that belong to it."""
        tagged: list[tuple[str, FetchedManifest]] = []
        asked: set[Digest] = set()
        while subjects := [digest for digest in (*self._manifests, *self._held) if digest not in asked]:
            asked.update(subjects)
            listed = await _in_parallel(self._source.referrers, subjects)
            taken = [item for items in listed for item in items if self._choice.takes_referrer(item.artifact_type)]
            new = {item.descriptor.digest: item.descriptor for item in taken}
            wanted = [descriptor for digest, descriptor in new.items() if self._is_new(digest)]
            read = await _in_parallel(self._read, wanted)
            of_cosign = [pair for pairs in await _in_parallel(self._cosign_tags, subjects) for pair in pairs]
            tagged += of_cosign
            await self.add([*(manifest for manifest in read if manifest is not None), *(pair[1] for pair in of_cosign)])
        return tagged

    async def blobs(self) -> list[Descriptor]:
        """The blobs that the destination must hold, each once."""
        blobs: dict[Digest, Descriptor] = {}
        for manifest in self._manifests.values():
            for reference in manifest.manifest.references:
                if not _is_manifest(reference):
                    blobs.setdefault(reference.digest, reference)
        for blob in [blob for blob in blobs.values() if not blob.must_be_held]:
            # Some registries hold such layers all the same; then they are copied like any other.
            if not await self._source.has_blob(blob.digest):
                self.foreign.append(blob.digest)
                del blobs[blob.digest]
        return list(blobs.values())

    def in_order(self) -> Iterator[FetchedManifest]:
        """The manifests to push, what is named before what names it."""
        done: set[Digest] = set()

        def visit(digest: Digest) -> Iterator[FetchedManifest]:
            manifest = self._manifests.get(digest)
            if manifest is None or digest in done:
                return
            done.add(digest)
            for child in self._children(manifest):
                yield from visit(child.digest)
            yield manifest

        for root in self._roots:
            yield from visit(root)

    def _children(self, manifest: FetchedManifest) -> Iterable[Descriptor]:
        return self._choice.children(manifest.manifest)

    def _is_new(self, digest: Digest) -> bool:
        return digest not in self._manifests and digest not in self._held and digest not in self.missing

    def _keep(self, manifest: FetchedManifest) -> None:
        self._manifests[manifest.digest] = manifest
        self._manifest_bytes += len(manifest.manifest.data)
        if len(self._manifests) > MANIFESTS_MAX or self._manifest_bytes > MANIFEST_BYTES_MAX:
            raise BadAnswer(f"{self._roots[0]} consists of too many manifests to be an image")

    async def _read(self, wanted: Descriptor) -> FetchedManifest | None:
        """A manifest that has to be copied, or None."""
        if wanted.media_type not in mediatype.INDEXES and await self._destination.head_manifest(wanted.digest):
            self._held.add(wanted.digest)
            return None
        try:
            return await self._source.get_manifest(wanted.digest)
        except NotFound:
            self.missing.append(wanted.digest)
            self._observer.is_missing(wanted.digest)
            return None

    async def _cosign_tags(self, subject: Digest) -> list[tuple[str, FetchedManifest]]:
        tags = [f"{subject.fallback_tag}.{suffix}" for suffix in COSIGN_SUFFIXES]
        heads = [(tag, await self._source.head_manifest(tag)) for tag in tags if self._choice.may_have_tag(tag)]
        return [(tag, await self._source.get_manifest(head.digest)) for tag, head in heads if head is not None]


@dataclass(slots=True)
class _BlobCopies:
    """Moves blobs, a few at a time."""

    source: Source
    destination: Destination
    mount_from: str | None
    observer: Observer
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    bytes_sent: int = 0

    async def run(self, blobs: Sequence[Descriptor]) -> None:
        self.observer.planned(blobs)
        await _in_parallel(self._copy, blobs)

    async def _copy(self, blob: Descriptor) -> None:
        try:
            async with self.source.open_blob(blob) as content:
                outcome = await self.destination.put_blob(
                    content,
                    mount_from=self.mount_from,
                    moved=lambda position: self.observer.blob_moved(blob, position),
                )
        except ClientError as error:
            raise CopyFailed(f"blob {blob.digest} ({blob.size} bytes) could not be copied: {error}") from error
        self.outcomes[outcome] += 1
        if outcome is Outcome.SENT:
            self.bytes_sent += blob.size
        self.observer.blob_done(blob, outcome)


def _is_manifest(reference: Descriptor) -> bool:
    # By its type, not by where it stands: BuildKit's cache is an index whose "manifests" are layers.
    return reference.media_type in mediatype.MANIFESTS or reference.media_type in mediatype.INDEXES


async def _in_parallel(function: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[R]:
    """The results in the order of `items`, at most `AT_ONCE` at a time. The first failure ends the others."""
    waiting = list(enumerate(items))
    results: dict[int, R] = {}
    remaining = iter(waiting)

    async def work() -> None:
        for number, item in remaining:
            results[number] = await function(item)

    first_failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(waiting))):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        first_failure = failures.exceptions[0]
    if first_failure is not None:
        raise first_failure  # outside of the `except`, so that it keeps the cause that it has
    return [results[number] for number in range(len(waiting))]
