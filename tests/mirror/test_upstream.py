"""The scripted upstream itself, as our client sees it: what tests of the mirror rest on."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from homeport.client.copying import copy
from homeport.client.credentials import Credential
from homeport.client.errors import BadAnswer, ClientError, ConnectionFailed, LoginFailed, NotFound, Refused, Untrusted
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.manifest import Role
from tests.client.clocks import QuickClock
from tests.client.images import Image, pull
from tests.client.memory import MemoryRegistry
from tests.client.servers import serving
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.upstream import Kind, Quota, Upstream

NAME = "team/app"


@pytest.fixture
def clock() -> QuickClock:
    return QuickClock()


@pytest.fixture
async def transport(clock: QuickClock) -> AsyncIterator[Transport]:
    async with Transport(ClientSettings(), clock) as transport:
        yield transport


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream.running() as upstream:
        yield upstream


@pytest.fixture
def repository(upstream: Upstream, transport: Transport) -> RemoteRepository:
    return RemoteRepository(Remote(upstream.host, transport), NAME)


async def tags(repository: RemoteRepository) -> list[str]:
    return [tag async for tag in repository.tags()]


async def read(repository: RemoteRepository, image: Image) -> dict[Digest, bytes]:
    return await pull(repository, image.digest)


def everything() -> list[Image]:
    made = Artifacts()
    return [
        made.image(),
        made.platforms("linux/amd64", "linux/arm/v7"),
        made.platforms(docker=True),
        made.platforms(attested=True),
        made.nested(),
        made.docker_image(),
        made.sha512(),
        made.chart(),
        made.artifact("application/spdx+json"),
    ]


@pytest.mark.parametrize("image", everything(), ids=lambda image: image.digest[:16])
async def test_holds_every_kind_of_artifact(upstream: Upstream, repository: RemoteRepository, image: Image) -> None:
    upstream.put(NAME, image, "1.0")
    found = await read(repository, image)
    assert found[image.digest] == image.pushed.manifest.data
    assert {blob.blob.digest for blob in image.all_blobs} <= found.keys()
    head = await repository.head_manifest("1.0")
    assert head is not None
    assert (head.digest.algorithm, head.media_type) == (image.digest.algorithm, image.pushed.manifest.media_type)
    assert upstream.count(Kind.HEAD_MANIFEST, of="1.0") == 1
    assert upstream.count(Kind.GET_MANIFEST, of=image.digest) == 1


@pytest.mark.parametrize("has_api", [True, False])
async def test_referrers_and_cosigns_tags_are_copied(
    upstream: Upstream, repository: RemoteRepository, transport: Transport, has_api: bool
) -> None:
    upstream.has_referrers = has_api
    made = Artifacts()
    image = upstream.put(NAME, made.platforms(), "1.0")
    for subject in (image, image.children[0]):
        upstream.attach(NAME, made.artifact("application/spdx+json", subject))
        upstream.attach(NAME, made.artifact("application/vnd.dev.cosign.artifact.sig.v1+json", subject))
    tag, signature = made.cosign(image)
    upstream.put(NAME, signature, tag)
    assert len(await repository.referrers(image.digest)) == 2
    memory = MemoryRegistry()
    async with serving(memory.answer) as server:
        await copy(repository, "1.0", RemoteRepository(Remote(server.host, transport), "copy"), "1.0", referrers=True)
    assert tag in memory.manifests
    held = upstream.repositories[NAME]
    # An index of referrers under a fallback tag is made by who pushes.
    assert {digest for digest, one in held.manifests.items() if not one.manifest.is_index} <= memory.manifests.keys()
    assert held.blobs.keys() == memory.blobs.keys()


async def test_faults_come_when_the_script_says(upstream: Upstream, repository: RemoteRepository) -> None:
    image = upstream.put(NAME, Artifacts().image(), "1.0", "2.0")
    upstream.fail(Kind.HEAD_MANIFEST, faults.status(403), of="1.0", skip=1, times=2)
    outcomes: list[bool | int] = []
    for tag in ("1.0", "2.0", "1.0", "2.0", "1.0", "1.0"):
        try:
            outcomes.append(await repository.head_manifest(tag) is not None)
        except Refused as refused:
            outcomes.append(refused.status)
    assert outcomes == [True, True, 403, True, 403, True]
    upstream.fail(Kind.GET_MANIFEST, lambda reply: replace(reply, status=418))
    with pytest.raises(Refused, match="418"):
        await read(repository, image)
    upstream.behave()
    await read(repository, image)
    assert upstream.count(Kind.HEAD_MANIFEST, of="1.0") == 4
    upstream.forget()
    assert upstream.asked == []


async def test_something_happens_upon_a_request(upstream: Upstream, repository: RemoteRepository) -> None:
    made = Artifacts()
    first, second = upstream.put(NAME, made.image(), "1.0"), upstream.put(NAME, made.image())
    upstream.upon(Kind.HEAD_MANIFEST, lambda: upstream.tag(NAME, "1.0", second.digest), skip=1)
    upstream.upon(Kind.HEAD_MANIFEST, lambda: upstream.untag(NAME, "1.0"), skip=2)
    seen = [await repository.head_manifest("1.0") for _ in range(3)]
    assert [head and head.digest for head in seen] == [first.digest, second.digest, None]
    upstream.remove(NAME)
    with pytest.raises(NotFound):
        await tags(repository)


async def test_answers_can_be_held_back(upstream: Upstream, repository: RemoteRepository) -> None:
    image = upstream.put(NAME, Artifacts().image(), "1.0")
    with upstream.held(Kind.GET_MANIFEST) as held:
        reading = [asyncio.create_task(repository.get_manifest("1.0")) for _ in range(3)]
        await held.reached(3)
        assert not any(task.done() for task in reading)
        assert await repository.head_manifest("1.0") is not None
    assert {manifest.digest for manifest in await asyncio.gather(*reading)} == {image.digest}


async def test_goes_down_and_comes_back_at_the_same_port(upstream: Upstream, repository: RemoteRepository) -> None:
    upstream.put(NAME, Artifacts().image(), "1.0")
    assert await tags(repository) == ["1.0"]
    await upstream.down()
    with pytest.raises(ConnectionFailed):
        await tags(repository)
    await upstream.up()
    assert await tags(repository) == ["1.0"]


@pytest.mark.parametrize("page_items", [1, 7, 100, None])
async def test_pages(upstream: Upstream, repository: RemoteRepository, page_items: int | None) -> None:
    image = upstream.put(NAME, Artifacts().image())
    names = sorted(f"1.{number}" for number in range(23))
    for name in names:
        upstream.tag(NAME, name, image.digest)
    upstream.page_items, upstream.refuses_n_above = page_items, 1_000
    assert await tags(repository) == names
    upstream.put("other", image)
    assert [name async for name in repository.remote.catalog()] == ["other", NAME]
    upstream.untag(NAME, *names)
    assert await tags(repository) == []
    upstream.refuses_n_above = 999
    with pytest.raises(Refused, match="400"):
        await tags(repository)


async def test_a_quota_is_taken_by_gets(upstream: Upstream, repository: RemoteRepository) -> None:
    image = upstream.put(NAME, Artifacts().platforms(), "1.0")
    upstream.quota = Quota(100, 4)
    await repository.head_manifest("1.0")
    await read(repository, image)
    assert upstream.quota.remaining == 1
    await repository.get_manifest("1.0")
    with pytest.raises(Refused, match="pull rate limit"):
        await repository.get_manifest("1.0")
    assert await repository.head_manifest("1.0") is not None


@pytest.mark.parametrize("scheme", ["basic", "bearer", "bearer and basic"])
async def test_logins(upstream: Upstream, transport: Transport, scheme: str) -> None:
    image = upstream.put("secret/app", upstream.put(NAME, Artifacts().image(), "1.0"), "1.0")
    upstream.scheme, upstream.private = scheme, {"secret/app"}
    known = Remote(upstream.host, transport, Credential(upstream.user, upstream.password))
    for name in (NAME, "secret/app"):
        assert await read(RemoteRepository(known, name), image)
    stranger = Remote(upstream.host, transport)
    if scheme == "basic":
        with pytest.raises(LoginFailed):
            await tags(RemoteRepository(stranger, NAME))
    else:
        assert await tags(RemoteRepository(stranger, NAME)) == ["1.0"]
        assert [name async for name in stranger.catalog()] == [NAME]
    with pytest.raises(LoginFailed):
        await tags(RemoteRepository(stranger, "secret/app"))
    with pytest.raises(LoginFailed):
        await tags(RemoteRepository(Remote(upstream.host, transport, Credential("ada", "wrong")), NAME))


async def test_tokens_that_end_and_a_realm_that_is_hostile(upstream: Upstream, transport: Transport) -> None:
    upstream.put(NAME, Artifacts().image(), "1.0")
    upstream.scheme, upstream.token_uses = "bearer", 1
    repository = RemoteRepository(Remote(upstream.host, transport), NAME)
    for number in range(1, 4):
        assert await tags(repository) == ["1.0"]
        assert upstream.count(Kind.TOKEN) == number
    upstream.token_uses = 0
    with pytest.raises(LoginFailed):
        await tags(repository)
    upstream.realm = "http://203.0.113.7/token"
    known = Remote(upstream.host, transport, Credential(upstream.user, upstream.password))
    with pytest.raises(Untrusted):
        await tags(RemoteRepository(known, NAME))


@pytest.mark.parametrize("uses", [None, 1, 0])
async def test_blobs_at_a_cdn(upstream: Upstream, transport: Transport, uses: int | None) -> None:
    image = upstream.put(NAME, Artifacts().image(5_000), "1.0")
    upstream.scheme, upstream.redirects, upstream.cdn_uses = "bearer", True, uses
    upstream.fail(Kind.CDN, faults.cut(1_000), of=image.blobs[1].blob.digest)
    repository = RemoteRepository(Remote(upstream.host, transport, Credential(upstream.user, upstream.password)), NAME)
    if uses == 0:
        with pytest.raises(Refused, match="403"):
            await read(repository, image)
    else:
        await read(repository, image)
        assert upstream.count(Kind.CDN, of=image.blobs[1].blob.digest) == 5
    at_cdn = [asked for asked in upstream.asked if asked.kind is Kind.CDN]
    assert at_cdn
    assert {asked.authorization for asked in at_cdn} == {None}


@pytest.mark.parametrize("step", [1, 333, 1_000, 4_999])
async def test_connections_are_cut_at_every_place(upstream: Upstream, repository: RemoteRepository, step: int) -> None:
    made = Artifacts()
    blob = made.blob(20 if step == 1 else 5_000)
    upstream.repositories[NAME].blobs[blob.blob.digest] = blob.data
    for fault in (faults.cut(step), faults.cut_everywhere(step)):
        upstream.behave()
        upstream.fail(Kind.GET_BLOB, fault)
        async with repository.open_blob(blob.blob) as download:
            assert b"".join([chunk async for chunk in download.chunks()]) == blob.data
    upstream.takes_ranges = False
    upstream.behave()
    upstream.fail(Kind.GET_BLOB, faults.cut(step), times=1)
    async with repository.open_blob(blob.blob) as download:
        assert b"".join([chunk async for chunk in download.chunks()]) == blob.data


@pytest.mark.parametrize(
    "fault",
    [
        faults.wrong_bytes(),
        faults.wrong_bytes(0),
        faults.shorter(),
        faults.longer(),
        faults.claims(5_000),
        faults.claims(10),
        faults.html(),
        faults.status(500),
        faults.pull_limit(),
        faults.abuse_limit("1"),
        faults.abuse_limit(),
        faults.unavailable("3600"),
        faults.cut(0),
    ],
)
async def test_nothing_wrong_is_read(upstream: Upstream, repository: RemoteRepository, fault: faults.Fault) -> None:
    image = upstream.put(NAME, Artifacts().image(2_000), "1.0")
    upstream.fail(Kind.GET_BLOB, fault, of=image.blobs[1].blob.digest)
    with pytest.raises(ClientError):
        await read(repository, image)
    upstream.behave()
    upstream.fail(Kind.GET_MANIFEST, fault)
    with pytest.raises(ClientError):
        await repository.get_manifest("1.0")


@pytest.mark.parametrize(
    "fault",
    [
        faults.half(),
        faults.html(),
        faults.endless_pages(),
        faults.same_page(),
        faults.items(lambda tags: dict.fromkeys(tags, 1)),
        faults.items(lambda tags: [*tags, "../.."]),
        faults.claims(10),
        faults.claims(10_000),
        faults.cut(10),
        faults.status(204),
    ],
)
async def test_no_list_is_read_that_is_not_one(
    upstream: Upstream, repository: RemoteRepository, fault: faults.Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeport.client.remote.PAGES_MAX", 20)
    upstream.put(NAME, Artifacts().image(), "1.0", "2.0")
    upstream.fail(Kind.TAGS, fault)
    with pytest.raises(ClientError):
        await tags(repository)


async def test_lists_that_are_well_formed_can_be_anything(upstream: Upstream, repository: RemoteRepository) -> None:
    upstream.put(NAME, Artifacts().image(), "1.0", "2.0", "3.0")
    upstream.fail(Kind.TAGS, faults.items(lambda tags: tags[1:]), times=1)
    upstream.fail(Kind.TAGS, faults.items(lambda _: None), skip=1, times=1)
    assert [await tags(repository) for _ in range(3)] == [["2.0", "3.0"], [], ["1.0", "2.0", "3.0"]]


async def test_a_head_may_lie_or_say_too_little(upstream: Upstream, repository: RemoteRepository) -> None:
    image = upstream.put(NAME, Artifacts().image(), "1.0")
    upstream.fail(Kind.HEAD_MANIFEST, faults.headers(Docker_Content_Digest=Digest.of(b"lie")), times=1)
    head = await repository.head_manifest("1.0")
    assert head is not None
    assert head.digest == Digest.of(b"lie")
    upstream.tells_digests = False
    assert await repository.head_manifest("1.0") == image.pushed.descriptor
    assert upstream.count(Kind.GET_MANIFEST) == 1
    upstream.fail(Kind.GET_MANIFEST, faults.headers(Content_Type="text/plain"))
    with pytest.raises(BadAnswer):
        await repository.get_manifest("1.0")


async def test_what_trickles_comes_all_the_same(upstream: Upstream, repository: RemoteRepository) -> None:
    image = upstream.put(NAME, Artifacts().image(), "1.0")
    upstream.fail(Kind.GET_MANIFEST, faults.trickle(0.001, 100))
    assert (await repository.get_manifest("1.0")).digest == image.digest


def test_what_artifacts_are_like() -> None:
    made = Artifacts()
    base = made.blob()
    one, other = made.of_layers(base, created="2026-01-01T00:00:00Z"), made.of_layers(base)
    assert one.blobs[1] == other.blobs[1] == base
    assert json.loads(one.blobs[0].data)["created"] == "2026-01-01T00:00:00Z"
    attested = made.platforms("linux/arm/v7", attested=True)
    entries = json.loads(attested.pushed.manifest.data)["manifests"]
    assert entries[0]["platform"] == {"os": "linux", "architecture": "arm", "variant": "v7"}
    assert entries[1]["annotations"]["vnd.docker.reference.digest"] == attested.children[0].digest
    assert made.platforms(docker=True).pushed.manifest.media_type == mediatype.DOCKER_LIST
    assert made.chart().pushed.manifest.artifact_type == "application/vnd.cncf.helm.config.v1+json"
    assert made.sha512().pushed.manifest.references[0].role is Role.CONFIG
