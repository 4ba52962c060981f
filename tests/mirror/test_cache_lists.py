"""The pull-through cache: what it covers, tags, referrers, blobs, and what nobody refers to."""

from __future__ import annotations

import asyncio

import pytest

from homeport.mirror import addresses
from homeport.mirror.addresses import Source
from homeport.mirror.fetching import Fetch
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, RegistryError, UpstreamUnavailable
from homeport.registry import referrers, tags
from homeport.registry.blobs import Blob
from homeport.testing.images import image
from tests.client.images import Image
from tests.garbage.cleaning import settle
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.caching import DAY, MINUTE, NAME, Caching
from tests.mirror.upstream import Kind, Upstream
from tests.registry.world import ADA

# --- names ------------------------------------------------------------------------------------------------------


def test_what_is_covered(caching: Caching) -> None:
    caching.set(upstreams=["docker.io", "quay.io", "registry.lan:5001"], skip=("docker.io/library/ours", "team/**"))
    covers = caching.cache.covers
    for name in ("docker.io/library/alpine", "docker.io/alpine", "quay.io/a/b/c", "registry.lan_5001/x"):
        assert covers(name)
    for name in ("docker.io", "alpine", "library/alpine", "docker.io.evil/x", "evil/docker.io/x", "ghcr.io/x"):
        assert not covers(name)
    for name in ("docker.io/library/ours", "docker.io/ours", "docker.io/team/app", "quay.io/team/app"):
        assert not covers(name)
    assert not covers(f"docker.io/{'x' * 240}")
    assert covers("docker.io/x/team")
    caching.set(upstreams=[])
    assert not covers("docker.io/library/alpine")


