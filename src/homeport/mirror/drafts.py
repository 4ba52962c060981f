"""Manifests that were read before they were needed, and when images were made. Owns `read_manifests`, `image_times`.

Holds: a manifest that was read once is not read again while it waits here, so the pull that it cost is paid once: by a
plan that wanted sizes, or by a run that died. It is offered to nobody, and forgotten after a week.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeport.client.repository import FetchedManifest
from homeport.db.database import Transaction
from homeport.oci import manifest as oci_manifest
from homeport.oci.digest import Digest

#: How long it is kept.
KEPT_SECONDS = 7 * 86_400.0
_BATCH = 100


def keep(tx: Transaction, read: FetchedManifest, now: float) -> None:
    """Keep what was read."""
    tx.run(
        "INSERT INTO read_manifests (digest, media_type, data, read_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (digest) DO UPDATE SET read_at = excluded.read_at",
        (read.digest, read.manifest.media_type, read.manifest.data, now),
    )


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


def times(tx: Transaction, digests: Iterable[Digest]) -> dict[Digest, float]:
    """When the images of these digests say that they were made, of those that were read."""
    wanted, found = list(digests), {}
    for first in range(0, len(wanted), _BATCH):
        some = wanted[first : first + _BATCH]
        marks = ",".join("?" * len(some))
        rows = tx.all(f"SELECT digest, created_at FROM image_times WHERE digest IN ({marks})", some)  # noqa: S608
        found.update({Digest(digest): created_at for digest, created_at in rows})
    return found


def record_time(tx: Transaction, digest: Digest, created_at: float) -> None:
    """Note when the image says that it was made; 0 where it does not say."""
    tx.run(
        "INSERT INTO image_times (digest, created_at) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
        (digest, created_at),
    )
