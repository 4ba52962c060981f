"""Our own bad days: each call of the database and of the store fails, quotas, rules, a run that is stopped."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from homeport.db.database import DatabaseFull
from homeport.jobs import queue
from homeport.kinds import Outcome
from homeport.registry import quotas
from homeport.registry.retention import ImmutableTags, Retention
from homeport.storage.blobstore import StoreFull
from homeport.testing.blobstore_faults import FailingStore
from homeport.testing.database_faults import FailingDatabase
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import DAY, Mirroring
from tests.mirror.promises import OURS, Promised
from tests.mirror.upstream import Kind, Upstream

APP = "team/app"


async def begin(world: Promised) -> None:
    """Some tags are here, of which one is due to go and one is somebody's; another one moved, and one came."""
    await world.connect()
    for tag in ("1.0", "1.1", "1.2"):
        world.truth.put(tag, world.artifacts.image(30))
    world.want(1)
    await world.night(1)
    del world.truth.tags_there["1.0"]
    await world.night(1)
    world.truth.put("1.1", world.artifacts.image(30))
    world.truth.put("2.0", world.artifacts.platforms())
    await world.push_over("1.2", b"our own")
    world.pass_time(DAY)


async def heal(world: Promised) -> None:
    """Without the fault everything is done, whatever upstream did meanwhile."""
    moved = world.artifacts.image(30)
    world.truth.put("2.0", moved)
    await world.night(1)
    assert (await world.run()).outcome is Outcome.SUCCESS
    there = {tag: image.digest for tag, image in world.truth.tags_there.items()}
    assert await world.tags(OURS) == there | world.pushed
    assert await world.rows("SELECT tag FROM mirror_copies") == []
    await world.check_everything()


@pytest.mark.parametrize("how", [{}, {"done": True}, {"error": DatabaseFull}], ids=str)
async def test_each_call_of_the_database_may_fail(tmp_path: Path, how: dict[str, Any]) -> None:
    call, met = 0, True
    while met:
        call += 1
        world = Promised(tmp_path / str(call))
        await begin(world)
        asked = await world.ask()
        failing = FailingDatabase(world.registry.db, call, **how)
        world.registry.db = failing
        await world.worker.run_until_idle()
        met = len(failing.calls) >= call
        failing.mend()
        summary = await world.summary(asked)
        assert summary.outcome is Outcome.SUCCESS or "a test wanted it" in (summary.reason or summary.failures[0].why)
        await world.check_everything()
        await heal(world)
        await world.close()
    assert call > 30


@pytest.mark.parametrize("how", [{}, {"done": True}, {"error": StoreFull, "forever": True}], ids=str)
async def test_each_call_of_the_store_may_fail(tmp_path: Path, how: dict[str, Any]) -> None:
    call, met = 0, True
    while met:
        call += 1
        world = Promised(tmp_path / str(call))
        await begin(world)
        failing = FailingStore(world.registry.blobs, call, **how)
        world.registry.blobs = failing
        summary = await world.run()
        met = len(failing.calls) >= call
        failing.mend()
        assert summary.failures or summary.outcome is Outcome.SUCCESS
        await world.check_everything()
        await heal(world)
        await world.close()
    assert call > 15


# --- with a real upstream -----------------------------------------------------------------------------------------


async def mirrored(mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, count: int) -> None:
    """So many tags are here, and the first moved."""
    for number in range(count):
        upstream.put(APP, artifacts.image(), str(number))
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app"})
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    upstream.put(APP, artifacts.image(), "0")
    upstream.put(APP, artifacts.image(), "new")


async def is_in_step(mirroring: Mirroring, upstream: Upstream) -> bool:
    await mirroring.check_everything()
    return await mirroring.tags("app") == upstream.repositories[APP].tags


async def test_a_quota_is_kept_and_named(mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts) -> None:
    await mirrored(mirroring, upstream, artifacts, 2)
    await limit(mirroring, {"app": 16_000})
    summary = await mirroring.run()
    assert summary.outcome is Outcome.PARTIAL
    assert all("quota" in failure.why for failure in summary.failures)
    await limit(mirroring, {})
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert await is_in_step(mirroring, upstream)


