"""Many small images, laid out where each registry keeps them: pushing so many would take longer than what is measured.

Homeport's rows are made by its own functions. Its blobs lie where distribution keeps them, so both get the same files.
"""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from bench import client
from homeport.clock import Clock
from homeport.db.database import Transaction
from homeport.db.sqlite import SqliteDatabase
from homeport.events import SYSTEM
from homeport.oci.digest import Digest
from homeport.registry import blobs, manifests, repositories, reviews, tags
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry, Rules
from homeport.storage.filesystem import FilesystemStore

#: How long something stays here whose tag was lost.
GRACE = 3_600.0
#: Of each layer and config.
BLOB_BYTES = 1024
MEBIBYTE = 1 << 20
#: Images that are put into the database at once.
BATCH = 100
#: How many looks are counted.
DUE_MAX = 1_000_000


@dataclass(frozen=True)
class Image:
    """A manifest with its blobs, in a repository under a tag."""

    repository: str
    tag: str
    config: bytes
    layers: tuple[bytes, ...]

    media_type: ClassVar[str] = client.MANIFEST_TYPE

    @cached_property
    def manifest(self) -> bytes:
        return client.manifest_of(self.config, list(self.layers), self.tag)

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """All but the manifest."""
        return (self.config, *self.layers)


@dataclass(frozen=True)
class Index:
    """An image of several platforms, under a tag; the tags of its parts are not used."""

    tag: str
    images: tuple[Image, ...]

    media_type: ClassVar[str] = client.INDEX_TYPE
    blobs: ClassVar[tuple[bytes, ...]] = ()

    @property
    def repository(self) -> str:
        return self.images[0].repository

    @cached_property
    def manifest(self) -> bytes:
        return client.index_of([image.manifest for image in self.images], self.tag)


@dataclass(frozen=True)
class Shape:
    """So many images: each has layers of its own, and some that all of its repository have."""

    repositories: int
    images: int  # of each repository
    layers: int  # of each image, that no other one has
    shared: int = 0  # and that all of a repository have

    def in_repository(self, number: int) -> list[Image]:
        repository = f"bench/laid-{number:04d}"
        shared = [_data(f"{repository} {layer}") for layer in range(self.shared)]
        return [
            Image(
                repository,
                f"v{image // 100}.{image // 10 % 10}.{image % 10}",
                _data(f"{repository} {image} config"),
                (*shared, *(_data(f"{repository} {image} {layer}") for layer in range(self.layers))),
            )
            for image in range(self.images)
        ]

    def all(self) -> Iterator[list[Image]]:
        """Those of each repository."""
        return map(self.in_repository, range(self.repositories))


def _data(name: str) -> bytes:
    return name.encode().ljust(BLOB_BYTES, b".")


def random_bytes(name: str, size: int) -> bytes:
    """Incompressible data, the same for the same name; in pieces, since Python makes less than 256 MiB at once."""
    source = random.Random(name)
    pieces = (source.randbytes(min(MEBIBYTE, size - at)) for at in range(0, size, MEBIBYTE))
    return b"".join(pieces)


def location(digest: str) -> str:
    """Where the bytes of a blob lie, below the root of either registry."""
    algorithm, _, encoded = digest.partition(":")
    return f"docker/registry/v2/blobs/{algorithm}/{encoded[:2]}/{encoded}/data"


def write_blobs(root: Path, images: list[Image]) -> None:
    """The bytes of all blobs, manifests among them."""
    for image in images:
        for data in (*image.blobs, image.manifest):
            _write_blob(root, data)


def _write_blob(root: Path, data: bytes) -> str:
    digest = client.digest_of(data)
    _write(root / location(digest), data)
    return digest


# --- distribution -----------------------------------------------------------------------------------------------


def lay_out_distribution(root: Path, shape: Shape, untagged: int) -> None:
    """As distribution does it. The last `untagged` of each repository have no tag any more."""
    for images in shape.all():
        for number, image in enumerate(images):
            lay_out_image(root, image, is_tagged=number < len(images) - untagged)


