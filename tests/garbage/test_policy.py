"""The retention policy applied to a registry: what is known of tags, and what is looked at again before one goes."""

import pytest

from homeport.events import Origin
from homeport.garbage import policy, totals
from homeport.garbage.policy import Brisk, Removal
from homeport.registry import tags
from homeport.registry.protections import Use, report
from homeport.registry.pulls import Pulls
from homeport.registry.retention import ImmutableTags, KeepRule, Retention
from homeport.testing.images import image, index
from tests.garbage.cleaning import DAY, LONG, Cleaning
from tests.registry.world import ADA, REPOSITORY

CHILD = image([b"layer one", b"layer two"])
BOTH = index([CHILD, image([b"another platform"])])
ONE, TWO, THREE = (image([b"base"], config=f'{{"n":{number}}}'.encode()) for number in range(3))
RUN = Origin("system", run="job-1")


def newest(count: int, **more: object) -> Retention:
    return Retention((KeepRule("team/**", newest=count),), **more)  # type: ignore[arg-type]


PULLED = Retention((KeepRule("team/**", pulled_within=DAY),))


async def pull(cleaning: Cleaning, reference: str) -> None:
    pulls = Pulls()
    pulls.note(REPOSITORY, reference, cleaning.clock.now())
    await pulls.flush(cleaning.registry)


async def removals(cleaning: Cleaning) -> list[Removal]:
    found, _ = await policy.removals(cleaning.registry, Brisk(cleaning.clock, lambda: False))
    return found


async def going(cleaning: Cleaning) -> list[str]:
    """The tags that no rule keeps."""
    return [f"{each.repository}:{tag.tag.name}" for each in await removals(cleaning) for tag in each.tags]


async def remove(cleaning: Cleaning, found: list[Removal], *, may: bool = True) -> int:
    async def may_go_on() -> bool:
        return may

    pace = Brisk(cleaning.clock, lambda: False)
    return await policy.remove(
        cleaning.registry, pace, RUN, found, cleaning.registry.rules.retention, cleaning.decided_at, may_go_on
    )


@pytest.fixture
async def decided(cleaning: Cleaning) -> list[Removal]:
    """Two tags of three that no rule keeps."""
    for number, each in enumerate((ONE, TWO, THREE)):
        await cleaning.push(each, f"v{number}")
        cleaning.pass_time(1)
    cleaning.pass_time(LONG)
    cleaning.rule(retention=newest(1))
    cleaning.decided_at = cleaning.clock.now()
    found = await removals(cleaning)
    assert [tag.tag.name for each in found for tag in each.tags] == ["v0", "v1"]
    cleaning.pass_time(1)
    return found


async def left(cleaning: Cleaning) -> list[str]:
    return await cleaning.registry.db.read(tags.names, REPOSITORY, "", 100) or []


# --- what is known ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["latest", BOTH.digest, CHILD.digest])
async def test_a_pull_of_the_tag_its_digest_or_a_child_counts(cleaning: Cleaning, reference: str) -> None:
    """docker asks for the tag with HEAD and gets the digest; who knows the index asks for a child alone."""
    await cleaning.push(BOTH, "latest")
    cleaning.rule(retention=PULLED)
    cleaning.pass_time(2 * DAY)
    assert await going(cleaning) == ["team/app:latest"]
    await pull(cleaning, reference)
    assert await going(cleaning) == []
    cleaning.pass_time(1.1 * DAY)
    assert await going(cleaning) == ["team/app:latest"]


async def test_a_tag_is_in_use_whose_image_or_any_part_of_it_is(cleaning: Cleaning) -> None:
    await cleaning.push(BOTH, "index")
    await cleaning.push(ONE, "config")
    await cleaning.push(TWO, "unused")
    await cleaning.push(BOTH, "index", repository="team/copy")
    config = next(part.digest for part in ONE.manifest.references if part.role.value == "config")
    uses = [
        Use("service web", "task", "registry.lan/team/app:index", CHILD.digest, node="node-2"),
        Use("container c", "container", "registry.lan/team/app:config", config, node="node-1"),
    ]
    await cleaning.registry.db.write(report, cleaning.clock, "swarm", uses, 2)
    cleaning.rule(retention=Retention((KeepRule("team/**", pushed_within=1.0),)))
    cleaning.pass_time(DAY)
    assert await going(cleaning) == ["team/app:unused"]
    judgement = await policy.judge(cleaning.registry, "team/copy")
    assert judgement is not None
    assert [each.reason for each in judgement.decisions] == ["service web runs it on node-2"]


