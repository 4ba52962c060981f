"""HTTP as we speak it: one request at a time, redirects, TLS, time-outs, limits, and errors that may be shown.

Knows nothing of registries or logins. Holds:
- `Authorization` and other secret headers are sent to the origin of the request, not along a redirect to another;
- a host that a person named may be anywhere; whatever another host names (a redirect, a token service, an upload's
  address) is called only at addresses that are public, and those that were checked are those that are connected to;
- every answer that is read into memory has a limit; every wait has one;
- no cookie is kept, no login comes from the environment, nothing is decompressed: bytes are what digests name;
- whatever aiohttp raises leaves here as a `ClientError`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import ResolveResult
from yarl import URL

from homeport.client import trust
from homeport.client.errors import BadAnswer, Cause, ClientError, ConnectionFailed, TlsFailed, Untrusted
from homeport.client.redaction import plain_text, shown_url
from homeport.client.retries import PATIENCE, TEMPORARY_STATUSES, Patience, Retries, is_temporary
from homeport.client.settings import ClientSettings
from homeport.clock import Clock

REDIRECTS_MAX = 5

#: What is read of an answer that says no: enough for the registry's errors, too little to hurt.
ERROR_BYTES_MAX = 64 * 1024

#: What aiohttp buffers of one answer before it stops reading from the socket.
BUFFER_BYTES = 512 * 1024

USER_AGENT = "homeport"

#: Source: RFC 9110 section 5.5. A line break would end the header and begin another.
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

#: A request's body: bytes, or what makes the stream anew (a redirect or a challenge makes us send it again).
Body = bytes | Callable[[], AsyncIterator[bytes]] | None


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One request. `headers` must give a streamed body's Content-Length."""

    method: str
    url: URL
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = None
    #: The value of the header of that name; only for the origin of `url`.
    authorization: str | None = None
    #: More headers for the origin of `url` only: a token, a signature.
    secret_headers: Mapping[str, str] = field(default_factory=dict)
    #: Whether `body` is for the origin of `url` only, as `authorization` is.
    body_is_secret: bool = False
    #: The host that a person named, where that is not the one of `url`, which is then checked as a redirect is.
    on_behalf_of: str | None = None
    #: Whether redirects are followed; if not, they are answers like any other.
    follow: bool = True
    #: Longest wait for the answer after the body went out; the settings' `silence_seconds` if None.
    silence_seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.method} {shown_url(self.url)}"


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """An answer whose body was read whole."""

    request: Request
    status: int
    headers: Mapping[str, str]
    body: bytes
    #: Where it came from in the end, after redirects: what a relative Location or Link starts from.
    url: URL
    challenges: tuple[str, ...]
    #: Its `Link` lines.
    links: tuple[str, ...] = ()


class OpenAnswer:
    """An answer whose body is still to be read. `close` when done with it, read to its end or not."""

    def __init__(self, request: Request, response: aiohttp.ClientResponse) -> None:
        self.request = request
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = response.url
        self.challenges = tuple(response.headers.getall("WWW-Authenticate", ()))
        self.links = tuple(response.headers.getall("Link", ()))
        #: Its Content-Length.
        self.body_bytes = response.content_length
        self._response = response
        self._when_closed: Callable[[], None] | None = None

    async def read(self, bytes_max: int) -> bytes:
        """The next bytes; nothing at the end."""
        with _translated(self.request):
            return await self._response.content.read(bytes_max)

    async def whole(self, bytes_max: int = 0) -> Answer:
        """All of it; `BadAnswer` if that is more than `bytes_max`.

        Of a redirect that is not followed and of a refusal, `ERROR_BYTES_MAX` bytes are enough.
        """
        no = self.status >= 300
        limit = ERROR_BYTES_MAX if no else bytes_max
        body = bytearray()
        try:
            while self.request.method != "HEAD" and (chunk := await self.read(limit + 1 - len(body))):
                body += chunk
                if len(body) > limit:
                    break
        finally:
            self.close()
        if len(body) > limit and not no:
            raise BadAnswer(f"{self.request}: answers with more than {limit} bytes")
        data = bytes(body[:limit])
        return Answer(self.request, self.status, self.headers, data, self.url, self.challenges, self.links)

    def close(self) -> None:
        """The connection is kept for other requests if the body was read to its end."""
        self._response.release()
        when_closed, self._when_closed = self._when_closed, None
        if when_closed is not None:
            when_closed()

    def when_closed(self, function: Callable[[], None]) -> None:
        """`function` is called once, when this is closed."""
        self._when_closed = function


