"""What belongs to an image: signatures, attestations, platforms; which of them come, and whose they are."""

from __future__ import annotations

import asyncio

import pytest

from homeport.kinds import Outcome
from homeport.testing import images
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import DAY, Mirroring
from tests.mirror.upstream import Kind, Upstream

APP = "team/app"


@pytest.fixture
def source(upstream: Upstream) -> dict[str, object]:
    return {"source": f"{upstream.host}/{APP}", "target": "app", "referrers": True}


async def test_what_belongs_to_a_platform_that_is_not_wanted_stays_away(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    index = upstream.put(APP, artifacts.platforms("linux/amd64", "linux/arm64"), "1.0")
    amd64, arm64 = index.children
    wanted = [artifacts.artifact("application/spdx+json", subject=each) for each in (index, amd64)]
    unwanted = artifacts.artifact("application/spdx+json", subject=arm64)
    for each in (*wanted, unwanted):
        upstream.attach(APP, each)
    tag, signature = artifacts.cosign(arm64)
    upstream.put(APP, signature, tag)
    mirroring.configure(source | {"platforms": ["linux/amd64"]})
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    held = {digest for (digest,) in await mirroring.rows("SELECT digest FROM held_manifests")}
    assert held == {index.digest, amd64.digest, *(each.digest for each in wanted)}
    upstream.forget()
    assert (await mirroring.run()).counts["copied"] == 0
    assert upstream.count(Kind.GET_MANIFEST) == 0


@pytest.mark.parametrize("has_api", [True, False])
async def test_a_referrer_whose_type_is_not_wanted_stays_away_and_what_refers_to_it_too(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object], *, has_api: bool
) -> None:
    upstream.has_referrers = has_api
    image = upstream.put(APP, artifacts.image(), "1.0")
    unwanted = artifacts.artifact("application/spdx+json", subject=image)
    of_it = artifacts.artifact("application/vnd.example.signature", subject=unwanted)
    wanted = artifacts.artifact("application/vnd.example.signature", subject=image)
    for each in (unwanted, of_it, wanted):
        upstream.attach(APP, each)
    mirroring.configure(source | {"referrer_types": ["application/vnd.*"]})
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    held = {digest for (digest,) in await mirroring.rows("SELECT digest FROM held_manifests")}
    assert held == {image.digest, wanted.digest}


async def test_a_signature_that_somebody_pushed_here_stays_what_it_is(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    image = upstream.put(APP, artifacts.image(), "1.0")
    tag, signature = artifacts.cosign(image)
    mirroring.configure(source)
    await mirroring.run()
    ours = await mirroring.push(images.image([b"our signature"]), tag, repository="app")
    upstream.put(APP, signature, tag)
    for _ in range(2):
        summary = await mirroring.run()
        assert (summary.outcome, summary.counts["copied"]) == (Outcome.SUCCESS, 0)
    assert (await mirroring.tags("app"))[tag] == ours
    mirroring.configure(source | {"overwrite": True})
    assert (await mirroring.run()).counts["copied"] == 1
    assert (await mirroring.tags("app"))[tag] == signature.digest


async def test_a_signature_that_upstream_made_anew_comes_and_none_leaves_by_itself(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    image = upstream.put(APP, artifacts.image(), "1.0")
    tag, first = artifacts.cosign(image)
    upstream.put(APP, first, tag)
    brief = {"remove_after": "1h"}
    mirroring.configure(source | {"gone_upstream": brief, "unselected": brief})
    await mirroring.run()
    _, second = artifacts.cosign(image)
    upstream.put(APP, second, tag)
    for _ in range(3):
        mirroring.pass_time(DAY)
        assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert (await mirroring.tags("app"))[tag] == second.digest
    upstream.untag(APP, tag)
    for _ in range(3):
        mirroring.pass_time(DAY)
        assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert (await mirroring.tags("app")).keys() == {"1.0", tag}


async def test_somebody_pushes_while_the_image_is_on_its_way(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    upstream.put(APP, artifacts.image(), "1.0")
    mirroring.configure(source)
    with upstream.held(Kind.GET_BLOB) as gate:
        asked = await mirroring.ask()
        running = mirroring.worker.run_until_idle()
        async with asyncio.TaskGroup() as group:
            group.create_task(running)
            await gate.reached(1)
            ours = await mirroring.push(images.image([b"ours"]), "1.0", repository="app")
            gate.open()
    summary = await mirroring.summary(asked)
    assert (summary.outcome, summary.counts["theirs"], summary.counts["copied"]) == (Outcome.SUCCESS, 1, 0)
    assert await mirroring.tags("app") == {"1.0": ours}


async def test_an_index_whose_upstream_lacks_a_platform_is_not_copied_every_night(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    index = upstream.put(APP, artifacts.platforms("linux/amd64", "linux/arm64"), "1.0")
    amd64, arm64 = index.children
    manifest = upstream.repositories[APP].manifests.pop(arm64.digest)
    mirroring.configure(source)
    assert (await mirroring.run()).counts["copied"] == 1
    await mirroring.check_image(amd64, "app")
    upstream.forget()
    summary = await mirroring.run()
    assert (summary.outcome, summary.counts["copied"], summary.counts["unchanged"]) == (Outcome.SUCCESS, 0, 1)
    assert upstream.count(Kind.GET_MANIFEST) == 0
    upstream.repositories[APP].manifests[arm64.digest] = manifest
    assert (await mirroring.run()).counts["copied"] == 1
    await mirroring.check_image(index, "app", "1.0")
