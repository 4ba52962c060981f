"""Blobs: looked up, promised, mounted, deleted."""

from __future__ import annotations

import asyncio

import pytest

from homeport.db.database import Transaction
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, ManifestBlobUnknown, ReferencedByManifest
from homeport.registry import blobs, repositories
from homeport.registry.blobs import Blob
from homeport.testing.images import image
from tests.garbage.cleaning import Cleaning, settle
from tests.registry.world import ADA, HOUR, OTHER, REPOSITORY, World

HELLO = b"hello, world"
DIGEST = Digest.of(HELLO)
DAY = 24 * HOUR


def everything(tx: Transaction, name: str) -> bool:
    return True


def nothing(tx: Transaction, name: str) -> bool:
    return False


async def mount(
    world: World, source: str | None, readable: set[str] | None = None, repository: str = REPOSITORY
) -> Blob | None:
    fact = everything if readable is None else lambda _, name: name in readable
    return await blobs.mount(world.registry, ADA, repository, DIGEST, source, fact)


async def promised(world: World, repository: str = REPOSITORY) -> float:
    """For how many seconds from now the link is promised."""
    link = await world.link(DIGEST, repository)
    assert link is not None
    return link[0] - world.clock.now()


# --- looking ----------------------------------------------------------------------------------------------------


async def test_a_blob_is_known_where_it_was_pushed_and_nowhere_else(world: World) -> None:
    await world.blob(HELLO)
    blob = await blobs.get(world.registry, REPOSITORY, DIGEST)
    assert (blob.digest, blob.size) == (DIGEST, len(HELLO))
    assert world.folder / blob.location == world.file(DIGEST)
    for ask in (blobs.get, blobs.get_and_keep):
        for repository, digest in [(OTHER, DIGEST), (REPOSITORY, Digest.of(b"other")), ("nowhere", DIGEST)]:
            with pytest.raises(BlobUnknown):
                await ask(world.registry, repository, digest)


@pytest.mark.parametrize("state", ["arriving", "condemned"])
async def test_what_is_not_live_is_absent_to_everybody(world: World, state: str) -> None:
    pushed = image([HELLO])
    await world.blob(HELLO)
    await world.blob(HELLO, OTHER)
    await world.blob(pushed.blobs[-1])
    await world.registry.db.write(lambda tx: tx.run("UPDATE blobs SET state = ? WHERE digest = ?", (state, DIGEST)))
    with pytest.raises(BlobUnknown):
        await blobs.get(world.registry, REPOSITORY, DIGEST)
    with pytest.raises(BlobUnknown):
        await blobs.get_and_keep(world.registry, REPOSITORY, DIGEST)
    with pytest.raises(BlobUnknown):
        await blobs.delete(world.registry, ADA, REPOSITORY, DIGEST)
    with pytest.raises(ManifestBlobUnknown):
        await world.manifest(pushed)
    assert await mount(world, OTHER) is None
    assert await mount(world, None) is None
    await world.blob(HELLO)  # so a client simply pushes it again
    await world.manifest(pushed)


# --- promises ---------------------------------------------------------------------------------------------------


async def test_a_blob_that_was_pushed_is_promised_for_a_day(world: World) -> None:
    await world.blob(HELLO)
    assert DAY - 5 < await promised(world) <= DAY
    world.pass_time(HOUR)
    await world.blob(HELLO)
    assert DAY - 5 < await promised(world) <= DAY


async def test_asking_renews_the_promise_at_most_once_an_hour(world: World) -> None:
    await world.blob(HELLO)
    world.pass_time(HOUR - 60)
    await blobs.get_and_keep(world.registry, REPOSITORY, DIGEST)
    assert await promised(world) < DAY - HOUR + 60
    world.pass_time(120)
    await blobs.get_and_keep(world.registry, REPOSITORY, DIGEST)
    assert await promised(world) > DAY - 5
    world.pass_time(10 * DAY)
    await blobs.get_and_keep(world.registry, REPOSITORY, DIGEST)
    assert await promised(world) > DAY - 5


