"""A server of other registries' images, in this process: its application, who asks it, and a cache that is made up."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

from homeport.auth import tokens
from homeport.auth.actors import Limit, Right
from homeport.auth.directory import ConfiguredUser, LoginSettings
from homeport.auth.logins import Logins, basic
from homeport.auth.permissions import Policy
from homeport.auth.tokens import Secret, Token
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, ManifestUnknown
from homeport.registry import manifests, privacy
from homeport.registry.blobs import Blob
from homeport.registry.manifests import Stored
from homeport.registry.registry import Registry
from homeport.server.application import Application
from homeport.server.context import Context, Options
from homeport.testing.images import Image
from tests.auth.tools import ORIGIN, CountedPasswords
from tests.registry.world import World

NODE_ADDRESS, STRANGERS_ADDRESS = "10.1.2.3", "192.0.2.9"
UPSTREAMS = {"docker.io": "docker.io", "ghcr.io": "ghcr.io", "registry.lan:5001": "registry.lan_5001"}
FOLDERS = frozenset(UPSTREAMS.values())
PULL, PUSH = Right.PULL, Right.PUSH


def policy(**changes: Any) -> Policy:
    """As a configuration with these upstreams has it."""
    networks = (ip_network("10.0.0.0/8"),)
    return Policy(**{"upstreams": FOLDERS, "cached": FOLDERS, "networks": networks, **changes})


class Served(NamedTuple):
    stored: Stored
    size: int
    warning: str | None


@dataclass
class Coming:
    """A blob of which every byte comes by itself. `fails_at`: there the upstream goes away."""

    data: bytes
    fails_at: int | None = None

    @property
    def size(self) -> int:
        return len(self.data)

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        for at in range(start, stop):
            if at == self.fails_at:
                raise ConnectionResetError
            yield self.data[at : at + 1]


@dataclass
class MadeUpCache:
    """What upstreams have, by our names for it. `asked`: everything that it was asked."""

    registry: Registry
    images: dict[str, Image] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    #: Repositories that upstream shows to nobody without a login, which is found out when they are asked for.
    hidden: set[str] = field(default_factory=set)
    warning: str | None = None
    fails_at: int | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def covers(self, repository: str) -> bool:
        return repository.partition("/")[0] in FOLDERS and repository not in self.skipped

    async def manifest(self, repository: str, reference: str, /, *, head: bool) -> Served:
        image = await self._ask("manifest", repository, reference)
        if reference not in {"latest", image.digest}:
            raise ManifestUnknown(reference)
        data = b"" if head else image.data  # Upstream was asked by HEAD as well.
        return Served(Stored(image.digest, image.media_type, data), len(image.data), self.warning)

    async def blob(self, repository: str, digest: Digest, /) -> Blob | Coming:
        return Coming(await self._blob("blob", repository, digest), self.fails_at)

    async def blob_size(self, repository: str, digest: Digest, /) -> int:
        return len(await self._blob("size", repository, digest))

    async def tags(self, repository: str, /) -> tuple[list[str], str | None]:
        await self._ask("tags", repository, "")
        return ["1", "10", "2", "latest"], self.warning

    async def referrers(self, repository: str, subject: Digest, /) -> str | None:
        await self._ask("referrers", repository, subject)
        return self.warning

    async def _ask(self, what: str, repository: str, reference: str) -> Image:
        self.asked.append((what, repository, reference))
        if repository in self.hidden:
            await self.registry.db.write(privacy.set_private, repository, private=True)
        if repository not in self.images:
            raise ManifestUnknown(repository)
        return self.images[repository]

    async def _blob(self, what: str, repository: str, digest: Digest) -> bytes:
        image = await self._ask(what, repository, digest)
        found = {Digest.of(data): data for data in image.blobs}
        if digest not in found:
            raise BlobUnknown(digest)
        return found[digest]


@dataclass(frozen=True)
class Answer:
    """One answer. Names of headers are in lower case. `cut`: the connection ended within the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        code: str = self.json["errors"][0]["code"]
        return code


class UpstreamWorld(World):
    """The registry, the application on it, and those who ask."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._passwords = CountedPasswords(self.clock)
        self._users = (ConfiguredUser("root", "root", admin=True), ConfiguredUser("ada", "ada"))
        self.logins = Logins(self.registry.db, self.clock, self._passwords, LoginSettings())
        self.logged = io.StringIO()
        log = Log(self.logged, self.clock)
        options = Options(upstreams=UPSTREAMS, url="https://registry.example")
        self.context = Context(self.registry, self.logins, log, dict, options)
        self.cache = MadeUpCache(self.registry)
        self.context.cache = self.cache
        self.application = Application(self.context)
        self.authorization: dict[str, str | None] = {
            "anonymous": None,
            "node": None,
            "ada": basic("ada", "ada"),
            "root": basic("root", "root"),
        }
        self.allow()

    def allow(self, **changes: Any) -> None:
        self.logins.reload(LoginSettings(policy(**changes), self._users))

    async def close(self) -> None:
        self._passwords.close()
        await super().close()

    async def token(self, name: str, user: str | None, *limits: Limit) -> None:
        """Let somebody ask with a token of this user, or a robot's."""
        secret = Secret.new(self.clock)
        kind = "personal" if user else "robot"
        row = Token(secret.id, kind, user or name, None, secret.hash(), limits, "", self.clock.now(), None, None)  # type: ignore[arg-type]
        await self.registry.db.write(tokens.add, self.clock, ORIGIN, row)
        self.authorization[name] = f"Bearer {secret}"

    async def bearer(self, who: str, *scopes: str) -> str:
        """The name of somebody who asks with a bearer token that `who` was given for these scopes."""
        issued = await self.logins.token(scopes, address(who), authorization=self.authorization[who])
        self.authorization[f"{who}-bearer"] = f"Bearer {issued.token}"
        return f"{who}-bearer"

    async def hold(self, image: Image, *tags: str, repository: str, private: bool = False) -> None:
        """Have the image here, as if it had been fetched."""
        await self.push(image, *tags, repository=repository)
        await self.registry.db.write(privacy.set_private, repository, private=private)

    async def ask(
        self,
        who: str,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        at_door: bool = False,
    ) -> Answer:
        """The answer to a request. `at_door`: to the address whose root is the mirror door."""
        path, _, query = target.partition("?")
        fields = {"host": "registry.example", **(headers or {})}
        if (authorization := self.authorization[who]) is not None:
            fields["authorization"] = authorization
        if body:
            fields["content-length"] = str(len(body))
        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            "client": (address(who), 50000),
            "scheme": "http",
            "http_version": "1.1",
        }
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        application = partial(self.application, at_door=True) if at_door else self.application
        try:
            await application(scope, receive, send)
        except ConnectionResetError:
            return _answer(sent, cut=True)
        return _answer(sent)

    async def has_manifest(self, repository: str, reference: str) -> bool:
        return await self.registry.db.read(manifests.by_tag, repository, reference) is not None


def _answer(sent: list[MutableMapping[str, Any]], *, cut: bool = False) -> Answer:
    start, *rest = sent
    body = b"".join(
        Path(message["path"]).read_bytes() if "path" in message else message.get("body", b"") for message in rest
    )
    headers: dict[str, str] = {}
    for name, value in start["headers"]:
        assert name.decode() not in headers, name
        headers[name.decode()] = value.decode()
    return Answer(start["status"], headers, body, cut)


def address(who: str) -> str:
    return NODE_ADDRESS if who.startswith("node") else STRANGERS_ADDRESS