async def limit(mirroring: Mirroring, rules: dict[str, int]) -> None:
    """These quotas hold, and what is here is counted."""
    mirroring.rule(quotas=rules)
    await mirroring.registry.db.write(quotas.sync, rules)
    for step in (quotas.recount, quotas.forget):
        while await mirroring.registry.db.jot(step, 500) is not None:
            pass


async def test_a_tag_that_never_changes_stays_what_it_is(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    await mirrored(mirroring, upstream, artifacts, 2)
    before = await mirroring.tags("app")
    mirroring.rule(retention=Retention(immutable=(ImmutableTags("**"),)))
    summary = await mirroring.run()
    assert (summary.outcome, summary.counts["copied"]) == (Outcome.PARTIAL, 1)
    (failure,) = summary.failures
    assert failure.what == f"{upstream.host}/{APP}:0"
    assert "immutable" in failure.why
    assert await mirroring.tags("app") == before | {"new": upstream.repositories[APP].tags["new"]}


async def test_nothing_is_asked_of_anybody_while_the_registry_is_read_only(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    await mirrored(mirroring, upstream, artifacts, 2)
    upstream.forget()
    mirroring.rule(read_only="the disk is being moved")
    assert (await mirroring.run()).outcome is Outcome.SKIPPED
    assert upstream.asked == []
    mirroring.rule(read_only=None)
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert await is_in_step(mirroring, upstream)


async def test_it_becomes_read_only_in_the_middle(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    await mirrored(mirroring, upstream, artifacts, 2)
    upstream.upon(Kind.GET_BLOB, lambda: mirroring.rule(read_only="the disk is full"))
    summary = await mirroring.run()
    assert summary.outcome is Outcome.PARTIAL
    assert any("the disk is full" in failure.why for failure in summary.failures)
    mirroring.rule(read_only=None)
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert await is_in_step(mirroring, upstream)


async def test_a_run_that_a_person_stops_leaves_what_is_here_right(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts
) -> None:
    await mirrored(mirroring, upstream, artifacts, 5)
    asked = await mirroring.ask()
    with upstream.held(Kind.GET_BLOB) as gate:
        running = asyncio.ensure_future(mirroring.worker.run_until_idle())
        await gate.reached(1)
        await mirroring.registry.db.write(queue.cancel, mirroring.clock, asked.id)
        await running
    assert (await mirroring.summary(asked)).outcome is Outcome.CANCELLED
    await mirroring.check_everything()
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert await is_in_step(mirroring, upstream)


async def test_two_runs_are_one_after_the_other(mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts) -> None:
    await mirrored(mirroring, upstream, artifacts, 2)
    await mirroring.ask()
    with upstream.held(Kind.GET_BLOB) as gate:
        running = asyncio.ensure_future(mirroring.worker.run_one())
        await gate.reached(1)
        again = await mirroring.ask(name=f"{upstream.host}/{APP}")
        assert not await mirroring.worker.run_one()
    await running
    await mirroring.worker.run_until_idle()
    assert (await mirroring.summary(again)).counts["copied"] == 0


@pytest.mark.parametrize("wrong", [-400 * DAY, 400 * DAY])
async def test_an_upstream_whose_clock_is_wrong(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, wrong: float
) -> None:
    """Its tokens say that they end when they do by its clock, and its dates are of another year."""
    date = formatdate(mirroring.clock.now() + wrong, usegmt=True)
    upstream.scheme = "bearer"
    upstream.token_uses = 20
    for kind in (Kind.TAGS, Kind.HEAD_MANIFEST, Kind.GET_MANIFEST, Kind.GET_BLOB):
        upstream.fail(kind, faults.headers(Date=date, Expires=date, Last_Modified=date))
    upstream.fail(Kind.HEAD_MANIFEST, faults.abuse_limit(formatdate(mirroring.clock.now() + 30, usegmt=True)), times=1)
    await mirrored(mirroring, upstream, artifacts, 5)
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert await is_in_step(mirroring, upstream)
