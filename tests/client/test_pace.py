"""One registry asked at a pace: places, pauses, quotas, and how long a caller goes on."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from homeport.client.errors import Cause, ConnectionFailed, ContentMismatch, Limit, Refused
from homeport.client.gate import Gate, Pace
from homeport.client.ratelimits import Quota
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.retries import Patience
from homeport.client.transport import Transport
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from tests.client.clocks import QuickClock
from tests.client.images import Factory
from tests.client.servers import serving

IMAGE = Factory().image()
BLOBS = [blob.blob for blob in Factory().image(1_000, 2_000, 3_000).blobs]
HUB = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit."}]})


async def registry(request: web.Request) -> web.StreamResponse:
    """Has the blobs of one image."""
    blobs = {blob.blob.digest: blob.data for blob in Factory().image(1_000, 2_000, 3_000).blobs}
    digest = request.path.rpartition("/")[2]
    return web.Response(body=blobs[Digest(digest)]) if digest in blobs else web.json_response({})


async def test_an_open_blob_keeps_its_place_until_it_is_closed(transport: Transport, clock: QuickClock) -> None:
    async with serving(registry) as server:
        remote = Remote(server.host, transport, gate=Gate(Pace(clock), at_once=2))
        repository = RemoteRepository(remote, "team/app")
        async with AsyncExitStack() as first:
            for blob in BLOBS[:2]:
                download = await first.enter_async_context(repository.open_blob(blob))
                await download.read(0)
            waiting = asyncio.create_task(remote.ping())
            await asyncio.sleep(0.1)
            assert not waiting.done()
            assert len(server.seen) == 2
        await waiting
        for _ in range(5):  # whatever came of the answers
            await remote.ping()
            with pytest.raises(ContentMismatch):
                await repository.get_manifest(Digest.of(b"none"))


async def test_requests_and_bytes_come_at_the_pace(transport: Transport, clock: QuickClock) -> None:
    async with serving(registry) as server:
        pace = Pace(clock, requests_per_second=1, bytes_per_second=1_000)
        remote = Remote(server.host, transport, gate=Gate(pace))
        for _ in range(3):
            await remote.ping()
        assert [round(seconds) for seconds in clock.slept] == [1, 1]
        async with RemoteRepository(remote, "team/app").open_blob(BLOBS[2]) as download:
            assert len(await download.read(0)) == BLOBS[2].size
        async with RemoteRepository(remote, "team/app").open_blob(BLOBS[1]) as download:
            await download.read(0)
        assert [round(seconds) for seconds in clock.slept] == [
            1,
            1,
            1,
            1,
            1,
        ]  # a second of the bytes' two was the request's


async def test_quotas_are_told_from_manifests_only(transport: Transport) -> None:
    left = 12
    quotas: list[Quota] = []

    async def hub(request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        headers = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": f"{left};w=21600"}
        headers |= {"Content-Type": mediatype.OCI_MANIFEST, "Docker-Content-Digest": IMAGE.digest}
        if left < 10:
            return web.Response(status=429, text=HUB, headers=headers)
        return web.Response(body=IMAGE.pushed.manifest.data, headers=headers)

    async with serving(hub) as server:
        remote = Remote(server.host, transport, observe=quotas.append)
        repository = RemoteRepository(remote, "team/app")
        await remote.base()
        left = 12
        await repository.head_manifest("latest")
        await repository.get_manifest("latest")
        with pytest.raises(Refused):
            await repository.get_manifest("latest")
        with pytest.raises(Refused):
            await remote.ping()
    assert quotas == [Quota(100, remaining, 21_600) for remaining in (11, 10, 9)]


async def test_a_pull_limit_is_said_at_once_and_stops_nothing_else(transport: Transport, clock: QuickClock) -> None:
    async def hub(request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and request.path != "/v2/":
            return web.Response(status=429, text=HUB)
        headers = {"Content-Type": mediatype.OCI_MANIFEST, "Docker-Content-Digest": IMAGE.digest}
        return web.Response(body=IMAGE.pushed.manifest.data, headers=headers)

    async with serving(hub) as server:
        remote = Remote(server.host, transport)
        repository = RemoteRepository(remote, "team/app")
        with pytest.raises(Refused, match="pull rate limit") as failure:
            await repository.get_manifest("latest")
        assert failure.value.limit == Limit.PULLS
        with pytest.raises(Refused) as failure:
            async with repository.open_blob(BLOBS[0]) as download:
                await download.read(0)
        assert failure.value.limit == Limit.PULLS
        assert await repository.head_manifest("latest") is not None
        assert clock.slept == []
        assert remote.gate.pace.paused_seconds == 0


@pytest.mark.parametrize("asked", ["7", None])
async def test_an_abuse_limit_is_a_pause_for_all(transport: Transport, clock: QuickClock, asked: str | None) -> None:
    complaints = 0

    async def annoyed(request: web.Request) -> web.StreamResponse:
        nonlocal complaints
        if complaints == 0:
            return web.json_response({})
        complaints -= 1
        return web.Response(status=429, text="Too Many Requests", headers={"Retry-After": asked} if asked else {})

    async with serving(annoyed) as server:
        pace = Pace(clock)
        mirror = Remote(server.host, transport, gate=Gate(pace))
        people = Remote(server.host, transport, gate=Gate(pace), patience=Patience(2, longest_wait_seconds=0.5))
        await mirror.ping()
        await people.ping()
        complaints, began = 3, clock.offset
        await mirror.ping()
        waited = clock.offset - began
        assert waited == pytest.approx(21 if asked else 1 + 2 + 4, abs=0.5)
        complaints = 1
        with pytest.raises(Refused, match=r"429|stay away") as failure:
            await people.ping()
        assert failure.value.limit == Limit.REQUESTS
        seen = len(server.seen)
        with pytest.raises(Refused, match="asked us to stay away") as failure:
            await people.ping()
        assert failure.value.limit == Limit.REQUESTS
        assert failure.value.retry_after_seconds is not None
        assert len(server.seen) == seen
        await mirror.ping()


async def test_a_service_that_is_closed_for_a_while(transport: Transport, clock: QuickClock) -> None:
    answers = [web.Response(status=503, headers={"Retry-After": "9"}), web.Response(status=503), web.Response()]

    async def closed(request: web.Request) -> web.StreamResponse:
        return web.Response() if request.path == "/v2/" else answers.pop(0)

    async with serving(closed) as server:
        remote = Remote(server.host, transport)
        await remote.ping()
        await remote.fetch("GET", "/v2/x")
        assert clock.slept == [9, 0.375]


async def test_an_impatient_caller_tries_twice(transport: Transport, clock: QuickClock) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        return web.Response(status=502)

    async with serving(broken) as server:
        remote = Remote(server.host, transport, patience=Patience(attempts=2, longest_wait_seconds=0.1))
        await remote.base()
        for call in (remote.ping, remote.ping):
            seen = len(server.seen)
            with pytest.raises(Refused, match="502"):
                await call()
            assert len(server.seen) == seen + 2
        seen = len(server.seen)
        with pytest.raises(Refused, match="502"):
            async with RemoteRepository(remote, "team/app").open_blob(BLOBS[0]) as download:
                await download.read(0)
        assert len(server.seen) == seen + 2
        assert max(clock.slept) == 0.1


async def test_an_impatient_caller_waits_no_longer_than_it_said(transport: Transport, clock: QuickClock) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with serving(silent) as server:
        gate = Gate(Pace(clock), at_once=1)
        remote = Remote(server.host, transport, gate=gate, patience=Patience(2, total_seconds=0.2))
        for _ in range(2):
            with pytest.raises(ConnectionFailed, match=r"no answer to GET within 0.2 seconds") as failure:
                await remote.ping()
            assert failure.value.temporary
            assert failure.value.cause is Cause.TIMED_OUT
        await gate.enter(0)  # what was given up left its place
