"""Whose tags those are that nobody wrote down: by name and by digest, and never by a name alone."""

from __future__ import annotations

import pytest

from homeport.kinds import Outcome
from homeport.mirror import addresses, adoption, origins
from homeport.mirror.adoption import Adopted, Adoption
from homeport.oci.digest import Digest
from homeport.testing import images
from tests.client.images import Image
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import DAY, Mirroring
from tests.mirror.upstream import Kind, Upstream
from tests.registry.world import ADA

#: A configuration that no other image has, as `docker build` makes them.
CONFIG = b'{"architecture": "amd64", "os": "linux", "created": "2026-11-01T00:00:00Z"}'


class AsHub:
    """The ways to Docker Hub, which is the test's upstream here. It notes which hosts are asked."""

    def __init__(self, mirroring: Mirroring, upstream: Upstream) -> None:
        self._real = mirroring.upstreams.repository
        self._upstream = upstream
        self.asked: set[str] = set()
        mirroring.upstreams.repository = self  # type: ignore[assignment, method-assign]

    async def __call__(self, host: str, name: str, purpose: object, **more: object) -> object:
        self.asked.add(f"{host}/{name}")
        return await self._real(self._upstream.host, name, purpose, **more)  # type: ignore[arg-type]


@pytest.fixture
def hub(mirroring: Mirroring, upstream: Upstream) -> AsHub:
    return AsHub(mirroring, upstream)


async def pushed(mirroring: Mirroring, image: Image, repository: str, tag: str) -> Digest:
    """The image is here as somebody pushed it, byte for byte."""
    ours = images.Image(image.pushed.manifest, tuple(blob.data for blob in image.blobs))
    return await mirroring.push(ours, tag, repository=repository)


async def adopted(mirroring: Mirroring, *skip: str) -> dict[str, str | None]:
    """Whose each tag is."""
    hosts = addresses.folders(["docker.io", "quay.io"])
    search = Adoption(mirroring.registry, mirroring.upstreams, hosts, lambda repository: repository in skip)
    found = await search.find()
    assert search.failures == []
    return {f"{each.repository}:{each.tag}": None if each.source is None else str(each.source) for each in found}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("alpine", "library/alpine"),
        ("library/alpine", "library/alpine"),
        ("org/x", "org/x"),
        ("docker.io/library/alpine", "library/alpine"),
        ("docker.io/alpine", "library/alpine"),
        ("quay.io/org/sub/x", "org/sub/x"),
    ],
)
async def test_a_name_as_scripts_give_it_and_a_digest_that_upstream_has(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, hub: AsHub, ours: str, theirs: str
) -> None:
    image = upstream.put(theirs, artifacts.image(), "1.0")
    upstream.put(theirs, artifacts.image(), "1.0")  # It moved since; its digest is there all the same.
    await pushed(mirroring, image, ours, "1.0")
    host = "quay.io" if ours.startswith("quay.io") else "docker.io"
    assert await adopted(mirroring) == {f"{ours}:1.0": f"{host}/{theirs}"}
    assert hub.asked == {f"{host}/{theirs}"}
    assert upstream.count(Kind.GET_MANIFEST) == 0


async def test_somebody_registers_our_teams_name_there_and_gets_nothing(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, hub: AsHub
) -> None:
    ours = await mirroring.push(images.image([b"ours"], config=CONFIG), "1.0", repository="team/app")
    upstream.put("team/app", artifacts.image(), "1.0", "2.0")
    mirroring.configure(follow=True, gone_upstream={"remove_after": "1h"})
    for _ in range(3):
        mirroring.pass_time(DAY)
        summary = await mirroring.run()
        assert (summary.outcome, summary.failures, summary.counts["copied"]) == (Outcome.SUCCESS, (), 0)
    assert await mirroring.tags("team/app") == {"1.0": ours}
    assert await mirroring.rows("SELECT tag FROM origins") == []
    assert hub.asked == {"docker.io/team/app"}


@pytest.mark.parametrize("config", [b"{}", b'{"a": 1}'])
async def test_a_configuration_that_everybody_has_proves_nothing(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, hub: AsHub, config: bytes
) -> None:
    await mirroring.push(images.image([b"ours"], config=config), "1.0", repository="team/app")
    upstream.put("team/app", artifacts.image(), "1.0")
    upstream.repositories["team/app"].blobs[Digest.of(config)] = config
    assert await adopted(mirroring) == {"team/app:1.0": None}
    assert hub.asked


