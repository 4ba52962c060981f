"""How the garbage collection of others fails, each as a test that ours does not; the names say whose failure it is.

Others of these stand beside the part that they are about:
- test_sweep.py: children of indexes (distribution #3178), overwritten tags (#2212), one broken thing (#1960; zot
  #4180), a manifest without bytes (zot #3503), an upload across a sweep;
- test_walk.py: files of no bytes, a database that is gone or an old one (zot #2625);
- registry/test_restoring.py: an index of 2^30 paths (zot #4318); registry/test_removal.py: a child with a higher id
  than its parent (quay); registry/test_retention.py: cosign's tags, which are no images (quay #6650);
- tests/faults and tests/storage: a crash, a full disk and a power cut at any step (zot #3963, distribution #4774).
"""

from __future__ import annotations

import asyncio
import time

import pytest

from homeport.db.sqlite import SqliteDatabase
from homeport.events import SYSTEM
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, ManifestUnknown
from homeport.registry import blobs, manifests, repositories, restoring, reviews, tags
from homeport.registry.registry import Registry
from homeport.testing import invariants
from homeport.testing.images import Image, image, index
from tests.cli.tools import ask, push
from tests.garbage.cleaning import DAY, HOUR, LONG, Cleaning
from tests.registry.world import ADA, OTHER, REPOSITORY
from tests.support.processes import Homeport

APP = image([b"layer one", b"layer two"])
ARM = image([b"layer one", b"for arm"], config=b'{"arm":1}')


async def catalog(cleaning: Cleaning) -> list[str]:
    return [each.name for each in await cleaning.registry.db.read(repositories.page, "", 100)]


# --- distribution -----------------------------------------------------------------------------------------------


@pytest.fixture
def served(homeport: Homeport) -> Homeport:
    homeport.start()
    return homeport


async def test_distribution_3254_what_was_swept_and_pushed_again_is_pulled(served: Homeport) -> None:
    """There the running server says from memory that it is here, and pulls find nothing (#1848, #1755, #4868)."""
    login = ("admin", served.passwords["admin"])
    beside = Cleaning(served.data, served.data / "homeport.db")  # As another process, whose clock goes faster.
    assert await beside.guard.stopped() is None
    digest = await asyncio.to_thread(push, served.url, login, "team/app", "1.0")
    assert await _status(served, login, f"team/app/manifests/{digest}") == 200
    layer = Digest.of(b"layer")
    assert await _status(served, login, f"team/app/blobs/{layer}", "HEAD") == 200
    assert await _status(served, login, "team/app/manifests/1.0", "DELETE") == 202
    await beside.sweep_after(LONG)
    for path in (f"team/app/manifests/{digest}", f"team/app/blobs/{layer}"):
        for method in ("GET", "HEAD"):
            assert await _status(served, login, path, method) == 404
    assert await asyncio.to_thread(push, served.url, login, "team/app", "1.0") == digest
    for path in ("team/app/manifests/1.0", f"team/app/manifests/{digest}", f"team/app/blobs/{layer}"):
        assert await _status(served, login, path) == 200
    await beside.close()


async def _status(served: Homeport, login: tuple[str, str], path: str, method: str = "GET") -> int:
    status, _, _ = await asyncio.to_thread(ask, f"{served.url}/v2/{path}", login=login, method=method)
    return status


async def test_distribution_a_repository_leaves_the_catalog_with_its_last_image(cleaning: Cleaning) -> None:
    """There it never does; nor does zot forget empty ones (#3299)."""
    await cleaning.push(APP, "latest")
    await cleaning.push(ARM, "latest", repository=OTHER)
    assert await catalog(cleaning) == [REPOSITORY, OTHER]
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    assert await catalog(cleaning) == [OTHER]
    assert await cleaning.rows("SELECT name FROM repositories") == [(OTHER,)]
    await cleaning.push(APP, "latest")
    assert await catalog(cleaning) == [REPOSITORY, OTHER]


