"""Platforms: `linux/amd64`, `linux/arm/v7`, `windows(10.0.20348)/amd64`. And which parts of an index are for which.

Pure. Sources: OCI image-spec, image-index.md, "platform"; containerd/platforms, for how they are written and which are
the same; BuildKit, docs/attestations/attestation-storage.md.
Holds:
- What is one platform is equal: `x86_64` is `amd64`, `aarch64` and `arm64/v8` are `arm64`, `arm` is `arm/v7`.
- What an index says of a platform and is not as the specification has it counts as not said, as does `unknown`, which
  BuildKit writes beside what is no image.
- An attestation of BuildKit stays and goes with the image that it describes. Everything else that names no platform
  stays: an artifact, or an index within the index, of which nobody can tell from here what it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from homeport.oci.digest import Digest
from homeport.oci.errors import DigestInvalid
from homeport.oci.manifest import Descriptor, Manifest

#: Longer words are nobody's name of a platform.
CHARACTERS_MAX = 64
#: More features are nobody's platform.
FEATURES_MAX = 16

#: How BuildKit says that a manifest of an index describes another one of it.
REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
ATTESTATION = "attestation-manifest"

_UNKNOWN = "unknown"
_WORD = rf"[A-Za-z0-9_.-]{{1,{CHARACTERS_MAX}}}"
_PLATFORM = re.compile(
    rf"(?P<os>{_WORD})(?:\((?P<version>{_WORD})?(?P<features>(?:\+{_WORD}){{0,{FEATURES_MAX}}})\))?"
    rf"/(?P<architecture>{_WORD})(?:/(?P<variant>{_WORD}))?"
)
_WHOLE_WORD = re.compile(_WORD)

_OS = {"macos": "darwin"}
#: Other names of an architecture; some of them say the variant, too.
_ARCHITECTURES: Mapping[str, tuple[str, str | None]] = {
    "i386": ("386", ""),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_VARIANTS = {
    ("amd64", "v1"): "",
    ("arm64", "8"): "",
    ("arm64", "v8"): "",
    ("arm64", "v8.0"): "",
    ("arm64", "9"): "v9",
    ("arm64", "9.0"): "v9",
    ("arm64", "v9.0"): "v9",
    ("arm", ""): "v7",
    ("arm", "5"): "v5",
    ("arm", "6"): "v6",
    ("arm", "7"): "v7",
    ("arm", "8"): "v8",
}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on. Made by `parse` and `of_index`, which know what is the same."""

    os: str
    architecture: str
    #: Empty where the architecture says it all.
    variant: str = ""
    #: Empty for any; only Windows has images for one version each.
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def means(self, other: Platform) -> bool:
        """Whether `other` is this one, or one of its versions: 10.0.20348 means 10.0.20348.2700, too."""
        return (
            (self.os, self.architecture, self.variant) == (other.os, other.architecture, other.variant)
            and (not self.os_version or f"{other.os_version}.".startswith(f"{self.os_version}."))
            and set(self.os_features) <= set(other.os_features)
        )

    def __str__(self) -> str:
        version = "".join((self.os_version, *(f"+{each}" for each in self.os_features)))
        os = f"{self.os}({version})" if version else self.os
        return "/".join(filter(None, (os, self.architecture, self.variant)))


@dataclass(frozen=True, slots=True)
class Child:
    """What an index says of one manifest that it names."""

    descriptor: Descriptor
    #: None where it does not say so.
    platform: Platform | None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def describes(self) -> Digest | None:
        """The manifest of the same index that it is an attestation of."""
        if self.platform is not None or self.annotations.get(REFERENCE_TYPE) != ATTESTATION:
            return None
        try:
            return Digest.parse(self.annotations.get(REFERENCE_DIGEST, ""))
        except DigestInvalid:
            return None


@dataclass(frozen=True, slots=True)
class Selection:
    """What of an index is wanted. No digest is in both `kept` and `left_out`."""

    kept: tuple[Child, ...]
    left_out: tuple[Child, ...]
    #: Platforms that were wanted and that the index does not name. An index within it may.
    absent: tuple[Platform, ...]


def parse(text: str) -> Platform:
    """The platform that a person means by `text`, or `ValueError` with what to write."""
    found = _PLATFORM.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text[:160]}' is no platform; write it as linux/amd64 or linux/arm/v7")
    features = (found["features"] or "").split("+")[1:]
    return _normal(found["os"], found["architecture"], found["variant"] or "", found["version"] or "", features)


def of_index(index: Manifest) -> list[Child]:
    """What the index names, in its order."""
    assert index.is_index
    # `oci.manifest.parse` has read it, so these are objects, and as many as its references.
    items = json.loads(index.data)["manifests"] or []
    return [
        Child(descriptor, _platform(item.get("platform")), _annotations(item.get("annotations")))
        for descriptor, item in zip(index.references, items, strict=True)
    ]


def select(index: Manifest, wanted: Iterable[Platform]) -> Selection:
    """What of the index is for the platforms that are wanted. Where none is named, all of it."""
    platforms = tuple(dict.fromkeys(wanted))
    children = of_index(index)

    def fits(child: Child) -> bool:
        return child.platform is None or not platforms or any(each.means(child.platform) for each in platforms)

    # By digest, since an index may name one manifest for several platforms.
    fitting = {child.descriptor.digest for child in children if fits(child)}
    unfit = {child.descriptor.digest for child in children} - fitting
    stay = {child.descriptor.digest for child in children if fits(child) and child.describes not in unfit}
    present = [child.platform for child in children if child.platform is not None]
    absent = (each for each in platforms if not any(each.means(other) for other in present))
    return Selection(
        kept=tuple(child for child in children if child.descriptor.digest in stay),
        left_out=tuple(child for child in children if child.descriptor.digest not in stay),
        absent=tuple(absent),
    )


def of_none(index: Manifest, wanted: Iterable[Platform]) -> list[Platform]:
    """The platforms of an index of which none is wanted, so that nothing of it would be kept; else none."""
    selection = select(index, wanted)
    if selection.kept:
        return []
    return list(dict.fromkeys(child.platform for child in selection.left_out if child.platform is not None))


def _normal(os: str, architecture: str, variant: str, os_version: str, os_features: Iterable[str]) -> Platform:
    os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, None))
    variant = variant if implied is None else implied
    return Platform(
        _OS.get(os, os),
        architecture,
        _VARIANTS.get((architecture, variant), variant),
        os_version,
        tuple(sorted(set(os_features))),
    )


def _platform(value: Any) -> Platform | None:
    """The platform that a stranger wrote, or None where it is none."""
    if not isinstance(value, dict):
        return None
    os, architecture, variant, os_version = (
        value.get(key) or "" for key in ("os", "architecture", "variant", "os.version")
    )
    features = value.get("os.features") or []
    if not isinstance(features, list) or len(features) > FEATURES_MAX:
        return None
    if not all(map(_is_word, (os, architecture, *filter(None, (variant, os_version)), *features))):
        return None
    return None if _UNKNOWN in (os, architecture) else _normal(os, architecture, variant, os_version, features)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and _WHOLE_WORD.fullmatch(value) is not None


def _annotations(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}
