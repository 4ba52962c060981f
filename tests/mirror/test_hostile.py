"""What somebody could build at an upstream, or here, to harm who mirrors it."""

from __future__ import annotations

import asyncio

import pytest

from homeport.events import SYSTEM
from homeport.kinds import Outcome
from homeport.mirror import holdings, read_ahead
from homeport.oci import mediatype
from homeport.oci.errors import ManifestBlobUnknown
from homeport.registry import blobs, manifests, privacy, removal, restoring, tags
from tests.client.images import Image, descriptor, make
from tests.mirror.artifacts import Artifacts
from tests.mirror.caching import NAME, Caching
from tests.mirror.mirroring import DAY, Mirroring
from tests.mirror.upstream import Upstream

APP = "team/app"


def ladder(upstream: Upstream, top: Image, *, rungs: int, width: int) -> Image:
    """An index above `top` to which as many ways lead down as `width` to the power of `rungs`."""
    below = [top]
    for rung in range(rungs):
        listed = [descriptor(each.pushed.descriptor) for each in below]
        below = [
            Image(make({"mediaType": mediatype.OCI_INDEX, "manifests": listed, "annotations": {"at": f"{rung}.{n}"}}))
            for n in range(width)
        ]
        for each in below:
            upstream.put(APP, each)
    return below[0]


async def test_a_ladder_of_indexes_is_climbed_once_and_not_on_every_way(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(APP, artifacts.image(), "plain")
    upstream.put(APP, ladder(upstream, image, rungs=7, width=12), "1.0")
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app"})
    async with asyncio.timeout(60):
        assert (await mirroring.run()).outcome is Outcome.SUCCESS
        assert (await mirroring.run()).counts["unchanged"] == 2
    await mirroring.check_everything()


async def test_what_is_lacking_is_told_once(mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts) -> None:
    wanted, left_out = "linux/amd64", "linux/arm64"
    image = upstream.put(APP, artifacts.platforms(wanted, left_out), "1.0")
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app", "platforms": [wanted]})
    await mirroring.run()
    lacking = await mirroring.registry.db.read(holdings.lacking, "app", image.digest, ())
    assert lacking == [holdings.Lack(image.children[1].digest, is_manifest=True)]


async def test_a_source_for_everybody_opens_nothing_of_a_private_one_in_the_same_repository(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    environ = {"UPSTREAM_PASSWORD": upstream.password}
    await mirroring.restart(environ)
    upstream.scheme = "bearer"
    upstream.private.add("ours/app")
    for name, tag in (("ours/app", "secret"), ("public/app", "1.0")):
        upstream.put(name, artifacts.image(), tag)
    login = {upstream.host: {"username": upstream.user, "password": "env:UPSTREAM_PASSWORD"}}
    images = [
        {"source": f"{upstream.host}/{name}", "target": "both", "tags": {"list": [tag]}}
        for name, tag in (("public/app", "1.0"), ("ours/app", "secret"))
    ]

    async def is_private() -> bool:
        return await mirroring.registry.db.read(privacy.is_private, "both")

    mirroring.configure(*images, upstreams=login)
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert (await mirroring.tags("both")).keys() == {"1.0", "secret"}
    assert await is_private()
    upstream.put("public/app", artifacts.image(), "1.0")
    await mirroring.restart(environ)
    mirroring.configure(*images, upstreams=login)
    assert (await mirroring.run()).counts["copied"] == 1
    assert await is_private()
    # What is public by now is for everybody, where nothing else is.
    upstream.private.clear()
    upstream.put("ours/app", artifacts.image(), "secret")
    await mirroring.restart(environ)
    mirroring.configure({**images[1], "target": "alone"}, images[0], upstreams=login)
    await mirroring.run()
    assert not await mirroring.registry.db.read(privacy.is_private, "alone")


async def test_an_image_that_came_in_part_comes_back_as_it_was(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    wanted, left_out = "linux/amd64", "linux/arm64"
    image = upstream.put(APP, artifacts.platforms(wanted, left_out), "1.0")
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app", "platforms": [wanted]})
    await mirroring.run()
    registry = mirroring.registry

    async def restore() -> None:
        await restoring.restore_tag(registry, SYSTEM, "app", "1.0", None)
        assert await mirroring.tags("app") == {"1.0": image.digest}
        await mirroring.check_image(image.children[0], "app")
        assert not await registry.db.read(manifests.has, "app", image.children[1].digest)

    await tags.delete(registry, SYSTEM, "app", "1.0")
    await restore()
    await manifests.delete(registry, SYSTEM, "app", image.digest)
    await restore()
    await removal.delete(registry, SYSTEM, "app")
    await restoring.restore_repository(registry, SYSTEM, "app")
    assert await mirroring.tags("app") == {"1.0": image.digest}


async def test_what_nobody_had_asked_the_cache_for_keeps_no_tag_from_coming_back(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.get("latest")
    await caching.read(image.blobs[1].blob.digest)
    registry = caching.registry
    await manifests.delete(registry, SYSTEM, caching.name, image.digest)
    await restoring.restore_tag(registry, SYSTEM, caching.name, "latest", None)
    assert await caching.holds(image.digest)
    await caching.fetch(image, "latest")


async def test_who_may_push_below_an_upstreams_name_cannot_tag_what_is_here_in_part(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(), "latest")
    await caching.get("latest")
    manifest = image.pushed.manifest
    with pytest.raises(ManifestBlobUnknown):
        await manifests.push(
            caching.registry, SYSTEM, caching.name, manifest.data, manifest.media_type, image.digest, ["mine"]
        )
    layer = image.blobs[1].blob.digest
    linked = await blobs.mount(caching.registry, SYSTEM, "team/x", layer, caching.name, readable=lambda *_: True)
    assert linked is None


async def test_a_tag_that_went_back_to_what_it_was_waits_anew(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    good = upstream.put(APP, artifacts.image(), "1.0")
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app", "minimum_age": "3d"})
    assert (await mirroring.run()).counts["waiting"] == 1
    mirroring.clock.ahead += 2 * DAY
    bad = upstream.put(APP, artifacts.image(), "1.0")
    assert (await mirroring.run()).counts["waiting"] == 1
    mirroring.clock.ahead += 2 * DAY
    upstream.tag(APP, "1.0", good.digest)
    assert (await mirroring.run()).counts["waiting"] == 1
    upstream.tag(APP, "1.0", bad.digest)
    mirroring.clock.ahead += 2 * DAY
    assert (await mirroring.run()).counts["waiting"] == 1
    mirroring.clock.ahead += 3 * DAY + 1
    assert (await mirroring.run()).counts["copied"] == 1


async def test_a_manifest_that_was_read_elsewhere_is_told_only_where_upstream_has_it(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    """Whoever may push an index somewhere may name the digest of what they may not read."""
    secret = upstream.put(APP, artifacts.image())
    del upstream.repositories[APP].manifests[secret.digest]
    await mirroring.registry.db.write(read_ahead._keep, secret.pushed, mirroring.clock.now())
    listed = [descriptor(secret.pushed.descriptor)]
    index = Image(make({"mediaType": mediatype.OCI_INDEX, "manifests": listed}))
    upstream.put(APP, index, "1.0")
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app"})
    await mirroring.run()
    assert await mirroring.tags("app") == {"1.0": index.digest}
    assert not await mirroring.registry.db.read(manifests.has, "app", secret.digest)