@pytest.mark.parametrize("count", [1, 4])
async def test_distribution_2367_a_layer_that_n_repositories_share_goes_with_the_last(
    cleaning: Cleaning, count: int
) -> None:
    """There each has a timer, and the first to fire deletes the bytes of all (#4191, #4872)."""
    names = [f"app{number}" for number in range(count + 1)]
    for name in names:
        await cleaning.push(APP, "latest", repository=name)
    for name in names[:-1]:
        await manifests.delete(cleaning.registry, ADA, name, APP.digest)
    await cleaning.sweep_after(LONG)
    await cleaning.sweep_after(LONG)
    await cleaning.pull(APP, "latest", names[-1])
    await manifests.delete(cleaning.registry, ADA, names[-1], APP.digest)
    await cleaning.sweep_after(LONG)
    assert await cleaning.rows("SELECT count(*) FROM blobs") == [(0,)]


async def test_distribution_4957_the_bytes_really_go(cleaning: Cleaning) -> None:
    """There the deletion of a cached blob is a stub; Harbor tells of success while bytes stay (#17251, #18896)."""
    await cleaning.push(index([APP, ARM]), "latest")
    await cleaning.sweep_after(2 * DAY)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    for _ in range(2):
        await cleaning.sweep_after(LONG)
    files = [path for path in cleaning.folder.rglob("*") if path.is_file()]
    assert files == []
    totals: dict[str, int] = dict(await cleaning.rows("SELECT name, total FROM cleanup_totals"))
    assert totals["purged_bytes"] == totals["trashed_bytes"]
    assert totals["purged"] == totals["manifests"] + totals["blobs"] == 8


# --- zot --------------------------------------------------------------------------------------------------------


async def test_zot_3396_space_comes_back_without_any_rule(cleaning: Cleaning) -> None:
    """There nothing is freed unless somebody configures retention (#3086, #3347)."""
    assert cleaning.registry.rules.retention.keep == ()
    await cleaning.push(APP)
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()


async def test_zot_2598_the_files_of_uploads_that_nobody_finished_go(cleaning: Cleaning) -> None:
    """quay did not clean up such multipart uploads until #6885."""
    for _ in range(3):
        await cleaning.append(await cleaning.start(), b"half of it")
    moving = await cleaning.start()
    await cleaning.append(moving, b"half of it")
    assert len(cleaning.strays()) == 4
    cleaning.pass_time(DAY - HOUR)
    await cleaning.append(moving, b"!")
    cleaning.pass_time(2 * HOUR)
    await cleaning.sweeper.sweep()
    assert cleaning.strays() == [moving]
    assert await cleaning.rows("SELECT count(*) FROM uploads") == [(1,)]


@pytest.mark.parametrize(
    "name",
    ["sha256-xyz.sig", f"sha256-{'0' * 63}.sig", f"sha256-{'0' * 65}", f"sha256-{'G' * 64}.sig", "sha256-.sbom",
     f"sha256-{'a' * 64}.sig.sig", f"sha512-{'a' * 63}", "sha256", "sha256-", f"SHA256-{'a' * 64}.sig"],
)  # fmt: skip
async def test_zot_4204_a_tag_that_only_looks_like_cosigns_is_a_tag(cleaning: Cleaning, name: str) -> None:
    """There it is a panic (#4204), or parsed wrongly (#4203). Here it keeps its image, as every tag does."""
    await cleaning.push(APP, name)
    await cleaning.sweep_after(LONG)
    await cleaning.walk()
    await cleaning.sweep_after(LONG)
    await cleaning.pull(APP, name)


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
async def test_zot_4203_every_kind_of_cosigns_tags_belongs_to_its_image(cleaning: Cleaning, suffix: str) -> None:
    companion = image([b"companion"], config=b'{"companion":1}')
    await cleaning.push(APP, "latest")
    await cleaning.push(companion, f"sha256-{APP.digest.encoded}{suffix}")
    await cleaning.sweep_after(LONG)
    await cleaning.pull(companion, companion.digest)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()


