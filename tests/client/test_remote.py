"""One registry and its repositories: how it is reached, lists, manifests, and answers that cannot be believed."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest
from aiohttp import web

from homeport.client.credentials import FixedCredentials
from homeport.client.errors import BadAnswer, ConnectionFailed, ContentMismatch, NotFound, Refused
from homeport.client.registries import Registries
from homeport.client.remote import Remote
from homeport.client.repository import MANIFEST_BYTES_MAX, RemoteRepository
from homeport.client.settings import ClientSettings, HostSettings
from homeport.client.transport import Transport
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.reference import Reference
from tests.client.clocks import QuickClock
from tests.client.images import Factory, descriptor
from tests.client.servers import free_port, raw_serving, serving
from tests.support.certificates import Authority

IMAGE = Factory().image()
DATA = IMAGE.pushed.manifest.data


async def empty_object(request: web.Request) -> web.StreamResponse:
    return web.Response(text="{}")


def repository_of(host: str, transport: Transport) -> RemoteRepository:
    return RemoteRepository(Remote(host, transport), "team/app")


async def test_this_machine_is_reached_with_tls_or_without(transport: Transport, tmp_path: Path) -> None:
    async with serving(empty_object) as server:
        for name in ("127.0.0.1", "localhost"):
            remote = Remote(f"{name}:{server.port}", transport)
            await remote.ping()
            assert (await remote.base()).scheme == "http"
    certificate = Authority(tmp_path).issue()
    async with serving(empty_object, tls=certificate) as server:
        remote = Remote(server.host, transport)
        with pytest.raises(ConnectionFailed, match="is not trusted"):
            await remote.ping()
        assert server.seen == []
        trusting = ClientSettings(hosts={"127.0.0.1": HostSettings(ca=certificate.ca)})
        async with Transport(trusting, QuickClock()) as with_ca:
            remote = Remote(server.host, with_ca)
            await remote.ping()
            assert (await remote.base()).scheme == "https"


async def test_another_host_is_never_reached_without_tls_unless_told(
    clock: QuickClock, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeport.client.trust.is_loopback", lambda host: False)
    async with serving(empty_object) as server:
        with pytest.raises(
            ConnectionFailed, match=rf'no TLS .*; if .* has none, .* {{"{server.host}": {{insecure: true}}}}'
        ):
            await Remote(server.host, transport).ping()
        settings = ClientSettings(hosts={server.host: HostSettings(insecure=True)})
        async with Transport(settings, clock) as told:
            await Remote(server.host, told).ping()


async def test_docker_hub_is_somewhere_else(clock: QuickClock) -> None:
    async with Registries(ClientSettings(), FixedCredentials(), clock) as registries:
        repository = await registries.repository(Reference.parse("alpine"))
        assert str(await repository.remote.base()) == "https://registry-1.docker.io"
        assert str(repository) == "docker.io/library/alpine"
        assert await registries.remote("docker.io") is repository.remote


async def test_a_registry_that_is_not_there(transport: Transport, clock: QuickClock) -> None:
    with pytest.raises(ConnectionFailed, match="cannot connect"):
        await Remote(f"127.0.0.1:{free_port()}", transport).ping()
    assert clock.slept == []


async def test_temporary_refusals_are_tried_again_and_others_are_not(transport: Transport, clock: QuickClock) -> None:
    statuses: list[int] = []

    async def shaky(request: web.Request) -> web.StreamResponse:
        return web.Response(status=statuses.pop(0))

    async with serving(shaky) as server:
        remote = Remote(server.host, transport)
        for first in ([408, 429, 500, 502], [503, 504, 507, 429]):
            statuses[:] = [*first, 200]
            await remote.ping()
        assert len(clock.slept) == 9  # one was for the gate: after a 429 nobody asks for a second
        statuses[:] = [500] * 10
        with pytest.raises(Refused, match="500"):
            await remote.ping()
        assert len(statuses) == 5
        for status in (400, 401, 403, 404, 405, 416, 501, 505):
            statuses[:] = [status] * 2
            with pytest.raises(Refused, match=str(status)):
                await remote.ping()
            assert len(statuses) == 1


@pytest.mark.parametrize(
    "links",
    [
        ['</v2/team/app/tags/list?n=2&last=b>; rel="next"', "<{url}/v2/team/app/tags/list?last=d&n=2>;rel=next"],
        ['<?last=b&n=2>; title="x"; rel="next"', '</first>; rel="first", </v2/team/app/tags/list?x=%2F>; rel="next"'],
    ],
)
async def test_pages_are_followed_as_they_are_linked(transport: Transport, links: list[str]) -> None:
    pages = [["a", "b"], ["c", "d"], ["e"]]

    async def paged(request: web.Request) -> web.StreamResponse:
        number = len(server.seen) - 1
        headers = {"Link": links[number].replace("{url}", server.url)} if number < len(links) else {}
        return web.json_response({"name": "team/app", "tags": pages[number]}, headers=headers)

    async with serving(paged) as server:
        repository = repository_of(server.host, transport)
        assert [tag async for tag in repository.tags()] == ["a", "b", "c", "d", "e"]
        assert server.seen[0].path == "/v2/team/app/tags/list?n=1000"


@pytest.mark.parametrize(
    ("body", "link"),
    [
        ({"tags": ["a"]}, '</v2/team/app/tags/list?n=1000>; rel="next"'),
        ({"tags": ["a"]}, '<http://127.0.0.2:1/v2/team/app/tags/list>; rel="next"'),
        ({"tags": ["a"]}, '<ftp://127.0.0.1/>; rel="next"'),
        ({"tags": ["../../x"]}, ""),
        ({"tags": [1]}, ""),
        ({"tags": "abc"}, ""),
        ({"tags": ""}, ""),
        ({"tags": False}, ""),
        ({"tags": {}}, ""),
        ({"tags": ["a"]}, "</v2/team/app/tags/list?last=a>; rel=next; ="),
        ({"tags": ["a"]}, "/v2/team/app/tags/list?last=a"),
        ({"errors": [{"code": "NAME_UNKNOWN"}]}, ""),
        ({"tags": {"a": 1}}, ""),
        ({}, ""),
        ([], ""),
    ],
)
async def test_lists_that_cannot_be_believed(transport: Transport, body: object, link: str) -> None:
    async def paged(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, headers={"Link": link} if link else {})

    async with serving(paged) as server:
        with pytest.raises(BadAnswer):
            _ = [tag async for tag in repository_of(server.host, transport).tags()]
        assert len(server.seen) <= 2


async def test_a_list_that_is_cut_or_packed_is_none(transport: Transport) -> None:
    """At each byte, also of a body whose length nobody told."""
    body = b'{"name":"team/app","tags":["1.0","2.0"]}'
    told = b"Content-Length: %d\r\n\r\n" % len(body)
    untold = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body)
    answers = [told + body[:count] for count in range(len(body))] + [
        untold + b"0\r\n\r\n"[:count] for count in range(4)
    ]

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1) == b"G":  # anything else is the question whether TLS is spoken
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n" + answers[0])
            await writer.drain()

    async with raw_serving(converse) as host:
        repository = repository_of(host, transport)
        while answers:
            with pytest.raises(ConnectionFailed):
                _ = [tag async for tag in repository.tags()]
            answers.pop(0)

    async def packing(request: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(body), headers={"Content-Encoding": "gzip"})

    async with serving(packing) as server:
        with pytest.raises(BadAnswer, match="encoded as gzip, which nobody asked for"):
            _ = [tag async for tag in repository_of(server.host, transport).tags()]


async def test_what_is_listed_twice_is_there_once(transport: Transport) -> None:
    async def listed(request: web.Request) -> web.StreamResponse:
        headers = {} if request.query.get("last") else {"Link": '<?last=b>; rel="next"'}
        names = ["a", "b", "a"] if headers else ["b", "c"]
        return web.json_response({"tags": names, "repositories": names, "child": [], "manifest": {}}, headers=headers)

    async with serving(listed) as server:
        repository = repository_of(server.host, transport)
        assert [tag async for tag in repository.tags()] == ["a", "b", "c"]
        assert [name async for name in repository.remote.catalog()] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["../x", "a?b", "A", "", 7, None])
async def test_a_name_that_cannot_be_a_repositorys_is_refused(transport: Transport, name: object) -> None:
    async def listed(request: web.Request) -> web.StreamResponse:
        return web.json_response({"repositories": ["team/app", name]})

    async with serving(listed) as server:
        with pytest.raises(BadAnswer, match="lists a repository that cannot be one"):
            _ = [found async for found in Remote(server.host, transport).catalog()]


async def test_a_list_is_only_so_long(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeport.client.remote.ITEMS_MAX", 2_500)
    number = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal number
        number += 1
        page = [f"{number}.{patch}" for patch in range(1_000)]
        return web.json_response({"tags": page}, headers={"Link": f'<?page={number}>; rel="next"'})

    async with serving(endless) as server:
        with pytest.raises(BadAnswer, match="has more than 2500 entries"):
            _ = [tag async for tag in repository_of(server.host, transport).tags()]
        assert number == 3


async def test_artifactory_forgets_through_which_repository_it_was_asked(transport: Transport) -> None:
    async def virtual(request: web.Request) -> web.StreamResponse:
        if request.path != "/v2/virtual/team/app/tags/list":
            return web.Response(status=404)
        last = request.query.get("last")
        headers = {} if last else {"Link": '</v2/team/app/tags/list?last=a&n=1000>; rel="next"'}
        return web.json_response({"tags": ["b"] if last else ["a"]}, headers=headers)

    async with serving(virtual) as server:
        repository = RemoteRepository(Remote(server.host, transport), "virtual/team/app")
        assert [tag async for tag in repository.tags()] == ["a", "b"]


async def test_links_in_a_ring_of_two(transport: Transport) -> None:
    async def ring(request: web.Request) -> web.StreamResponse:
        other = "b" if request.query_string == "a" else "a"
        return web.json_response({"tags": ["x"]}, headers={"Link": f'<?{other}>; rel="next"'})

    async with serving(ring) as server:
        with pytest.raises(BadAnswer, match="do not end"):
            _ = [tag async for tag in repository_of(server.host, transport).tags()]
        assert len(server.seen) == 3


async def test_no_tags_as_go_writes_it(transport: Transport) -> None:
    async def null(request: web.Request) -> web.StreamResponse:
        return web.json_response({"name": "team/app", "tags": None})

    async with serving(null) as server:
        assert [tag async for tag in repository_of(server.host, transport).tags()] == []


def manifest_answer(data: bytes = DATA, **headers: str) -> web.Response:
    defaults = {"Content-Type": mediatype.OCI_MANIFEST, "Docker-Content-Digest": Digest.of(data)}
    return web.Response(body=data, headers=defaults | {key.replace("_", "-"): value for key, value in headers.items()})


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        (Digest.of(b"another"), manifest_answer()),
        ("latest", manifest_answer(Docker_Content_Digest=Digest.of(b"another"))),
        ("latest", manifest_answer(Docker_Content_Digest="sha256:short")),
        ("latest", manifest_answer(Content_Type=mediatype.OCI_INDEX)),
        ("latest", manifest_answer(Content_Type=mediatype.DOCKER_MANIFEST)),
        ("latest", manifest_answer(gzip.compress(DATA), Content_Encoding="gzip")),
        (
            "latest",
            manifest_answer(gzip.compress(DATA), Docker_Content_Digest=Digest.of(DATA), Content_Encoding="gzip"),
        ),
        ("latest", web.Response(text="<html>Please log in.</html>", content_type="text/html")),
        ("latest", manifest_answer(DATA[:-1], Docker_Content_Digest=Digest.of(DATA))),
        ("latest", manifest_answer(b"[]")),
        ("latest", manifest_answer(b'{"schemaVersion": 1}')),
        ("latest", manifest_answer(b'{"schemaVersion": 2, "config": {}, "layers": [], "manifests": []}')),
        ("latest", manifest_answer(b"{" * 100_000)),
        ("latest", manifest_answer(b" " * (MANIFEST_BYTES_MAX + 1))),
    ],
)
async def test_manifests_that_cannot_be_believed(transport: Transport, target: str, answer: web.Response) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=answer.body, headers=answer.headers)

    async with serving(handler) as server:
        with pytest.raises(BadAnswer):
            await repository_of(server.host, transport).get_manifest(target)


@pytest.mark.parametrize("digest", [Digest.of(DATA), Digest.of(DATA, "sha512"), None])
async def test_a_manifest_comes_with_the_digest_of_its_bytes(transport: Transport, digest: Digest | None) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert mediatype.OCI_INDEX in request.headers["Accept"]
        headers = {"Content-Type": f"{mediatype.OCI_MANIFEST}; charset=utf-8"}
        return web.Response(body=DATA, headers=headers | ({"Docker-Content-Digest": digest} if digest else {}))

    async with serving(handler) as server:
        repository = repository_of(server.host, transport)
        for target in ("latest", *([digest] if digest else [])):
            got = await repository.get_manifest(target)
            assert got.manifest.data == DATA
            assert got.digest == (digest or Digest.of(DATA))


@pytest.mark.parametrize("says_little", ["no digest", "405"])
async def test_a_head_that_says_too_little_is_a_get(transport: Transport, says_little: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD" and says_little == "405":
            return web.Response(status=405)
        if request.path.endswith("missing"):
            return web.Response(status=404 if request.method == "GET" else 405)
        return web.Response(body=DATA, headers={"Content-Type": mediatype.OCI_MANIFEST})

    async with serving(handler) as server:
        repository = repository_of(server.host, transport)
        assert await repository.head_manifest("latest") == IMAGE.pushed.descriptor
        assert await repository.head_manifest("missing") is None


@pytest.mark.parametrize("headers", [{}, {"Docker-Content-Digest": "sha256:short"}])
async def test_a_captive_portal_has_no_manifests(transport: Transport, headers: dict[str, str]) -> None:
    async def portal(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>Please log in.</html>", content_type="text/html", headers=headers)

    async with serving(portal) as server:
        repository = repository_of(server.host, transport)
        for call in (repository.head_manifest, repository.get_manifest):
            with pytest.raises(BadAnswer):
                await call("latest")


async def test_the_code_tells_which_of_the_two_is_missing(transport: Transport) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        code = "MANIFEST_UNKNOWN" if "/manifests/" in request.path else "NAME_UNKNOWN"
        return web.json_response({"errors": [{"code": code, "message": "unknown"}]}, status=404)

    async with serving(handler) as server:
        repository = repository_of(server.host, transport)
        with pytest.raises(NotFound) as failure:
            await repository.get_manifest("latest")
        assert failure.value.code == "MANIFEST_UNKNOWN"
        with pytest.raises(NotFound) as failure:
            _ = [tag async for tag in repository.tags()]
        assert failure.value.code == "NAME_UNKNOWN"


async def test_a_manifest_that_is_stored_as_another_is_an_error(transport: Transport) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=201, headers={"Docker-Content-Digest": Digest.of(b"another")})

    async with serving(handler) as server:
        with pytest.raises(ContentMismatch, match="stored the manifest"):
            await repository_of(server.host, transport).put_manifest(IMAGE.pushed, "latest")


async def test_referrers_by_the_api(transport: Transport) -> None:
    signature = Factory().image(5, subject=IMAGE)
    listed = {**descriptor(signature.pushed.descriptor), "artifactType": "application/example"}
    other = {**listed, "digest": Digest.of(b"other"), "artifactType": "application/other"}

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.query.get("page") == "2":
            return web.json_response({"manifests": [other]})
        return web.json_response({"manifests": [listed]}, headers={"Link": '<?page=2>; rel="next"'})

    async with serving(handler) as server:
        repository = repository_of(server.host, transport)
        assert len(await repository.referrers(IMAGE.digest)) == 2
        filtered = await repository.referrers(IMAGE.digest, "application/example")
        assert [item.descriptor.digest for item in filtered] == [signature.digest]
        assert server.seen[-2].path.endswith("?artifactType=application%2Fexample")


@pytest.mark.parametrize(
    "entry",
    [
        {},
        7,
        {"mediaType": "x/y", "size": 1, "digest": "sha256:../../x"},
        {"mediaType": "x/y", "size": "1", "digest": Digest.of(b"")},
        {"mediaType": 1, "size": 1, "digest": Digest.of(b"")},
        {"mediaType": "x/y", "size": 1, "digest": Digest.of(b""), "artifactType": []},
    ],
)
async def test_referrers_that_cannot_be_believed(transport: Transport, entry: object) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"manifests": [entry]})

    async with serving(handler) as server:
        with pytest.raises(BadAnswer):
            await repository_of(server.host, transport).referrers(IMAGE.digest)


async def test_deleting_what_a_registry_does_not_let_go(transport: Transport) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"errors": [{"code": "UNSUPPORTED", "message": "off"}]}, status=405)

    async with serving(handler) as server:
        with pytest.raises(Refused, match="405 UNSUPPORTED: off"):
            await repository_of(server.host, transport).delete_manifest("latest")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (json.dumps({"errors": [{"code": "DENIED", "message": "no", "detail": {"a": 1}}]}), 'DENIED: no ({"a": 1})'),
        (json.dumps({"errors": []}), '{"errors": []}'),
        (json.dumps({"errors": [None]}), '{"errors": [null]}'),
        ("plain words\x07", "plain words"),
        ("<html>a proxy's page</html>", "Forbidden"),
        ("", "Forbidden"),
        ("[" * 10_000, "[" * 600 + "…"),
        ("x" * 100_000, "x" * 600 + "…"),
    ],
)
async def test_a_refusal_in_the_registrys_words(transport: Transport, body: str, shown: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=403, text=body)

    async with serving(handler) as server:
        with pytest.raises(Refused) as failure:
            await Remote(server.host, transport).ping()
        assert str(failure.value) == f"GET http://{server.host}/v2/: 403 {shown}"


async def test_not_found_is_its_own_error(transport: Transport) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404)

    async with serving(handler) as server:
        with pytest.raises(NotFound):
            await repository_of(server.host, transport).get_manifest("latest")
        assert await repository_of(server.host, transport).head_manifest("latest") is None
