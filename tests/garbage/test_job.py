"""A run of the cleanup: what it does, when it does less, and what it tells."""

import asyncio
import io
import shutil
from collections.abc import Mapping

import pytest

from homeport import administration
from homeport.db.database import Transaction
from homeport.garbage import brake, job, policy
from homeport.garbage.policy import Removal
from homeport.garbage.sweep import Pace
from homeport.jobs.queue import Job
from homeport.jobs.summary import Summary
from homeport.jobs.worker import Worker
from homeport.kinds import JOBS, SKIPS, Outcome
from homeport.observe import Log
from homeport.registry import tags
from homeport.registry.protections import failed, report
from homeport.registry.registry import Registry
from homeport.registry.retention import KeepRule, Retention
from homeport.testing.images import image
from tests.garbage.cleaning import DAY, LONG, Cleaning, Unpaced
from tests.registry.world import ADA, REPOSITORY

APP = image([b"layer one", b"layer two"])


class Runs:
    """Runs the job in a world."""

    def __init__(self, cleaning: Cleaning) -> None:
        self.cleaning = cleaning
        self.skip_while_uploading = False
        pace = Unpaced(cleaning.clock)
        kind = job.kind(cleaning.registry, cleaning.sweeper, cleaning.guard, pace, lambda: self.skip_while_uploading)
        self.kinds = {job.NAME: kind}
        log = Log(io.StringIO(), cleaning.clock)
        self.worker = Worker(cleaning.registry.db, cleaning.clock, log, self.kinds, count=1, on_end=self._on_end)

    def _on_end(self, tx: Transaction, ended: Job) -> None:
        administration.ended(tx, self.cleaning.clock, ended)

    async def request(self, arguments: Mapping[str, str] | None = None) -> Job:
        db, clock = self.cleaning.registry.db, self.cleaning.clock
        return await db.write(administration.request, clock, self.kinds, job.NAME, ADA, arguments or {})

    async def __call__(self, **arguments: str) -> Summary:
        """One run; its summary."""
        asked = await self.request(arguments)
        assert await self.worker.run_one(only=asked.id)
        event = (await self.cleaning.events())[-1]
        assert event.kind == "cleanup.finished"
        assert event.detail is not None
        return Summary.parse(event.detail)

    async def said(self) -> str:
        return "\n".join(
            text for (text,) in await self.cleaning.rows("SELECT text FROM job_lines ORDER BY job_id, number")
        )


@pytest.fixture
async def run(cleaning: Cleaning) -> Runs:
    return Runs(cleaning)


async def fill(cleaning: Cleaning, count: int, repository: str = REPOSITORY) -> None:
    """So many tags, of which none is kept but the newest 10."""
    await cleaning.push(APP, *(f"v{number:03}" for number in range(count)), repository=repository)
    cleaning.pass_time(LONG)
    cleaning.rule(retention=Retention((KeepRule("team/**", newest=10),)))


async def left(cleaning: Cleaning, repository: str = REPOSITORY) -> int:
    found = await cleaning.registry.db.read(tags.names, repository, "", 1_000)
    return len(found or [])


def counts(summary: Summary) -> dict[str, int]:
    return {name: count for name, count in summary.counts.items() if count}


def test_its_words_are_documented() -> None:
    assert job.NAME in JOBS
    for word in (job.READ_ONLY, job.CLOCK_JUMPED, job.STORAGE_UNREACHABLE, job.UPLOADS_ACTIVE):
        assert word in SKIPS


# --- what it does -----------------------------------------------------------------------------------------------


async def test_it_removes_tags_sweeps_and_tells(cleaning: Cleaning, run: Runs) -> None:
    await fill(cleaning, 25)
    summary = await run()
    assert (summary.outcome, summary.reason, counts(summary)) == (Outcome.SUCCESS, None, {"tags": 15})
    assert await left(cleaning) == 10
    assert counts(await run()) == {}


