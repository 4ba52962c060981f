"""What engines told of what they run: it stays, and what ran last stays too."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.oci.digest import Digest
from homeport.registry import protections
from homeport.registry.protections import Protection, Use, merged
from homeport.testing.images import image
from tests.registry.world import HOUR, OTHER, REPOSITORY, World

A, B, C, D = (Digest.of(name.encode()) for name in "abcd")
ENGINE = "swarm"


def use(digest: Digest | None, used_by: str = "service web", **more: object) -> Use:
    """A task of a service, unless `more` says otherwise."""
    told = {"kind": "task", "image": "registry.lan/team/app:1", "node": "node-1", **more}
    return Use(used_by, digest=digest, **told)  # type: ignore[arg-type]


def container(name: str, digest: Digest, image_id: str = "", **more: object) -> Use:
    return use(digest, f"container {name}", kind="container", image_id=image_id or digest, **more)


async def report(world: World, *uses: Use, engine: str = ENGINE, keep_last: int = 2) -> None:
    """An engine tells, a minute after the last time."""
    world.pass_time(60)
    await world.registry.db.write(protections.report, world.clock, engine, uses, keep_last)


async def fail(world: World, why: str = "cannot connect", engine: str = ENGINE) -> None:
    world.pass_time(60)
    await world.registry.db.write(protections.failed, world.clock, engine, why)


async def reasons(world: World) -> dict[str, str]:
    return await world.registry.db.read(protections.reasons)


async def why(world: World, digest: str) -> str | None:
    found = await world.registry.db.read(protections.why, digest)
    assert found == (await reasons(world)).get(digest)
    view = {row[0] for row in await world.rows("SELECT digest FROM protected_digests")}
    assert (digest in view) == (found is not None)
    return found


async def kinds(world: World) -> list[str]:
    return [event.kind for event in await world.events()]


# --- what runs --------------------------------------------------------------------------------------------------


async def test_what_runs_is_protected_and_the_reason_names_who_runs_it(world: World) -> None:
    await report(
        world,
        use(A, kind="current", node=""),
        use(A),
        use(B, kind="previous", node=""),
        container("cache", C, node="node-2"),
    )
    assert await why(world, A) == "service web runs it on node-1"
    assert await why(world, B) == "service web can be rolled back to it"
    assert await why(world, C) == "container cache runs it on node-2"
    assert await why(world, D) is None
    assert await kinds(world) == []


async def test_a_service_that_has_no_task_yet_runs_it_all_the_same(world: World) -> None:
    await report(world, use(A, kind="current", node=""))
    assert await why(world, A) == "service web runs it"


async def test_nothing_is_protected_before_an_engine_told(world: World) -> None:
    assert await reasons(world) == {}
    assert await world.registry.db.read(protections.unknown_engines, [ENGINE, "other"]) == ["other", ENGINE]
    await fail(world)
    assert await world.registry.db.read(protections.unknown_engines, [ENGINE]) == [ENGINE]
    await report(world)
    assert await world.registry.db.read(protections.unknown_engines, [ENGINE]) == []
    await fail(world)
    assert await world.registry.db.read(protections.unknown_engines, [ENGINE]) == []


async def test_two_engines_protect_the_same_digest_each_for_itself(world: World) -> None:
    await report(world, use(A), engine="one")
    await report(world, use(A, "service web", node="node-9"), engine="two")
    await world.registry.db.write(protections.forget_engine, world.clock, "one")
    assert await why(world, A) == "service web runs it on node-9"
    await world.registry.db.write(protections.forget_engine, world.clock, "two")
    assert await why(world, A) is None


async def test_an_answer_that_changes_nothing_writes_the_engine_alone(world: World) -> None:
    told = [use(A), use(B, kind="previous", node=""), container("cache", C, stopped_at=5.0)]
    await report(world, *told)
    before = await world.rows("SELECT * FROM protections ORDER BY digest")
    await report(world, *told)
    assert await world.rows("SELECT * FROM protections ORDER BY digest") == before
    (listed, *_) = await world.registry.db.read(protections.listed)
    assert listed.protection.digest == C


# --- what ran ---------------------------------------------------------------------------------------------------


async def test_what_ran_last_stays(world: World) -> None:
    for digest in (A, B, C, D):
        await report(world, use(digest))
    assert await why(world, A) is None
    assert (await why(world, B) or "").startswith("service web ran it on node-1 (last seen 2")
    assert await why(world, C)
    assert await why(world, D) == "service web runs it on node-1"


@pytest.mark.parametrize(("keep_last", "kept"), [(0, {D}), (1, {C, D}), (3, {A, B, C, D})])
async def test_as_many_stay_as_the_configuration_keeps(world: World, keep_last: int, kept: set[str]) -> None:
    for digest in (A, B, C, D):
        await report(world, use(digest), keep_last=keep_last)
    assert set(await reasons(world)) == kept


async def test_each_service_has_its_own_last(world: World) -> None:
    await report(world, use(A), use(B, "service db"))
    await report(world, use(C), use(B, "service db"))
    await report(world, use(D))
    assert set(await reasons(world)) == {A, B, C, D}


async def test_what_runs_again_is_not_counted_as_having_run(world: World) -> None:
    for digest in (A, B, A, B, C, A):
        await report(world, use(digest))
    assert set(await reasons(world)) == {A, B, C}
    states = [each.state for each in await world.registry.db.read(protections.listed)]
    assert sorted(states) == ["ran", "ran", "runs"]


async def test_an_image_counts_once_however_many_digests_it_has(world: World) -> None:
    index, manifest = Digest.of(b"index"), Digest.of(b"manifest")
    await report(world, container("cache", A, "1"), container("cache", index, "1"), container("cache", manifest, "1"))
    await report(world, container("cache", B, "2"))
    await report(world, container("cache", C, "3"))
    assert set(await reasons(world)) == {A, index, manifest, B, C}
    await report(world, container("cache", D, "4"))
    assert set(await reasons(world)) == {B, C, D}


async def test_when_it_last_ran_is_when_the_engine_last_told_so(world: World) -> None:
    await report(world, use(A))
    seen = world.clock.now()
    world.pass_time(10 * HOUR)
    await report(world)
    (listed,) = await world.registry.db.read(protections.listed)
    assert listed.state == "ran"
    assert abs(listed.last_seen_at - seen) < 5


async def test_what_is_stopped_stays_as_what_ran(world: World) -> None:
    await report(world, container("cache", A, stopped_at=1_000.0))
    assert await why(world, A) == "container cache ran it on node-1 (last seen 1970-01-01T00:16:40Z)"
    await report(world, container("cache", A))
    assert await why(world, A) == "container cache runs it on node-1"
    await report(world, container("cache", A, stopped_at=1_000.0))
    assert "1970" not in (await why(world, A) or "1970"), "it was seen to run a minute ago"


async def test_a_container_from_the_future_was_not_last_seen_there(world: World) -> None:
    await report(world, container("cache", A, stopped_at=4e12))
    (listed,) = await world.registry.db.read(protections.listed)
    assert listed.last_seen_at <= world.clock.now()


async def test_containers_with_names_of_their_own_do_not_pile_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protections, "RAN_MAX", 3)
    await report(world, use(A))
    for number in range(10):
        await report(world, container(f"run-{number}", Digest.of(bytes([number]))))
    await report(world)
    expected = {A, *(Digest.of(bytes([number])) for number in (7, 8, 9))}
    assert set(await reasons(world)) == expected, "and they do not push out what a service ran"


# --- engines that do not answer ---------------------------------------------------------------------------------


async def test_an_engine_that_does_not_answer_takes_nothing_away(world: World) -> None:
    await report(world, use(A), use(B, kind="previous", node=""))
    for hours in range(100):
        world.pass_time(hours * HOUR)
        await fail(world, f"cannot connect, try {hours}")
    assert set(await reasons(world)) == {A, B}
    assert (await why(world, A) or "").startswith("service web ran it on node-1 (last seen 2")
    assert (await why(world, A) or "").endswith("since when engine swarm has not answered)")
    assert (await why(world, B) or "").startswith("service web could be rolled back to it (last seen 2")
    (state,) = await world.registry.db.read(protections.engines)
    assert state.failure == "cannot connect, try 99"
    assert state.failing_since is not None
    assert state.failing_since < world.clock.now() - 4000 * HOUR
    await report(world, use(A))
    assert await why(world, A) == "service web runs it on node-1"
    assert (await why(world, B) or "").startswith("service web could be rolled back to it (last seen 2")


async def test_what_runs_is_told_before_what_is_not_known_to_run(world: World) -> None:
    await report(world, use(A, "service a"), engine="dead")
    await fail(world, engine="dead")
    await report(world, use(A, "service b", kind="previous", node=""), engine="alive")
    assert await why(world, A) == "service b can be rolled back to it"


async def test_an_event_tells_that_an_engine_fails_and_that_it_answers_again(world: World) -> None:
    await report(world, use(A))
    await fail(world, "one")
    await fail(world, "one")
    await fail(world, "two")
    await report(world, use(A))
    await report(world, use(A))
    assert await kinds(world) == ["engine.unreachable", "engine.reachable"]
    assert [event.reason for event in await world.events()] == ["swarm: one", "swarm"]


async def test_what_is_taken_out_of_the_configuration_protects_nothing(world: World) -> None:
    await report(world, use(A), engine="one")
    await report(world, use(B), engine="two")
    await world.registry.db.write(protections.sync, world.clock, {"two", "three"})
    assert set(await reasons(world)) == {B}
    assert await kinds(world) == ["engine.forgotten"]
    await world.registry.db.write(protections.forget_engine, world.clock, "never")
    assert await kinds(world) == ["engine.forgotten"]


async def test_it_is_there_after_a_restart(durable: World) -> None:
    await report(durable, use(A))
    await durable.restart()
    assert await why(durable, A) == "service web runs it on node-1"


# --- tags -------------------------------------------------------------------------------------------------------


async def test_what_is_named_by_a_tag_is_what_the_tag_is_and_was(world: World) -> None:
    one, two, three = image([b"one"]), image([b"two"]), image([b"three"])
    named = use(None, image="10.0.0.1:5000/team/app:stable")
    await report(world, named)
    assert await reasons(world) == {}
    for pushed in (one, two, three):
        await world.push(pushed, "stable")
        await world.push(pushed, "stable", repository=OTHER)
        await report(world, named, keep_last=0)
    assert set(await reasons(world)) == {one.digest, two.digest, three.digest}
    await report(world, use(three.digest), keep_last=1)
    assert len(await reasons(world)) == 2


async def test_a_tag_that_moves_for_ever_protects_what_is_newest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protections, "NAMED_MAX", 2)
    images = [image([bytes([number])]) for number in range(4)]
    for pushed in images:
        await world.push(pushed, "latest")
        await report(world, use(None, image=f"registry.lan/{REPOSITORY}"), keep_last=0)
    assert set(await reasons(world)) == {images[-1].digest, images[-2].digest}


async def test_a_large_swarm_that_names_images_by_tags_holds_up_nobody(world: World) -> None:
    await world.push(image([b"layer"]), "1")
    uses = [use(None, f"service {number}") for number in range(5_000)]
    await report(world, *uses)
    began = time.monotonic()
    await report(world, *uses)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("name", ["", "/", "UPPER/Case", "a:b:c", "sha256:" + "a" * 64, "\u2603", "a" * 500])
async def test_a_name_that_cannot_be_ours_protects_nothing(world: World, name: str) -> None:
    await report(world, use(None, image=name), use(A))
    assert set(await reasons(world)) == {A}


# --- the decision -----------------------------------------------------------------------------------------------

DIGESTS = st.sampled_from((A, B, C, D))
USES = st.lists(
    st.builds(
        use,
        DIGESTS,
        st.sampled_from(("service web", "service db")),
        kind=st.sampled_from(("current", "previous", "task", "container")),
        node=st.sampled_from(("", "node-1", "node-2")),
        stopped_at=st.sampled_from((None, None, 10.0, 20.0)),
    ),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(USES, max_size=6), st.integers(0, 3))
def test_whatever_is_told_what_runs_is_protected_and_the_last_that_ran(told: list[list[Use]], keep_last: int) -> None:
    held: list[Protection] = []
    for now, uses in enumerate(told, start=1_000):
        before = held
        held = list(merged(before, uses, keep_last, now - 1, now).values())
        runs = {(each.used_by, each.digest) for each in uses if each.stopped_at is None}
        assert runs == {(each.used_by, each.digest) for each in held if each.last_seen_at is None}
        for user in ("service web", "service db"):
            ran_out = {each.digest for each in before if each.used_by == user and each.last_seen_at is None} - {
                digest for used_by, digest in runs if used_by == user
            }
            kept = {each.digest for each in held if each.used_by == user}
            assert len(ran_out & kept) >= min(len(ran_out), keep_last), "what ran a moment ago is the last that ran"
            ran = {each.digest for each in held if each.used_by == user and each.last_seen_at is not None}
            assert len(ran) <= 2 * keep_last
        again = merged(held, uses, keep_last, now, now + 1)
        assert {each.key: replace(each) for each in held} == again, "the same answer changes nothing"
