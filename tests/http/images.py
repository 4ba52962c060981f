"""What is pushed in these tests. Written without a line of the program, so that both can't be wrong together."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.http.wire import Client

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

Document = dict[str, Any]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass(frozen=True)
class Manifest:
    """The bytes of a manifest and the type under which they are pushed."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return digest_of(self.data)

    @property
    def descriptor(self) -> Document:
        return descriptor(self.data, self.media_type)


def descriptor(data: bytes, media_type: str = LAYER, algorithm: str = "sha256") -> Document:
    return {"mediaType": media_type, "digest": digest_of(data, algorithm), "size": len(data)}


def encoded(document: Document, media_type: str | None = None) -> Manifest:
    """The document as bytes, pushed as its own type unless told otherwise."""
    return Manifest(json.dumps(document).encode(), media_type or document["mediaType"])


def image(config: bytes, layers: Sequence[bytes] = (), /, **fields: Any) -> Manifest:
    """An image of these blobs; `fields` come on top."""
    document: Document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config, CONFIG),
        "layers": [descriptor(layer) for layer in layers],
    }
    return encoded(document | fields)


def index(children: Sequence[Manifest], /, **fields: Any) -> Manifest:
    document: Document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [child.descriptor for child in children]}
    return encoded(document | fields)


def push_blob(client: Client, repository: str, data: bytes, algorithm: str = "sha256") -> str:
    """Push the blob in one request; its digest."""
    digest = digest_of(data, algorithm)
    answer = client.post(f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
    assert answer.status == 201, answer
    return digest


def push_manifest(client: Client, repository: str, manifest: Manifest, reference: str | None = None) -> str:
    """Push the manifest by its digest, or under a tag; its digest."""
    target = f"/v2/{repository}/manifests/{reference or manifest.digest}"
    answer = client.put(target, manifest.data, content_type=manifest.media_type)
    assert answer.status == 201, answer
    return manifest.digest


def push_image(client: Client, repository: str, tag: str, *layers: bytes, config: bytes = b"{}") -> Manifest:
    """Push an image with its blobs under a tag."""
    for blob in (config, *layers):
        push_blob(client, repository, blob)
    manifest = image(config, layers)
    push_manifest(client, repository, manifest, tag)
    return manifest


def begin_upload(client: Client, repository: str) -> str:
    """A new upload session; its location."""
    answer = client.post(f"/v2/{repository}/blobs/uploads/")
    assert answer.status == 202, answer
    return answer["location"]
