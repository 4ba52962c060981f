"""What the trash remembers, and for how long."""

from __future__ import annotations

import pytest

from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.registry import blobs, manifests, trash
from homeport.testing.images import image
from tests.garbage.cleaning import DAY, HOUR, LONG, Cleaning
from tests.registry.world import ADA, OTHER, REPOSITORY

APP = image([b"layer one", b"layer two"])
LAYER = Digest.of(b"layer one")


async def delete(cleaning: Cleaning, repository: str = REPOSITORY) -> None:
    await manifests.delete(cleaning.registry, ADA, repository, APP.digest)


async def listed(cleaning: Cleaning, repository: str | None = REPOSITORY) -> list[trash.TrashedLink]:
    return await cleaning.registry.db.read(trash.links, repository, ("", ""), 100)


async def test_a_manifest_is_remembered_to_the_byte(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await delete(cleaning)
    (link,) = await listed(cleaning)
    assert (link.repository, link.digest, link.size, link.media_type) == (
        REPOSITORY,
        APP.digest,
        len(APP.data),
        APP.media_type,
    )
    assert (link.actor, link.reason) == ("ada", "deleted")
    assert abs(link.removed_at - cleaning.clock.now()) < 60
    stored = await cleaning.registry.db.read(trash.manifest_data, REPOSITORY, APP.digest)
    assert stored == (APP.media_type, APP.data)


async def test_a_blob_is_remembered_and_is_no_manifest(cleaning: Cleaning) -> None:
    await cleaning.blob(b"layer one")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, LAYER)
    (link,) = await listed(cleaning)
    assert (link.digest, link.size, link.media_type) == (LAYER, len(b"layer one"), None)
    assert await cleaning.registry.db.read(trash.manifest_data, REPOSITORY, LAYER) is None


async def test_what_is_pushed_again_is_not_in_the_trash(cleaning: Cleaning) -> None:
    for _ in range(2):
        await cleaning.push(APP)
        assert await listed(cleaning) == []
        await delete(cleaning)
        assert [link.digest for link in await listed(cleaning)] == [APP.digest]


async def test_what_the_sweep_took_says_why_and_who(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    await cleaning.sweep_after(LONG)
    found = {link.digest: link for link in await listed(cleaning)}
    assert {link.actor for link in found.values()} == {"system"}
    assert found[APP.digest].reason.startswith("untagged since 20")
    assert found[LAYER].reason.startswith("no manifest names it since 20")


async def test_a_manifest_has_a_lower_id_than_what_it_needs(cleaning: Cleaning) -> None:
    for _ in range(2):
        await cleaning.push(APP)
        await cleaning.sweep_after(8 * DAY)
    found = sorted(await listed(cleaning), key=lambda link: link.id)
    assert len(found) == 4
    assert found[0].digest == APP.digest


async def test_pages_go_through_all_repositories(cleaning: Cleaning) -> None:
    for name in ("b", "a", "c"):
        await cleaning.push(APP, repository=name)
        await delete(cleaning, name)
    seen = []
    after = ("", "")
    while page := await cleaning.registry.db.read(trash.links, None, after, 1):
        seen += [link.repository for link in page]
        after = (page[-1].repository, page[-1].digest)
    assert seen == ["a", "b", "c"]
    assert await cleaning.registry.db.read(trash.repositories, "a", 10) == ["b", "c"]
    assert [link.repository for link in await listed(cleaning, "b")] == ["b"]


async def test_bytes_stay_while_any_repository_can_have_them_back(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await cleaning.push(APP, repository=OTHER)
    await delete(cleaning)
    await cleaning.sweep_after(4 * DAY)
    await delete(cleaning, OTHER)
    await cleaning.sweep_after(4 * DAY)
    assert await cleaning.listed() < await cleaning.listed(OTHER)
    assert len(cleaning.trash()) == 4
    await cleaning.sweep_after(LONG)
    assert cleaning.trash() == []


async def test_the_oldest_are_forgotten_first_and_not_too_many_at_once(cleaning: Cleaning) -> None:
    for number in range(5):
        await cleaning.blob(b"%d" % number)
        await blobs.delete(cleaning.registry, ADA, REPOSITORY, Digest.of(b"%d" % number))
        cleaning.pass_time(HOUR)
    before = cleaning.clock.now() - 1.5 * HOUR
    for left in (3, 1, 1):
        await cleaning.registry.db.write(trash.expire_links, before, 2)
        assert len(await listed(cleaning)) == left
    assert [link.digest for link in await listed(cleaning)] == [Digest.of(b"4")]


async def test_of_those_of_one_moment_the_manifest_is_forgotten_before_its_parts(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    await cleaning.sweep_after(LONG)
    await cleaning.registry.db.write(lambda tx: tx.run("UPDATE trashed_links SET removed_at = 0"))
    await cleaning.registry.db.write(trash.expire_links, 1.0, 1)
    assert APP.digest not in await cleaning.listed()


async def test_what_was_brought_back_and_removed_again_is_not_forgotten_by_its_old_row(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    await delete(cleaning)
    (old,) = await listed(cleaning)
    await cleaning.push(APP)
    await delete(cleaning)
    assert not await cleaning.registry.db.write(trash.forget, old)
    (new,) = await listed(cleaning)
    assert await cleaning.registry.db.write(trash.forget, new)
    assert await listed(cleaning) == []


@pytest.mark.parametrize("who", ["ada", "system"])
async def test_who_took_it_away_is_remembered(cleaning: Cleaning, who: str) -> None:
    await cleaning.blob(b"layer one")
    await blobs.delete(cleaning.registry, Origin(who), REPOSITORY, LAYER)
    assert [link.actor for link in await listed(cleaning)] == [who]
