"""Deleting a repository: from the top, whatever is in it, and beside those who push."""

from __future__ import annotations

import json

import pytest

from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestBlobUnknown, NameUnknown, ReadOnly, TagImmutable
from homeport.oci.manifest import parse
from homeport.registry import blobs, manifests, protections, removal, repositories, restoring, tags
from homeport.registry.protections import Use
from homeport.registry.removal import REASON, Removed
from homeport.registry.retention import ImmutableTags, Retention
from homeport.testing import invariants
from homeport.testing.images import Image, image, index
from tests.garbage.cleaning import DAY, LONG, Cleaning
from tests.registry.world import ADA, BOB, OTHER, REPOSITORY

APP = image([b"layer one", b"layer two"])
ARM = image([b"layer one", b"for arm"], config=b'{"arm":1}')
SIGNATURE = image([b"signed"], config=b'{"signature":1}', subject=APP)
BOTH = index([APP, ARM])


async def delete(cleaning: Cleaning, repository: str = REPOSITORY) -> Removed:
    return await removal.delete(cleaning.registry, BOB, repository)


async def test_all_of_it_goes_to_the_trash(cleaning: Cleaning) -> None:
    nested = index([BOTH, ARM])
    await cleaning.push(nested, "latest", "v1")
    await cleaning.push(APP, "app")
    await cleaning.push(SIGNATURE, f"sha256-{APP.digest.encoded}.sig")
    loose = await cleaning.blob(b"of a push that goes on")
    before = await cleaning.digests()
    assert await delete(cleaning) == Removed(tags=4, manifests=5, blobs=len(before) - 5)
    assert await cleaning.digests() == set()
    assert await cleaning.listed() == before
    assert loose in before
    assert await cleaning.rows("SELECT DISTINCT reason, actor FROM trashed_links") == [(REASON, "bob")]
    assert await cleaning.registry.db.read(repositories.find, REPOSITORY) is None
    assert await cleaning.registry.db.read(repositories.page, "", 10) == []
    await invariants.check(cleaning.registry)


