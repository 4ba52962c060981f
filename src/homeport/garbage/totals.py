"""What was cleaned up, by what is counted. Owns the table `cleanup_totals`.

Holds: counts are added in the transaction of what they count. A run tells what came since the run before it; one that
is done again after a crash tells the same and more, never less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from homeport.db.database import Transaction

#: What is counted, and what stands in a summary.
NAMES: Final = (
    "tags",  # that a policy removed
    "manifests",  # that left their repository
    "blobs",  # that left their repository
    "trashed",  # blobs whose bytes went to the trash
    "trashed_bytes",
    "purged",  # blobs whose bytes went from the trash
    "purged_bytes",
    "uploads",  # that were forgotten
    "failures",  # things that could not be looked at; they are tried again
)


# --- facts ------------------------------------------------------------------------------------------------------


def add(tx: Transaction, counts: Mapping[str, int]) -> None:
    """Add to the totals."""
    for name, count in counts.items():
        assert name in NAMES, name
        if count:
            tx.run(
                "INSERT INTO cleanup_totals (name, total, told, told_before, run) VALUES (?, ?, 0, 0, 0)"
                " ON CONFLICT (name) DO UPDATE SET total = cleanup_totals.total + excluded.total",
                (name, count),
            )


def since_last_told(tx: Transaction) -> dict[str, int]:
    """What came since the last run that told."""
    rows = tx.all("SELECT name, total - told FROM cleanup_totals")
    return {**dict.fromkeys(NAMES, 0), **dict(rows)}


def tell(tx: Transaction, run: int) -> dict[str, int]:
    """What came since the last run before `run` (the id of its job), which tells it now."""
    counts = dict.fromkeys(NAMES, 0)
    for name, total, told, told_before, teller in tx.all(
        "SELECT name, total, told, told_before, run FROM cleanup_totals"
    ):
        base = told_before if teller == run else told
        counts[name] = total - base
        tx.run("UPDATE cleanup_totals SET told = ?, told_before = ?, run = ? WHERE name = ?", (total, base, run, name))
    return counts
