"""Events, targets and a database for the tests of notifications."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from homeport import events
from homeport.client.transport import Transport
from homeport.clock import Clock, SystemClock
from homeport.config.references import SecretReference
from homeport.config.settings import Secrets
from homeport.db.database import Database, Transaction
from homeport.events import Event, Origin
from homeport.notify.notifier import Notifier
from homeport.notify.targets import Target
from homeport.observe import Log
from homeport.secretstore.store import SecretStore

ADA = Origin("ada", "192.0.2.1", "request-1")
DIGEST = "sha256:" + "a" * 64
SERVER = "https://registry.lan"


class MovableClock(SystemClock):
    """The machine's clock, and a hand that can be moved; it draws always the same."""

    def __init__(self) -> None:
        self.moved = 0.0

    def now(self) -> float:
        return super().now() + self.moved

    def monotonic(self) -> float:
        return super().monotonic() + self.moved

    def random(self) -> float:
        return 0.5


def event(kind: str = "tag.set", event_id: int = 7, **more: Any) -> Event:
    """An event as the log gives it."""
    subject = {"repository": "team/app", "digest": DIGEST, "tag": None, "reason": None, "run": "request-1"}
    return Event(event_id, 1_700_000_000.25, kind, "ada", "192.0.2.1", **{**subject, **more})


def append(tx: Transaction, /, clock: Clock, kind: str = "tag.set", *, origin: Origin = ADA, **subject: Any) -> None:
    events.append(tx, clock, kind, origin, **subject)


def target(name: str = "ops", url: str | SecretReference = "http://127.0.0.1:1/hook", **more: Any) -> Target:
    """A target that is told of everything."""
    return Target(name, url, **{"on": ("*",), "format": "standard", **more})


def secret_store(clock: Clock, transport: Transport, environ: Mapping[str, str] | None = None) -> SecretStore:
    """The secrets of an environment; there is no vault."""

    async def tell(kind: str, reason: str) -> None:
        raise AssertionError((kind, reason))

    return SecretStore(clock, {} if environ is None else environ, transport, settings=Secrets(), tell=tell)


def notifier_on(
    database: Database | None,
    clock: Clock,
    transport: Transport,
    secrets: SecretStore | None = None,
    *,
    log: TextIO | None = None,
    busy: Callable[[], bool] = lambda: False,
) -> Notifier:
    """A notifier of the registry at `SERVER`."""
    return Notifier(
        database,
        clock,
        transport,
        secrets or secret_store(clock, transport),
        Log(log or io.StringIO(), clock),
        server_url=lambda: SERVER,
        busy=busy,
        environ={},
    )
