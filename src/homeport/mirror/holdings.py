"""What of an image is here, and whose a tag is: whether it has all that is wanted of it. Reads views only.

Holds: a manifest that the cache took in has its layers only as far as somebody asked for them; so that a digest is here
says nothing of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeport.db import batches
from homeport.db.database import Transaction
from homeport.mirror import origins
from homeport.oci import manifest as oci_manifest
from homeport.oci import platforms as oci_platforms
from homeport.oci.digest import Digest
from homeport.oci.manifest import INDEX_DEPTH_MAX, Descriptor, Manifest
from homeport.oci.platforms import Platform
from homeport.registry import manifests


class Lack(NamedTuple):
    """Something that a repository lacks of an image."""

    digest: Digest
    is_manifest: bool


def tags(tx: Transaction, repository: str) -> dict[str, Digest]:
    """What the tags of the repository point at."""
    rows = tx.all("SELECT tag, digest FROM tagged_manifests WHERE repository = ? ORDER BY tag", (repository,))
    return {tag: Digest(digest) for tag, digest in rows}


def tag(tx: Transaction, repository: str, name: str) -> Digest | None:
    """What one tag of the repository points at."""
    row = tx.one("SELECT digest FROM tagged_manifests WHERE repository = ? AND tag = ?", (repository, name))
    return Digest(row[0]) if row else None


def is_theirs(tx: Transaction, repository: str, name: str, digest: Digest) -> bool:
    """Whether the tag is here as something else than `digest`, and not as it was copied: somebody pushed it."""
    here = tag(tx, repository, name)
    if here is None or here == digest:
        return False
    origin = origins.find(tx, repository, name)
    return origin is None or origin.digest != here


def repositories(tx: Transaction, after: str, limit: int) -> list[str]:
    """At most `limit` repositories behind `after` that have something to pull."""
    rows = tx.all("SELECT name FROM pullable_repositories WHERE name > ? ORDER BY name LIMIT ?", (after, limit))
    return [name for (name,) in rows]


def wanted_children(manifest: Manifest, wanted: Sequence[Platform]) -> list[Descriptor]:
    """The manifests that an index names and that are wanted; of an image none."""
    if not manifest.is_index:
        return []
    children = oci_platforms.select(manifest, wanted).kept
    return [child.descriptor for child in children if child.descriptor.is_manifest]


def is_whole(tx: Transaction, repository: str, digest: Digest, wanted: Sequence[Platform]) -> bool:
    """Whether the repository has the manifest and all that is wanted of what it names."""
    # Mostly it lacks nothing at all, which costs no reading of manifests.
    return manifests.has_all(tx, repository, [digest]) or not lacking(tx, repository, digest, wanted)


def lacking(tx: Transaction, repository: str, digest: Digest, wanted: Sequence[Platform]) -> list[Lack]:
    """What the repository lacks of the manifest and of what is wanted of all that it names.

    What only a manifest names that is lacking itself is not known. Each manifest is looked at once, however many
    indexes name it: those who build a ladder of indexes would have it climbed on every way there is.
    """
    found: dict[Lack, None] = {}
    level, seen = [digest], {digest}
    for _ in range(INDEX_DEPTH_MAX + 1):
        deeper: list[Digest] = []
        for each in level:
            row = tx.one(
                "SELECT media_type, data FROM held_manifests WHERE repository = ? AND digest = ?", (repository, each)
            )
            if row is None:
                found[Lack(each, is_manifest=True)] = None
                continue
            manifest = oci_manifest.parse(row[1], row[0])
            blobs = {named.digest for named in manifest.references if named.must_be_held and not named.is_manifest}
            missing = _lacking_blobs(tx, repository, blobs)
            found.update(dict.fromkeys(Lack(blob, is_manifest=False) for blob in missing))
            deeper += [child.digest for child in wanted_children(manifest, wanted)]
        level = [each for each in dict.fromkeys(deeper) if each not in seen]
        seen.update(level)
    return [*found, *(Lack(each, is_manifest=True) for each in level)]


def _lacking_blobs(tx: Transaction, repository: str, digests: set[Digest]) -> list[Digest]:
    asked, found = sorted(digests), set[str]()
    for some, marks in batches.of(asked):
        rows = tx.all(
            f"SELECT digest FROM held_blobs WHERE repository = ? AND digest IN ({marks})",  # noqa: S608 (marks only)
            (repository, *some),
        )
        found |= {digest for (digest,) in rows}
    return [digest for digest in asked if digest not in found]
