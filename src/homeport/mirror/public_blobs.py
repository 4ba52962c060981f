"""Which blobs anybody could have fetched from upstream. Owns the table `public_blobs`.

Holds: a digest is here only after its bytes came from a repository that upstream shows to everybody. Such a blob may be
linked wherever upstream names it. Any other may be a secret of whoever pushed it: that a manifest names its digest
proves nothing, since a digest can be learned without its bytes. A row goes with the blob's own.
"""

from __future__ import annotations

from homeport.db.database import Transaction
from homeport.oci.digest import Digest


def record(tx: Transaction, digest: Digest) -> None:
    """Note that the blob, which a repository holds now, came from one that everybody can read."""
    tx.run(
        "INSERT INTO public_blobs (digest) SELECT DISTINCT digest FROM held_blobs WHERE digest = ?"
        " ON CONFLICT (digest) DO NOTHING",
        (digest,),
    )


def is_public(tx: Transaction, digest: Digest) -> bool:
    """Whether the blob once came from a repository that everybody can read."""
    return bool(tx.one("SELECT 1 FROM public_blobs WHERE digest = ?", (digest,)))
