"""What a run has still to copy, and what it could not. Owns the table `mirror_copies`.

Holds: the list is written before the first copy and a line of it goes with the tag's change, so a run that was cut off
goes on where it was; what failed stays on it until a run has done it or does not want it any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from homeport.db.database import Row, Transaction
from homeport.mirror.addresses import Source
from homeport.oci.digest import Digest

_COLUMNS = "repository, tag, image, host, source, source_tag, digest, why, planned_at, failure"


@dataclass(frozen=True, slots=True)
class Copy:
    """A tag of ours that is to point at what upstream has."""

    repository: str
    tag: str
    #: What the configuration calls it.
    image: str
    source: Source
    source_tag: str
    digest: Digest
    #: Such as `new`, or `was sha256:...`.
    why: str
    #: When it was first planned; it is on the list since then.
    planned_at: float = 0.0
    #: Why it could not be done.
    failure: str | None = None

    def __str__(self) -> str:
        return f"{self.source}:{self.source_tag}"

    @property
    def told(self) -> str:
        """From where, and to where if that has another name."""
        ours = f"{self.repository}:{self.tag}"
        return str(self) if ours == str(self) else f"{self} to {ours}"


def replace(
    tx: Transaction, run: int, copies: Collection[Copy], settled: Iterable[tuple[str, Source]], now: float
) -> None:
    """The run is to make these copies. `settled`: images and sources of which it makes no others, so that what earlier
    runs left of them is not wanted any more."""
    wanted = {(copy.repository, copy.tag) for copy in copies}
    for image, source in settled:
        sql = "SELECT repository, tag FROM mirror_copies WHERE image = ? AND host = ? AND source = ?"
        for repository, tag in tx.all(sql, (image, *source)):
            if (repository, tag) not in wanted:
                done(tx, repository, tag)
    for copy in copies:
        tx.run(
            "INSERT INTO mirror_copies (repository, tag, run, image, host, source, source_tag, digest, why, planned_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (repository, tag) DO UPDATE SET run = excluded.run,"
            " image = excluded.image, host = excluded.host, source = excluded.source,"
            " source_tag = excluded.source_tag, digest = excluded.digest, why = excluded.why, failure = NULL",
            (copy.repository, copy.tag, run, copy.image, *copy.source, copy.source_tag, copy.digest, copy.why, now),
        )


def keep_only(tx: Transaction, images: Iterable[str]) -> None:
    """Nothing else than these images is wanted any more."""
    wanted = set(images)
    for (image,) in tx.all("SELECT DISTINCT image FROM mirror_copies"):
        if image not in wanted:
            tx.run("DELETE FROM mirror_copies WHERE image = ?", (image,))


def of_run(tx: Transaction, run: int) -> list[Copy]:
    """What the run has still to copy, by name."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM mirror_copies WHERE run = ? AND failure IS NULL ORDER BY repository, tag",  # noqa: S608
        (run,),
    )
    return list(map(_copy, rows))


def has_others(tx: Transaction, repository: str, source: Source) -> bool:
    """Whether something is to come to a repository of ours from elsewhere than this source."""
    sql = "SELECT 1 FROM mirror_copies WHERE repository = ? AND (host, source) <> (?, ?) LIMIT 1"
    return tx.one(sql, (repository, *source)) is not None


def every(tx: Transaction, limit: int = 1_000, after: tuple[str, str] = ("", "")) -> list[Copy]:
    """At most `limit` of all that is behind, by name, of those behind `after`."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM mirror_copies WHERE (repository, tag) > (?, ?) ORDER BY repository, tag LIMIT ?",  # noqa: S608
        (*after, limit),
    )
    return list(map(_copy, rows))


def moved(tx: Transaction, repository: str, tag: str, digest: Digest) -> None:
    """The copy is to be of this digest, since the tag moved upstream."""
    tx.run("UPDATE mirror_copies SET digest = ? WHERE repository = ? AND tag = ?", (digest, repository, tag))


def done(tx: Transaction, repository: str, tag: str) -> None:
    """The copy was made."""
    tx.run("DELETE FROM mirror_copies WHERE repository = ? AND tag = ?", (repository, tag))


def failed(tx: Transaction, repository: str, tag: str, why: str) -> None:
    """The copy could not be made, for now."""
    tx.run("UPDATE mirror_copies SET failure = ? WHERE repository = ? AND tag = ?", (why, repository, tag))


def _copy(row: Row) -> Copy:
    repository, tag, image, host, source, source_tag, digest, why, planned_at, failure = row
    return Copy(repository, tag, image, Source(host, source), source_tag, Digest(digest), why, planned_at, failure)
