"""The pull-through cache: what is here is served, and what is not comes once and right."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from homeport.mirror import origins
from homeport.mirror.cache import ORIGIN, Served
from homeport.mirror.origins import FoundBy
from homeport.oci.errors import Unavailable
from homeport.registry import manifests
from homeport.registry.retention import ImmutableTags, Retention
from homeport.testing.images import image
from tests.mirror.artifacts import Artifacts
from tests.mirror.caching import DAY, MINUTE, NAME, Caching
from tests.mirror.upstream import Kind, Upstream


async def test_an_image_comes_when_it_is_pulled(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.platforms(), "3.20")
    await caching.fetch(image, "3.20")
    asked = {kind: upstream.count(kind) for kind in Kind}
    assert asked[Kind.HEAD_MANIFEST] == 1
    assert asked[Kind.GET_MANIFEST] == 3
    assert asked[Kind.GET_BLOB] == len({blob.blob.digest for blob in image.all_blobs})
    assert asked[Kind.HEAD_BLOB] == asked[Kind.TAGS] == asked[Kind.REFERRERS] == 0
    upstream.forget()
    await upstream.down()
    await caching.fetch(image, "3.20")
    origin = await caching.origin("3.20")
    assert origin is not None
    assert (origin.source, origin.source_tag, origin.digest) == (caching.source, "3.20", image.digest)
    assert (origin.found_by, origin.image) == ("cache", None)
    assert {event.actor for event in await caching.events()} == {ORIGIN.actor}


# --- tags -------------------------------------------------------------------------------------------------------


async def test_a_tag_is_believed_for_a_while_and_then_asked_for_by_head(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    caching.set(fresh_for="15m")
    first = upstream.put(NAME, artifacts.image(), "latest")
    assert (await caching.get("latest")).stored.digest == first.digest
    second = upstream.put(NAME, artifacts.image(), "latest")
    upstream.forget()
    caching.pass_time(14 * MINUTE)
    assert (await caching.get("latest")).stored.digest == first.digest
    assert (await caching.head("latest")).stored.digest == first.digest
    assert upstream.asked == []
    caching.pass_time(MINUTE)
    served = await caching.get("latest")
    assert (served.stored.digest, served.warning) == (second.digest, None)
    assert (upstream.count(Kind.HEAD_MANIFEST), upstream.count(Kind.GET_MANIFEST)) == (1, 1)
    upstream.forget()
    caching.pass_time(15 * MINUTE)
    await caching.get("latest")
    await caching.get("latest")
    assert (upstream.count(Kind.HEAD_MANIFEST), upstream.count(Kind.GET_MANIFEST)) == (1, 0)


async def test_the_first_pattern_that_means_a_tag_says_how_long_it_is_believed(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    rules = [{"tags": "v*", "fresh_for": "7d"}, {"tags": ["*-edge", "v1"], "fresh_for": 0}]
    caching.set(fresh_for="15m", tags=rules)
    upstream.put(NAME, artifacts.image(), "v1", "a-edge", "latest")
    for tag in ("v1", "a-edge", "latest"):
        await caching.get(tag)
    asked = []
    for wait in (0, 16 * MINUTE, 7 * DAY):
        caching.pass_time(wait)
        upstream.forget()
        for tag in ("v1", "a-edge", "latest"):
            await caching.get(tag)
        asked.append([seen.target for seen in upstream.asked])
    assert asked == [["a-edge"], ["a-edge", "latest"], ["v1", "a-edge", "latest"]]


async def test_a_clock_that_was_wrong_makes_nothing_fresh_for_ever(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    upstream.put(NAME, artifacts.image(), "latest")
    caching.clock.wrong = 400 * DAY
    await caching.get("latest")
    caching.clock.wrong = 0
    upstream.forget()
    await caching.get("latest")
    assert upstream.count(Kind.HEAD_MANIFEST) == 1


@pytest.mark.parametrize("found_here", [False, True])
async def test_what_somebody_pushed_is_served_and_never_replaced(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, found_here: bool
) -> None:
    if found_here:  # They push over what came from upstream.
        await caching.fetch(upstream.put(NAME, artifacts.image(), "latest"), "latest")
    ours = image([b"ours"])
    await caching.push(ours, "latest", repository=caching.name)
    upstream.put(NAME, artifacts.image(), "latest")
    upstream.forget()
    caching.pass_time(30 * DAY)
    for _ in range(2):
        assert (await caching.get("latest")).stored.digest == ours.digest
        assert (await caching.head("latest")).stored.digest == ours.digest
    assert upstream.asked == []


async def test_what_is_pushed_while_upstream_is_asked_is_not_replaced(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    upstream.put(NAME, artifacts.image(), "latest")
    ours = image([b"ours"])
    with upstream.held(Kind.GET_MANIFEST) as gate:
        asking = asyncio.create_task(caching.get("latest"))
        await gate.reached()
        await caching.push(ours, "latest", repository=caching.name)
        gate.open()
        assert (await asking).stored.digest == ours.digest
    assert (await caching.get("latest")).stored.digest == ours.digest
    assert await caching.origin("latest") is None


async def test_what_an_image_of_the_configuration_keeps_in_step_is_left_to_its_runs(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(image, "latest")
    await caching.record("latest", image.digest, "mirror", "alpine")
    newer = upstream.put(NAME, artifacts.image(), "latest")
    caching.pass_time(DAY)
    upstream.forget()
    assert (await caching.get("latest")).stored.digest == image.digest
    assert upstream.asked == []
    # Unless the configuration has no image for it any more.
    await caching.registry.db.write(origins.mark, caching.name, "latest", "dropped", 0.0)
    assert (await caching.get("latest")).stored.digest == newer.digest
    origin = await caching.origin("latest")
    assert origin is not None
    assert (origin.found_by, origin.image, origin.leaving) == ("cache", None, None)


@pytest.mark.parametrize("found_by", ["name", "mirror"])
async def test_what_is_followed_follows_upstream_and_stays_that(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, found_by: FoundBy
) -> None:
    first = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(first, "latest")
    await caching.record("latest", first.digest, found_by, None)
    newer = upstream.put(NAME, artifacts.image(), "latest")
    caching.pass_time(DAY)
    assert (await caching.get("latest")).stored.digest == newer.digest
    origin = await caching.origin("latest")
    assert origin is not None
    assert (origin.found_by, origin.digest) == (found_by, newer.digest)


async def test_an_immutable_tag_is_served_as_it_is_with_a_warning(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    caching.rule(retention=Retention(immutable=(ImmutableTags(caching.name, ("v*",)),)))
    first = upstream.put(NAME, artifacts.image(), "v1")
    await caching.get("v1")
    upstream.put(NAME, artifacts.image(), "v1")
    caching.pass_time(DAY)
    served = await caching.get("v1")
    assert served.stored.digest == first.digest
    assert served.warning == f"{upstream.host} may have another image under this tag, and this tag never changes here"


async def test_upstream_moves_a_tag_while_it_is_fetched(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    """The older answer, which comes last, does not take the tag back."""
    first = upstream.put(NAME, artifacts.image(), "latest")
    with upstream.held(Kind.GET_MANIFEST, of=first.digest) as gate:
        slow = asyncio.create_task(caching.get("latest"))
        await gate.reached()
        second = upstream.put(NAME, artifacts.image(), "latest")
        assert (await caching.get("latest")).stored.digest == second.digest
        gate.open()
        assert (await slow).stored.digest in {first.digest, second.digest}
    assert (await caching.get("latest")).stored.digest == second.digest


# --- HEAD -------------------------------------------------------------------------------------------------------


async def test_head_of_what_is_not_here_is_upstreams_head(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.platforms(), "latest")
    manifest = image.pushed.manifest
    for reference in ("latest", image.digest):
        served = await caching.head(reference)
        assert (served.stored.digest, served.stored.media_type) == (image.digest, manifest.media_type)
        assert (served.size, served.stored.data) == (len(manifest.data), b"")
    assert (upstream.count(Kind.HEAD_MANIFEST), upstream.count(Kind.GET_MANIFEST)) == (2, 0)
    assert await caching.rows("SELECT * FROM manifests") == []


async def test_head_and_then_the_digest_set_the_tag(caching: Caching, upstream: Upstream, artifacts: Artifacts) -> None:
    """So containerd pulls, and so does docker with its store."""
    image = upstream.put(NAME, artifacts.platforms(), "3.20", "latest")
    await caching.head("3.20")
    await caching.head("latest")
    await caching.fetch(image)
    await upstream.down()
    caching.pass_time(DAY)
    for tag in ("3.20", "latest"):
        assert (await caching.get(tag)).stored.digest == image.digest
        origin = await caching.origin(tag)
        assert origin is not None
        assert (origin.digest, origin.found_by) == (image.digest, "cache")


async def test_head_of_a_tag_whose_manifest_is_here_sets_it(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "3.20", "latest")
    await caching.fetch(image, "3.20")
    upstream.forget()
    served = await caching.head("latest")
    assert (served.stored.digest, served.size) == (image.digest, len(image.pushed.manifest.data))
    assert [seen.kind for seen in upstream.asked] == [Kind.HEAD_MANIFEST]
    assert (await manifests.get(caching.registry, caching.name, "latest")).digest == image.digest


async def test_a_tag_that_waits_for_its_digest_is_not_set_when_upstream_has_moved_on(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    first = upstream.put(NAME, artifacts.image(), "latest")
    await caching.head("latest")
    second = upstream.put(NAME, artifacts.image(), "latest")
    await caching.get("latest")
    await caching.fetch(first)
    assert (await caching.get("latest")).stored.digest == second.digest


async def test_an_upstream_whose_head_says_too_little(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    upstream.tells_digests = False
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.fetch(image, "latest")
    assert (await caching.get("latest")).warning is None


# --- once -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["latest", "digest"])
async def test_many_who_ask_are_one_question(
    caching: Caching, upstream: Upstream, artifacts: Artifacts, reference: str
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    asked = image.digest if reference == "digest" else reference
    kind = Kind.GET_MANIFEST if reference == "digest" else Kind.HEAD_MANIFEST
    with upstream.held(kind) as gate:
        asking = [asyncio.create_task(caching.get(asked)) for _ in range(50)]
        await gate.reached()
        asking[0].cancel()  # Whoever began it leaves.
        await asyncio.sleep(0.01)
        gate.open()
        found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {served.stored.digest for served in found[1:] if isinstance(served, Served)} == {image.digest}
    assert len(found[1:]) == 49
    assert (upstream.count(Kind.GET_MANIFEST), upstream.count(Kind.HEAD_MANIFEST)) == (1, int(reference == "latest"))
    kinds = [event.kind for event in await caching.events()]
    assert kinds.count("manifest.pushed") == 1
    assert kinds.count("tag.set") == int(reference == "latest")


async def test_everybody_leaves_and_it_comes_all_the_same(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    with upstream.held(Kind.GET_MANIFEST) as gate:
        asking = asyncio.create_task(caching.get(image.digest))
        await gate.reached()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert (await caching.get(image.digest)).stored.digest == image.digest
    assert upstream.count(Kind.GET_MANIFEST) == 1


async def test_many_who_ask_for_a_blob_are_one_fetch(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(3_000_000), "latest")
    await caching.get("latest")
    blob = image.blobs[1]
    found = await asyncio.gather(*(caching.read(blob.blob.digest) for _ in range(20)))
    assert set(found) == {blob.data}
    assert (upstream.count(Kind.GET_BLOB), upstream.count(Kind.HEAD_BLOB)) == (1, 0)


async def test_closing_breaks_off_what_is_asked(tmp_path: Path, upstream: Upstream, artifacts: Artifacts) -> None:
    upstream.put(NAME, artifacts.image(), "latest")
    async with Caching.running(tmp_path / "data", upstream) as caching:
        with upstream.held(Kind.HEAD_MANIFEST) as gate:
            asking = asyncio.create_task(caching.get("latest"))
            await gate.reached()
            await caching.cache.__aexit__(None, None, None)
            with pytest.raises(Unavailable, match="stops"):
                await asking
            with pytest.raises(Unavailable, match="stops"):
                await caching.get("other")
