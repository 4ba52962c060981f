"""Reading blobs: cut, redirected, lied about, and still right or refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from homeport.client.downloads import BlobDownload
from homeport.client.errors import BadAnswer, ConnectionFailed, ContentMismatch, NotFound, Refused
from homeport.client.gate import Gate, Pace
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.transport import Transport
from homeport.oci.digest import Digest
from homeport.oci.manifest import Descriptor, Role
from tests.client.clocks import QuickClock
from tests.client.images import Factory
from tests.client.servers import LittleServer, moved, serving

BLOB = Factory().blob(3_000_000)
PATH = f"/v2/team/app/blobs/{BLOB.blob.digest}"


async def read(server: LittleServer, transport: Transport, blob: Descriptor = BLOB.blob) -> bytes:
    repository = RemoteRepository(Remote(server.host, transport), "team/app")
    async with repository.open_blob(blob) as download:
        return b"".join([chunk async for chunk in download.chunks()])


def start_of(request: web.Request) -> int:
    text = request.headers.get("Range")
    return int(text.removeprefix("bytes=").removesuffix("-")) if text else 0


async def send(request: web.Request, data: bytes, count: int, **changed: str) -> web.StreamResponse:
    """`count` bytes of `data` from where the request wants them; the headers promise all, then the line is cut."""
    start = start_of(request)
    headers = {"Content-Length": str(len(data) - start)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    response = web.StreamResponse(status=206 if start else 200, headers=headers | changed)
    await response.prepare(request)
    await response.write(data[start : start + count])
    if start + count < len(data):
        assert request.transport is not None
        request.transport.close()
    return response


async def test_a_cut_download_goes_on_where_it_stopped(transport: Transport, clock: QuickClock) -> None:
    async def cutting(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, 400_000)

    async with serving(cutting) as server:
        assert await read(server, transport) == BLOB.data
        starts = [int(seen.headers.get("Range", "bytes=0-")[6:-1]) for seen in server.seen if seen.path == PATH]
        assert starts == sorted(starts)
        assert len(set(starts)) == 8
        assert all(seconds < 1 for seconds in clock.slept)  # what gets on does not run into ever longer pauses


async def test_each_resumption_asks_the_registry_for_a_new_address(transport: Transport) -> None:
    async def storage(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, 1_600_000)

    async with serving(storage, address="127.0.0.2") as cdn:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return moved(f"{cdn.url}/signed?number={len(server.seen)}", 307)

        async with serving(redirect) as server:
            assert await read(server, transport) == BLOB.data
            assert len({seen.path for seen in cdn.seen}) == 2
            assert {seen.authorization for seen in cdn.seen} == {None}


@pytest.mark.parametrize("status", [400, 401, 403, 410])
async def test_an_address_that_expired_on_the_way_is_asked_for_again(
    transport: Transport, clock: QuickClock, status: int
) -> None:
    async def storage(request: web.Request) -> web.StreamResponse:
        if request.query["number"] in ("1", "3"):
            return web.Response(status=status, text="<Error><Code>AccessDenied</Code></Error>")
        return await send(request, BLOB.data, 1_600_000)

    async with serving(storage) as cdn:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return moved(f"{cdn.url}/signed?number={len(server.seen)}", 307)

        async with serving(redirect) as server:
            assert await read(server, transport) == BLOB.data
            assert len(clock.slept) == 3  # one more for the connection that was cut
            refusing = len(cdn.seen)

    async def refusal(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with serving(refusal) as server:
        with pytest.raises(Refused, match=str(status)):
            await read(server, transport)
        assert len(server.seen) == 1
    assert refusing == 4


async def test_a_server_without_ranges_is_read_from_the_start_again(transport: Transport) -> None:
    cuts = [1_000_000, 2_000_000, 3_000_000]

    async def whole_only(request: web.Request) -> web.StreamResponse:
        count = cuts.pop(0) if start_of(request) or len(cuts) == 3 else 0
        response = web.StreamResponse(headers={"Content-Length": str(len(BLOB.data))})
        await response.prepare(request)
        await response.write(BLOB.data[:count])
        if count < len(BLOB.data):
            assert request.transport is not None
            request.transport.close()
        return response

    async with serving(whole_only) as server:
        assert await read(server, transport) == BLOB.data


async def test_the_last_bytes_of_a_wrong_blob_are_never_given(transport: Transport) -> None:
    wrong = BLOB.data[:-1] + bytes([BLOB.data[-1] ^ 1])

    async def lying(request: web.Request) -> web.StreamResponse:
        return await send(request, wrong, len(wrong))

    async with serving(lying) as server:
        repository = RemoteRepository(Remote(server.host, transport), "team/app")
        got = bytearray()

        async def read_on() -> None:
            async with repository.open_blob(BLOB.blob) as download:
                async for chunk in download.chunks():
                    got.extend(chunk)

        with pytest.raises(ContentMismatch, match=f"what it sends as blob {BLOB.blob.digest} is sha256:"):
            await read_on()
        assert len(got) < len(wrong)


async def test_a_blob_that_changes_while_it_is_resumed_is_refused(transport: Transport) -> None:
    async def changing(request: web.Request) -> web.StreamResponse:
        data = bytes(len(BLOB.data)) if start_of(request) else BLOB.data
        return await send(request, data, 2_000_000)

    async with serving(changing) as server:
        with pytest.raises(ContentMismatch):
            await read(server, transport)


@pytest.mark.parametrize("size", [len(BLOB.data) - 1, len(BLOB.data) + 1, 0])
async def test_another_size_than_the_manifests_is_refused(transport: Transport, size: int) -> None:
    async def whole(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, len(BLOB.data))

    async with serving(whole) as server:
        with pytest.raises(ContentMismatch):
            await read(server, transport, Descriptor("x/y", BLOB.blob.digest, size, Role.LAYER))


async def test_an_endless_body_ends_at_the_blobs_size(transport: Transport) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(64 * 1024))

    async with serving(endless) as server:
        with pytest.raises(ContentMismatch):
            await read(server, transport)


async def test_a_range_that_was_not_asked_for_is_refused(transport: Transport) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, 2_000_000, **{"Content-Range": "bytes 5-2999999/3000000"})

    async with serving(elsewhere) as server:
        with pytest.raises(BadAnswer, match="another range"):
            await read(server, transport)


async def test_no_progress_ends(transport: Transport, clock: QuickClock) -> None:
    async def stuck(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, 0 if start_of(request) else 1_000_000)

    async with serving(stuck) as server:
        with pytest.raises(ConnectionFailed):
            await read(server, transport)
        assert len(clock.slept) == 4


async def test_what_trickles_too_slowly_to_end_is_given_up(transport: Transport, clock: QuickClock) -> None:
    async def trickling(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(BLOB.data))})
        await response.prepare(request)
        for byte in BLOB.data:
            clock.offset += 50
            await response.write(bytes([byte]))
            await asyncio.sleep(0)
        return response

    async with serving(trickling) as server:
        with pytest.raises(ConnectionFailed, match="too slowly") as failure:
            await read(server, transport)
        assert not failure.value.temporary
        assert len(server.seen) == 1


async def test_who_verifies_the_whole_may_begin_in_its_middle(transport: Transport) -> None:
    async def whole(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, len(BLOB.data))

    async with serving(whole) as server:
        repository = RemoteRepository(Remote(server.host, transport), "team/app")
        async with repository.open_blob(BLOB.blob, verify=False) as download:
            got = bytearray(BLOB.data[:1_000_000])
            while chunk := await download.read(len(got)):
                got += chunk
        assert got == BLOB.data
        assert [seen.headers["Range"] for seen in server.seen if seen.path == PATH] == ["bytes=1000000-"]
        async with repository.open_blob(BLOB.blob) as download:
            with pytest.raises(ValueError, match="could not be verified"):
                await download.read(1)


async def test_a_slow_reader_is_not_the_hosts_fault(transport: Transport, clock: QuickClock) -> None:
    async def whole(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, len(BLOB.data))

    async with serving(whole) as server:
        repository = RemoteRepository(Remote(server.host, transport), "team/app")
        async with repository.open_blob(BLOB.blob) as download:
            got = bytearray()
            async for chunk in download.chunks():
                clock.offset += 86_400
                got += chunk
        assert got == BLOB.data


async def test_who_gave_up_waiting_can_read_on(transport: Transport, clock: QuickClock) -> None:
    async def whole(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, len(BLOB.data))

    async with serving(whole) as server:
        gate = Gate(Pace(clock, bytes_per_second=1_000_000), at_once=1)
        repository = RemoteRepository(Remote(server.host, transport, gate=gate), "team/app")
        for turns in range(12):
            async with repository.open_blob(BLOB.blob) as download:
                got = bytearray(await download.read(0))
                waiting = asyncio.create_task(download.read(len(got)))
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiting.cancel()
                for chunk in await asyncio.gather(waiting, return_exceptions=True):
                    got += chunk if isinstance(chunk, bytes) else b""
                while chunk := await download.read(len(got)):
                    got += chunk
            assert got == BLOB.data


async def test_a_busy_registry_is_waited_for_and_a_refusal_told(transport: Transport, clock: QuickClock) -> None:
    answers: list[web.Response] = [
        web.Response(status=429, headers={"Retry-After": "7"}),
        web.Response(status=503, headers={"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}),
        web.Response(status=500, headers={"Retry-After": "whenever"}),
    ]

    async def busy(request: web.Request) -> web.StreamResponse:
        return answers.pop(0) if answers else await send(request, BLOB.data, len(BLOB.data))

    async with serving(busy) as server:
        assert await read(server, transport) == BLOB.data
        assert clock.slept[0] == 7
        assert all(0 < seconds < 1 for seconds in clock.slept[1:])


async def test_a_registry_that_wants_to_be_left_alone_is(transport: Transport, clock: QuickClock) -> None:
    async def closed(request: web.Request) -> web.StreamResponse:
        body = '{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
        return web.Response(status=429, headers={"Retry-After": "3600"}, text=body)

    async with serving(closed) as server:
        with pytest.raises(Refused, match=r"pull rate limit.*wait for 3600 seconds") as failure:
            await read(server, transport)
        assert failure.value.retry_after_seconds == 3600
        assert clock.slept == []


async def test_a_missing_blob_is_named(transport: Transport) -> None:
    async def missing(request: web.Request) -> web.StreamResponse:
        return web.json_response({"errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown"}]}, status=404)

    async with serving(missing) as server:
        with pytest.raises(NotFound, match=f"{BLOB.blob.digest}: 404 BLOB_UNKNOWN"):
            await read(server, transport)


async def test_an_empty_blob(transport: Transport) -> None:
    async def empty(request: web.Request) -> web.StreamResponse:
        return web.Response()

    async with serving(empty) as server:
        assert await read(server, transport, Descriptor("x/y", Digest.of(b""), 0, Role.LAYER)) == b""
        with pytest.raises(ContentMismatch):
            await read(server, transport, Descriptor("x/y", Digest.of(b"not empty"), 0, Role.LAYER))


async def test_sha512(transport: Transport) -> None:
    blob = Descriptor("x/y", Digest.of(BLOB.data, "sha512"), len(BLOB.data), Role.LAYER)

    async def whole(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, len(BLOB.data))

    async with serving(whole) as server:
        assert await read(server, transport, blob) == BLOB.data


async def test_reading_again_from_an_earlier_position(transport: Transport) -> None:
    async def whole(request: web.Request) -> web.StreamResponse:
        return await send(request, BLOB.data, len(BLOB.data))

    async with serving(whole) as server:
        remote = Remote(server.host, transport)
        download = BlobDownload(remote, PATH, (), BLOB.blob)

        async def some(position: int, end: int) -> AsyncIterator[bytes]:
            while position < end and (chunk := await download.read(position)):
                yield chunk
                position += len(chunk)

        first = b"".join([chunk async for chunk in some(0, 2_000_000)])
        rest = b"".join([chunk async for chunk in some(1_000_000, 3_000_000)])
        assert first == BLOB.data[: len(first)]
        assert rest == BLOB.data[1_000_000:]
        download.close()
        with pytest.raises(ValueError, match="from its beginning"):
            await BlobDownload(remote, PATH, (), BLOB.blob).read(1)
