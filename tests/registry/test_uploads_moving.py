"""Uploads that move say so, however they come; those that do not are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUploadUnknown, UploadTakenOver
from homeport.registry import blobs, uploads
from homeport.storage.blobstore import StorageError
from tests.registry.world import ADA, HOUR, OTHER, REPOSITORY, World, stuck

HELLO = b"hello, world"
DIGEST = Digest.of(HELLO)


async def content(world: World, digest: Digest) -> bytes:
    blob = await blobs.get(world.registry, REPOSITORY, digest)
    return b"".join([chunk async for chunk in world.registry.blobs.read(blob.location)])


async def sessions_left(world: World) -> int:
    return len(await world.rows("SELECT 1 FROM uploads"))


async def moved(world: World) -> list[float]:
    """How long ago the rows of uploads say that these moved."""
    return [world.clock.now() - moved_at for (moved_at,) in await world.rows("SELECT moved_at FROM uploads")]


async def slow(world: World, seconds: float, *chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks, so long one after the other; at each the rows say that there is movement."""
    for chunk in chunks:
        world.pass_time(seconds)
        yield chunk
        assert all(ago < uploads.MOVED_SECONDS for ago in await moved(world)), await moved(world)


async def test_an_upload_that_grows_for_hours_says_so(world: World) -> None:
    upload = await world.start()
    since, parts = world.clock.now(), [HELLO[n : n + 1] for n in range(len(HELLO))]
    world.pass_time(2 * HOUR)
    registry = world.registry
    await uploads.append(registry, world.sessions, ADA, REPOSITORY, upload, 0, slow(world, 1800, *parts[:6]))
    oldest = await registry.db.read(uploads.oldest_moving, REPOSITORY, world.clock.now() - 60)
    assert oldest == pytest.approx(since, abs=10)
    assert await registry.db.read(uploads.oldest_moving, OTHER, 0.0) is None
    await uploads.finish(registry, world.sessions, ADA, REPOSITORY, upload, DIGEST, 6, slow(world, 1800, *parts[6:]))
    assert await content(world, DIGEST) == HELLO
    assert await registry.db.read(uploads.oldest_moving, REPOSITORY, 0.0) is None


