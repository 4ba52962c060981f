"""An empty registry becomes, by what another one exported, what that one is: the same tags, and the same with each."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeport.client.repository import FetchedManifest
from homeport.config.document import Document
from homeport.config.mirroring import Mirror
from homeport.config.settings import Settings
from homeport.kinds import Outcome
from homeport.mirror import keeping
from homeport.oci import manifest
from homeport.oci.digest import Digest
from homeport.testing import images
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import DAY, Mirroring, folder_of
from tests.mirror.upstream import Upstream

APP = "team/app"
SBOM, SIGNATURE = "application/spdx+json", "application/vnd.example.signature"
#: What a registry holds: its tags, its manifests and its blobs, by repository.
Held = tuple[set[tuple[str, ...]], ...]


class Refill:
    """The registry that exports, and the empty one that takes it over."""

    def __init__(self, first: Mirroring, empty: Mirroring) -> None:
        self.first = first
        self.empty = empty

    async def check(self, *, waits: float = 0.0) -> str:
        """Export, refill, and compare; the text of the export."""
        text = await exported(self.first)
        upstreams = {host: each.model_dump() for host, each in self.first.settings.upstreams.items()}
        self.empty.settings = Settings.model_validate(
            {**Document(text).value, "data": str(self.empty.data), "upstreams": upstreams}
        )
        assert (await self.empty.run()).outcome is Outcome.SUCCESS
        if waits:
            self.empty.pass_time(waits)
            assert (await self.empty.run()).outcome is Outcome.SUCCESS
        assert await held(self.empty) == await held(self.first)
        assert (await self.empty.run()).counts["copied"] == 0
        assert read(await exported(self.empty)) == read(text)
        return text


async def exported(mirroring: Mirroring) -> str:
    return (await mirroring.registry.db.read(keeping.exported, mirroring.settings.mirror)).text()


def read(text: str) -> Mirror:
    return Settings.model_validate(Document(text).value).mirror


async def held(mirroring: Mirroring) -> Held:
    tables = (
        "SELECT repository, tag, digest FROM tagged_manifests",
        "SELECT repository, digest FROM held_manifests",
        "SELECT repository, digest FROM held_blobs",
    )
    return tuple([{tuple(row) for row in await mirroring.rows(sql)} for sql in tables])


@pytest.fixture
async def refill(mirroring: Mirroring, tmp_path: Path) -> AsyncIterator[Refill]:
    empty = Mirroring(tmp_path / "other" / "data", tmp_path / "other.db")
    (tmp_path / "other").mkdir()
    await empty.connect()
    yield Refill(mirroring, empty)
    await empty.close()


def put_one_of_everything(upstream: Upstream, artifacts: Artifacts, repository: str, *tags: str) -> None:
    """Images of several platforms, each with an SBOM and a signature at the index and at each platform."""
    for tag in tags:
        index = upstream.put(repository, artifacts.platforms("linux/amd64", "linux/arm64", attested=True), tag)
        for subject in (index, *index.children):
            for artifact_type in (SBOM, SIGNATURE):
                upstream.attach(repository, artifacts.artifact(artifact_type, subject=subject))
        by_tag, signature = artifacts.cosign(index)
        upstream.put(repository, signature, by_tag)


@pytest.mark.parametrize(
    "options",
    [
        {"referrers": True},
        {"referrers": False},
        {"platforms": ["linux/arm64"]},
        {"platforms": ["linux/amd64"], "referrers": True, "referrer_types": ["*spdx*"]},
        {"referrers": True, "not_referrer_types": ["*spdx*"], "target": "x/{host}/{name}"},
        {"tags": {"semver": ">=1", "patches": 1}, "overwrite": True},
    ],
)
async def test_what_decides_what_comes_with_an_image_is_carried_over(
    refill: Refill, upstream: Upstream, artifacts: Artifacts, options: dict[str, Any]
) -> None:
    put_one_of_everything(upstream, artifacts, APP, "1.0.0", "1.0.1", "2.0.0")
    refill.first.configure({"source": f"{upstream.host}/{APP}", "target": "app"} | options)
    await refill.first.run()
    assert "Beyond" not in await refill.check()


async def test_a_pattern_stays_a_pattern(refill: Refill, upstream: Upstream, artifacts: Artifacts) -> None:
    for name in ("team/a", "team/b", "team/internal", "other/a"):
        put_one_of_everything(upstream, artifacts, name, "1.0")
    options = {"target": "partner/{name}", "platforms": ["linux/amd64"]}
    refill.first.configure({"source": f"{upstream.host}/team/*"} | options, skip=["partner/internal"])
    await refill.first.run()
    assert (await refill.check()).count("source:") == 1


async def test_what_has_to_age_ages_anew(refill: Refill, upstream: Upstream, artifacts: Artifacts) -> None:
    """Nobody knows of an empty registry's upstream how long its tags have been what they are."""
    upstream.put(APP, artifacts.image(), "1.0")
    refill.first.configure({"source": f"{upstream.host}/{APP}", "minimum_age": "3d"})
    await refill.first.run()
    refill.first.pass_time(4 * DAY)
    await refill.first.run()
    await refill.check(waits=4 * DAY)


