"""The pull-through cache: repositories of other registries, served as ours, and fetched when somebody asks.

Holds:
- A digest that is here is served and never asked about. A tag is believed for a while, then upstream is asked by HEAD,
  which costs no pull; a manifest is read only where its digest is not here, once, however many ask.
- A tag that somebody pushed here, and one that an image of the configuration keeps in step, is served as it is.
- Whatever upstream does, what is here is served, with a warning where it may be old. Nothing is ever removed here.
- A manifest comes in before what it names: its blobs come when somebody asks for them.

Manifest and tag are two transactions. A crash between them leaves a manifest without a tag, which goes after its grace
as any other does; whoever asks next finds it by its digest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Concatenate, Final, ParamSpec

from homeport.client.errors import BadAnswer, ClientError, ContentMismatch, NotFound
from homeport.config import mirroring as config
from homeport.db.database import DatabaseError, Transaction
from homeport.events import Origin
from homeport.mirror import addresses, freshness, origins, sightings
from homeport.mirror.asking import HEAD_SECONDS, Asking, Cached
from homeport.mirror.fetching import Fetch, Fetches
from homeport.mirror.memory import Flights, Memory
from homeport.mirror.origins import TagOrigin
from homeport.mirror.publicity import Publicity, Shown, manifest_shown
from homeport.mirror.sightings import Sighting
from homeport.mirror.troubles import Unanswered
from homeport.observe import Log
from homeport.oci import mediatype, patterns
from homeport.oci.digest import Digest
from homeport.oci.errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    RegistryError,
    TagImmutable,
)
from homeport.oci.manifest import Descriptor, Role
from homeport.registry import blobs, manifests, tags
from homeport.registry.blobs import Blob
from homeport.registry.manifests import Stored
from homeport.registry.registry import Registry
from homeport.storage.blobstore import StorageError
from homeport.upstreams.upstreams import UpstreamRepository, Upstreams

#: As whom the cache stands in the audit log.
ORIGIN: Final = Origin("system:cache")

#: More tags than this are no list to page through.
TAGS_MAX: Final = 200_000
LIST_SECONDS: Final = 60.0
#: Tags of upstreams' lists that are remembered, of all repositories together.
LISTED_MAX: Final = 400_000
#: So many referrers of one subject come in at once.
REFERRERS_MAX: Final = 100
#: Of so many subjects it is remembered that their referrers came in, and how long when they did not all.
SUBJECTS_MAX: Final = 10_000
INCOMPLETE_SECONDS: Final = 60.0
#: A tag that a client looked at by HEAD is set when it gets the digest within this time, as containerd does.
AWAITED_SECONDS: Final = 300.0
AWAITED_MAX: Final = 10_000
AWAITED_TAGS_MAX: Final = 100
#: Manifests of which it is remembered that their grace began anew.
RENEWED_MAX: Final = 50_000

P = ParamSpec("P")

_BYTES: Final = "application/octet-stream"
#: What can go wrong when something new is to be kept here.
_NOT_KEPT: Final = (RegistryError, StorageError, DatabaseError)


@dataclass(frozen=True, slots=True)
class Served:
    """A manifest as it is served, and what is to be said of it.

    For a HEAD that upstream answered, `stored.data` is empty: `size` is what it said.
    """

    stored: Stored
    size: int
    warning: str | None = None

    @classmethod
    def of(cls, stored: Stored, warning: str | None = None) -> Served:
        """One that is here."""
        return cls(stored, len(stored.data), warning)


@dataclass(frozen=True, slots=True)
class _Here:
    """What is known of a tag without asking anybody."""

    stored: Stored | None
    origin: TagOrigin | None
    seen: Sighting | None

    @property
    def known_at(self) -> float | None:
        """When the tag was last known to be upstream's."""
        if self.stored is not None and self.seen is not None and self.seen.digest == self.stored.digest:
            return self.seen.checked_at
        return self.origin.copied_at if self.origin is not None else None


