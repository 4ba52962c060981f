"""A real server that is killed again and again under load, and what its clients remember of its answers.

Each life: the server starts on the folder that the last one left, what was answered is looked up, the clients go on
where they were cut off, and at a drawn moment the process gets SIGKILL.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from homeport.clock import SystemClock
from homeport.db.sqlite import SqliteDatabase
from homeport.oci.digest import Digest
from homeport.registry.registry import Registry, Rules
from homeport.storage.filesystem import FilesystemStore
from homeport.testing import images, invariants
from homeport.testing.images import Image
from tests.support.processes import Config, Homeport

CLIENTS = 4
REPOSITORIES = ("app", "base", "team/app")
#: Of one client in one repository.
TAGS = 4
CONFIG: Config = {"access": {"anonymous": ["pull", "push", "delete"]}, "log": {"level": "warning"}}
#: Things from earlier lives that are looked up in each new one, beside all that the last life touched.
SAMPLE = 40
#: How often all rows and bytes are looked at while no server runs.
LIVES_BETWEEN_CHECKS = 10


class ServerGoneError(Exception):
    """The connection broke: the server was killed."""


@dataclass(frozen=True)
class Thing:
    """Something that a server can be asked for: a blob or manifest by digest, or a manifest by tag."""

    kind: str
    repository: str
    name: str

    @property
    def path(self) -> str:
        return f"/v2/{self.repository}/{self.kind}/{self.name}"


@dataclass
class Upload:
    """An upload session that a client had begun."""

    location: str
    repository: str
    data: bytes
    acknowledged: int = 0
    #: Its closing PUT was sent, so it may be over.
    closing: bool = False
    #: When something was last sent to it.
    moved_at: float = field(default_factory=time.monotonic)


class Memory:
    """What the clients were answered: for each thing the contents that it may have now; None: it is not there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._possible: dict[Thing, set[Digest | None]] = {}
        self._touched: set[Thing] = set()
        self.contents: dict[Digest, bytes] = {}
        self.answered = 0
        self.verified = 0
        self.resumed = 0

    def asked(self, thing: Thing, content: Digest | None) -> None:
        """A request was sent that gives the thing this content."""
        with self._lock:
            self._possible.setdefault(thing, {None}).add(content)
            self._touched.add(thing)

    def answer(self, thing: Thing, content: Digest | None) -> None:
        """It was answered."""
        with self._lock:
            self._possible[thing] = self._from_now_on(thing, content)
            self.answered += 1

    def keep(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        self.contents[digest] = data
        return digest

    def to_look_up(self, random: Random) -> list[Thing]:
        """What the last life touched, and some of the rest."""
        touched, self._touched = self._touched, set()
        rest = [thing for thing in self._possible if thing not in touched]
        return [*touched, *random.sample(rest, min(SAMPLE, len(rest)))]

    def everything(self) -> list[Thing]:
        return list(self._possible)

    def found(self, thing: Thing, content: Digest | None) -> None:
        possible = self._possible[thing]
        assert content in possible, f"{thing} is {content}, and should be one of {possible}"
        self._possible[thing] = self._from_now_on(thing, content)

    def _from_now_on(self, thing: Thing, content: Digest | None) -> set[Digest | None]:
        """What a thing may be until the next request, that is this now."""
        return {content}


class Client:
    """One client on one connection."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
        self.requests = 0

    def ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] = b"", **headers: str
    ) -> tuple[HTTPResponse, bytes]:
        """The answer and its body. Raises `ServerGoneError`."""
        self.requests += 1
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            self._connection.request(method, path, body, named)
            response = self._connection.getresponse()
            return response, response.read()
        except (OSError, HTTPException) as error:
            raise ServerGoneError from error

    def expect(self, status: int, method: str, path: str, body: bytes = b"", **headers: str) -> HTTPResponse:
        response, content = self.ask(method, path, body, **headers)
        assert response.status == status, f"{method} {path}: {response.status} {content[:300]!r}"
        return response

    def look_up(self, thing: Thing, memory: Memory) -> Digest | None:
        """The digest of what the server has, whose bytes must be right."""
        response, content = self.ask("GET", thing.path)
        if response.status == 404:
            return None
        assert response.status == 200, f"{thing}: {response.status} {content[:300]!r}"
        digest = Digest.of(content)
        assert response.getheader("docker-content-digest") == digest
        assert memory.contents[digest] == content
        memory.verified += 1
        return digest

    def missing(self, repository: str, digest: Digest, memory: Memory) -> list[Thing]:
        """What is not there of all that a manifest names. What is there must be right to the byte."""
        document = json.loads(memory.contents[digest])
        absent = []
        for child in document.get("manifests", []):
            if self.look_up(thing := Thing("manifests", repository, child["digest"]), memory) is None:
                absent.append(thing)
            absent += self.missing(repository, child["digest"], memory)
        for blob in [document["config"], *document["layers"]] if "config" in document else []:
            if self.look_up(thing := Thing("blobs", repository, blob["digest"]), memory) is None:
                absent.append(thing)
        return absent

    def close(self) -> None:
        self._connection.close()


@dataclass
class Pusher:
    """A client that pushes, tags and deletes until the server is gone, and goes on with the next one."""

    name: str
    memory: Memory
    random: Random
    layers: list[bytes]
    #: Of the layers that are one image's own.
    sizes: Sequence[int] = (0, 100, 5_000, 60_000, 60_000, 1_500_000)
    upload: Upload | None = None
    failure: BaseException | None = None
    requests: int = 0
    _count: int = 0
    _own: list[tuple[str, Image]] = field(default_factory=list)

    def run(self, url: str, killed: threading.Event) -> None:
        """Work until the server is gone, which it may be only once it was `killed`."""
        self._client = Client(url)
        try:
            self._resume()
            while True:
                self._work()
        except BaseException as error:  # noqa: BLE001 - told where the thread is joined
            if not (isinstance(error, ServerGoneError) and killed.is_set()):
                self.failure = error
        finally:
            self.requests += self._client.requests
            self._client.close()

    def _work(self) -> None:
        self._push_an_image()
        if self._own and self.random.random() < 0.2:
            self._delete_a_manifest()

    # --- images -------------------------------------------------------------------------------------------------

    def _new_image(self, *, subject: Image | None = None) -> Image:
        """An image that nobody else has, of which some layers are everybody's."""
        self._count += 1
        shared = self.random.sample(self.layers, 2)
        size = self.random.choice(self.sizes)
        config = json.dumps({"by": self.name, "number": self._count}).encode()
        return images.image([*shared, self.random.randbytes(size)], config=config, subject=subject)

    def _a_tag(self) -> str:
        """One of one's own."""
        return f"{self.name}-{self.random.randrange(TAGS)}"

    def _push_an_image(self) -> None:
        repository, image, tag = self.random.choice(REPOSITORIES), self._new_image(), self._a_tag()
        for data in image.blobs:
            self._push_blob(repository, data)
        digest = self.memory.keep(image.data)
        things = (Thing("manifests", repository, digest), Thing("manifests", repository, tag))
        for thing in things:
            self.memory.asked(thing, digest)
        self._client.expect(201, "PUT", things[1].path, image.data, content_type=image.media_type)
        for thing in things:
            self.memory.answer(thing, digest)
        self._own.append((repository, image))

    def _delete_a_manifest(self) -> None:
        """One of one's own, with the tags that point at it."""
        repository, image = self._own.pop(self.random.randrange(len(self._own)))
        things = [Thing("manifests", repository, image.digest)]
        for number in range(TAGS):
            tag = Thing("manifests", repository, f"{self.name}-{number}")
            if self._client.look_up(tag, self.memory) == image.digest:
                things.append(tag)
        for thing in things:
            self.memory.asked(thing, None)
        self._client.expect(202, "DELETE", things[0].path)
        for thing in things:
            self.memory.answer(thing, None)

    # --- blobs --------------------------------------------------------------------------------------------------

    def _push_blob(self, repository: str, data: bytes) -> None:
        digest = self.memory.keep(data)
        thing = Thing("blobs", repository, digest)
        if self.random.random() < 0.3 and self._client.ask("HEAD", thing.path)[0].status == 200:
            return
        self.memory.asked(thing, digest)
        uploads = f"/v2/{repository}/blobs/uploads/"
        way = self.random.random()
        if way < 0.2:
            self._client.expect(201, "POST", f"{uploads}?digest={digest}", data)
        else:
            query = f"?mount={digest}&from={self.random.choice(REPOSITORIES)}" if way < 0.4 else ""
            response, _ = self._client.ask("POST", uploads + query)
            assert response.status in {201, 202}, response.status
            if response.status == 202:
                self.upload = Upload(str(response.getheader("location")), repository, data)
                self._send()
        self.memory.answer(thing, digest)

    def _send(self) -> None:
        """Bring the upload to its end: chunks, and the closing PUT with what is left."""
        upload = self.upload
        assert upload is not None
        while len(upload.data) - upload.acknowledged > 50_000 or self.random.random() < 0.5:
            stop = min(len(upload.data), upload.acknowledged + self.random.choice((1_000, 50_000, 1_000_000)))
            chunk = upload.data[upload.acknowledged : stop]
            if not chunk:
                break
            place = f"{upload.acknowledged}-{stop - 1}"
            self._client.expect(202, "PATCH", upload.location, chunk, content_range=place)
            upload.acknowledged, upload.moved_at = stop, time.monotonic()
        upload.closing = True
        rest = upload.data[upload.acknowledged :]
        self._client.expect(201, "PUT", f"{upload.location}?digest={Digest.of(upload.data)}", rest)
        self.upload = None

    def _resume(self) -> None:
        """Go on with the upload that the last server's death cut off."""
        upload = self.upload
        if upload is None:
            return
        response, _ = self._client.ask("GET", upload.location)
        if response.status == 404 and self._may_be_over(upload):
            self.upload = None
            return
        assert response.status == 204, f"an upload of {upload.acknowledged} bytes: {response.status}"
        size = int(str(response.getheader("range")).partition("-")[2]) + 1
        size = 0 if size == 1 and upload.acknowledged == 0 else size  # "0-0" says none or one.
        assert upload.closing or upload.acknowledged <= size <= len(upload.data), f"{upload.acknowledged} and {size}"
        if upload.closing and size < upload.acknowledged:
            # Its bytes had found their place when the server died; only the row was missing.
            self._client.expect(204, "DELETE", upload.location)
            self.upload = None
            return
        thing = Thing("blobs", upload.repository, Digest.of(upload.data))
        self.memory.asked(thing, Digest.of(upload.data))
        upload.acknowledged = size
        self._send()
        self.memory.answer(thing, Digest.of(upload.data))
        self.memory.resumed += 1

    def _may_be_over(self, upload: Upload) -> bool:
        return upload.closing


class Harness:
    """The server, its clients, and what they remember."""

    kill_after_seconds_max = 0.4

    def __init__(self, server: Homeport, seed: int) -> None:
        self.kills = 0
        self._server = server
        self._random = Random(seed)
        layers = [self._random.randbytes(size) for size in (10, 3_000, 40_000, 200_000, 1_100_000)]
        self.memory = self._remember()
        self._pushers = self._clients(seed, layers)

    def _remember(self) -> Memory:
        return Memory()

    def _clients(self, seed: int, layers: list[bytes]) -> Sequence[Pusher]:
        return [Pusher(f"client{number}", self.memory, Random(seed + number), layers) for number in range(CLIENTS)]

    @property
    def requests(self) -> int:
        """How many the clients sent."""
        return sum(pusher.requests for pusher in self._pushers)

    def live(self, lives: int, seconds_max: float) -> None:
        """Kill the server that often, at most for so long; raises `AssertionError` for what is lost."""
        deadline = time.monotonic() + seconds_max
        for life in range(1, lives + 1):
            assert time.monotonic() < deadline, f"only {life - 1} kills in {seconds_max} s"
            self._one_life()
        self._end()

    def _one_life(self) -> None:
        url = self._start()
        self._look_up(self.memory.to_look_up(self._random))
        killed = threading.Event()
        threads = [threading.Thread(target=pusher.run, args=[url, killed]) for pusher in self._pushers]
        for thread in threads:
            thread.start()
        time.sleep(self._random.random() * self.kill_after_seconds_max)
        killed.set()
        self._server.kill()
        self.kills += 1
        for thread in threads:
            thread.join()
        for pusher in self._pushers:
            if pusher.failure is not None:
                raise pusher.failure
        if self.kills % LIVES_BETWEEN_CHECKS == 0:
            asyncio.run(check_folder(self._server.data))

    def _end(self) -> None:
        """All that was ever answered is looked up."""
        asyncio.run(check_folder(self._server.data))
        self._start()
        self._look_up(self.memory.everything())
        self._resolve_every_tag()
        self._server.kill()

    def _start(self) -> str:
        return self._server.start(CONFIG)

    def _look_up(self, things: list[Thing]) -> None:
        client = Client(self._server.url)
        for thing in things:
            self.memory.found(thing, client.look_up(thing, self.memory))
        client.close()

    def _resolve_every_tag(self) -> None:
        """Every tag that is listed leads to a manifest whose blobs are all there."""
        client = Client(self._server.url)
        for repository in REPOSITORIES:
            _, listed = client.ask("GET", f"/v2/{repository}/tags/list")
            for tag in json.loads(listed).get("tags", []):
                digest = client.look_up(Thing("manifests", repository, tag), self.memory)
                assert digest is not None
                absent = client.missing(repository, digest, self.memory)
                assert not absent, f"{repository}:{tag} lacks {absent}"
        client.close()


@asynccontextmanager
async def open_folder(data: Path, rules: Rules | None = None) -> AsyncIterator[Registry]:
    """The registry on a data folder, also beside a running server."""
    clock = SystemClock()
    database = SqliteDatabase(data / "homeport.db", clock)
    store = FilesystemStore(data, clock)
    try:
        yield Registry(database, store, clock, rules or Rules())
    finally:
        await store.close()
        await database.close()


async def check_folder(data: Path) -> None:
    """Look at every row and every byte while no server runs."""
    async with open_folder(data) as registry:
        await invariants.check(registry)
