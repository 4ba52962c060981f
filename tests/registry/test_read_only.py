"""Read-only mode: every door through which a change comes is shut, and says why; everything else is open."""

from __future__ import annotations

import pytest

from homeport.oci.digest import Digest
from homeport.oci.errors import ReadOnly
from homeport.registry import blobs, manifests, referrers, tags, uploads
from homeport.testing.images import image
from tests.registry.world import ADA, OTHER, REPOSITORY, World, body

IMAGE = image([b"layer"])
SECOND = image([b"layer"], config=b'{"a":1}')
LAYER = Digest.of(b"layer")
REASON = "moving to another disk until noon"


@pytest.fixture
async def shut(world: World) -> World:
    """A registry with an image, a blob and a session, in which nothing may be changed now."""
    await world.push(IMAGE, "a")
    await world.blob(SECOND.blobs[-1])
    await world.blob(b"loose")
    await world.append(await world.start(), b"half of it")
    world.rule(read_only=REASON)
    return world


async def session(world: World) -> str:
    ((upload,),) = await world.rows("SELECT id FROM uploads")
    return str(upload)


async def state(world: World) -> list[object]:
    tables = ["repositories", "blobs", "holds", "links", "uploads", "manifests", "tags", "tag_history", "events"]
    return [await world.rows(f"SELECT * FROM {table}") for table in tables]


async def test_every_change_is_refused_with_the_reason(shut: World) -> None:
    before = await state(shut)
    upload = await session(shut)
    registry, sessions = shut.registry, shut.sessions
    doors = [
        uploads.start(registry, sessions, ADA, REPOSITORY),
        uploads.append(registry, sessions, ADA, REPOSITORY, upload, None, body(b"!")),
        uploads.finish(registry, sessions, ADA, REPOSITORY, upload, Digest.of(b"half of it"), None, None),
        uploads.push(registry, ADA, REPOSITORY, Digest.of(b"new"), body(b"new")),
        uploads.cancel(registry, sessions, ADA, REPOSITORY, upload),
        blobs.mount(registry, ADA, OTHER, LAYER, REPOSITORY, lambda _, name: True),
        blobs.mount(registry, ADA, OTHER, LAYER, None, lambda _, name: True),
        blobs.delete(registry, ADA, REPOSITORY, Digest.of(b"loose")),
        shut.manifest(SECOND),
        shut.manifest(SECOND, "b"),
        shut.manifest(IMAGE, "a"),
        shut.manifest(IMAGE, "b"),
        manifests.delete(registry, ADA, REPOSITORY, IMAGE.digest),
        tags.delete(registry, ADA, REPOSITORY, "a"),
    ]
    for door in doors:
        with pytest.raises(ReadOnly, match=REASON):
            await door
    assert await state(shut) == before
    assert shut.strays() == [upload]


async def test_everything_can_be_read(shut: World) -> None:
    assert (await manifests.get(shut.registry, REPOSITORY, "a")).digest == IMAGE.digest
    assert (await blobs.get(shut.registry, REPOSITORY, LAYER)).digest == LAYER
    assert (await blobs.get_and_keep(shut.registry, REPOSITORY, LAYER)).digest == LAYER
    assert await referrers.get(shut.registry, REPOSITORY, IMAGE.digest, None, "", 10) == ([], False)
    assert await uploads.size(shut.registry, ADA, REPOSITORY, await session(shut)) == len(b"half of it")


async def test_afterwards_everything_goes_on(shut: World) -> None:
    shut.rule(read_only=None)
    await shut.finish(await session(shut), Digest.of(b"half of it!"), b"!")
    await shut.manifest(SECOND, "b")
