"""What is to be kept, as the configuration says it: every rule that cannot be meant is refused with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from homeport.app.core import retention_of, rules_of
from homeport.config.errors import ConfigError
from homeport.config.loading import changes, load
from homeport.config.settings import Settings
from homeport.registry.retention import ImmutableTags, KeepRule, Retention

Load = Callable[[str], Settings]
DAY = 86400.0


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    def load_it(text: str) -> Settings:
        path = tmp_path / "homeport.yaml"
        path.write_text(text)
        return load(path, {})

    return load_it


@pytest.fixture
def refused(load_text: Load) -> Callable[[str], list[str]]:
    """The problems of a configuration, without the folder's name."""

    def problems(text: str) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            load_text(text)
        return [str(problem).rpartition("/homeport.yaml:")[2] for problem in raised.value.problems]

    return problems


def test_by_default_no_tag_goes() -> None:
    assert retention_of(Settings()) == Retention()


def test_the_policy_as_people_write_it(load_text: Load) -> None:
    found = load_text(
        'cleanup: {schedule: "0 3 * * 0", untagged_after: 7d,'
        ' keep: [{repositories: "team/**", newest: 10, pushed_within: 30d}]}'
    )
    assert rules_of(found).retention == Retention((KeepRule("team/**", newest=10, pushed_within=30 * DAY),))


def test_everything_that_can_be_said(load_text: Load) -> None:
    found = load_text("""
repositories:
  immutable:
    - {repositories: "team/**", tags: ["v*", "1.?"], not_tags: ["*-rc*"]}
    - {repositories: "prod/**"}
  protected: ["prod/**"]
cleanup:
  keep:
    - repositories: "team/**"
      tags: ["v*"]
      not_tags: ["*-rc*"]
      newest: 10
      newest_of_minor: 2
      pushed_within: 30d
      pulled_within: 12h
      always: [latest, "release-*"]
      untagged_after: 1d
    - {repositories: "team/**", newest: 3}
    - {repositories: "cache/*", untagged_after: 0}
""")
    assert rules_of(found).retention == Retention(
        keep=(
            KeepRule(
                "team/**", ("v*",), ("*-rc*",), 10, 2, 30 * DAY, DAY / 2, ("latest", "release-*"), untagged_after=DAY
            ),
            KeepRule("team/**", newest=3),
            KeepRule("cache/*", untagged_after=0.0),
        ),
        immutable=(ImmutableTags("team/**", ("v*", "1.?"), ("*-rc*",)), ImmutableTags("prod/**", ("*",))),
        protected=("prod/**",),
    )
    live = {setting.name: setting.live for setting in changes(Settings(), found)}
    assert live == {"repositories.immutable": True, "repositories.protected": True, "cleanup.keep": True}


def keep(rule: str) -> str:
    return f"cleanup:\n  keep:\n    - {{repositories: 'a/**', newest: 1}}\n    - {{{rule}}}"


TWO_GRACES = """cleanup:
  keep:
    - {repositories: a, newest: 1, untagged_after: 1d}
    - repositories: a
      tags: [b]
      newest: 1
      untagged_after: 2d
"""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (keep("repositories: b"), "4: cleanup.keep[1]: says nothing to keep, so every tag would go; give it one of"),
        (keep("newest: 1"), "4: cleanup.keep[1].repositories: is missing"),
        (keep("repositories: B, newest: 1"), "4: cleanup.keep[1].repositories: must be a pattern of repository names"),
        (keep("repositories: b, newest: 0"), "4: cleanup.keep[1].newest: must be at least 1"),
        (keep("repositories: b, newest: -1"), "4: cleanup.keep[1].newest: must be at least 1"),
        (keep("repositories: b, newest: ten"), "4: cleanup.keep[1].newest: must be a whole number"),
        (keep("repositories: b, newest_of_minor: 0"), "4: cleanup.keep[1].newest_of_minor: must be at least 1"),
        (keep("repositories: b, pushed_within: 0"), "4: cleanup.keep[1].pushed_within: must be more than 0"),
        (keep("repositories: b, pulled_within: long"), "4: cleanup.keep[1].pulled_within: must be a number of seconds"),
        (keep("repositories: b, newest: 1, tags: []"), "4: cleanup.keep[1]: 'tags' names none; leave it out where all"),
        (keep("repositories: b, newest: 1, not_tags: ['*']"), "4: cleanup.keep[1]: 'not_tags' leaves no tag; take the"),
        (keep("repositories: b, newest: 1, tags: v1"), "4: cleanup.keep[1].tags: must be a list"),
        (keep("repositories: b, newest: 1, tags: [1.2]"), "4: cleanup.keep[1].tags[0]: must be text; put it in quotes"),
        (keep("repositories: b, newest: 1, tags: ['a b']"), "4: cleanup.keep[1].tags[0]: must be a glob that a tag"),
        (keep("repositories: b, always: ['-x']"), "4: cleanup.keep[1].always[0]: must be a glob that a tag can match"),
        (keep("repositories: b, untagged_after: 1d, tags: [x]"), "4: cleanup.keep[1]: has only 'untagged_after', "),
        (keep("repositories: b, newst: 1"), "4: cleanup.keep[1].newst: no such setting; did you mean 'newest'?"),
        (keep("repositories: 'a/**', newest: 2"), "4: cleanup.keep[1]: is about the same tags of the same"),
        (keep("repositories: 'a/**', untagged_after: 1d"), "4: cleanup.keep[1]: is about the same tags of the same"),
        (TWO_GRACES, "7: cleanup.keep[1].untagged_after: is said for the same repositories in cleanup.keep[0] already"),
        ("cleanup: {not_pulls: ['']}", "1: cleanup.not_pulls[0]: must be a glob of User-Agent headers, such as"),
        ('cleanup: {not_pulls: ["a\\nb"]}', "1: cleanup.not_pulls[0]: must be a glob of User-Agent headers"),
        ("repositories:\n  immutable:\n    - {tags: ['v*']}", "3: repositories.immutable[0].repositories: is missing"),
        ("repositories: {immutable: [{repositories: a, tags: []}]}", "1: repositories.immutable[0]: 'tags' names none"),
        ("repositories: {protected: [/a]}", "1: repositories.protected[0]: must be a pattern of repository names"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_meant_is_named_with_its_line(
    refused: Callable[[str], list[str]], text: str, problem: str
) -> None:
    (found,) = refused(text)
    assert found.startswith(problem)


def test_the_order_of_globs_does_not_make_a_rule_another(refused: Callable[[str], list[str]]) -> None:
    (found,) = refused(
        "cleanup: {keep: [{repositories: a, tags: [x, z], newest: 1}, {repositories: a, tags: [z, x], newest: 2}]}"
    )
    assert "make one rule of them" in found