async def test_a_renewal_is_one_write_however_many_ask(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.blob(HELLO)
    world.pass_time(2 * HOUR)
    before = await world.rows("SELECT total_changes()")
    await asyncio.gather(*(blobs.get_and_keep(world.registry, REPOSITORY, DIGEST) for _ in range(20)))
    after = await world.rows("SELECT total_changes()")
    assert after[0][0] - before[0][0] == 1


async def test_who_only_pulls_renews_nothing(world: World) -> None:
    await world.blob(HELLO)
    world.pass_time(2 * HOUR)
    await blobs.get(world.registry, REPOSITORY, DIGEST)
    assert await promised(world) < DAY - HOUR


async def test_a_read_only_registry_renews_nothing_and_answers(world: World) -> None:
    await world.blob(HELLO)
    world.pass_time(2 * HOUR)
    world.rule(read_only="moving house")
    await blobs.get_and_keep(world.registry, REPOSITORY, DIGEST)
    assert await promised(world) < DAY - HOUR


async def test_a_promise_is_not_renewed_for_what_has_gone_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is looked at again in the transaction of the renewal, before the answer."""
    await world.blob(HELLO)
    world.pass_time(2 * HOUR)
    write = world.registry.db.write

    async def condemn_first(*args: object, **kwargs: object) -> object:
        await write(lambda tx: tx.run("UPDATE blobs SET state = 'condemned'"))
        return await write(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(world.registry.db, "write", condemn_first)
    with pytest.raises(BlobUnknown):
        await blobs.get_and_keep(world.registry, REPOSITORY, DIGEST)


# --- mounting ---------------------------------------------------------------------------------------------------


async def test_a_mount_links_without_moving_bytes(world: World) -> None:
    await world.blob(HELLO, OTHER)
    world.pass_time(HOUR)
    since = await world.new_events()
    inode = world.file(DIGEST).stat().st_ino
    blob = await mount(world, OTHER, {OTHER})
    assert blob is not None
    assert blob == await blobs.get(world.registry, REPOSITORY, DIGEST)
    assert world.file(DIGEST).stat().st_ino == inode
    assert await promised(world) > DAY - 5
    assert await since() == [("blob.mounted", REPOSITORY, DIGEST, None)]
    assert (await world.events())[-1].reason == f"from {OTHER}"


async def test_a_mount_of_what_is_here_is_no_event_but_a_promise(world: World) -> None:
    await world.blob(HELLO, OTHER)
    await world.blob(HELLO)
    world.pass_time(HOUR)
    since = await world.new_events()
    assert await mount(world, OTHER)
    assert await mount(world, REPOSITORY)
    assert await since() == []
    assert await promised(world) > DAY - 5


@pytest.mark.parametrize(
    ("source", "readable"),
    [
        (OTHER, set()),
        (OTHER, {REPOSITORY}),
        ("nowhere", {"nowhere"}),
        (REPOSITORY, {REPOSITORY, OTHER}),
        (None, set()),
        (None, {REPOSITORY, "nowhere"}),
    ],
)
async def test_what_the_caller_may_not_read_is_not_there_for_it(
    world: World, source: str | None, readable: set[str]
) -> None:
    await world.blob(HELLO, OTHER)
    since = await world.new_events()
    assert await mount(world, source, readable) is None
    with pytest.raises(BlobUnknown):
        await blobs.get(world.registry, REPOSITORY, DIGEST)
    assert await since() == []


async def test_a_mount_without_a_source_takes_one_that_may_be_read(world: World) -> None:
    for repository in ("secret/a", "secret/b", OTHER, "secret/c"):
        await world.blob(HELLO, repository)
    assert await mount(world, None, {OTHER})
    assert (await world.events())[-1].reason == f"from {OTHER}"


@pytest.mark.parametrize("source", [OTHER, None])
async def test_a_damaged_blob_is_not_mounted(world: World, source: str | None) -> None:
    """The client then pushes it, which mends it."""
    await world.blob(HELLO, OTHER)
    world.file(DIGEST).write_bytes(b"?")
    assert await mount(world, source) is None
    await world.blob(HELLO)
    assert await mount(world, source) is not None


async def test_a_mount_looks_at_a_bounded_number_of_sources(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "MOUNT_SOURCES_MAX", 3)
    asked: list[str] = []
    for number in range(6):
        await world.blob(HELLO, f"secret/{number}")

    def unreadable(tx: Transaction, name: str) -> bool:
        asked.append(name)
        return False

    assert await blobs.mount(world.registry, ADA, REPOSITORY, DIGEST, None, unreadable) is None
    assert len(asked) == 3


# --- deleting ---------------------------------------------------------------------------------------------------


async def test_a_deleted_blob_is_gone_here_and_nowhere_else(world: World) -> None:
    await world.blob(HELLO)
    await world.blob(HELLO, OTHER)
    since = await world.new_events()
    await blobs.delete(world.registry, ADA, REPOSITORY, DIGEST)
    assert await since() == [("blob.deleted", REPOSITORY, DIGEST, None)]
    with pytest.raises(BlobUnknown):
        await blobs.get(world.registry, REPOSITORY, DIGEST)
    with pytest.raises(BlobUnknown):
        await blobs.delete(world.registry, ADA, REPOSITORY, DIGEST)
    await blobs.get(world.registry, OTHER, DIGEST)
    assert world.file(DIGEST).exists()
    await world.blob(HELLO)
    await blobs.get(world.registry, REPOSITORY, DIGEST)


async def test_a_blob_that_a_manifest_names_stays(world: World) -> None:
    pushed = image([HELLO])
    await world.push(pushed)
    await world.blob(HELLO, OTHER)
    for digest in (DIGEST, Digest.of(b"{}")):
        with pytest.raises(ReferencedByManifest, match=pushed.digest):
            await blobs.delete(world.registry, ADA, REPOSITORY, digest)
    with pytest.raises(ReferencedByManifest):  # as a blob; as a manifest it may be deleted
        await blobs.delete(world.registry, ADA, REPOSITORY, pushed.digest)
    await blobs.delete(world.registry, ADA, OTHER, DIGEST)  # where nothing names it


async def test_what_was_never_here_cannot_be_deleted(world: World) -> None:
    await world.blob(HELLO, OTHER)
    for repository in (REPOSITORY, "nowhere"):
        with pytest.raises(BlobUnknown):
            await blobs.delete(world.registry, ADA, repository, DIGEST)


async def test_a_repository_goes_with_its_last_link(world: World) -> None:
    assert await world.registry.db.read(repositories.find, REPOSITORY) is None
    await world.blob(HELLO)
    await world.blob(b"another")
    first = await world.registry.db.read(repositories.find, REPOSITORY)
    assert first is not None
    await blobs.delete(world.registry, ADA, REPOSITORY, DIGEST)
    assert await world.registry.db.read(repositories.find, REPOSITORY) == first
    await blobs.delete(world.registry, ADA, REPOSITORY, Digest.of(b"another"))
    assert await world.registry.db.read(repositories.find, REPOSITORY) is None
    await world.blob(HELLO)
    again = await world.registry.db.read(repositories.find, REPOSITORY)
    assert again is not None
    assert again > first, "an id was used twice"


# --- being used -------------------------------------------------------------------------------------------------


async def test_what_is_used_begins_its_grace_anew(cleaning: Cleaning) -> None:
    """An index that no tag names, and what it names, stay as long as somebody uses them."""
    await settle(cleaning, cleaning.guard)
    used, forgotten = image([b"used"]), image([b"forgotten"])
    for each in (used, forgotten):
        await cleaning.push(each)
    for _ in range(6):
        await cleaning.sweep_after(3 * DAY)
        await cleaning.registry.db.jot(blobs.renew, cleaning.registry, REPOSITORY, used.digest)
        await cleaning.pull(used, used.digest)
    assert forgotten.digest not in await cleaning.digests()
    await cleaning.sweep_after(8 * DAY)
    await cleaning.sweep_after(DAY)
    assert await cleaning.digests() == set()


async def test_a_grace_begins_anew_at_most_once_an_hour(world: World) -> None:
    pushed = await world.push(image([HELLO]))
    begun = []
    for _ in range(12):
        world.pass_time(HOUR / 4)
        for repository in (REPOSITORY, OTHER):
            await world.registry.db.jot(blobs.renew, world.registry, repository, pushed)
        link = await world.link(pushed)
        assert link is not None
        begun.append(link[1])
    assert len(set(begun)) == 1 + 3  # At the push, and in each hour.
    assert await world.link(pushed, OTHER) is None
