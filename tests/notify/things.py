"""Events, targets and a database for the tests of notifications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeport import events
from homeport.clock import Clock, SystemClock
from homeport.config import SecretReference
from homeport.db.database import Transaction
from homeport.events import Event, Origin
from homeport.notify.targets import Target
from homeport.secretstore.errors import SecretUnavailable

ADA = Origin("ada", "192.0.2.1", "request-1")
DIGEST = "sha256:" + "a" * 64
SERVER = "https://registry.lan"


class MovableClock(SystemClock):
    """The machine's clock, and a hand that can be moved; it draws always the same."""

    def __init__(self) -> None:
        self.moved = 0.0

    def now(self) -> float:
        return super().now() + self.moved

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


class KnownSecrets:
    """A secret store that holds these values, or cannot be asked."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.known = dict(values or {})

    async def get(self, reference: SecretReference) -> str:
        try:
            return self.known[str(reference)]
        except KeyError:
            raise SecretUnavailable(f"{reference}: the vault does not answer") from None

    def values(self) -> frozenset[str]:
        return frozenset(self.known.values())
