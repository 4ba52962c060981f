"""What is not meant to be here any more: marked, in its grace, removed, and brought back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest

from homeport.client import remote
from homeport.kinds import Outcome
from homeport.mirror import brake, sightings
from homeport.registry import protections, restoring
from homeport.registry.protections import Use
from homeport.registry.retention import ImmutableTags, Retention
from homeport.testing import images
from tests.client.images import Image
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import DAY, Mirroring
from tests.mirror.upstream import Kind, Upstream
from tests.registry.world import ADA

APP = "team/app"
OURS = "app"
TAGS = [f"1.{number}" for number in range(8)]
GRACE = {"remove_after": "14d"}


@pytest.fixture
def found(upstream: Upstream, artifacts: Artifacts) -> dict[str, Image]:
    """What upstream has at the beginning."""
    return {tag: upstream.put(APP, artifacts.image(), tag) for tag in TAGS}


@pytest.fixture
def source(upstream: Upstream, found: dict[str, Image]) -> dict[str, object]:
    return {"source": f"{upstream.host}/{APP}", "target": OURS, "gone_upstream": GRACE}


async def nights(mirroring: Mirroring, count: int) -> None:
    """So many runs, a day apart; nothing is wrong with what is here after each of them."""
    for _ in range(count):
        mirroring.pass_time(DAY)
        await mirroring.run()
        await mirroring.check_everything()


async def left(mirroring: Mirroring) -> set[str]:
    return set(await mirroring.tags(OURS))


async def leaving(mirroring: Mirroring) -> dict[str, str]:
    rows = await mirroring.rows("SELECT tag, leaving FROM origins WHERE leaving IS NOT NULL")
    return dict(rows)


def without(tags: Iterable[str]) -> set[str]:
    return set(TAGS) - set(tags)


# --- upstream has it no more --------------------------------------------------------------------------------------


async def test_a_tag_that_is_missing_on_every_run_of_its_grace_goes_and_its_event_says_since_when(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    """Row S3: what the script deleted at once, by the absence of one answer."""
    mirroring.configure(source)
    await mirroring.run()
    upstream.untag(APP, "1.3")
    await nights(mirroring, 1)
    assert await leaving(mirroring) == {"1.3": "gone upstream"}
    (since,) = (await mirroring.rows("SELECT leaving_since FROM origins WHERE tag = '1.3'"))[0]
    await nights(mirroring, 13)
    assert await left(mirroring) == set(TAGS)
    await nights(mirroring, 1)
    assert await left(mirroring) == without(["1.3"])
    (event,) = await mirroring.told("tag.deleted")
    assert (event.repository, event.tag) == (OURS, "1.3")
    assert re.fullmatch(r"mirror: gone upstream since \S+Z", event.reason or "")
    assert (event.run or "").startswith("job-")
    assert since < event.happened_at - 14 * DAY
    assert await mirroring.rows("SELECT tag FROM origins WHERE tag = '1.3'") == []


async def test_it_stays_where_nobody_said_that_it_goes(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    mirroring.configure(source | {"gone_upstream": "keep"})
    await mirroring.run()
    upstream.untag(APP, "1.3")
    await nights(mirroring, 3)
    mirroring.pass_time(400 * DAY)
    summary = await mirroring.run()
    assert (summary.outcome, summary.counts["removed"]) == (Outcome.SUCCESS, 0)
    assert await left(mirroring) == set(TAGS)


async def test_a_long_run_does_not_end_the_grace_that_it_began(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    mirroring.configure(source | {"gone_upstream": {"remove_after": "1h"}})
    await mirroring.run()
    upstream.untag(APP, "1.3")
    upstream.put(APP, artifacts.image(), "2.0")
    upstream.upon(Kind.GET_BLOB, lambda: mirroring.pass_time(DAY))
    assert (await mirroring.run()).counts["removed"] == 0
    assert "1.3" in await left(mirroring)
    assert (await mirroring.run()).counts["removed"] == 1  # This one found it so, too, and more than an hour later.


async def test_a_tag_that_comes_back_is_as_if_it_had_never_been_away(
    mirroring: Mirroring, upstream: Upstream, found: dict[str, Image], source: dict[str, object]
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    upstream.untag(APP, "1.3")
    await nights(mirroring, 13)
    upstream.tag(APP, "1.3", found["1.3"].digest)
    await nights(mirroring, 1)
    assert await leaving(mirroring) == {}
    upstream.untag(APP, "1.3")
    await nights(mirroring, 14)
    assert "1.3" in await left(mirroring)
    await nights(mirroring, 1)
    assert "1.3" not in await left(mirroring)


async def test_it_comes_back_between_the_look_and_the_removal(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, found: dict[str, Image], source: dict[str, object]
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    upstream.untag(APP, "1.3")
    await nights(mirroring, 14)
    upstream.put(APP, artifacts.image(), "2.0")
    upstream.upon(Kind.GET_BLOB, lambda: upstream.tag(APP, "1.3", found["1.3"].digest))
    await nights(mirroring, 1)
    assert "1.3" in await left(mirroring)
    await nights(mirroring, 1)
    assert await leaving(mirroring) == {}


@pytest.mark.parametrize(
    "fault",
    [
        faults.status(500),
        faults.status(404, b"<html>no such page</html>"),
        faults.status(401),
        faults.html(),
        faults.half(),
        faults.items(lambda tags: None),
        faults.items(lambda tags: "1.0"),
        faults.items(lambda tags: [*tags, 7]),
        faults.items(lambda tags: tags[:2]),
        faults.items(lambda tags: tags[:-1]),
        faults.endless_pages(),
        faults.same_page(),
        faults.cut(10),
        faults.pull_limit(),
        faults.abuse_limit("3600"),
    ],
    ids=str,
)
async def test_a_list_that_is_not_whole_takes_nothing(
    mirroring: Mirroring,
    upstream: Upstream,
    source: dict[str, object],
    fault: faults.Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "PAGES_MAX", 30)
    mirroring.configure(source)
    await mirroring.run()
    upstream.fail(Kind.TAGS, fault)
    for _ in range(3):
        mirroring.pass_time(10 * DAY)
        summary = await mirroring.run()
        assert summary.counts["removed"] == 0
    assert await leaving(mirroring) == {}
    assert await left(mirroring) == set(TAGS)


async def test_a_tag_that_the_list_lacks_and_upstream_still_gives_is_there(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    upstream.fail(Kind.TAGS, faults.items(lambda tags: tags[1:]))
    await nights(mirroring, 16)
    assert await left(mirroring) == set(TAGS)
    assert await leaving(mirroring) == {}


async def test_a_tag_that_cannot_be_asked_for_is_not_gone(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    upstream.untag(APP, "1.3")
    upstream.fail(Kind.HEAD_MANIFEST, faults.status(500), of="1.3")
    await nights(mirroring, 16)
    assert await left(mirroring) == set(TAGS)
    assert await leaving(mirroring) == {}


# --- the brake ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [TAGS[:6], TAGS])
async def test_a_list_that_lost_too_much_is_not_believed_before_a_person_does_and_then_each_tag_has_its_whole_grace(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object], lost: list[str]
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    upstream.untag(APP, *lost)
    await nights(mirroring, 20)
    assert await left(mirroring) == set(TAGS)
    assert await leaving(mirroring) == {}
    stopped = await mirroring.told("mirror.stopped")
    assert len(stopped) == 20
    last = max(each.run for each in await mirroring.registry.db.read(brake.stopped))
    assert f"homeport mirror release {last}" in (stopped[-1].reason or "")
    await mirroring.registry.db.write(brake.release, mirroring.clock, ADA, last)
    await nights(mirroring, 14)
    assert await left(mirroring) == set(TAGS)
    assert (await leaving(mirroring)).keys() == set(lost)
    await nights(mirroring, 1)
    assert await left(mirroring) == without(lost)
    assert len(await mirroring.told("mirror.stopped")) == 20
    assert await mirroring.registry.db.read(brake.stopped) == []


async def test_a_release_is_for_what_was_seen_and_not_for_what_goes_later(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    upstream.untag(APP, *TAGS[:6])
    await nights(mirroring, 1)
    (stopped,) = await mirroring.registry.db.read(brake.stopped)
    await mirroring.registry.db.write(brake.release, mirroring.clock, ADA, stopped.run)
    upstream.untag(APP, *TAGS[6:])
    await nights(mirroring, 20)
    assert await left(mirroring) == set(TAGS)
    assert await leaving(mirroring) == {}


async def test_a_tag_that_upstream_gives_while_its_list_is_not_believed_is_back(
    mirroring: Mirroring, upstream: Upstream, found: dict[str, Image], source: dict[str, object]
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    upstream.untag(APP, "1.3")
    await nights(mirroring, 13)
    upstream.tag(APP, "1.3", found["1.3"].digest)
    upstream.fail(Kind.TAGS, faults.items(lambda tags: []))
    await nights(mirroring, 1)
    upstream.behave()
    upstream.untag(APP, "1.3")
    await nights(mirroring, 14)
    assert await left(mirroring) == set(TAGS)


async def test_what_stops_one_repository_stops_no_other_and_copying_goes_on(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    for tag in ("a", "b"):
        upstream.put("team/other", artifacts.image(), tag)
    other = {"source": f"{upstream.host}/team/other", "target": "other", "gone_upstream": GRACE}
    mirroring.configure(source, other)
    await mirroring.run()
    upstream.untag(APP, *TAGS[:7])
    upstream.put(APP, artifacts.image(), "3.0")
    upstream.untag("team/other", "a")
    await nights(mirroring, 15)
    assert await left(mirroring) == {*TAGS, "3.0"}
    assert set(await mirroring.tags("other")) == {"b"}


async def test_tags_that_are_kept_though_they_went_long_ago_do_not_stop_anything(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    mirroring.configure(source | {"gone_upstream": {"remove_after": "1000d"}})
    await mirroring.run()
    for tag in TAGS[:7]:
        upstream.untag(APP, tag)
        await nights(mirroring, 1)
    assert await mirroring.told("mirror.stopped") == []
    assert len(await leaving(mirroring)) == 7


# --- what keeps it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["use", "protected", "immutable", "unknown engine", "clock", "push"])
async def test_what_is_needed_stays(
    mirroring: Mirroring, upstream: Upstream, found: dict[str, Image], source: dict[str, object], by: str
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    upstream.untag(APP, "1.3")
    await nights(mirroring, 14)
    match by:
        case "use":
            use = Use("service web", "task", f"registry.lan/{OURS}:1.3", found["1.3"].digest)
            mirroring.rule(engines=("swarm",))
            await mirroring.registry.db.write(protections.report, mirroring.clock, "swarm", [use], 3)
        case "protected":
            mirroring.rule(retention=Retention(protected=(OURS,)))
        case "immutable":
            mirroring.rule(retention=Retention(immutable=(ImmutableTags("**"),)))
        case "unknown engine":
            mirroring.rule(engines=("swarm",))
        case "clock":
            mirroring.may_delete = False
        case "push":
            await mirroring.push(images.image([b"our own"]), "1.3", repository=OURS)
    await nights(mirroring, 5)
    assert await left(mirroring) == set(TAGS)
    assert await mirroring.told("tag.deleted") == []
    mirroring.may_delete = True
    mirroring.registry.rules = replace(mirroring.registry.rules, engines=(), retention=Retention())
    await mirroring.registry.db.write(protections.forget_engine, mirroring.clock, "swarm")
    await nights(mirroring, 1)
    assert await left(mirroring) == (set(TAGS) if by == "push" else without(["1.3"]))


async def test_what_was_removed_can_be_brought_back_and_is_then_ours(
    mirroring: Mirroring, upstream: Upstream, found: dict[str, Image], source: dict[str, object]
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    upstream.untag(APP, "1.3")
    await nights(mirroring, 15)
    assert "1.3" not in await left(mirroring)
    await restoring.restore_tag(mirroring.registry, ADA, OURS, "1.3", None)
    await nights(mirroring, 20)
    assert (await mirroring.tags(OURS))["1.3"] == found["1.3"].digest
    await mirroring.check_image(found["1.3"], OURS, "1.3")


# --- other reasons ------------------------------------------------------------------------------------------------


async def test_a_repository_that_is_gone_as_a_whole_has_its_own_key(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    mirroring.configure(source | {"gone_upstream": {"remove_after": "1h"}})
    await mirroring.run()
    upstream.remove(APP)
    await nights(mirroring, 20)
    assert await left(mirroring) == set(TAGS)
    assert set((await leaving(mirroring)).values()) == {"repository gone"}
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    mirroring.configure(source | {"gone_upstream": "keep", "repository_gone": {"remove_after": "30d"}})
    await nights(mirroring, 5)
    assert await left(mirroring) == set(TAGS)
    await nights(mirroring, 10)
    assert await left(mirroring) == set()


async def test_a_repository_of_a_pattern_that_the_catalog_lacks_is_asked_itself(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, found: dict[str, Image]
) -> None:
    upstream.put("team/other", artifacts.image(), "1")
    pattern = {"source": f"{upstream.host}/team/*", "target": "{name}", "repository_gone": GRACE}
    mirroring.configure(pattern)
    await mirroring.run()
    upstream.fail(Kind.CATALOG, faults.items(lambda names: names[:1], "repositories"))
    await nights(mirroring, 16)
    assert set(await mirroring.tags("other")) == {"1"}
    assert await leaving(mirroring) == {}
    upstream.behave()
    upstream.remove("team/other")
    await nights(mirroring, 15)
    assert await mirroring.tags("other") == {}
    assert await left(mirroring) == set(TAGS)


async def test_what_a_newer_version_takes_the_place_of_goes_where_unselected_says_so(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    newest = source | {"tags": {"newest": 3}}
    mirroring.configure(newest)
    await mirroring.run()
    assert await left(mirroring) == {"1.5", "1.6", "1.7"}
    upstream.put(APP, artifacts.image(), "1.8")
    await nights(mirroring, 16)
    assert await left(mirroring) == {"1.5", "1.6", "1.7", "1.8"}
    mirroring.configure(newest | {"unselected": {"remove_after": "20d"}})
    await nights(mirroring, 4)
    assert await left(mirroring) == {"1.5", "1.6", "1.7", "1.8"}
    await nights(mirroring, 1)
    assert await left(mirroring) == {"1.6", "1.7", "1.8"}


async def test_an_image_that_the_configuration_names_no_more(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    mirroring.configure(source)
    await mirroring.run()
    mirroring.configure()
    await nights(mirroring, 20)
    assert await left(mirroring) == set(TAGS)
    assert set((await leaving(mirroring)).values()) == {"dropped"}
    mirroring.configure(source, dropped={"remove_after": "60d"})  # Back again: it is meant.
    await nights(mirroring, 1)
    assert await leaving(mirroring) == {}
    mirroring.configure(dropped={"remove_after": "2d"})
    await nights(mirroring, 2)
    assert await left(mirroring) == set(TAGS)
    await nights(mirroring, 1)
    assert await left(mirroring) == set()


async def test_an_image_that_got_another_name_is_the_same(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    mirroring.configure(source | {"name": "before"}, dropped={"remove_after": "1h"})
    await mirroring.run()
    mirroring.configure(dropped={"remove_after": "10d"})
    await nights(mirroring, 10)
    mirroring.configure(source | {"name": "after"}, dropped={"remove_after": "10d"})
    await nights(mirroring, 3)
    assert await left(mirroring) == set(TAGS)
    assert await leaving(mirroring) == {}


async def test_an_image_that_comes_from_elsewhere_now_is_not_somebodys_push(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    mirroring.configure(source | {"name": "app"}, dropped={"remove_after": "1h"})
    await mirroring.run()
    moved = {tag: upstream.put("new/app", artifacts.image(), tag) for tag in TAGS[:4]}
    mirroring.configure(source | {"name": "app", "source": f"{upstream.host}/new/app"}, dropped=GRACE)
    summary = await mirroring.run()
    assert (summary.counts["copied"], summary.counts["theirs"]) == (4, 0)
    await nights(mirroring, 15)
    assert await mirroring.tags(OURS) == {tag: image.digest for tag, image in moved.items()}


async def test_what_one_rule_means_does_not_go_because_another_does_not_mean_it(
    mirroring: Mirroring, upstream: Upstream, source: dict[str, object]
) -> None:
    unselected = source | {"unselected": {"remove_after": "1h"}}
    mirroring.configure(unselected | {"name": "one"})
    await mirroring.run()
    one = unselected | {"name": "one", "tags": {"list": ["1.0"]}}
    mirroring.configure(one)
    await nights(mirroring, 1)
    assert (await leaving(mirroring)).keys() == without(["1.0"])
    mirroring.configure(one, unselected | {"name": "two", "tags": {"glob": ["1.*"], "not_match": [r"\.0$"]}})
    await nights(mirroring, 4)
    assert await left(mirroring) == set(TAGS)
    assert await leaving(mirroring) == {}
    upstream.fail(Kind.TAGS, faults.status(500))
    await nights(mirroring, 3)
    assert await left(mirroring) == set(TAGS)


async def test_two_images_that_want_one_tag_do_not_take_it_from_each_other(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object], found: dict[str, Image]
) -> None:
    upstream.put("other/app", artifacts.image(), "1.3", "9.0")
    mirroring.configure(source, {"source": f"{upstream.host}/other/app", "target": OURS})
    for _ in range(3):
        mirroring.pass_time(DAY)
        summary = await mirroring.run()
        assert summary.outcome is Outcome.PARTIAL
        (failure,) = summary.failures
        assert "give one of them another 'target'" in failure.why
    assert await left(mirroring) == {*TAGS, "9.0"}
    assert (await mirroring.tags(OURS))["1.3"] == found["1.3"].digest


async def test_a_run_of_one_image_removes_nothing_of_the_others_and_leaves_what_is_behind_of_them(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    upstream.put("team/other", artifacts.image(), "1")
    other = {"source": f"{upstream.host}/team/other", "target": "other", "name": "other"}
    mirroring.configure(source, other, dropped={"remove_after": "1h"})
    upstream.fail(Kind.GET_BLOB, faults.status(403), of=APP)
    await mirroring.run()
    behind = await mirroring.rows("SELECT tag, failure FROM mirror_copies ORDER BY tag")
    assert [tag for tag, _ in behind] == TAGS
    assert all("403" in failure for _, failure in behind)
    mirroring.pass_time(DAY)
    assert (await mirroring.run(name="other")).counts["unchanged"] == 1
    assert await mirroring.rows("SELECT tag, failure FROM mirror_copies ORDER BY tag") == behind
    upstream.behave()
    mirroring.configure(other)
    await mirroring.run()
    assert await mirroring.rows("SELECT tag FROM mirror_copies") == []


async def test_a_list_is_forgotten_when_nothing_rests_on_it(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, source: dict[str, object]
) -> None:
    async def forgotten() -> int:
        return await mirroring.registry.db.write(sightings.prune_lists, mirroring.clock.now() - 90 * DAY)

    # Of these nothing comes: it never grows old enough.
    others = [f"team/other-{number}" for number in range(3)]
    for repository in others:
        for tag in TAGS:
            upstream.put(repository, artifacts.image(), tag)
    young = [{"source": f"{upstream.host}/{repository}", "minimum_age": "900d"} for repository in others]
    mirroring.configure(source, *young)
    await mirroring.run()
    for tag in TAGS[1:]:
        upstream.untag(others[0], tag)
    assert (await mirroring.run()).failures[0].what == f"{upstream.host}/{others[0]}"
    mirroring.pass_time(89 * DAY)
    assert await forgotten() == 0
    mirroring.pass_time(2 * DAY)
    assert await forgotten() == 2
    assert await forgotten() == 0
    kept = await mirroring.rows("SELECT repository FROM upstream_lists ORDER BY repository")
    assert kept == [(APP,), (others[0],)]  # Something is here of the one, and a run has stopped at the other.
