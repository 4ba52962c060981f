"""Reading a manifest: from bytes that a stranger sent to what they name.

Pure. Holds: what `parse` returns names only well-formed digests, is of one kind for certain (an image manifest or an
index, never bytes that could be read as both, CVE-2021-41190), and is within the limits of width and nesting.
Sources: OCI image-spec manifest.md and image-index.md; Docker image manifest version 2, schema 2.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Any

from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.errors import DigestInvalid, ManifestInvalid

#: An index or manifest that names more than this is not an image but an attempt to make somebody walk it.
REFERENCES_MAX = 4_096
#: An index within an index within …: deeper is no image but a trap.
INDEX_DEPTH_MAX = 8
#: JSON nested deeper than this is refused before it is decoded: decoders recurse.
NESTING_MAX = 32
#: JSON with more values and brackets than this is refused before it is decoded: it is no manifest, but work. That is
#: 32 for each thing that may be named; a descriptor with platform and four annotations has 17.
VALUES_MAX = 32 * REFERENCES_MAX
#: Longer media types are refused. Source: RFC 6838, section 4.2 (127 for each half).
MEDIA_TYPE_CHARACTERS_MAX = 255
#: A size field above this cannot be a real blob (2^53 - 1, what JSON numbers hold exactly everywhere).
SIZE_MAX = 2**53 - 1

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
#: "[" and "{" become +1 and "]" and "}" become -1 when the result is read as signed bytes.
_DEPTH = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


class Role(StrEnum):
    """What a manifest names something as."""

    CONFIG = "config"
    LAYER = "layer"
    CHILD = "child"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of one thing that it names. Source: OCI image-spec, descriptor.md."""

    media_type: str
    digest: Digest
    size: int
    role: Role

    @property
    def must_be_held(self) -> bool:
        """Whether the repository has to hold it before the manifest is accepted."""
        return not (self.role is Role.LAYER and mediatype.is_non_distributable(self.media_type))

    @property
    def is_manifest(self) -> bool:
        """Whether it is held as a manifest. An index may name blobs, too: so BuildKit keeps its build cache."""
        return self.role is Role.CHILD and self.media_type in mediatype.MANIFESTS | mediatype.INDEXES


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index, as far as a registry has to understand it. `data` is what was pushed, to the byte."""

    data: bytes
    media_type: str
    references: tuple[Descriptor, ...]
    subject: Digest | None
    #: The manifest's own `artifactType`, else the config's media type; None for an index without one.
    artifact_type: str | None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_index(self) -> bool:
        return self.media_type in mediatype.INDEXES

    @property
    def config(self) -> Descriptor | None:
        """What says how to run it, which every manifest names that is no index."""
        return next((each for each in self.references if each.role is Role.CONFIG), None)

    @property
    def kind(self) -> str:
        """What people call it: an `index`, an `image`, or an `artifact`, which is anything else in an image's form."""
        if self.is_index:
            return "index"
        return "image" if self.subject is None and self.artifact_type in mediatype.CONFIGS else "artifact"


def parse(data: bytes, content_type: str) -> Manifest:
    """The manifest that `data` is when it is pushed as `content_type`, or `ManifestInvalid` saying what is wrong."""
    pushed_as = mediatype.bare(content_type)
    if pushed_as in mediatype.SCHEMA_1:
        raise ManifestInvalid(
            "Docker image manifest schema 1 was given up by every current client; push it with a newer one"
        )
    document = _decode(data)
    media_type = _media_type(document, pushed_as)
    if media_type in mediatype.INDEXES:
        references = tuple(_descriptor(item, Role.CHILD) for item in _list(document, "manifests"))
        artifact_type = _text(document, "artifactType")
    else:
        config = _descriptor(document.get("config"), Role.CONFIG)
        layers = (_descriptor(item, Role.LAYER) for item in _list(document, "layers"))
        references = (config, *layers)
        artifact_type = _text(document, "artifactType") or config.media_type
    subject = document.get("subject")
    return Manifest(
        data=data,
        media_type=media_type,
        references=references,
        subject=_descriptor(subject, Role.CHILD).digest if subject is not None else None,
        artifact_type=artifact_type,
        annotations=_annotations(document),
    )