class Transport:
    """Connections to other hosts. One for a whole process; `async with` opens and closes it."""

    def __init__(self, settings: ClientSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        #: By the host's own authority.
        self._tls: dict[Path | None, ssl.SSLContext] = {}
        #: For hosts that a person named.
        self._session: aiohttp.ClientSession | None = None
        #: For hosts that another host named: it has its own connections, all to public addresses.
        self._stranger_session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = _open_session(aiohttp.ThreadedResolver())
        self._stranger_session = _open_session(_PublicResolver())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for session in (self._session, self._stranger_session):
            if session is not None:
                await session.close()
        self._session = self._stranger_session = None

    def reconfigure(self, settings: ClientSettings) -> None:
        """From now on call as `settings` say; what is under way goes on.

        `ClientError` if a certificate authority in them cannot be used; then nothing changes.
        """
        tls = {ca: _tls_context(settings, ca) for ca in {None, *(host.ca for host in settings.hosts.values())}}
        self.settings, self._tls = settings, tls

    async def open(self, request: Request) -> OpenAnswer:
        """The answer to `request`, redirects followed, its body still to be read. The caller closes it."""
        hop = request
        for _ in range(REDIRECTS_MAX + 1):
            response = await self._send(hop)
            location = response.headers.get("Location")
            if not request.follow or response.status not in (301, 302, 303, 307, 308) or location is None:
                return OpenAnswer(request, response)
            response.release()
            if response.status not in (307, 308) and request.method not in ("GET", "HEAD"):
                raise BadAnswer(f"{hop}: redirects with {response.status}, which would lose the body")
            target = trust.resolve(hop.url, location)
            trust.check_redirect(hop.url, target)
            if request.body_is_secret and not trust.same_origin(target, request.url):
                raise Untrusted(f"{hop}: would pass on what is for {request.url.host} only, to {shown_url(target)}")
            # Once it has left, it does not come back: the other host would choose what our login is used for.
            if not trust.same_origin(target, hop.url):
                hop = replace(hop, authorization=None, secret_headers={})
            hop = replace(hop, url=target, on_behalf_of=request.on_behalf_of or request.url.host)
        raise BadAnswer(f"{request}: redirects more than {REDIRECTS_MAX} times")

    async def fetch(self, request: Request, *, bytes_max: int) -> Answer:
        """The whole answer to `request`, whatever its status; `BadAnswer` if it is larger than `bytes_max`."""
        if callable(request.body):  # a blob takes as long as it takes, while it moves
            return await (await self.open(request)).whole(bytes_max)
        with _translated(request):
            async with self.clock.timeout(max(self.settings.answer_seconds, request.silence_seconds or 0.0)):
                return await (await self.open(request)).whole(bytes_max)

    async def _send(self, request: Request) -> aiohttp.ClientResponse:
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **request.headers, **request.secret_headers}
        if request.authorization is not None:
            headers["Authorization"] = request.authorization
        for name, value in headers.items():
            if not _HEADER_VALUE.fullmatch(value):
                raise ClientError(f"{request}: what is to be sent as {name} has characters that no header may have")
        stream = _Watched(request.body()) if callable(request.body) else None
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=self.settings.connect_seconds,
            sock_read=request.silence_seconds or self.settings.silence_seconds,
        )
        with _translated(request):
            session = await self._session_for(request)
            sending = session.request(
                request.method,
                # A login in the address is sent too, but for where there is one already.
                request.url.with_user(None) if "authorization" in map(str.lower, headers) else request.url,
                headers=headers,
                data=stream or request.body,
                allow_redirects=False,
                proxy=self.settings.proxy_for(request.url),
                ssl=self._tls_for(request.url),
                timeout=timeout,
            )
            return await (sending if stream is None else _send_stream(sending, stream, self.settings.silence_seconds))

    async def _session_for(self, request: Request) -> aiohttp.ClientSession:
        """The connections that may be used; `_LeadsInside` if none may."""
        if self._session is None or self._stranger_session is None:
            raise RuntimeError("the transport is used outside of its `async with`")
        host = request.url.host or ""
        if trust.same_host(host, request.on_behalf_of or host) or self.settings.allows(request.url):
            return self._session
        if trust.is_internal_address(host):
            raise _LeadsInside
        if self.settings.proxy_for(request.url) is None:
            return self._stranger_session
        # The proxy looks the name up again, so this is as much as can be done here: what it can reach and we cannot
        # know of, it has to guard itself.
        try:
            await _PublicResolver().resolve(host, request.url.port or 0)
        except OSError as error:
            failure = _name_not_found(request, host, error)
            text = f"{failure} here, so it cannot be checked; if the proxy is right to call it, add it to client.hosts"
            raise ConnectionFailed(text, temporary=failure.temporary, cause=failure.cause) from None
        return self._session

    def _tls_for(self, url: URL) -> ssl.SSLContext | bool:
        if url.scheme != "https":
            return True
        host = self.settings.host(url)
        if host.insecure:
            return False
        if host.ca not in self._tls:
            self._tls[host.ca] = _tls_context(self.settings, host.ca)
        return self._tls[host.ca]


