"""The media types that mean something to a registry. Every other type is stored and served as it is.

Sources: OCI image-spec, media-types.md; Docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
#: The configs of images that can be run.
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_NON_DISTRIBUTABLE = frozenset({"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"})
_NON_DISTRIBUTABLE_PREFIX = "application/vnd.oci.image.layer.nondistributable.v1."


def bare(content_type: str) -> str:
    """A Content-Type without its parameters: the spec asks a registry to tolerate them on push."""
    return content_type.partition(";")[0].strip()


def is_non_distributable(media_type: str) -> bool:
    """Whether clients never push such a layer, so that a manifest may name it without the registry holding it."""
    return media_type in _NON_DISTRIBUTABLE or media_type.startswith(_NON_DISTRIBUTABLE_PREFIX)
