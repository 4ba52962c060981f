"""The pull-through cache on bad days: upstream's, ours, and the client's luck."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.client.errors import ClientError
from homeport.mirror.fetching import Fetch, Fetches
from homeport.oci import manifest
from homeport.oci.digest import Digest
from homeport.oci.errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestUnknown,
    NameUnknown,
    QuotaExceeded,
    ReadOnly,
    RegistryError,
    UpstreamBroken,
    UpstreamLimited,
    UpstreamUnavailable,
)
from homeport.registry import quotas
from homeport.storage.blobstore import StoreFull
from homeport.testing.blobstore_faults import FailingStore
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.caching import DAY, MINUTE, NAME, Caching, read
from tests.mirror.faults import Fault
from tests.mirror.upstream import Kind, Quota, Upstream

#: What can happen to any question, with what a client is told that has to do without an answer.
TROUBLES: list[tuple[str, Fault, type[RegistryError], str]] = [
    ("500", faults.status(500), UpstreamUnavailable, "answers with 500"),
    ("503", faults.unavailable(), UpstreamUnavailable, "answers with 503"),
    ("503 for a minute", faults.unavailable("60"), UpstreamUnavailable, "answers with 503"),
    ("418", faults.status(418), UpstreamBroken, "answers with 418"),
    ("asked too often", faults.abuse_limit("30"), UpstreamLimited, "is asked too often"),
    ("asked too often, for how long nobody knows", faults.abuse_limit(), UpstreamLimited, "is asked too often"),
    ("a portal", faults.html(), UpstreamBroken, "sends what it should not"),
    ("401", faults.status(401), ManifestUnknown, "does not show it"),
    ("403", faults.status(403), ManifestUnknown, "does not show it"),
    ("404", faults.status(404), ManifestUnknown, "does not have it"),
]


def named(troubles: list[tuple[str, Fault, type[RegistryError], str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("fault", "error", "text"), [each[1:] for each in troubles], ids=[each[0] for each in troubles]
    )


# --- upstream ---------------------------------------------------------------------------------------------------


@named(TROUBLES)
async def test_what_is_here_is_served_with_a_warning(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, fault: Fault, error: type[RegistryError], text: str
) -> None:
    caching.clock.ahead -= caching.clock.now() % 1  # Full seconds are easier to read.
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(image, "latest")
    caching.pass_time(DAY)
    upstream.fail(Kind.HEAD_MANIFEST, fault)
    upstream.fail(Kind.GET_MANIFEST, fault)
    for served in (await caching.get("latest"), await caching.head("latest")):
        assert served.stored.data == image.pushed.manifest.data
        assert served.warning is not None
        assert served.warning.startswith(f"{upstream.host} {text}; served as it was at 20")
        assert served.warning.endswith("Z")
    for blob in image.blobs:
        assert await caching.read(blob.blob.digest) == blob.data
    assert (await caching.get(image.digest)).warning is None
    assert "upstream.failed" in caching.lines() or error is ManifestUnknown
    # And it is well again.
    upstream.behave()
    caching.pass_time(10 * MINUTE)
    assert (await caching.get("latest")).warning is None


@named(TROUBLES)
async def test_what_is_not_here_is_told_honestly(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, fault: Fault, error: type[RegistryError], text: str
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    upstream.fail(Kind.HEAD_MANIFEST, fault)
    upstream.fail(Kind.GET_MANIFEST, fault)
    for reference in ("latest", image.digest):
        for head in (False, True):
            with pytest.raises(error) as caught:
                await caching.cache.manifest(caching.name, reference, head=head)
            assert caught.value.status != 401
            if error is not ManifestUnknown:
                assert f"{upstream.host} {text}" in str(caught.value)
    assert await caching.rows("SELECT * FROM tags") == []


async def test_the_pulls_are_used_up(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    upstream.quota = Quota(100, 1)
    first = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(first, "latest")
    second = upstream.put(NAME, artifacts.image(), "latest")
    caching.pass_time(DAY / 24)
    upstream.forget()
    served = await caching.get("latest")
    assert served.stored.digest == first.digest
    assert served.warning is not None
    assert "allows no more pulls for now" in served.warning
    with pytest.raises(UpstreamLimited) as caught:
        await caching.get(second.digest)
    assert caught.value.retry_after_seconds is not None
    assert 4 * 3600 < caught.value.retry_after_seconds <= 6 * 3600
    # It was known, so nobody asked; and a HEAD costs nothing.
    assert upstream.count(Kind.GET_MANIFEST) == 0
    caching.pass_time(DAY)
    upstream.quota = Quota(100, 100)
    await caching.fetch(second, "latest")


async def test_how_long_to_wait_is_handed_on(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    upstream.put(NAME, artifacts.image(), "latest")
    upstream.fail(Kind.HEAD_MANIFEST, faults.abuse_limit("30"))
    with pytest.raises(UpstreamLimited) as caught:
        await caching.get("latest")
    assert caught.value.retry_after_seconds == 30
    assert caught.value.status == 429


async def test_an_upstream_that_is_down_is_not_asked_by_everybody(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(image, "latest")
    await upstream.down()
    caching.pass_time(DAY)
    before = caching.clock.ahead
    for _ in range(20):
        served = await caching.get("latest")
        assert served.warning is not None
        with pytest.raises(UpstreamUnavailable, match="does not answer"):
            await caching.get("other", caching.other)
    # One of them waited, and all others did not.
    assert caching.clock.ahead - before < 5
    assert caching.lines().count('"upstream.failed"') == 1
    await upstream.up()
    caching.pass_time(MINUTE)
    assert (await caching.get("latest")).warning is None


async def test_trouble_with_one_repository_is_not_trouble_with_all(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put("library/other", artifacts.image(), "latest")
    upstream.fail(Kind.HEAD_MANIFEST, faults.unavailable(), of=NAME)
    with pytest.raises(UpstreamUnavailable):
        await caching.get("latest")
    await caching.fetch(image, "latest", caching.other)


async def test_an_upstream_that_is_slow_keeps_nobody_for_long(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(image, "latest")
    caching.pass_time(DAY)
    caching.clock.hurry = 100
    with upstream.held(Kind.HEAD_MANIFEST):
        served = await caching.get("latest")
    assert served.stored.digest == image.digest
    assert served.warning is not None
    assert "does not answer" in served.warning


async def test_a_tag_that_upstream_deleted_stays(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    """Bitnami, 2025."""
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(image, "latest")
    upstream.remove(NAME)
    for _ in range(3):
        caching.pass_time(DAY)
        served = await caching.get("latest")
        assert served.stored.digest == image.digest
        assert served.warning is not None
        assert "does not have it" in served.warning


async def test_what_is_not_there_is_not_asked_for_again_at_once(caching: Caching, upstream: Upstream) -> None:
    caching.set(absent_for="1m")
    digest = Digest.of(b"nothing")

    async def ask() -> list[Kind]:
        upstream.forget()
        for _ in range(3):
            for reference in ("latest", digest):
                with pytest.raises(ManifestUnknown):
                    await caching.get(reference)
            with pytest.raises(BlobUnknown):
                await caching.cache.blob(caching.name, digest)
            with pytest.raises(BlobUnknown):
                await caching.cache.blob_size(caching.name, digest)
            with pytest.raises(NameUnknown):
                await caching.cache.tags(caching.name)
        return [seen.kind for seen in upstream.asked if seen.kind is not Kind.PING]

    everything = [Kind.HEAD_MANIFEST, Kind.GET_MANIFEST, Kind.HEAD_BLOB, Kind.TAGS]
    assert await ask() == everything
    caching.pass_time(59)
    assert await ask() == []
    caching.pass_time(2)
    assert await ask() == everything
    caching.set(absent_for=0)
    assert len(await ask()) == 15


async def test_what_is_pushed_upstream_meanwhile_is_found(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    caching.set(absent_for="1m")
    with pytest.raises(ManifestUnknown):
        await caching.get("latest")
    image = upstream.put(NAME, artifacts.image(), "latest")
    caching.pass_time(MINUTE)
    await caching.fetch(image, "latest")


async def test_offline_asks_nobody(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest", "other")
    await caching.fetch(image, "latest")
    caching.pass_time(DAY)
    upstream.forget()
    caching.set(offline=True)
    await caching.fetch(image)
    served = await caching.get("latest")
    assert served.warning is not None
    assert "is not asked, since cache.offline is set; served as it was" in served.warning
    with pytest.raises(ManifestUnknown, match=r":other: .* is not asked, since cache\.offline is set"):
        await caching.get("other")
    with pytest.raises(ManifestUnknown):
        await caching.get(Digest.of(b"x"))
    with pytest.raises(BlobUnknown):
        await caching.cache.blob(caching.name, Digest.of(b"x"))
    tags, warning = await caching.cache.tags(caching.name)
    assert tags == ["latest"]
    assert warning is not None
    assert await caching.cache.referrers(caching.name, image.digest) is not None
    assert upstream.asked == []
    caching.set(offline=False)
    await caching.fetch(image, "other")


# --- bytes ------------------------------------------------------------------------------------------------------


WRONG: list[Callable[[], Fault]] = [
    faults.wrong_bytes,
    lambda: faults.wrong_bytes(0),
    faults.shorter,
    faults.longer,
    lambda: faults.claims(10_000_000),
    lambda: faults.cut(100),
    lambda: faults.cut_everywhere(700),
    faults.html,
    faults.half,
    lambda: faults.status(500),
    lambda: faults.status(404),
    faults.pull_limit,
    lambda: faults.abuse_limit("1"),
    lambda: faults.headers(Docker_Content_Digest=Digest.of(b"a lie")),
    lambda: faults.headers(Docker_Content_Digest=None),
    lambda: faults.headers(Content_Type="application/json"),
]
KINDS = [Kind.HEAD_MANIFEST, Kind.GET_MANIFEST, Kind.GET_BLOB, Kind.HEAD_BLOB, Kind.TAGS, Kind.PING]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=st.lists(
        st.tuples(st.sampled_from(KINDS), st.sampled_from(WRONG), st.integers(0, 3), st.integers(1, 3)), max_size=6
    ),
    asked=st.lists(st.sampled_from(["a", "b", "digest", "head", "wait", "move"]), min_size=1, max_size=12),
)
async def test_no_client_ever_gets_bytes_that_are_not_what_they_are_called(
    tmp_path_factory: pytest.TempPathFactory,
    script: list[tuple[Kind, Callable[[], Fault], int, int]],
    asked: list[str],
) -> None:
    """Whatever upstream does: each answer is right or an error, and what is here is right afterwards."""
    artifacts = Artifacts()
    async with Upstream.running() as upstream:
        images = [upstream.put(NAME, artifacts.image(2_000, 90_000), tag) for tag in ("a", "b")]
        once = {image.digest for image in images}
        async with Caching.running(tmp_path_factory.mktemp("cache"), upstream) as caching:
            for kind, fault, skip, times in script:
                upstream.fail(kind, fault(), skip=skip, times=times)
            for what in asked:
                if what == "wait":
                    caching.pass_time(DAY)
                elif what == "move":
                    images.append(upstream.put(NAME, artifacts.image(500), "a"))
                    once.add(images[-1].digest)
                else:
                    reference = {"digest": images[-1].digest, "head": "a"}.get(what, what)
                    await pull(caching, reference, once, head=what == "head")
            upstream.behave()
            caching.pass_time(DAY)
            await caching.fetch(images[-1] if len(images) > 2 else images[0], "a")
            await caching.fetch(images[1], "b")
            for digest, data in await caching.rows("SELECT digest, data FROM manifests"):
                assert Digest.of(data) == digest


async def pull(caching: Caching, reference: str, once: set[Digest], *, head: bool) -> None:
    """Pull as a client does, and stop at the first error."""
    try:
        served = await caching.cache.manifest(caching.name, reference, head=head)
    except RegistryError:
        return
    if head:
        return
    assert served.stored.digest in once
    assert Digest.of(served.stored.data) == served.stored.digest
    for digest in manifest_blobs(served.stored.data, served.stored.media_type):
        with contextlib.suppress(RegistryError, ClientError):  # Of a stream too: the server cuts the connection then.
            data = await read(caching.registry.blobs, await caching.cache.blob(caching.name, digest))
            assert Digest.of(data) == digest


def manifest_blobs(data: bytes, media_type: str) -> list[Digest]:
    return [reference.digest for reference in manifest.parse(data, media_type).references]


# --- ours -------------------------------------------------------------------------------------------------------


async def test_a_read_only_registry_serves_what_it_has(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest", "other")
    await caching.fetch(image, "latest")
    newer = upstream.put(NAME, artifacts.image(), "latest")
    caching.pass_time(DAY)
    caching.rule(read_only="moving house")
    upstream.forget()
    served = await caching.get("latest")
    assert served.stored.digest == image.digest
    assert served.warning == f"{upstream.host} may have another image under this tag, and it cannot be brought here now"
    assert (await caching.get("other")).stored.digest == image.digest
    with pytest.raises(ReadOnly):
        await caching.get(newer.digest)
    with pytest.raises(ReadOnly):
        await caching.cache.blob(caching.name, newer.blobs[1].blob.digest)
    assert upstream.count(Kind.GET_MANIFEST) == 0
    assert await caching.rows("SELECT name FROM tags") == [("latest",)]


async def test_a_quota_that_is_used_up(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(image, "latest")
    upstream.put(NAME, artifacts.image(50_000), "latest", "other")
    caching.pass_time(DAY)
    caching.rule(quotas={caching.name: 10_000})
    await caching.registry.db.write(quotas.sync, {caching.name: 10_000})
    while await caching.registry.db.write(quotas.recount, 500) is not None:
        pass
    served = await caching.get("latest")  # Manifests are small.
    with pytest.raises(QuotaExceeded):
        await read(caching.registry.blobs, await caching.cache.blob(caching.name, layer_of(served.stored.data)))
    caching.rule(quotas={caching.name: 1})
    upstream.put(NAME, artifacts.image(), "latest")
    caching.pass_time(DAY)
    again = await caching.get("latest")
    assert again.stored == served.stored
    assert again.warning is not None
    assert "it cannot be brought here now" in again.warning


def layer_of(data: bytes) -> Digest:
    return manifest_blobs(data, "")[1]


async def test_a_full_disk(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    first = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(first, "latest")
    second = upstream.put(NAME, artifacts.image(), "latest")
    caching.pass_time(DAY)
    store = caching.registry.blobs
    caching.registry.blobs = FailingStore(store, 1, forever=True, error=StoreFull)
    served = await caching.get("latest")
    assert served.stored.digest == first.digest
    assert served.warning is not None
    with pytest.raises(StoreFull):
        await caching.get(second.digest)
    caching.registry.blobs = store
    await caching.fetch(second, "latest")


async def test_a_damaged_blob_comes_again(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(image, "latest")
    blob = image.blobs[1]
    caching.file(blob.blob.digest).write_bytes(b"short")
    assert await caching.read(blob.blob.digest) == blob.data
    assert caching.file(blob.blob.digest).read_bytes() == blob.data


async def test_a_process_that_dies_in_between_leaves_nothing_that_harms(
    tmp_path: Path, upstream: Upstream, artifacts: Artifacts
) -> None:
    """The manifest is here, and its tag was not set."""
    image = upstream.put(NAME, artifacts.image(), "latest")
    async with Caching.running(tmp_path / "data", upstream) as caching:
        await caching.fetch(image)
        upstream.forget()
        assert (await caching.get("latest")).stored.digest == image.digest
        assert (upstream.count(Kind.HEAD_MANIFEST), upstream.count(Kind.GET_MANIFEST)) == (1, 0)
        assert await caching.origin("latest") is not None
        await caching.restart()
        async with caching.serving():
            upstream.forget()
            await caching.fetch(image, "latest")
            assert upstream.asked == []


async def test_a_blob_that_lies_about_its_size_fails_alone(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.get("latest")
    layer = image.blobs[1].blob.digest
    upstream.fail(Kind.GET_BLOB, faults.longer(), of=layer, times=1)
    with pytest.raises(UpstreamBroken, match="sends what it should not"):
        await caching.read(layer)
    await caching.fetch(image, "latest")


async def test_a_blob_of_other_bytes(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.get("latest")
    layer = image.blobs[1].blob.digest
    upstream.fail(Kind.GET_BLOB, faults.wrong_bytes(), of=layer, times=1)
    with pytest.raises((UpstreamBroken, DigestInvalid)):
        await caching.read(layer)
    assert not await caching.holds(layer)

    async def came_whole(*_: object, **__: object) -> Fetch:
        raise DigestInvalid("the bytes that came are others")

    with monkeypatch.context() as patched:
        patched.setattr(Fetches, "stream", came_whole)
        with pytest.raises(UpstreamBroken, match="sends what it should not"):
            await caching.cache.blob(caching.name, layer)
    await caching.fetch(image, "latest")


async def test_a_blob_that_upstream_does_not_have(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.get("latest")
    layer = image.blobs[1].blob.digest
    del upstream.repositories[NAME].blobs[layer]
    for _ in range(2):
        with pytest.raises(BlobUnknown):
            await caching.cache.blob(caching.name, layer)
    assert upstream.count(Kind.GET_BLOB) == 1
