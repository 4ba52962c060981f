"""Asking a container engine (Docker, or Podman by the same words) what it has: GET, and nothing else.

Holds:
- every wait ends, every answer has a limit, and what is not the JSON that was asked for is a `ClientError` whose text
  names the engine and what was asked of it;
- nothing is followed or guessed: no redirect, no proxy, no plain HTTP where TLS was meant;
- the paths have no version: an engine answers those in its newest, and the fields that are read are in all of them.

Source: Docker Engine API, v1.41 (20.10) to v1.52 (29).
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from homeport.client.errors import BadAnswer, ClientError, ConnectionFailed, NotFound, Refused
from homeport.client.redaction import plain_text
from homeport.client.transport import ERROR_BYTES_MAX, USER_AGENT, reason
from homeport.clock import Clock

#: The tasks of a big swarm, with those that ended, are some ten thousand of three kilobytes.
ANSWER_BYTES_MAX: Final = 64 * 1024**2
#: How long one answer may take, and all of them together.
ANSWER_SECONDS: Final = 30.0
ALL_SECONDS: Final = 300.0
#: So many images may have containers.
IMAGES_MAX: Final = 5_000
#: How much is read at once.
_CHUNK_BYTES: Final = 256 * 1024
#: Ports where none is written, by the form of the address.
_PORTS: Final = {"tcp": 2376, "http": 2375}

#: States of a node that last. The others are those of one that just started, or is locked.
#: Source: Docker Engine API, LocalNodeState.
_SETTLED: Final = frozenset({"inactive", "active"})
_IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]{64}")

#: An object of JSON.
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine listens, and who the two ends are."""

    #: `unix:///path`, `tcp://host:port` (TLS) or `http://host:port`.
    url: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What an engine said; the lists of a swarm are empty where it does not manage one."""

    info: Object
    containers: list[Object]
    #: The images of the containers by their ids, as far as they are there.
    images: Mapping[str, Object]
    services: list[Object] = field(default_factory=list)
    tasks: list[Object] = field(default_factory=list)
    nodes: list[Object] = field(default_factory=list)


async def ask(engine: Engine, clock: Clock) -> Answers:
    """All that tells what the engine runs. Raises `ClientError`."""
    connector, base = _connector(engine)
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
    )
    async with session:
        conversation = _Conversation(engine.url, base, session, clock)
        try:
            async with clock.timeout(ALL_SECONDS):
                return await _ask(conversation)
        except TimeoutError:
            raise ConnectionFailed(
                f"{engine.url}: did not tell all within {ALL_SECONDS:g} seconds", temporary=True
            ) from None


async def _ask(conversation: _Conversation) -> Answers:
    info = _object(conversation, "/info", await conversation.get("/info"))
    containers = await conversation.objects("/containers/json?all=1")
    images = {}
    for image in _image_ids(conversation, containers):
        path = f"/images/{image}/json"
        with contextlib.suppress(NotFound):  # Somebody removed it, and its container goes on.
            images[image] = _object(conversation, path, await conversation.get(path))
    if not _manages_swarm(conversation, info):
        return Answers(info, containers, images)
    return Answers(
        info,
        containers,
        images,
        services=await conversation.objects("/services"),
        tasks=await conversation.objects("/tasks"),
        nodes=await conversation.objects("/nodes"),
    )


def _manages_swarm(conversation: _Conversation, info: Object) -> bool:
    """Whether it knows the services of a swarm. `BadAnswer` while it would, but is not part of it right now."""
    swarm = info.get("Swarm")
    if not isinstance(swarm, dict):
        return False
    state = swarm.get("LocalNodeState") or "inactive"
    if not isinstance(state, str) or state not in _SETTLED:
        raise BadAnswer(f"{conversation.where}: its swarm is {plain_text(str(state))}, so it cannot tell its services")
    return swarm.get("ControlAvailable") is True


def _image_ids(conversation: _Conversation, containers: list[Object]) -> list[str]:
    """The images that the containers are of, each once. One without an image, as Podman's pods have, has none."""
    found = set()
    for container in containers:
        image = container.get("ImageID")
        if not isinstance(image, str) or not (image == "" or _IMAGE_ID.fullmatch(image)):
            raise BadAnswer(f"{conversation.where}: tells of a container and not which image it is of")
        found.add(image)
    if len(found) > IMAGES_MAX:
        raise BadAnswer(f"{conversation.where}: has containers of more than {IMAGES_MAX} images")
    return sorted(found - {""})


