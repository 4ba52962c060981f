"""Which tags stay, and why: examples as people write them, and what holds for any rules and tags."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci import patterns
from homeport.oci.digest import Digest
from homeport.registry.retention import (
    Decision,
    ImmutableTags,
    KeepRule,
    Retention,
    Tagged,
    decide,
    immutable_by,
    protected_by,
    untagged_seconds,
)

DAY = 86400.0
NOW = 1_000 * DAY
ONE = Digest.of(b"one")
REPOSITORY = "team/api"


def tag(name: str, days: float = 100, **more: object) -> Tagged:
    """A tag that was pushed so many days ago."""
    return Tagged(name, ONE, NOW - days * DAY, **more)  # type: ignore[arg-type]


def decided(tags: Iterable[Tagged], *keep: KeepRule, repository: str = REPOSITORY, **more: object) -> list[Decision]:
    return decide(Retention(keep, **more), repository, tags, NOW)  # type: ignore[arg-type]


def rule_for(retention: Retention, repository: str, name: str) -> KeepRule | None:
    """The rule that decides about a tag of this name, if it is no signature or attestation."""
    (only,) = decide(retention, repository, [tag(name)], NOW)
    return only.rule


def reasons(tags: Iterable[Tagged], *keep: KeepRule, **more: object) -> dict[str, str]:
    """Why each of the tags stays; those that go are left out."""
    found = decided(tags, *keep, **more)  # type: ignore[arg-type]
    return {each.tag.name: each.reason for each in found if each.keeps}


def versions(text: str, days: float = 100) -> list[Tagged]:
    return [tag(name, days) for name in text.split()]


def stay(tags: str, rule: KeepRule) -> str:
    return " ".join(reasons(versions(tags), rule))


# --- the conditions ---------------------------------------------------------------------------------------------


def test_without_rules_everything_stays() -> None:
    assert reasons([tag("a", 9999)]) == {"a": "no rule is about it"}


def test_the_newest() -> None:
    rule = KeepRule("team/**", newest=2)
    (a, b, c) = decided([tag("c", 3), tag("b", 1), tag("a", 2)], rule)
    assert (a.keeps, a.reason, a.rule) == (True, "newest 2 of team/api", rule)
    assert (b.keeps, b.reason) == (True, "newest 2 of team/api")
    assert (c.keeps, c.reason, c.rule) == (False, "no condition of team/** keeps it", rule)


def test_tags_that_were_pushed_together_are_counted_by_name() -> None:
    assert list(reasons(versions("d b a c"), KeepRule("**", newest=2))) == ["a", "b"]


def test_two_tags_of_one_manifest_are_decided_each_on_its_own() -> None:
    found = decided([tag("latest", 1), tag("old", 2)], KeepRule("**", newest=1))
    assert {each.tag.name: each.keeps for each in found} == {"latest": True, "old": False}


@pytest.mark.parametrize(
    ("tags", "count", "expected"),
    [
        ("1.4.0 1.4.1 1.4.2 1.5.0", 1, "1.4.2 1.5.0"),
        ("1.4.9 1.4.10 1.4.11", 2, "1.4.10 1.4.11"),
        # each variant, and each precision, is a series of its own
        ("1.4.1 1.4.2 1.4.1-alpine 1.4.0-alpine 1.4 1", 1, "1 1.4 1.4.1-alpine 1.4.2"),
        # what names the same version stays together
        ("1.4.1 v1.4.1 1.4.0", 1, "1.4.1 v1.4.1"),
        # a pre-release takes no release's place, and stays only while it is among the newest
        ("1.4.0 1.4.1 1.4.2-rc.1", 1, "1.4.1 1.4.2-rc.1"),
        ("1.4.0-rc.9 1.4.0-rc.10 1.4.0", 1, "1.4.0"),
        ("1.4.0-rc.9 1.4.0-rc.10", 1, "1.4.0-rc.10"),
        ("latest main", 5, ""),
    ],
)
def test_the_newest_of_each_minor(tags: str, count: int, expected: str) -> None:
    assert stay(tags, KeepRule("**", newest_of_minor=count)) == expected


def test_pushed_within() -> None:
    rule = KeepRule("team/**", pushed_within=30 * DAY)
    found = reasons([tag("a", 29), tag("b", 30), tag("c", 31), tag("tomorrow", -1)], rule)
    assert found == dict.fromkeys(["a", "b", "tomorrow"], "pushed within 30 days (team/**)")


def test_pulled_within() -> None:
    rule = KeepRule("team/**", pulled_within=12 * 3600)
    tags = [
        tag("a", pulled_at=NOW - 3600),
        tag("b", pulled_at=NOW - DAY),
        tag("c", 0.25),
        tag("d", 1),
        tag("e", 0.25, pulled_at=NOW - DAY),
    ]
    assert reasons(tags, rule) == {
        "a": "pulled within 12 hours (team/**)",
        "c": "pushed within 12 hours and not pulled yet (team/**)",
    }


def test_always_kept() -> None:
    rule = KeepRule("team/**", always=("latest", "release-*"))
    assert reasons(versions("latest latest2 release-1 x"), rule) == {
        "latest": "always kept: latest (team/**)",
        "release-1": "always kept: release-* (team/**)",
    }


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(DAY, "1 day"), (36 * 3600, "36 hours"), (5400, "90 minutes"), (1, "1 second"), (0.5, "0.5 seconds")],
)
def test_spans(seconds: float, words: str) -> None:
    assert reasons([tag("a", 0)], KeepRule("**", pushed_within=seconds)) == {"a": f"pushed within {words} (**)"}


# --- which rule decides -----------------------------------------------------------------------------------------


def test_the_longest_pattern_decides() -> None:
    everything = KeepRule("**", newest=100)
    team = KeepRule("team/**", newest=1)
    api = KeepRule("team/api", always=("b",))
    retention = Retention((everything, team, api))
    assert rule_for(retention, "other", "a") == everything
    assert rule_for(retention, "team/web", "a") == team
    assert rule_for(retention, REPOSITORY, "a") == api
    assert list(reasons(versions("a b c"), everything, team, api)) == ["b"]


def test_of_patterns_that_are_as_long_the_first_decides() -> None:
    one, other = KeepRule("team/*", newest=1), KeepRule("team/**", newest=2)
    assert rule_for(Retention((one, other)), REPOSITORY, "a") == one
    assert rule_for(Retention((other, one)), REPOSITORY, "a") == other


def test_rules_can_be_about_some_tags() -> None:
    releases = KeepRule("team/**", tags=("v*", "release-*"), not_tags=("*-rc*",), newest=1)
    others = KeepRule("**", newest=1)
    found = decided([tag("v1", 9), tag("v2", 8), tag("v3-rc", 7), tag("x", 6)], releases, others)
    assert [(each.tag.name, each.keeps, each.rule) for each in found] == [
        ("v1", False, releases),
        ("v2", True, releases),
        ("v3-rc", False, others),
        ("x", True, others),
    ]


def test_a_rule_about_untagged_manifests_alone_decides_about_no_tag() -> None:
    team, api = KeepRule("team/**", newest=1), KeepRule("team/api", untagged_after=DAY)
    assert reasons([tag("a", 2), tag("b", 1)], team, api) == {"b": "newest 1 of team/api"}
    assert reasons([tag("a")], api) == {"a": "no rule is about it"}


def test_how_long_what_is_untagged_stays() -> None:
    retention = Retention(
        (
            KeepRule("**", newest=1, untagged_after=1.0),
            KeepRule("team/**", newest=1),
            KeepRule("team/**", tags=("v*",), newest=1, untagged_after=2.0),
            KeepRule("team/web", newest=1),
        )
    )
    assert untagged_seconds(retention, "other", 7.0) == 1.0
    assert untagged_seconds(retention, REPOSITORY, 7.0) == 2.0
    assert untagged_seconds(retention, "team/web", 7.0) == 7.0
    assert untagged_seconds(Retention(), "other", 7.0) == 7.0
    assert untagged_seconds(Retention((KeepRule("*", newest=1, untagged_after=0.0),)), "other", 7.0) == 0.0


# --- what no rule takes away ------------------------------------------------------------------------------------

NOTHING = KeepRule("**", always=("none",))


def test_what_is_in_use_stays() -> None:
    used = tag("a", in_use="service web_api runs it on node-2")
    found = decided([used, tag("b")], NOTHING)
    assert [(each.keeps, each.reason) for each in found] == [
        (True, "service web_api runs it on node-2"),
        (False, "no condition of ** keeps it"),
    ]


def test_what_is_immutable_stays() -> None:
    immutable = (ImmutableTags("team/**", ("x", "v*"), ("v*-rc*",)), ImmutableTags("other", ("*",)))
    assert reasons(versions("v1 v1-rc1 latest"), NOTHING, immutable=immutable) == {"v1": "immutable: v* (team/**)"}
    retention = Retention(immutable=immutable)
    assert immutable_by(retention, REPOSITORY, "v1") == "v* (team/**)"
    assert immutable_by(retention, REPOSITORY, "latest") is None
    assert immutable_by(retention, "other", "latest") == "* (other)"


def test_a_protected_repository_keeps_everything() -> None:
    protected = ("prod/**", "team/a*")
    assert reasons(versions("a b"), NOTHING, protected=protected) == dict.fromkeys(
        ["a", "b"], "protected repository (team/a*)"
    )
    assert reasons(versions("a b"), NOTHING, protected=protected, repository="team/web") == {}
    assert protected_by(Retention(protected=protected), "prod/web") == "prod/**"
    assert protected_by(Retention(protected=protected), "web") is None


def test_signatures_are_neither_decided_about_nor_counted() -> None:
    signature = tag("sha256-0.sig", 0, companion_of=ONE)
    found = decided([signature, tag("a", 1), tag("b", 2)], KeepRule("**", newest=1))
    assert [(each.tag.name, each.keeps, each.rule is None) for each in found] == [
        ("a", True, False),
        ("b", False, False),
        ("sha256-0.sig", True, True),
    ]
    assert found[2].reason == f"belongs to {ONE} and goes when that does"


# --- what holds for any rules and tags --------------------------------------------------------------------------

NAMES = ["latest", "main", "v1", "1.0", "1.0.0", "1.0.1", "1.0.2", "1.0.3-rc.1", "1.1.0", "1.1.0-alpine", "release-1"]
GLOB = st.sampled_from(["*", "v*", "1.*", "release-?", "*-rc*", "latest"])
GLOBS = st.lists(GLOB, max_size=2).map(tuple)
COUNTS = st.none() | st.integers(1, 4)
SPANS = st.none() | st.sampled_from([DAY, 3 * DAY, 10 * DAY])
MOMENTS = st.integers(0, 12).map(lambda days: NOW - days * DAY)
KEEP_RULES = st.builds(
    KeepRule,
    repositories=st.sampled_from(["**", "team/*", "team/**", "team/api", "other/**"]),
    tags=st.lists(GLOB, min_size=1, max_size=2).map(tuple),
    not_tags=GLOBS,
    newest=COUNTS,
    newest_of_minor=COUNTS,
    pushed_within=SPANS,
    pulled_within=SPANS,
    always=GLOBS,
)
TAGS = st.lists(
    st.builds(
        Tagged,
        name=st.sampled_from(NAMES),
        digest=st.sampled_from([ONE, Digest.of(b"two")]),
        pushed_at=MOMENTS,
        pulled_at=st.none() | MOMENTS,
        in_use=st.none() | st.just("service web runs it"),
        companion_of=st.none() | st.just(ONE),
    ),
    max_size=len(NAMES),
    unique_by=lambda tag: tag.name,
)
RULES = st.lists(KEEP_RULES, max_size=4)


def kept(found: Sequence[Decision]) -> set[str]:
    return {each.tag.name for each in found if each.keeps}


@given(TAGS, RULES, st.randoms())
def test_the_order_of_the_tags_makes_no_difference(tags: list[Tagged], rules: list[KeepRule], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(tags)
    random.shuffle(shuffled)
    assert decided(tags, *rules) == decided(shuffled, *rules)


@given(TAGS, RULES)
def test_every_tag_is_decided_once(tags: list[Tagged], rules: list[KeepRule]) -> None:
    found = decided(tags, *rules)
    assert [each.tag for each in found] == sorted(tags, key=lambda tag: tag.name)
    for each in found:
        governing = rule_for(Retention(tuple(rules)), REPOSITORY, each.tag.name)
        assert each.rule == (None if each.tag.companion_of else governing)
        assert each.keeps or each.rule is not None


@given(TAGS, RULES)
def test_what_is_in_use_or_belongs_to_something_always_stays(tags: list[Tagged], rules: list[KeepRule]) -> None:
    assert {tag.name for tag in tags if tag.in_use or tag.companion_of} <= kept(decided(tags, *rules))


@given(
    TAGS,
    KEEP_RULES,
    RULES,
    st.sampled_from(
        [{"newest": 3}, {"newest_of_minor": 2}, {"pushed_within": 5 * DAY}, {"pulled_within": DAY}, {"always": ("v*",)}]
    ),
)
def test_a_further_condition_never_removes_more(
    tags: list[Tagged], rule: KeepRule, others: list[KeepRule], change: dict[str, object]
) -> None:
    ((name, _),) = change.items()
    bare = replace(rule, **{name: () if name == "always" else None})  # type: ignore[arg-type]
    if bare.decides:  # one that says nothing does not decide, so that a longer or a later one does
        richer = replace(rule, **change)  # type: ignore[arg-type]
        assert kept(decided(tags, bare, *others)) <= kept(decided(tags, richer, *others))


@given(TAGS, RULES)
def test_the_newest_are_always_among_what_stays(tags: list[Tagged], rules: list[KeepRule]) -> None:
    for rule in rules:
        mine = [each.tag for each in decided(tags, *rules) if each.rule is rule]
        newest = sorted(mine, key=lambda tag: (-tag.pushed_at, tag.name))[: rule.newest or 0]
        assert {tag.name for tag in newest} <= kept(decided(tags, *rules))


@given(RULES, st.sampled_from(["team/api", "team/web/x", "other/a", "x"]))
def test_no_other_rule_about_it_is_longer(rules: list[KeepRule], repository: str) -> None:
    governing = rule_for(Retention(tuple(rules)), repository, "v1")
    here = [rule for rule in rules if rule.decides and patterns.matches(rule.repositories, repository)]
    about = [rule for rule in here if rule.means("v1")]
    lengths = [len(rule.repositories.replace("*", "")) for rule in about]
    assert governing == (about[lengths.index(max(lengths))] if about else None)


def test_a_hundred_thousand_tags_take_no_time() -> None:
    tags = [
        Tagged(f"{number % 50}.{number % 90}.{number}-alpine", ONE, NOW - number, NOW - number)
        for number in range(100_000)
    ]
    rules = [
        KeepRule(
            "team/**", newest=10_000, newest_of_minor=3, pushed_within=DAY, pulled_within=DAY, always=("*-x", "1*")
        ),
        KeepRule("team/api", tags=("v*", "*.9-*"), newest=1),
    ]
    before = time.process_time()
    found = decided(tags, *rules, immutable=(ImmutableTags("**", ("release-*",)),))
    assert time.process_time() - before < 2  # 0.7 s where nothing else runs
    assert len(found) == 100_000
