"""What is written down of a mirror is a configuration that brings it back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from homeport.config.document import Document
from homeport.config.loading import load
from homeport.config.mirroring import Mirror
from homeport.config.settings import Settings
from homeport.mirror.addresses import Source
from homeport.mirror.exporting import Export, why_too_long
from homeport.mirror.origins import FoundBy, Leaving, TagOrigin
from homeport.oci.digest import Digest

ALPINE = Source("docker.io", "library/alpine")
APP = Source("quay.io", "org/app")


def origin(
    repository: str,
    source: Source,
    tag: str,
    *,
    image: str | None = None,
    found_by: FoundBy = "mirror",
    leaving: Leaving | None = None,
) -> TagOrigin:
    """A tag of ours as a run wrote it down."""
    return TagOrigin(repository, tag, source, tag, Digest.of(b""), found_by, image, 0.0, leaving, 0.0)


def export_of(mirror: Mirror, *origins: TagOrigin) -> Export:
    export = Export(mirror)
    for each in origins:
        export.add(each)
    return export


def loaded(text: str, folder: Path) -> Settings:
    path = folder / "homeport.yaml"
    path.write_text(text)
    return load(path, {})


def read(text: str) -> Mirror:
    return Settings.model_validate(Document(text).value).mirror


def mirror_of(*images: dict[str, Any], **settings: Any) -> Mirror:
    return Mirror.model_validate({"images": images, **settings})


def test_what_is_followed_is_listed_by_its_tags(tmp_path: Path) -> None:
    text = export_of(
        Mirror(),
        origin("quay.io/org/app", APP, "v1", found_by="name"),
        *(origin("docker.io/library/alpine", ALPINE, tag) for tag in ("latest", "3.20")),
        *(origin("alpine", ALPINE, tag) for tag in ("3.20", "3.2", "1e3")),
        origin("lan_5000/x", Source("lan:5000", "x"), "latest"),
        origin("cached", APP, "v1", found_by="cache"),
    ).text()
    assert "'mirror' in homeport.yaml" in text.partition("\nmirror:")[0]
    images = loaded(text, tmp_path).mirror.images
    assert [(image.label, image.source, image.target, image.tags.list) for image in images] == [
        ("alpine", "docker.io/library/alpine", "alpine", ("1e3", "3.2", "3.20")),
        ("docker.io-library-alpine", "docker.io/library/alpine", "docker.io/library/alpine", ("3.20", "latest")),
        ("lan:5000/x", "lan:5000/x", "lan_5000/x", ("latest",)),
        ("quay.io/org/app", "quay.io/org/app", "quay.io/org/app", ("v1",)),
    ]  # fmt: skip


def test_an_image_of_the_configuration_is_one_entry_however_much_of_it_is_here() -> None:
    mirror = mirror_of(
        {
            "source": "registry.lan/team/**",
            "target": "partner/{repository}",
            "tags": {"semver": ">=1", "minors": 2},
            "platforms": ["linux/amd64"],
            "minimum_age": "36h",
            "unselected": {"remove_after": "14d"},
        },
        schedule="0 4 * * *",
        skip=["own/**"],
        export="/var/lib/kept.yaml",
    )
    found = (
        origin(f"partner/team/{name}", Source("registry.lan", f"team/{name}"), tag, image="registry.lan/team/**")
        for name in ("a", "b")
        for tag in ("1.0", "1.1")
    )
    assert export_of(mirror, *found).text().partition("\nmirror:\n")[2] == (
        '  schedule: "0 4 * * *"\n'
        '  skip: ["own/**"]\n'
        "  images:\n"
        '    - source: "registry.lan/team/**"\n'
        '      target: "partner/{repository}"\n'
        '      tags: {semver: ">=1", minors: 2}\n'
        "      minimum_age: 36h\n"
        '      platforms: ["linux/amd64"]\n'
        "      unselected: {remove_after: 14d}\n"
    )


@pytest.mark.parametrize(
    ("found", "listed"),
    [
        ({"leaving": None}, False),
        ({"leaving": "unselected"}, True),
        ({"leaving": "gone upstream"}, False),
        ({"leaving": "repository gone"}, False),
        ({"image": "dropped", "leaving": "dropped"}, True),
        ({"image": "dropped"}, True),
        ({"source": APP}, True),
        ({"repository": "alpine/moved"}, True),
        ({"repository": "own/alpine"}, False),
        ({"tag": f"sha256-{'0' * 64}.sig", "leaving": "unselected"}, False),
        ({"image": None, "found_by": "cache"}, False),
    ],
)
def test_what_no_image_means_any_more_is_listed(found: dict[str, Any], *, listed: bool) -> None:
    mirror = mirror_of({"source": str(ALPINE), "target": "alpine", "tags": {"newest": 1}}, skip=["own/*"])
    known = {"repository": "alpine", "source": ALPINE, "tag": "3.19", "image": str(ALPINE)}
    images = read(export_of(mirror, origin(**(known | found))).text()).images
    assert images[:1] == mirror.images
    assert [image.tags.list for image in images[1:]] == ([("3.19",)] if listed else [])


def test_with_what_is_listed_comes_what_comes_with_its_image() -> None:
    options: dict[str, Any] = {"platforms": ["linux/arm64"], "referrer_types": ["*spdx*"], "overwrite": True}
    mirror = mirror_of(
        {"source": str(ALPINE), "name": "small", "target": "{name}", "tags": {"newest": 1}} | options,
        follow=True,
        gone_upstream={"remove_after": "7d"},
    )
    _, followed, unselected, dropped = read(
        export_of(
            mirror,
            origin("alpine", ALPINE, "3.19", image="small", leaving="unselected"),
            origin("alpine", ALPINE, "3.18", image="other", leaving="dropped"),
            origin("alpine", ALPINE, "edge", found_by="name"),
        ).text()
    ).images
    names = [image.name for image in (dropped, followed, unselected)]
    assert len({*names, "small"}) == 4
    assert unselected.model_dump(include={*options}) == mirror.images[0].model_dump(include={*options})
    assert (unselected.tags.list, dropped.tags.list, followed.tags.list) == (("3.19",), ("3.18",), ("edge",))
    assert (dropped.platforms, dropped.gone_upstream) == ((), None)
    assert (followed.platforms, followed.gone_upstream) == ((), 7 * 86_400)


def test_an_empty_mirror_is_an_empty_list(tmp_path: Path) -> None:
    export = Export(Mirror())
    assert export.is_empty
    assert loaded(export.text(), tmp_path).mirror.images == ()


@pytest.mark.parametrize(
    ("tags", "why"),
    [(9, None), (50_000, None), (99_999, "has more than 100000 values"), (150_000, "larger than 1 MiB")],
)
def test_more_tags_than_a_configuration_may_list_are_told(tags: int, why: str | None) -> None:
    text = export_of(Mirror(), *(origin("app", APP, str(number)) for number in range(tags))).text()
    told = why_too_long(text)
    assert told is None if why is None else why in (told or "")


_TAGS = st.sampled_from(["latest", "1", "1.0", "0x1", "null", "true", "3.20", "1_000"])
_ORIGINS = st.builds(
    origin,
    st.sampled_from(["a", "b", "a/b", "a-b", "anonymous", "docker.io/library/a"]),
    st.builds(
        Source, st.sampled_from(["docker.io", "quay.io", "localhost:5001"]), st.sampled_from(["library/a", "x/y"])
    ),
    _TAGS,
    image=st.sampled_from([None, "a", "b", "docker.io/library/a"]),
    leaving=st.sampled_from([None, "unselected", "dropped"]),
)
_GRACES = st.sampled_from([None, "keep", {"remove_after": 3600}, {"remove_after": "90m"}, {"remove_after": 3600.25}])
_EXPRESSIONS = st.lists(st.text(max_size=6).map(re.escape), max_size=2)
_IMAGES = st.fixed_dictionaries(
    {"source": st.sampled_from(["docker.io/library/a", "quay.io/x/*"])},
    optional={
        "name": st.sampled_from(["a", "b", "c", "docker.io-library-a", "1"]),
        "target": st.sampled_from(["a", "{name}", "x/{host}/{namespace}/y"]),
        "tags": st.fixed_dictionaries(
            {},
            optional={
                "list": st.lists(_TAGS, max_size=3),
                "glob": st.sampled_from(["1.*", ["?", "3*"]]),
                "not_match": _EXPRESSIONS,
                "semver": st.sampled_from([">=1 <2", None]),
                "newest": st.integers(1, 9),
            },
        ),
        "minimum_age": st.sampled_from([0, 0.5, "90s", "3d", "25h"]),
        "platforms": st.sampled_from([[], ["linux/amd64"], ["linux/arm/v7", "linux/arm64"]]),
        "referrers": st.booleans(),
        "referrer_types": st.lists(st.text(max_size=5), max_size=2),
        "overwrite": st.booleans(),
        "gone_upstream": _GRACES,
    },
)


@limits(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(_IMAGES, max_size=4, unique_by=lambda image: image.get("name", image["source"])),
    st.fixed_dictionaries({}, optional={"follow": st.booleans(), "dropped": _GRACES, "schedule": st.just("@daily")}),
    st.lists(_ORIGINS, max_size=12),
)
def test_everything_comes_back_in_whatever_order_it_came(
    images: list[dict[str, Any]], settings: dict[str, Any], origins: list[TagOrigin]
) -> None:
    mirror = mirror_of(*images, **settings)
    text = export_of(mirror, *origins).text()
    assert text == export_of(mirror, *reversed(origins)).text()
    found = read(text)
    assert found.images[: len(images)] == mirror.images
    assert found.model_copy(update={"images": ()}) == mirror.model_copy(update={"images": ()})
    listed = {(i.source, i.target, tag) for i in found.images[len(images) :] for tag in i.tags.list}
    wanted = {(str(each.source), each.repository, each.tag) for each in origins}
    assert listed <= wanted
    named = {image.label for image in mirror.images}
    assert listed >= {
        (str(each.source), each.repository, each.tag) for each in origins if each.leaving or each.image not in named
    }