class _Conversation:
    """Requests to one engine."""

    def __init__(self, where: str, base: URL, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.where = where
        self._base = base
        self._session = session
        self._clock = clock

    async def objects(self, path: str) -> list[Object]:
        """The list of objects at `path`."""
        found = await self.get(path)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise BadAnswer(f"{self.where}: its answer to {path} is no list of objects")
        return found

    async def get(self, path: str) -> Any:
        """The JSON at `path`. Raises `NotFound` and other `ClientError`s."""
        try:
            async with self._clock.timeout(ANSWER_SECONDS):
                status, body = await self._fetch(path)
        except TimeoutError:
            text = f"{self.where}: did not answer {path} within {ANSWER_SECONDS:g} seconds"
            raise ConnectionFailed(text, temporary=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # aiohttp has ValueErrors of its own
            raise self._failed(path, error) from None
        if status != 200:
            kind = NotFound if status == 404 else Refused
            raise kind(f"{self.where}: answers {path} with {status} {_words(body)}".rstrip(), status=status)
        if len(body) > ANSWER_BYTES_MAX:
            raise BadAnswer(f"{self.where}: answers {path} with more than {ANSWER_BYTES_MAX} bytes")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise BadAnswer(f"{self.where}: its answer to {path} is not JSON, so it is no container engine's") from None

    async def _fetch(self, path: str) -> tuple[int, bytes]:
        """Status and body, of which little more is read than may be."""
        async with self._session.get(self._base.join(URL(path, encoded=True)), allow_redirects=False) as answer:
            limit = ANSWER_BYTES_MAX if answer.status == 200 else ERROR_BYTES_MAX
            body = bytearray()
            while len(body) <= limit and (chunk := await answer.content.read(_CHUNK_BYTES)):
                body += chunk
            if len(body) > limit:
                answer.close()
            return answer.status, bytes(body)

    def _failed(self, path: str, error: Exception) -> ClientError:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                why = plain_text(str(error.certificate_error))
                return ConnectionFailed(
                    f"{self.where}: its certificate is not trusted ({why}); its authority is the engine's 'ca'",
                    temporary=False,
                )
            case aiohttp.ClientConnectorSSLError():
                return ConnectionFailed(
                    f"{self.where}: no TLS: {reason(error.os_error)}; an engine that speaks plain HTTP is http://",
                    temporary=False,
                )
            case aiohttp.ClientConnectorError():
                return ConnectionFailed(f"{self.where}: cannot connect: {reason(error.os_error)}", temporary=True)
            case aiohttp.ClientResponseError():
                return BadAnswer(f"{self.where}: its answer to {path} is not HTTP: {plain_text(error.message)}")
            case _:
                text = f"{self.where}: the connection broke at {path}: {reason(error)}"
                return ConnectionFailed(text, temporary=True)


def _connector(engine: Engine) -> tuple[aiohttp.BaseConnector, URL]:
    """How it is reached, and the address that requests begin with. Raises `ClientError`."""
    scheme, _, place = engine.url.partition("://")
    if scheme == "unix":
        return aiohttp.UnixConnector(path=place), URL("http://engine")
    url = URL(f"{'https' if scheme == 'tcp' else 'http'}://{place}")
    if url.explicit_port is None:
        url = url.with_port(_PORTS[scheme])
    context = _tls(engine) if scheme == "tcp" else True
    return aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver(), ssl=context), url


def _tls(engine: Engine) -> ssl.SSLContext:
    try:
        # With an authority of its own, no other is believed.
        context = ssl.create_default_context(cafile=engine.ca)
    except OSError as error:  # ssl.SSLError is one
        raise ClientError(f"{engine.url}: {engine.ca} is no authority to use: {reason(error)}") from None
    if engine.certificate is not None:
        try:
            # A key with a password would be asked for on the terminal.
            context.load_cert_chain(engine.certificate, engine.key, password=lambda: b"")
        except OSError as error:
            raise ClientError(
                f"{engine.url}: {engine.certificate} and {engine.key} cannot be used: {reason(error)}"
            ) from None
    return context


def _object(conversation: _Conversation, path: str, found: Any) -> Object:
    if not isinstance(found, dict):
        raise BadAnswer(f"{conversation.where}: its answer to {path} is no object")
    return found


def _words(body: bytes) -> str:
    """What an engine says where it refuses: JSON with a message. A proxy's page says nothing in its first lines."""
    text = body.decode(errors="replace")
    with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
        text = str(json.loads(text)["message"])
    return "" if text.lstrip().startswith("<") else plain_text(text)
