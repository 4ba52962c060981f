"""What must be true of a registry between any two of its transactions, looked at behind the backs of its modules.

`facts`, `trash` and `same` look at one snapshot of the database, `content` at the bytes, `check` at all of it. They
return a sentence for each thing that is wrong, and none where all is well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from homeport import events
from homeport.db.database import Transaction
from homeport.oci import manifest as oci_manifest
from homeport.oci import patterns
from homeport.oci.digest import Digest, new_hasher
from homeport.oci.manifest import Role
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry, Rules
from homeport.storage.blobstore import BlobStore, StorageError
from homeport.testing.model import Change, Model, Repository


class Broken(AssertionError):
    """Something that must be true is not."""


@dataclass(frozen=True, slots=True)
class Told:
    """A change of images as the log tells it: by which request or run, and when."""

    id: int
    run: str | None
    at: float
    change: Change


async def check(registry: Registry) -> None:
    """Raise `Broken` unless facts and bytes are as they must be."""
    wrong = await registry.db.read(facts, registry.rules)
    wrong += await content(registry.blobs, await registry.db.read(live_blobs))
    if wrong:
        raise Broken("; ".join(wrong))


# --- facts ------------------------------------------------------------------------------------------------------


def facts(tx: Transaction, rules: Rules) -> list[str]:
    """What is wrong among the rows."""
    return [
        *_links(tx),
        *_manifests(tx, rules),
        *_history(tx),
        *_quotas(tx),
        *unattended(tx),
        *_listed_and_linked(tx),
    ]


def _links(tx: Transaction) -> Iterator[str]:
    for repository, digest, state in tx.all(
        "SELECT r.name, l.digest, b.state FROM links l JOIN repositories r ON r.id = l.repository_id"
        " JOIN blobs b ON b.digest = l.digest WHERE b.state <> 'live'"
    ):
        yield f"{repository} links {digest}, which is {state}"
    for (name,) in tx.all(
        "SELECT r.name FROM repositories r WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.repository_id = r.id)"
    ):
        yield f"the repository {name} is there with nothing in it"
    for (digest,) in tx.all("SELECT h.digest FROM holds h WHERE h.digest NOT IN (SELECT b.digest FROM blobs b)"):
        yield f"a hold is on {digest}, which has no row"


def _manifests(tx: Transaction, rules: Rules) -> Iterator[str]:
    """Each manifest is what was pushed, its row says what its bytes say, and what it needs is in its repository."""
    held = {(repository, digest): size for repository, digest, size in tx.all(_HELD)}
    rows = tx.all("SELECT repository, digest, media_type, artifact_type, subject, data FROM held_manifests")
    known = {(repository, digest) for repository, digest, *_ in rows}
    references: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for repository, manifest, digest, role in tx.all(
        "SELECT r.name, f.manifest, f.digest, f.role FROM manifest_references f"
        " JOIN repositories r ON r.id = f.repository_id"
    ):
        references.setdefault((repository, manifest), set()).add((digest, role))
    for repository, digest, media_type, artifact_type, subject, data in rows:
        name = f"{repository}@{digest}"
        parsed = oci_manifest.parse(data, media_type)
        if Digest.of(data, Digest(digest).algorithm) != digest:
            yield f"the row of {name} has other bytes"
        if (parsed.artifact_type, parsed.subject) != (artifact_type, subject):
            yield f"the row of {name} has another subject or artifact type than its bytes"
        if references.pop((repository, digest), set()) != {(one.digest, one.role) for one in parsed.references}:
            yield f"the references of {name} are not what its bytes name"
        if held.get((repository, digest)) != len(data):
            yield f"the manifest {name} has no live blob of its size"
        for one in parsed.references:
            present = (repository, one.digest) in (known if one.role is Role.CHILD else held)
            if one.must_be_held and not present and not (one.role is Role.CHILD and rules.is_sparse(repository)):
                yield f"{name} names the {one.role} {one.digest}, which {repository} does not have"
    for repository, manifest in references:
        yield f"there are references of {repository}@{manifest}, which is not there"


def _history(tx: Transaction) -> Iterator[str]:
    """The history of tags is what the events say, and it ends where the tags are."""
    history = tx.all("SELECT repository, tag, digest, actor FROM tag_history ORDER BY id")
    told = [
        (event.repository, event.tag, event.digest if event.kind == "tag.set" else None, event.actor)
        for event in _events(tx)
        if event.tag is not None
    ]
    if history != told:
        yield "the history of tags and the events differ"
    last = {(repository, tag): digest for repository, tag, digest, _ in history}
    tags = {(repository, tag): digest for repository, tag, digest in tx.all(_TAGS)}
    if {where: digest for where, digest in last.items() if digest is not None} != tags:
        yield "the history of tags does not end where the tags are"


def _quotas(tx: Transaction) -> Iterator[str]:
    """What each quota has counted is what a count of the links that it has passed gives."""
    links: list[tuple[int, str, str, int]] = tx.all("SELECT repository_id, repository, digest, size FROM linked_blobs")
    rules = tx.all("SELECT id, pattern, used_bytes, counted_repository, counted_digest FROM quota_rules")
    for rule_id, pattern, used, *position in rules:
        rows = tx.all("SELECT digest, size, link_count FROM quota_digests WHERE rule_id = ?", (rule_id,))
        if pattern is None:
            continue  # It has left the configuration, and is being forgotten.
        counted = Counter(
            (digest, size)
            for repository_id, repository, digest, size in links
            if patterns.matches(pattern, repository)
            and (position == [None, None] or [repository_id, digest] <= position)
        )
        if Counter({(digest, size): count for digest, size, count in rows}) != counted:
            yield f"the quota of {pattern} has counted {rows}, and the links are {counted}"
        if used != sum(size for _, size in counted):
            yield f"the quota of {pattern} says that {used} bytes are used"


def same(tx: Transaction, model: Model) -> list[str]:
    """Where the rows differ from what the model offers."""
    rows: dict[str, Repository] = {}
    for repository, digest, _ in tx.all(_HELD):
        rows.setdefault(repository, Repository()).links.add(Digest(digest))
    for repository, digest in tx.all("SELECT repository, digest FROM held_manifests"):
        rows.setdefault(repository, Repository()).manifests.add(Digest(digest))
    for repository, tag, digest in tx.all(_TAGS):
        rows.setdefault(repository, Repository()).tags[tag] = Digest(digest)
    offered = model.offered()
    return [
        f"{name} is {rows.get(name)}, and should be {offered.get(name)}"
        for name in sorted(rows.keys() | offered.keys())
        if rows.get(name) != offered.get(name)
    ]


def unattended(tx: Transaction) -> list[str]:
    """What nothing refers to and nobody was asked to look at, so that it would stay for ever."""
    links = tx.all("SELECT repository_id, digest FROM attended_links WHERE NOT attended")
    lost = tx.all("SELECT digest FROM attended_blobs WHERE NOT attended")
    return [
        *(f"nobody looks at the link of repository {repository_id} to {digest}" for repository_id, digest in links),
        *(f"nobody looks at the blob {digest}" for (digest,) in lost),
    ]


def _listed_and_linked(tx: Transaction) -> Iterator[str]:
    for repository, digest in tx.all(
        "SELECT repository, digest FROM trashed_links INTERSECT SELECT repository, digest FROM held_blobs"
    ):
        yield f"{repository}@{digest} is there and in the trash as well"


def trash(tx: Transaction, rules: Rules, now: float, purged: Mapping[tuple[str, Digest], float]) -> list[str]:
    """What was deleted not long ago and cannot be brought back; `purged` is when somebody let go of it for good."""
    listed = set(tx.all("SELECT repository, digest FROM trashed_links"))
    deleted: dict[tuple[str, Digest], float] = {}
    for told in changes(tx, 0):
        where = told.change.repository, told.change.digest
        if told.change.kind in ("blob.deleted", "manifest.deleted"):
            deleted[where] = told.at
        elif told.change.tag is None:
            deleted.pop(where, None)
    return [
        f"{repository}@{digest} was deleted and is not in the trash"
        for (repository, digest), at in deleted.items()
        if at + rules.trash_seconds > now
        and purged.get((repository, digest), 0.0) < at
        and (repository, digest) not in listed
    ]


def changes(tx: Transaction, after: int) -> list[Told]:
    """The changes of images that came after an event."""
    return [
        Told(
            event.id,
            event.run,
            event.happened_at,
            Change(event.kind, event.repository, Digest(event.digest), event.tag),
        )
        for event in _events(tx, after)
        if event.repository is not None and event.digest is not None
    ]


def restorable(tx: Transaction, store: BlobStore) -> dict[Digest, list[str]]:
    """Every digest that the trash lists, and where its bytes may be besides their own place."""
    places: dict[Digest, list[str]] = {}
    for (digest,) in tx.all("SELECT DISTINCT digest FROM trashed_links ORDER BY digest"):
        kept = tx.all("SELECT location FROM trashed_blobs WHERE digest = ?", (digest,))
        # A crash may have come between the move of a condemned blob and its commit.
        moved = tx.all(
            "SELECT location, trash FROM blobs WHERE digest = ? AND location IS NOT NULL AND trash IS NOT NULL",
            (digest,),
        )
        places[Digest(digest)] = [
            *(location for (location,) in kept),
            *(store.trash_location(location, name) for location, name in moved),
        ]
    return places


def live_blobs(tx: Transaction) -> list[Blob]:
    """Every live row, linked or not."""
    rows = tx.all("SELECT digest, size, location FROM blobs WHERE state = 'live' ORDER BY digest")
    return [Blob(Digest(digest), size, location) for digest, size, location in rows]


def promises(tx: Transaction) -> Mapping[tuple[str, Digest], float]:
    """Until when each link is kept for those who were told that it is there."""
    rows = tx.all("SELECT repository, digest, keep_until FROM held_blobs")
    return {(repository, Digest(digest)): keep_until for repository, digest, keep_until in rows}


def _events(tx: Transaction, after: int = 0) -> Iterator[events.Event]:
    position = events.Position(after, after)
    while batch := events.after(tx, position):
        yield from batch
        position = batch[-1].position


_HELD = "SELECT repository, digest, size FROM held_blobs"
_TAGS = "SELECT repository, tag, digest FROM tagged_manifests"


# --- bytes ------------------------------------------------------------------------------------------------------


async def content(store: BlobStore, live: list[Blob]) -> list[str]:
    """What is wrong with the bytes: of live rows, and of all that lies in a blob's place."""
    wrong = [
        f"the live blob {blob.digest} of {blob.size} bytes has {found}"
        for blob in live
        if (found := await _digest(store, blob.location, blob.digest)) != (blob.digest, blob.size)
    ]
    seen = {blob.location for blob in live}
    async for digest, location, size in store.blobs():
        if location not in seen and (found := await _digest(store, location, digest)) != (digest, size):
            wrong.append(f"in the place of {digest} lies {found}")
    return wrong


async def _digest(store: BlobStore, location: str, digest: Digest) -> tuple[str, int]:
    hasher = new_hasher(digest.algorithm)
    size = 0
    try:
        async for chunk in store.read(location):
            hasher.update(chunk)
            size += len(chunk)
    except StorageError as error:
        return f"{type(error).__name__}: {error}", size
    return f"{digest.algorithm}:{hasher.hexdigest()}", size
