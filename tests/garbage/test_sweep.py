"""What the sweep lets go of, when, and what it keeps; one case after the other."""

import asyncio
import json
from typing import Any

import pytest

from homeport.db.database import Parameters, Row, Transaction
from homeport.garbage import sweep, why
from homeport.garbage.sweep import Sweeper
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, ManifestBlobUnknown
from homeport.oci.manifest import parse
from homeport.registry import blobs, manifests, reviews, standing, tags
from homeport.registry.retention import ImmutableTags, Retention
from homeport.registry.standing import Standing
from homeport.testing.images import Image, image, index
from tests.garbage.cleaning import DAY, HOUR, LONG, Cleaning, Unpaced
from tests.registry.world import ADA, REPOSITORY

APP = image([b"layer one", b"layer two"])
SIGNATURE = image([b"signed"], config=b'{"signature":1}', subject=APP)


def cosign_tag(suffix: str = ".sig") -> str:
    return f"sha256-{APP.digest.encoded}{suffix}"


async def test_what_a_tag_leads_to_stays(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    before = await cleaning.digests()
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == before
    assert await cleaning.rows("SELECT count(*) FROM reviews") == [(0,)]  # Nothing is looked at twice for nothing.


async def test_an_untagged_image_goes_after_its_grace(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await cleaning.sweep_after(2 * DAY)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(6.9 * DAY)
    assert APP.digest in await cleaning.digests()
    await cleaning.sweep_after(0.2 * DAY)
    assert await cleaning.digests() == set()
    assert await cleaning.rows("SELECT count(*) FROM blobs") == [(0,)]
    assert len(cleaning.trash()) == 4
    assert await cleaning.rows("SELECT count(*) FROM repositories") == [(0,)]


async def test_a_blob_that_no_manifest_named_goes_when_its_promise_is_over(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"of a push that died")
    await cleaning.sweep_after(DAY - HOUR)
    assert digest in await cleaning.digests()
    await cleaning.sweep_after(2 * HOUR)
    assert await cleaning.digests() == set()
    assert not cleaning.file(digest).exists()


async def test_a_promise_that_was_renewed_keeps_it(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"HEAD again and again")
    for _ in range(4):
        cleaning.pass_time(0.9 * DAY)
        await blobs.get_and_keep(cleaning.registry, REPOSITORY, digest)
        await cleaning.sweep()
    assert digest in await cleaning.digests()


async def test_an_overwritten_tag_lets_go_of_what_it_pointed_at(cleaning: Cleaning) -> None:
    """distribution keeps such manifests for ever (#2212, #2301, #2302)."""
    other = image([b"layer one", b"a newer layer"])
    await cleaning.push(APP, "latest")
    await cleaning.push(other, "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == {other.digest, *map(Digest.of, other.blobs)}


async def test_a_layer_that_another_image_names_stays(cleaning: Cleaning) -> None:
    other = image([b"layer one"], config=b'{"other":1}')
    await cleaning.push(APP)
    await cleaning.push(other, "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == {other.digest, *map(Digest.of, other.blobs)}


async def test_a_layer_that_another_repository_links_stays_there(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    await cleaning.push(APP, "latest", repository="other")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()
    assert APP.digest in await cleaning.digests("other")
    assert cleaning.trash() == []


async def test_children_of_an_index_stay_with_it_and_go_with_it(cleaning: Cleaning) -> None:
    """distribution deletes them (#3178, #3004, #2914)."""
    both = index([APP, image([b"another platform"])])
    await cleaning.push(both, "latest")
    before = await cleaning.digests()
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == before
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()


async def test_children_of_a_swept_index_have_no_grace_of_their_own(cleaning: Cleaning) -> None:
    await cleaning.push(index([APP]), "latest")
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(7 * DAY + 1)
    assert await cleaning.digests() == set()


@pytest.mark.parametrize("names", [(), (cosign_tag(),), (cosign_tag(".att"),), (cosign_tag(".sbom"),)])
async def test_a_signature_lives_and_dies_with_its_subject(cleaning: Cleaning, names: tuple[str, ...]) -> None:
    await cleaning.push(APP, "latest")
    await cleaning.push(SIGNATURE, *names)
    await cleaning.sweep_after(LONG)
    assert SIGNATURE.digest in await cleaning.digests()
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()
    assert await cleaning.rows("SELECT count(*) FROM tags") == [(0,)]


async def test_a_cosign_tag_without_a_subject_field_lives_with_what_it_names(cleaning: Cleaning) -> None:
    old = image([b"an old signature"], config=b'{"old":1}')
    await cleaning.push(APP, "latest")
    await cleaning.push(old, cosign_tag())
    await cleaning.sweep_after(LONG)
    assert old.digest in await cleaning.digests()
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()


async def test_a_fallback_index_lives_with_what_it_names(cleaning: Cleaning) -> None:
    listed = index([SIGNATURE])
    await cleaning.push(APP, "latest")
    await cleaning.push(listed, APP.digest.fallback_tag)
    await cleaning.sweep_after(LONG)
    assert {listed.digest, SIGNATURE.digest} <= await cleaning.digests()
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()


async def test_a_tagged_referrer_outlives_its_subject(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    await cleaning.push(SIGNATURE, "kept")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == {SIGNATURE.digest, *map(Digest.of, SIGNATURE.blobs)}


async def test_a_referrer_whose_subject_was_never_here_is_as_any_untagged_manifest(cleaning: Cleaning) -> None:
    await cleaning.push(SIGNATURE)
    await cleaning.sweep_after(6 * DAY)
    assert SIGNATURE.digest in await cleaning.digests()
    await cleaning.sweep_after(2 * DAY)
    assert await cleaning.digests() == set()


@pytest.mark.parametrize("number", range(6))
async def test_one_subject_that_lives_is_enough(cleaning: Cleaning, number: int) -> None:
    """Whichever comes first: what the index itself keeps says nothing of its other subject."""
    kept, twisted = image([b"kept %d" % number]), index([image([b"child %d" % number])])
    subjects = kept.digest, twisted.children[0].digest
    await cleaning.push(kept, "latest")
    await cleaning.push(twisted, *(f"sha256-{digest.encoded}" for digest in subjects))
    await cleaning.sweep_after(LONG)
    await cleaning.pull(twisted, twisted.digest)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    await cleaning.sweep()
    assert await cleaning.digests() == set()


async def test_a_subject_in_a_dense_web_is_not_looked_at_for_long(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few hundred indexes of a few hundred indexes have a hundred thousand references. In doubt it is kept."""
    monkeypatch.setattr(standing, "_WALK_MAX", 50)
    middle = [index([APP, image([b"%d" % number])]) for number in range(16)]
    for number in range(16):
        await cleaning.push(index([*middle, image([b"top %d" % number])]))
    await cleaning.push(SIGNATURE)
    read = 0

    def look(tx: Transaction) -> Standing:
        find_all = tx.all

        def counted(sql: str, parameters: Parameters = ()) -> list[Row]:
            nonlocal read
            read += len(found := find_all(sql, parameters))
            return found

        tx.all = counted  # type: ignore[method-assign]
        try:
            (repository_id,) = tx.one("SELECT id FROM repositories") or (0,)
            link = standing.find(tx, repository_id, SIGNATURE.digest)
            assert link is not None
            return standing.of(tx, cleaning.registry, link)
        finally:
            del tx.all

    assert (await cleaning.registry.db.read(look)).reason == f"its subject {APP.digest} is here"
    assert read < 2 * 50


async def test_an_index_that_names_its_own_subject_does_not_keep_it_for_ever(cleaning: Cleaning) -> None:
    twisted = _index_of_its_subject()
    await cleaning.push(APP, "latest")
    await cleaning.manifest(twisted)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    await cleaning.walk()
    await cleaning.sweep()
    assert await cleaning.digests() == set()


async def test_what_belongs_to_an_image_that_never_goes_stays_though_its_tag_belongs_to_that(
    cleaning: Cleaning,
) -> None:
    """The tag of the image says that it is a signature of its own signature: each is here for the other's sake."""
    signature = image([], config=b'{"signed":1}', subject=APP)
    await cleaning.push(APP, f"sha256-{signature.digest.encoded}.sig")
    await cleaning.push(signature)
    cleaning.rule(retention=Retention(immutable=(ImmutableTags("**", ("sha256-*",)),)))
    await cleaning.sweep_after(LONG)
    await cleaning.walk()
    await cleaning.sweep()
    assert {APP.digest, signature.digest} <= await cleaning.digests()


async def test_a_push_across_a_sweep_finds_what_it_was_promised(cleaning: Cleaning) -> None:
    """The first layer is here for two days when the last one arrives: the upload moved all the time."""
    upload = await cleaning.start()
    await cleaning.append(upload, b"a part of a layer", offset=0)
    for data in APP.blobs:
        await cleaning.blob(data)
    for _ in range(5):
        cleaning.pass_time(0.5 * HOUR)
        for _ in range(10):
            cleaning.pass_time(0.5 * HOUR)
            await cleaning.append(upload, b".")
        await cleaning.sweep()
    await cleaning.finish(upload, Digest.of(b"a part of a layer" + b"." * 50))
    await cleaning.manifest(APP, "latest")
    await cleaning.sweep()
    assert APP.digest in await cleaning.digests()


async def test_what_was_swept_can_be_pushed_again(cleaning: Cleaning) -> None:
    """distribution says that it has it and then does not serve it (#3254, #1848)."""
    await cleaning.push(APP)
    await cleaning.sweep_after(LONG)
    with pytest.raises(BlobUnknown):
        await blobs.get(cleaning.registry, REPOSITORY, Digest.of(APP.blobs[0]))
    with pytest.raises(ManifestBlobUnknown):
        await cleaning.manifest(APP)
    await cleaning.push(APP, "latest")
    assert (await manifests.get(cleaning.registry, REPOSITORY, "latest")).data == APP.data
    await cleaning.sweep_after(LONG)
    assert {APP.digest, *map(Digest.of, APP.blobs)} == await cleaning.digests()


async def test_a_condemned_blob_is_absent_and_comes_back_with_a_push(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"condemned")
    cleaning.pass_time(LONG)
    await cleaning.sweeper.sweep()
    assert await cleaning.state(digest) == "condemned"
    assert cleaning.file(digest).exists()
    with pytest.raises(BlobUnknown):
        await blobs.get_and_keep(cleaning.registry, REPOSITORY, digest)
    await cleaning.blob(b"condemned")
    assert await cleaning.state(digest) == "live"
    await cleaning.sweep_after(cleaning.registry.rules.condemned_seconds)
    assert digest in await cleaning.digests()


async def test_ten_minutes_lie_between_condemning_and_moving(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"condemned")
    cleaning.pass_time(LONG)
    await cleaning.sweeper.sweep()
    cleaning.pass_time(590)
    await cleaning.sweeper.sweep()
    assert cleaning.file(digest).exists()
    cleaning.pass_time(20)
    await cleaning.sweeper.sweep()
    assert not cleaning.file(digest).exists()


async def test_a_blob_that_is_being_written_is_not_moved(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"written again")
    cleaning.pass_time(LONG)
    await cleaning.sweeper.sweep()
    cleaning.pass_time(590)
    await cleaning.registry.db.write(blobs.hold, cleaning.registry, digest, "f" * 32)
    cleaning.pass_time(20)
    await cleaning.sweeper.sweep()
    assert await cleaning.state(digest) == "condemned"
    assert cleaning.file(digest).exists()
    cleaning.pass_time(600)
    await cleaning.sweeper.sweep()
    assert not cleaning.file(digest).exists()


async def test_what_has_been_in_the_trash_for_long_enough_is_purged(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    await cleaning.sweep_after(LONG)
    assert len(cleaning.trash()) == 4
    await cleaning.sweep_after(6.9 * DAY)
    assert len(cleaning.trash()) == 4
    await cleaning.sweep_after(0.2 * DAY)
    assert cleaning.trash() == []
    for table in ("trashed_links", "trashed_blobs", "reviews", "links", "blobs", "holds"):
        assert await cleaning.rows(f"SELECT count(*) FROM {table}") == [(0,)], table


async def test_one_broken_thing_stops_no_other(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    """zot loops or aborts for ever (#4180), distribution aborts (#1960)."""
    broken, fine = await cleaning.blob(b"broken"), await cleaning.blob(b"fine")
    retire = cleaning.registry.blobs.retire

    def refuse(location: str, trash: str) -> str:
        if broken.encoded in location:
            raise OSError("this one cannot be moved")
        return retire(location, trash)

    monkeypatch.setattr(cleaning.registry.blobs, "retire", refuse)
    await cleaning.sweep_after(LONG)
    assert not cleaning.file(fine).exists()
    assert cleaning.file(broken).exists()
    assert "this one cannot be moved" in cleaning.said.getvalue()
    found = await cleaning.registry.db.read(reviews.find, reviews.BLOB, broken)
    assert found is not None
    assert found.failures == 1
    monkeypatch.undo()
    await cleaning.sweep_after(HOUR)
    assert not cleaning.file(broken).exists()


async def test_room_comes_back_while_there_is_always_something_to_look_at(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cleaning.blob(b"in the trash")
    await cleaning.sweep_after(LONG)
    assert len(cleaning.trash()) == 1
    cleaning.pass_time(LONG)
    left = 10 * sweep.TURN_STEPS

    async def look() -> bool:
        nonlocal left
        left -= len(cleaning.trash())  # It ends only if the other does.
        return left > 0 and bool(cleaning.trash())

    monkeypatch.setattr(cleaning.sweeper, "look", look)
    await cleaning.sweeper.sweep()
    assert cleaning.trash() == []
    assert left > 0


async def test_rows_that_do_not_fit_together_stop_nothing_else(cleaning: Cleaning) -> None:
    broken, fine = await cleaning.blob(b"broken"), await cleaning.blob(b"fine")

    def spoil(tx: Transaction) -> None:
        tx.run("CREATE TABLE pins (digest TEXT REFERENCES blobs (digest))")
        tx.run("INSERT INTO pins (digest) VALUES (?)", (broken,))

    await cleaning.registry.db.write(spoil)
    await cleaning.sweep_after(LONG)
    await cleaning.sweep()
    assert await cleaning.state(fine) is None
    assert await cleaning.state(broken) == "condemned"
    found = await cleaning.registry.db.read(reviews.find, reviews.BLOB, broken)
    assert found is not None
    assert found.failures > 0


async def test_a_manifest_whose_bytes_are_missing_is_no_obstacle(cleaning: Cleaning) -> None:
    """zot stops (#3503)."""
    await cleaning.push(APP)
    cleaning.file(APP.digest).unlink()
    cleaning.file(Digest.of(APP.blobs[0])).write_bytes(b"")  # A file of no bytes.
    await cleaning.sweep_after(LONG)
    assert await cleaning.rows("SELECT count(*) FROM blobs") == [(0,)]


async def test_nothing_goes_while_the_registry_is_read_only(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    cleaning.rule(read_only="we are moving")
    await cleaning.sweep_after(LONG)
    assert APP.digest in await cleaning.digests()


async def test_everything_that_goes_is_told(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    before = len(await cleaning.events())
    await cleaning.sweep_after(LONG)
    told = (await cleaning.events())[before:]
    assert sorted(event.kind for event in told) == ["blob.deleted"] * 3 + ["manifest.deleted"]
    assert {event.actor for event in told} == {"system"}
    assert all("since 20" in (event.reason or "") for event in told)


async def test_two_sweepers_at_once_do_no_more_than_one(cleaning: Cleaning) -> None:
    await cleaning.push(APP)
    cleaning.pass_time(LONG)
    await asyncio.gather(cleaning.sweeper.sweep(), cleaning.sweeper.sweep())
    cleaning.pass_time(600)
    await asyncio.gather(cleaning.sweeper.sweep(), cleaning.sweeper.sweep())
    assert len(cleaning.trash()) == 4


def _index_of_its_subject() -> Image:
    """An index with a child that is its subject, too: each keeps the other."""
    document = json.loads(index([APP]).data)
    document["subject"] = document["manifests"][0]
    media_type = document["mediaType"]
    return Image(parse(json.dumps(document).encode(), media_type))


async def test_what_is_said_of_a_signature_without_its_image_is_what_is_done(cleaning: Cleaning) -> None:
    await cleaning.push(SIGNATURE, cosign_tag())
    said = await why.of_tag(cleaning.registry, REPOSITORY, cosign_tag())
    assert [(reason.keeps, reason.text) for reason in said.reasons] == [
        (True, "a client may rely on it"),
        (False, "untagged"),
    ]
    cleaning.rule(retention=Retention(protected=(REPOSITORY,)))
    await cleaning.sweep_after(LONG)
    assert SIGNATURE.digest in await cleaning.digests()
    cleaning.rule(retention=Retention())
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()


async def test_no_bytes_move_before_it_is_durable_that_they_are_condemned(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever condemned them: a power cut would bring the row back, live, and not the bytes."""
    digest = await cleaning.blob(b"condemned by somebody else")
    cleaning.pass_time(LONG)
    other = Sweeper(cleaning.registry, Log(cleaning.said, cleaning.clock), cleaning.guard, Unpaced(cleaning.clock))
    happened: list[str] = []
    write, retire = cleaning.registry.db.write, cleaning.registry.blobs.retire

    async def noted_write(fact: Any, *args: Any) -> Any:
        happened.append(fact.__name__)
        return await write(fact, *args)

    def noted_retire(location: str, trash: str) -> str:
        happened.append("moved")
        return retire(location, trash)

    await cleaning.sweeper.sweep()
    monkeypatch.setattr(cleaning.registry.db, "write", noted_write)
    monkeypatch.setattr(cleaning.registry.blobs, "retire", noted_retire)
    await other.sweep()
    assert await cleaning.state(digest) == "condemned"
    cleaning.clock.wrong += 700  # The clock is set; no time has passed.
    happened.clear()
    await other.sweep()
    assert happened[: happened.index("moved") + 1][-2:] == ["_nothing", "moved"]
