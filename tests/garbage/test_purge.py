"""Purging the trash: what was chosen goes, with its bytes; what is still listed can still be brought back."""

from __future__ import annotations

import asyncio
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.garbage import purge
from homeport.garbage.purge import Purged, forgettable
from homeport.oci.digest import Digest
from homeport.oci.errors import NotInTrash, ReadOnly, ReferencedByManifest
from homeport.registry import manifests, removal, restoring
from homeport.testing import invariants
from homeport.testing.images import Image, image, index
from tests.garbage.cleaning import DAY, HOUR, LONG, Cleaning
from tests.registry.world import ADA, BOB, OTHER, REPOSITORY

APP = image([b"layer one", b"layer two"])
ARM = image([b"layer one", b"for arm"], config=b'{"arm":1}')
BOTH = index([APP, ARM])


async def purged(
    cleaning: Cleaning, repository: str | None = REPOSITORY, digest: Digest | None = None, older_than: float = 0.0
) -> Purged:
    links = await purge.choose(cleaning.registry, repository, digest, cleaning.clock.now() - older_than + 1)
    return await purge.purge(cleaning.registry, BOB, links)


async def in_the_trash(cleaning: Cleaning, *images: Image) -> None:
    for each in images:
        await cleaning.push(each, f"v{each.digest[:20].replace(':', '')}")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.sweep_after(HOUR)


async def test_everything_goes_with_its_bytes(cleaning: Cleaning) -> None:
    await in_the_trash(cleaning, BOTH)
    size = sum(file.stat().st_size for file in (cleaning.folder / "trash").iterdir())
    went = await purged(cleaning, None)
    assert (went.things, went.bytes, went.later_bytes) == (8, size, 0)
    assert cleaning.trash() == []
    for table in ("trashed_links", "trashed_blobs", "blobs"):
        assert await cleaning.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
    assert (await purged(cleaning, None)).things == 0


async def test_it_is_told(cleaning: Cleaning) -> None:
    await in_the_trash(cleaning, APP)
    await purged(cleaning)
    event = (await cleaning.events())[-1]
    assert (event.kind, event.actor, event.repository) == ("trash.purged", "bob", REPOSITORY)
    assert event.detail == {"things": 4}


async def test_one_image_goes_with_what_only_it_needs(cleaning: Cleaning) -> None:
    await in_the_trash(cleaning, APP, ARM)
    assert (await purged(cleaning, digest=APP.digest)).things == 3
    assert await cleaning.listed() == {ARM.digest, *map(Digest.of, ARM.blobs)}
    await restoring.restore(cleaning.registry, BOB, REPOSITORY, ARM.digest, ["arm"])
    await cleaning.pull(ARM, "arm")


async def test_what_an_index_in_the_trash_names_stays_while_it_does(cleaning: Cleaning) -> None:
    await in_the_trash(cleaning, BOTH)
    for digest in (APP.digest, Digest.of(b"layer one")):
        with pytest.raises(ReferencedByManifest, match="sha256:"):
            await purge.choose(cleaning.registry, REPOSITORY, digest)
    assert (await purged(cleaning, digest=BOTH.digest)).things == 8


async def test_what_is_not_in_the_trash_is_said(cleaning: Cleaning) -> None:
    await in_the_trash(cleaning, APP)
    with pytest.raises(NotInTrash):
        await purge.choose(cleaning.registry, REPOSITORY, ARM.digest)
    with pytest.raises(NotInTrash):
        await purge.choose(cleaning.registry, OTHER, APP.digest)


async def test_only_what_is_old_enough_goes(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "app")
    await cleaning.push(ARM, "arm")
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, APP.digest)
    cleaning.pass_time(2 * DAY)
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, ARM.digest)
    assert (await purged(cleaning, older_than=DAY)).things == 1
    assert await cleaning.listed() == {ARM.digest}


