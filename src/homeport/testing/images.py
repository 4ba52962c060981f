"""Small images to push: real manifests around made-up bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from homeport.oci import manifest as oci_manifest
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.manifest import Manifest


@dataclass(frozen=True)
class Image:
    """A manifest with its blobs (the config is the last), or an index with its images."""

    manifest: Manifest
    blobs: tuple[bytes, ...] = ()
    children: tuple[Image, ...] = ()

    @property
    def data(self) -> bytes:
        return self.manifest.data

    @property
    def media_type(self) -> str:
        return self.manifest.media_type

    @property
    def digest(self) -> Digest:
        return Digest.of(self.data)

    def walk(self) -> Iterator[Image]:
        """All images of an index, each before what names it; itself is the last."""
        for child in self.children:
            yield from child.walk()
        yield self


def image(layers: Sequence[bytes], *, config: bytes = b"{}", subject: Image | None = None) -> Image:
    """An image of these layers; with a subject, an artifact that refers to it."""
    blobs = (*layers, config)
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": _descriptor(mediatype.OCI_CONFIG, config),
        "layers": [_descriptor(mediatype.OCI_LAYER, layer) for layer in layers],
    }
    if subject is not None:
        document["artifactType"] = "application/vnd.example.artifact"
        document["subject"] = _descriptor(subject.media_type, subject.data)
    return Image(_manifest(document, mediatype.OCI_MANIFEST), blobs)


def index(children: Iterable[Image], *, subject: Image | None = None) -> Image:
    """An index of these images; with a subject, one that belongs to it."""
    images = tuple(children)
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [_descriptor(child.media_type, child.data) for child in images],
    }
    if subject is not None:
        document["subject"] = _descriptor(subject.media_type, subject.data)
    return Image(_manifest(document, mediatype.OCI_INDEX), children=images)


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": Digest.of(data), "size": len(data)}


def _manifest(document: dict[str, object], media_type: str) -> Manifest:
    return oci_manifest.parse(json.dumps(document).encode(), media_type)
