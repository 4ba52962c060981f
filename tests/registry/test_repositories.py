"""The catalog: what has something to pull."""

from __future__ import annotations

from homeport.oci.digest import Digest
from homeport.registry import blobs, manifests, repositories
from homeport.testing.images import image
from tests.registry.world import ADA, OTHER, REPOSITORY, World

IMAGE = image([b"layer"])


async def catalog(world: World, after: str = "", limit: int = 100) -> list[str]:
    return [found.name for found in await world.registry.db.read(repositories.page, after, limit)]


async def test_an_empty_registry_has_none(world: World) -> None:
    assert await catalog(world) == []


async def test_blobs_alone_are_nothing_to_pull(world: World) -> None:
    await world.blob(b"layer")
    await world.start(OTHER)
    assert await catalog(world) == []
    await world.push(IMAGE)
    assert await catalog(world) == [REPOSITORY]


async def test_what_has_no_manifest_left_leaves_the_catalog(world: World) -> None:
    await world.push(IMAGE, "a")
    await world.push(IMAGE, repository=OTHER)
    await manifests.delete(world.registry, ADA, REPOSITORY, IMAGE.digest)
    assert await catalog(world) == [OTHER]
    assert await world.registry.db.read(repositories.find, REPOSITORY) is not None
    for data in IMAGE.blobs:
        await blobs.delete(world.registry, ADA, REPOSITORY, Digest.of(data))
    assert await world.registry.db.read(repositories.find, REPOSITORY) is None
    await world.push(IMAGE, "a")
    assert await catalog(world) == [REPOSITORY, OTHER]


async def test_pages_come_in_ascii_order(world: World) -> None:
    names = ["a", "a-b", "a.b", "a/b", "a0", "a_b", "b", "team/app"]
    for name in reversed(names):
        await world.push(IMAGE, repository=name)
    assert await catalog(world) == sorted(names)
    assert await catalog(world, "a.b", 3) == ["a/b", "a0", "a_b"]
    assert await catalog(world, "a.c", 1) == ["a/b"]
    assert await catalog(world, "team/app") == []
    assert await catalog(world, limit=0) == []


async def test_it_tells_when_a_repository_began(world: World) -> None:
    await world.push(IMAGE)
    (found,) = await world.registry.db.read(repositories.page, "", 1)
    assert world.clock.now() - found.created_at < 5
