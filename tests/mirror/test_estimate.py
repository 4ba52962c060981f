"""What copies would cost, and when images were made: what is read for it is paid for once."""

from __future__ import annotations

import pytest

from homeport.kinds import Outcome
from homeport.mirror import ages
from homeport.mirror.estimate import Cost, Estimate
from homeport.mirror.planning import Decided
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import DAY, Mirroring
from tests.mirror.upstream import Kind, Quota, Upstream

APP = "team/app"


async def cost(mirroring: Mirroring, decided: Decided, *, reads: bool) -> Cost:
    """Of all copies together."""
    estimate = Estimate(mirroring.registry, mirroring.upstreams, reads=reads)
    total = Cost()
    rules = {rule.label: rule for rule in decided.rules}
    for copy in decided.copies:
        total.add(await estimate.of(copy, rules[copy.image]))
    return total


async def test_without_reading_only_the_pulls_of_the_first_manifests_are_known(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    for tag in ("1", "2", "3"):
        upstream.put(APP, artifacts.platforms(), tag)
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app"})
    found = await cost(mirroring, await mirroring.plan(), reads=False)
    assert (found.pulls, found.bytes, found.unread) == (3, 0, 3)
    assert upstream.count(Kind.GET_MANIFEST) == 0


async def test_what_is_read_tells_what_the_run_then_does_and_is_not_read_again(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    index = upstream.put(APP, artifacts.platforms("linux/amd64", "linux/arm64", attested=True), "1")
    upstream.quota = Quota(100, 90)
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app", "platforms": ["linux/amd64"]})
    decided = await mirroring.plan()
    found = await cost(mirroring, decided, reads=True)
    assert (found.pulls, found.unread) == (3, 0)  # The index, one image, its attestation.
    assert upstream.quota.remaining == 87
    again = await cost(mirroring, await mirroring.plan(), reads=True)
    assert (again.pulls, again.bytes) == (0, found.bytes)
    summary = await mirroring.run()
    assert summary.counts["bytes"] == found.bytes
    assert upstream.quota.remaining == 87
    assert await mirroring.rows("SELECT digest FROM read_manifests") == []
    assert (await mirroring.tags("app"))["1"] == index.digest


async def test_layers_that_are_here_are_not_counted(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    shared = artifacts.blob(5_000)
    upstream.put(APP, artifacts.of_layers(shared), "1")
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app"})
    await mirroring.run()
    moved = upstream.put(APP, artifacts.of_layers(shared), "1")
    found = await cost(mirroring, await mirroring.plan(), reads=True)
    assert found.bytes == sum(len(blob.data) for blob in moved.blobs) - 5_000


# --- ages ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(upstream: Upstream, artifacts: Artifacts) -> list[str]:
    """Tags by when their images were made, the oldest first."""
    tags = ["nightly", "a", "latest", "2.0", "1.0"]
    for number, tag in enumerate(tags):
        upstream.put(APP, artifacts.of_layers(created=f"2026-01-0{number + 1}T00:00:00Z"), tag)
    return tags


async def test_the_newest_by_when_they_were_made(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, made: list[str]
) -> None:
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app", "tags": {"newest": 2, "by": "created"}})
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert set(await mirroring.tags("app")) == set(made[-2:])
    upstream.forget()
    assert (await mirroring.run()).counts["unchanged"] == 2
    assert upstream.count(Kind.GET_MANIFEST) == 0  # It is read once for each digest.
    assert upstream.count(Kind.GET_BLOB) == 0
    upstream.put(APP, artifacts.of_layers(created="2026-02-01T00:00:00Z"), "newest")
    await mirroring.run()
    assert set(await mirroring.tags("app")) == {*made[-2:], "newest"}  # What is not meant any more is kept.
    assert upstream.count(Kind.GET_MANIFEST) == 1


async def test_when_images_were_made_is_known_for_as_long_as_somebody_needs_it(
    mirroring: Mirroring, upstream: Upstream, made: list[str]
) -> None:
    async def forget(days: float) -> int:
        return await mirroring.registry.db.write(ages.prune, mirroring.clock.now() - days * DAY, 2)

    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app", "tags": {"newest": 1, "by": "created"}})
    await mirroring.run()
    used = "SELECT used_at FROM image_times"
    before = await mirroring.rows(used)
    assert len(before) == len(made)
    await mirroring.run()
    assert await mirroring.rows(used) == before  # It costs a quiet night no writes.
    for _ in range(4):
        mirroring.pass_time(30 * DAY)
        upstream.forget()
        await mirroring.run()
        assert await forget(90) == 0
        assert upstream.count(Kind.GET_BLOB) == 0
    mirroring.pass_time(91 * DAY)
    assert [await forget(90) for _ in range(4)] == [2, 2, 1, 0]
    await mirroring.run()
    assert upstream.count(Kind.GET_BLOB) == len(made)  # Asked for again, and what is here is as it was.


async def test_while_one_cannot_be_asked_for_nobody_knows_which_are_the_newest(
    mirroring: Mirroring, upstream: Upstream, made: list[str]
) -> None:
    brief = {"remove_after": "1h"}
    mirroring.configure(
        {
            "source": f"{upstream.host}/{APP}",
            "target": "app",
            "tags": {"newest": 2, "by": "created"},
            "unselected": brief,
        }
    )
    await mirroring.run()
    upstream.fail(Kind.HEAD_MANIFEST, faults.status(500), of=made[-1])
    for _ in range(3):
        mirroring.pass_time(7_200)
        summary = await mirroring.run()
        assert summary.outcome is Outcome.ERROR
        assert "not known" in summary.failures[-1].why
    assert set(await mirroring.tags("app")) == set(made[-2:])
    assert await mirroring.rows("SELECT tag FROM origins WHERE leaving IS NOT NULL") == []
