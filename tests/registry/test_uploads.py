"""Upload sessions: resumed, taken over, refused to strangers, and finished exactly once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import (
    BlobUploadUnknown,
    DigestInvalid,
    RegistryError,
    UploadOutOfOrder,
    UploadTakenOver,
)
from homeport.registry import blobs, uploads
from homeport.registry.uploads import Sessions
from homeport.storage.blobstore import StorageError
from tests.registry.world import ADA, BOB, OTHER, REPOSITORY, World, body, broken, delete_everything_held, stuck

HELLO = b"hello, world"
DIGEST = Digest.of(HELLO)


async def content(world: World, digest: Digest, repository: str = REPOSITORY) -> bytes:
    blob = await blobs.get(world.registry, repository, digest)
    return b"".join([chunk async for chunk in world.registry.blobs.read(blob.location)])


async def sessions_left(world: World) -> int:
    return len(await world.rows("SELECT 1 FROM uploads"))


# --- the ways to push -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("chunks", [[HELLO], [HELLO[:5], HELLO[5:]], [b"", HELLO, b""]])
async def test_in_one_request(world: World, chunks: list[bytes], algorithm: str) -> None:
    since = await world.new_events()
    digest = Digest.of(HELLO, algorithm)
    blob = await uploads.push(world.registry, ADA, REPOSITORY, digest, body(*chunks))
    assert (blob.digest, blob.size) == (digest, len(HELLO))
    assert await content(world, digest) == HELLO
    assert await since() == [("blob.pushed", REPOSITORY, digest, None)]
    assert world.strays() == []
    assert await sessions_left(world) == 0
    assert await world.rows("SELECT 1 FROM holds") == []


async def test_as_docker_does_it(world: World) -> None:
    upload = await world.start()
    assert await uploads.size(world.registry, ADA, REPOSITORY, upload) == 0
    assert await world.append(upload, HELLO[:3], HELLO[3:]) == len(HELLO)
    assert await uploads.size(world.registry, ADA, REPOSITORY, upload) == len(HELLO)
    assert (await world.finish(upload, DIGEST)).size == len(HELLO)
    assert await content(world, DIGEST) == HELLO
    assert world.strays() == []
    assert await sessions_left(world) == 0


async def test_in_chunks_the_last_of_which_comes_with_the_end(world: World) -> None:
    upload = await world.start()
    assert await world.append(upload, HELLO[:3], offset=0) == 3
    assert await world.append(upload, HELLO[3:7], offset=3) == 7
    await world.finish(upload, DIGEST, HELLO[7:], offset=7)
    assert await content(world, DIGEST) == HELLO


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_blob_of_no_bytes(world: World, algorithm: str) -> None:
    digest = Digest.of(b"", algorithm)
    await world.finish(await world.start(), digest)
    assert await content(world, digest) == b""
    await uploads.push(world.registry, ADA, OTHER, digest, body())
    assert await content(world, digest, OTHER) == b""


async def test_the_digest_may_be_of_another_algorithm_than_was_hashed_on_the_way(world: World) -> None:
    upload = await world.start()
    await world.append(upload, HELLO)
    digest = Digest.of(HELLO, "sha512")
    await world.finish(upload, digest)
    assert await content(world, digest) == HELLO


async def test_many_at_once(world: World) -> None:
    data = [b"%d" % number * 1000 for number in range(20)]
    digests = await asyncio.gather(*(world.blob(each) for each in data))
    for digest, each in zip(digests, data, strict=True):
        assert await content(world, digest) == each


async def test_the_same_blob_many_times_at_once(world: World) -> None:
    since = await world.new_events()
    await asyncio.gather(*(world.blob(HELLO) for _ in range(8)))
    assert await content(world, DIGEST) == HELLO
    assert await since() == [("blob.pushed", REPOSITORY, DIGEST, None)]
    assert world.strays() == []
    assert await world.rows("SELECT 1 FROM holds") == []


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [Digest.of(b"other"), Digest.of(b"other", "sha512"), Digest.of(b"")])
async def test_other_bytes_than_promised(world: World, digest: Digest) -> None:
    since = await world.new_events()
    with pytest.raises(DigestInvalid, match=DIGEST if digest.algorithm == "sha256" else "sha512"):
        await uploads.push(world.registry, ADA, REPOSITORY, digest, body(HELLO))
    upload = await world.start()
    await world.append(upload, HELLO)
    with pytest.raises(DigestInvalid):
        await world.finish(upload, digest)
    with pytest.raises(BlobUploadUnknown):
        await world.append(upload, b"!")
    assert world.strays() == []
    assert await sessions_left(world) == 0
    assert await since() == []
    assert not world.file(digest).exists()


@pytest.mark.parametrize("offset", [0, 2, 4, 1 << 40])
async def test_a_chunk_that_begins_elsewhere(world: World, offset: int) -> None:
    upload = await world.start()
    await world.append(upload, HELLO[:3])
    for ask in (world.append(upload, b"!", offset=offset), world.finish(upload, DIGEST, b"!", offset=offset)):
        with pytest.raises(UploadOutOfOrder) as caught:
            await ask
        assert caught.value.accepted_bytes == 3
    await world.finish(upload, DIGEST, HELLO[3:], offset=3)  # The session goes on all the same.


async def test_a_session_that_is_not_there(world: World) -> None:
    for upload in ("0" * 32, "", "../../etc/passwd", "x"):
        asks = [
            uploads.size(world.registry, ADA, REPOSITORY, upload),
            world.append(upload, HELLO),
            world.finish(upload, DIGEST),
            uploads.cancel(world.registry, world.sessions, ADA, REPOSITORY, upload),
        ]
        for ask in asks:
            with pytest.raises(BlobUploadUnknown):
                await ask


@pytest.mark.parametrize(("origin", "repository"), [(BOB, REPOSITORY), (ADA, OTHER)])
async def test_a_session_of_another_actor_or_repository_is_not_there(
    world: World, origin: Origin, repository: str
) -> None:
    upload = await world.start()
    await world.append(upload, HELLO[:3])
    registry, sessions = world.registry, world.sessions
    asks = [
        uploads.size(registry, origin, repository, upload),
        uploads.append(registry, sessions, origin, repository, upload, 3, body(b"!")),
        uploads.finish(registry, sessions, origin, repository, upload, DIGEST, None, body(b"!")),
        uploads.cancel(registry, sessions, origin, repository, upload),
    ]
    for ask in asks:
        with pytest.raises(BlobUploadUnknown):
            await ask
    await world.finish(upload, DIGEST, HELLO[3:])


async def test_a_stranger_does_not_stop_who_has_the_turn(world: World) -> None:
    upload = await world.start()
    begun = asyncio.Event()
    writing = asyncio.ensure_future(
        uploads.append(world.registry, world.sessions, ADA, REPOSITORY, upload, 0, stuck(begun, HELLO[:3]))
    )
    await begun.wait()
    with pytest.raises(BlobUploadUnknown):
        await world.append(upload, b"!", origin=BOB)
    assert not writing.done()
    writing.cancel()
    await asyncio.wait([writing])


# --- cancelling -------------------------------------------------------------------------------------------------


async def test_a_cancelled_session_is_gone(world: World) -> None:
    upload = await world.start()
    await world.append(upload, HELLO)
    await uploads.cancel(world.registry, world.sessions, ADA, REPOSITORY, upload)
    with pytest.raises(BlobUploadUnknown):
        await world.append(upload, b"!")
    assert world.strays() == []
    assert await sessions_left(world) == 0


async def test_cancelling_stops_who_writes(world: World) -> None:
    upload = await world.start()
    begun = asyncio.Event()
    writing = asyncio.ensure_future(
        uploads.append(world.registry, world.sessions, ADA, REPOSITORY, upload, 0, stuck(begun, HELLO))
    )
    await begun.wait()
    await uploads.cancel(world.registry, world.sessions, ADA, REPOSITORY, upload)
    with pytest.raises(UploadTakenOver):
        await writing
    assert world.strays() == []


# --- connections that end, and take-overs -----------------------------------------------------------------------


async def test_what_came_before_the_connection_ended_is_kept(world: World) -> None:
    upload = await world.start()
    with pytest.raises(ConnectionResetError):
        await uploads.append(world.registry, world.sessions, ADA, REPOSITORY, upload, 0, broken(HELLO[:3], HELLO[3:5]))
    assert await uploads.size(world.registry, ADA, REPOSITORY, upload) == 5
    with pytest.raises(ConnectionResetError):
        await uploads.finish(world.registry, world.sessions, ADA, REPOSITORY, upload, DIGEST, 5, broken(HELLO[5:6]))
    await world.finish(upload, DIGEST, HELLO[6:], offset=6)
    assert await content(world, DIGEST) == HELLO


async def test_a_push_in_one_request_that_breaks_off_leaves_nothing(world: World) -> None:
    with pytest.raises(ConnectionResetError):
        await uploads.push(world.registry, ADA, REPOSITORY, DIGEST, broken(HELLO))
    assert world.strays() == []


async def test_a_newer_request_takes_over(world: World) -> None:
    upload = await world.start()
    begun = asyncio.Event()
    dead = asyncio.ensure_future(
        uploads.append(world.registry, world.sessions, ADA, REPOSITORY, upload, 0, stuck(begun, HELLO[:3]))
    )
    await begun.wait()
    assert await world.append(upload, HELLO[3:5]) == 5
    with pytest.raises(UploadTakenOver):
        await dead
    await world.finish(upload, DIGEST, HELLO[5:], offset=5)
    assert await content(world, DIGEST) == HELLO


async def test_of_many_requests_at_once_each_writes_alone(world: World) -> None:
    """Whoever comes later wins; whatever is kept was written in one piece."""
    upload = await world.start()

    async def write(number: int) -> int:
        return await world.append(upload, *[b"%d" % number] * 50)

    outcomes = await asyncio.gather(*(write(number) for number in range(8)), return_exceptions=True)
    assert isinstance(outcomes[-1], int)
    assert all(isinstance(outcome, int | UploadTakenOver) for outcome in outcomes)
    assert world.sessions.turns == {}
    size = await uploads.size(world.registry, ADA, REPOSITORY, upload)
    data = (world.folder / "uploads" / upload).read_bytes()
    assert len(data) == size
    runs = [number for index, number in enumerate(data) if index == 0 or data[index - 1] != number]
    assert len(runs) == len(set(runs)), "two requests wrote in turns"
    await world.finish(upload, Digest.of(data))
    assert await content(world, Digest.of(data)) == data


async def test_the_end_may_come_twice(world: World) -> None:
    """A client that lost the answer asks again; one of the two is right, and the other is told."""
    for _ in range(10):
        upload = await world.start()
        await world.append(upload, HELLO)
        outcomes = await asyncio.gather(
            world.finish(upload, DIGEST), world.finish(upload, DIGEST), return_exceptions=True
        )
        assert any(not isinstance(outcome, BaseException) for outcome in outcomes), outcomes
        assert all(
            not isinstance(outcome, BaseException) or isinstance(outcome, RegistryError) for outcome in outcomes
        ), outcomes
        assert await content(world, DIGEST) == HELLO
        assert world.sessions.turns == {}


async def test_who_is_cancelled_by_the_server_is_not_taken_for_one_that_was_superseded(world: World) -> None:
    upload = await world.start()
    begun = asyncio.Event()
    writing = asyncio.ensure_future(
        uploads.append(world.registry, world.sessions, ADA, REPOSITORY, upload, 0, stuck(begun, HELLO))
    )
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert world.sessions.turns == {}
    await world.finish(upload, DIGEST)


# --- other processes, and the same one later --------------------------------------------------------------------


async def test_a_session_goes_on_after_a_restart(durable: World) -> None:
    upload = await durable.start()
    await durable.append(upload, HELLO[:5])
    await durable.restart()
    assert await uploads.discard_strays(durable.registry) == 0
    assert await uploads.size(durable.registry, ADA, REPOSITORY, upload) == 5
    assert await durable.append(upload, HELLO[5:7], offset=5) == 7
    await durable.restart()
    await durable.finish(upload, DIGEST, HELLO[7:])
    await durable.restart()
    assert await content(durable, DIGEST) == HELLO


async def test_another_process_that_took_over_is_noticed_at_the_end(durable: World) -> None:
    upload = await durable.start()
    await durable.append(upload, HELLO)
    elsewhere = replace(durable.registry)
    await uploads.append(elsewhere, Sessions(), ADA, REPOSITORY, upload, None, body())
    with pytest.raises(UploadTakenOver):
        await durable.finish(upload, DIGEST)


async def test_a_session_that_was_forgotten_is_taken_over_again(world: World) -> None:
    upload = await world.start()
    await world.append(upload, HELLO[:5])
    world.sessions = Sessions()
    await world.append(upload, HELLO[5:])
    await world.finish(upload, DIGEST)


async def test_only_so_many_sessions_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SESSIONS_MAX", 3)
    ids = [await world.start() for _ in range(6)]
    assert len(world.sessions.known) == 3
    for upload in ids:
        await world.append(upload, HELLO)
    assert len(world.sessions.known) == 3
    for upload in ids:
        await world.finish(upload, DIGEST)
    assert world.sessions.known == {}


async def test_what_nobody_can_go_on_with_is_thrown_away(durable: World) -> None:
    upload = await durable.start()
    await durable.append(upload, HELLO)
    await durable.registry.blobs.append("f" * 32, 0, body(b"of a push that was cut by a crash"))
    await durable.restart()
    assert await uploads.discard_strays(durable.registry) == 1
    assert durable.strays() == [upload]
    await durable.finish(upload, DIGEST)


# --- duplicates, and blobs that are damaged ---------------------------------------------------------------------


async def test_a_duplicate_is_dropped(world: World) -> None:
    await world.blob(HELLO)
    before = world.file(DIGEST).stat()
    since = await world.new_events()
    await world.blob(HELLO)
    assert world.file(DIGEST).stat().st_ino == before.st_ino
    await world.blob(HELLO, OTHER)
    assert world.file(DIGEST).stat().st_ino == before.st_ino
    assert await since() == [("blob.pushed", OTHER, DIGEST, None)]
    assert world.strays() == []


@pytest.mark.parametrize("damage", ["gone", "short", "long"])
async def test_pushing_again_heals_a_damaged_blob(world: World, damage: str) -> None:
    await world.blob(HELLO)
    file = world.file(DIGEST)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(HELLO[:5] if damage == "short" else HELLO + b"!")
    upload = await world.start()
    await world.append(upload, HELLO)
    await world.finish(upload, DIGEST)
    assert await content(world, DIGEST) == HELLO
    assert world.strays() == []


@pytest.mark.parametrize("state", ["arriving", "condemned"])
async def test_what_is_not_live_is_no_duplicate(world: World, state: str) -> None:
    """Its bytes may be about to go: those that were just received replace them."""
    await world.blob(HELLO)
    inode = world.file(DIGEST).stat().st_ino
    await world.registry.db.write(lambda tx: tx.run("UPDATE blobs SET state = ?", (state,)))
    await world.blob(HELLO)
    assert world.file(DIGEST).stat().st_ino != inode
    assert await content(world, DIGEST) == HELLO


# --- holds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lose", ["time", "row"])
async def test_who_lost_its_hold_offers_nothing(world: World, lose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the bytes and the row a sweep may have been there."""
    finish = world.registry.blobs.finish

    async def slow_finish(upload: str, digest: Digest) -> str:
        location = await finish(upload, digest)
        if lose == "time":
            world.pass_time(world.registry.rules.hold_seconds)
        else:
            await world.registry.db.write(delete_everything_held)
        return location

    monkeypatch.setattr(world.registry.blobs, "finish", slow_finish)
    since = await world.new_events()
    upload = await world.start()
    await world.append(upload, HELLO)
    with pytest.raises(BlobUploadUnknown):
        await world.finish(upload, DIGEST)
    assert await world.rows("SELECT state FROM blobs") == [("arriving",)]
    assert await world.rows("SELECT 1 FROM links") == []
    assert await since() == []
    monkeypatch.undo()
    await world.blob(HELLO)
    assert await content(world, DIGEST) == HELLO