class Cache:
    """All that is cached. It lives in its `async with`, which breaks off what it asks upstreams."""

    def __init__(
        self, registry: Registry, upstreams: Upstreams, publicity: Publicity, fetches: Fetches, log: Log
    ) -> None:
        self._registry = registry
        self._fetches = fetches
        self._log = log
        self._flights = Flights()
        self._asking = Asking(registry, upstreams, publicity, log, self._flights)
        self._hosts: dict[str, str] = {}
        self._skip: tuple[str, ...] = ()
        self._settings = config.Cache()
        clock = registry.clock
        self._lists: Memory[Cached, list[str]] = Memory(clock, LISTED_MAX)
        self._brought: Memory[tuple[Cached, Digest], str] = Memory(clock, SUBJECTS_MAX)
        self._awaited: Memory[tuple[Cached, Digest], frozenset[str]] = Memory(clock, AWAITED_MAX)
        self._renewed: Memory[tuple[str, Digest], bool] = Memory(clock, RENEWED_MAX)

    async def __aenter__(self) -> Cache:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._flights.close()

    def reconfigure(self, settings: config.Cache, skip: tuple[str, ...]) -> None:
        """Go by these settings from now on. `skip`: repositories that are nobody's cache."""
        self._settings = settings
        self._skip = skip
        self._hosts = addresses.folders(settings.upstreams)
        self._asking.reconfigure(absent_seconds=settings.absent_for, offline=settings.offline)
        self._lists.clear()
        self._brought.clear()

    # --- what a client asks -------------------------------------------------------------------------------------

    def covers(self, repository: str) -> bool:
        """Whether it is the cache of an upstream's."""
        return self._find(repository) is not None

    async def manifest(self, repository: str, reference: str, *, head: bool) -> Served:
        """The manifest by tag or digest. Raises `RegistryError`, or why what came cannot be kept."""
        cached = self._cached(repository)
        if ":" in reference:
            return await self._by_digest(cached, Digest.parse(reference), head=head)
        return await self._by_tag(cached, reference, head=head)

    async def blob(self, repository: str, digest: Digest) -> Blob | Fetch:
        """The blob, which may be on its way still. Raises as `manifest` does."""
        cached = self._cached(repository)
        present = await blobs.find_whole(self._registry, cached.repository, digest)
        if present is not None:
            return present
        self._registry.check_writable()
        what = f"blob {digest}"
        size = await self._registry.db.read(manifests.size_named, cached.repository, digest)
        try:
            if size is None or await self._asking.known_shown(cached) is None:
                size = await self._upstream_size(cached, digest)
            upstream = await self._asking.reach(cached, what)
            shared = await self._asking.is_shown(cached, _blob_shown(digest))
        except Unanswered as failed:
            raise failed.refusal(BlobUnknown(digest)) from None
        wanted = Descriptor(_BYTES, digest, size, Role.LAYER)
        try:
            return await self._fetches.stream(
                ORIGIN, cached.repository, wanted, lambda: upstream.open_blob(wanted, verify=False), shared=shared
            )
        except (ClientError, TimeoutError) as failure:
            raise self._asking.failed(cached, what, failure).refusal(BlobUnknown(digest)) from None
        except DigestInvalid as error:  # A small one had come whole before anybody looked.
            wrong = ContentMismatch(str(error))
            raise self._asking.failed(cached, what, wrong).refusal(BlobUnknown(digest)) from None

    async def blob_size(self, repository: str, digest: Digest) -> int:
        """How many bytes the blob has, which is not fetched for that. Raises `RegistryError`."""
        cached = self._cached(repository)
        present = await blobs.find_whole(self._registry, cached.repository, digest)
        if present is not None:
            return present.size
        try:
            return await self._upstream_size(cached, digest)
        except Unanswered as failed:
            raise failed.refusal(BlobUnknown(digest)) from None

    async def tags(self, repository: str) -> tuple[list[str], str | None]:
        """The tags of upstream and ours in ASCII order, and a warning where it is only ours. Raises `RegistryError`."""
        cached = self._cached(repository)
        ours = await self._registry.db.read(tags.names, cached.repository, "", TAGS_MAX)
        listed = self._lists.get(cached)
        if listed is None:
            try:
                listed = await self._asking.ask(cached, "tags", _list, None, seconds=LIST_SECONDS)
                if listed:
                    await self._asking.is_shown(cached, manifest_shown(listed[-1]))
            except Unanswered as failed:
                if ours is None:
                    raise failed.refusal(NameUnknown(cached.repository)) from None
                return ours, f"{failed}; these are the tags that are here"
            self._lists.put(cached, listed, self._settings.fresh_for, weight=len(listed) + 1)
        known = frozenset(listed)
        more = [tag for tag in ours or () if tag not in known]
        return sorted([*listed, *more]) if more else listed, None

    async def referrers(self, repository: str, subject: Digest) -> str | None:
        """Bring here what upstream has that refers to the subject; a warning where that may not be all."""
        cached = self._cached(repository)
        warning = self._brought.get((cached, subject))
        if warning is None:
            warning = await self._flights.join((cached, "referrers", subject), lambda: self._bring_all(cached, subject))
        return warning or None

    # --- manifests ----------------------------------------------------------------------------------------------

    async def _by_digest(self, cached: Cached, digest: Digest, *, head: bool) -> Served:
        stored = await self._registry.db.read(manifests.by_digest, cached.repository, digest)
        if stored is not None:
            await self._renew(cached.repository, digest)
            return Served.of(stored)
        try:
            if head:
                found = await self._head(cached, digest)
                return Served(Stored(digest, found.media_type, b""), found.size)
            return Served.of(await self._bring(cached, digest))
        except Unanswered as failed:
            raise failed.refusal(ManifestUnknown(digest)) from None

    async def _by_tag(self, cached: Cached, tag: str, *, head: bool) -> Served:
        here = await self._registry.db.read(_look, cached, tag)
        stored, host = here.stored, cached.source.host
        if stored is not None and self._stands(cached, tag, stored.digest, here):
            return Served.of(stored)
        try:
            found = await self._head(cached, tag)
            if stored is not None and found.digest == stored.digest:
                return Served.of(stored)
            if head and not await self._await(cached, tag, found.digest):
                return Served(Stored(found.digest, found.media_type, b""), found.size)
            return Served.of(await self._point(cached, tag, await self._bring(cached, found.digest)))
        except Unanswered as failed:
            if stored is None:
                raise failed.refusal(ManifestUnknown(f"{cached.repository}:{tag}")) from None
            return Served.of(stored, failed.warning(here.known_at))
        except _NOT_KEPT as error:
            if stored is None:
                raise
            why = "this tag never changes here" if isinstance(error, TagImmutable) else "it cannot be brought here now"
            self._log.warning("cache.unkept", repository=cached.repository, tag=tag, error=str(error))
            return Served.of(stored, f"{host} may have another image under this tag, and {why}")

    def _stands(self, cached: Cached, tag: str, digest: Digest, here: _Here) -> bool:
        """Whether a tag that is here is served without asking anybody."""
        if not freshness.may_move(digest, here.origin, cached.source):
            return True
        seconds = freshness.fresh_seconds(self._settings, tag)
        return freshness.is_fresh(digest, here.seen, seconds, self._registry.clock.now())

    async def _head(self, cached: Cached, reference: str) -> Descriptor:
        """What upstream says that a tag or digest leads to. A tag is remembered as it was seen."""

        async def question(upstream: UpstreamRepository) -> Descriptor:
            found = await upstream.head_manifest(reference)
            if found is None:
                raise NotFound(f"{upstream}: has no {reference}", status=404)
            if found.media_type not in mediatype.MANIFESTS | mediatype.INDEXES:
                raise BadAnswer(f"{upstream}: {reference} is no manifest to work with")
            if ":" not in reference:
                await self._jot(sightings.note, cached.source, reference, found.digest, self._registry.clock.now())
            return found

        return await self._asking.ask(
            cached, f"HEAD {reference}", question, manifest_shown(reference), seconds=HEAD_SECONDS
        )

    async def _bring(self, cached: Cached, digest: Digest) -> Stored:
        """The manifest, which is here when this returns."""
        stored = await self._registry.db.read(manifests.by_digest, cached.repository, digest)
        if stored is not None:
            return stored
        return await self._flights.join((cached, "bring", digest), lambda: self._fetch(cached, digest))

    async def _fetch(self, cached: Cached, digest: Digest) -> Stored:
        # Before a pull is spent, it is known that what it brings can be kept and who may have it.
        self._registry.check_writable()
        if await self._asking.known_shown(cached) is None:
            await self._head(cached, digest)
        fetched = await self._asking.ask(cached, f"GET {digest}", lambda upstream: upstream.get_manifest(digest), None)
        manifest = fetched.manifest
        named = frozenset(reference.digest for reference in manifest.references)
        await manifests.push(
            self._registry,
            ORIGIN,
            cached.repository,
            manifest.data,
            manifest.media_type,
            digest,
            (),
            may_lack=named,
        )
        stored = Stored(digest, manifest.media_type, manifest.data)
        for tag in sorted(self._awaited.get((cached, digest)) or ()):
            with contextlib.suppress(TagImmutable):
                await self._point(cached, tag, stored)
        return stored

    async def _await(self, cached: Cached, tag: str, digest: Digest) -> bool:
        """Whether the digest is here. If not, the tag is set when a client gets it."""
        # In this order: whoever brings it meanwhile either sees that the tag waits, or is seen to have brought it.
        waiting = self._awaited.get((cached, digest)) or frozenset()
        if len(waiting) < AWAITED_TAGS_MAX:
            self._awaited.put((cached, digest), waiting | {tag}, AWAITED_SECONDS)
        return await self._registry.db.read(manifests.has, cached.repository, digest)

    async def _point(self, cached: Cached, tag: str, brought: Stored) -> Stored:
        """Let the tag point at what upstream has; what is to be served under it. Raises `TagImmutable`."""

        async def write() -> Stored | None:
            self._registry.check_writable()
            return await self._registry.db.write(_follow, self._registry, cached, tag, brought.digest)

        try:
            pointed_at = await self._flights.join((cached, "point", tag, brought.digest), write)
        except TagImmutable:
            raise
        except _NOT_KEPT as error:  # The manifest is here, and upstream says that the tag leads to it.
            self._log.warning("cache.unkept", repository=cached.repository, tag=tag, error=str(error))
            return brought
        return pointed_at or brought

    async def _renew(self, repository: str, digest: Digest) -> None:
        """What is pulled by its digest alone, as Swarm does, stays while that goes on."""
        rules = self._registry.rules
        if rules.read_only is None and self._renewed.get((repository, digest)) is None:
            self._renewed.put((repository, digest), True, rules.keep_renewal_seconds)
            await self._jot(blobs.renew, self._registry, repository, digest)

    # --- referrers and blobs ------------------------------------------------------------------------------------

    async def _bring_all(self, cached: Cached, subject: Digest) -> str:
        """Bring the referrers of the subject; a warning, or nothing where all came."""
        try:
            # Who may have them is found out for each by itself.
            found = await self._asking.ask(
                cached, f"referrers {subject}", lambda upstream: upstream.referrers(subject), None
            )
        except Unanswered as failed:
            return f"{failed}; these are the referrers that are here"
        lacking = len(found[REFERRERS_MAX:])
        for referrer in found[:REFERRERS_MAX]:
            try:
                await self._bring(cached, referrer.descriptor.digest)
            except (Unanswered, *_NOT_KEPT) as error:
                lacking += 1
                self._log.warning("cache.unkept", repository=cached.repository, error=str(error))
        warning = f"of the referrers that {cached.source.host} has, {lacking} are not here" if lacking else ""
        seconds = INCOMPLETE_SECONDS if lacking else self._settings.fresh_for
        self._brought.put((cached, subject), warning, seconds)
        return warning

    async def _upstream_size(self, cached: Cached, digest: Digest) -> int:
        async def question(upstream: UpstreamRepository) -> int:
            size = await upstream.blob_size(digest)
            if size is None:
                raise NotFound(f"{upstream}: has no {digest}", status=404)
            return size

        return await self._asking.ask(cached, f"blob {digest}", question, _blob_shown(digest), seconds=HEAD_SECONDS)

    # --- names --------------------------------------------------------------------------------------------------

    def _find(self, repository: str) -> Cached | None:
        source = addresses.cached_source(repository, self._hosts)
        if source is None:
            return None
        try:
            name = addresses.cached_at(source)
        except NameInvalid:
            return None
        for pattern in self._skip:
            if any(patterns.matches(pattern, each) for each in (repository, name, source.repository)):
                return None
        return Cached(name, source)

    def _cached(self, repository: str) -> Cached:
        cached = self._find(repository)
        if cached is None:
            raise NameUnknown(repository)
        return cached

    async def _jot(self, fact: Callable[Concatenate[Transaction, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Write what is worth little: a client is served all the same where that fails."""
        try:
            await self._registry.db.jot(fact, *args, **kwargs)
        except DatabaseError as error:
            self._log.warning("cache.forgetful", error=str(error))


# --- questions --------------------------------------------------------------------------------------------------


async def _list(upstream: UpstreamRepository) -> list[str]:
    found: set[str] = set()
    async for tag in upstream.tags():
        found.add(tag)
        if len(found) > TAGS_MAX:
            raise BadAnswer(f"{upstream}: has more than {TAGS_MAX} tags")
    return sorted(found)


def _blob_shown(digest: Digest) -> Shown:
    async def shown(everybody: UpstreamRepository) -> bool:
        return await everybody.blob_size(digest) is not None

    return shown


# --- facts ------------------------------------------------------------------------------------------------------


def _look(tx: Transaction, cached: Cached, tag: str) -> _Here:
    return _Here(
        manifests.by_tag(tx, cached.repository, tag),
        origins.find(tx, cached.repository, tag),
        sightings.of_tags(tx, cached.source, [tag]).get(tag),
    )


def _follow(tx: Transaction, registry: Registry, cached: Cached, tag: str, digest: Digest) -> Stored | None:
    """Let the tag point at what upstream was last seen to have, if it is the cache's; what it points at then."""
    here = _look(tx, cached, tag)
    stored, before = here.stored, here.origin
    if stored is not None and not freshness.may_move(stored.digest, before, cached.source):
        return stored  # Somebody has pushed it meanwhile.
    if here.seen is not None and here.seen.digest != digest:
        return stored  # Upstream has moved on meanwhile.
    if stored is not None and stored.digest == digest:
        return stored
    if not manifests.tag(tx, registry, ORIGIN, cached.repository, digest, tag):
        return stored
    # What is followed goes on being that: it does not go when nobody pulls it.
    is_followed = stored is not None and before is not None and before.image is None
    found_by = before.found_by if before is not None and is_followed else "cache"
    now = registry.clock.now()
    origins.record(tx, TagOrigin(cached.repository, tag, cached.source, tag, digest, found_by, None, now))
    return manifests.by_digest(tx, cached.repository, digest)
