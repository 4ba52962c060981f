"""Pushing blobs: to a little registry that fails where a test says so, and through cut lines to a real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from homeport.client.errors import BadAnswer, ClientError, ConnectionFailed, Refused
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.retries import PATIENCE
from homeport.client.transport import Transport
from homeport.client.uploads import Outcome
from homeport.oci.digest import Digest
from homeport.oci.manifest import Descriptor
from tests.client.clocks import QuickClock
from tests.client.images import Bytes, Factory, pull, push
from tests.client.memory import Fault, MemoryRegistry
from tests.client.servers import DockerRegistry, LittleServer, raw_serving, serving

LARGE = Factory().blob(3_000_000)
SMALL = Factory().blob(1_000)


@asynccontextmanager
async def uploading(made: MemoryRegistry, transport: Transport) -> AsyncIterator[tuple[LittleServer, RemoteRepository]]:
    async with serving(made.answer) as server:
        yield server, RemoteRepository(Remote(server.host, transport), "team/app")


def methods(server: LittleServer) -> list[str]:
    return [seen.method for seen in server.seen if seen.path != "/v2/"]


def cut_after(count: int) -> Fault:
    async def fault(made: MemoryRegistry, request: web.Request) -> web.StreamResponse | None:
        held = made.uploads[request.path.rpartition("/")[2]]
        while len(held) < count:
            held += (await request.content.readany())[: count - len(held)]
        assert request.transport is not None
        request.transport.close()
        return web.Response(status=500)

    return fault


def status(code: int, **headers: str) -> Fault:
    async def fault(made: MemoryRegistry, request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=code, headers=headers)

    return fault


async def test_a_small_blob_is_one_put_and_a_large_one_a_patch_and_a_put(transport: Transport) -> None:
    made = MemoryRegistry()
    async with uploading(made, transport) as (server, repository):
        moved: list[int] = []
        assert await repository.put_blob(SMALL) is Outcome.SENT
        assert methods(server) == ["HEAD", "POST", "PUT"]
        assert await repository.put_blob(LARGE, moved=moved.append) is Outcome.SENT
        assert methods(server)[3:] == ["HEAD", "POST", "PATCH", "PUT"]
        assert await repository.put_blob(LARGE) is Outcome.PRESENT
        assert await repository.put_blob(Bytes(b"")) is Outcome.SENT
        assert set(made.blobs.values()) == {SMALL.data, LARGE.data, b""}
        assert moved == sorted(moved)
        assert moved[-1] == len(LARGE.data)


async def test_a_cut_upload_goes_on_where_the_registry_stands(transport: Transport, clock: QuickClock) -> None:
    made = MemoryRegistry({"PATCH": [cut_after(1_200_000), cut_after(1_700_000)]})
    async with uploading(made, transport) as (server, repository):
        assert await repository.put_blob(LARGE) is Outcome.SENT
        ranges = [seen.headers.get("Content-Range") for seen in server.seen if seen.method == "PATCH"]
        assert ranges == [None, "1200000-2999999", "1700000-2999999"]
        assert made.blobs[LARGE.blob.digest] == LARGE.data
        assert len(clock.slept) == 2


async def test_a_cut_in_the_last_part_is_resumed_by_the_put(transport: Transport) -> None:
    made = MemoryRegistry({"PATCH": [cut_after(2_500_000)]})
    async with uploading(made, transport) as (server, repository):
        assert await repository.put_blob(LARGE) is Outcome.SENT
        assert methods(server) == ["HEAD", "POST", "PATCH", "HEAD", "GET", "PUT"]


async def test_an_upload_that_gets_on_is_not_given_up(transport: Transport) -> None:
    cuts = 2 * PATIENCE.attempts
    made = MemoryRegistry({"PATCH": [cut_after(150_000 * number) for number in range(1, cuts + 1)]})
    async with uploading(made, transport) as (server, repository):
        assert await repository.put_blob(LARGE) is Outcome.SENT
        assert methods(server).count("PATCH") == cuts + 1
        assert methods(server).count("POST") == 1


async def test_an_upload_that_stands_still_is_given_up(transport: Transport) -> None:
    made = MemoryRegistry({"PATCH": [cut_after(150_000) for _ in range(2 * PATIENCE.attempts)]})
    async with uploading(made, transport) as (server, repository):
        with pytest.raises(ConnectionFailed):
            await repository.put_blob(LARGE)
        assert methods(server).count("PATCH") == PATIENCE.attempts + 1  # the first one got on


async def test_what_the_registry_holds_is_not_sent_again_to_close_the_upload(transport: Transport) -> None:
    made = MemoryRegistry({"PUT": [status(503)] * PATIENCE.attempts})
    async with uploading(made, transport) as (server, repository):
        assert await repository.put_blob(LARGE) is Outcome.SENT
        assert methods(server) == ["HEAD", "POST", "PATCH", *["PUT"] * PATIENCE.attempts, "HEAD", "GET", "PUT"]
        assert made.blobs[LARGE.blob.digest] == LARGE.data


async def test_parts_that_do_not_fit_together_are_sent_anew(transport: Transport) -> None:
    async def mixed_up(made: MemoryRegistry, request: web.Request) -> web.StreamResponse | None:
        return web.json_response({"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}, status=400)

    made = MemoryRegistry({"PATCH": [cut_after(1_200_000)], "PUT": [mixed_up]})
    async with uploading(made, transport) as (server, repository):
        assert await repository.put_blob(LARGE) is Outcome.SENT
        assert methods(server).count("POST") == 2
        assert made.blobs[LARGE.blob.digest] == LARGE.data


async def test_a_lost_session_is_begun_anew(transport: Transport) -> None:
    made = MemoryRegistry({"PATCH": [status(404)], "GET": [status(404)]})
    async with uploading(made, transport) as (server, repository):
        assert await repository.put_blob(LARGE) is Outcome.SENT
        assert methods(server).count("POST") == 2


async def test_only_the_answer_was_lost(transport: Transport) -> None:
    async def stored_but_cut(made: MemoryRegistry, request: web.Request) -> web.StreamResponse | None:
        made.blobs[request.query["digest"]] = LARGE.data
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    made = MemoryRegistry({"PUT": [stored_but_cut, status(404)]})
    async with uploading(made, transport) as (server, repository):
        assert await repository.put_blob(LARGE) is Outcome.SENT
        assert methods(server).count("POST") == 1


async def test_a_registry_that_takes_less_gets_the_rest(transport: Transport) -> None:
    made = MemoryRegistry(kept_at_most=800_000)
    async with uploading(made, transport) as (server, repository):
        assert await repository.put_blob(LARGE) is Outcome.SENT
        assert methods(server).count("PATCH") == 4
        made.kept_at_most = 0
        with pytest.raises(BadAnswer, match="keeps none"):
            await repository.put_blob(Factory().blob(2_000_001))


async def test_wrong_bytes_are_told_and_not_sent_again(transport: Transport) -> None:
    class Wrong(Bytes):
        @property
        def blob(self) -> Descriptor:
            return Descriptor("x/y", Digest.of(b"other"), len(self.data), super().blob.role)

    made = MemoryRegistry()
    async with uploading(made, transport) as (server, repository):
        with pytest.raises(Refused, match="DIGEST_INVALID"):
            await repository.put_blob(Wrong(LARGE.data))
        assert methods(server).count("POST") == 1


@pytest.mark.parametrize("code", [403, 405, 413])
async def test_a_refusal_is_told_at_once(transport: Transport, clock: QuickClock, code: int) -> None:
    async with uploading(MemoryRegistry({"PATCH": [status(code)]}), transport) as (_, repository):
        with pytest.raises(Refused, match=f"PATCH .*: {code}"):
            await repository.put_blob(LARGE)
        assert clock.slept == []


async def test_a_full_registry_is_waited_for_only_so_long(transport: Transport, clock: QuickClock) -> None:
    made = MemoryRegistry({"PATCH": [status(507)] * 10})
    async with uploading(made, transport) as (_, repository):
        with pytest.raises(Refused, match="507"):
            await repository.put_blob(LARGE)
        assert len(clock.slept) == 4


@pytest.mark.parametrize("answer", [status(202), status(200, Location="/x"), status(202, Location="gopher://x/")])
async def test_an_upload_without_a_place_to_go_is_refused(transport: Transport, answer: Fault) -> None:
    async with uploading(MemoryRegistry({"POST": [answer]}), transport) as (server, repository):
        with pytest.raises(ClientError):
            await repository.put_blob(LARGE)
        assert methods(server) == ["HEAD", "POST"]


async def test_an_upload_address_on_another_host_gets_the_bytes_and_not_the_login(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = MemoryRegistry()
    async with serving(made.answer, address="127.0.0.2") as storage, uploading(made, transport) as (server, repository):
        made.locations = storage.url + made.locations

        async def header(scopes: tuple[str, ...]) -> str | None:
            return "Basic c2VjcmV0"

        await repository.remote.base()
        monkeypatch.setattr(repository.remote._logins, "header", header)
        assert await repository.put_blob(LARGE) is Outcome.SENT
        assert {seen.authorization for seen in server.seen[1:]} == {"Basic c2VjcmV0"}
        assert [seen.method for seen in storage.seen] == ["PATCH", "PUT"]
        assert {seen.authorization for seen in storage.seen} == {None}


async def test_a_token_that_ends_in_the_middle_is_replaced(transport: Transport) -> None:
    tokens_given: list[str] = []
    made = MemoryRegistry()

    async def with_tokens(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            tokens_given.append(f"token-{len(tokens_given)}")
            return web.json_response({"token": tokens_given[-1]})
        good = "token-1" if request.method == "PATCH" or len(tokens_given) > 1 else "token-0"
        if request.headers.get("Authorization") == f"Bearer {good}":
            return await made.answer(request)
        challenge = f'Bearer realm="http://{request.host}/token"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge, "Connection": "close"})

    async with serving(with_tokens) as server:
        repository = RemoteRepository(Remote(server.host, transport), "team/app")
        assert await repository.put_blob(LARGE) is Outcome.SENT
        assert made.blobs[LARGE.blob.digest] == LARGE.data


async def test_a_refused_mount_is_an_ordinary_upload(transport: Transport) -> None:
    made = MemoryRegistry({"POST": [status(403)]})
    async with uploading(made, transport) as (server, repository):
        assert await repository.put_blob(SMALL, mount_from="private/other") is Outcome.SENT
        made.faults["POST"] = [status(201)]
        assert await repository.put_blob(LARGE, mount_from="team/other") is Outcome.MOUNTED
        assert server.paths("POST")[-1] == (
            f"/v2/team/app/blobs/uploads/?mount={LARGE.blob.digest.replace(':', '%3A')}&from=team%2Fother"
        )


async def test_what_fails_at_the_source_is_the_sources_error(transport: Transport, clock: QuickClock) -> None:
    class Broken(Bytes):
        async def read(self, position: int) -> bytes:
            if position > 1_000_000:
                raise ConnectionFailed("the source is gone", temporary=True)
            return await super().read(position)

    async with uploading(MemoryRegistry(), transport) as (_, repository):
        with pytest.raises(ConnectionFailed, match="the source is gone"):
            await repository.put_blob(Broken(LARGE.data))
        assert clock.slept == []


@asynccontextmanager
async def cutting_line(registry: DockerRegistry, limits: list[int]) -> AsyncIterator[str]:
    """A line to `registry`. Its connections break after so many bytes in one direction, until no limit is left."""
    port = int(registry.host.rpartition(":")[2])

    async def move(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> None:
        moved = 0
        while chunk := await reader.read(min(65_536, limit - moved) if limit else 65_536):
            writer.write(chunk)
            await writer.drain()
            moved += len(chunk)
            if limit and moved >= limit:
                raise ConnectionResetError
        writer.write_eof()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        limit = limits.pop(0) if limits else 0
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(move(reader, far_writer, limit))
                group.create_task(move(far_reader, writer, limit))
        except* ConnectionError:
            writer.transport.abort()
        finally:
            far_writer.transport.abort()

    async with raw_serving(converse) as host:
        yield host


async def test_a_real_registry_over_a_line_that_breaks(docker_registry: DockerRegistry, transport: Transport) -> None:
    image = Factory().image(20_000_000, 1_000)
    limits = [5_000, 7_000_000, 4_000_000, 3_000]
    async with cutting_line(docker_registry, limits) as host:
        repository = RemoteRepository(Remote(host, transport), "team/app")
        await push(repository, image, "1.0")
        assert limits == []
        limits += [9_000_000, 6_000_000]
        await transport.__aexit__(None, None, None)
        await transport.__aenter__()
        pulled = await pull(repository, "1.0")
        assert limits == []
        assert pulled[image.blobs[1].blob.digest] == image.blobs[1].data
