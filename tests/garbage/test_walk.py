"""What the walk comes upon that no event told of, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from homeport.garbage import walk
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.manifest import parse
from homeport.registry import blobs, manifests, reviews, tags, trash
from homeport.testing import invariants
from homeport.testing.images import Image, image, index
from tests.garbage.cleaning import DAY, HOUR, LONG, Cleaning
from tests.registry.world import ADA, REPOSITORY

APP = image([b"layer one", b"layer two"])
ARM = image([b"for arm"], config=b'{"arm":1}')


def put_file(cleaning: Cleaning, data: bytes) -> Path:
    """Bytes in a blob's place, of which no row knows."""
    file = cleaning.file(Digest.of(data))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


async def kinds(cleaning: Cleaning, *wanted: str) -> list[str]:
    return [event.kind for event in await cleaning.events() if event.kind in wanted]


# --- bytes without rows -----------------------------------------------------------------------------------------


async def test_a_walk_that_finds_nothing_changes_nothing(cleaning: Cleaning) -> None:
    await cleaning.push(index([APP, ARM]), "latest")
    await cleaning.sweep_after(2 * DAY)
    before = await cleaning.digests(), len(await cleaning.events()), cleaning.trash()
    found = await cleaning.walk()
    assert (found.files, found.unknown, found.adopted, found.lost, found.forgotten) == (8, [], 0, 0, 0)
    await cleaning.sweep()
    assert (await cleaning.digests(), len(await cleaning.events()), cleaning.trash()) == before


async def test_bytes_of_a_push_that_died_go_after_a_grace(cleaning: Cleaning) -> None:
    file = put_file(cleaning, b"orphan")
    assert (await cleaning.walk()).adopted == 1
    assert (await cleaning.walk()).adopted == 0
    await cleaning.sweep_after(DAY - HOUR)
    assert file.exists()
    await cleaning.sweep_after(2 * HOUR)
    assert not file.exists()
    assert len(cleaning.trash()) == 1
    await cleaning.sweep_after(LONG)
    assert cleaning.trash() == []


async def test_bytes_that_are_adopted_are_offered_to_nobody_and_taken_up_by_a_push(cleaning: Cleaning) -> None:
    digest = Digest.of(b"orphan")
    put_file(cleaning, b"orphan")
    await cleaning.walk()
    assert await cleaning.state(digest) == "arriving"
    assert await cleaning.digests() == set()
    await cleaning.blob(b"orphan")
    assert await cleaning.state(digest) == "live"
    await cleaning.sweep_after(DAY - HOUR)
    assert cleaning.file(digest).read_bytes() == b"orphan"


async def test_a_file_of_no_bytes_is_as_any_other(cleaning: Cleaning) -> None:
    file = put_file(cleaning, b"orphan")
    file.write_bytes(b"")
    empty = put_file(cleaning, b"")
    assert (await cleaning.walk()).adopted == 2
    await cleaning.sweep_after(2 * DAY)
    assert not file.exists()
    assert not empty.exists()