def _tls_context(settings: ClientSettings, ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for file in (*settings.ca, *((ca,) if ca else ())):
        try:
            context.load_verify_locations(cafile=file)
        except OSError as error:  # ssl.SSLError is one
            raise ClientError(f"{file} is no certificate authority to use: {reason(error)}") from None
    return context


async def with_retries(clock: Clock, attempt: Callable[[], Awaitable[Answer]], patience: Patience = PATIENCE) -> Answer:
    """What `attempt` gives, tried again while its failure is temporary; the last answer may still be a failure."""
    retries = Retries(clock, patience)
    while True:
        try:
            answer = await attempt()
        except ConnectionFailed as error:
            if not error.temporary or not await retries.failed():
                raise
        else:
            temporary = is_temporary(answer.status, answer.headers, answer.body)
            if not temporary or not await retries.failed(answer.headers):
                return answer


def _open_session(resolver: aiohttp.ThreadedResolver) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver, limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        requote_redirect_url=False,
        read_bufsize=BUFFER_BYTES,
    )


class _Watched:
    """A body that is being sent, and how far that is."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.taken = 0
        #: Whether the next move is not the host's: its bytes are being fetched, or all were taken.
        self.not_waiting_for_host = False
        self.failure: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.not_waiting_for_host = True
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception as error:
            # aiohttp would tell of it as a broken connection; the caller has to learn what really went wrong.
            self.failure = error
            raise
        self.not_waiting_for_host = False
        self.taken += 1
        return chunk


async def _send_stream(
    sending: Coroutine[Any, Any, aiohttp.ClientResponse], stream: _Watched, silence_seconds: float
) -> aiohttp.ClientResponse:
    """The answer to a request whose body is `stream`.

    Given up when the host takes nothing of the body for `silence_seconds`: aiohttp has no time-out for writing.
    """
    task = asyncio.create_task(sending)
    try:
        while not task.done():
            taken = stream.taken
            await asyncio.wait({task}, timeout=silence_seconds)
            if not task.done() and stream.taken == taken and not stream.not_waiting_for_host:
                raise TimeoutError
        return await task
    except aiohttp.ClientError:
        if stream.failure is not None:
            raise stream.failure from None
        raise
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


class _LeadsInside(Exception):
    """Another host names one that has an address inside our network."""


class _PublicResolver(aiohttp.ThreadedResolver):
    """Finds nothing inside our network. What is checked is what is connected to: no second look-up can differ."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        if any(trust.is_internal_address(result["host"]) is not False for result in found):
            raise _LeadsInside
        return found


