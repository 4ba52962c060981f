"""One way to each upstream: its login, its pace and its quota, shared by all who ask and changed while it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.client.errors import LoginFailed, Refused
from homeport.kinds import Outcome
from homeport.upstreams.upstreams import Purpose, QuotaSpent, UpstreamRepository
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import Mirroring
from tests.mirror.upstream import Kind, Quota, Upstream

APP = "team/app"


@pytest.fixture
def secret(mirroring: Mirroring, upstream: Upstream, tmp_path: Path) -> Path:
    """Where the password is; the upstream shows nothing without it."""
    secret = tmp_path / "password"
    secret.write_text(upstream.password)
    upstream.scheme = "bearer"
    upstream.private = {APP}
    mirroring.configure(
        {"source": f"{upstream.host}/{APP}", "target": "app"},
        upstreams={upstream.host: {"username": upstream.user, "password": f"file:{secret}"}},
    )
    return secret


async def way(mirroring: Mirroring, upstream: Upstream, purpose: Purpose = Purpose.PEOPLE) -> UpstreamRepository:
    return await mirroring.upstreams.repository(upstream.host, APP, purpose)


async def test_a_new_password_counts_at_once(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, secret: Path
) -> None:
    image = upstream.put(APP, artifacts.image(), "1")
    assert (await (await way(mirroring, upstream)).get_manifest("1")).digest == image.digest
    upstream.password = "another"
    secret.write_text("another")
    upstream.forget()
    assert (await (await way(mirroring, upstream)).get_manifest("1")).digest == image.digest
    secret.write_text("wrong")
    with pytest.raises(Refused) as refused:
        await (await way(mirroring, upstream)).get_manifest("1")
    assert "wrong" not in str(refused.value)


async def test_a_secret_that_cannot_be_read_stops_that_upstream_only_and_heals_by_itself(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, secret: Path
) -> None:
    async with Upstream.running() as other:
        upstream.put(APP, artifacts.image(), "1")
        other.put(APP, artifacts.image(), "1")
        mirroring.configure(
            {"source": f"{upstream.host}/{APP}", "target": "app"},
            {"source": f"{other.host}/{APP}", "target": "other"},
            upstreams={upstream.host: {"username": upstream.user, "password": f"file:{secret}"}},
        )
        kept = secret.read_text()
        secret.unlink()
        with pytest.raises(LoginFailed, match="its login cannot be read"):
            await way(mirroring, upstream)
        summary = await mirroring.run()
        assert (summary.outcome, summary.counts["copied"]) == (Outcome.PARTIAL, 1)
        assert "its login cannot be read" in summary.failures[0].why
        assert upstream.asked == []  # It is not asked as somebody else.
        secret.write_text(kept)
        assert (await mirroring.run()).outcome is Outcome.SUCCESS


async def test_a_login_goes_to_its_own_upstream_only(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, secret: Path
) -> None:
    async with Upstream.running() as other:
        other.scheme = "basic"
        other.put(APP, artifacts.image(), "1")
        assert secret.exists()
        with pytest.raises(LoginFailed, match="no login is known"):
            await (await way(mirroring, other)).get_manifest("1")
        assert [asked.authorization for asked in other.asked if asked.authorization] == []
        assert upstream.asked == []


async def test_runs_stop_at_the_reserve_and_people_do_not(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    upstream.put(APP, artifacts.image(), "1")
    upstream.quota = Quota(100, 21)
    mirroring.configure(upstreams={upstream.host: {"reserve": 20}})
    runs, people = [await way(mirroring, upstream, purpose) for purpose in (Purpose.RUNS, Purpose.PEOPLE)]
    await runs.head_manifest("1")
    await runs.get_manifest("1")
    with pytest.raises(QuotaSpent, match="20 of 100 pulls are left, and a run leaves 20 for people"):
        await runs.get_manifest("1")
    for _ in range(20):
        await people.get_manifest("1")
    asked = upstream.count(Kind.GET_MANIFEST)
    with pytest.raises(QuotaSpent, match="no pull of 100 is left"):
        await people.get_manifest("1")
    assert upstream.count(Kind.GET_MANIFEST) == asked
    assert await people.head_manifest("1") is not None  # Which is no pull.


async def test_a_run_says_what_it_really_leaves_of_a_small_quota(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    upstream.put(APP, artifacts.image(), "1")
    upstream.quota = Quota(10, 5)
    mirroring.configure(upstreams={upstream.host: {"reserve": 20}})
    runs = await way(mirroring, upstream, Purpose.RUNS)
    await runs.head_manifest("1")
    with pytest.raises(QuotaSpent, match="5 of 10 pulls are left, and a run leaves 5 for people"):
        await runs.get_manifest("1")


async def test_a_quota_outlives_the_process(mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts) -> None:
    upstream.put(APP, artifacts.image(), "1")
    upstream.quota = Quota(100, 5)
    mirroring.configure(upstreams={upstream.host: {"reserve": 20}})
    await (await way(mirroring, upstream)).head_manifest("1")
    await mirroring.upstreams.flush()
    await mirroring.restart()
    with pytest.raises(QuotaSpent):
        await (await way(mirroring, upstream, Purpose.RUNS)).get_manifest("1")


async def test_other_settings_count_at_once(mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts) -> None:
    upstream.put(APP, artifacts.image(), "1")
    upstream.quota = Quota(100, 30)
    mirroring.configure(upstreams={upstream.host: {"reserve": 40}})
    runs = await way(mirroring, upstream, Purpose.RUNS)
    await runs.head_manifest("1")
    with pytest.raises(QuotaSpent):
        await runs.get_manifest("1")
    mirroring.configure(upstreams={upstream.host: {"reserve": 0, "requests_per_second": 0.5}})
    await runs.get_manifest("1")  # Also for who has been asking all the time.
    mirroring.clock.slept.clear()
    later = await way(mirroring, upstream, Purpose.RUNS)
    for _ in range(3):
        await later.head_manifest("1")
    assert sum(mirroring.clock.slept) >= 3
