"""The pull-through cache where it logs in: what upstream does not show to everybody is private before it is here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from homeport.mirror import public_blobs
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, ManifestUnknown, RegistryError, UpstreamUnavailable
from homeport.registry import privacy
from tests.client.images import Image
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.caching import DAY, MINUTE, NAME, Caching
from tests.mirror.upstream import Kind, Upstream


@pytest.fixture
async def known(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Caching]:
    """One that logs in."""
    upstream.scheme = "bearer"
    async with Caching.running(tmp_path / "data", upstream, login=True) as caching:
        yield caching


#: Every way to learn something of a repository.
WAYS: dict[str, Callable[[Caching, Image], Awaitable[object]]] = {
    "GET tag": lambda caching, image: caching.get("latest"),
    "HEAD tag": lambda caching, image: caching.head("latest"),
    "GET digest": lambda caching, image: caching.get(image.digest),
    "HEAD digest": lambda caching, image: caching.head(image.digest),
    "blob": lambda caching, image: caching.read(image.blobs[1].blob.digest),
    "HEAD blob": lambda caching, image: caching.cache.blob_size(caching.name, image.blobs[1].blob.digest),
    "tags": lambda caching, image: caching.cache.tags(caching.name),
    "referrers": lambda caching, image: caching.cache.referrers(caching.name, image.digest),
}


def heads(upstream: Upstream) -> int:
    """How many HEADs of manifests came with a token."""
    return sum(asked.kind is Kind.HEAD_MANIFEST and asked.authorization is not None for asked in upstream.asked)


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_private_upstream_is_private_here(
    known: Caching, upstream: Upstream, artifacts: Artifacts, way: str
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    upstream.attach(NAME, artifacts.artifact("application/signature", image))
    upstream.private.add(NAME)
    await WAYS[way](known, image)
    assert await known.is_private()
    await known.fetch(image, "latest")
    for blob in image.blobs:
        assert not await known.registry.db.read(public_blobs.is_public, blob.blob.digest)


async def test_what_is_not_there_says_nothing_of_who_may_see(
    known: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    gone = upstream.put(NAME, artifacts.image())
    await known.get(gone.digest)
    upstream.repositories[NAME].blobs.clear()
    del upstream.repositories[NAME].manifests[gone.digest]
    async with known.serving(login=True):  # As a process that starts, and knows nothing.
        with pytest.raises(BlobUnknown):
            await known.read(gone.blobs[1].blob.digest)
        assert await known.cache.referrers(known.name, Digest.of(b"nothing")) is None
        with pytest.raises(ManifestUnknown):
            await known.get(Digest.of(b"nothing"))
        assert not await known.is_private()
        await known.get(image.digest)
        assert not await known.is_private()


@pytest.mark.parametrize("way", WAYS)
async def test_what_everybody_sees_is_public(
    known: Caching, upstream: Upstream, artifacts: Artifacts, way: str
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await WAYS[way](known, image)
    assert not await known.is_private()
    await known.fetch(image, "latest")
    for blob in image.blobs:
        assert await known.registry.db.read(public_blobs.is_public, blob.blob.digest)


async def test_it_is_asked_once_a_day_and_costs_no_pull(
    known: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.platforms(), "latest", "other")
    known.set(fresh_for=0)
    await known.fetch(image, "latest")
    await known.fetch(image, "other")
    # Two tags as somebody, and once as everybody; and nothing but the manifests themselves is a pull.
    assert heads(upstream) == 2 + 1
    assert upstream.count(Kind.GET_MANIFEST) == 3
    upstream.private.add(NAME)
    await known.get("latest")
    assert not await known.is_private()
    known.pass_time(DAY)
    await known.get("latest")
    assert await known.is_private()
    upstream.private.clear()
    known.pass_time(DAY)
    await known.get("latest")
    assert not await known.is_private()


async def test_it_is_private_before_it_is_here(known: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    upstream.private.add(NAME)
    await known.get(image.digest)
    happened = [event.kind for event in await known.events()]
    assert happened == ["manifest.pushed"]
    rows = await known.rows("SELECT repository FROM private_repositories")
    assert rows == [(known.name,)]


async def test_who_cannot_be_asked_has_not_said_that_everybody_may(
    known: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    # What comes behind the first challenge and what answers it is everybody's.
    upstream.fail(Kind.HEAD_MANIFEST, faults.status(418), skip=2, times=1)
    await known.fetch(image, "latest")
    assert await known.is_private()
    known.set(fresh_for=0)
    known.pass_time(5 * MINUTE)
    await known.get("latest")
    assert not await known.is_private()


async def test_what_was_public_stays_so_on_a_bad_day_and_gets_nothing_new(
    known: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    first = upstream.put(NAME, artifacts.image(), "latest")
    await known.fetch(first, "latest")
    second = upstream.put(NAME, artifacts.image(), "latest")
    known.pass_time(DAY)
    upstream.fail(Kind.HEAD_MANIFEST, faults.status(418), skip=1, times=1)
    served = await known.get("latest")
    assert served.stored.digest == first.digest
    assert served.warning is not None
    assert not await known.is_private()
    assert not await known.holds(second.digest)
    await known.fetch(second, "latest")


async def test_no_pull_is_spent_before_it_is_known_who_may_have_it(
    known: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    await known.fetch(upstream.put(NAME, artifacts.image(), "latest"), "latest")
    later = upstream.put(NAME, artifacts.image())
    known.pass_time(DAY)
    upstream.forget()
    upstream.fail(Kind.HEAD_MANIFEST, faults.status(418), skip=1)
    for _ in range(3):
        with pytest.raises(RegistryError):
            await known.get(later.digest)
    assert upstream.count(Kind.GET_MANIFEST) == 0


async def test_a_private_blob_is_not_given_to_another_repository(
    known: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    secret = upstream.put(NAME, artifacts.image(), "latest")
    upstream.private.add(NAME)
    await known.fetch(secret, "latest")
    # Another repository names the layer and does not have it.
    upstream.put("library/other", secret, "latest")
    layer = secret.blobs[1].blob.digest
    del upstream.repositories["library/other"].blobs[layer]
    await known.get("latest", known.other)
    with pytest.raises(RegistryError):
        await known.cache.blob(known.other, layer)
    assert not await known.holds(layer, known.other)
    assert not await known.registry.db.read(privacy.is_private, known.other)


async def test_a_login_that_is_not_taken_is_our_trouble(
    known: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    upstream.private.add(NAME)
    await known.fetch(image, "latest")
    upstream.password = "another"
    known.pass_time(DAY)
    served = await known.get("latest")
    assert served.warning is not None
    assert "does not show it" in served.warning
    with pytest.raises(ManifestUnknown) as caught:
        await known.get(Digest.of(b"x"))
    assert "ada" not in str(caught.value)
    assert "upstream.failed" in known.lines()
    assert upstream.password not in known.lines()


async def test_a_login_that_cannot_be_read_is_no_word_of_upstreams(
    known: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await known.fetch(image, "latest")
    known.lose_password()
    known.pass_time(DAY)
    upstream.forget()
    served = await known.get("latest")
    assert served.warning is not None
    assert f"{upstream.host} cannot be asked" in served.warning
    with pytest.raises(UpstreamUnavailable, match="cannot be asked"):
        await known.get("other")
    assert upstream.asked == []


async def test_without_a_login_everything_is_everybodys(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    upstream.scheme = "bearer"
    await caching.fetch(upstream.put(NAME, artifacts.image(), "latest"), "latest")
    assert not await caching.is_private()
    assert heads(upstream) == 1
    upstream.private.add(NAME)
    caching.pass_time(DAY)
    assert (await caching.get("latest")).warning is not None
    with pytest.raises(ManifestUnknown):
        await caching.get("other")


async def test_a_repository_from_when_there_was_a_login_is_asked_about(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    await caching.registry.db.write(privacy.set_private, caching.name, private=True)
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(image, "latest")
    assert not await caching.is_private()
