"""What is mirrored and cached, as the configuration says it: what cannot be meant is refused with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from homeport.config.errors import ConfigError
from homeport.config.loading import load
from homeport.config.settings import Settings
from homeport.config.tree import schema

Load = Callable[..., Settings]
DAY = 86400.0


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    def load_it(text: str, environ: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "homeport.yaml"
        path.write_text(text)
        return load(path, environ or {})

    return load_it


@pytest.fixture
def refused(load_text: Load) -> Callable[..., list[str]]:
    """The problems of a configuration, without the folder's name."""

    def problems(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            load_text(text, environ)
        return [str(problem).rpartition("/homeport.yaml:")[2] for problem in raised.value.problems]

    return problems


def test_by_default_nothing_goes_of_the_mirror_and_idle_tags_of_the_cache_do() -> None:
    mirror, cache = Settings().mirror, Settings().cache
    assert (mirror.gone_upstream, mirror.dropped) == (None, None)
    assert cache.evict_after == 30 * DAY
    shown = Settings().model_dump(mode="json")
    assert (shown["mirror"]["dropped"], shown["cache"]["evict_after"]) == ("keep", 30 * DAY)


def test_every_way_to_go(load_text: Load) -> None:
    found = load_text("""
mirror:
  gone_upstream: keep
  dropped: {remove_after: 7d}
  images:
    - source: docker.io/library/alpine
      gone_upstream: {remove_after: 3600}
      repository_gone: {remove_after: 12h}
      unselected: keep
cache: {evict_after: never}
""")
    assert (found.mirror.gone_upstream, found.mirror.dropped) == (None, 7 * DAY)
    (image,) = found.mirror.images
    assert (image.gone_upstream, image.repository_gone, image.unselected) == (3600.0, DAY / 2, None)
    assert found.cache.evict_after is None


def test_what_is_shown_is_read_again_as_the_same(load_text: Load) -> None:
    found = load_text("""
upstreams: {docker.io: {bandwidth: 1MiB, requests_per_second: 0.5}}
mirror:
  dropped: {remove_after: 7d}
  images: [{source: docker.io/library/alpine, unselected: {remove_after: 1d}, tags: {match: "^3", semver: ">=3.18"}}]
cache: {upstreams: [docker.io], evict_after: never, tags: [{tags: "*-rc*", fresh_for: 1m}]}
""")
    shown = found.model_dump(mode="json")
    assert load_text(yaml.safe_dump(shown)) == found
    assert shown["mirror"]["images"][0]["unselected"] == {"remove_after": DAY}


def test_the_environment_says_it_too(load_text: Load) -> None:
    environ = {
        "HOMEPORT_MIRROR_GONE_UPSTREAM": "{remove_after: 14d}",
        "HOMEPORT_MIRROR_DROPPED": "keep",
        "HOMEPORT_CACHE_EVICT_AFTER": "never",
    }
    found = load_text("mirror: {dropped: {remove_after: 1d}}", environ)
    assert (found.mirror.gone_upstream, found.mirror.dropped, found.cache.evict_after) == (14 * DAY, None, None)


@pytest.mark.parametrize("written", ["1.5", "14d", "{remove_after: 10m}", "{after: 14d}", "true"])
def test_how_long_something_stays_cannot_be_mistaken(refused: Callable[..., list[str]], written: str) -> None:
    (problem,) = refused(f"mirror: {{dropped: {written}}}")
    assert problem == "1: mirror.dropped: must be 'keep', or {remove_after: 14d} with at least an hour"


IMAGE = "mirror: {images: [{source: docker.io/library/alpine, %s}]}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mirror: {images: [{source: alpine/x:3}]}", "images[0].source: must be a repository without a tag"),
        ("mirror: {images: [{source: 'team/**'}]}", "source: must name the host of a pattern"),
        ("mirror: {images: [{source: 'ghcr.io/org/*'}]}", "ghcr.io lists its repositories to nobody"),
        (IMAGE % "target: '{tag}'", "images[0].target: must be a repository's name"),
        (IMAGE % "target: 'Team/x'", "images[0].target: must be a repository's name"),
        (IMAGE % "tags: {match: '('}", "tags.match[0]: is no regular expression"),
        (IMAGE % f"tags: {{not_match: [{'x' * 501}]}}", "tags.not_match[0]: has more than 500 characters"),
        (IMAGE % "tags: {list: ['3.*']}", "tags.list[0]: must be a tag"),
        (IMAGE % "tags: {semver: 'newest'}", "tags.semver: "),
        (IMAGE % "tags: {by: created}", "give 'newest' as well"),
        (IMAGE % "platforms: [linux]", "platforms[0]: "),
        ("upstreams: {docker.io: {username: ada}}", "'username' and 'password' go together"),
        ("cache: {absent_for: 2h}", "cache.absent_for: "),
    ],
)
def test_what_cannot_be_meant_is_refused(refused: Callable[..., list[str]], text: str, problem: str) -> None:
    assert problem in " ".join(refused(text))


def test_two_images_of_one_source_need_names(refused: Callable[..., list[str]], load_text: Load) -> None:
    same = "mirror:\n  images:\n    - {source: docker.io/alpine}\n    - {source: docker.io/library/alpine%s}"
    (problem,) = refused(same % "")
    assert "'docker.io/library/alpine' stands here twice" in problem
    assert problem.startswith("4: ")
    assert [image.label for image in load_text(same % ", name: x").mirror.images] == ["docker.io/library/alpine", "x"]


def test_the_schema_says_each_form() -> None:
    known: dict[str, Any] = schema()["$defs"]
    removal, globs = known["Mirror"]["properties"]["dropped"], known["TagSelection"]["properties"]["glob"]
    assert removal["default"] == "keep"
    assert [form.get("const") or form["required"] for form in removal["anyOf"]] == ["keep", ["remove_after"]]
    assert [form["type"] for form in globs["anyOf"]] == ["string", "array"]
    assert known["Cache"]["properties"]["evict_after"]["anyOf"][0] == {"const": "never"}
