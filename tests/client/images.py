"""Small images and artifacts to push, made of bytes that a seed gives."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from homeport.client.repository import FetchedManifest, RemoteRepository
from homeport.oci import manifest, mediatype
from homeport.oci.digest import Digest
from homeport.oci.manifest import Descriptor, Role


@dataclass(frozen=True)
class Bytes:
    """A blob in memory, as `put_blob` wants it."""

    data: bytes
    media_type: str = mediatype.OCI_LAYER_GZIP
    algorithm: str = "sha256"

    @property
    def blob(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.data, self.algorithm), len(self.data), Role.LAYER)

    async def read(self, position: int) -> bytes:
        return self.data[position : position + 300_000]


@dataclass(frozen=True)
class Image:
    """A manifest with its blobs, or an index with its images."""

    pushed: FetchedManifest
    blobs: tuple[Bytes, ...] = ()
    children: tuple["Image", ...] = ()

    @property
    def digest(self) -> Digest:
        return self.pushed.digest

    @property
    def all_blobs(self) -> list[Bytes]:
        return [*self.blobs, *(blob for child in self.children for blob in child.all_blobs)]


@dataclass
class Factory:
    """Makes images that differ from one another."""

    seeded: Random = field(default_factory=lambda: Random(1))

    def blob(self, size: int = 2_000) -> Bytes:
        return Bytes(self.seeded.randbytes(size))

    def image(self, *sizes: int, subject: Image | None = None, foreign: Bytes | None = None) -> Image:
        layers = tuple(self.blob(size) for size in sizes or (2_000, 3_000))
        config = Bytes(self.seeded.randbytes(16).hex().encode(), mediatype.OCI_CONFIG)
        listed = [descriptor(layer.blob) for layer in layers]
        if foreign is not None:
            listed.append({**descriptor(foreign.blob), "urls": ["http://127.0.0.1:1/never"]})
        document = {"mediaType": mediatype.OCI_MANIFEST, "config": descriptor(config.blob), "layers": listed}
        if subject is not None:
            document |= {"subject": descriptor(subject.pushed.descriptor), "artifactType": "application/example"}
            document |= {"annotations": {"org.example": "yes"}}
        return Image(make(document), (config, *layers))

    def index(self, children: Sequence[Image], media_type: str = mediatype.OCI_INDEX) -> Image:
        listed = [descriptor(child.pushed.descriptor) for child in children]
        return Image(make({"mediaType": media_type, "manifests": listed}), (), tuple(children))


def make(document: Mapping[str, object], algorithm: str = "sha256") -> FetchedManifest:
    """A manifest with this content."""
    data = json.dumps({"schemaVersion": 2, **document}, indent=1).encode()
    return FetchedManifest(Digest.of(data, algorithm), manifest.parse(data, ""))


def descriptor(of: Descriptor) -> dict[str, object]:
    return {"mediaType": of.media_type, "digest": of.digest, "size": of.size}


async def push(repository: RemoteRepository, image: Image, tag: str | None = None) -> None:
    """Pushes an image with everything that it consists of."""
    for blob in image.blobs:
        await repository.put_blob(blob)
    for child in image.children:
        await push(repository, child)
    await repository.put_manifest(image.pushed, tag)


async def pull(repository: RemoteRepository, target: str) -> dict[Digest, bytes]:
    """Everything that a tag or digest consists of, read back and by that verified."""
    top = await repository.get_manifest(target)
    found = {top.digest: top.manifest.data}
    for reference in top.manifest.references:
        if reference.role is Role.CHILD:
            found |= await pull(repository, reference.digest)
        elif reference.must_be_held:
            async with repository.open_blob(reference) as download:
                found[reference.digest] = b"".join([chunk async for chunk in download.chunks()])
    return found
