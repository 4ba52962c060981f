"""What a registry is, in a hundred lines: the model that the real one is compared with.

It holds sets where the registry has tables, and no bytes, time, holds or promises. Its operations answer as the
registry's do, by returning the changes that they make or raising the same error. A `Change` is what the registry writes
an event for; `apply` makes one change and refuses one that must never happen, and `why_kept` says what no cleanup may
take.

So it is of use in two ways: in step with a registry that one client uses (same operation, same answer), and fed with
the events of one that many use at once (whose order they tell), to say what must be visible after each of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from homeport.oci import companions
from homeport.oci.digest import Digest
from homeport.oci.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestUnknown,
    ReferencedByManifest,
    UploadOutOfOrder,
)
from homeport.oci.manifest import Manifest, Role


class Illegal(AssertionError):
    """A change that must never happen."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change, in the words of its event."""

    kind: str
    repository: str
    digest: Digest
    tag: str | None = None


@dataclass(slots=True)
class Repository:
    """What one repository offers. `links` are all digests, those of manifests too."""

    links: set[Digest] = field(default_factory=set)
    manifests: set[Digest] = field(default_factory=set)
    tags: dict[str, Digest] = field(default_factory=dict)


@dataclass(slots=True)
class Upload:
    """A session and the bytes that came."""

    repository: str
    data: bytes = b""