async def test_bytes_that_another_repository_can_have_back_stay(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest", repository=OTHER)
    await removal.delete(cleaning.registry, ADA, OTHER)
    await in_the_trash(cleaning, APP)
    went = await purged(cleaning)
    assert (went.things, went.bytes) == (4, 0)
    await restoring.restore_repository(cleaning.registry, BOB, OTHER)
    await cleaning.pull(APP, "latest", OTHER)


async def test_bytes_that_another_repository_offers_stay(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest", repository=OTHER)
    await in_the_trash(cleaning, APP)
    went = await purged(cleaning)
    assert (went.things, went.bytes, went.later_bytes) == (4, 0, 0)
    await cleaning.sweep_after(LONG)
    await cleaning.pull(APP, "latest", OTHER)


async def test_bytes_that_are_still_in_their_place_go_with_the_sweep(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    went = await purged(cleaning)
    assert (went.bytes, went.later_bytes) == (0, sum(map(len, [*APP.blobs, APP.data])))
    await cleaning.sweep()
    assert cleaning.trash() == []
    assert not cleaning.file(APP.digest).exists()


async def test_what_was_purged_too_early_for_its_bytes_can_be_pushed_and_is_kept_as_ever(cleaning: Cleaning) -> None:
    for repository in (REPOSITORY, OTHER):
        await cleaning.push(APP, "latest", repository=repository)
        await removal.delete(cleaning.registry, ADA, repository)
        await purged(cleaning, repository)
    await cleaning.push(APP, "latest")
    await in_the_trash(cleaning, APP)
    assert len(cleaning.trash()) == 4
    await restoring.restore_repository(cleaning.registry, BOB, REPOSITORY)
    await cleaning.pull(APP, "latest")


async def test_what_was_brought_back_since_is_left_alone(cleaning: Cleaning) -> None:
    await in_the_trash(cleaning, BOTH)
    links = await purge.choose(cleaning.registry, REPOSITORY)
    await restoring.restore(cleaning.registry, BOB, REPOSITORY, APP.digest, ["app"])
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, APP.digest)
    await cleaning.sweep_after(2 * DAY)
    before = await cleaning.listed()
    went = await purge.purge(cleaning.registry, BOB, links)
    assert went.things == len(links) - 4
    assert await cleaning.listed() == {APP.digest, *map(Digest.of, APP.blobs)} & before
    await restoring.restore(cleaning.registry, BOB, REPOSITORY, APP.digest, ["app"])
    await cleaning.pull(APP, "app")


async def test_what_comes_to_the_trash_while_it_is_looked_at_stays(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a layer would go that a manifest needs which came unseen."""
    await cleaning.push(BOTH, "latest")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.push(ARM, "arm", repository=REPOSITORY)
    read = cleaning.registry.db.read
    pending = [True]

    async def read_late(fact: object, *arguments: object) -> object:
        if getattr(fact, "__name__", "") == "links" and pending:
            pending.clear()
            await removal.delete(cleaning.registry, ADA, REPOSITORY)
        return await read(fact, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cleaning.registry.db, "read", read_late)
    links = await purge.choose(cleaning.registry, REPOSITORY)
    assert not {link.digest for link in links} & {ARM.digest, *map(Digest.of, ARM.blobs)}


async def test_a_purge_that_breaks_off_leaves_what_can_be_brought_back(cleaning: Cleaning) -> None:
    for count in range(1, 8):
        await in_the_trash(cleaning, BOTH)
        links = await purge.choose(cleaning.registry, REPOSITORY)
        assert links[0].digest == BOTH.digest
        await purge.purge(cleaning.registry, BOB, links[:count])
        restored = await restoring.restore_repository(cleaning.registry, BOB, REPOSITORY)
        assert not restored.failed
        assert {link.digest for link in links[count:]} <= await cleaning.digests()
        await invariants.check(cleaning.registry)


async def test_nothing_is_purged_while_the_registry_is_read_only(cleaning: Cleaning) -> None:
    await in_the_trash(cleaning, APP)
    links = await purge.choose(cleaning.registry, REPOSITORY)
    cleaning.rule(read_only="we are moving")
    with pytest.raises(ReadOnly):
        await purge.purge(cleaning.registry, BOB, links)
    assert len(cleaning.trash()) == 4


async def test_bytes_that_cannot_be_purged_are_told_and_found_by_the_walk(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_the_trash(cleaning, APP)

    async def refuse(_: str) -> None:
        raise OSError("not now")

    monkeypatch.setattr(cleaning.registry.blobs, "purge", refuse)
    assert len((await purged(cleaning)).failed) == 4
    monkeypatch.undo()
    await cleaning.walk()
    await cleaning.sweep_after(LONG)
    assert cleaning.trash() == []


# --- the decision -----------------------------------------------------------------------------------------------


def test_two_to_the_power_of_a_thousand_paths_are_looked_at_once() -> None:
    digests = [Digest.of(b"%d" % number) for number in range(1_001)]
    names = {digest: [below, below] for digest, below in pairwise(digests)}
    assert forgettable(digests, names, [digests[0]]) == set(digests)
    assert forgettable(digests, names, [digests[1]]) == set()


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_is_still_listed_can_be_brought_back(data: st.DataObject) -> None:
    """Whatever shares whatever, whoever purges what, and wherever the bytes are at that time."""
    layers = [b"%d" % number for number in range(4)]
    images: list[Image] = []
    for number in range(data.draw(st.integers(2, 5))):
        chosen = data.draw(st.lists(st.sampled_from(layers), min_size=1, max_size=3, unique=True))
        images.append(image(chosen, config=b'{"n":%d}' % number))
    for _ in range(data.draw(st.integers(0, 3))):
        images.append(index(data.draw(st.lists(st.sampled_from(images), min_size=1, max_size=3))))
    deleted = data.draw(st.lists(st.sampled_from(images), max_size=4, unique_by=lambda each: each.digest))
    sweeps = data.draw(st.sampled_from([0.0, 2 * DAY]))
    picks = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=3))

    async def purge_and_restore(folder: Path) -> None:
        cleaning = Cleaning(folder / "data")
        assert await cleaning.guard.stopped() is None
        for number, each in enumerate(images):
            await cleaning.push(each, f"v{number}")
        for each in deleted:
            try:
                await manifests.delete(cleaning.registry, ADA, REPOSITORY, each.digest)
            except ReferencedByManifest:
                continue
        if not deleted:
            await removal.delete(cleaning.registry, ADA, REPOSITORY)
        await cleaning.sweep_after(sweeps)
        for pick in picks:
            listed = sorted(await cleaning.listed())
            if listed:
                try:
                    await purged(cleaning, digest=Digest(listed[pick % len(listed)]))
                except ReferencedByManifest:
                    continue
        left = await cleaning.listed()
        if left:
            restored = await restoring.restore_repository(cleaning.registry, BOB, REPOSITORY)
            assert not restored.failed
            assert left <= await cleaning.digests()
        await invariants.check(cleaning.registry)
        await cleaning.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(purge_and_restore(Path(folder)))
