"""One way to each upstream registry, for runs and for people: its login, its pace, and what is left of its quota.

Holds: a login is looked up when it is needed and goes to its own upstream only; a new one counts at once. What people
ask for never waits behind a run's requests, and a run stops before it takes the pulls that are left for people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from homeport.client.credentials import Credential
from homeport.client.errors import ClientError, Limit, LoginFailed, Refused
from homeport.client.gate import Gate, Pace
from homeport.client.remote import Remote
from homeport.client.repository import FetchedManifest, RemoteRepository
from homeport.client.retries import PATIENCE, Patience
from homeport.client.transport import Transport
from homeport.clock import Clock
from homeport.config import mirroring as config
from homeport.db.database import Database, DatabaseError
from homeport.secretstore.errors import SecretUnavailable
from homeport.secretstore.store import SecretStore
from homeport.upstreams import quotas
from homeport.upstreams.quotas import Budget

#: Somebody waits: better say soon that it does not work than be patient.
HURRY: Final = Patience(attempts=2, longest_wait_seconds=2.0, total_seconds=8.0)
#: How many requests people have under way at once at one upstream.
PEOPLE_AT_ONCE: Final = 64


class Purpose(StrEnum):
    """Who asks."""

    #: Somebody waits for the answer.
    PEOPLE = "people"
    #: A run, which has all night.
    RUNS = "runs"


class QuotaSpent(ClientError):
    """What is left of the upstream's quota is not for this purpose."""

    def __init__(self, text: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(text)
        #: After how long there are pulls again, where that is known.
        self.retry_after_seconds = retry_after_seconds


@dataclass(slots=True)
class _Way:
    """What is shared by all who ask one upstream, and what it was asked with last."""

    pace: Pace
    budget: Budget
    gates: dict[Purpose, Gate] = field(default_factory=dict)
    remotes: dict[tuple[Purpose, Credential | None], Remote] = field(default_factory=dict)


class Upstreams:
    """All upstreams of a process."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        transport: Transport,
        secrets: SecretStore,
        settings: Mapping[str, config.Upstream],
    ) -> None:
        self._db = db
        self._clock = clock
        self._transport = transport
        self._secrets = secrets
        self._settings = settings
        self._ways: dict[str, _Way] = {}
        self._loading = asyncio.Lock()
        self._loaded = False

    def reconfigure(self, settings: Mapping[str, config.Upstream]) -> None:
        """Ask as these settings say from now on; what is under way goes on."""
        self._settings = settings
        for host, way in self._ways.items():
            self._set(host, way)
            way.gates.clear()
            way.remotes.clear()

    def has_login(self, host: str) -> bool:
        """Whether we log in there."""
        return self._of(host).password is not None

    async def repository(self, host: str, name: str, purpose: Purpose, *, login: bool = True) -> UpstreamRepository:
        """A repository of an upstream. `login=False`: as everybody sees it. Raises `ClientError`."""
        credential = await self._credential(host) if login else None
        way = await self._way(host)
        key = (purpose, credential)
        if key not in way.remotes:
            if credential is not None:  # A login that is not used any more takes its tokens with it.
                way.remotes = {known: remote for known, remote in way.remotes.items() if known[1] in (None, credential)}
            way.remotes[key] = Remote(
                host,
                self._transport,
                credential,
                gate=self._gate(host, way, purpose),
                patience=PATIENCE if purpose is Purpose.RUNS else HURRY,
                # Without the login that others have, it is another quota that is spoken of.
                observe=way.budget.learned if credential is not None or not self.has_login(host) else None,
            )
        return UpstreamRepository(way.remotes[key], name, way.budget, purpose)

    async def budget(self, host: str) -> Budget:
        """What is left of the upstream's quota."""
        return (await self._way(host)).budget

    async def flush(self) -> None:
        """Write down what was learned of quotas."""
        for way in self._ways.values():
            standing = way.budget.take_change()
            if standing is not None:
                await self._db.jot(quotas.write, standing)

    def _of(self, host: str) -> config.Upstream:
        return self._settings.get(host) or config.Upstream()

    async def _credential(self, host: str) -> Credential | None:
        settings = self._of(host)
        if settings.password is None:
            return None
        try:
            return Credential(settings.username or "", await self._secrets.get(settings.password))
        except SecretUnavailable as error:
            raise LoginFailed(f"{host}: its login cannot be read: {error}", status=401) from None

    async def _way(self, host: str) -> _Way:
        await self._load()
        if host not in self._ways:
            self._open_way(host)
        return self._ways[host]

    def _open_way(self, host: str) -> _Way:
        self._ways[host] = way = _Way(Pace(self._clock), Budget(host, self._clock))
        self._set(host, way)
        return way

    def _set(self, host: str, way: _Way) -> None:
        settings = self._of(host)
        way.pace.requests_per_second = settings.requests_per_second
        way.pace.bytes_per_second = None if settings.bandwidth is None else float(settings.bandwidth)
        way.budget.reserve = settings.reserve

    def _gate(self, host: str, way: _Way, purpose: Purpose) -> Gate:
        if purpose not in way.gates:
            at_once = self._of(host).at_once if purpose is Purpose.RUNS else PEOPLE_AT_ONCE
            way.gates[purpose] = Gate(way.pace, at_once=at_once)
        return way.gates[purpose]

    async def _load(self) -> None:
        """Read once what an earlier process knew of quotas."""
        async with self._loading:
            if self._loaded:
                return
            try:
                known = await self._db.read(quotas.every)
            except DatabaseError:
                return
            self._loaded = True
            for standing in known:
                self._open_way(standing.host).budget.load(standing)


class UpstreamRepository(RemoteRepository):
    """A repository of an upstream, whose pulls are counted: reading a manifest is one, and nothing else is."""

    def __init__(self, remote: Remote, name: str, budget: Budget, purpose: Purpose) -> None:
        super().__init__(remote, name)
        self._budget = budget
        self._purpose = purpose

    async def get_manifest(self, target: str) -> FetchedManifest:
        """As every repository's; `QuotaSpent` where that would take a pull that is not ours to take."""
        budget = self._budget
        left = budget.left_for_runs if self._purpose is Purpose.RUNS else budget.remaining
        if left is not None and left <= 0:
            raise QuotaSpent(_spent(budget, self._purpose), retry_after_seconds=budget.wait_seconds)
        try:
            with budget.pull():
                return await super().get_manifest(target)
        except Refused as error:
            if error.limit is Limit.PULLS:
                budget.limited(error.retry_after_seconds)
            raise


def _spent(budget: Budget, purpose: Purpose) -> str:
    standing, remaining = budget.standing, budget.remaining
    most = standing.pulls_max if standing is not None else None
    of = "" if most is None else f" of {most}"
    if purpose is Purpose.RUNS and remaining:
        return f"{budget.host}: {remaining}{of} pulls are left, and a run leaves {budget.kept_for_people} for people"
    return f"{budget.host}: no pull{of} is left for now"