def lay_out_image(root: Path, image: Image | Index, *, is_tagged: bool = True) -> None:
    """The same for one image."""
    repository = root / "docker/registry/v2/repositories" / image.repository
    if isinstance(image, Index):
        for part in image.images:
            lay_out_image(root, part, is_tagged=False)
    for data in image.blobs:
        _link(repository / "_layers", _write_blob(root, data))
    digest = _write_blob(root, image.manifest)
    _link(repository / "_manifests/revisions", digest)
    if is_tagged:
        tag = repository / "_manifests/tags" / image.tag
        _link(tag / "index", digest)
        _write(tag / "current/link", digest.encode())


def _link(folder: Path, digest: str) -> None:
    _write(folder / digest.replace(":", "/") / "link", digest.encode())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# --- Homeport ---------------------------------------------------------------------------------------------------


class _Laid(FilesystemStore):
    """A store where the bytes of manifests lie already, or are never looked for."""

    async def put(self, digest: Digest, data: bytes) -> str:  # noqa: ARG002 (the contract has it)
        return location(digest)


def lay_out_homeport(data: Path, shape: Shape, clock: Clock, *, files: bool) -> None:
    """Homeport's rows, as after pushes and the first look at each of them; with the bytes, or without."""
    asyncio.run(_lay_out(data, shape, clock, files=files))


def untag(data: Path, images: list[Image], clock: Clock) -> None:
    """Take the tags of these images away."""
    asyncio.run(_untag_all(data, images, clock))


def due(data: Path, clock: Clock) -> int:
    """How many looks are due."""
    return asyncio.run(_due(data, clock))


async def _lay_out(data: Path, shape: Shape, clock: Clock, *, files: bool) -> None:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    registry = _open(data, clock)
    try:
        for images in shape.all():
            if files:
                write_blobs(data, images)
            for first in range(0, len(images), BATCH):
                await _push(registry, images[first : first + BATCH])
    finally:
        await _close(registry)


async def _untag_all(data: Path, images: list[Image], clock: Clock) -> None:
    registry = _open(data, clock)
    try:
        await registry.db.write(_untag, registry, images)
    finally:
        await _close(registry)


async def _due(data: Path, clock: Clock) -> int:
    registry = _open(data, clock)
    try:
        return len(await registry.db.read(reviews.due, clock.now(), DUE_MAX))
    finally:
        await _close(registry)


def _open(data: Path, clock: Clock) -> Registry:
    rules = Rules(grace_seconds=GRACE, untagged_seconds=GRACE)
    return Registry(SqliteDatabase(data / "homeport.db", clock), _Laid(data, clock), clock, rules)


async def _close(registry: Registry) -> None:
    await registry.db.close()
    await registry.blobs.close()


async def _push(registry: Registry, images: list[Image]) -> None:
    await registry.db.jot(_offer, registry, images)
    await asyncio.gather(
        *(
            manifests.push(
                registry,
                SYSTEM,
                image.repository,
                image.manifest,
                client.MANIFEST_TYPE,
                Digest.of(image.manifest),
                [image.tag],
            )
            for image in images
        )
    )
    await registry.db.jot(_see, images)


def _offer(tx: Transaction, registry: Registry, images: list[Image]) -> None:
    for image in images:
        for data in image.blobs:
            digest = Digest.of(data)
            upload = registry.clock.new_id()
            blobs.hold(tx, registry, digest, upload)
            blobs.offer(tx, registry, image.repository, Blob(digest, len(data), location(digest)), upload)


def _see(tx: Transaction, images: list[Image]) -> None:
    """What the sweep does at its first look: all of this is kept."""
    for image in images:
        repository_id = repositories.find(tx, image.repository)
        assert repository_id is not None
        for data in (*image.blobs, image.manifest):
            digest = Digest.of(data)
            reviews.drop(tx, repository_id, digest)
            reviews.drop(tx, reviews.BLOB, digest)


def _untag(tx: Transaction, registry: Registry, images: list[Image]) -> None:
    for image in images:
        repository_id = repositories.find(tx, image.repository)
        assert repository_id is not None
        tag = tags.find(tx, repository_id, image.tag)
        assert tag is not None
        tags.remove(tx, registry, SYSTEM, image.repository, repository_id, tag)
