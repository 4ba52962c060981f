"""Another registry, spoken to as a client: reaching it, being let in, pages, and the calls that name no repository.

What concerns one repository is in `repository`. Holds: our login goes to this registry's own origin only, whatever
address a request is for; lists end, whatever the registry says.
Source: OCI distribution-spec; Docker's conventions where that is silent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from yarl import URL

from homeport.client import links, ratelimits, trust
from homeport.client.credentials import Credential
from homeport.client.errors import BadAnswer, Cause, ConnectionFailed, Limit, LoginFailed, Refused, TlsFailed
from homeport.client.gate import Gate, Pace, Paused
from homeport.client.logins import Logins
from homeport.client.ratelimits import Quota
from homeport.client.redaction import plain_text, shown_url
from homeport.client.refusals import refused
from homeport.client.retries import PATIENCE, Patience, retry_after_seconds
from homeport.client.transport import Answer, Body, OpenAnswer, Request, Transport, with_retries
from homeport.oci.reference import DOCKER_HUB, is_repository

#: Where the registry of a host in references really is, if it is not that host.
ENDPOINTS = {DOCKER_HUB: "registry-1.docker.io"}

#: Asked of every list: what all large registries accept (Amazon's refuses more), and few enough for one answer.
PAGE_ITEMS = 1_000
#: Some registries send all tags of a repository in one answer, with much beside the names.
PAGE_BYTES_MAX = 32 * 1024 * 1024
PAGES_MAX = 10_000
#: Of all pages together: more than this is no list of tags, and it is held in memory.
ITEMS_MAX = 500_000

SMALL_ANSWER_BYTES_MAX = 256 * 1024

#: Times that one request is sent: before a challenge, after it, and once more with a fresh token.
_SENT_MAX = 3

AnyAnswer = TypeVar("AnyAnswer", bound=Answer | OpenAnswer)


class Remote:
    """One registry. `host` is its name in references (`docker.io`, `quay.io`, `localhost:5000`)."""

    def __init__(
        self,
        host: str,
        transport: Transport,
        credential: Credential | None = None,
        *,
        gate: Gate | None = None,
        patience: Patience = PATIENCE,
        observe: Callable[[Quota], None] | None = None,
    ) -> None:
        self.host = host
        self.transport = transport
        #: Every request goes through it, and an answer that is read bit by bit stays in it until it is closed. Not so a
        #: body that is a stream: its bytes may have to come through the same gate.
        self.gate = gate or Gate(Pace(transport.clock))
        self.patience = patience
        #: Is told each quota that the answer to a request for a manifest carries.
        self._observe = observe
        self._credential = credential
        self._logins: Logins | None = None
        self._base: URL | None = None
        self._finding_base = asyncio.Lock()

    async def ping(self) -> None:
        """Returns if there is a registry that lets us in; otherwise says why not."""
        answer = await self.fetch("GET", "/v2/")
        if answer.status != 200:
            raise self.refused(answer)

    async def catalog(self) -> AsyncIterator[str]:
        """The names of all repositories that the registry shows us, each once. Many public registries show none."""
        seen: set[str] = set()
        async for page in self.pages(f"/v2/_catalog?n={PAGE_ITEMS}", "repositories", ("registry:catalog:*",)):
            for name in page:
                if not isinstance(name, str) or not is_repository(name):
                    raise BadAnswer(f"{self.host}: lists a repository that cannot be one: {plain_text(str(name))}")
                if name not in seen:
                    seen.add(name)
                    yield name

    async def fetch(
        self,
        method: str,
        address: str | URL,
        scopes: tuple[str, ...] = (),
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        bytes_max: int = SMALL_ANSWER_BYTES_MAX,
        silence_seconds: float | None = None,
    ) -> Answer:
        """The whole answer, whatever its status; what is temporary was tried again. `address` is a path or an address.

        A request whose body is a stream is sent once: where to go on, only its caller knows.
        """

        async def work() -> Answer:
            base = await self.base()
            url = address if isinstance(address, URL) else URL(f"{base}{address}", encoded=True)
            request = Request(method, url, headers or {}, body, on_behalf_of=base.host, silence_seconds=silence_seconds)

            async def send() -> Answer:
                return await self._let_in(request, scopes, lambda let: self.transport.fetch(let, bytes_max=bytes_max))

            return await (send() if callable(body) else with_retries(self.transport.clock, send, self.patience))

        return await (work() if callable(body) else self._in_time(method, work()))

    async def open(self, path: str, scopes: tuple[str, ...], headers: Mapping[str, str]) -> OpenAnswer | Answer:
        """The answer to a GET. A success has its body still to be read, and the caller closes it. Sent once."""
        base = await self.base()
        request = Request("GET", URL(f"{base}{path}", encoded=True), headers)
        return await self._let_in(request, scopes, self._open)

    async def pages(
        self, path: str, key: str, scopes: tuple[str, ...], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[list[Any]]:
        """The list under `key` of each page, following `Link` as it is: registries differ in what they put there.

        A list that does not come whole ends with an error, never early.
        """
        base = await self.base()
        url: URL | None = URL(f"{base}{path}", encoded=True)
        seen: set[URL] = set()
        count = 0
        while url is not None:
            if url in seen or len(seen) >= PAGES_MAX:
                raise BadAnswer(f"{self.host}: the pages of {path.partition('?')[0]} do not end")
            seen.add(url)
            answer = await self.fetch("GET", url, scopes, headers=headers, bytes_max=PAGE_BYTES_MAX)
            if answer.status != 200:
                raise self.refused(answer)
            items = _items(answer, key)
            count += len(items)
            if count > ITEMS_MAX:
                raise BadAnswer(f"{self.host}: {path.partition('?')[0]} has more than {ITEMS_MAX} entries")
            yield items
            url = self._next_page(answer, url)

    def refused(self, answer: Answer) -> Refused:
        """The error that an unwanted `answer` is."""
        secrets = self._logins.secrets if self._logins is not None else ()
        error = refused(answer, now=self.transport.clock.now(), secrets=secrets)
        if answer.status == 401 and self._credential is None:
            return LoginFailed(f"{error}; no login is known for {self.host}", status=401, code=error.code)
        if answer.status == 401:
            text = f"{error}; the login that is configured for {self.host} is wrong, or not for this"
            return LoginFailed(text, status=401, code=error.code)
        return error

    async def base(self) -> URL:
        """Scheme, host and port of the registry. The first call finds out whether it speaks TLS, where that is open."""
        if self._base is None:
            async with self._finding_base:
                if self._base is None:
                    self._base = await self._find_base()
                    realms = self.transport.settings.host(URL(f"https://{self.host}")).realms
                    self._logins = Logins(self.transport, self._base, self._credential, realms, self.patience)
        return self._base

    async def _find_base(self) -> URL:
        secure = URL(f"https://{ENDPOINTS.get(self.host, self.host)}")
        plain = secure.with_scheme("http").with_port(secure.explicit_port)
        settings = self.transport.settings.host(secure)
        if not settings.insecure and not trust.is_loopback(secure.host or ""):
            return secure
        if secure.port == 80:
            return plain
        try:
            await self.transport.fetch(Request("GET", secure / "v2/"), bytes_max=SMALL_ANSWER_BYTES_MAX)
        except TlsFailed:
            return plain
        return secure

    async def _let_in(
        self, request: Request, scopes: tuple[str, ...], send: Callable[[Request], Awaitable[AnyAnswer]]
    ) -> AnyAnswer:
        """What `send` gives for `request` with our login for `scopes`, which a first 401 may have to ask for."""
        sent = 0
        while True:
            try:
                answer = await self._in_turn(request, scopes, send)
            except TlsFailed as error:
                raise self._without_tls(error) from None
            sent += 1
            if answer.status != 401 or sent == _SENT_MAX or not self._challenged(answer, scopes):
                return answer

    def _without_tls(self, error: TlsFailed) -> TlsFailed:
        """The error, with what a person does about a registry that has no TLS at all."""
        if error.temporary or self.transport.settings.host(URL(f"https://{self.host}")).insecure:
            return error
        remedy = f'client: {{hosts: {{"{self.host}": {{insecure: true}}}}}}'
        return TlsFailed(
            f"{error}; if {self.host} has none, the configuration says so: {remedy}", temporary=False, cause=error.cause
        )

    async def _in_turn(
        self, request: Request, scopes: tuple[str, ...], send: Callable[[Request], Awaitable[AnyAnswer]]
    ) -> AnyAnswer:
        """What `send` gives, once the gate lets it through; `Refused` where that would take too long."""
        if callable(request.body):
            return await send(await self._authorized(request, scopes))
        try:
            await self.gate.enter(self.patience.longest_wait_seconds)
        except Paused as paused:
            raise self._paused(paused.seconds) from None
        try:
            # Only now: a token may be old by the time that its request has its turn.
            answer = await send(await self._authorized(request, scopes))
        except BaseException:
            self.gate.leave()
            raise
        if isinstance(answer, OpenAnswer):
            answer.when_closed(self.gate.leave)
        else:
            self.gate.leave()
        self._learn(answer)
        return answer

    async def _open(self, request: Request) -> OpenAnswer | Answer:
        answer = await self.transport.open(request)
        return answer if answer.status in (200, 206) else await answer.whole()

    def _learn(self, answer: Answer | OpenAnswer) -> None:
        """Takes from an answer what it says of how much the registry gives, and how fast."""
        if self._observe is not None and "/manifests/" in answer.request.url.path:
            quota = ratelimits.parse(answer.headers)
            if quota is not None:
                self._observe(quota)
        if isinstance(answer, OpenAnswer):
            self.gate.pace.fast_enough()
            return
        limit = ratelimits.passed(answer.status, answer.headers, answer.body)
        asked = retry_after_seconds(answer.headers, self.transport.clock.now())
        if limit is Limit.REQUESTS or (answer.status == 503 and asked):
            self.gate.pace.too_fast(asked)
        elif limit is None:
            self.gate.pace.fast_enough()

    def _paused(self, seconds: float) -> Refused:
        text = f"{self.host}: asked us to stay away, for {seconds:.0f} seconds from now"
        return Refused(text, status=429, retry_after_seconds=seconds, limit=Limit.REQUESTS)

    async def _in_time(self, method: str, work: Awaitable[Answer]) -> Answer:
        seconds = self.patience.total_seconds
        if seconds is None:
            return await work
        try:
            async with self.transport.clock.timeout(seconds):
                return await work
        except TimeoutError:
            text = f"{self.host}: no answer to {method} within {seconds:g} seconds"
            raise ConnectionFailed(text, temporary=True, cause=Cause.TIMED_OUT) from None

    async def _authorized(self, request: Request, scopes: tuple[str, ...]) -> Request:
        # An upload's Location may lead to another host: our login for the registry is not for that.
        if self._logins is None or self._base is None or not trust.same_origin(request.url, self._base):
            return replace(request, authorization=None)
        return replace(request, authorization=await self._logins.header(scopes))

    def _challenged(self, answer: Answer | OpenAnswer, scopes: tuple[str, ...]) -> bool:
        if self._logins is None or self._base is None or not trust.same_origin(answer.url, self._base):
            return False
        return self._logins.challenged(answer.challenges, scopes, answer.request.authorization)

    def _next_page(self, answer: Answer, url: URL) -> URL | None:
        try:
            target = links.next_page(answer.links)
        except ValueError:
            raise BadAnswer(f"{answer.request}: says where the next page is in a way that cannot be read") from None
        if target is None:
            return None
        following = trust.resolve(url, target)
        if not trust.same_origin(following, url):
            raise BadAnswer(f"{self.host}: the next page is said to be at {shown_url(following)}, another host")
        return links.same_list(url, following)


def _items(answer: Answer, key: str) -> list[Any]:
    """The list under `key`; null counts as empty, as Go programs write an empty list."""
    try:
        items = json.loads(answer.body)[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        items = ...
    if items is None:
        return []
    if not isinstance(items, list):
        raise BadAnswer(f"{answer.request}: answers with something else than a list of {key}{encoding(answer)}")
    return items


def encoding(answer: Answer) -> str:
    """What has to be added where an answer makes no sense, in case that it was packed: we never ask for that."""
    name = answer.headers.get("Content-Encoding", "")
    return (
        f"; it is encoded as {plain_text(name)}, which nobody asked for" if name.lower() not in ("", "identity") else ""
    )
