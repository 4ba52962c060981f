"""An upstream registry in this process that does whatever real ones do, by a script.

    async with Upstream.running() as upstream:
        upstream.put("team/app", image, "1.0", "latest")          # see `artifacts.Artifacts` for images
        upstream.attach("team/app", signature)                    # a referrer, by the API or by its fallback tag
        upstream.fail(Kind.GET_BLOB, faults.cut(1_000), of=digest, times=2)
        upstream.upon(Kind.GET_MANIFEST, lambda: upstream.tag("team/app", "1.0", other.digest), skip=3)
        with upstream.held(Kind.GET_BLOB) as gate:                # answers wait until the block ends or `gate.open()`
            await gate.reached(1)
        assert upstream.count(Kind.GET_MANIFEST, of="team/app") == 1

It listens on a free port of loopback (`upstream.host`), holds everything in memory, and notes each request
(`upstream.asked`). Its attributes are how it behaves, and may be changed at any time: a quota that each GET of a
manifest takes from, logins and private repositories, tokens, pages, a CDN to which blobs are redirected.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import quote

from aiohttp import web

from homeport.client.referrers import Referrer, make_index
from homeport.client.repository import FetchedManifest
from homeport.oci import manifest
from homeport.oci.digest import Digest
from tests.client.images import Image
from tests.client.servers import LittleServer, serving
from tests.mirror import faults
from tests.mirror.faults import Fault, Reply


class Kind(StrEnum):
    """What a request is for."""

    PING = "ping"
    TOKEN = "token"
    CATALOG = "catalog"
    TAGS = "tags"
    HEAD_MANIFEST = "HEAD manifest"
    GET_MANIFEST = "GET manifest"
    HEAD_BLOB = "HEAD blob"
    GET_BLOB = "GET blob"
    REFERRERS = "referrers"
    #: The bytes of a blob at the other host.
    CDN = "cdn"
    OTHER = "other"


@dataclass(frozen=True)
class Asked:
    """A request as it was seen, also if a fault was its answer."""

    kind: Kind
    repository: str = ""
    #: The tag or digest, where there is one.
    target: str = ""
    #: From which byte on.
    start: int = 0
    authorization: str | None = None

    def is_of(self, of: str | None) -> bool:
        """Whether `of` is its repository, its tag, or its digest."""
        return of is None or of in (self.repository, self.target)


@dataclass
class Repository:
    """What one repository holds."""

    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, FetchedManifest] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)


@dataclass
class Quota:
    """What Docker Hub gives away: a GET of a manifest takes one, a HEAD tells what is left."""

    limit: int
    remaining: int
    window_seconds: int = 21_600

    @property
    def headers(self) -> dict[str, str]:
        return {
            "ratelimit-limit": f"{self.limit};w={self.window_seconds}",
            "ratelimit-remaining": f"{self.remaining};w={self.window_seconds}",
            "docker-ratelimit-source": "192.0.2.7",
        }


@dataclass
class Step:
    """A line of the script: from the request after `skip` on, for `times` of them, or for all that follow."""

    kind: Kind
    of: str | None
    skip: int
    times: int | None
    fault: Fault | None = None
    action: Callable[[], None] | None = None

    def is_due(self, asked: Asked) -> bool:
        if asked.kind is not self.kind or not asked.is_of(self.of) or self.times == 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class Held:
    """Requests whose answers wait."""

    kind: Kind
    of: str | None
    waiting: int = 0
    _opened: asyncio.Event = field(default_factory=asyncio.Event)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reached(self, count: int = 1) -> None:
        """Returns when so many requests are waiting."""
        async with self._came:
            await self._came.wait_for(lambda: self.waiting >= count)

    def open(self) -> None:
        """Lets them go, and all that come later."""
        self._opened.set()

    async def wait(self) -> None:
        async with self._came:
            self.waiting += 1
            self._came.notify_all()
        await self._opened.wait()


class Upstream:
    """The registry. `running` gives one that listens."""

    def __init__(self, cdn_address: str = "127.0.0.1") -> None:
        self.repositories: dict[str, Repository] = defaultdict(Repository)
        self.asked: list[Asked] = []
        #: None: no limit, and no word of one.
        self.quota: Quota | None = None
        #: "" lets everybody in; otherwise how it wants people to log in: "basic" or "bearer", or both at once.
        self.scheme = ""
        self.user, self.password = "ada", "correct horse battery"
        #: With "bearer", everybody may have a token for the others.
        self.private: set[str] = set()
        #: Where tokens are said to be; None is the truth.
        self.realm: str | None = None
        self.token_seconds: float = 300
        #: How often a token is taken; None: always, whatever was said of its time.
        self.token_uses: int | None = None
        self.tells_digests = True
        self.has_referrers = True
        self.has_catalog = True
        self.takes_ranges = True
        #: Tags or names of one answer at most; None: all, whatever is asked for.
        self.page_items: int | None = 1_000
        #: Amazon's: to ask for more is an error. Quay's is `page_items = 100`.
        self.refuses_n_above: int | None = None
        #: Blobs are at another host: another port of this one, or all of another address.
        self.redirects = False
        self.cdn_address = cdn_address
        #: How often the address of a blob there may be used; 0: it has expired when it is given.
        self.cdn_uses: int | None = None
        self._cdn_left: dict[str, int | None] = {}
        self._steps: list[Step] = []
        self._held: list[Held] = []
        self._tokens: dict[str, tuple[frozenset[str], bool, int | None]] = {}
        self._server: LittleServer | None = None
        self._cdn: LittleServer | None = None
        self._listening = AsyncExitStack()

    @classmethod
    @asynccontextmanager
    async def running(cls, cdn_address: str = "127.0.0.1") -> AsyncIterator[Upstream]:
        """One that listens until the block ends."""
        upstream = cls(cdn_address)
        await upstream.up()
        try:
            yield upstream
        finally:
            await upstream.down()

    async def up(self) -> None:
        """Begins to listen, after `down` at the same port again."""
        port = self._server.port if self._server else 0
        self._server = await self._listening.enter_async_context(serving(self._answer, port=port))
        port = self._cdn.port if self._cdn else 0
        cdn = serving(self._answer_of_cdn, address=self.cdn_address, port=port)
        self._cdn = await self._listening.enter_async_context(cdn)

    async def down(self) -> None:
        """Stops to listen; what is under way is cut."""
        await self._listening.aclose()

    @property
    def host(self) -> str:
        """HOST:PORT, as in references."""
        assert self._server is not None
        return self._server.host

    # --- what it holds ------------------------------------------------------------------------------------------

    def put(self, repository: str, image: Image, *tags: str) -> Image:
        """Holds an image with everything that it consists of, under these tags."""
        held = self.repositories[repository]
        held.manifests[image.digest] = image.pushed
        held.blobs |= {blob.blob.digest: blob.data for blob in image.blobs}
        for child in image.children:
            self.put(repository, child)
        for tag in tags:
            held.tags[tag] = image.digest
        return image

    def attach(self, repository: str, referrer: Image) -> None:
        """Holds a referrer of what it names as its subject; without the API, also under the subject's fallback tag."""
        self.put(repository, referrer)
        subject = referrer.pushed.manifest.subject
        assert subject is not None
        if not self.has_referrers:
            data = make_index(self._referrers(repository, subject))
            index = FetchedManifest(Digest.of(data), manifest.parse(data, ""))
            self.put(repository, Image(index), subject.fallback_tag)

    def tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Sets or moves a tag."""
        assert digest in self.repositories[repository].manifests
        self.repositories[repository].tags[tag] = digest

    def untag(self, repository: str, *tags: str) -> None:
        """Takes tags away; what they led to stays."""
        for tag in tags:
            del self.repositories[repository].tags[tag]

    def remove(self, repository: str) -> None:
        """Takes a whole repository away."""
        del self.repositories[repository]

    # --- the script ---------------------------------------------------------------------------------------------

    def fail(self, kind: Kind, fault: Fault, *, of: str | None = None, skip: int = 0, times: int | None = None) -> None:
        """From the request after `skip` on, answers `times` requests of that kind, or all, with `fault`.

        `of`: only those for this repository, tag or digest. Several faults for one request are done one after another.
        """
        self._steps.append(Step(kind, of, skip, times, fault=fault))

    def upon(self, kind: Kind, action: Callable[[], None], *, of: str | None = None, skip: int = 0) -> None:
        """Calls `action` once, when the request after `skip` comes and before it is answered."""
        self._steps.append(Step(kind, of, skip, 1, action=action))

    def behave(self) -> None:
        """Forgets the script: no faults any more."""
        self._steps.clear()

    @contextmanager
    def held(self, kind: Kind, *, of: str | None = None) -> Iterator[Held]:
        """Answers to these requests wait until the block ends, or is told to let them go."""
        held = Held(kind, of)
        self._held.append(held)
        try:
            yield held
        finally:
            self._held.remove(held)
            held.open()

    # --- what was asked -----------------------------------------------------------------------------------------

    def count(self, kind: Kind, *, of: str | None = None) -> int:
        """How many requests of that kind came, for this repository, tag or digest."""
        return sum(asked.kind is kind and asked.is_of(of) for asked in self.asked)

    def forget(self) -> None:
        """Counts from here on."""
        self.asked.clear()

    # --- answers ------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = _read(request)
        return await self._send(request, asked, lambda: self._reply(request, asked))

    async def _answer_of_cdn(self, request: web.Request) -> web.StreamResponse:
        name, _, target = request.path.removeprefix("/").rpartition("/")
        asked = Asked(Kind.CDN, name, target, _start(request), request.headers.get("Authorization"))
        return await self._send(request, asked, lambda: self._cdn_reply(request, asked))

    async def _send(self, request: web.Request, asked: Asked, right: Callable[[], Reply]) -> web.StreamResponse:
        """The right answer, unless the script says otherwise."""
        self.asked.append(asked)
        due = [step for step in self._steps if step.is_due(asked)]
        for step in due:
            if step.action is not None:
                step.action()
        for held in [held for held in self._held if held.kind is asked.kind and asked.is_of(held.of)]:
            await held.wait()
        reply = right()
        for step in due:
            if step.fault is not None:
                reply = step.fault(reply)
        return await _sent(request, reply)

    def _reply(self, request: web.Request, asked: Asked) -> Reply:
        if asked.kind is Kind.TOKEN:
            return self._token(request)
        if not self._may(request, asked):
            return Reply(401, {"WWW-Authenticate": self._challenge(asked)}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        match asked.kind:
            case Kind.PING:
                return Reply(body=b"{}")
            case Kind.CATALOG if self.has_catalog:
                names = sorted(name for name in self.repositories if self._shows(request, name))
                return self._page(request, "repositories", names)
            case Kind.TAGS if asked.repository in self.repositories:
                return self._page(request, "tags", sorted(self.repositories[asked.repository].tags))
            case Kind.HEAD_MANIFEST | Kind.GET_MANIFEST:
                return self._manifest(asked)
            case Kind.HEAD_BLOB | Kind.GET_BLOB:
                return self._blob(asked)
            case Kind.REFERRERS if self.has_referrers:
                data = make_index(self._referrers(asked.repository, Digest(asked.target)))
                return Reply(headers={"Content-Type": "application/vnd.oci.image.index.v1+json"}, body=data)
            case Kind.TAGS:
                return _refusal(404, "NAME_UNKNOWN")
        return _refusal(404, "UNSUPPORTED")

    def _manifest(self, asked: Asked) -> Reply:
        told = self.quota.headers if self.quota is not None else {}
        if asked.kind is Kind.GET_MANIFEST and self.quota is not None:
            if self.quota.remaining == 0:
                return replace(faults.pull_limit()(Reply()), headers=told)
            self.quota.remaining -= 1
            told = self.quota.headers
        repository = self.repositories.get(asked.repository, Repository())
        found = repository.manifests.get(repository.tags.get(asked.target, Digest(asked.target)))
        if found is None:
            return replace(_refusal(404, "MANIFEST_UNKNOWN"), headers=told)
        said = {"Docker-Content-Digest": found.digest} if self.tells_digests else {}
        return Reply(headers={"Content-Type": found.manifest.media_type, **said, **told}, body=found.manifest.data)

    def _blob(self, asked: Asked) -> Reply:
        data = self.repositories.get(asked.repository, Repository()).blobs.get(Digest(asked.target))
        if data is None:
            return _refusal(404, "BLOB_UNKNOWN")
        if self.redirects and asked.kind is Kind.GET_BLOB:
            assert self._cdn is not None
            signature = str(len(self._cdn_left))
            self._cdn_left[signature] = self.cdn_uses
            return Reply(307, {"Location": f"{self._cdn.url}/{asked.repository}/{asked.target}?signature={signature}"})
        return self._part(data, asked)

    def _cdn_reply(self, request: web.Request, asked: Asked) -> Reply:
        left = self._cdn_left.get(request.query["signature"], 0)
        data = self.repositories[asked.repository].blobs.get(Digest(asked.target))
        if left == 0 or data is None:
            return Reply(403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
        self._cdn_left[request.query["signature"]] = left - 1 if left is not None else None
        return self._part(data, asked)

    def _part(self, data: bytes, asked: Asked) -> Reply:
        if not asked.start or not self.takes_ranges:
            return Reply(body=data)
        if asked.start >= len(data):
            return Reply(416)
        headers = {"Content-Range": f"bytes {asked.start}-{len(data) - 1}/{len(data)}"}
        return Reply(206, headers, data[asked.start :])

    def _page(self, request: web.Request, key: str, names: list[str]) -> Reply:
        wanted = int(request.query.get("n", 1_000))
        if self.refuses_n_above is not None and wanted > self.refuses_n_above:
            return _refusal(400, "PAGINATION_NUMBER_INVALID")
        last = request.query.get("last", "")
        rest = [name for name in names if name > last]
        page = rest if self.page_items is None else rest[: min(wanted, self.page_items)]
        more = f'<{request.path}?last={quote(page[-1])}&n={wanted}>; rel="next"' if len(page) < len(rest) else None
        # As a Go program writes an empty list.
        return Reply(body=json.dumps({"name": "x", key: page or None}).encode()).with_headers(Link=more)

    def _referrers(self, repository: str, subject: Digest) -> list[Referrer]:
        held = self.repositories[repository].manifests.values()
        return [Referrer.of(one.manifest, one.digest) for one in held if one.manifest.subject == subject]

    # --- who may ------------------------------------------------------------------------------------------------

    def _token(self, request: web.Request) -> Reply:
        sent = request.headers.get("Authorization")
        if sent is not None and sent != self._basic:
            return _refusal(401, "UNAUTHORIZED")
        token = f"token-{len(self._tokens)}"
        scopes = frozenset(request.query.getall("scope", []))
        self._tokens[token] = (scopes, sent is not None, self.token_uses)
        return Reply(body=json.dumps({"token": token, "expires_in": self.token_seconds}).encode())

    def _may(self, request: web.Request, asked: Asked) -> bool:
        sent = request.headers.get("Authorization", "")
        if "bearer" in self.scheme and sent.startswith("Bearer "):
            return self._takes(sent.removeprefix("Bearer "), asked)
        return self.scheme == "" or ("basic" in self.scheme and sent == self._basic)

    def _takes(self, token: str, asked: Asked) -> bool:
        scopes, known, left = self._tokens.get(token, (frozenset(), False, 0))
        if left == 0:
            return False
        self._tokens[token] = (scopes, known, left - 1 if left is not None else None)
        wanted = f"repository:{asked.repository}:pull"
        allowed = not asked.repository or any(scope.startswith(wanted) for scope in scopes)
        return allowed and (known or asked.repository not in self.private)

    def _shows(self, request: web.Request, repository: str) -> bool:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        known = self._tokens.get(token, (frozenset(), self.scheme != "bearer", None))[1]
        return known or repository not in self.private

    def _challenge(self, asked: Asked) -> str:
        assert self._server is not None
        realm = self.realm or f"{self._server.url}/token"
        scope = f',scope="repository:{asked.repository}:pull"' if asked.repository else ""
        bearer = f'Bearer realm="{realm}",service="upstream"{scope}'
        return ", ".join([bearer] * ("bearer" in self.scheme) + ['Basic realm="upstream"'] * ("basic" in self.scheme))

    @property
    def _basic(self) -> str:
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


_PATHS = (
    (re.compile(r"/v2/()()"), {"GET": Kind.PING}),
    (re.compile(r"/token()()"), {"GET": Kind.TOKEN}),
    (re.compile(r"/v2/_catalog()()"), {"GET": Kind.CATALOG}),
    (re.compile(r"/v2/(.+)/tags/list()"), {"GET": Kind.TAGS}),
    (re.compile(r"/v2/(.+)/manifests/([^/]+)"), {"GET": Kind.GET_MANIFEST, "HEAD": Kind.HEAD_MANIFEST}),
    (re.compile(r"/v2/(.+)/blobs/([^/]+)"), {"GET": Kind.GET_BLOB, "HEAD": Kind.HEAD_BLOB}),
    (re.compile(r"/v2/(.+)/referrers/([^/]+)"), {"GET": Kind.REFERRERS}),
)


def _read(request: web.Request) -> Asked:
    authorization = request.headers.get("Authorization")
    for path, kinds in _PATHS:
        found = path.fullmatch(request.path)
        if found is not None and request.method in kinds:
            return Asked(kinds[request.method], found[1], found[2], _start(request), authorization)
    return Asked(Kind.OTHER, target=request.path, authorization=authorization)


def _start(request: web.Request) -> int:
    found = re.fullmatch(r"bytes=([0-9]+)-", request.headers.get("Range", ""))
    return int(found[1]) if found is not None else 0


def _refusal(status: int, code: str) -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": code.replace("_", " ").lower()}]}).encode()
    return Reply(status, {"Content-Type": "application/json"}, body)


async def _sent(request: web.Request, reply: Reply) -> web.StreamResponse:
    claimed = len(reply.body) if reply.claimed is None else reply.claimed
    if reply.cut_after is None and reply.trickle is None and claimed == len(reply.body):
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
    response = web.StreamResponse(status=reply.status, headers={**reply.headers, "Content-Length": str(claimed)})
    await response.prepare(request)
    body = reply.body if reply.cut_after is None else reply.body[: reply.cut_after]
    if request.method != "HEAD":
        seconds, size = reply.trickle or (0.0, max(1, len(body)))
        for position in range(0, len(body), size):
            await response.write(body[position : position + size])
            await asyncio.sleep(seconds)
        if len(body) < claimed and request.transport is not None:
            request.transport.close()
    return response