async def test_rules_that_change_while_it_decides_are_not_overtaken(
    cleaning: Cleaning, run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody sees what is wrong with them, and has the configuration read again."""
    await fill(cleaning, 25)
    removals = policy.removals

    async def decided(registry: Registry, pace: Pace) -> tuple[list[Removal], int]:
        found = await removals(registry, pace)
        cleaning.rule(retention=Retention((KeepRule("team/**", newest=20),)))
        return found

    monkeypatch.setattr(policy, "removals", decided)
    await run()
    assert await left(cleaning) == 25


async def test_it_tells_what_the_sweep_gave_back_since_the_run_before(cleaning: Cleaning, run: Runs) -> None:
    await cleaning.push(APP, "latest")
    cleaning.pass_time(2 * DAY)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    await cleaning.sweep_after(LONG)
    await cleaning.start()
    cleaning.pass_time(2 * DAY)
    size = len(APP.data) + sum(map(len, APP.blobs))
    assert counts(await run()) == {"manifests": 1, "blobs": 3, "trashed": 4, "trashed_bytes": size, "uploads": 1}
    cleaning.pass_time(LONG)
    assert counts(await run()) == {"purged": 4, "purged_bytes": size}


async def test_untagged_things_go_at_once_where_a_person_wants_it(cleaning: Cleaning, run: Runs) -> None:
    """What `registry garbage-collect --delete-untagged=true` did."""
    await cleaning.push(APP, "latest")
    cleaning.pass_time(1.1 * DAY)
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "latest")
    assert counts(await run()) == {}
    summary = await run(untagged_after="0")
    size = len(APP.data) + sum(map(len, APP.blobs))
    assert counts(summary) == {"manifests": 1, "blobs": 3, "condemned": 4, "condemned_bytes": size}
    assert await cleaning.digests() == set()


@pytest.mark.parametrize("untagged_after", [None, "0", "3d"])
async def test_a_rehearsal_has_the_summary_of_the_run(
    cleaning: Cleaning, run: Runs, untagged_after: str | None
) -> None:
    await fill(cleaning, 25)
    await cleaning.push(image([b"old"]), "v000")
    cleaning.pass_time(4 * DAY)
    arguments = {} if untagged_after is None else {"untagged_after": untagged_after}
    rehearsed = await run(dry_run="true", **arguments)
    assert rehearsed.outcome is Outcome.SUCCESS
    assert rehearsed.reason == "nothing was removed, this was a dry run"
    assert await left(cleaning) == 25
    assert await run(dry_run="true", **arguments) == rehearsed
    assert (await run(**arguments)).counts == rehearsed.counts


async def test_a_run_that_broke_off_is_done_again_from_the_start(cleaning: Cleaning, run: Runs) -> None:
    await fill(cleaning, 25)
    asked = await run.request()
    running = asyncio.ensure_future(run.worker.run_one(only=asked.id))
    while await left(cleaning) == 25:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert 10 < await left(cleaning) < 25
    assert await run.worker.run_one(only=asked.id)
    (detail,) = [event.detail for event in await cleaning.events() if event.kind == "cleanup.finished"]
    assert detail is not None
    assert (detail["outcome"], detail["counts"]["tags"]) == ("success", 15)
    assert await left(cleaning) == 10


# --- when it does nothing ---------------------------------------------------------------------------------------


async def skipped(run: Runs, word: str, **arguments: str) -> None:
    summary = await run(**arguments)
    assert (summary.outcome, summary.reason, dict(summary.counts)) == (Outcome.SKIPPED, word, {})


async def test_a_registry_that_is_read_only(cleaning: Cleaning, run: Runs) -> None:
    await fill(cleaning, 25)
    cleaning.rule(read_only="it is being moved")
    await skipped(run, "read-only")
    assert await run.said() == "the registry is read-only: it is being moved"
    assert (await run(dry_run="true")).outcome is Outcome.SUCCESS


async def test_a_clock_that_jumped(cleaning: Cleaning, run: Runs) -> None:
    await fill(cleaning, 25)
    await cleaning.guard.stopped()
    cleaning.clock.wrong = 2 * DAY
    await skipped(run, "clock-jumped")
    assert "`homeport cleanup confirm-clock`" in await run.said()
    assert await left(cleaning) == 25


@pytest.mark.parametrize(
    ("lost", "told"), [("", "the storage does not answer: "), ("docker", "none of 4 blobs that should be there is: ")]
)
async def test_a_disk_that_is_gone(cleaning: Cleaning, run: Runs, lost: str, told: str) -> None:
    await fill(cleaning, 25)
    shutil.rmtree(cleaning.folder / lost)
    await skipped(run, "storage-unreachable")
    assert told in await run.said()
    assert await left(cleaning) == 25


async def test_uploads_keep_it_from_running_only_where_that_is_wanted(cleaning: Cleaning, run: Runs) -> None:
    await cleaning.start()
    assert (await run()).outcome is Outcome.SUCCESS
    run.skip_while_uploading = True
    await skipped(run, "uploads-active")
    cleaning.pass_time(job.ACTIVE_SECONDS + 1)
    assert (await run()).outcome is Outcome.SUCCESS


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"untagged_after": "soon"}, "untagged_after must be a number of seconds, or a duration such as 30s, 5m, 12h"),
        ({"dry_run": "perhaps"}, "dry_run must be true or false"),
        ({"released": "last"}, "released must be the number of a job"),
        ({"released": "99"}, "nobody released job 99"),
    ],
)
async def test_arguments_that_cannot_be_meant(run: Runs, arguments: dict[str, str], reason: str) -> None:
    summary = await run(**arguments)
    assert summary.outcome is Outcome.ERROR
    assert (summary.reason or "").startswith(reason)


# --- when it does less ------------------------------------------------------------------------------------------


async def test_an_engine_that_never_told_keeps_every_tag(cleaning: Cleaning, run: Runs) -> None:
    await fill(cleaning, 25)
    db, clock = cleaning.registry.db, cleaning.clock
    cleaning.rule(engines=("new", "swarm"))
    await db.write(failed, clock, "swarm", "connection refused")
    summary = await run()
    assert (summary.outcome, summary.reason) == (Outcome.PARTIAL, None)
    assert [failure.what for failure in summary.failures] == ["engine new", "engine swarm"]
    await db.write(report, clock, "new", [], 2)
    summary = await run()
    assert summary.reason == "engine swarm has never told what it runs, so no tag was removed"
    assert (await run(dry_run="true")).counts["tags"] == 0
    assert await left(cleaning) == 25
    await db.write(report, clock, "swarm", [], 2)
    await db.write(failed, clock, "swarm", "connection refused")  # What it last ran is known.
    assert (await run()).outcome is Outcome.SUCCESS
    assert await left(cleaning) == 10


async def test_too_many_tags_stop_it_until_a_person_lets_them_go(cleaning: Cleaning, run: Runs) -> None:
    await fill(cleaning, 40)
    rehearsed = await run(dry_run="true")
    summary = await run()
    assert rehearsed.outcome is summary.outcome is Outcome.PARTIAL
    assert counts(rehearsed) == counts(summary) == {"braked": 30}
    assert "no tag was removed: 30 of the 40 tags of team/app would go, and 20 may." in (summary.reason or "")
    assert "`homeport cleanup release 2`" in (summary.reason or "")
    assert await left(cleaning) == 40
    (stopped,) = [event for event in await cleaning.events() if event.kind == "cleanup.stopped"]
    assert stopped.reason == summary.reason
    assert (await run(released="2")).outcome is Outcome.ERROR
    await cleaning.registry.db.write(brake.release, cleaning.registry, ADA, 2)
    assert counts(await run(released="2")) == {"tags": 30}
    assert await left(cleaning) == 10


async def test_a_release_is_for_as_many_tags_as_stopped_it(cleaning: Cleaning, run: Runs) -> None:
    await fill(cleaning, 40)
    await run()
    await cleaning.registry.db.write(brake.release, cleaning.registry, ADA, 1)
    await cleaning.manifest(APP, "another")
    summary = await run(released="1")
    assert "31 of the 41 tags of team/app would go, and 30 may" in (summary.reason or "")
    await tags.delete(cleaning.registry, ADA, REPOSITORY, "another")
    assert counts(await run(released="1")) == {"tags": 30}
    assert (await run(released="1")).reason == "the release of job 1 was made use of by job 3"


async def test_a_run_that_stopped_sweeps_all_the_same(cleaning: Cleaning, run: Runs) -> None:
    await fill(cleaning, 40)
    untagged = image([b"untagged"])
    await cleaning.push(untagged)
    cleaning.pass_time(LONG)
    assert counts(await run())["manifests"] == 1
