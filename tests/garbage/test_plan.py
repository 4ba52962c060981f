"""What a plan says is what a run, a sweep and a purge do."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.events import SYSTEM
from homeport.garbage import plan, policy
from homeport.garbage.plan import Plan
from homeport.registry import manifests, tags
from homeport.registry.protections import Use, report
from homeport.registry.retention import ImmutableTags, KeepRule, Retention
from homeport.testing.images import Image, image, index
from tests.garbage.cleaning import DAY, LONG, Cleaning
from tests.registry.world import ADA, OTHER, REPOSITORY

APP = image([b"layer one", b"layer two"])
SIGNATURE = image([b"signed"], config=b'{"signature":1}', subject=APP)


def numbered(number: int, *layers: bytes) -> Image:
    return image([b"base", *layers], config=f'{{"number":{number}}}'.encode())


def size_of(*images: Image) -> int:
    """The bytes of these images, what they share counted once."""
    found = {blob: len(blob) for each in images for one in each.walk() for blob in (*one.blobs, one.data)}
    return sum(found.values())


def newest(count: int, repositories: str = "team/**", **more: object) -> Retention:
    return Retention((KeepRule(repositories, newest=count),), **more)  # type: ignore[arg-type]


async def made(cleaning: Cleaning, **more: object) -> Plan:
    return await plan.plan(cleaning.registry, **more)  # type: ignore[arg-type]


async def test_shared_layers_are_counted_once_and_not_while_another_image_needs_them(cleaning: Cleaning) -> None:
    images = [numbered(1), numbered(2), numbered(3)]
    for number, each in enumerate(images):
        await cleaning.push(each, f"v{number}")
        cleaning.pass_time(1)
    cleaning.rule(retention=newest(1))
    found = await made(cleaning)
    assert (found.tags, found.tags_going) == (3, 2)
    assert found.in_all.bytes == size_of(*images) - size_of(images[2])
    assert found.at_once.bytes == 0
    (told,) = found.repositories
    assert [(group.reason, group.count, group.tags) for group in told.goes] == [
        ("no condition of team/** keeps it", 2, ["v0", "v1"])
    ]
    assert [(group.reason, group.tags) for group in told.stays] == [("newest 1 of team/app", ["v2"])]


async def test_bytes_that_another_repository_links_do_not_come_back(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "old")
    await cleaning.push(APP, "old", repository="other")
    await cleaning.push(numbered(1), "new")
    cleaning.rule(retention=newest(1))
    assert (await made(cleaning)).in_all.bytes == 0
    cleaning.rule(retention=Retention((KeepRule("**", tags=("old",), pushed_within=1.0),)))
    cleaning.pass_time(2)
    assert (await made(cleaning)).in_all.bytes == size_of(APP)
    assert (await made(cleaning, matching="other")).in_all.bytes == 0


async def test_what_goes_by_itself_and_when(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    cleaning.pass_time(3 * DAY)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    lost = cleaning.clock.now()
    stray = await cleaning.blob(b"of a push that died")
    cleaning.pass_time(2 * DAY)
    found = await made(cleaning)
    (told,) = found.repositories
    (blob, manifest) = told.unreferenced
    assert (blob.digest, blob.is_manifest, blob.size) == (stray, False, 19)
    assert blob.at < found.at
    assert (manifest.digest, manifest.is_manifest) == (APP.digest, True)
    assert abs(manifest.since - lost) < 5
    assert abs(manifest.at - (lost + 7 * DAY)) < 5
    assert told.unreferenced_count == 2  # Its layers go with it and are no lines of their own.
    assert (found.at_once.manifests, found.at_once.blobs, found.at_once.bytes) == (0, 1, 19)
    assert (found.in_all.manifests, found.in_all.blobs, found.in_all.bytes) == (1, 4, size_of(APP) + 19)


async def test_a_shorter_grace_lets_go_at_once_but_for_promises(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    assert (await made(cleaning, untagged_seconds=0.0)).at_once.bytes == 0
    cleaning.pass_time(1.1 * DAY)
    assert (await made(cleaning)).at_once.bytes == 0
    assert (await made(cleaning, untagged_seconds=0.0)).at_once.bytes == size_of(APP)


async def test_blobs_that_nothing_links_already_come_back_too(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "latest")
    cleaning.pass_time(2 * DAY)
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, APP.digest)
    found = await made(cleaning)
    assert found.in_all.bytes == size_of(APP)
    assert found.at_once.bytes == len(APP.data)


async def test_signatures_go_with_their_subject_and_are_one_group(cleaning: Cleaning) -> None:
    await cleaning.push(APP, "v1")
    signature = image([b"another"], config=b'{"signature":2}')
    await cleaning.push(SIGNATURE)
    await cleaning.push(signature, f"sha256-{APP.digest.encoded}.sig")
    cleaning.pass_time(1)
    await cleaning.push(numbered(1), "v2")
    cleaning.rule(retention=newest(1))
    found = await made(cleaning)
    (told,) = found.repositories
    reasons = {group.reason: group.count for group in told.stays}
    assert reasons == {"signatures and attestations, which go with what they belong to": 1, "newest 1 of team/app": 1}
    assert found.in_all.bytes == size_of(APP, SIGNATURE, signature)


async def test_what_is_used_and_what_is_protected_is_not_counted(cleaning: Cleaning) -> None:
    both = index([APP, numbered(2)])
    await cleaning.push(both, "used")
    await cleaning.push(numbered(1), "unused")
    await cleaning.push(numbered(1), "unused", repository="safe")
    use = Use("service web", "task", f"registry.lan/{REPOSITORY}:used", APP.digest, node="node-2")
    await cleaning.registry.db.write(report, cleaning.clock, "swarm", [use], 2)
    cleaning.rule(retention=Retention((KeepRule("**", pushed_within=1.0),), protected=("safe",)))
    cleaning.pass_time(LONG)
    found = await made(cleaning)
    safe, told = found.repositories
    assert (safe.protected_by, safe.tags_going) == ("safe", 0)
    assert [(group.reason, group.tags) for group in told.stays] == [("service web runs it on node-2", ["used"])]
    assert found.tags_going == 1
    assert found.in_all.bytes == 0  # The other repository has the same image.
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "used")
    assert (await made(cleaning)).repositories[1].unreferenced_count == 0


async def test_only_the_first_names_are_listed_unless_all_are_wanted(cleaning: Cleaning) -> None:
    for number in range(12):
        await cleaning.push(numbered(0), f"v{number:02}")
    (told,) = (await made(cleaning)).repositories
    (group,) = told.stays
    assert (group.reason, group.count, len(group.tags)) == ("no rule is about it", 12, plan.LISTED)
    (told,) = (await made(cleaning, listed=100)).repositories
    assert len(told.stays[0].tags) == 12


async def test_uploads_that_do_not_move_are_listed(cleaning: Cleaning) -> None:
    await cleaning.start()
    assert (await made(cleaning)).uploads == []
    cleaning.pass_time(2 * 3600)
    (upload,) = (await made(cleaning)).uploads
    assert (upload.repository, upload.actor) == (REPOSITORY, ADA.actor)


async def test_many_tags_are_decided_about_in_a_thread(cleaning: Cleaning) -> None:
    await cleaning.push(APP, *(f"v{number}" for number in range(policy.DECIDED_AT_ONCE + 1)))
    cleaning.rule(retention=newest(policy.DECIDED_AT_ONCE))
    assert (await made(cleaning)).tags_going == 1


# --- whatever a registry holds ----------------------------------------------------------------------------------

LAYERS = [b"a", b"bb", b"ccc", b"dddd"]
NAMES = ["v1", "v2", "v3", "keep"]

some_layers = st.lists(st.sampled_from(LAYERS), max_size=3, unique=True)
images = st.builds(lambda layers, number: numbered(number, *layers), some_layers, st.integers(0, 3))
indexes = st.builds(index, st.lists(images, min_size=1, max_size=2, unique_by=lambda each: each.digest))
signed = st.builds(
    lambda subject, layers: image(layers, config=b'{"signed":1}', subject=subject),
    st.one_of(images, indexes),
    some_layers,
)
pushes = st.tuples(
    st.sampled_from([REPOSITORY, OTHER]),
    st.one_of(images, indexes, signed),
    st.one_of(st.none(), st.sampled_from(NAMES), st.just("signature")),
)


async def push_all(cleaning: Cleaning, wanted: list[tuple[str, Image, str | None]]) -> None:
    for number, (repository, each, name) in enumerate(wanted):
        tag = f"sha256-{wanted[number - 1][1].digest.encoded}.sig" if name == "signature" else name
        await cleaning.push(each, *([tag] if tag else []), repository=repository)
        cleaning.pass_time(10)


async def bytes_held(cleaning: Cleaning) -> int:
    return sum([size async for _, _, size in cleaning.registry.blobs.blobs()])


async def check_bytes(wanted: list[tuple[str, Image, str | None]], retention: Retention) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cleaning = Cleaning(Path(folder) / "data")
        try:
            await cleaning.guard.stopped()
            await push_all(cleaning, wanted)
            cleaning.rule(retention=retention)  # Not before: a tag that never changes could not be pushed twice.
            cleaning.pass_time(2 * DAY)
            found = await made(cleaning)
            before = await bytes_held(cleaning)
            removals, total = await policy.removals(cleaning.registry, policy.Brisk(cleaning.clock, lambda: False))

            async def may_go_on() -> bool:
                return True

            pace = policy.Brisk(cleaning.clock, lambda: False)
            now = cleaning.clock.now()
            removed = await policy.remove(
                cleaning.registry, pace, SYSTEM, removals, cleaning.registry.rules.retention, now, may_go_on
            )
            assert (total, removed) == (found.tags, found.tags_going)
            for _ in range(3):  # As deep as an index with its signature.
                cleaning.pass_time(LONG)
                await cleaning.guard.stopped()
                await cleaning.walk()
                await cleaning.sweep()
            cleaning.pass_time(LONG)
            await cleaning.sweep()
            assert cleaning.trash() == []
            assert before - await bytes_held(cleaning) == found.in_all.bytes
        finally:
            await cleaning.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(pushes, max_size=7),
    st.integers(1, 3),
    st.sampled_from(["team/**", OTHER]),
    st.booleans(),
)
def test_the_bytes_of_a_plan_are_those_that_come_back(
    wanted: list[tuple[str, Image, str | None]], count: int, repositories: str, immutable: bool
) -> None:
    never = (ImmutableTags("**", ("keep", "sha256-*")),) if immutable else ()
    asyncio.run(check_bytes(wanted, newest(count, repositories, immutable=never)))