class Model:
    """A registry in memory. `contents` are all manifests that will ever be spoken of."""

    def __init__(self, contents: Mapping[Digest, Manifest]) -> None:
        self._contents = contents
        self.repositories: defaultdict[str, Repository] = defaultdict(Repository)
        self.uploads: dict[str, Upload] = {}
        #: Repository, tag and digest (None: deleted) of every change of a tag.
        self.history: list[tuple[str, str, Digest | None]] = []

    # --- what is there ------------------------------------------------------------------------------------------

    def has_blob(self, repository: str, digest: Digest) -> bool:
        return digest in self.repositories[repository].links

    def has_manifest(self, repository: str, digest: Digest) -> bool:
        return digest in self.repositories[repository].manifests

    def mountable(self, digest: Digest, source: str | None) -> bool:
        """Whether the digest can be mounted from the repository, or from any."""
        sources = [source] if source is not None else list(self.repositories)
        return any(self.has_blob(name, digest) for name in sources)

    def tag(self, repository: str, name: str) -> Digest | None:
        return self.repositories[repository].tags.get(name)

    def parents(self, repository: str, digest: Digest) -> list[Digest]:
        """The manifests of the repository that name the digest."""
        return [parent for parent in self.repositories[repository].manifests if digest in self.named_by(parent)]

    def named_by(self, digest: Digest) -> set[Digest]:
        """What the digest names, if it is a manifest."""
        found = self._contents.get(digest)
        return {reference.digest for reference in found.references} if found is not None else set()

    def all_named_by(self, digest: Digest) -> set[Digest]:
        """The digest, what it names, and what that names."""
        return self._closure([digest], self.named_by)

    def missing(self, repository: str, digest: Digest) -> list[Digest]:
        """What the repository would need to take this manifest in, and does not have."""
        return [
            reference.digest
            for reference in self._contents[digest].references
            if reference.must_be_held
            and not (self.has_manifest if reference.role is Role.CHILD else self.has_blob)(repository, reference.digest)
        ]

    def is_needed(self, repository: str, digest: Digest) -> bool:
        return self.has_manifest(repository, digest) or bool(self.parents(repository, digest))

    def offered(self) -> dict[str, Repository]:
        """The repositories that have something."""
        return {name: repository for name, repository in self.repositories.items() if repository.links}

    # --- what must stay -----------------------------------------------------------------------------------------

    def why_kept(self, repository: str, digest: Digest, in_use: Collection[Digest] = ()) -> str | None:
        """Why no cleanup may take the digest out of the repository, whatever the time is; None: nothing keeps it.

        `in_use`: the digests that run somewhere.
        """
        if digest in self.reachable(repository, in_use):
            return "a tag or somebody who uses it leads to it"
        if self.parents(repository, digest):
            return "a manifest names it"
        if self._subjects(repository, digest) - self._held_by(repository, digest):
            return "its subject is here"
        return None

    def is_knotted(self, repository: str, digest: Digest) -> bool:
        """Whether this, or something near it, names its own subject, so that each keeps the other."""
        around = self._closure(
            [digest],
            lambda one: {
                *self.named_by(one),
                *self.parents(repository, one),
                *self._companions(repository, one),
                *self._subjects(repository, one),
            },
        )
        return any(self._subjects(repository, one) & self._held_by(repository, one) for one in around)

    def _held_by(self, repository: str, digest: Digest) -> set[Digest]:
        """What stays while the digest does."""
        return self._closure([digest], lambda one: self.named_by(one) | self._companions(repository, one))

    def reachable(self, repository: str, in_use: Collection[Digest] = ()) -> set[Digest]:
        """What tags and users lead to: that, all that it names, and what belongs to any of it."""
        here = self.repositories[repository]
        roots = {digest for tag, digest in here.tags.items() if companions.subject(tag) is None}
        if in_use:
            # An image is known by its manifest, or by something that it names; a blob that nothing names runs nowhere.
            roots |= {found for found in here.manifests if not self.all_named_by(found).isdisjoint(in_use)}
        return here.links & self._closure(roots, lambda one: self.named_by(one) | self._companions(repository, one))

    def _subjects(self, repository: str, digest: Digest) -> set[Digest]:
        """The manifests of the repository that this one belongs to, by itself or by one of its tags."""
        return {
            found for found in self.repositories[repository].manifests if digest in self._companions(repository, found)
        }

    def _companions(self, repository: str, digest: Digest) -> set[Digest]:
        """What belongs to the manifest, if the repository has it."""
        here = self.repositories[repository]
        if digest not in here.manifests:
            return set()
        signed = {
            found
            for tag, found in here.tags.items()
            if (subject := companions.subject(tag)) is not None and digest.startswith(subject)
        }
        return signed | {found for found in here.manifests if self._contents[found].subject == digest}

    @staticmethod
    def _closure(begin: Iterable[Digest], step: Callable[[Digest], set[Digest]]) -> set[Digest]:
        found: set[Digest] = set()
        waiting = list(begin)
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += step(one)
        return found

    # --- changes ------------------------------------------------------------------------------------------------

    def apply(self, change: Change) -> None:
        """Make a change, or raise `Illegal`."""
        repository, digest, tag = self.repositories[change.repository], change.digest, change.tag
        match change.kind:
            case "blob.pushed" | "blob.mounted" | "blob.restored":
                legal = digest not in repository.links
                repository.links.add(digest)
            case "blob.deleted":
                legal = digest in repository.links and not self.is_needed(change.repository, digest)
                repository.links.discard(digest)
            case "manifest.pushed":
                legal = digest not in repository.manifests and not self.missing(change.repository, digest)
                repository.links.add(digest)
                repository.manifests.add(digest)
            case "manifest.deleted":
                legal = digest in repository.manifests and digest not in repository.tags.values()
                legal = legal and not self.parents(change.repository, digest)
                repository.manifests.discard(digest)
                repository.links.discard(digest)
            case "tag.set":
                assert tag is not None
                legal = digest in repository.manifests and repository.tags.get(tag) != digest
                repository.tags[tag] = digest
                self.history.append((change.repository, tag, digest))
            case "tag.deleted":
                assert tag is not None
                legal = repository.tags.pop(tag, None) == digest
                self.history.append((change.repository, tag, None))
            case _:
                legal = False
        if not legal:
            raise Illegal(f"{change} must not happen now")

    # --- operations ---------------------------------------------------------------------------------------------

    def push_blob(self, repository: str, digest: Digest, kind: str = "blob.pushed") -> list[Change]:
        """A blob whose bytes came and are right."""
        return self._done([] if self.has_blob(repository, digest) else [Change(kind, repository, digest)])

    def mount(self, repository: str, digest: Digest, source: str | None) -> list[Change]:
        """Nothing happens where there is nothing to mount."""
        return self.push_blob(repository, digest, "blob.mounted") if self.mountable(digest, source) else []

    def delete_blob(self, repository: str, digest: Digest) -> list[Change]:
        if not self.has_blob(repository, digest):
            raise BlobUnknown(digest)
        if self.is_needed(repository, digest):
            raise ReferencedByManifest(digest)
        return self._done([Change("blob.deleted", repository, digest)])

    def push_manifest(self, repository: str, digest: Digest, tags: Sequence[str]) -> list[Change]:
        if self.missing(repository, digest):
            raise ManifestBlobUnknown(digest)
        new = not self.has_manifest(repository, digest)
        changes = [Change("manifest.pushed", repository, digest)] if new else []
        changes += [
            Change("tag.set", repository, digest, tag)
            for tag in dict.fromkeys(tags)
            if self.tag(repository, tag) != digest
        ]
        return self._done(changes)

    def delete_manifest(self, repository: str, digest: Digest) -> list[Change]:
        if not self.has_manifest(repository, digest):
            raise ManifestUnknown(digest)
        if self.parents(repository, digest):
            raise ReferencedByManifest(digest)
        tags = [tag for tag, found in sorted(self.repositories[repository].tags.items()) if found == digest]
        changes = [Change("tag.deleted", repository, digest, tag) for tag in tags]
        return self._done([*changes, Change("manifest.deleted", repository, digest)])

    def delete_tag(self, repository: str, tag: str) -> list[Change]:
        digest = self.tag(repository, tag)
        if digest is None:
            raise ManifestUnknown(tag)
        return self._done([Change("tag.deleted", repository, digest, tag)])

    def _done(self, changes: Iterable[Change]) -> list[Change]:
        made = list(changes)
        for change in made:
            self.apply(change)
        return made

    # --- uploads ------------------------------------------------------------------------------------------------

    def start(self, upload: str, repository: str) -> None:
        self.uploads[upload] = Upload(repository)

    def append(self, upload: str, repository: str, offset: int | None, data: bytes) -> int:
        session = self._session(upload, repository)
        if offset is not None and offset != len(session.data):
            raise UploadOutOfOrder(accepted_bytes=len(session.data))
        session.data += data
        return len(session.data)

    def finish(self, upload: str, repository: str, digest: Digest, offset: int | None, data: bytes) -> list[Change]:
        self.append(upload, repository, offset, data)
        session = self.uploads.pop(upload)
        if Digest.of(session.data, digest.algorithm) != digest:
            raise DigestInvalid(digest)
        return self.push_blob(repository, digest)

    def cancel(self, upload: str, repository: str) -> list[Change]:
        self._session(upload, repository)
        del self.uploads[upload]
        return []

    def _session(self, upload: str, repository: str) -> Upload:
        session = self.uploads.get(upload)
        if session is None or session.repository != repository:
            raise BlobUploadUnknown(upload)
        return session