async def test_what_is_not_covered_asks_nobody(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    upstream.put(NAME, artifacts.image(), "latest")
    caching.set(skip=("library/*",))
    for name in (caching.name, NAME, "team/app"):
        with pytest.raises(NameUnknown):
            await caching.get("latest", name)
        with pytest.raises(NameUnknown):
            await caching.cache.blob(name, Digest.of(b""))
        with pytest.raises(NameUnknown):
            await caching.cache.tags(name)
    assert upstream.asked == []


def test_docker_hubs_own_images_have_one_place(caching: Caching) -> None:
    assert addresses.cached_source("docker.io/alpine", {"docker.io": "docker.io"}) == Source("docker.io", NAME)


# --- tags -------------------------------------------------------------------------------------------------------


async def test_tags_are_upstreams_and_ours(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    upstream.page_items = 2
    upstream.put(NAME, artifacts.image(), "b", "a", "d", "c", "e")
    assert await caching.cache.tags(caching.name) == (["a", "b", "c", "d", "e"], None)
    await caching.push(image([b"ours"]), "bb", "a", repository=caching.name)
    assert await caching.cache.tags(caching.name) == (["a", "b", "bb", "c", "d", "e"], None)
    assert upstream.count(Kind.TAGS) == 3  # Pages, once.
    upstream.untag(NAME, "e")
    caching.pass_time(15 * MINUTE)
    assert await caching.cache.tags(caching.name) == (["a", "b", "bb", "c", "d"], None)


@pytest.mark.parametrize("fault", [faults.half(), faults.same_page(), faults.html(), faults.status(500)])
async def test_a_list_that_is_not_whole_is_none(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, fault: faults.Fault
) -> None:
    upstream.put(NAME, artifacts.image(), "a", "b")
    upstream.fail(Kind.TAGS, fault)
    with pytest.raises(RegistryError):
        await caching.cache.tags(caching.name)
    caching.pass_time(MINUTE)
    await caching.get("b")
    found, warning = await caching.cache.tags(caching.name)
    assert found == ["b"]
    assert warning is not None
    assert warning.endswith("these are the tags that are here")


async def test_long_lists_are_not_all_remembered(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeport.mirror.cache.TAGS_MAX", 3)
    upstream.put(NAME, artifacts.image(), "a", "b", "c", "d")
    upstream.put("library/other", artifacts.image(), "a")
    with pytest.raises(RegistryError):
        await caching.cache.tags(caching.name)
    assert await caching.cache.tags(caching.other) == (["a"], None)


async def test_many_who_want_the_tags(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    upstream.put(NAME, artifacts.image(), "a")
    found = await asyncio.gather(*(caching.cache.tags(caching.name) for _ in range(20)))
    assert all(each == (["a"], None) for each in found)
    assert upstream.count(Kind.TAGS) == 1


# --- referrers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_api", [True, False])
async def test_referrers_come_with_what_they_are(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, by_api: bool
) -> None:
    upstream.has_referrers = by_api
    subject = upstream.put(NAME, artifacts.image(), "latest")
    signature, sbom = (artifacts.artifact(f"application/{name}", subject) for name in ("signature", "sbom"))
    for each in (signature, sbom):
        upstream.attach(NAME, each)
    await caching.fetch(subject, "latest")
    assert await caching.cache.referrers(caching.name, subject.digest) is None
    assert await listed(caching, subject) == {signature.digest, sbom.digest}
    await caching.fetch(signature)
    upstream.forget()
    assert await caching.cache.referrers(caching.name, subject.digest) is None
    assert upstream.asked == []
    # A new one is seen after a while, and costs a pull of it alone.
    later = artifacts.artifact("application/later", subject)
    upstream.attach(NAME, later)
    caching.pass_time(15 * MINUTE)
    assert await caching.cache.referrers(caching.name, subject.digest) is None
    assert await listed(caching, subject) == {signature.digest, sbom.digest, later.digest}
    assert upstream.count(Kind.GET_MANIFEST, of=later.digest) == 1
    assert upstream.count(Kind.GET_MANIFEST, of=signature.digest) == 0


async def test_referrers_that_do_not_come(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    subject = upstream.put(NAME, artifacts.image(), "latest")
    one, two = (artifacts.artifact("application/signature", subject) for _ in range(2))
    for each in (one, two):
        upstream.attach(NAME, each)
    upstream.fail(Kind.GET_MANIFEST, faults.wrong_bytes(), of=one.digest, times=1)
    warning = await caching.cache.referrers(caching.name, subject.digest)
    assert warning == f"of the referrers that {upstream.host} has, 1 are not here"
    assert await listed(caching, subject) == {two.digest}
    caching.pass_time(MINUTE)
    assert await caching.cache.referrers(caching.name, subject.digest) is None
    assert await listed(caching, subject) == {one.digest, two.digest}
    caching.pass_time(DAY)
    await upstream.down()
    warning = await caching.cache.referrers(caching.name, subject.digest)
    assert warning == f"{upstream.host} does not answer; these are the referrers that are here"


async def test_more_referrers_than_anybody_has(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeport.mirror.cache.REFERRERS_MAX", 2)
    subject = upstream.put(NAME, artifacts.image(), "latest")
    for _ in range(5):
        upstream.attach(NAME, artifacts.artifact("application/signature", subject))
    warning = await caching.cache.referrers(caching.name, subject.digest)
    assert warning == f"of the referrers that {upstream.host} has, 3 are not here"
    assert len(await listed(caching, subject)) == 2


async def listed(caching: Caching, subject: Image) -> set[Digest]:
    found, more = await referrers.get(caching.registry, caching.name, subject.digest, None, "", 100)
    assert not more
    return {each.digest for each in found}


# --- blobs ------------------------------------------------------------------------------------------------------


async def test_head_of_a_blob_fetches_nothing(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    blob = image.blobs[1].blob
    assert await caching.cache.blob_size(caching.name, blob.digest) == blob.size
    assert (upstream.count(Kind.HEAD_BLOB), upstream.count(Kind.GET_BLOB)) == (1, 0)
    await caching.read(blob.digest)
    upstream.forget()
    assert await caching.cache.blob_size(caching.name, blob.digest) == blob.size
    assert upstream.asked == []


@pytest.mark.parametrize("fault", [faults.headers(Content_Length="many"), faults.status(500), faults.status(418)])
async def test_a_registry_that_does_not_say_how_long_a_blob_is(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, fault: faults.Fault
) -> None:
    layer = upstream.put(NAME, artifacts.image(), "latest").blobs[1].blob
    upstream.fail(Kind.HEAD_BLOB, fault)
    with pytest.raises(RegistryError):
        await caching.cache.blob_size(caching.name, layer.digest)


async def test_a_blob_that_no_manifest_here_names(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    for blob in image.blobs:
        assert await caching.read(blob.blob.digest) == blob.data
    assert upstream.count(Kind.HEAD_BLOB) == len(image.blobs)


async def test_a_range_of_what_is_coming(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.image(300_000), "latest")
    await caching.get("latest")
    blob = image.blobs[1]
    found = await caching.cache.blob(caching.name, blob.blob.digest)
    assert isinstance(found, Fetch)
    assert found.size == len(blob.data)
    assert b"".join([chunk async for chunk in found.read(100_000, 100_050)]) == blob.data[100_000:100_050]
    # It goes on to its end although nobody reads it.
    assert await caching.read(blob.blob.digest) == blob.data
    assert isinstance(await caching.cache.blob(caching.name, blob.blob.digest), Blob)
    assert upstream.count(Kind.GET_BLOB) == 1


async def test_a_blob_comes_from_elsewhere_than_its_registry(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    upstream.redirects = True
    await caching.fetch(upstream.put(NAME, artifacts.platforms(), "latest"), "latest")


async def test_a_blob_of_two_repositories_comes_once(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    upstream.put("library/other", image, "latest")
    await caching.fetch(image, "latest")
    await caching.fetch(image, "latest", caching.other)
    assert upstream.count(Kind.GET_BLOB) == len(image.blobs)


async def test_a_blob_that_somebody_pushed_is_not_given_to_whoever_names_it(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = artifacts.image()
    secret = image.blobs[1]
    await caching.blob(secret.data, "team/secret")
    upstream.put(NAME, image, "latest")
    del upstream.repositories[NAME].blobs[secret.blob.digest]
    await caching.get("latest")
    with pytest.raises(BlobUnknown):
        await caching.cache.blob(caching.name, secret.blob.digest)
    assert not await caching.holds(secret.blob.digest)


async def test_everything_that_upstreams_hold(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    signed = artifacts.image()
    tag, signature = artifacts.cosign(signed)
    images = {
        "nested": artifacts.nested(),
        "docker": artifacts.platforms(docker=True),
        "attested": artifacts.platforms(attested=True),
        "sha512": artifacts.sha512(),
        "chart": artifacts.chart(),
        "signed": signed,
        tag: signature,
    }
    for name, each in images.items():
        upstream.put(NAME, each, name)
        await caching.fetch(each, name)
    await upstream.down()
    for name, each in images.items():
        await caching.fetch(each, name)


# --- what nobody refers to ---------------------------------------------------------------------------------------


async def test_what_is_pulled_by_its_digest_stays_while_that_goes_on(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    """Swarm pins digests: no tag leads to what its nodes pull."""
    await settle(caching, caching.guard)
    caching.rule(untagged_seconds=7 * DAY)
    pinned = upstream.put(NAME, artifacts.platforms())
    forgotten = upstream.put(NAME, artifacts.image())
    await caching.fetch(pinned)
    await caching.fetch(forgotten)
    await upstream.down()
    for _ in range(10):
        await caching.sweep_after(3 * DAY)
        await caching.fetch(pinned)
    with pytest.raises(UpstreamUnavailable):
        await caching.get(forgotten.digest)
    for _ in range(3):
        await caching.sweep_after(8 * DAY)
    with pytest.raises(RegistryError):
        await caching.get(pinned.digest)
    assert await caching.digests(caching.name) == set()


async def test_a_child_that_is_pulled_alone_stays(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    """Whoever knows the index asks for the child only."""
    await settle(caching, caching.guard)
    index = upstream.put(NAME, artifacts.platforms())
    child = index.children[0]
    await caching.fetch(index)
    await upstream.down()
    for _ in range(10):
        await caching.sweep_after(3 * DAY)
        await caching.fetch(child)


async def test_a_grace_begins_anew_at_most_once_an_hour(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    pinned = upstream.put(NAME, artifacts.image())
    await caching.get(pinned.digest)
    link = await caching.link(pinned.digest, caching.name)
    assert link is not None
    begun = []
    for _ in range(9):
        caching.pass_time(20 * MINUTE)
        await caching.get(pinned.digest)
        found = await caching.link(pinned.digest, caching.name)
        assert found is not None
        begun.append(found[1] > link[1])
        link = found
    assert sum(begun) <= 3
    caching.rule(read_only="moving house")
    caching.pass_time(DAY)
    await caching.get(pinned.digest)
    assert await caching.link(pinned.digest, caching.name) == link


async def test_what_was_evicted_comes_back(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    await settle(caching, caching.guard)
    image = upstream.put(NAME, artifacts.platforms(), "latest")
    await caching.fetch(image, "latest")
    await tags.delete(caching.registry, ADA, caching.name, "latest")
    for _ in range(3):
        await caching.sweep_after(8 * DAY)
    assert await caching.digests(caching.name) == set()
    await caching.fetch(image, "latest")
    with pytest.raises(ManifestUnknown):
        await caching.get("other")
