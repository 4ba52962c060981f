"""Asking upstreams on behalf of people who wait: each question once at a time, and not again while the answer is known.

Holds:
- Whoever asks what is being asked already waits for the same answer; who leaves does not stop it.
- That upstream does not have something is remembered for a moment, and so is that it does not answer: none waits.
- An answer for which we logged in is given to nobody before it is known whether upstream shows the repository to
  everybody; where it does not, the repository of ours is private (`mirror/publicity.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias, TypeVar

from homeport.client.errors import ClientError, LoginFailed, NotFound
from homeport.mirror import troubles
from homeport.mirror.addresses import Source
from homeport.mirror.memory import Flights, Memory
from homeport.mirror.publicity import Publicity, Shown
from homeport.mirror.troubles import Failure, Kind, Trouble, Unanswered
from homeport.observe import Log
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import Purpose, UpstreamRepository, Upstreams

#: How long somebody waits for an answer, with all that is tried for it; and for one that has no body.
ANSWER_SECONDS: Final = 30.0
HEAD_SECONDS: Final = 10.0
#: So many troubles are remembered.
TROUBLES_MAX: Final = 10_000

#: An upstream that asks to be left alone is, but for no longer than this at once.
DOWN_SECONDS_MAX: Final = 60.0

#: The name of the question whether everybody may see a repository.
_SHOWN: Final = "shown"

T = TypeVar("T")
Question: TypeAlias = Callable[[UpstreamRepository], Awaitable[T]]


class Cached(NamedTuple):
    """A repository of ours, and the upstream's that it is the cache of."""

    repository: str
    source: Source


class Asking:
    """Questions to all upstreams."""

    def __init__(
        self, registry: Registry, upstreams: Upstreams, publicity: Publicity, log: Log, flights: Flights
    ) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._publicity = publicity
        self._log = log
        self._flights = flights
        #: What is wrong with a host, with one of its repositories, or with one thing in that.
        self._troubles: Memory[str | Source | tuple[Source, str], Trouble] = Memory(registry.clock, TROUBLES_MAX)
        self._absent_seconds = 0.0
        self._offline = False

    def reconfigure(self, *, absent_seconds: float, offline: bool) -> None:
        """From now on believe for so long that upstream does not have something, or ask nobody at all."""
        self._absent_seconds = absent_seconds
        self._offline = offline
        self._troubles.clear()

    async def ask(
        self, cached: Cached, what: str, question: Question[T], shown: Shown | None, *, seconds: float = ANSWER_SECONDS
    ) -> T:
        """The answer to the question that `what` names. Raises `Unanswered`.

        `shown`: whether everybody is shown what the answer is about; None: the caller sees to that.
        """
        self._check(cached, what)

        async def work() -> T:
            upstream = await self._upstream(cached, what)
            try:
                async with self._registry.clock.timeout(seconds):
                    answer = await question(upstream)
            except (ClientError, TimeoutError) as failure:
                raise self.failed(cached, what, failure) from None
            if shown is not None:
                await self.is_shown(cached, shown)
            return answer

        return await self._flights.join((cached, what), work)

    async def reach(self, cached: Cached, what: str) -> UpstreamRepository:
        """The upstream's repository, for what takes its time; `failed` is told if that goes wrong.

        Raises `Unanswered`.
        """
        self._check(cached, what)
        return await self._upstream(cached, what)

    def failed(self, cached: Cached, what: str, failure: Failure) -> Unanswered:
        """The error that a failure of upstream is. It is remembered."""
        return self._noted(cached, what, troubles.of(failure, cached.source.host), failure)

    async def known_shown(self, cached: Cached) -> bool | None:
        """What `is_shown` would say without asking; None: it would ask."""
        return await self._publicity.known(cached.source, cached.repository)

    async def is_shown(self, cached: Cached, shown: Shown) -> bool:
        """Whether upstream shows the repository to everybody, which is written down before this returns.

        Raises `Unanswered`.
        """
        known = await self.known_shown(cached)
        if known is not None:
            return known

        async def work() -> bool:
            try:
                async with self._registry.clock.timeout(HEAD_SECONDS):
                    return await self._publicity.settle(cached.source, cached.repository, shown, Purpose.PEOPLE)
            except (ClientError, TimeoutError) as failure:
                raise self.failed(cached, _SHOWN, failure) from None

        return await self._flights.join((cached, _SHOWN), work)

    async def _upstream(self, cached: Cached, what: str) -> UpstreamRepository:
        try:
            return await self._upstreams.repository(*cached.source, Purpose.PEOPLE)
        except LoginFailed as failure:  # Ours cannot be read; nobody was asked yet.
            raise self._noted(cached, what, troubles.locked_out(cached.source.host), failure) from None

    def _check(self, cached: Cached, what: str) -> None:
        source = cached.source
        if self._offline:
            raise Unanswered(troubles.offline(source.host))
        known = (self._troubles.get(key) for key in (source.host, source, (source, what)))
        trouble = next((each for each in known if each is not None), None)
        if trouble is not None:
            raise Unanswered(trouble)

    def _noted(self, cached: Cached, what: str, trouble: Trouble, failure: Failure) -> Unanswered:
        source = cached.source
        if trouble.kind is Kind.ABSENT:
            self._troubles.put((source, what), trouble, self._absent_seconds)
        elif trouble.kind is Kind.DOWN:  # That it gives no more just now, its gate and its budget know.
            seconds = min(trouble.retry_after_seconds or 0.0, DOWN_SECONDS_MAX)
            self._troubles.put(source.host if trouble.of_host else source, trouble, seconds)
        if not isinstance(failure, NotFound):
            self._log.warning("upstream.failed", upstream=str(source), asked=what, error=str(failure) or repr(failure))
        return Unanswered(trouble)
