"""One door to every secret: references in, values out; what a vault said is remembered for a while.

Holds:
- values are in memory only, and no `repr` shows one;
- a vault's value, once read, serves on while it cannot be read again; that is told once, and once more when it can;
- a vault is asked by one at a time, and one that just failed is not asked again at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from homeport.client.transport import Transport
from homeport.clock import Clock, Threads
from homeport.config.errors import SecretUnreadable
from homeport.config.references import SecretReference
from homeport.config.settings import Secrets
from homeport.secretstore.bw import BitwardenProgram
from homeport.secretstore.errors import SecretUnavailable
from homeport.secretstore.items import Found
from homeport.secretstore.vaultwarden import Vaultwarden

#: How long a vault may take for all that it is asked at once: a login, its items, and deriving the key.
ANSWER_SECONDS_MAX = 120.0

#: So long after a failure a vault is left alone by those who want a value now; and the first pause of the refresh.
RETRY_SECONDS = 10.0

#: Tells the audit log: the kind of the event, and its reason.
Tell = Callable[[str, str], Awaitable[None]]


class Vault(Protocol):
    """What is asked for the secrets of one kind of reference."""

    async def read(self, references: Iterable[SecretReference]) -> Found:
        """The secret of each, or why there is none. Raises `SecretUnavailable` if none can be had."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a reference leads to a secret. Never the secret."""

    reference: str
    ok: bool
    #: Where it comes from, in words.
    source: str
    problem: str | None


@dataclass(slots=True)
class _Entry:
    """What is known of one secret of a vault."""

    value: str | None = field(default=None, repr=False)
    #: When it was last asked for (monotonic), and why that failed, if it did.
    asked_at: float = -math.inf
    problem: str | None = None
    #: Whether the problem was told.
    told: bool = False


