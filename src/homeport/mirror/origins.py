"""Where tags of ours came from. Owns the table `origins`.

Holds: a tag is upstream's only while it points at what was copied. What somebody pushed over it is theirs, and the row
says so by its digest, without anybody having to notice the push.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from homeport.db.database import Row, Transaction
from homeport.mirror.addresses import Source
from homeport.oci.digest import Digest

#: How it was found out: copied by a run, fetched because somebody asked, or recognised by name and digest.
FoundBy: TypeAlias = Literal["mirror", "cache", "name"]
#: Why a tag is no longer meant to be here.
Leaving: TypeAlias = Literal["gone upstream", "repository gone", "unselected", "dropped"]

_COLUMNS = "repository, tag, host, source, source_tag, digest, found_by, image, copied_at, leaving, leaving_since"


@dataclass(frozen=True, slots=True)
class TagOrigin:
    """One tag of ours, and what it was copied from."""

    repository: str
    tag: str
    source: Source
    source_tag: str
    digest: Digest
    found_by: FoundBy
    #: What the configuration called it; None where that did not name it.
    image: str | None
    copied_at: float
    leaving: Leaving | None = None
    leaving_since: float | None = None


def find(tx: Transaction, repository: str, tag: str) -> TagOrigin | None:
    """Where the tag came from, if it did."""
    row = tx.one(f"SELECT {_COLUMNS} FROM origins WHERE repository = ? AND tag = ?", (repository, tag))  # noqa: S608
    return _origin(row) if row else None


def of_repository(tx: Transaction, repository: str) -> dict[str, TagOrigin]:
    """All of a repository of ours, by tag."""
    rows = tx.all(f"SELECT {_COLUMNS} FROM origins WHERE repository = ? ORDER BY tag", (repository,))  # noqa: S608
    return {row[1]: _origin(row) for row in rows}


def has_others(tx: Transaction, repository: str, source: Source) -> bool:
    """Whether something of a repository of ours came from elsewhere than this source."""
    sql = "SELECT 1 FROM origins WHERE repository = ? AND (host, source) <> (?, ?) LIMIT 1"
    return tx.one(sql, (repository, *source)) is not None


def sources(tx: Transaction, image: str, limit: int) -> list[Source]:
    """At most `limit` upstream repositories from which something came for an image of the configuration."""
    rows = tx.all(
        "SELECT DISTINCT host, source FROM origins WHERE image = ? ORDER BY host, source LIMIT ?", (image, limit)
    )
    return [Source(*row) for row in rows]


def unnamed(tx: Transaction, limit: int) -> list[tuple[str, Source]]:
    """At most `limit` repositories of ours, each with the source of what came to it for no image that is named."""
    rows = tx.all(
        "SELECT DISTINCT repository, host, source FROM origins WHERE image IS NULL"
        " ORDER BY repository, host, source LIMIT ?",
        (limit,),
    )
    return [(repository, Source(host, source)) for repository, host, source in rows]


def page(tx: Transaction, after: tuple[str, str], limit: int) -> list[TagOrigin]:
    """At most `limit` behind `after`, by repository and tag."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM origins WHERE (repository, tag) > (?, ?) ORDER BY repository, tag LIMIT ?",  # noqa: S608
        (*after, limit),
    )
    return list(map(_origin, rows))


def leaving(tx: Transaction, limit: int = 1_000) -> list[TagOrigin]:
    """At most `limit` that are no longer meant to be here, by name."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM origins WHERE leaving IS NOT NULL ORDER BY repository, tag LIMIT ?",  # noqa: S608
        (limit,),
    )
    return list(map(_origin, rows))


def record(tx: Transaction, origin: TagOrigin) -> None:
    """Write down where the tag came from, in place of what was known of it."""
    tx.run(
        f"INSERT INTO origins ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        " ON CONFLICT (repository, tag) DO UPDATE SET host = excluded.host, source = excluded.source,"
        " source_tag = excluded.source_tag, digest = excluded.digest, found_by = excluded.found_by,"
        " image = excluded.image, copied_at = excluded.copied_at, leaving = excluded.leaving,"
        " leaving_since = excluded.leaving_since",
        (
            origin.repository,
            origin.tag,
            *origin.source,
            origin.source_tag,
            origin.digest,
            origin.found_by,
            origin.image,
            origin.copied_at,
            origin.leaving,
            origin.leaving_since,
        ),
    )


def mark(tx: Transaction, repository: str, tag: str, leaving: Leaving | None, since: float | None) -> None:
    """Note why the tag is no longer meant to be here, or that it is again."""
    tx.run(
        "UPDATE origins SET leaving = ?, leaving_since = ? WHERE repository = ? AND tag = ?",
        (leaving, since, repository, tag),
    )


def forget(tx: Transaction, repository: str, tag: str) -> None:
    """The tag is not here any more, or not upstream's."""
    tx.run("DELETE FROM origins WHERE repository = ? AND tag = ?", (repository, tag))


def _origin(row: Row) -> TagOrigin:
    repository, tag, host, source, source_tag, digest, found_by, image, copied_at, leaving, since = row
    return TagOrigin(
        repository, tag, Source(host, source), source_tag, Digest(digest), found_by, image, copied_at, leaving, since
    )
