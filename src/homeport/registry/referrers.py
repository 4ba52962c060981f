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


# --- facts ------------------------------------------------------------------------------------------------------


def page(
    tx: Transaction, repository: str, subject: Digest, artifact_type: str | None, after: str, limit: int
) -> list[Stored]:
    """At most `limit` manifests whose subject it is, or that its fallback tag lists, by digest, after `after`."""
    where = "repository = ? AND subject = ? AND digest > ?"
    parameters: list[str | int] = [repository, subject, after]
    if artifact_type is not None:
        where += " AND artifact_type = ?"
        parameters.append(artifact_type)
    rows = tx.all(
        f"SELECT digest, media_type, data FROM held_manifests WHERE {where} ORDER BY digest LIMIT ?",
        (*parameters, limit),
    )
    found = {row[0]: Stored(*row) for row in rows}
    for digest in _listed(tx, repository, subject):
        if digest > after and digest not in found:
            stored = manifests.by_digest(tx, repository, digest)
            if stored is not None and artifact_type in (None, _parsed(stored).artifact_type):
                found[digest] = stored
    return [found[digest] for digest in sorted(found)][:limit]


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
) -> list[Referrer]:
    """At most `limit` referrers of the subject, which need not exist, in the order of their digests."""
    found = await registry.db.read(page, repository, subject, artifact_type, after, limit)
    return [_describe(stored) for stored in found]


def _describe(stored: Stored) -> Referrer:
    parsed = _parsed(stored)
    return Referrer(stored.digest, stored.media_type, len(stored.data), parsed.artifact_type, dict(parsed.annotations))