async def test_a_push_in_one_request_is_seen_once_it_lasts(world: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield HELLO[:1]
        world.pass_time(uploads.MOVED_SECONDS - 5)
        yield HELLO[1:2]
        assert await moved(world) == []
        world.pass_time(5)
        async for chunk in slow(world, 1800, HELLO[2:4], HELLO[4:]):
            yield chunk
            assert len(await moved(world)) == 1

    await uploads.push(world.registry, ADA, REPOSITORY, DIGEST, chunks())
    assert await content(world, DIGEST) == HELLO
    assert await sessions_left(world) == 0

    async def broken_late() -> AsyncIterator[bytes]:
        async for chunk in chunks():
            yield chunk
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await uploads.push(world.registry, ADA, REPOSITORY, DIGEST, broken_late())
    assert await sessions_left(world) == 0
    assert world.strays() == []


async def test_what_ends_within_a_minute_costs_nothing_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    jotted = []
    jot = world.registry.db.jot

    async def counting(fact: Callable[..., object], *args: object) -> object:
        jotted.append(fact.__name__)
        return await jot(fact, *args)

    monkeypatch.setattr(world.registry.db, "jot", counting)
    await world.blob(HELLO)
    upload = await world.start()
    await world.append(upload, *[b"x"] * 100)
    await world.finish(upload, Digest.of(b"x" * 100))
    assert jotted == ["_hold", "_begin", "_hold"]


async def test_an_abandoned_upload_is_forgotten(world: World) -> None:
    world.rule(uploads_seconds=2 * HOUR)
    abandoned, moving = await world.start(), await world.start()
    await world.append(abandoned, HELLO)
    world.pass_time(HOUR)
    await world.append(moving, HELLO[:3])
    assert await uploads.abandon(world.registry, 10) == 0
    world.pass_time(HOUR + 60)
    assert await uploads.abandon(world.registry, 10) == 1
    assert world.strays() == [moving]
    assert await uploads.abandon(world.registry, 10) == 0
    for ask in (world.append(abandoned, b"!"), world.finish(abandoned, DIGEST)):
        with pytest.raises(BlobUploadUnknown):
            await ask
    assert world.strays() == [moving]
    assert [(event.kind, event.repository, event.actor, event.reason) for event in await world.events()] == [
        ("upload.abandoned", REPOSITORY, "system", "ada had begun it")
    ]
    await world.finish(moving, DIGEST, HELLO[3:])


async def test_only_so_many_are_forgotten_at_once_the_longest_abandoned_first(world: World) -> None:
    started = []
    for _ in range(5):
        started.append(await world.start())
        await world.append(started[-1], b"x")
        world.pass_time(1)
    world.pass_time(world.registry.rules.uploads_seconds)
    assert await uploads.abandon(world.registry, 2) == 2
    assert world.strays() == sorted(started[2:])
    assert await uploads.abandon(world.registry, 5) == 3


async def test_nothing_is_abandoned_in_read_only_mode(world: World) -> None:
    await world.start()
    world.pass_time(world.registry.rules.uploads_seconds + 1)
    world.rule(read_only="we move")
    assert await uploads.abandon(world.registry, 10) == 0
    assert await sessions_left(world) == 1


async def test_what_somebody_writes_to_is_not_abandoned(world: World) -> None:
    """However long it stands still: that is what `server.body_idle_seconds` is for."""
    upload = await world.start()
    begun = asyncio.Event()
    writing = asyncio.ensure_future(
        uploads.append(world.registry, world.sessions, ADA, REPOSITORY, upload, 0, stuck(begun, HELLO[:3]))
    )
    await begun.wait()
    world.pass_time(world.registry.rules.uploads_seconds + 1)
    assert await uploads.abandon(world.registry, 1) == 0
    assert await world.append(upload, HELLO[3:]) == len(HELLO)
    with pytest.raises(UploadTakenOver):
        await writing
    await world.finish(upload, DIGEST)
    assert world.registry.writing == set()


async def test_a_request_whose_session_was_forgotten_meanwhile_is_told(world: World) -> None:
    """By another process, say, whose clock is ahead."""
    upload = await world.start()

    async def chunks() -> AsyncIterator[bytes]:
        yield HELLO[:3]
        await world.registry.db.write(lambda tx: tx.run("DELETE FROM uploads"))
        world.pass_time(uploads.MOVED_SECONDS)
        yield HELLO[3:]

    with pytest.raises(BlobUploadUnknown):
        await uploads.append(world.registry, world.sessions, ADA, REPOSITORY, upload, 0, chunks())
    assert world.strays() == []


async def test_bytes_that_cannot_be_deleted_keep_nothing_else_from_going(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await world.start(), await world.start()
    await world.append(first, HELLO)
    world.pass_time(1)
    await world.append(second, HELLO)
    cancel = world.registry.blobs.cancel

    async def failing(upload: str) -> None:
        if upload == first:
            raise StorageError("no")
        await cancel(upload)

    monkeypatch.setattr(world.registry.blobs, "cancel", failing)
    world.pass_time(world.registry.rules.uploads_seconds + 1)
    assert await uploads.abandon(world.registry, 10) == 2
    assert world.strays() == [first]
    monkeypatch.undo()
    assert await uploads.discard_strays(world.registry) == 1


async def test_a_session_of_yesterday_is_taken_over_and_goes_on(world: World) -> None:
    upload = await world.start()
    await world.append(upload, HELLO[:3])
    world.pass_time(20 * HOUR)
    await world.append(upload, HELLO[3:5])
    world.pass_time(20 * HOUR)
    assert await uploads.abandon(world.registry, 10) == 0
    await world.finish(upload, DIGEST, HELLO[5:])
