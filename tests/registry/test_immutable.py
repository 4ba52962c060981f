"""Tags that never change: at every door through which a tag is moved or deleted, whatever it is called."""

from __future__ import annotations

import pytest

from homeport.oci.errors import ManifestUnknown, TagImmutable
from homeport.registry import manifests, tags
from homeport.registry.retention import ImmutableTags, Retention
from homeport.testing.images import image
from tests.registry.test_read_only import state
from tests.registry.world import ADA, OTHER, REPOSITORY, World

ONE = image([b"one"])
TWO = image([b"two"])
RULE = ImmutableTags("team/a*", ("v*", "latest"), ("*-rc*",))


@pytest.fixture
async def fixed(world: World) -> World:
    """A registry in which `v1` and `latest` never change, both images being there."""
    await world.push(ONE, "v1", "latest", "v1-rc1", "main")
    await world.push(ONE, "v1", repository=OTHER)
    await world.push(TWO, "other")
    await world.push(TWO, repository=OTHER)
    world.rule(retention=Retention(immutable=(RULE,)))
    return world


@pytest.mark.parametrize("name", ["v1", "latest"])
async def test_it_is_never_moved(fixed: World, name: str) -> None:
    """CVE-2026-31801: `latest` could be."""
    before = await state(fixed)
    with pytest.raises(TagImmutable, match=rf"neither moved .* nor deleted \({name} by .* \(team/a\*\)\)\."):
        await fixed.manifest(TWO, name)
    assert await state(fixed) == before


async def test_nor_among_others_that_could_be(fixed: World) -> None:
    before = await state(fixed)
    for names in [("new", "v1"), ("v1", "new"), ("main", "latest"), ("v2", "latest")]:
        with pytest.raises(TagImmutable):
            await fixed.manifest(TWO, *names)
    assert await state(fixed) == before


async def test_nor_by_a_manifest_that_is_new_here_and_not_a_byte_of_it_is_kept(fixed: World) -> None:
    new = image([b"one"], config=b'{"a":1}')
    await fixed.blob(new.blobs[-1])
    before = await state(fixed)
    with pytest.raises(TagImmutable):
        await fixed.manifest(new, "v2", "v1")
    assert await state(fixed) == before
    assert not fixed.file(new.digest).exists()


async def test_it_is_never_deleted(fixed: World) -> None:
    before = await state(fixed)
    for name in ("v1", "latest"):
        with pytest.raises(TagImmutable):
            await tags.delete(fixed.registry, ADA, REPOSITORY, name)
    with pytest.raises(TagImmutable):
        await manifests.delete(fixed.registry, ADA, REPOSITORY, ONE.digest)
    assert await state(fixed) == before


async def test_the_same_may_be_pushed_again(fixed: World) -> None:
    await fixed.manifest(ONE, "v1", "latest")
    fixed.file(ONE.digest).unlink()  # ... which heals it.
    await fixed.manifest(ONE, "v1")
    assert fixed.file(ONE.digest).exists()
    changes = await fixed.registry.db.read(tags.history, REPOSITORY, "v1")
    assert [change.digest for change in changes] == [ONE.digest]


async def test_a_new_tag_may_be_set_once(fixed: World) -> None:
    await fixed.manifest(TWO, "v2")
    with pytest.raises(TagImmutable):
        await fixed.manifest(ONE, "v2")


async def test_what_no_rule_is_about_changes_as_ever(fixed: World) -> None:
    await fixed.manifest(TWO, "v1-rc1", "main")
    await fixed.manifest(TWO, "v1", repository=OTHER)
    await tags.delete(fixed.registry, ADA, REPOSITORY, "main")
    await manifests.delete(fixed.registry, ADA, OTHER, TWO.digest)
    with pytest.raises(ManifestUnknown):
        await tags.delete(fixed.registry, ADA, REPOSITORY, "v9")


async def test_it_changes_again_once_the_rule_is_gone(fixed: World) -> None:
    fixed.rule(retention=Retention())
    await fixed.manifest(TWO, "v1")
    await tags.delete(fixed.registry, ADA, REPOSITORY, "v1")