async def test_a_companion_is_one_while_its_subject_is_here(cleaning: Cleaning) -> None:
    await cleaning.push(ONE, f"sha256-{CHILD.digest.encoded}.sig")
    cleaning.rule(retention=Retention((KeepRule("team/**", pushed_within=1.0),)))
    cleaning.pass_time(2)
    assert len(await going(cleaning)) == 1
    await cleaning.push(CHILD)
    assert await going(cleaning) == []


async def test_all_tags_are_counted_also_where_no_rule_is(cleaning: Cleaning) -> None:
    await cleaning.push(ONE, "a", "b")
    await cleaning.push(ONE, "a", "b", "c", repository="other")
    cleaning.rule(retention=newest(1))
    found, total = await policy.removals(cleaning.registry, Brisk(cleaning.clock, lambda: False))
    assert [(each.repository, each.total, len(each.tags)) for each in found] == [("team/app", 2, 1)]
    assert total == 5


async def test_a_protected_repository_loses_nothing(cleaning: Cleaning) -> None:
    await cleaning.push(ONE, "a", "b")
    cleaning.rule(retention=newest(1, protected=("team/*",)))
    assert await going(cleaning) == []


async def test_more_tags_than_a_page_are_all_read(cleaning: Cleaning) -> None:
    await cleaning.push(ONE, *(f"v{number}" for number in range(2 * policy.PAGE)))
    cleaning.rule(retention=newest(1))
    assert len(await going(cleaning)) == 2 * policy.PAGE - 1


# --- taking away ------------------------------------------------------------------------------------------------


async def test_tags_go_with_the_rule_in_the_audit_log(cleaning: Cleaning, decided: list[Removal]) -> None:
    assert await remove(cleaning, decided) == 2
    assert await left(cleaning) == ["v2"]
    told = [event for event in await cleaning.events() if event.kind == "tag.deleted"]
    assert [(event.tag, event.actor, event.run, event.reason) for event in told] == [
        (tag, "system", "job-1", "cleanup: no condition of team/** keeps it") for tag in ("v0", "v1")
    ]
    assert (await cleaning.registry.db.read(totals.since_last_told))["tags"] == 2
    assert await remove(cleaning, decided) == 0


async def test_what_was_pushed_again_stays(cleaning: Cleaning, decided: list[Removal]) -> None:
    await cleaning.manifest(ONE, "v0")
    await cleaning.manifest(THREE, "v1")
    assert await remove(cleaning, decided) == 0


@pytest.mark.parametrize("reference", ["v0", ONE.digest])
async def test_what_was_pulled_meanwhile_stays(cleaning: Cleaning, decided: list[Removal], reference: str) -> None:
    await pull(cleaning, reference)
    assert await remove(cleaning, decided) == 1
    assert await left(cleaning) == ["v0", "v2"]


async def test_what_is_used_meanwhile_stays(cleaning: Cleaning, decided: list[Removal]) -> None:
    use = Use("service web", "task", "registry.lan/team/app:v0", ONE.digest)
    await cleaning.registry.db.write(report, cleaning.clock, "swarm", [use], 2)
    assert await remove(cleaning, decided) == 1
    assert await left(cleaning) == ["v0", "v2"]


async def test_what_was_deleted_meanwhile_is_no_failure(cleaning: Cleaning, decided: list[Removal]) -> None:
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "v0")
    assert await remove(cleaning, decided) == 1


async def test_nothing_goes_any_more_once_the_rules_are_others_or_nothing_may(
    cleaning: Cleaning, decided: list[Removal]
) -> None:
    assert await remove(cleaning, decided, may=False) == 0
    retention = newest(1, immutable=(ImmutableTags("**", ("*",)),))

    async def change() -> bool:
        cleaning.rule(retention=retention)
        return True

    pace = Brisk(cleaning.clock, lambda: False)
    # The first batch is on its way when the rules change: what has become immutable is not touched all the same.
    assert (
        await policy.remove(
            cleaning.registry, pace, RUN, decided, cleaning.registry.rules.retention, cleaning.decided_at, change
        )
        == 0
    )
    assert await left(cleaning) == ["v0", "v1", "v2"]
