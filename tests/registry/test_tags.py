"""Tags: where they point, where they pointed, and their pages."""

from __future__ import annotations

import pytest

from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestUnknown
from homeport.registry import blobs, manifests, repositories, tags
from homeport.testing.images import image
from tests.registry.world import ADA, HOUR, OTHER, REPOSITORY, World

ONE = image([b"one"])
TWO = image([b"two"])


async def history(world: World, name: str = "a") -> list[str | None]:
    changes = await world.registry.db.read(tags.history, REPOSITORY, name)
    assert all(change.actor == ADA.actor for change in changes)
    return [change.digest for change in changes]


async def released(world: World, digest: str) -> float:
    """How long ago the last reference was lost."""
    rows = await world.rows("SELECT released_at FROM links WHERE digest = ?", digest)
    return world.clock.now() - float(rows[0][0])


async def test_a_tag_moves_and_its_history_tells(world: World) -> None:
    since = await world.new_events()
    await world.push(ONE, "a")
    await world.push(TWO, "a")
    await world.manifest(TWO, "a")
    await world.manifest(ONE, "a")
    assert (await manifests.get(world.registry, REPOSITORY, "a")).digest == ONE.digest
    assert await history(world) == [ONE.digest, TWO.digest, ONE.digest]
    moves = [event for event in await since() if event[0] == "tag.set"]
    assert [digest for _, _, digest, _ in moves] == [ONE.digest, TWO.digest, ONE.digest]
    assert (await world.events())[-1].reason == f"was {TWO.digest}"


async def test_what_a_tag_left_behind_is_released(world: World) -> None:
    await world.push(ONE, "a", "b")
    world.pass_time(HOUR)
    await world.push(TWO, "c")
    assert await released(world, ONE.digest) > HOUR - 5
    await world.manifest(ONE, "a")  # nothing moves
    assert await released(world, ONE.digest) > HOUR - 5
    await world.manifest(TWO, "a")
    assert await released(world, ONE.digest) < 5
    world.pass_time(HOUR)
    await tags.delete(world.registry, ADA, REPOSITORY, "b")
    assert await released(world, ONE.digest) < 5


async def test_pushing_again_is_noted_also_where_nothing_changes(world: World) -> None:
    await world.push(ONE, "a")
    world.pass_time(HOUR)
    await world.manifest(ONE, "a")
    (tag,) = await world.registry.db.read(tags.page, REPOSITORY, "", 10) or []
    assert world.clock.now() - tag.pushed_at < 5
    assert tag.digest == ONE.digest


async def test_a_deleted_tag_is_gone_and_nothing_else(world: World) -> None:
    await world.push(ONE, "a", "b")
    since = await world.new_events()
    await tags.delete(world.registry, ADA, REPOSITORY, "a")
    assert await since() == [("tag.deleted", REPOSITORY, ONE.digest, "a")]
    with pytest.raises(ManifestUnknown):
        await manifests.get(world.registry, REPOSITORY, "a")
    assert await manifests.get(world.registry, REPOSITORY, "b")
    assert await manifests.get(world.registry, REPOSITORY, ONE.digest)
    assert await history(world) == [None, ONE.digest]
    for repository, name in [(REPOSITORY, "a"), (REPOSITORY, "c"), (OTHER, "b")]:
        with pytest.raises(ManifestUnknown):
            await tags.delete(world.registry, ADA, repository, name)


async def test_the_history_outlives_the_repository(world: World) -> None:
    await world.push(ONE, "a")
    await manifests.delete(world.registry, ADA, REPOSITORY, ONE.digest)
    for data in ONE.blobs:
        await blobs.delete(world.registry, ADA, REPOSITORY, Digest.of(data))
    assert await world.registry.db.read(repositories.find, REPOSITORY) is None
    assert await history(world) == [None, ONE.digest]


async def test_the_history_is_bounded(world: World) -> None:
    for _ in range(3):
        await world.push(ONE, "a")
        await world.push(TWO, "a")
    assert len(await world.registry.db.read(tags.history, REPOSITORY, "a", 4)) == 4


async def test_pages_come_in_ascii_order(world: World) -> None:
    names = ["1.0", "1.10", "1.9", "A", "Z", "_", "a", "b-", "z"]
    await world.push(ONE, *names)
    await world.push(ONE, "elsewhere", repository=OTHER)
    page = world.registry.db.read
    assert await page(tags.names, REPOSITORY, "", 100) == sorted(names)
    assert await page(tags.names, REPOSITORY, "1.10", 2) == ["1.9", "A"]
    assert await page(tags.names, REPOSITORY, "b", 2) == ["b-", "z"]
    assert await page(tags.names, REPOSITORY, "z", 2) == []
    assert await page(tags.names, REPOSITORY, "", 0) == []
    assert [tag.name for tag in await page(tags.page, REPOSITORY, "1.10", 2) or []] == ["1.9", "A"]


async def test_no_tags_and_no_repository_are_two_things(world: World) -> None:
    assert await world.registry.db.read(tags.names, REPOSITORY, "", 10) is None
    assert await world.registry.db.read(tags.page, REPOSITORY, "", 10) is None
    await world.push(ONE)
    assert await world.registry.db.read(tags.names, REPOSITORY, "", 10) == []
    assert await world.registry.db.read(tags.page, REPOSITORY, "", 10) == []