async def test_zot_4318_shared_and_duplicate_children_are_swept_in_linear_time(cleaning: Cleaning) -> None:
    """There the walk takes 2^N steps, under a lock that every push needs."""
    whole: Image = APP
    for _ in range(25):
        whole = Image(index([whole] * 2).manifest, children=(whole,))
    await cleaning.push(whole, "latest")
    began = time.monotonic()
    await cleaning.sweep_after(2 * DAY)
    await cleaning.pull(whole, "latest")
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()
    assert time.monotonic() - began < 20


async def test_zot_4089_nobody_waits_for_a_restore(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    """There it holds the one lock while it reads."""
    await cleaning.push(APP, "latest")
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, APP.digest)
    await cleaning.sweep_after(2 * DAY)
    store_restore = cleaning.registry.blobs.restore
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def slowly(location: str, digest: Digest) -> str:
        begun.set()
        await may_go_on.wait()
        return await store_restore(location, digest)

    monkeypatch.setattr(cleaning.registry.blobs, "restore", slowly)
    restoring_now = asyncio.create_task(restoring.restore(cleaning.registry, ADA, REPOSITORY, APP.digest, ["latest"]))
    await begun.wait()
    await cleaning.push(ARM, "arm")
    await cleaning.sweeper.sweep()
    await cleaning.pull(ARM, "arm")
    may_go_on.set()
    await restoring_now
    await cleaning.pull(APP, "latest")


# --- Harbor -----------------------------------------------------------------------------------------------------


async def _condemn(cleaning: Cleaning, data: bytes) -> Digest:
    digest = await cleaning.blob(data)
    cleaning.pass_time(LONG)
    await cleaning.sweeper.sweep()
    assert await cleaning.state(digest) == "condemned"
    return digest


async def test_harbor_a_mount_finds_no_blob_that_is_about_to_go(cleaning: Cleaning) -> None:
    """There a mount asks nobody whether the blob is being deleted."""
    digest = await _condemn(cleaning, b"about to go")
    for source in (REPOSITORY, None):
        assert await blobs.mount(cleaning.registry, ADA, OTHER, digest, source, lambda _, name: True) is None
    await cleaning.blob(b"about to go", OTHER)
    await cleaning.sweep_after(DAY / 2)
    assert digest in await cleaning.digests(OTHER)


async def test_harbor_a_mount_between_look_and_deletion_keeps_the_blob(cleaning: Cleaning) -> None:
    """The link of the source is due, and goes; the bytes stay for the one that came."""
    digest = await cleaning.blob(b"mounted just in time")
    cleaning.pass_time(LONG)
    page = await cleaning.registry.db.read(reviews.due, cleaning.clock.now(), 10)
    assert {review.digest for review in page} == {digest}
    assert await blobs.mount(cleaning.registry, ADA, OTHER, digest, REPOSITORY, lambda _, name: True)
    await cleaning.sweep()
    assert await cleaning.digests() == set()
    assert await cleaning.digests(OTHER) == {digest}
    assert cleaning.file(digest).exists()


async def test_harbor_a_head_between_look_and_deletion_keeps_its_word(cleaning: Cleaning) -> None:
    """Who is told that a layer is here has a day to name it."""
    for data in APP.blobs:
        await cleaning.blob(data)
    cleaning.pass_time(LONG)
    page = await cleaning.registry.db.read(reviews.due, cleaning.clock.now(), 10)
    assert {review.digest for review in page} == set(map(Digest.of, APP.blobs))
    for data in APP.blobs:
        await blobs.get_and_keep(cleaning.registry, REPOSITORY, Digest.of(data))
    await cleaning.sweep_after(DAY - HOUR)
    await cleaning.manifest(APP, "latest")
    await cleaning.sweep_after(LONG)
    await cleaning.pull(APP, "latest")


