"""A registry that caches the scripted upstream."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.clock import Deadline
from homeport.config import mirroring as config
from homeport.config.settings import Secrets
from homeport.mirror import addresses, origins, sightings
from homeport.mirror.addresses import Source
from homeport.mirror.cache import Cache, Served
from homeport.mirror.fetching import Fetch, Fetches
from homeport.mirror.origins import FoundBy, TagOrigin
from homeport.mirror.publicity import Publicity
from homeport.mirror.sightings import Sighting
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.registry import blobs, privacy
from homeport.registry.blobs import Blob
from homeport.secretstore.store import SecretStore
from homeport.storage.blobstore import BlobStore
from homeport.testing.blobstore_suite import content
from homeport.upstreams.upstreams import Upstreams
from tests.client.images import Image
from tests.garbage.cleaning import Cleaning
from tests.mirror.upstream import Upstream
from tests.registry.world import MovableClock

NAME = "library/alpine"
MINUTE, DAY = 60.0, 86_400.0


class HastyClock(MovableClock):
    """Whoever sleeps has slept at once, and the time has passed."""

    #: So many times faster than it should be, a deadline comes.
    hurry = 1.0

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.ahead += seconds
        await asyncio.sleep(0)

    def timeout(self, seconds: float) -> Deadline:
        return super().timeout(seconds / self.hurry)


class Caching(Cleaning):
    """A registry with a cache of `upstream`, as one process has them."""

    clock: HastyClock
    cache: Cache
    upstreams: Upstreams

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        self.upstream = upstream
        self.source = Source(upstream.host, NAME)
        #: Our name for it.
        self.name = addresses.cached_at(self.source)
        #: The same of another one.
        self.other = addresses.cached_at(Source(upstream.host, "library/other"))
        super().__init__(folder)

    def open(self) -> None:
        if not isinstance(self.clock, HastyClock):  # It goes on when the registry is opened anew.
            self.clock = HastyClock()
        super().open()

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, upstream: Upstream, *, login: bool = False) -> AsyncIterator[Caching]:
        """One that runs until the block ends. `login`: it logs in at the upstream."""
        caching = cls(folder, upstream)
        try:
            async with caching.serving(login=login):
                yield caching
        finally:
            await caching.close()

    @asynccontextmanager
    async def serving(self, *, login: bool = False) -> AsyncIterator[None]:
        """The cache of this process."""
        async with AsyncExitStack() as stack:
            log = Log(self.said, self.clock)
            transport = await stack.enter_async_context(Transport(ClientSettings(), self.clock))

            async def tell(kind: str, reason: str) -> None: ...

            self._environ = {"UPSTREAM_PASSWORD": self.upstream.password}
            secrets = SecretStore(self.clock, self._environ, transport, settings=Secrets(), tell=tell)
            stack.callback(secrets.close)
            known: dict[str, Any] = {"username": self.upstream.user, "password": "env:UPSTREAM_PASSWORD"}
            settings = {self.upstream.host: config.Upstream.model_validate(known if login else {})}
            self.upstreams = Upstreams(self.registry.db, self.clock, transport, secrets, settings)
            fetches = await stack.enter_async_context(Fetches(self.registry, log))
            publicity = Publicity(self.registry, self.upstreams)
            self.cache = await stack.enter_async_context(Cache(self.registry, self.upstreams, publicity, fetches, log))
            self.set()
            yield

    def set(self, *, skip: tuple[str, ...] = (), **settings: object) -> None:
        """Configure the cache."""
        found = config.Cache.model_validate({"upstreams": [self.upstream.host], **settings})
        self.cache.reconfigure(found, skip)

    def lose_password(self) -> None:
        """Its login cannot be read any more."""
        self._environ.clear()

    # --- what a client does -------------------------------------------------------------------------------------

    async def get(self, reference: str, name: str | None = None) -> Served:
        return await self.cache.manifest(name or self.name, reference, head=False)

    async def head(self, reference: str, name: str | None = None) -> Served:
        return await self.cache.manifest(name or self.name, reference, head=True)

    async def read(self, digest: Digest, name: str | None = None) -> bytes:
        """All bytes of a blob, wherever they are."""
        return await read(self.registry.blobs, await self.cache.blob(name or self.name, digest))

    async def fetch(self, image: Image, reference: str | None = None, name: str | None = None) -> None:
        """Pull the image as a client does, and look at every byte."""
        served = await self.get(reference or image.digest, name)
        assert (served.stored.digest, served.stored.data) == (image.digest, image.pushed.manifest.data)
        for child in image.children:
            await self.fetch(child, None, name)
        for blob in image.blobs:
            assert await self.read(blob.blob.digest, name) == blob.data

    # --- looking ------------------------------------------------------------------------------------------------

    async def origin(self, tag: str) -> TagOrigin | None:
        return await self.registry.db.read(origins.find, self.name, tag)

    async def record(self, tag: str, digest: Digest, found_by: FoundBy, image: str | None) -> None:
        """Have it written down that the tag came so."""
        now = self.clock.now()
        origin = TagOrigin(self.name, tag, self.source, tag, digest, found_by, image, now)
        await self.registry.db.write(origins.record, origin)

    async def sighting(self, tag: str) -> Sighting | None:
        return (await self.registry.db.read(sightings.of_tags, self.source, [tag])).get(tag)

    async def is_private(self) -> bool:
        return await self.registry.db.read(privacy.is_private, self.name)

    async def holds(self, digest: Digest, name: str | None = None) -> bool:
        return await self.registry.db.read(blobs.find, name or self.name, digest) is not None

    def lines(self) -> str:
        """The log."""
        assert isinstance(self.said, io.StringIO)
        return self.said.getvalue()


async def read(store: BlobStore, found: Blob | Fetch) -> bytes:
    """All bytes."""
    if isinstance(found, Blob):
        return await content(store, found.location)
    return b"".join([chunk async for chunk in found.read(0, found.size)])
