"""Fetches from real sockets that break anywhere, and of a process that dies: whole blobs, or none and an error."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from homeport.client.errors import ClientError, ConnectionFailed, ContentMismatch, NotFound, Refused
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.mirror.fetching import Fetch, Fetches
from homeport.observe import Log
from homeport.oci.manifest import Descriptor
from homeport.registry import blobs, uploads
from homeport.registry.blobs import Blob
from homeport.testing.blobstore_suite import MIB, content, pattern
from tests.client.clocks import QuickClock
from tests.client.servers import LittleServer, serving
from tests.mirror.upstreams import Upstream, layer
from tests.registry.world import ADA, OTHER, REPOSITORY, World

DATA = pattern(6 * MIB + 17)
BLOB = layer(DATA)
READERS = 5


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(ClientSettings(), QuickClock()) as transport:
        yield transport


@pytest.fixture
async def fetches(world: World) -> AsyncIterator[Fetches]:
    async with Fetches(world.registry, Log(io.StringIO(), world.clock)) as fetches:
        yield fetches


class Cutting:
    """An upstream that cuts the line each time that it comes to one of these positions, once or for ever."""

    def __init__(self, *cuts: int, forever: bool = False, data: bytes = DATA) -> None:
        self._cuts = set(cuts)
        self._forever = forever
        self._data = data

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        stop = min((cut for cut in self._cuts if cut >= start), default=len(self._data))
        if not self._forever:
            self._cuts.discard(stop)
        headers = {"Content-Length": str(len(self._data) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self._data) - 1}/{len(self._data)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        await response.write(self._data[start:stop])
        if stop < len(self._data):
            assert request.transport is not None
            request.transport.close()
        return response


async def ask(
    fetches: Fetches, transport: Transport, server: LittleServer, blob: Descriptor = BLOB, repository: str = REPOSITORY
) -> Fetch | Blob:
    source = RemoteRepository(Remote(server.host, transport), "library/app")
    return await fetches.stream(ADA, repository, blob, lambda: source.open_blob(blob, verify=False), shared=True)


async def read(
    fetches: Fetches, transport: Transport, server: LittleServer, repository: str = REPOSITORY
) -> tuple[bytes, Exception | None]:
    """What one client gets of the body, and the error that it ends with."""
    got = b""
    try:
        found = await ask(fetches, transport, server, repository=repository)
        assert isinstance(found, Fetch)
        async for chunk in found.read():
            got += chunk
    except ClientError as error:
        return got, error
    return got, None


async def is_here(world: World, repository: str = REPOSITORY) -> bool:
    blob = await world.registry.db.read(blobs.find, repository, BLOB.digest)
    if blob is not None:
        assert await content(world.registry.blobs, blob.location) == DATA
    return blob is not None


CUTS = [0, 1, 65_535, MIB, MIB + 1, 3 * MIB, len(DATA) - 1]


@pytest.mark.parametrize("cut", CUTS)
async def test_a_cut_line_is_nothing_that_a_reader_sees(
    world: World, fetches: Fetches, transport: Transport, cut: int
) -> None:
    async with serving(Cutting(cut)) as server:
        readers = [read(fetches, transport, server, repository) for repository in (REPOSITORY, OTHER) * READERS]
        assert await asyncio.gather(*readers) == [(DATA, None)] * (2 * READERS)
        assert len(server.seen) == 2  # from the beginning, and from where the line was cut
    assert await is_here(world)
    assert await is_here(world, OTHER)


@pytest.mark.parametrize("cut", CUTS)
async def test_a_line_that_stays_cut_ends_all_bodies_before_their_length(
    world: World, fetches: Fetches, transport: Transport, cut: int
) -> None:
    async with serving(Cutting(cut, forever=True)) as server:
        for got, error in await asyncio.gather(*(read(fetches, transport, server) for _ in range(READERS))):
            assert isinstance(error, ConnectionFailed)
            assert got == DATA[: len(got)]
            assert len(got) <= cut
    assert not await is_here(world)
    assert world.strays() == []
    async with serving(Cutting()) as server:
        assert await read(fetches, transport, server) == (DATA, None)


async def test_the_last_byte_of_a_wrong_blob_is_never_given(
    world: World, fetches: Fetches, transport: Transport
) -> None:
    async with serving(Cutting(data=DATA[:-1] + b"!")) as server:
        got, error = await read(fetches, transport, server)
        assert isinstance(error, ContentMismatch)
        assert len(got) < len(DATA)
    assert not await is_here(world)
    assert world.strays() == []


async def test_another_length_is_refused_before_the_first_byte(
    world: World, fetches: Fetches, transport: Transport
) -> None:
    async with serving(Cutting(data=DATA + b"!")) as server:
        with pytest.raises(ContentMismatch):
            await ask(fetches, transport, server)
    assert not await is_here(world)


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (403, Refused), (429, Refused)])
async def test_a_refusal_comes_before_the_first_byte(
    fetches: Fetches, transport: Transport, status: int, error: type[Refused]
) -> None:
    async def refusing(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "3600"})

    async with serving(refusing) as server:
        with pytest.raises(error) as caught:
            await ask(fetches, transport, server)
        assert caught.value.status == status


@pytest.mark.parametrize("came", [1, MIB, 5 * MIB, len(DATA)])
async def test_a_process_that_dies_leaves_nothing_half_there(tmp_path: Path, came: int) -> None:
    """What lies on the disk in the middle of a fetch is what a killed process leaves."""
    (tmp_path / "before").mkdir()
    durable = World(tmp_path / "before", tmp_path / "before/homeport.db")
    upstream = Upstream(DATA + b"the rest", allowed=came)
    async with Fetches(durable.registry, Log(io.StringIO(), durable.clock)) as fetches:
        fetch = await fetches.stream(ADA, REPOSITORY, upstream.blob, upstream.open, shared=True)
        assert isinstance(fetch, Fetch)
        assert [chunk async for chunk in fetch.read(came - 1, came)] == [DATA[came - 1 : came]]
        await asyncio.to_thread(shutil.copytree, tmp_path / "before", tmp_path / "after")
    await durable.close()
    after = World(tmp_path / "after", tmp_path / "after/homeport.db")
    assert await after.rows("SELECT digest FROM blobs") == []
    await uploads.discard_strays(after.registry)
    after.clock.ahead += after.registry.rules.uploads_seconds + 1
    await uploads.abandon(after.registry, 10)
    assert after.strays() == []
    upstream.allow()
    async with Fetches(after.registry, Log(io.StringIO(), after.clock)) as fetches:
        again = await fetches.stream(ADA, REPOSITORY, upstream.blob, upstream.open, shared=True)
        assert isinstance(again, Fetch)
        blob = await again.done()
        assert await content(after.registry.blobs, blob.location) == upstream.data
    await after.close()
