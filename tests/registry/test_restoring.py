"""Bringing back what was deleted: from wherever its bytes are, parts before the whole, or not at all."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import pytest

from homeport.garbage import purge, sweep
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestUnknown, NotInTrash, TagImmutable, Unavailable
from homeport.oci.manifest import parse
from homeport.registry import blobs, manifests, referrers, removal, restoring, tags, trash
from homeport.registry.retention import ImmutableTags, Retention
from homeport.testing.images import Image, image, index
from tests.garbage.cleaning import DAY, HOUR, LONG, Cleaning
from tests.registry.world import ADA, BOB, OTHER, REPOSITORY

APP = image([b"layer one", b"layer two"])
ARM = image([b"layer one", b"for arm"], config=b'{"arm":1}')
SIGNATURE = image([b"signed"], config=b'{"signature":1}', subject=APP)
BOTH = index([APP, ARM])


async def delete(cleaning: Cleaning, wanted: Image) -> None:
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, wanted.digest)


async def restore(cleaning: Cleaning, digest: Digest, *names: str) -> None:
    await restoring.restore(cleaning.registry, BOB, REPOSITORY, digest, names)


async def at(cleaning: Cleaning) -> float:
    """This moment, with another one behind it."""
    now = cleaning.clock.now()
    cleaning.pass_time(HOUR)
    return now + 1


# --- where bytes can be -----------------------------------------------------------------------------------------


async def unlinked(cleaning: Cleaning) -> None:
    """Its manifest was deleted, and nothing has been cleaned up."""


async def condemned(cleaning: Cleaning) -> None:
    cleaning.pass_time(DAY + HOUR)
    await cleaning.sweeper.sweep()
    assert await cleaning.state(Digest.of(b"layer one")) == "condemned"


async def retired(cleaning: Cleaning) -> None:
    await cleaning.sweep_after(DAY + HOUR)
    assert len(cleaning.trash()) == 4


async def moved_but_not_committed(cleaning: Cleaning) -> None:
    """The process died between the move of the bytes and its transaction's end."""
    await condemned(cleaning)
    rows = await cleaning.rows("SELECT location, trash FROM blobs WHERE state = 'condemned'")
    assert len(rows) == 4
    for location, name in rows:
        cleaning.registry.blobs.retire(location, name)


async def elsewhere(cleaning: Cleaning) -> None:
    """Another repository has it all."""
    await cleaning.push(APP, "latest", repository=OTHER)
    await cleaning.sweep_after(DAY + HOUR)
    assert cleaning.trash() == []


async def pushed_in_part(cleaning: Cleaning) -> None:
    """Somebody is about to push it again."""
    await retired(cleaning)
    await cleaning.blob(b"layer one")


async def twice_in_the_trash(cleaning: Cleaning) -> None:
    await retired(cleaning)
    await cleaning.push(APP)
    await delete(cleaning, APP)
    await cleaning.sweep_after(DAY + HOUR)
    assert len(cleaning.trash()) == 8


@pytest.mark.parametrize(
    "place",
    [unlinked, condemned, retired, moved_but_not_committed, elsewhere, pushed_in_part, twice_in_the_trash],
    ids=lambda place: place.__name__,
)
async def test_an_image_comes_back_from_wherever_its_bytes_are(
    cleaning: Cleaning, place: Callable[[Cleaning], Awaitable[None]]
) -> None:
    await cleaning.push(APP, "latest")
    await delete(cleaning, APP)
    await place(cleaning)
    await restore(cleaning, APP.digest, "latest", "again")
    for reference in ("latest", "again", APP.digest):
        await cleaning.pull(APP, reference)
    assert await cleaning.listed() == set()
    assert await cleaning.rows("SELECT count(*) FROM holds") == [(0,)]
    await cleaning.sweep_after(LONG)
    await cleaning.pull(APP, "latest")
    await cleaning.walk()  # It finds what nobody knows of.
    await cleaning.sweep_after(LONG)
    assert cleaning.trash() == []