async def test_it_is_told(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    before = len(await cleaning.events())
    await delete(cleaning)
    told = (await cleaning.events())[before:]
    kinds = ["repository.deleted", "tag.deleted", "manifest.deleted", *["blob.deleted"] * 3]
    assert [event.kind for event in told] == kinds
    assert {event.actor for event in told} == {"bob"}
    assert {event.reason for event in told[1:]} == {REASON}
    (change, _) = await cleaning.registry.db.read(tags.history, REPOSITORY, "latest")
    assert (change.digest, change.actor, change.reason) == (None, "bob", REASON)


async def test_other_repositories_keep_what_they_share(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await cleaning.push(APP, "latest", repository=OTHER)
    await delete(cleaning)
    await cleaning.sweep_after(LONG)
    await cleaning.pull(APP, "latest", OTHER)
    assert cleaning.trash() == []


async def test_more_than_fits_into_one_step(cleaning: Cleaning) -> None:
    for number in range(40):
        await cleaning.push(image([b"%d" % number], config=b'{"n":%d}' % number), f"v{number}")
    await cleaning.manifest(image([b"1"], config=b'{"n":1}'), *(f"more{number}" for number in range(200)))
    removed = await delete(cleaning)
    assert (removed.tags, removed.manifests, removed.blobs) == (240, 40, 80)
    assert await cleaning.digests() == set()


async def test_levels_of_indexes_go_one_after_the_other(cleaning: Cleaning) -> None:
    whole: Image = APP
    for _ in range(5):
        whole = index([whole, ARM])
    await cleaning.push(whole, "latest")
    assert (await delete(cleaning)).manifests == 7
    rows = await cleaning.rows("SELECT digest FROM trashed_links WHERE media_type IS NOT NULL ORDER BY id")
    order = [digest for (digest,) in rows]
    assert order[0] == whole.digest
    assert set(order[-2:]) == {APP.digest, ARM.digest}


async def test_a_child_that_is_younger_than_its_parent_makes_no_loop(cleaning: Cleaning) -> None:
    """quay looped for ever where a child had a lower id than its parent, or a higher one."""
    cleaning.rule(sparse=("**",))
    await cleaning.manifest(BOTH, "latest")
    await cleaning.push(APP)
    await cleaning.push(ARM)
    assert (await delete(cleaning)).manifests == 3
    assert await cleaning.registry.db.read(repositories.find, REPOSITORY) is None


async def test_an_index_that_names_its_own_subject_goes(cleaning: Cleaning) -> None:
    document = json.loads(BOTH.data)
    document["subject"] = document["manifests"][0]
    twisted = Image(parse(json.dumps(document).encode(), mediatype.OCI_INDEX), children=(APP, ARM))
    await cleaning.push(twisted, f"sha256-{APP.digest.encoded}")
    await delete(cleaning)
    assert await cleaning.digests() == set()


async def test_a_repository_of_blobs_alone_goes(cleaning: Cleaning) -> None:
    await cleaning.blob(b"a push that died")
    assert await delete(cleaning) == Removed(blobs=1)


async def test_one_that_is_not_there_is_said(cleaning: Cleaning) -> None:
    for call in (removal.delete(cleaning.registry, BOB, REPOSITORY),):
        with pytest.raises(NameUnknown):
            await call
    with pytest.raises(NameUnknown):
        await cleaning.registry.db.read(removal.contents, cleaning.registry, REPOSITORY)


async def test_a_tag_that_never_changes_keeps_all_of_it(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest", "v1")
    cleaning.rule(retention=Retention(immutable=(ImmutableTags(REPOSITORY, ("v*",)),)))
    before = await cleaning.events()
    with pytest.raises(TagImmutable, match="v1"):
        await delete(cleaning)
    assert await cleaning.events() == before
    await cleaning.pull(APP, "latest")


async def test_nothing_goes_while_the_registry_is_read_only(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    cleaning.rule(read_only="we are moving")
    for call in (
        removal.delete(cleaning.registry, BOB, REPOSITORY),
        restoring.restore(cleaning.registry, BOB, REPOSITORY, APP.digest),
        restoring.restore_tag(cleaning.registry, BOB, REPOSITORY, "latest", None),
        restoring.restore_repository(cleaning.registry, BOB, REPOSITORY),
    ):
        with pytest.raises(ReadOnly):
            await call
    await cleaning.pull(APP, "latest")


async def test_its_contents_are_counted(cleaning: Cleaning) -> None:
    await cleaning.push(BOTH, "latest", "v1")
    await cleaning.push(APP, repository=OTHER)
    found = await cleaning.registry.db.read(removal.contents, cleaning.registry, REPOSITORY)
    data = {*APP.blobs, *ARM.blobs, APP.data, ARM.data, BOTH.data}
    shared = {*APP.blobs, APP.data}
    assert (found.tags, found.manifests, found.blobs) == (2, 3, len(data))
    assert found.bytes == sum(map(len, data))
    assert found.own_bytes == sum(map(len, data - shared))
    assert found.in_use == []


async def test_who_runs_some_of_it_is_told(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    use = Use("service web_api", "current", "team/app:latest", Digest.of(APP.blobs[-1]), node="node-2")
    await cleaning.registry.db.write(protections.report, cleaning.clock, "swarm", [use], 2)
    found = await cleaning.registry.db.read(removal.contents, cleaning.registry, REPOSITORY)
    assert len(found.in_use) == 1
    assert "web_api" in found.in_use[0]


# --- beside those who push --------------------------------------------------------------------------------------


async def interrupted(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch, fact: str, meanwhile: object, *, after: bool = False
) -> Removed:
    """Delete, and do something else just before (or after) the first time that a fact runs."""
    write = cleaning.registry.db.write
    done = False

    async def watched(wanted: object, *arguments: object) -> object:
        nonlocal done
        is_it = getattr(wanted, "__name__", "") == fact and not done
        done = done or is_it
        if is_it and not after:
            await meanwhile()  # type: ignore[operator]
        result: object = await write(wanted, *arguments)  # type: ignore[arg-type]
        if is_it and after:
            await meanwhile()  # type: ignore[operator]
        return result

    monkeypatch.setattr(cleaning.registry.db, "write", watched)
    removed = await delete(cleaning)
    monkeypatch.undo()
    assert done
    await invariants.check(cleaning.registry)
    return removed


@pytest.mark.parametrize("fact", ["_remove_tags", "_remove_manifests", "_remove_blobs"])
async def test_what_is_pushed_meanwhile_stays_whole(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch, fact: str
) -> None:
    new = image([b"layer one", b"new"], config=b'{"new":1}')
    await cleaning.push(BOTH, "latest")

    async def push() -> None:
        await cleaning.push(new, "new")

    removed = await interrupted(cleaning, monkeypatch, fact, push)
    assert removed.stays
    await cleaning.pull(new, "new")
    await cleaning.sweep_after(DAY)
    await cleaning.pull(new, "new")
    assert {APP.digest, BOTH.digest, ARM.digest} <= await cleaning.listed()


@pytest.mark.parametrize("after", [False, True])
async def test_a_tag_that_is_pushed_again_meanwhile_stays(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Whoever pushes what is there already moves no byte, and is told that it is there all the same."""
    await cleaning.push(BOTH, "latest")
    await cleaning.push(SIGNATURE, "signature")

    async def push() -> None:
        await cleaning.push(BOTH, "latest")

    assert (await interrupted(cleaning, monkeypatch, "_remove_tags", push, after=after)).stays
    await cleaning.pull(BOTH, "latest")
    assert SIGNATURE.digest in await cleaning.listed()
    await delete(cleaning)
    assert await cleaning.digests() == set()


async def test_an_index_that_is_pushed_meanwhile_keeps_what_it_names(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cleaning.push(APP, "app")
    await cleaning.push(ARM, "arm")

    async def push() -> None:
        await cleaning.manifest(BOTH, "both")

    assert (await interrupted(cleaning, monkeypatch, "_remove_manifests", push)).stays
    await cleaning.pull(BOTH, "both")


async def test_a_push_whose_parts_went_is_told_so(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused as a whole, and succeeds when it is done again."""
    for data in APP.blobs:
        await cleaning.blob(data)
    await delete(cleaning)
    with pytest.raises(ManifestBlobUnknown):
        await cleaning.manifest(APP, "latest")
    await cleaning.push(APP, "latest")
    await cleaning.pull(APP, "latest")


async def test_a_repository_that_was_made_anew_meanwhile_is_another_one(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cleaning.push(APP, "latest")

    async def make_anew() -> None:
        await manifests.delete(cleaning.registry, ADA, REPOSITORY, APP.digest)
        for data in APP.blobs:
            await blobs.delete(cleaning.registry, ADA, REPOSITORY, Digest.of(data))
        await cleaning.push(APP, "latest")

    removed = await interrupted(cleaning, monkeypatch, "_begin", make_anew, after=True)
    assert removed == Removed(stays=True)
    await cleaning.pull(APP, "latest")


async def test_two_deletions_at_once_are_one(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    await cleaning.push(BOTH, "latest")

    async def delete_too() -> None:
        await removal.delete(cleaning.registry, ADA, REPOSITORY)

    for fact in ("_remove_manifests", "_remove_blobs"):
        await interrupted(cleaning, monkeypatch, fact, delete_too)
        assert await cleaning.digests() == set()
        await cleaning.push(BOTH, "latest")
