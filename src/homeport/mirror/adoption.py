"""Finding out which tags of ours are an upstream's, where nobody wrote it down: content that scripts pushed.

Holds: a name alone proves nothing. A tag is an upstream's if the name that scripts would have given it is one there
**and** upstream has its digest: the manifest's own, or that of its configuration, which `docker pull` and `docker push`
keep while they make a manifest anew. What upstream never had is our own, and that is no failure. No pull is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from homeport import events
from homeport.client.errors import ClientError, Refused
from homeport.clock import Clock
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.jobs.summary import Failure
from homeport.mirror import addresses, holdings, origins
from homeport.mirror.addresses import Source
from homeport.mirror.answering import Answering
from homeport.mirror.origins import TagOrigin
from homeport.oci import companions, mediatype
from homeport.oci import manifest as oci_manifest
from homeport.oci.digest import Digest
from homeport.registry import manifests
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import Purpose, UpstreamRepository, Upstreams

#: How upstreams say that there is no such repository, or none for us.
_NOT_THERE = (401, 403, 404)
_PAGE = 500
#: What is smaller is no image's configuration but `{}`.
_CONFIG_BYTES_MIN = 16


@dataclass(frozen=True, slots=True)
class Adopted:
    """A tag of ours that turned out to be an upstream's, or `source` None: our own."""

    repository: str
    tag: str
    digest: Digest
    source: Source | None
    #: By which digest, or why not.
    why: str


class Adoption:
    """One search through what is here. `skip`: whether a repository of ours is none of it."""

    def __init__(
        self,
        registry: Registry,
        upstreams: Upstreams,
        hosts: Mapping[str, str],
        skip: Callable[[str], bool],
        answering: Answering | None = None,
    ) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._hosts = hosts
        self._skip = skip
        self.failures: list[Failure] = []
        self._answering = answering or Answering()

    async def find(self) -> list[Adopted]:
        """Every tag that has no origin yet, and what it is."""
        found: list[Adopted] = []
        after = ""
        while page := await self._registry.db.read(holdings.repositories, after, _PAGE):
            for repository in page:
                if not self._skip(repository):
                    found += await self._of(repository)
            after = page[-1]
        return found

    async def _of(self, repository: str) -> list[Adopted]:
        tags = await self._registry.db.read(_without_origin, repository)
        source = addresses.guessed_source(repository, self._hosts)
        if source is None or not tags:
            return []
        try:
            with self._answering.asking(source.host):
                upstream = await self._upstreams.repository(*source, Purpose.RUNS)
                return [await self._tag(repository, tag, digest, source, upstream) for tag, digest in tags.items()]
        except ClientError as error:
            self.failures.append(Failure(repository, str(error)))
            return []

    async def _tag(
        self, repository: str, tag: str, digest: Digest, source: Source, upstream: UpstreamRepository
    ) -> Adopted:
        try:
            if await upstream.head_manifest(digest) is not None:
                return Adopted(repository, tag, digest, source, f"upstream has {digest}")
            config = await self._registry.db.read(_config, repository, digest)
            if config is not None and await upstream.has_blob(config):
                return Adopted(repository, tag, digest, source, f"upstream has its configuration {config}")
        except Refused as error:
            if error.status not in _NOT_THERE:
                raise
            return Adopted(repository, tag, digest, None, f"{source} is nothing that upstream shows")
        return Adopted(repository, tag, digest, None, f"{source} does not have it")


def origins_of(found: Iterable[Adopted], now: float) -> list[TagOrigin]:
    """What would be written down of those that are an upstream's."""
    return [
        TagOrigin(each.repository, each.tag, each.source, each.tag, each.digest, "name", None, now)
        for each in found
        if each.source is not None
    ]


def record(tx: Transaction, found: list[Adopted], now: float) -> int:
    """Write down those that are an upstream's, if they are still what they were; how many."""
    count = 0
    for each in origins_of(found, now):
        if holdings.tags(tx, each.repository).get(each.tag) == each.digest:
            origins.record(tx, each)
            count += 1
    return count


def adopt(tx: Transaction, clock: Clock, origin: Origin, found: list[Adopted]) -> int:
    """A person has it written down; how many tags."""
    count = record(tx, found, clock.now())
    if count:
        events.append(tx, clock, "mirror.adopted", origin, reason=f"{count} tags")
    return count


def _without_origin(tx: Transaction, repository: str) -> dict[str, Digest]:
    known = origins.of_repository(tx, repository)
    here = holdings.tags(tx, repository)
    return {tag: digest for tag, digest in here.items() if tag not in known and companions.subject(tag) is None}


def _config(tx: Transaction, repository: str, digest: Digest) -> Digest | None:
    """The configuration of an image; None for an index, and for artifacts, whose empty one everybody has."""
    stored = manifests.by_digest(tx, repository, digest)
    if stored is None:
        return None
    config = oci_manifest.parse(stored.data, stored.media_type).config
    if config is None or config.media_type not in mediatype.CONFIGS or config.size < _CONFIG_BYTES_MIN:
        return None
    return config.digest