async def test_a_hold_ends_when_its_time_has_come_and_not_before(world: World) -> None:
    rules = world.registry.rules
    await world.registry.db.write(blobs.hold, world.registry, DIGEST, "a" * 32)
    await world.registry.db.write(blobs.hold, world.registry, DIGEST, "b" * 32)
    world.pass_time(rules.hold_seconds - 10)
    await world.registry.db.write(blobs.hold, world.registry, DIGEST, "c" * 32)
    assert len(await world.rows("SELECT 1 FROM holds")) == 3
    world.pass_time(10)
    await world.registry.db.write(blobs.hold, world.registry, DIGEST, "d" * 32)
    assert {upload[0] for (upload,) in await world.rows("SELECT upload FROM holds")} == {"c", "d"}


@pytest.mark.parametrize("done", [False, True])
async def test_a_push_whose_last_step_failed_can_be_tried_again(
    world: World, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says no once: the session stays, or the client is told to start a new one."""
    upload = await world.start()
    await world.append(upload, HELLO)
    finish = world.registry.blobs.finish

    async def failing_finish(upload: str, digest: Digest) -> str:
        if done:
            await finish(upload, digest)
        raise StorageError("no")

    monkeypatch.setattr(world.registry.blobs, "finish", failing_finish)
    with pytest.raises(StorageError):
        await world.finish(upload, DIGEST)
    monkeypatch.undo()
    if done:  # The bytes are in their place, and the session has none.
        with pytest.raises((BlobUploadUnknown, DigestInvalid)):
            await world.finish(upload, DIGEST)
        await world.blob(HELLO)
    else:
        await world.finish(upload, DIGEST)
    assert await content(world, DIGEST) == HELLO
    assert world.strays() == []


async def test_who_has_all_bytes_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not get its answer in time asks again; ending the first request would lose its work."""
    upload = await world.start()
    await world.append(upload, HELLO)
    finish = world.registry.blobs.finish
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow_finish(upload: str, digest: Digest) -> str:
        begun.set()
        await go_on.wait()
        return await finish(upload, digest)

    monkeypatch.setattr(world.registry.blobs, "finish", slow_finish)
    first = asyncio.ensure_future(world.finish(upload, DIGEST))
    await begun.wait()
    second = asyncio.ensure_future(world.finish(upload, DIGEST))
    for _ in range(10):
        await asyncio.sleep(0)
    go_on.set()
    assert (await first).digest == DIGEST
    with pytest.raises(BlobUploadUnknown):
        await second
    assert await content(world, DIGEST) == HELLO