@pytest.mark.parametrize("by_pattern", [False, True])
async def test_what_the_selection_left_behind_comes_with_the_same_parts(
    refill: Refill, upstream: Upstream, artifacts: Artifacts, *, by_pattern: bool
) -> None:
    put_one_of_everything(upstream, artifacts, APP, "1.0", "1.1")
    source = f"{upstream.host}/team/*" if by_pattern else f"{upstream.host}/{APP}"
    image = {"source": source, "target": "{name}", "tags": {"newest": 2}, "referrers": True}
    refill.first.configure(image | {"platforms": ["linux/amd64"], "not_referrer_types": ["*spdx*"]})
    await refill.first.run()
    put_one_of_everything(upstream, artifacts, APP, "1.2", "1.3")
    await refill.first.run()
    assert 'tags: {list: ["1.0", "1.1"]}' in await refill.check()


async def test_what_is_followed_and_what_was_dropped_is_listed(
    refill: Refill, upstream: Upstream, artifacts: Artifacts
) -> None:
    first, kept = refill.first, {"source": f"{upstream.host}/team/kept", "platforms": ["linux/arm64"]}
    for name in (APP, "team/dropped", "team/kept"):
        put_one_of_everything(upstream, artifacts, name, "1.0")
    pushed = images.image([b"as scripts have it"])
    put_what_is_pushed(upstream, APP, pushed, "2.0")
    await first.push(pushed, "2.0", repository=f"{folder_of(upstream)}/{APP}")
    mirror: dict[str, Any] = {"follow": True, "gone_upstream": {"remove_after": "7d"}, "upstreams": {upstream.host: {}}}
    first.configure(kept, {"source": f"{upstream.host}/team/dropped", "referrers": True}, **mirror)
    await first.run()
    first.configure(kept, **mirror)
    await first.run()
    images_of = {image.source.rpartition("/")[2]: image for image in read(await refill.check()).images}
    assert images_of.keys() == {"kept", "dropped", "app"}
    assert images_of["app"].tags.list == ("2.0",)
    assert (images_of["app"].gone_upstream, images_of["dropped"].gone_upstream) == (7 * DAY, None)


async def test_what_was_pushed_over_it_is_not_upstreams(
    refill: Refill, upstream: Upstream, artifacts: Artifacts
) -> None:
    """A stranger's image must not come in the place of one's own, when that is lost."""
    first, ours = refill.first, f"{folder_of(upstream)}/{APP}"
    pushed = images.image([b"as scripts have it"])
    put_what_is_pushed(upstream, APP, pushed, "1.0")
    await first.push(pushed, "1.0", repository=ours)
    first.configure(follow=True, upstreams={upstream.host: {}})
    await first.run()
    assert "1.0" in await exported(first)
    await first.push(images.image([b"our own"]), "1.0", repository=ours)
    await first.run()
    assert "1.0" not in await exported(first)


@pytest.mark.parametrize("seed", range(6))
async def test_any_mirror_comes_back(refill: Refill, upstream: Upstream, artifacts: Artifacts, seed: int) -> None:
    """Whatever is configured, then narrowed and taken out, while upstream goes on."""
    chosen = random.Random(seed)
    names = [f"team/{name}" for name in "abc"]
    configured = [_any_image(chosen, upstream, name) for name in names]
    for minor in range(2):
        for name in names:
            put_one_of_everything(upstream, artifacts, name, *(f"1.{minor}.{patch}" for patch in range(2)))
        refill.first.configure(*configured)
        await refill.first.run()
        configured = [image | {"tags": _any_tags(chosen)} for image in configured]
    # What came for an image that is taken out comes back whole: nothing says otherwise any more.
    is_whole = [image for image in configured if image["referrers"] and image.keys().isdisjoint(_PARTS)]
    refill.first.configure(*(image for image in configured if image not in is_whole[:1]))
    await refill.first.run()
    await refill.check()


_PARTS = {"platforms", "referrer_types", "not_referrer_types"}


def _any_image(chosen: random.Random, upstream: Upstream, name: str) -> dict[str, Any]:
    optional = {
        "name": f"the-{name[-1]}",
        "target": chosen.choice(["x/{name}", "{host}/y/{repository}", f"z-{name[-1]}"]),
        "platforms": [chosen.choice(["linux/amd64", "linux/arm64"])],
        "referrer_types": chosen.choice([["*spdx*"], ["application/vnd.*"]]),
        "not_referrer_types": ["*signature"],
        "overwrite": True,
        "unselected": {"remove_after": "30d"},
    }
    image = {key: value for key, value in optional.items() if chosen.random() < 0.4}
    referrers = chosen.random() < 0.6
    return {"source": f"{upstream.host}/{name}", "tags": _any_tags(chosen), "referrers": referrers} | image


def _any_tags(chosen: random.Random) -> dict[str, Any]:
    some: list[dict[str, Any]] = [
        {},
        {"list": ["1.0.0"]},
        {"newest": 2},
        {"glob": "1.0.*"},
        {"match": "1$", "list": ["1.0.0"]},
        {"semver": "^1", "minors": 1, "patches": 1},
    ]
    return chosen.choice(some)


def put_what_is_pushed(upstream: Upstream, repository: str, image: images.Image, tag: str) -> None:
    """Let upstream have an image that is pushed here, too."""
    there = upstream.repositories[repository]
    there.blobs |= {Digest.of(data): data for data in image.blobs}
    there.manifests[image.digest] = FetchedManifest(image.digest, manifest.parse(image.data, image.media_type))
    there.tags[tag] = image.digest