@contextmanager
def _translated(request: Request) -> Iterator[None]:
    """Turns what aiohttp and the system raise into `ClientError`."""
    try:
        yield
    except _LeadsInside:
        where = f"{request.on_behalf_of} sends us to {shown_url(request.url)}, inside our network"
        allowed = f"if that is right, add {trust.written_host(request.url)} to client.hosts"
        raise Untrusted(f"{where}; {allowed}") from None
    except (aiohttp.InvalidURL, UnicodeError):
        raise BadAnswer(f"{request}: {request.url.host} is no way to write a host") from None
    except aiohttp.ClientHttpProxyError as error:
        text = f"{request}: the proxy answers {error.status} {plain_text(error.message)}"
        raise ConnectionFailed(text, temporary=error.status in TEMPORARY_STATUSES) from None
    except aiohttp.ClientResponseError as error:
        raise BadAnswer(f"{request}: the answer is not HTTP: {plain_text(error.message)}") from None
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise _connection_failed(error, request) from None


def _connection_failed(error: Exception, request: Request) -> ConnectionFailed:
    host = request.url.host
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = plain_text(str(error.certificate_error))
            return ConnectionFailed(
                f"{request}: the certificate of {host} is not trusted ({why}); its authority can be given as client.ca",
                temporary=False,
            )
        case aiohttp.ClientConnectorDNSError():  # also that of a proxy
            return _name_not_found(request, error.host, error.os_error)
        case aiohttp.ClientProxyConnectionError():
            text = f"{request}: cannot connect to the proxy {error.host}:{error.port}: {reason(error.os_error)}"
            return ConnectionFailed(text, temporary=True)
        case aiohttp.ClientConnectorSSLError():
            return TlsFailed(f"{request}: no TLS with {host}: {reason(error.os_error)}", temporary=False)
        case aiohttp.ClientConnectorError():
            text = f"{request}: cannot connect to {host}:{request.url.port}: {reason(error.os_error)}"
            if request.url.scheme == "https" and isinstance(error.os_error, ConnectionResetError):
                return TlsFailed(text, temporary=True)
            return ConnectionFailed(text, temporary=True, cause=_cause(error.os_error))
        case aiohttp.ConnectionTimeoutError():
            return ConnectionFailed(f"{request}: {host} does not answer", temporary=True, cause=Cause.TIMED_OUT)
        case TimeoutError():
            return ConnectionFailed(f"{request}: nothing moved for too long", temporary=True, cause=Cause.TIMED_OUT)
        case aiohttp.ClientOSError():
            return ConnectionFailed(f"{request}: the connection broke: {reason(error)}", temporary=True)
        case _:
            return ConnectionFailed(f"{request}: the connection was closed early", temporary=True)


def _name_not_found(request: Request, host: str | None, error: OSError) -> ConnectionFailed:
    text = f"{request}: there is no host {host}"
    return ConnectionFailed(text, temporary=error.errno == socket.EAI_AGAIN, cause=Cause.NAME_NOT_FOUND)


def _cause(error: OSError) -> Cause:
    known = {errno.ECONNREFUSED: Cause.REFUSED, errno.ETIMEDOUT: Cause.TIMED_OUT}
    return known.get(error.errno or 0, Cause.OTHER)


def reason(error: Exception) -> str:
    """Why, in the system's words: those that asyncio and aiohttp put around them say nothing more."""
    if isinstance(error, ssl.SSLError):
        return plain_text(error.reason or "TLS failed")
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return plain_text(str(error)) or type(error).__name__
