"""One door to every secret: references in, values out; what a vault said is remembered for a while.

Holds:
- values are in memory only, and no `repr` shows one;
- a vault's value, once read, serves on while it cannot be read again; that is told once, and once more when it can;
- at most one question at a time to each vault, and never one to a vault that nothing in use refers to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from homeport.client.transport import Transport
from homeport.clock import Clock
from homeport.config import SecretReference, Secrets

#: Tells the audit log: the kind of the event, and its reason.
Tell = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a reference leads to a secret. Never the secret."""

    reference: str
    ok: bool
    #: Where it comes from, in words.
    source: str
    problem: str | None


class SecretStore:
    """Every secret that a reference can lead to."""

    def __init__(
        self, clock: Clock, environ: Mapping[str, str], transport: Transport, *, settings: Secrets, tell: Tell
    ) -> None:
        #: Called when a vault's value that is in use was read for the first time or has changed.
        self.on_change: Callable[[], None] = lambda: None
        raise NotImplementedError

    def use(self, references: Iterable[SecretReference]) -> None:
        """These are in use from now on: they are kept fresh, and others are forgotten."""
        raise NotImplementedError

    async def get(self, reference: SecretReference) -> str:
        """The secret; of a vault's, what was last read. Raises `SecretUnavailable`."""
        raise NotImplementedError

    def held(self, reference: SecretReference) -> str | None:
        """The secret, if it is here now: a vault is not asked."""
        raise NotImplementedError

    def values(self) -> frozenset[str]:
        """Every secret that is in memory, for those who take secrets out of texts."""
        raise NotImplementedError

    async def refresh(self) -> None:
        """Read anew every vault's secret that is in use. Raises nothing: what cannot be read is told."""
        raise NotImplementedError

    async def run(self) -> None:
        """Refresh again and again, until cancelled."""
        raise NotImplementedError

    async def check(self, references: Iterable[SecretReference]) -> list[Checked]:
        """For each reference, in order, whether its secret can be read now, asking the vaults."""
        raise NotImplementedError

    def reconfigure(self, settings: Secrets) -> None:
        """Take over other settings. What was read stays until it is read anew."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of threads and values."""
        raise NotImplementedError