async def test_what_has_another_name_is_not_touched(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    place = cleaning.file(APP.digest).parent
    others = [place / "notes", place.parent / "README", place.parent / ("0" * 64) / "data", cleaning.folder / "mine"]
    others.append(cleaning.folder / "trash/from-somebody-else")
    for file in others:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not ours")
    found = await cleaning.walk()
    assert (found.files, found.adopted) == (4, 0)
    await cleaning.sweep_after(LONG)
    await cleaning.walk()
    await cleaning.sweep_after(LONG)
    assert all(file.read_bytes() == b"not ours" for file in others)


async def test_so_many_are_no_accident(cleaning: Cleaning) -> None:
    """The database may be an old one; then it is not the blobs that are too many."""
    files = [put_file(cleaning, b"%d" % number) for number in range(walk.UNKNOWN_MAX + 1)]
    found = await cleaning.walk()
    assert found.adopted == 0
    assert found.stopped is not None
    assert "21 of 21 blobs are not in the database" in found.stopped
    assert await kinds(cleaning, "cleanup.stopped") == ["cleanup.stopped"]
    await cleaning.sweep_after(LONG)
    assert all(file.exists() for file in files)
    files[0].unlink()
    assert (await cleaning.walk()).adopted == walk.UNKNOWN_MAX


async def test_more_than_one_walk_takes_up_are_counted_all_the_same(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a large registry is no accident, however little of it one walk would take up."""
    monkeypatch.setattr(walk, "ADOPTED_MAX", 25)
    for number in range(100):
        await cleaning.blob(b"known %d" % number)
        put_file(cleaning, b"unknown %d" % number)
    found = await cleaning.walk()
    assert found.adopted == 0
    assert found.stopped is not None
    assert "100 of 200 blobs" in found.stopped


async def test_a_quarter_of_many_is_an_accident_still(cleaning: Cleaning) -> None:
    for number in range(75):
        await cleaning.blob(b"known %d" % number)
    for number in range(25):
        put_file(cleaning, b"unknown %d" % number)
    assert (await cleaning.walk()).adopted == 25
    for number in range(100):
        put_file(cleaning, b"more %d" % number)
    assert (await cleaning.walk()).adopted == 0


async def test_blobs_beside_the_repositories_of_distribution_may_be_theirs(cleaning: Cleaning) -> None:
    file = put_file(cleaning, b"orphan")
    (cleaning.folder / "docker/registry/v2/repositories/app").mkdir(parents=True)
    found = await cleaning.walk()
    assert found.adopted == 0
    assert found.stopped is not None
    assert "repositories of another registry" in found.stopped
    await cleaning.sweep_after(LONG)
    assert file.exists()


# --- rows without bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [None, b"", b"cut"])
async def test_lost_bytes_are_told_once_and_found_again(cleaning: Cleaning, damage: bytes | None) -> None:
    digest = await cleaning.blob(b"lost later")
    file = cleaning.file(digest)
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    for _ in range(3):
        assert (await cleaning.walk()).lost == 1
    assert await kinds(cleaning, "blob.lost", "blob.found") == ["blob.lost"]
    assert cleaning.said.getvalue().count("blob.lost") == 1
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"lost later")
    assert (await cleaning.walk()).lost == 0
    await cleaning.walk()
    assert await kinds(cleaning, "blob.lost", "blob.found") == ["blob.lost", "blob.found"]


async def test_a_disk_that_is_not_there_is_told_once_and_not_for_each_blob(cleaning: Cleaning) -> None:
    for number in range(walk.UNKNOWN_MAX + 1):
        await cleaning.blob(b"%d" % number)
    cleaning.folder.rename(cleaning.folder.with_name("unmounted"))
    found = await cleaning.walk()
    assert (found.files, found.lost) == (0, 0)
    assert await kinds(cleaning, "blob.lost", "cleanup.stopped") == ["cleanup.stopped"]
    assert await cleaning.rows("SELECT 1 FROM blobs WHERE lost_at IS NOT NULL") == []


async def test_a_push_heals_what_was_lost(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"lost later")
    cleaning.file(digest).unlink()
    await cleaning.walk()
    await cleaning.blob(b"lost later")
    assert (await cleaning.walk()).lost == 0
    assert await cleaning.rows("SELECT lost_at FROM blobs") == [(None,)]
    cleaning.file(digest).unlink()
    await cleaning.walk()
    assert await kinds(cleaning, "blob.lost") == ["blob.lost"] * 2


async def test_lost_bytes_are_taken_from_the_trash_where_that_has_them(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"lost later")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.sweep_after(DAY)
    await cleaning.blob(b"lost later")
    assert len(cleaning.trash()) == 1
    cleaning.file(digest).unlink()
    found = await cleaning.walk()
    assert (found.mended, found.lost) == (1, 0)
    assert cleaning.file(digest).read_bytes() == b"lost later"
    assert cleaning.trash() == []
    assert await cleaning.rows("SELECT count(*) FROM trashed_blobs") == [(0,)]
    assert await kinds(cleaning, "blob.lost", "blob.found") == []


async def test_a_manifest_whose_bytes_are_lost_is_served_all_the_same(cleaning: Cleaning) -> None:
    """Its row has them. Pushing it again mends the file."""
    await cleaning.push(APP, "latest")
    cleaning.file(APP.digest).unlink()
    assert (await cleaning.walk()).lost == 1
    assert (await manifests.get(cleaning.registry, REPOSITORY, "latest")).data == APP.data
    await cleaning.manifest(APP, "latest")
    assert (await cleaning.walk()).lost == 0
    await invariants.check(cleaning.registry)


async def test_lost_bytes_keep_nothing_from_going(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"lost later")
    cleaning.file(digest).unlink()
    await cleaning.walk()
    await cleaning.sweep_after(LONG)
    assert await cleaning.state(digest) is None


# --- the trash --------------------------------------------------------------------------------------------------


async def test_files_in_the_trash_without_a_row_are_kept_as_long_as_others(cleaning: Cleaning) -> None:
    """Their row went with the power, or their purge broke off."""
    digest = await cleaning.blob(b"gone")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.sweep_after(DAY)
    await cleaning.registry.db.write(lambda tx: tx.run("DELETE FROM trashed_blobs"))
    assert (await cleaning.walk()).adopted == 1
    assert (await cleaning.walk()).adopted == 0
    (found,) = await cleaning.registry.db.read(trash.bytes_of, digest)
    assert found.size == len(b"gone")
    await cleaning.sweep_after(6 * DAY)
    assert len(cleaning.trash()) == 1
    await cleaning.sweep_after(2 * DAY)
    assert cleaning.trash() == []


async def test_what_is_on_its_way_to_the_trash_is_not_taken_for_lost(cleaning: Cleaning) -> None:
    """A crash came between the move and the commit."""
    await cleaning.blob(b"on its way")
    cleaning.pass_time(LONG)
    await cleaning.sweeper.sweep()
    ((location, name),) = await cleaning.rows("SELECT location, trash FROM blobs WHERE state = 'condemned'")
    cleaning.registry.blobs.retire(location, name)
    assert (await cleaning.walk()).adopted == 0
    await cleaning.sweep_after(cleaning.registry.rules.condemned_seconds)
    assert len(await cleaning.rows("SELECT 1 FROM trashed_blobs")) == 1
    assert (await cleaning.walk()).adopted == 0


# --- what was forgotten -----------------------------------------------------------------------------------------


async def test_looks_that_were_lost_are_asked_for_again(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    loose = await cleaning.blob(b"loose")
    await cleaning.push(ARM, "latest")
    await cleaning.registry.db.write(lambda tx: tx.run("DELETE FROM reviews"))
    await cleaning.sweep_after(LONG)
    assert {APP.digest, loose} <= await cleaning.digests()
    assert (await cleaning.walk()).forgotten == 2
    await cleaning.sweep()
    assert await cleaning.digests() == {ARM.digest, *map(Digest.of, ARM.blobs)}
    assert (await cleaning.walk()).forgotten == 0


async def test_a_lost_look_at_a_blob_is_asked_for_again(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"loose")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.registry.db.write(reviews.drop, reviews.BLOB, digest)
    await cleaning.sweep_after(LONG)
    assert await cleaning.state(digest) == "live"
    assert (await cleaning.walk()).forgotten == 1
    await cleaning.sweep()
    assert await cleaning.state(digest) is None


def _twisted(subject: Image, *children: Image) -> Image:
    """An index whose subject may be one of its children."""
    document = json.loads(index(children).data)
    document["subject"] = json.loads(index([subject]).data)["manifests"][0]
    return Image(parse(json.dumps(document).encode(), mediatype.OCI_INDEX), children=children)


@pytest.mark.parametrize("named", [(), (f"sha256-{APP.digest.encoded}",), (f"sha256-{APP.digest.encoded}.sig",)])
async def test_manifests_that_keep_one_another_go_together(cleaning: Cleaning, named: tuple[str, ...]) -> None:
    """One that names its subject as its child, by its own field or by cosign's tag, or both."""
    for holder in (_twisted(APP, APP), index([APP])):
        await cleaning.push(APP, "latest")
        await cleaning.push(holder, *named)
        await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
        await cleaning.sweep_after(LONG)
        await cleaning.walk()
        await cleaning.sweep()
        assert await cleaning.digests() == set()
        assert await cleaning.rows("SELECT count(*) FROM tags") == [(0,)]


async def test_a_longer_round_goes_together_too(cleaning: Cleaning) -> None:
    """An index of an index of what the first one has for a subject."""
    inner = index([APP])
    holder = _twisted(APP, inner, ARM)
    await cleaning.push(APP, "latest")
    await cleaning.push(holder)
    await cleaning.sweep_after(LONG)
    await cleaning.pull(holder, holder.digest)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    await cleaning.walk()
    await cleaning.sweep()
    assert await cleaning.digests() == set()


async def test_a_round_that_something_else_keeps_stays(cleaning: Cleaning) -> None:
    holder = _twisted(APP, APP)
    outer = index([holder])
    await cleaning.push(outer, "kept")
    for _ in range(2):
        await cleaning.sweep_after(LONG)
        await cleaning.walk()
        await cleaning.sweep()
        await cleaning.pull(outer, "kept")
        await cleaning.pull(holder, holder.digest)


async def test_a_walk_during_pushes_touches_none_of_them(cleaning: Cleaning) -> None:
    images = [image([b"%d" % number], config=b'{"n":%d}' % number) for number in range(30)]
    pushes = asyncio.gather(*(cleaning.push(each, f"v{number}") for number, each in enumerate(images)))
    while not pushes.done():
        found = await cleaning.walk()
        assert found.lost == 0
    await pushes
    await cleaning.sweep_after(LONG)
    for number, each in enumerate(images):
        await cleaning.pull(each, f"v{number}")
    assert cleaning.trash() == []
    await invariants.check(cleaning.registry)


async def test_a_walk_goes_over_the_edge_of_its_pages(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "BATCH", 3)
    for number in range(4):
        await cleaning.push(image([b"%d" % number], config=b'{"n":%d}' % number, subject=APP), f"v{number}")
    for number in range(10):
        put_file(cleaning, b"unknown %d" % number)
        lost = await cleaning.blob(b"lost %d" % number)
        cleaning.file(lost).unlink()
    await cleaning.registry.db.write(lambda tx: tx.run("DELETE FROM reviews"))
    found = await cleaning.walk()
    assert (found.files, found.adopted, found.lost, found.forgotten) == (22, 10, 10, 10)
    assert await cleaning.rows("SELECT count(*) FROM reviews") == [(24,)]


async def test_no_walk_begins_while_nothing_may_be_deleted(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[bool] = []
    waited: list[float] = []

    async def count() -> walk.Found:
        walked.append(True)
        return walk.Found()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        cleaning.pass_time(seconds)
        if len(waited) == 2:
            cleaning.rule(read_only=None)
        if len(waited) == 3:
            cleaning.clock.wrong += 400 * DAY
        if len(waited) == 5:
            raise asyncio.CancelledError

    monkeypatch.setattr(cleaning.walker, "walk", count)
    monkeypatch.setattr(cleaning.clock, "sleep", sleep)
    cleaning.rule(read_only="we are moving")
    with pytest.raises(asyncio.CancelledError):
        await cleaning.walker.run()
    assert waited == [walk.FIRST_SECONDS, *[walk.WALK_SECONDS] * 4]
    assert len(walked) == 1


async def test_holds_of_pushes_that_died_are_dropped(cleaning: Cleaning) -> None:
    """Of a blob that stays, no sweep and perhaps no push ever comes by."""
    digest = await cleaning.blob(b"it stays")
    await cleaning.registry.db.write(blobs.hold, cleaning.registry, digest, "f" * 32)
    await cleaning.walk()
    assert await cleaning.rows("SELECT count(*) FROM holds") == [(1,)]
    cleaning.pass_time(cleaning.registry.rules.hold_seconds)
    await cleaning.walk()
    assert await cleaning.rows("SELECT count(*) FROM holds") == [(0,)]
