"""Which repositories are not for everybody."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeport.oci.digest import Digest
from homeport.registry import blobs, manifests, privacy, repositories
from homeport.testing.images import image
from tests.registry.world import ADA, REPOSITORY, World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, tmp_path / "homeport.db")
    yield world
    await world.close()


async def is_private(world: World, repository: str = REPOSITORY) -> bool:
    return await world.registry.db.read(privacy.is_private, repository)


async def say(world: World, *, private: bool) -> None:
    await world.registry.db.write(privacy.set_private, REPOSITORY, private=private)


async def test_it_is_what_was_said_last(world: World) -> None:
    assert not await is_private(world)
    for private in (True, True, False, False, True):
        await say(world, private=private)
        assert await is_private(world) is private
        assert not await is_private(world, f"{REPOSITORY}x")
        assert not await is_private(world, REPOSITORY.partition("/")[0])
    await world.restart()
    assert await is_private(world)


async def test_it_outlives_the_repository(world: World) -> None:
    await say(world, private=True)
    digest = await world.push(image([b"x"]), "latest")
    registry = world.registry
    await manifests.delete(registry, ADA, REPOSITORY, digest)
    for data in (b"x", b"{}"):
        await blobs.delete(registry, ADA, REPOSITORY, Digest.of(data))
    assert await registry.db.read(repositories.find, REPOSITORY) is None
    assert await is_private(world)
