"""Manifests that were read from upstreams before they were needed. Owns the table `read_manifests`.

Holds: a manifest that was read once is not read again while it waits here, so the pull that it cost is paid once: by a
plan that wanted sizes, or by a run that died. It is offered to nobody, and forgotten after a week. What was read in one
repository is given in another only if that has it, too: an index may name the digest of what nobody there may read.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from homeport.client.repository import FetchedManifest
from homeport.db.database import Transaction
from homeport.oci import manifest as oci_manifest
from homeport.oci.digest import Digest
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import UpstreamRepository

#: How long it is kept.
KEPT_SECONDS = 7 * 86_400.0


async def get(
    registry: Registry, upstream: UpstreamRepository, target: str, *, shown: Container[Digest] = ()
) -> FetchedManifest:
    """The manifest of a tag or digest, which is kept; a digest that was read before costs no pull.

    `shown`: what this repository is known to have.
    """
    kept = await registry.db.read(find, Digest.parse(target)) if ":" in target else None
    if kept is not None and (kept.digest in shown or await upstream.head_manifest(kept.digest) is not None):
        return kept
    read = await upstream.get_manifest(target)
    await registry.db.jot(_keep, read, registry.clock.now())
    return read


# --- facts ------------------------------------------------------------------------------------------------------


def find(tx: Transaction, digest: Digest) -> FetchedManifest | None:
    """What was kept."""
    row = tx.one("SELECT media_type, data FROM read_manifests WHERE digest = ?", (digest,))
    return FetchedManifest(digest, oci_manifest.parse(row[1], row[0])) if row else None


def forget(tx: Transaction, digests: Iterable[Digest]) -> None:
    """They are here now."""
    for digest in digests:
        tx.run("DELETE FROM read_manifests WHERE digest = ?", (digest,))


def prune(tx: Transaction, before: float, limit: int = 100) -> int:
    """Forget at most `limit` that were read before that time; how many those were."""
    return tx.run(
        "DELETE FROM read_manifests WHERE digest IN (SELECT digest FROM read_manifests WHERE read_at < ? LIMIT ?)",
        (before, limit),
    )


def _keep(tx: Transaction, read: FetchedManifest, now: float) -> None:
    tx.run(
        "INSERT INTO read_manifests (digest, media_type, data, read_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (digest) DO UPDATE SET read_at = excluded.read_at",
        (read.digest, read.manifest.media_type, read.manifest.data, now),
    )