def _decode(data: bytes) -> dict[str, Any]:
    """`data` as a JSON object, refusing what decoders disagree on: encodings, repeated keys, NaN, half characters."""
    try:
        text = data.decode("utf-8")
        _check_shape(data)
        document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        if _SURROGATE.search(data):
            json.dumps(document, ensure_ascii=False).encode()  # Half of a pair can't be stored, nor sent on.
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise ManifestInvalid("a manifest is a JSON object")
    return document


def _check_shape(data: bytes) -> None:
    # Each step is one pass in C: four megabytes made for it must not hold the event loop. Without escaped backslashes
    # and quotes, every other part between quotes lies outside of strings.
    outside = b"".join(data.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    brackets = outside.translate(_DEPTH, _NOT_BRACKETS)
    if outside.count(b",") + len(brackets) > VALUES_MAX:
        raise ValueError(f"more than {VALUES_MAX} values")
    if max(accumulate(array("b", brackets)), default=0) > NESTING_MAX:
        raise ValueError(f"nested deeper than {NESTING_MAX}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers differ in which of two equal keys wins, so such bytes would be two manifests at once.
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is given twice")
    return document


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _media_type(document: dict[str, Any], pushed_as: str) -> str:
    """The one type that the bytes have; the Content-Type of the push has to agree with it."""
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        raise ManifestInvalid(
            "Docker image manifest schema 1 was given up by every current client; push it with a newer one"
        )
    if document.get("schemaVersion") != 2:
        raise ManifestInvalid("schemaVersion must be 2")
    looks_like_index = "manifests" in document
    if looks_like_index and ("config" in document or "layers" in document):
        raise ManifestInvalid("it has both 'manifests' and 'config' or 'layers', so it could be read in two ways")
    stated = _text(document, "mediaType")
    if stated is None:
        stated = pushed_as or (mediatype.OCI_INDEX if looks_like_index else mediatype.OCI_MANIFEST)
    elif pushed_as and stated != pushed_as:
        raise ManifestInvalid(f"its mediaType is {stated[:160]}, but it was pushed as {pushed_as[:160]}")
    if stated not in mediatype.MANIFESTS | mediatype.INDEXES:
        raise ManifestInvalid(f"{stated[:160]} is not a manifest's media type")
    if (stated in mediatype.INDEXES) != looks_like_index:
        raise ManifestInvalid(f"{stated} does not have the fields that it holds")
    return stated


def _list(document: dict[str, Any], key: str) -> list[Any]:
    if key not in document:
        raise ManifestInvalid(f"it has no '{key}'")
    value = document[key]
    if value is None:
        return []  # Go writes an empty list so, and some clients are written in it.
    if not isinstance(value, list):
        raise ManifestInvalid(f"'{key}' must be a list")
    if len(value) > REFERENCES_MAX:
        raise ManifestInvalid(f"'{key}' names more than {REFERENCES_MAX} things")
    return value


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ManifestInvalid(f"'{key}' must be text")
    _check_media_type(value)
    return value


def _check_media_type(text: str) -> None:
    if len(text) > MEDIA_TYPE_CHARACTERS_MAX or not text.isprintable():
        raise ManifestInvalid(f"{text[:40]!r} is not a media type")


def _descriptor(value: object, role: Role) -> Descriptor:
    if not isinstance(value, dict):
        raise ManifestInvalid(f"a {role} must be a descriptor")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str):
        raise ManifestInvalid(f"a {role}'s descriptor needs a mediaType and a digest")
    _check_media_type(media_type)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= SIZE_MAX:
        raise ManifestInvalid(f"a {role}'s descriptor needs a size that is not negative")
    try:
        return Descriptor(media_type, Digest.parse(digest), size, role)
    except DigestInvalid as error:
        raise ManifestInvalid(f"a {role}'s digest is malformed: {error.detail}") from None


def _annotations(document: dict[str, Any]) -> dict[str, str]:
    value = document.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ManifestInvalid("'annotations' must be an object of texts")
    return value