async def test_harbor_a_head_after_condemning_says_that_it_is_not_here(cleaning: Cleaning) -> None:
    digest = await _condemn(cleaning, b"about to go")
    with pytest.raises(BlobUnknown):
        await blobs.get_and_keep(cleaning.registry, REPOSITORY, digest)


async def test_harbor_a_manifest_that_names_layers_without_a_head_keeps_them(cleaning: Cleaning) -> None:
    """There only its own digest is looked at, and the layers rely on a window of two hours."""
    for data in APP.blobs:
        await cleaning.blob(data)
    cleaning.pass_time(LONG)
    await cleaning.manifest(APP, "latest")
    await cleaning.sweep()
    await cleaning.pull(APP, "latest")


async def test_harbor_12948_deleting_one_of_many_tags_does_not_list_the_others(cleaning: Cleaning) -> None:
    """There it takes minutes for each manifest, since every tag is listed for it."""
    await cleaning.push(APP, *(f"v{number}" for number in range(3_000)))
    await cleaning.push(ARM, "latest")
    statements = await _steps_of_a_deletion(cleaning)
    await cleaning.push(ARM, "latest")
    await cleaning.manifest(APP, *(f"w{number}" for number in range(3_000)))
    assert await _steps_of_a_deletion(cleaning) <= statements + 50


async def _steps_of_a_deletion(cleaning: Cleaning) -> int:
    """How many steps of its virtual machine SQLite takes, in tens."""
    database = cleaning.registry.db
    assert isinstance(database, SqliteDatabase)
    steps = [0]

    def count() -> int:
        steps[0] += 1
        return 0

    database._writer.set_progress_handler(count, 10)
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, ARM.digest)
    database._writer.set_progress_handler(None, 0)
    return steps[0]


# --- quay -------------------------------------------------------------------------------------------------------


async def test_quay_10909_what_is_pushed_again_between_the_last_look_and_the_deletion_stays(
    cleaning: Cleaning,
) -> None:
    """There the look and the deletion of the file are two steps, and a push may come between them."""
    digest = await _condemn(cleaning, b"pushed again")
    cleaning.pass_time(cleaning.registry.rules.condemned_seconds)
    page = await cleaning.registry.db.read(reviews.due, cleaning.clock.now(), 10)
    assert [review.digest for review in page] == [digest]
    await cleaning.blob(b"pushed again")
    await cleaning.sweeper.sweep()
    assert (await blobs.get(cleaning.registry, REPOSITORY, digest)).size == len(b"pushed again")
    assert cleaning.file(digest).read_bytes() == b"pushed again"


@pytest.mark.parametrize("parent_first", [False, True])
async def test_quay_a_child_with_a_higher_or_lower_id_than_its_parent_makes_no_loop(
    cleaning: Cleaning, parent_first: bool
) -> None:
    cleaning.rule(sparse=("**",))
    both = index([APP, ARM])
    if parent_first:
        await cleaning.manifest(both)
    await cleaning.push(both)
    await cleaning.sweep_after(LONG)
    assert await cleaning.digests() == set()


async def test_quay_198_two_processes_push_and_clean_up_in_one_database(cleaning: Cleaning) -> None:
    """There it is "database is locked"."""
    other = Cleaning(cleaning.folder)
    images = [image([b"%d" % number], config=b'{"n":%d}' % number) for number in range(20)]

    async def clean_up() -> None:
        for _ in range(10):
            await other.sweeper.sweep()
            await other.walk()

    pushes = [(cleaning if number % 2 else other).push(each, f"v{number}") for number, each in enumerate(images)]
    await asyncio.gather(clean_up(), *pushes)
    for number, each in enumerate(images):
        await other.pull(each, f"v{number}")
    await invariants.check(cleaning.registry)
    await other.close()


# --- GitLab, Gitea, Pulp ----------------------------------------------------------------------------------------