async def test_it_is_told(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await delete(cleaning, APP)
    await cleaning.sweep_after(DAY + HOUR)
    before = len(await cleaning.events())
    await restore(cleaning, APP.digest, "latest")
    told = (await cleaning.events())[before:]
    assert [event.kind for event in told] == ["blob.restored"] * 3 + ["manifest.pushed", "tag.set"]
    assert {(event.actor, event.repository) for event in told} == {("bob", REPOSITORY)}


async def test_a_restore_is_not_swept_while_it_goes_on(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are here already, and due, stay until the whole names them."""
    await cleaning.push(APP)
    await delete(cleaning, APP)
    cleaning.pass_time(DAY + HOUR)
    push = manifests.push

    async def sweep_and_push(*arguments: object, **more: object) -> object:
        await cleaning.sweep()
        return await push(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(manifests, "push", sweep_and_push)
    await restore(cleaning, APP.digest)
    await cleaning.pull(APP, APP.digest)


async def test_what_is_here_already_is_left_as_it_is(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    before = len(await cleaning.events())
    await restore(cleaning, APP.digest)
    await restore(cleaning, Digest.of(b"layer one"))
    assert len(await cleaning.events()) == before


async def test_a_lost_file_is_healed_by_a_restore_from_the_trash(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"lost later")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.sweep_after(DAY)
    await cleaning.blob(b"lost later")
    cleaning.file(digest).unlink()
    await restore(cleaning, digest)
    assert cleaning.file(digest).read_bytes() == b"lost later"


# --- what is needed ---------------------------------------------------------------------------------------------


async def test_a_blob_comes_back_alone(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"alone")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.sweep_after(HOUR)
    await restore(cleaning, digest)
    assert await cleaning.digests() == {digest}
    with pytest.raises(NotInTrash):
        await restore(cleaning, digest, "latest")


async def test_what_another_repository_had_is_not_brought_back_here(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest", repository=OTHER)
    await manifests.delete(cleaning.registry, ADA, OTHER, APP.digest)
    for digest in (APP.digest, Digest.of(b"layer one")):
        with pytest.raises(NotInTrash):
            await restore(cleaning, digest)
    assert await cleaning.digests() == set()


@pytest.mark.parametrize("swept", [False, True])
async def test_an_index_comes_back_with_its_images(cleaning: Cleaning, swept: bool) -> None:
    whole = index([BOTH, APP, index([ARM])])
    await cleaning.push(whole, "latest")
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    if swept:
        await cleaning.sweep_after(LONG)
        assert await cleaning.digests() == set()
    before = len(await cleaning.events())
    await restore(cleaning, whole.digest, "latest")
    await cleaning.pull(whole, "latest")
    pushed = [event.digest for event in (await cleaning.events())[before:] if event.kind == "manifest.pushed"]
    assert len(pushed) == (5 if swept else 0)
    assert not swept or pushed[-1] == whole.digest


async def test_an_index_of_two_to_the_power_of_thirty_paths_takes_no_time(cleaning: Cleaning) -> None:
    """zot walks such an index for ever, under a lock (#4318)."""
    whole = APP
    for _ in range(30):
        whole = Image(index([whole] * 2).manifest, children=(whole,))
    await cleaning.push(whole, "latest")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.sweep_after(DAY)
    began = time.monotonic()
    await restore(cleaning, whole.digest, "latest")
    assert time.monotonic() - began < 10
    await cleaning.pull(whole, "latest")


async def test_a_child_that_is_named_many_times_is_looked_at_once(cleaning: Cleaning) -> None:
    whole = Image(index([APP] * 1_000).manifest, children=(APP,))
    await cleaning.push(whole, "latest")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await restore(cleaning, whole.digest, "latest")
    await cleaning.pull(whole, "latest")


async def test_a_child_that_is_gone_for_good_is_said_before_anything_comes_back(cleaning: Cleaning) -> None:
    await cleaning.push(BOTH, "latest")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.registry.db.write(trash.forget_link, REPOSITORY, ARM.digest)
    with pytest.raises(NotInTrash, match=ARM.digest):
        await restore(cleaning, BOTH.digest)
    assert await cleaning.digests() == set()
    cleaning.rule(sparse=(REPOSITORY,))
    await restore(cleaning, BOTH.digest)
    assert {BOTH.digest, APP.digest} <= await cleaning.digests()


async def test_a_child_that_was_never_here_is_not_taken_from_another_repository(cleaning: Cleaning) -> None:
    """An index of a sparse repository may name whatever it likes; that makes nothing readable."""
    secret = await cleaning.blob(b"secret", OTHER)
    child = {"mediaType": "application/vnd.example", "digest": secret, "size": 6}
    document = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": [child]}
    sparse = Image(parse(json.dumps(document).encode(), mediatype.OCI_INDEX))
    cleaning.rule(sparse=(REPOSITORY,))
    await cleaning.push(sparse, "latest")
    await delete(cleaning, sparse)
    await restore(cleaning, sparse.digest, "latest")
    assert await cleaning.digests() == {sparse.digest}
    await delete(cleaning, sparse)
    cleaning.rule(sparse=())  # It comes back as it was, whatever could be pushed by now.
    await restore(cleaning, sparse.digest, "latest")
    assert await cleaning.digests() == {sparse.digest}


async def test_one_that_needs_too_much_is_refused(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "MANIFESTS_MAX", 2)
    await cleaning.push(BOTH, "latest")
    with pytest.raises(NotInTrash, match="more than 2 manifests"):
        await restore(cleaning, BOTH.digest)


async def test_a_layer_whose_bytes_are_gone_is_said_and_nothing_is_half_there(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await delete(cleaning, APP)
    await cleaning.sweep_after(DAY + HOUR)
    for found in await cleaning.registry.db.read(trash.bytes_of, Digest.of(b"layer two")):
        await cleaning.registry.blobs.purge(found.location)
    with pytest.raises(NotInTrash, match=str(Digest.of(b"layer two"))):
        await restore(cleaning, APP.digest, "latest")
    with pytest.raises(ManifestUnknown):
        await manifests.get(cleaning.registry, REPOSITORY, "latest")
    assert APP.digest not in await cleaning.digests()
    await cleaning.blob(b"layer two")
    await restore(cleaning, APP.digest, "latest")
    await cleaning.pull(APP, "latest")


async def test_bytes_of_the_trash_that_are_cut_short_are_not_offered(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"cut short")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.sweep_after(DAY)
    (name,) = cleaning.trash()
    (cleaning.folder / "trash" / name).write_bytes(b"cut")
    with pytest.raises(NotInTrash):
        await restore(cleaning, digest)
    assert await cleaning.digests() == set()
    assert await cleaning.blob(b"cut short") == digest
    assert cleaning.file(digest).read_bytes() == b"cut short"


async def test_sha512_comes_back_as_it_was(cleaning: Cleaning) -> None:
    layer = await cleaning.blob(b"layer", algorithm="sha512")
    config = await cleaning.blob(b"{}", algorithm="sha512")
    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": {"mediaType": mediatype.OCI_CONFIG, "digest": config, "size": 2},
        "layers": [{"mediaType": mediatype.OCI_LAYER, "digest": layer, "size": 5}],
    }
    data = json.dumps(document).encode()
    digest = Digest.of(data, "sha512")
    push = (cleaning.registry, ADA, REPOSITORY, data, mediatype.OCI_MANIFEST, digest)
    await manifests.push(*push, ["latest"])
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.sweep_after(DAY)
    assert len(cleaning.trash()) == 3
    await restore(cleaning, digest, "latest")
    assert (await manifests.get(cleaning.registry, REPOSITORY, "latest")).data == data
    assert await cleaning.digests() == {digest, layer, config}


# --- what belongs to a subject ----------------------------------------------------------------------------------


async def test_a_referrer_comes_back_by_itself_with_or_without_its_subject(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await cleaning.push(SIGNATURE)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()
    await restore(cleaning, SIGNATURE.digest)
    await cleaning.pull(SIGNATURE, SIGNATURE.digest)
    await restore(cleaning, APP.digest, "latest")
    found, _ = await referrers.get(cleaning.registry, REPOSITORY, APP.digest, None, "", 10)
    assert [referrer.digest for referrer in found] == [SIGNATURE.digest]
    await cleaning.sweep_after(LONG)
    await cleaning.pull(SIGNATURE, SIGNATURE.digest)


async def test_a_repository_comes_back_with_cosigns_tags_and_signatures(cleaning: Cleaning) -> None:
    old = image([b"an old signature"], config=b'{"old":1}')
    cosign = f"sha256-{APP.digest.encoded}.sig"
    await cleaning.push(APP, "latest")
    await cleaning.push(SIGNATURE)
    await cleaning.push(old, cosign)
    before = await cleaning.digests()
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.sweep_after(DAY)
    assert len(cleaning.trash()) == len(before)
    restored = await restoring.restore_repository(cleaning.registry, BOB, REPOSITORY)
    assert set(restored.digests) == before == await cleaning.digests()
    assert sorted(restored.tags) == sorted(["latest", cosign])
    await cleaning.pull(old, cosign)
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == before


# --- others at the same time ------------------------------------------------------------------------------------


async def test_a_purge_between_hold_and_move_loses_or_wins(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes first has the bytes; nothing is offered that is not there."""
    digest = await cleaning.blob(b"contested")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.sweep_after(DAY)
    store_restore = cleaning.registry.blobs.restore

    async def purge_first(location: str, wanted: Digest) -> str:
        links = await purge.choose(cleaning.registry, REPOSITORY)
        assert (await purge.purge(cleaning.registry, BOB, links)).bytes == len(b"contested")
        return await store_restore(location, wanted)

    monkeypatch.setattr(cleaning.registry.blobs, "restore", purge_first)
    with pytest.raises(NotInTrash):
        await restore(cleaning, digest)
    assert await cleaning.digests() == set()
    assert cleaning.trash() == []
    await cleaning.sweep_after(LONG)
    assert await cleaning.rows("SELECT count(*) FROM blobs") == [(0,)]


async def test_a_purge_after_the_move_finds_nothing(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = await cleaning.blob(b"contested")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.sweep_after(DAY)
    store_restore = cleaning.registry.blobs.restore

    async def purge_then(location: str, wanted: Digest) -> str:
        found = await store_restore(location, wanted)
        cleaning.pass_time(60)
        await cleaning.registry.db.write(trash.forget_link, REPOSITORY, wanted)
        await sweep.purge_bytes(cleaning.registry, cleaning.clock.now(), 10)
        return found

    monkeypatch.setattr(cleaning.registry.blobs, "restore", purge_then)
    await restore(cleaning, digest)
    assert cleaning.file(digest).read_bytes() == b"contested"
    assert digest in await cleaning.digests()


async def test_a_restore_that_takes_longer_than_its_hold_is_refused(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await cleaning.blob(b"slow")
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.sweep_after(DAY)
    store_restore = cleaning.registry.blobs.restore

    async def slowly(location: str, wanted: Digest) -> str:
        cleaning.pass_time(cleaning.registry.rules.hold_seconds + 1)
        return await store_restore(location, wanted)

    monkeypatch.setattr(cleaning.registry.blobs, "restore", slowly)
    with pytest.raises(Unavailable, match="try again"):
        await restore(cleaning, digest)
    assert await cleaning.digests() == set()
    monkeypatch.undo()
    await restore(cleaning, digest)
    assert cleaning.file(digest).read_bytes() == b"slow"


async def test_two_restores_and_a_push_of_the_same_image_all_succeed(cleaning: Cleaning) -> None:
    await cleaning.push(BOTH, "latest")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.sweep_after(DAY)
    await asyncio.gather(
        restore(cleaning, BOTH.digest, "one"), restore(cleaning, BOTH.digest, "two"), cleaning.push(BOTH, "three")
    )
    for name in ("one", "two", "three"):
        await cleaning.pull(BOTH, name)
    assert await cleaning.listed() == set()


# --- tags -------------------------------------------------------------------------------------------------------


async def test_a_tag_goes_back_to_what_it_was_before_its_last_change(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await cleaning.push(ARM, "latest")
    for expected in (APP, ARM, APP):  # Restoring twice undoes the restore.
        assert await restoring.restore_tag(cleaning.registry, BOB, REPOSITORY, "latest", None) == expected.digest
        await cleaning.pull(expected, "latest")
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await restoring.restore_tag(cleaning.registry, BOB, REPOSITORY, "latest", None)
    await cleaning.pull(APP, "latest")


async def test_a_tag_goes_back_to_what_it_was_at_a_time(cleaning: Cleaning) -> None:
    nothing_yet = await at(cleaning)
    await cleaning.push(APP, "latest")
    first = await at(cleaning)
    await cleaning.push(ARM, "latest")
    second = await at(cleaning)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    deleted = await at(cleaning)
    for moment, expected in ((first, APP), (second, ARM), (first, APP)):
        assert await restoring.restore_tag(cleaning.registry, BOB, REPOSITORY, "latest", moment) == expected.digest
        await cleaning.pull(expected, "latest")
    for moment in (nothing_yet, deleted):
        with pytest.raises(ManifestUnknown, match="pointed at nothing at that time"):
            await restoring.restore_tag(cleaning.registry, BOB, REPOSITORY, "latest", moment)
    await cleaning.pull(APP, "latest")


async def test_what_a_tag_pointed_at_comes_back_also_after_it_was_swept(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await cleaning.push(ARM, "latest")
    await cleaning.sweep_after(7 * DAY + HOUR)
    assert APP.digest not in await cleaning.digests()
    assert await restoring.restore_tag(cleaning.registry, BOB, REPOSITORY, "latest", None) == APP.digest
    await cleaning.pull(APP, "latest")


async def test_what_was_purged_is_said_and_the_tag_stays(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await cleaning.push(ARM, "latest")
    await cleaning.sweep_after(LONG)
    await cleaning.sweep_after(LONG)
    with pytest.raises(NotInTrash):
        await restoring.restore_tag(cleaning.registry, BOB, REPOSITORY, "latest", None)
    await cleaning.pull(ARM, "latest")


async def test_a_tag_that_never_was_cannot_be_restored(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    for name in ("latest", "none"):
        with pytest.raises(ManifestUnknown, match="before its last change"):
            await restoring.restore_tag(cleaning.registry, BOB, REPOSITORY, name, None)


async def test_an_immutable_tag_is_not_moved_and_nothing_comes_back_for_it(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await cleaning.push(ARM, "latest")
    await cleaning.sweep_after(LONG)
    cleaning.rule(retention=Retention(immutable=(ImmutableTags("**", ("latest",)),)))
    before = await cleaning.digests()
    with pytest.raises(TagImmutable):
        await restoring.restore_tag(cleaning.registry, BOB, REPOSITORY, "latest", None)
    assert await cleaning.digests() == before


# --- a repository -----------------------------------------------------------------------------------------------


async def test_tags_that_were_deleted_by_themselves_stay_deleted(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest", "old", "moved")
    await cleaning.push(ARM, "moved")
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "old")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    restored = await restoring.restore_repository(cleaning.registry, BOB, REPOSITORY)
    assert sorted(restored.tags) == ["latest", "moved"]
    await cleaning.pull(APP, "latest")
    await cleaning.pull(ARM, "moved")


async def test_a_tag_that_was_pushed_again_since_is_left_as_it_is(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest", "v1")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.push(ARM, "latest")
    restored = await restoring.restore_repository(cleaning.registry, BOB, REPOSITORY)
    assert restored.tags == ["v1"]
    await cleaning.pull(ARM, "latest")
    await cleaning.pull(APP, "v1")


async def test_tags_come_back_also_when_their_manifest_was_pushed_again(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "v1", "v2")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.push(APP, "v2")
    restored = await restoring.restore_repository(cleaning.registry, BOB, REPOSITORY)
    assert restored.tags == ["v1"]
    await cleaning.pull(APP, "v1")


async def test_one_thing_that_cannot_come_back_stops_no_other(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "app")
    await cleaning.push(ARM, "arm")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await cleaning.sweep_after(DAY)
    for found in await cleaning.registry.db.read(trash.bytes_of, Digest.of(b"for arm")):
        await cleaning.registry.blobs.purge(found.location)
    restored = await restoring.restore_repository(cleaning.registry, BOB, REPOSITORY)
    assert {digest for digest, _ in restored.failed} == {ARM.digest, Digest.of(b"for arm")}
    assert restored.tags == ["app"]
    await cleaning.pull(APP, "app")


async def test_a_repository_of_which_nothing_is_left_is_said(cleaning: Cleaning) -> None:
    with pytest.raises(NotInTrash, match=REPOSITORY):
        await restoring.restore_repository(cleaning.registry, BOB, REPOSITORY)


async def test_the_same_bytes_as_manifest_and_as_blob_come_back_as_both(cleaning: Cleaning) -> None:
    """An index may name a manifest once more as plain bytes."""
    document = json.loads(index([APP]).data)
    document["manifests"].append({**document["manifests"][0], "mediaType": "application/octet-stream"})
    whole = Image(parse(json.dumps(document).encode(), mediatype.OCI_INDEX), children=(APP,))
    await cleaning.push(whole, "latest")
    await removal.delete(cleaning.registry, ADA, REPOSITORY)
    await restore(cleaning, whole.digest, "latest")
    await cleaning.pull(whole, "latest")
