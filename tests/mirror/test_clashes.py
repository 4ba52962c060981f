"""Images of the configuration that would bring different things to one tag of ours."""

from typing import Any

import pytest

from homeport.config.mirroring import Mirror
from homeport.mirror import clashes, rules

ONE, OTHER = "docker.io/library/redis", "quay.io/team/redis"
FIRST = "a run brings only that of the first"


def found(*images: dict[str, Any], skip: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    mirror = Mirror.model_validate({"images": images, "skip": skip})
    return [(each.number, each.text) for each in clashes.find(rules.of(mirror), mirror.skip)]


def both(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two images with these tags and one target clash."""
    return bool(
        found({"source": ONE, "target": "{name}", "tags": first}, {"source": OTHER, "target": "redis", "tags": second})
    )


def test_two_images_with_one_target_are_told_of_at_the_second() -> None:
    web = {"source": "quay.io/team/web"}
    assert found({"source": ONE, "target": "{name}"}, web, {"source": OTHER, "target": "redis"}) == [
        (2, f"puts its tags into 'redis', as '{ONE}' does: where both have one of the same name, {FIRST}")
    ]
    assert found({"source": ONE}, web, {"source": OTHER}) == []


def test_one_source_may_stand_there_twice() -> None:
    again, short = {"source": ONE, "name": "again"}, {"source": "docker.io/redis", "name": "short"}
    assert found({"source": ONE}, again, short) == []


def test_what_is_skipped_is_brought_by_none() -> None:
    images = {"source": ONE, "target": "redis"}, {"source": OTHER, "target": "redis"}
    assert found(*images, skip=("redis",)) == []


def test_a_pattern_has_as_many_targets_as_repositories() -> None:
    source = "registry.lan/team/**"
    assert found({"source": source, "target": "team/{name}"}) == []
    assert found({"source": source, "target": "all"}, {"source": ONE, "target": "all"}) == [
        (0, f"puts every repository of '{source}' into 'all': where two have a tag of the same name, {FIRST}"),
        (1, f"puts its tags into 'all', as '{source}' does: where both have one of the same name, {FIRST}"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {}, True),
        ({"list": ["7"]}, {}, True),
        ({"list": ["7", "8"]}, {"list": ["8"]}, True),
        ({"list": ["7"]}, {"list": ["8"]}, False),
        ({"list": ["7"]}, {"list": ["8"], "glob": "*-alpine"}, False),
        ({"list": ["7-alpine"]}, {"glob": "*-alpine", "newest": 1, "by": "created"}, True),
        ({"list": ["latest"]}, {"minors": 2}, False),
        ({"list": ["7.2"]}, {"semver": ">=8"}, False),
        ({"list": ["8.2"]}, {"semver": ">=8", "newest": 3}, True),
        ({"glob": "7.*"}, {"match": "-alpine$"}, True),
    ],
)
def test_lists_tell_which_tags_two_images_may_share(
    first: dict[str, Any], second: dict[str, Any], *, expected: bool
) -> None:
    assert both(first, second) is expected
    assert both(second, first) is expected
