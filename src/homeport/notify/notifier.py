"""Telling the targets: each at its own pace, in the order of the log, until it was taken or given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from homeport.client.transport import Transport
from homeport.clock import Clock
from homeport.config import SecretReference
from homeport.db.database import Database
from homeport.events import Event, Origin
from homeport.notify.sent import Sent
from homeport.notify.targets import Target
from homeport.observe import Log


class Secrets(Protocol):
    """What is asked of the secret store."""

    async def get(self, reference: SecretReference) -> str:
        """The value. Raises `SecretUnavailable`."""

    def values(self) -> frozenset[str]:
        """Every value that is held now."""


class Notifier:
    """Tells targets what happens. `database` may be None for `send_once`."""

    def __init__(
        self,
        database: Database | None,
        clock: Clock,
        transport: Transport,
        secrets: Secrets,
        log: Log,
        *,
        server_url: Callable[[], str],
        busy: Callable[[], bool],
        environ: Mapping[str, str],
    ) -> None:
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the targets, in the order of the configuration."""
        raise NotImplementedError

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets, in the order of the configuration."""
        raise NotImplementedError

    async def reconfigure(self, targets: Iterable[Target]) -> None:
        """Let these be the targets from now on."""
        raise NotImplementedError

    async def step(self, name: str) -> bool:
        """Do the next thing for one target; whether there was anything to do now."""
        raise NotImplementedError

    async def run_until_idle(self) -> None:
        """Until no target has anything to do now."""
        raise NotImplementedError

    async def run(self) -> None:
        """Tell the targets until cancelled."""
        raise NotImplementedError

    async def test(self, name: str, origin: Origin) -> Sent:
        """Send a sample, once. Raises `TargetUnknown`."""
        raise NotImplementedError

    async def send_once(self, event: Event) -> list[tuple[str, Sent]]:
        """Tell the targets that match of an event that is in no database, once, all at the same time."""
        raise NotImplementedError