class SecretStore:
    """Every secret that a reference can lead to."""

    def __init__(
        self, clock: Clock, environ: Mapping[str, str], transport: Transport, *, settings: Secrets, tell: Tell
    ) -> None:
        #: Called when a vault's value that is in use was read for the first time or has changed.
        self.on_change: Callable[[], None] = lambda: None
        self._clock = clock
        self._environ = environ
        self._transport = transport
        self._tell = tell
        self._threads: Threads | None = None
        self._settings = settings
        self._vaults = self._opened(settings)
        self._in_use: frozenset[SecretReference] = frozenset()
        self._entries: dict[SecretReference, _Entry] = {}
        #: Local secrets as they were last read. They are read anew at each use; this is for `values`.
        self._read: dict[SecretReference, str] = {}
        self._turns = {kind: asyncio.Lock() for kind in ("vault", "bw")}
        self._woken = asyncio.Event()

    def use(self, references: Iterable[SecretReference]) -> None:
        """These are in use from now on: they are kept fresh, and others are forgotten."""
        self._in_use = frozenset(references)
        self._entries = {each: entry for each, entry in self._entries.items() if each in self._in_use}
        self._woken.set()

    async def get(self, reference: SecretReference) -> str:
        """The secret; of a vault's in use, what was last read. Raises `SecretUnavailable`."""
        if reference.is_local:
            return self._read_local(reference)
        entry = self._entries.get(reference)
        if entry is None or entry.value is None or reference not in self._in_use:
            fresh_seconds = RETRY_SECONDS if entry is None or entry.problem else self._settings.refresh_seconds
            entry = (await self._ask([reference], fresh_seconds))[reference]
        if entry.value is None:
            raise SecretUnavailable(f"{reference}: {entry.problem}")
        return entry.value

    def held(self, reference: SecretReference) -> str | None:
        """The secret; None where a vault has not given it yet. Raises `SecretUnreadable` of one that is local."""
        if reference.is_local:
            self._read[reference] = value = reference.read(self._environ)
            return value
        entry = self._entries.get(reference)
        return entry.value if entry else None

    def values(self) -> frozenset[str]:
        """Every secret that is in memory, for those who take secrets out of texts."""
        return frozenset([*self._read.values(), *(entry.value for entry in self._entries.values() if entry.value)])

    async def refresh(self) -> None:
        """Read anew every vault's secret that is in use. What cannot be read is told, and raises nothing."""
        await self._ask([each for each in self._in_use if not each.is_local], 0.0)

    async def run(self) -> None:
        """Refresh again and again, until cancelled. One that fails is tried again sooner, then ever later."""
        failures = 0
        while True:
            self._woken.clear()
            await self.refresh()
            problems = any(entry.problem for entry in self._entries.values())
            failures = failures + 1 if problems else 0
            pause = RETRY_SECONDS * 2.0 ** min(failures - 1, 16) if problems else self._settings.refresh_seconds
            try:
                async with self._clock.timeout(min(pause, self._settings.refresh_seconds)):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def check(self, references: Iterable[SecretReference]) -> list[Checked]:
        """For each reference, in order, whether its secret can be read now, asking the vaults."""
        references = list(references)
        entries = await self._ask([each for each in references if not each.is_local], RETRY_SECONDS)
        return [self._checked(each, entries.get(each)) for each in references]

    def reconfigure(self, settings: Secrets) -> None:
        """Take over other settings. What was read stays until it is read anew."""
        if (settings.vaultwarden, settings.bw) != (self._settings.vaultwarden, self._settings.bw):
            self._vaults = self._opened(settings)
            for entry in self._entries.values():
                entry.asked_at = -math.inf  # Not of these vaults.
        self._settings = settings
        self._woken.set()

    def close(self) -> None:
        """Let go of the thread and of every value."""
        self._entries.clear()
        self._read.clear()
        if self._threads is not None:
            self._threads.close()

    def _opened(self, settings: Secrets) -> dict[str, Vault]:
        vaults: dict[str, Vault] = {"bw": BitwardenProgram(settings.bw, self._clock, self._environ, self._read_local)}
        if settings.vaultwarden is not None:
            self._threads = self._threads or self._clock.threads("vault", 1)
            vaults["vault"] = Vaultwarden(
                settings.vaultwarden, self._transport, self._clock, self._threads, self._read_local
            )
        return vaults

    def _read_local(self, reference: SecretReference) -> str:
        """What the vaults are opened with, and `get` gives. Raises `SecretUnavailable`."""
        try:
            self._read[reference] = value = reference.read(self._environ)
        except SecretUnreadable as error:
            raise SecretUnavailable(str(error)) from None
        return value

    async def _ask(
        self, references: Collection[SecretReference], fresh_seconds: float
    ) -> dict[SecretReference, _Entry]:
        """An entry for each that is not older than `fresh_seconds`, or was asked for now."""
        entries: dict[SecretReference, _Entry] = {}
        for kind, turn in self._turns.items():
            wanted = [each for each in references if each.kind == kind]
            async with turn:
                # Held on to: while the vault is asked, `use` may forget them.
                mine = {each: self._entries.setdefault(each, _Entry()) for each in wanted}
                since = self._clock.monotonic() - fresh_seconds
                stale = {each: entry for each, entry in mine.items() if entry.asked_at <= since}
                if stale:
                    for event, reason in self._take_over(stale, await self._read_from(kind, stale)):
                        await self._tell(event, reason)
                entries |= mine
        return entries

    async def _read_from(self, kind: str, references: Iterable[SecretReference]) -> Found:
        vault = self._vaults.get(kind)
        try:
            if vault is None:
                raise SecretUnavailable("no vault is known: say with 'secrets.vaultwarden' which")
            async with self._clock.timeout(ANSWER_SECONDS_MAX):
                return await vault.read(references)
        except SecretUnavailable as error:
            return dict.fromkeys(references, error)
        except TimeoutError:
            problem = SecretUnavailable(f"the vault did not answer within {ANSWER_SECONDS_MAX:.0f} seconds")
            return dict.fromkeys(references, problem)

    def _take_over(self, entries: Mapping[SecretReference, _Entry], found: Found) -> list[tuple[str, str]]:
        """Remember what was found; what to tell of it: problems by their reason, each once until it is gone."""
        now = self._clock.monotonic()
        changed = False
        failed: dict[str, list[str]] = {}
        restored = []
        for reference, entry in entries.items():
            result = found[reference]
            entry.asked_at = now
            if isinstance(result, SecretUnavailable):
                entry.problem = str(result)
                if reference in self._in_use and not entry.told:
                    entry.told = True
                    failed.setdefault(entry.problem, []).append(str(reference))
                continue
            changed = changed or (reference in self._in_use and entry.value != result)
            if entry.told:
                restored.append(str(reference))
            entry.value, entry.problem, entry.told = result, None, False
        if changed:
            self.on_change()
        told = [("secret.unavailable", f"{', '.join(sorted(names))}: {problem}") for problem, names in failed.items()]
        return [*told, ("secret.restored", ", ".join(sorted(restored)))] if restored else told

    def _checked(self, reference: SecretReference, entry: _Entry | None) -> Checked:
        problem = entry.problem if entry else None
        if reference.is_local:
            try:
                self._read_local(reference)
            except SecretUnavailable as error:
                problem = str(error)
        return Checked(str(reference), problem is None, self._source(reference), problem)

    def _source(self, reference: SecretReference) -> str:
        vault = self._settings.vaultwarden
        match reference.kind:
            case "env":
                return f"environment variable {reference.name}"
            case "file":
                return f"file {reference.name}"
            case "bw":
                return f"item of the vault that {self._settings.bw.program} has opened"
            case _:
                return f"item of the vault at {vault.url}" if vault else "item of a vault"
