"""What refers to a manifest at another registry: by its API, or by the tag that stands in for it.

Source: distribution-spec, "Listing Referrers" and "Referrers Tag Schema".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from homeport.client.errors import BadAnswer
from homeport.client.redaction import plain_text
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.errors import RegistryError
from homeport.oci.manifest import Descriptor, Manifest, Role

#: More than this on one subject is not something that can be copied with it.
REFERRERS_MAX = 4_096

#: Suffixes of the tags under which cosign keeps what belongs to a manifest (`sha256-<hex>.sig`), if not as referrers.
COSIGN_SUFFIXES = ("sig", "att", "sbom")


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that has another one as its subject."""

    descriptor: Descriptor
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, digest: Digest) -> Referrer:
        descriptor = Descriptor(manifest.media_type, digest, len(manifest.data), Role.CHILD)
        return cls(descriptor, manifest.artifact_type, manifest.annotations)

    @classmethod
    def parse(cls, item: Any, where: str) -> Referrer:
        """What an entry of a referrers index says; `BadAnswer` if it is none."""
        try:
            media_type, size, artifact_type = item["mediaType"], item["size"], item.get("artifactType")
            digest, annotations = Digest.parse(item["digest"]), item.get("annotations") or {}
        except (KeyError, TypeError, AttributeError, RegistryError):
            raise BadAnswer(f"{where}: not an index of referrers") from None
        texts = isinstance(media_type, str) and isinstance(artifact_type, str | None)
        if not texts or not isinstance(size, int) or not isinstance(annotations, dict):
            raise BadAnswer(f"{where}: the referrer {plain_text(digest)} is not described as the specification has it")
        return cls(Descriptor(media_type, digest, size, Role.CHILD), artifact_type, annotations)

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "mediaType": self.descriptor.media_type,
            "digest": self.descriptor.digest,
            "size": self.descriptor.size,
        }
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


def parse_index(data: bytes, where: str) -> list[Referrer]:
    """The entries of a referrers index."""
    try:
        entries = json.loads(data)["manifests"]
    except (ValueError, KeyError, TypeError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise BadAnswer(f"{where}: not an index of referrers")
    return [Referrer.parse(entry, where) for entry in entries[:REFERRERS_MAX]]


def make_index(referrers: Iterable[Referrer]) -> bytes:
    """The content of a fallback tag. Source: OCI image-spec, image-index.md."""
    entries = [referrer.as_json() for referrer in referrers]
    document = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": entries}
    return json.dumps(document, separators=(",", ":")).encode()