async def test_gitlab_a_look_that_ends_swallows_no_event_of_its_moment(cleaning: Cleaning) -> None:
    """Asking again moves the time of a look that is there; it is never left as it was."""
    await cleaning.push(APP, "latest")
    await cleaning.sweep_after(2 * DAY)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    cleaning.pass_time(HOUR)
    await cleaning.manifest(APP, "latest")
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    repository_id = await cleaning.registry.db.read(repositories.find, REPOSITORY)
    assert repository_id is not None
    review = await cleaning.registry.db.read(reviews.find, repository_id, APP.digest)
    assert review is not None
    assert review.due_at >= cleaning.clock.now() + cleaning.registry.rules.grace_seconds_min - 60


async def test_gitlab_a_crash_between_bytes_and_row_leaves_nothing_that_is_offered(
    cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the file goes first, and a client that asks is told that it is here."""
    digest = await _condemn(cleaning, b"about to go")
    cleaning.pass_time(cleaning.registry.rules.condemned_seconds)
    retire = blobs.retire

    def crash(tx: object, registry: Registry, *arguments: object) -> None:
        retire(tx, registry, *arguments)  # type: ignore[arg-type]
        raise RuntimeError("the process dies")

    monkeypatch.setattr(blobs, "retire", crash)
    await cleaning.sweeper.sweep()
    monkeypatch.undo()
    assert not cleaning.file(digest).exists()
    assert await cleaning.state(digest) == "condemned"
    with pytest.raises(BlobUnknown):
        await blobs.get_and_keep(cleaning.registry, REPOSITORY, digest)
    await cleaning.sweep_after(HOUR)
    assert await cleaning.state(digest) is None
    assert len(await cleaning.rows("SELECT 1 FROM trashed_blobs")) == 1


async def test_gitea_a_blob_that_comes_again_before_its_file_is_deleted_keeps_it(cleaning: Cleaning) -> None:
    """There rows go, and then files one by one: a file that came again meanwhile goes with them."""
    digest = await cleaning.blob(b"comes again")
    await cleaning.sweep_after(LONG)
    assert await cleaning.state(digest) is None
    assert len(cleaning.trash()) == 1
    other = image([b"comes again"])
    await cleaning.push(other, "latest")
    await cleaning.sweep_after(LONG)
    assert cleaning.trash() == []
    await cleaning.pull(other, "latest")


async def test_gitea_32053_untagged_images_go(cleaning: Cleaning) -> None:
    """There thousands of them stay (#21673, #20631)."""
    for number in range(20):
        await cleaning.push(image([b"%d" % number], config=b'{"n":%d}' % number), "latest")
    await cleaning.sweep_after(LONG)
    assert await cleaning.rows("SELECT count(*) FROM manifests") == [(1,)]


async def test_pulp_a_protection_time_of_nothing_makes_no_race(cleaning: Cleaning) -> None:
    """There a person who asks for that loses what is being pushed. So does `garbage-collect` on a live registry."""
    untagged = image([b"untagged"], config=b'{"untagged":1}')
    await cleaning.push(untagged)
    await cleaning.push(index([APP, ARM]), "latest")
    cleaning.pass_time(2 * DAY)
    new = image([b"new", b"another"], config=b'{"new":1}')
    for data in new.blobs:
        await cleaning.blob(data)
        await cleaning.sweeper.sweep_now(0)
    await cleaning.manifest(new, "new")
    await cleaning.sweeper.sweep_now(0)
    await cleaning.sweep_after(HOUR)
    await cleaning.pull(new, "new")
    await cleaning.pull(index([APP, ARM]), "latest")
    with pytest.raises(ManifestUnknown):
        await manifests.get(cleaning.registry, REPOSITORY, untagged.digest)
    assert {event.actor for event in await cleaning.events() if event.kind.endswith(".deleted")} == {SYSTEM.actor}
