"""Building what talks to upstream registries: the ways to them, the fetches, the cache, and what a run works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from homeport.client.transport import Transport
from homeport.config.settings import Settings
from homeport.db.database import DatabaseError
from homeport.mirror.cache import Cache
from homeport.mirror.fetching import Fetches
from homeport.mirror.publicity import Publicity
from homeport.mirror.run import Parts
from homeport.observe import Log
from homeport.registry.registry import Registry
from homeport.secretstore.store import SecretStore
from homeport.upstreams.upstreams import Upstreams

#: How often what was learned of quotas is written down.
FLUSH_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Upstreaming:
    """What of a process talks to upstream registries."""

    upstreams: Upstreams
    fetches: Fetches
    parts: Parts
    cache: Cache
    log: Log

    def reconfigure(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        self.upstreams.reconfigure(settings.upstreams)
        self.cache.reconfigure(settings.cache, settings.mirror.skip)

    @classmethod
    async def open(
        cls,
        registry: Registry,
        transport: Transport,
        secrets: SecretStore,
        log: Log,
        settings: Callable[[], Settings],
        may_delete: Callable[[], Awaitable[bool]],
        stack: AsyncExitStack,
    ) -> Upstreaming:
        """Build it; `stack` takes it down. It asks nobody before `reconfigure` says how."""
        ways = Upstreams(registry.db, registry.clock, transport, secrets, {})
        fetches = await stack.enter_async_context(Fetches(registry, log))
        publicity = Publicity(registry, ways)
        parts = Parts(registry, ways, fetches, publicity, may_delete, settings)
        cache = await stack.enter_async_context(Cache(registry, ways, publicity, fetches, log))
        upstreaming = cls(ways, fetches, parts, cache, log)
        stack.push_async_callback(upstreaming.flush)
        return upstreaming

    async def flush(self) -> None:
        """Write down what is left of quotas, for other processes and for people who ask."""
        try:
            await self.upstreams.flush()
        except DatabaseError as error:
            self.log.warning("quotas.waiting", error=str(error))
