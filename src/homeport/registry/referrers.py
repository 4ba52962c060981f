"""Referrers: the manifests that name another one as their subject.

Holds: the answer also lists what an index under the subject's fallback tag lists, which clients kept there before the
registry had this API (distribution-spec, "Enabling the Referrers API"), as long as the repository holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from homeport.db.database import Transaction
from homeport.oci import manifest as oci_manifest
from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestInvalid
from homeport.oci.manifest import Manifest
from homeport.registry import manifests
from homeport.registry.manifests import Stored
from homeport.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that refers to another, as the API describes it."""

    digest: Digest
    media_type: str
    size: int
    artifact_type: str | None
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """Some manifests, and whether there are more behind them."""

    manifests: list[Stored]
    more: bool


#: A page describes manifests of at most this many bytes together (but always one): their annotations are in it.
PAGE_BYTES_MAX = 4 * 1024 * 1024


# --- facts ------------------------------------------------------------------------------------------------------


def page(tx: Transaction, repository: str, subject: Digest, artifact_type: str | None, after: str, limit: int) -> Page:
    """At most `limit` manifests whose subject it is, or that its fallback tag lists, by digest, after `after`."""
    where = "repository = ? AND subject = ? AND digest > ?"
    parameters: list[str | int] = [repository, subject, after]
    if artifact_type is not None:
        where += " AND artifact_type = ?"
        parameters.append(artifact_type)
    # Sizes first: what is listed may be 4 MiB of annotations each.
    sizes = dict(
        tx.all(
            f"SELECT digest, length(data) FROM held_manifests WHERE {where} ORDER BY digest LIMIT ?",  # noqa: S608
            (*parameters, limit + 1),
        )
    )
    for digest in _listed(tx, repository, subject):
        if digest > after and digest not in sizes:
            row = tx.one(
                "SELECT length(data), artifact_type FROM held_manifests WHERE repository = ? AND digest = ?",
                (repository, digest),
            )
            if row is not None and artifact_type in {None, row[1]}:
                sizes[digest] = row[0]
    chosen: list[str] = []
    room = PAGE_BYTES_MAX
    for digest in sorted(sizes)[:limit]:
        room -= sizes[digest]
        if room < 0 and chosen:
            break
        chosen.append(digest)
    found = (manifests.by_digest(tx, repository, digest) for digest in chosen)
    return Page([stored for stored in found if stored is not None], len(chosen) < len(sizes))


def _listed(tx: Transaction, repository: str, subject: Digest) -> list[Digest]:
    """What the index under the fallback tag lists."""
    index = manifests.by_tag(tx, repository, subject.fallback_tag)
    if index is None:
        return []
    parsed = _parsed(index)
    return [reference.digest for reference in parsed.references] if parsed.is_index else []


def _parsed(stored: Stored) -> Manifest:
    try:
        return oci_manifest.parse(stored.data, stored.media_type)
    except ManifestInvalid:  # Only what an older Homeport let in.
        return Manifest(stored.data, stored.media_type, (), None, None)


# --- flows ------------------------------------------------------------------------------------------------------


async def get(
    registry: Registry, repository: str, subject: Digest, artifact_type: str | None, after: str, limit: int
) -> tuple[list[Referrer], bool]:
    """At most `limit` referrers of the subject, which need not exist, by digest; and whether there are more."""
    found = await registry.db.read(page, repository, subject, artifact_type, after, limit)
    return [_describe(stored) for stored in found.manifests], found.more


def _describe(stored: Stored) -> Referrer:
    parsed = _parsed(stored)
    return Referrer(stored.digest, stored.media_type, len(stored.data), parsed.artifact_type, dict(parsed.annotations))
