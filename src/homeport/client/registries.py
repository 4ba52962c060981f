"""All registries that a process talks to, over one set of connections."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from homeport.client.credentials import CredentialSource
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.clock import Clock
from homeport.oci.reference import Reference


class Registries:
    """Registries by the host of a reference. `async with` opens and closes the connections."""

    def __init__(self, settings: ClientSettings, credentials: CredentialSource, clock: Clock) -> None:
        self._credentials = credentials
        self._transport = Transport(settings, clock)
        self._remotes: dict[str, Remote] = {}

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)

    async def remote(self, host: str) -> Remote:
        """The registry of that name, with its login where one is known. That is looked up once."""
        if host not in self._remotes:
            credential = await self._credentials.find(host)
            self._remotes.setdefault(host, Remote(host, self._transport, credential))
        return self._remotes[host]

    async def repository(self, reference: Reference) -> RemoteRepository:
        """The repository that a reference names."""
        return RemoteRepository(await self.remote(reference.host), reference.repository)
