"""What every handler is handed beside the request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from homeport.auth.actors import ANONYMOUS, Actor
from homeport.auth.logins import Logins
from homeport.auth.networks import Networks
from homeport.auth.permissions import Policy
from homeport.events import Origin
from homeport.observe import Counters, Log
from homeport.registry.pulls import Pulls
from homeport.registry.registry import Registry
from homeport.registry.uploads import Sessions
from homeport.server.http import AsgiApplication, Request
from homeport.server.pullthrough import PullThrough

#: Under this name the `Passage` of a request stands in its ASGI scope, for an application that is mounted.
PASSAGE: Final = "homeport.passage"


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of the server that handlers look at. Replaced as a whole when the configuration is read again."""

    #: The address under which clients reach this server, where it can't be seen from their requests.
    url: str | None = None
    trusted_proxies: Networks = ()
    manifest_bytes_max: int = 4 * 1024 * 1024
    page_entries_max: int = 10_000
    header_bytes_max: int = 64 * 1024
    body_idle_seconds: float = 300.0
    #: The programs whose pulls do not count, as globs of their User-Agent.
    not_pulls: tuple[str, ...] = ()
    #: The registries whose repositories are served as ours: their hosts, and the first parts of our names for them.
    upstreams: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Context:
    """The parts of the program that answer requests."""

    registry: Registry
    logins: Logins
    log: Log
    #: What can be asked of the machine just now, for `/metrics` and `/readyz`; name to value.
    gauges: Callable[[], dict[str, float]]
    options: Options
    sessions: Sessions = field(default_factory=Sessions)
    pulls: Pulls = field(default_factory=Pulls)
    counters: Counters = field(default_factory=Counters)
    #: The administration API, which answers below `/api/` (`server/api/application.py`); None where there is none.
    api: AsgiApplication | None = None
    #: Who fetches what is not here, of repositories of other registries; None where nobody does.
    cache: PullThrough | None = None
    #: Set while the server finishes what it has and takes nothing new.
    draining: bool = False

    @property
    def policy(self) -> Policy:
        """Who may do what, as the configuration says now."""
        return self.logins.policy


class Handled:
    """What became of a request, for its log line and the counters."""

    __slots__ = ("actor", "bytes", "error", "route", "status")

    def __init__(self) -> None:
        self.route = "none"
        self.actor = ANONYMOUS
        #: 0 until an answer is on its way: the client was gone before.
        self.status = 0
        self.bytes = 0
        self.error: str | None = None


class Passage(NamedTuple):
    """A request on its way through an application that is mounted, which notes in `handled` what it learns of it."""

    request: Request
    handled: Handled


class Call(NamedTuple):
    """One request to the registry protocol, by somebody who is known."""

    context: Context
    request: Request
    actor: Actor
    repository: str
    #: The tag, digest or upload id of the path; empty where it has none.
    reference: str
    #: What stands before the repository in the path under which the client reached it.
    base: str = "/v2"
    #: Whether it came in at the mirror door, where nobody logs in.
    at_door: bool = False

    @property
    def cache(self) -> PullThrough | None:
        """Who fetches what the repository lacks, if somebody does."""
        cache = self.context.cache
        return cache if cache is not None and cache.covers(self.repository) else None

    @property
    def registry(self) -> Registry:
        return self.context.registry

    @property
    def origin(self) -> Origin:
        """Who is to stand in the audit log for what this request changes."""
        return Origin(str(self.actor), self.request.address, self.request.id)
