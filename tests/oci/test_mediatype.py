"""Media types: which ones a registry looks at."""

import pytest

from homeport.oci import mediatype


@pytest.mark.parametrize(
    ("content_type", "bare"),
    [
        (mediatype.OCI_MANIFEST, mediatype.OCI_MANIFEST),
        (f"{mediatype.OCI_MANIFEST}; charset=utf-8", mediatype.OCI_MANIFEST),
        (f" {mediatype.OCI_INDEX} ;a=b;c=d", mediatype.OCI_INDEX),
        ("", ""),
        (";", ""),
    ],
)
def test_parameters_are_tolerated(content_type: str, bare: str) -> None:
    assert mediatype.bare(content_type) == bare


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    ],
)
def test_non_distributable(media_type: str) -> None:
    assert mediatype.is_non_distributable(media_type)


@pytest.mark.parametrize(
    "media_type", ["", mediatype.OCI_LAYER, mediatype.OCI_CONFIG, "application/vnd.oci.image.layer.nondistributable"]
)
def test_everything_else_is_distributed(media_type: str) -> None:
    assert not mediatype.is_non_distributable(media_type)


def test_no_type_is_of_two_kinds() -> None:
    assert not mediatype.MANIFESTS & mediatype.INDEXES
    assert not mediatype.SCHEMA_1 & (mediatype.MANIFESTS | mediatype.INDEXES)