async def test_a_configuration_of_an_image_is_enough(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, hub: AsHub
) -> None:
    await mirroring.push(images.image([b"as docker pushes it"], config=CONFIG), "1.0", repository="team/app")
    upstream.put("team/app", artifacts.image(), "1.0")
    upstream.repositories["team/app"].blobs[Digest.of(CONFIG)] = CONFIG
    assert await adopted(mirroring) == {"team/app:1.0": "docker.io/team/app"}
    assert hub.asked


@pytest.mark.parametrize(
    "repository", ["ghcr.io/org/x", "registry.evil/x", "localhost/x", "a/b/c", "192.0.2.1_5000/x", "docker.io.evil/x"]
)
async def test_hosts_that_nobody_wrote_are_not_asked(mirroring: Mirroring, hub: AsHub, repository: str) -> None:
    await mirroring.push(images.image([b"x"]), "1.0", repository=repository)
    assert await adopted(mirroring) == {}
    assert hub.asked == set()


async def test_what_is_skipped_is_asked_of_nobody(mirroring: Mirroring, hub: AsHub) -> None:
    """It would tell our names."""
    await mirroring.push(images.image([b"x"]), "1.0", repository="team/secret")
    assert await adopted(mirroring, "team/secret") == {}
    mirroring.configure(follow=True, skip=["team/**"])
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert hub.asked == set()


@pytest.mark.parametrize("fault", [faults.status(404), faults.status(401), faults.status(403)])
async def test_a_name_that_upstream_never_had_is_our_own_and_no_failure(
    mirroring: Mirroring, upstream: Upstream, hub: AsHub, fault: faults.Fault
) -> None:
    """As Docker Hub says it: 401 to a name that it does not have."""
    ours = await mirroring.push(images.image([b"x"]), "1.0", repository="team/app")
    upstream.fail(Kind.HEAD_MANIFEST, fault)
    mirroring.configure(follow=True, gone_upstream={"remove_after": "1h"})
    for _ in range(3):
        mirroring.pass_time(DAY)
        summary = await mirroring.run()
        assert (summary.outcome, summary.failures) == (Outcome.SUCCESS, ())
    assert await mirroring.tags("team/app") == {"1.0": ours}
    assert hub.asked


async def test_an_upstream_that_does_not_answer_is_a_failure_and_nothing_is_decided(
    mirroring: Mirroring, upstream: Upstream, hub: AsHub
) -> None:
    await mirroring.push(images.image([b"x"]), "1.0", repository="team/app")
    upstream.fail(Kind.HEAD_MANIFEST, faults.status(500))
    mirroring.configure(follow=True)
    summary = await mirroring.run()
    assert [failure.what for failure in summary.failures] == ["team/app"]
    assert await mirroring.rows("SELECT tag FROM origins") == []
    assert hub.asked


async def test_what_is_followed_is_kept_in_step_and_goes_by_its_own_grace(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, hub: AsHub
) -> None:
    old = upstream.put("org/x", artifacts.image(), "1.0", "latest")
    await pushed(mirroring, old, "org/x", "1.0")
    await pushed(mirroring, old, "org/x", "latest")
    newer = upstream.put("org/x", artifacts.image(), "latest", "2.0")
    mirroring.configure(follow=True, gone_upstream={"remove_after": "2d"})
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert await mirroring.tags("org/x") == {
        "1.0": old.digest,
        "latest": newer.digest,
    }  # What is not here is not brought.
    upstream.untag("org/x", "1.0")
    for _ in range(2):
        mirroring.pass_time(DAY)
        await mirroring.run()
    assert "1.0" in await mirroring.tags("org/x")
    mirroring.pass_time(DAY)
    await mirroring.run()
    assert await mirroring.tags("org/x") == {"latest": newer.digest}
    assert hub.asked == {"docker.io/org/x"}


async def test_a_person_has_it_written_down(mirroring: Mirroring, artifacts: Artifacts) -> None:
    image = artifacts.image()
    digest = await pushed(mirroring, image, "org/x", "1.0")
    source = addresses.Source("docker.io", "org/x")
    found = [
        Adopted("org/x", "1.0", digest, source, "upstream has it"),
        Adopted("org/x", "2.0", digest, source, "it went meanwhile"),
        Adopted("org/y", "1.0", digest, None, "our own"),
    ]
    assert await mirroring.registry.db.write(adoption.adopt, mirroring.clock, ADA, found) == 1
    (event,) = await mirroring.told("mirror.adopted")
    assert (event.actor, event.reason) == (ADA.actor, "1 tags")
    known = await mirroring.registry.db.read(origins.find, "org/x", "1.0")
    assert known is not None
    assert (known.source, known.found_by, known.image) == (source, "name", None)
