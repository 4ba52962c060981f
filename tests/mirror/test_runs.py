"""Runs of the mirror against an upstream that does as it should; what goes wrong is in `test_bad_days`."""

from __future__ import annotations

import asyncio

import pytest

from homeport.events import SYSTEM
from homeport.kinds import Outcome
from homeport.mirror import origins
from homeport.mirror.addresses import Source
from homeport.mirror.origins import TagOrigin
from homeport.registry import manifests
from homeport.testing import images
from tests.client.images import Bytes
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import DAY, Mirroring, folder_of
from tests.mirror.upstream import Kind, Upstream

APP = "team/app"


@pytest.fixture
def source(upstream: Upstream) -> str:
    return f"{upstream.host}/{APP}"


async def test_an_image_comes_byte_for_byte_to_where_the_cache_would_serve_it(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    image = artifacts.platforms("linux/amd64", "linux/arm64", attested=True)
    upstream.put(APP, image, "1.0")
    mirroring.configure({"source": source})
    summary = await mirroring.run()
    assert (summary.outcome, summary.counts["copied"]) == (Outcome.SUCCESS, 1)
    ours = f"{folder_of(upstream)}/{APP}"
    assert await mirroring.tags(ours) == {"1.0": image.digest}
    await mirroring.check_image(image, ours, "1.0")


async def test_a_run_that_finds_nothing_new_asks_for_one_list_and_a_head_a_tag(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    for tag in ("1.0", "1.1", "2.0"):
        upstream.put(APP, artifacts.image(), tag)
    mirroring.configure({"source": source})
    await mirroring.run()
    upstream.asked.clear()
    summary = await mirroring.run()
    assert (summary.counts["unchanged"], summary.counts["copied"]) == (3, 0)
    assert upstream.count(Kind.TAGS) == 1
    assert upstream.count(Kind.HEAD_MANIFEST) == 3
    assert len([asked for asked in upstream.asked if asked.kind is not Kind.PING]) == 4


async def test_only_the_tag_that_moved_is_copied(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    shared = artifacts.blob()
    for tag in ("1.0", "1.1"):
        upstream.put(APP, artifacts.of_layers(shared), tag)
    mirroring.configure({"source": source, "target": "app"})
    await mirroring.run()
    moved = artifacts.of_layers(shared)
    upstream.put(APP, moved, "1.1")
    upstream.asked.clear()
    summary = await mirroring.run()
    assert summary.counts["copied"] == 1
    assert upstream.count(Kind.GET_MANIFEST) == 1
    assert upstream.count(Kind.GET_BLOB) == 2  # Its own layer and its configuration.
    assert (await mirroring.tags("app"))["1.1"] == moved.digest


async def test_a_layer_that_many_repositories_share_is_fetched_once(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    shared = artifacts.blob(50_000)
    found = {f"team/app{number}": artifacts.of_layers(shared) for number in range(8)}
    for name, image in found.items():
        upstream.put(name, image, "1")
    mirroring.configure({"source": f"{upstream.host}/team/*", "target": "{name}"})
    assert (await mirroring.run()).counts["copied"] == 8
    assert upstream.count(Kind.GET_BLOB, of=shared.blob.digest) == 1
    for name, image in found.items():
        await mirroring.check_image(image, name.removeprefix("team/"), "1")


async def test_only_the_platforms_that_are_wanted_come_and_the_index_stays_as_it_is(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    image = artifacts.platforms("linux/amd64", "linux/arm64", "linux/arm/v7", attested=True)
    upstream.put(APP, image, "1.0")
    mirroring.configure({"source": source, "target": "app", "platforms": ["linux/amd64"]})
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert await mirroring.tags("app") == {"1.0": image.digest}
    amd64, attestation, arm64, *_ = image.children
    await mirroring.check_image(amd64, "app")
    await mirroring.check_image(attestation, "app")
    held = {row[0] for row in await mirroring.rows("SELECT digest FROM held_manifests WHERE repository = 'app'")}
    assert held == {image.digest, amd64.digest, attestation.digest}
    upstream.asked.clear()
    assert (await mirroring.run()).counts["unchanged"] == 1
    assert upstream.count(Kind.GET_MANIFEST) == 0
    mirroring.configure({"source": source, "target": "app", "platforms": ["linux/amd64", "linux/arm64"]})
    assert (await mirroring.run()).counts["copied"] == 1
    await mirroring.check_image(arm64, "app")


async def test_an_image_for_none_of_the_wanted_platforms_fails_and_says_for_which_it_is(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    """An index of which nothing is here looks like an image, until somebody pulls it."""
    upstream.put(APP, artifacts.platforms("linux/amd64", "linux/arm64", attested=True), "1.0")
    mirroring.configure({"source": source, "target": "app", "platforms": ["linux/amd46"]})
    summary = await mirroring.run()
    assert summary.outcome is Outcome.ERROR
    (failure,) = summary.failures
    assert failure.why.endswith("none of the 'platforms' that are wanted, but for linux/amd64, linux/arm64")
    assert await mirroring.tags("app") == {}


async def test_what_the_cache_brought_without_its_layers_is_made_whole(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    """A registry of distribution 2 answers with 500 to who asks for a layer as if it were a manifest."""
    image = upstream.put(APP, artifacts.image(), "1.0")
    layers = frozenset(blob.blob.digest for blob in image.blobs)
    manifest = image.pushed.manifest
    await manifests.push(
        mirroring.registry, SYSTEM, "app", manifest.data, manifest.media_type, image.digest, ["1.0"], may_lack=layers
    )
    now, theirs = mirroring.clock.now(), Source(upstream.host, APP)
    origin = TagOrigin("app", "1.0", theirs, "1.0", image.digest, "cache", None, now)
    await mirroring.registry.db.write(origins.record, origin)
    for layer in layers:
        upstream.fail(Kind.HEAD_MANIFEST, faults.status(500), of=layer)
    mirroring.configure({"source": source, "target": "app"})
    summary = await mirroring.run()
    assert (summary.outcome, summary.counts["copied"]) == (Outcome.SUCCESS, 1)
    await mirroring.check_image(image, "app", "1.0")


async def test_signatures_attestations_and_what_refers_to_them_come_with_their_image(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    image = artifacts.image()
    upstream.put(APP, image, "1.0")
    sbom = artifacts.artifact("application/spdx+json", subject=image)
    of_sbom = artifacts.artifact("application/vnd.dev.sigstore.bundle.v0.3+json", subject=sbom)
    for referrer in (sbom, of_sbom):
        upstream.attach(APP, referrer)
    by_tag = artifacts.image()
    upstream.put(APP, by_tag, f"sha256-{image.digest.encoded}.sig")
    mirroring.configure({"source": source, "target": "app", "referrers": True})
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert (await mirroring.tags("app")).keys() == {"1.0", f"sha256-{image.digest.encoded}.sig"}
    for each in (sbom, of_sbom, by_tag):
        await mirroring.check_image(each, "app")


async def test_a_referrer_that_came_later_comes_with_the_next_run(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    image = artifacts.image()
    upstream.put(APP, image, "1.0")
    mirroring.configure({"source": source, "target": "app", "referrers": True, "not_referrer_types": ["*spdx*"]})
    await mirroring.run()
    wanted = artifacts.artifact("application/vnd.example.signature", subject=image)
    upstream.attach(APP, wanted)
    upstream.attach(APP, artifacts.artifact("application/spdx+json", subject=image))
    summary = await mirroring.run()
    assert (summary.outcome, summary.counts["copied"]) == (Outcome.SUCCESS, 1)
    await mirroring.check_image(wanted, "app")
    assert (await mirroring.run()).counts["copied"] == 0


async def test_what_somebody_pushed_over_it_is_theirs(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    upstream.put(APP, artifacts.image(), "1.0")
    mirroring.configure({"source": source, "target": "app"})
    await mirroring.run()
    pushed = images.image([b"our own"])
    await mirroring.push(pushed, "1.0", repository="app")
    summary = await mirroring.run()
    assert (summary.outcome, summary.counts["theirs"]) == (Outcome.SUCCESS, 1)
    assert await mirroring.tags("app") == {"1.0": pushed.digest}
    mirroring.configure({"source": source, "target": "app", "overwrite": True})
    assert (await mirroring.run()).counts["copied"] == 1
    assert await mirroring.tags("app") != {"1.0": pushed.digest}


async def test_a_tag_has_to_be_the_same_for_a_while_before_it_is_taken(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    first, second = artifacts.image(), artifacts.image()
    upstream.put(APP, first, "latest")
    mirroring.configure({"source": source, "target": "app", "minimum_age": "3d"})
    assert (await mirroring.run()).counts["waiting"] == 1
    mirroring.pass_time(2 * DAY)
    upstream.put(APP, second, "latest")  # Poisoned, or only new: it waits from the beginning.
    assert (await mirroring.run()).counts["waiting"] == 1
    mirroring.pass_time(2 * DAY)
    assert (await mirroring.run()).counts["waiting"] == 1
    assert await mirroring.tags("app") == {}
    mirroring.pass_time(1.1 * DAY)
    assert (await mirroring.run()).counts["copied"] == 1
    assert await mirroring.tags("app") == {"latest": second.digest}


async def test_a_plan_writes_nothing_and_spends_nothing(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    upstream.put(APP, artifacts.image(), "1.0")
    mirroring.configure({"source": source, "target": "app", "minimum_age": "1d"})
    decided = await mirroring.plan()
    assert [told.name for told in decided.waiting] == ["app:1.0"]
    mirroring.pass_time(2 * DAY)
    assert len((await mirroring.plan()).waiting) == 1  # It was not seen yet, as far as anything is written.
    assert upstream.count(Kind.GET_MANIFEST) == 0
    for table in ("upstream_tags", "upstream_lists", "origins", "mirror_copies"):
        assert await mirroring.rows(f"SELECT * FROM {table}") == []


async def test_what_is_behind_is_so_since_it_was_first_planned(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    for tag in ("1.0", "2.0"):
        upstream.put(APP, artifacts.image(), tag)
    mirroring.configure({"source": source, "target": "app"})
    upstream.fail(Kind.GET_MANIFEST, faults.status(500), of=APP, times=None)
    await mirroring.run()
    behind = "SELECT tag, run, planned_at FROM mirror_copies ORDER BY tag"
    first = await mirroring.rows(behind)
    mirroring.pass_time(DAY)
    upstream.untag(APP, "1.0")
    upstream.put(APP, artifacts.image(), "2.0")
    upstream.put(APP, artifacts.image(), "3.0")
    await mirroring.run()
    second, third = await mirroring.rows(behind)
    assert second == ("2.0", first[1][1] + 1, first[1][2])
    assert (third[0], third[2] - second[2] > DAY / 2) == ("3.0", True)


async def test_a_run_that_was_cut_off_goes_on_where_it_was(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str
) -> None:
    found = {f"1.{number}": artifacts.image() for number in range(12)}
    for tag, image in found.items():
        upstream.put(APP, image, tag)
    mirroring.configure({"source": source, "target": "app"})
    asked = await mirroring.ask()
    with upstream.held(Kind.GET_BLOB) as gate:
        running = asyncio.ensure_future(mirroring.worker.run_until_idle())
        await gate.reached(1)
        running.cancel()  # As the death of the process, but for the lease, which is handed back.
        await asyncio.gather(running, return_exceptions=True)
    assert len(await mirroring.rows("SELECT tag FROM mirror_copies WHERE failure IS NULL")) > 0
    await mirroring.restart()
    await mirroring.worker.run_until_idle()
    assert await mirroring.tags("app") == {tag: image.digest for tag, image in found.items()}
    assert await mirroring.rows("SELECT tag FROM mirror_copies") == []
    manifests_read = [asked for asked in upstream.asked if asked.kind is Kind.GET_MANIFEST]
    assert len(manifests_read) == len({each.target for each in manifests_read})  # No pull was paid twice.
    assert asked.id == 1


@pytest.mark.parametrize("by", ["manifest", "configuration"])
async def test_what_scripts_pushed_is_followed_once_name_and_digest_say_whose_it_is(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, by: str
) -> None:
    """Row S3: `docker pull`, `docker tag` and `docker push` make a manifest anew and keep its configuration."""
    ours = f"{folder_of(upstream)}/{APP}"
    config = Bytes(b'{"architecture": "amd64", "os": "linux"}')
    pushed = images.image([b"as scripts have it"], config=config.data)
    await mirroring.push(pushed, "1.0", repository=ours)
    own = images.image([b"nobody else has it"])
    await mirroring.push(own, "1.0", repository=f"{folder_of(upstream)}/team/own")
    old = artifacts.image()
    upstream.put(APP, old, "0.9")
    if by == "configuration":
        upstream.repositories[APP].blobs[config.blob.digest] = config.data
    newer = artifacts.image()
    upstream.put(APP, newer, "1.0")
    mirroring.configure(follow=True, upstreams={upstream.host: {}})
    summary = await mirroring.run()
    assert summary.outcome is Outcome.SUCCESS
    if by == "configuration":
        assert (await mirroring.tags(ours))["1.0"] == newer.digest
    else:
        assert (await mirroring.tags(ours))["1.0"] == pushed.digest  # Upstream never had it.
    assert await mirroring.tags(f"{folder_of(upstream)}/team/own") == {"1.0": own.digest}


async def test_a_plan_shows_what_following_would_do_before_anything_is_written(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    ours = f"{folder_of(upstream)}/{APP}"
    config = Bytes(b'{"architecture": "amd64", "os": "linux"}')
    pushed = images.image([b"as scripts have it"], config=config.data)
    await mirroring.push(pushed, "1.0", repository=ours)
    upstream.put(APP, artifacts.platforms(), "1.0")
    upstream.repositories[APP].blobs[config.blob.digest] = config.data
    mirroring.configure(follow=True, upstreams={upstream.host: {}})
    for _ in range(2):
        decided = await mirroring.plan()
        assert [(copy.repository, copy.tag, copy.why) for copy in decided.copies] == [
            (ours, "1.0", f"was {pushed.digest}")
        ]
    assert await mirroring.rows("SELECT * FROM origins") == []
    assert (await mirroring.run()).counts["copied"] == 1


@pytest.mark.parametrize("by", ["name", "list"])
async def test_what_is_meant_by_its_name_leaves_when_upstream_has_it_no_more(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: str, by: str
) -> None:
    ours = f"{folder_of(upstream)}/{APP}"
    image = artifacts.image()
    for tag in ("1.0", "2.0"):
        upstream.put(APP, image, tag)
    if by == "name":
        config, *layers = (blob.data for blob in image.blobs)
        await mirroring.push(images.image(layers, config=config), "1.0", repository=ours)
        mirroring.configure(follow=True, gone_upstream={"remove_after": "1d"}, upstreams={upstream.host: {}})
    else:
        mirroring.configure({"source": source, "tags": {"list": ["1.0"]}, "gone_upstream": {"remove_after": "1d"}})
    await mirroring.run()
    del upstream.repositories[APP].tags["1.0"]
    await mirroring.run()
    assert await mirroring.rows("SELECT tag, leaving FROM origins") == [("1.0", "gone upstream")]
    mirroring.pass_time(2 * DAY)
    assert (await mirroring.run()).counts["removed"] == 1
    assert await mirroring.tags(ours) == {}
