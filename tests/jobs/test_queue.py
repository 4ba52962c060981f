"""The queue as rows: one end for each job, one waiting and one running for each key, one holder of each lease."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from homeport.clock import SystemClock
from homeport.db.database import ConstraintViolated, Transaction
from homeport.db.sqlite import SqliteDatabase
from homeport.jobs import joblog, queue
from homeport.jobs.queue import Job, JobEnded, JobError, JobNotEnded, JobUnknown, Progress, Standing
from homeport.jobs.summary import Failure, Summary
from homeport.jobs.work import Kind, request
from homeport.kinds import Outcome
from tests.jobs.tools import SUCCESS, succeed

LEASES = {"work": 60.0, "other": 60.0}


class HandClock(SystemClock):
    """A time that passes only when the test says so."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time


class Rows:
    """The facts on a real file, in the words of the tests."""

    def __init__(self, database: SqliteDatabase, clock: HandClock) -> None:
        self.database = database
        self.clock = clock

    async def ask(self, kind: str = "work", **options: Any) -> Job:
        return await self.database.write(queue.enqueue, self.clock, kind, actor="ada", **options)

    async def take(self, only: int | None = None, owner: str = "me") -> Job | None:
        return await self.database.write(queue.claim, self.clock, owner, LEASES, only)

    async def took(self, only: int | None = None) -> Job:
        job = await self.take(only)
        assert job is not None
        return job

    async def end(self, job: Job, summary: Summary = SUCCESS) -> Job | None:
        return await self.database.write(queue.end, self.clock, job, summary)

    async def job(self, job_id: int) -> Job:
        job = await self.database.read(queue.get, job_id)
        assert job is not None
        return job


@pytest.fixture
async def rows(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rows]:
    clock = HandClock()
    database = SqliteDatabase(tmp_path_factory.mktemp("jobs") / "homeport.db", clock)
    yield Rows(database, clock)
    await database.close()


# --- its life ---------------------------------------------------------------------------------------------------


async def test_from_its_request_to_its_end(rows: Rows) -> None:
    asked = await rows.ask(address="192.0.2.1", arguments={"repository": "app"})
    assert asked.told() == {
        "id": asked.id,
        "kind": "work",
        "arguments": {"repository": "app"},
        "state": "waiting",
        "schedule": None,
        "actor": "ada",
        "address": "192.0.2.1",
        "attempts": 0,
        "created": "2027-01-15T08:00:00Z",
        "due": "2027-01-15T08:00:00Z",
        "started": None,
        "ended": None,
        "cancel_requested": False,
        "progress": None,
        "outcome": None,
        "reason": None,
        "summary": None,
    }
    rows.clock.time += 1
    job = await rows.took()
    assert (job.id, job.state, job.attempts, job.epoch) == (asked.id, "running", 1, 1)
    await rows.database.jot(queue.report, job, Progress(1, 2, "images", "app:1"))
    assert (await rows.job(job.id)).progress == Progress(1, 2, "images", "app:1")
    rows.clock.time += 2.5
    ended = await rows.end(job, Summary(Outcome.PARTIAL, "one is gone", {"copied": 1}, (Failure("app:1", "gone"),)))
    assert ended is not None
    assert ended == await rows.job(job.id)
    told = ended.told()
    assert json.loads(json.dumps(told)) == told
    assert (told["started"], told["ended"]) == ("2027-01-15T08:00:01Z", "2027-01-15T08:00:03.500000Z")
    assert told["summary"] == ended.result()
    assert ended.result() == {
        "job": job.id,
        "outcome": "partial",
        "reason": "one is gone",
        "counts": {"copied": 1},
        "failures": [{"what": "app:1", "why": "gone"}],
        "failed": 1,
        "seconds": 2.5,
    }


async def test_without_its_cause_there_is_no_job(rows: Rows) -> None:
    def fact(tx: Transaction) -> None:
        queue.enqueue(tx, rows.clock, "work", actor="ada")
        raise LookupError

    with pytest.raises(LookupError):
        await rows.database.write(fact)
    assert await rows.database.read(queue.listed) == []


async def test_first_come_first_served_and_none_before_its_time(rows: Rows) -> None:
    late = await rows.ask(due_at=rows.clock.time + 10)
    first, second = await rows.ask(), await rows.ask()
    assert [(await rows.took()).id, (await rows.took()).id] == [first.id, second.id]
    assert await rows.take() is None
    rows.clock.time += 10
    assert (await rows.took()).id == late.id


async def test_only_this_one_and_only_known_kinds(rows: Rows) -> None:
    await rows.ask("of another version")
    assert await rows.take() is None
    first, second = await rows.ask(), await rows.ask()
    assert await rows.take(only=second.id + 1) is None
    assert (await rows.took(only=second.id)).id == second.id
    assert await rows.take(only=second.id) is None
    assert (await rows.took(only=first.id)).id == first.id


async def test_listed(rows: Rows) -> None:
    ids = [(await rows.ask(kind)).id for kind in ("work", "other", "work", "other")]
    await rows.took()

    async def found(**which: Any) -> list[int]:
        return [job.id for job in await rows.database.read(queue.listed, **which)]

    assert await found() == ids[::-1]
    assert await found(kind="work") == [ids[2], ids[0]]
    assert await found(state="running") == [ids[0]]
    assert await found(state="waiting", kind="other") == [ids[3], ids[1]]
    assert await found(before=ids[2], limit=1) == [ids[1]]


async def test_the_old_are_forgotten(rows: Rows) -> None:
    for _ in range(3):
        await rows.ask()
        await rows.end(await rows.took())
    rows.clock.time += 100
    await rows.ask()
    await rows.end(await rows.took())
    waiting, running = await rows.ask(), await rows.ask(due_at=0)
    await rows.took(only=running.id)

    def prune(tx: Transaction) -> int:
        return queue.prune(tx, rows.clock.time, 2)

    assert [job.state for job in await rows.database.read(queue.listed, state="ended", limit=3)] == ["ended"] * 3

    assert [await rows.database.write(prune) for _ in range(3)] == [2, 1, 0]
    assert [job.id for job in await rows.database.read(queue.listed)] == [running.id, waiting.id, waiting.id - 1]


async def test_a_hundred_thousand_that_have_ended(rows: Rows) -> None:
    def fill(tx: Transaction) -> None:
        tx.run(
            "INSERT INTO jobs (kind, arguments, state, actor, address, attempts, epoch, created_at, due_at, ended_at,"
            " cancel_requested, outcome) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000)"
            " SELECT 'work', '{}', 'ended', 'ada', '', 1, 1, i, i, i, 0, 'success' FROM n"
        )

    def steps(tx: Transaction) -> list[int]:
        """How many steps of SQLite's each look takes, in thousands."""
        looked: list[int] = []
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        rows.database._reader.set_progress_handler(step, 1_000)
        for which in ({"state": "ended"}, {"state": "ended", "kind": "work", "before": 50_000}, {"state": "running"}):
            count = 0
            queue.listed(tx, **which)
            looked.append(count)
        return looked

    await rows.database.write(fill)
    assert max(await rows.database.read(steps)) <= 10
    assert await rows.database.write(queue.prune, 0.0) == 0
    assert 0 < await rows.database.write(queue.prune, 50_000.0) <= 10


# --- keys -------------------------------------------------------------------------------------------------------


async def test_at_most_one_waits_for_a_key(rows: Rows) -> None:
    first = await rows.ask(waiting_key="a")
    assert (await rows.ask(waiting_key="a")).id == first.id
    assert (await rows.ask(waiting_key="b")).id != first.id
    await rows.took(only=first.id)
    second = await rows.ask(waiting_key="a")
    assert second.id != first.id


async def test_at_most_one_runs_for_a_key(rows: Rows) -> None:
    first, second = await rows.ask(running_key="a"), await rows.ask(running_key="a")
    other = await rows.ask(running_key="b")
    job = await rows.took()
    assert job.id == first.id
    assert (await rows.took()).id == other.id
    assert await rows.take() is None
    assert await rows.take(only=second.id) is None
    await rows.end(job)
    assert (await rows.took()).id == second.id


@pytest.mark.parametrize(("state", "key"), [("waiting", "waiting_key"), ("running", "running_key")])
async def test_the_database_itself_allows_no_second_one(rows: Rows, state: str, key: str) -> None:
    def fact(tx: Transaction) -> None:
        for _ in range(2):
            tx.run(
                f"INSERT INTO jobs (kind, arguments, state, {key}, actor, address, attempts, epoch, created_at, due_at,"
                " lease_until, cancel_requested) VALUES ('work', '{}', ?, 'a', 'ada', '', 0, 0, 0, 0, ?, 0)",
                (state, 1 if state == "running" else None),
            )

    with pytest.raises(ConstraintViolated):
        await rows.database.write(fact)


async def test_one_that_waits_again_lets_the_newer_one_have_the_key(rows: Rows) -> None:
    first = await rows.ask(waiting_key="a")
    job = await rows.took()
    second = await rows.ask(waiting_key="a")
    assert await rows.database.write(queue.retry_later, job, rows.clock.time, "later") is not None
    assert {(await rows.took()).id, (await rows.took()).id} == {first.id, second.id}


async def test_a_kind_says_which_keys(rows: Rows) -> None:
    kinds = {"work": Kind("work", succeed), "other": Kind("other", succeed, one_at_a_time=False)}

    async def ask(name: str, **arguments: Any) -> int:
        job = await rows.database.write(
            request, rows.clock, kinds, name, actor="ada", address="192.0.2.1", arguments=arguments
        )
        return job.id

    one = await ask("work", repository="a", tag="b")
    assert await ask("work", tag="b", repository="a") == one
    two = await ask("work", repository="b")
    assert two != one
    assert await ask("other") != await ask("other")
    assert [(await rows.took()).id for _ in range(3)] == [one, two + 1, two + 2]
    assert await rows.take() is None


async def test_a_kind_that_is_not_there(rows: Rows) -> None:
    with pytest.raises(JobError, match="no kind of job is called 'wrok'; there are: work"):
        await rows.database.write(request, rows.clock, {"work": Kind("work", succeed)}, "wrok", actor="ada", address="")


# --- arguments --------------------------------------------------------------------------------------------------


class NoJson:
    """What JSON has no word for."""


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": NoJson()},
        {"x": b"bytes"},
        {"x": {1, 2}},
        {"x": (1, 2)},
        {1: "x"},
        {1: "x", "y": 2},
        {"x": math.nan},
        {"x": math.inf},
        {"x": "y" * (queue.ARGUMENTS_CHARACTERS_MAX + 1)},
        nested(100_000),
    ],
    ids=lambda arguments: repr(arguments)[:30] if len(arguments) < 3 and "x" not in arguments else None,
)
async def test_arguments_that_are_not_json_or_too_long(rows: Rows, arguments: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="the arguments of a job "):
        await rows.ask(arguments=arguments)
    assert await rows.database.read(queue.listed) == []


# --- leases -----------------------------------------------------------------------------------------------------


async def test_a_lease_that_lapsed_is_taken_over(rows: Rows) -> None:
    await rows.ask()
    first = await rows.took()
    rows.clock.time += 59.9
    assert await rows.take() is None
    assert await rows.database.jot(queue.renew, rows.clock, first, 60.0) is Standing.HELD
    rows.clock.time += 59.9
    assert await rows.take() is None
    rows.clock.time += 0.1
    # Nobody took it, so it is still theirs.
    assert await rows.database.read(queue.standing, first) is Standing.HELD
    second = await rows.took()
    assert (second.id, second.epoch, second.attempts) == (first.id, 2, 2)
    assert await rows.database.read(queue.standing, first) is Standing.LOST
    assert await rows.database.read(queue.standing, second) is Standing.HELD


async def test_a_clock_that_is_set_back_keeps_nothing_from_running(rows: Rows) -> None:
    year = 365 * 86400
    rows.clock.time += year
    running = await rows.ask()
    assert await rows.took() == await rows.job(running.id)
    again, waiting = await rows.ask(), await rows.ask()
    failed = await rows.took(again.id)
    assert await rows.database.write(queue.retry_later, failed, rows.clock.time + 10, "later") is not None
    rows.clock.time -= year
    # The first one's worker died before it could renew its lease.
    assert {(await rows.took()).id for _ in range(3)} == {running.id, again.id, waiting.id}
    assert await rows.take() is None


async def test_who_lost_a_job_can_write_nothing_of_it(rows: Rows) -> None:
    await rows.ask()
    first = await rows.took()
    rows.clock.time += 60
    second = await rows.took()
    before = await rows.job(first.id)
    assert await rows.database.jot(queue.renew, rows.clock, first, 1_000.0) is Standing.LOST
    await rows.database.jot(queue.report, first, Progress(1, 2, "", ""))
    assert await rows.end(first) is None
    assert await rows.database.write(queue.retry_later, first, 0.0, "later") is None
    assert await rows.database.write(queue.hand_back, rows.clock, first) is None
    assert await rows.job(first.id) == before
    assert await rows.end(second) is not None
    # It ended once, and stays so.
    assert await rows.end(second, Summary(Outcome.ERROR)) is None
    assert await rows.database.read(queue.standing, second) is Standing.LOST
    assert (await rows.job(first.id)).outcome is Outcome.SUCCESS


async def test_one_that_is_handed_back_was_not_begun(rows: Rows) -> None:
    await rows.ask()
    job = await rows.took()
    back = await rows.database.write(queue.hand_back, rows.clock, job)
    assert back is not None
    assert (back.state, back.attempts, back.started_at, back.progress) == ("waiting", 0, None, None)
    again = await rows.took()
    assert (again.id, again.attempts, again.epoch) == (job.id, 1, 2)


async def test_whoever_asks_for_one_that_is_tried_later_does_not_wait_for_that(rows: Rows) -> None:
    await rows.ask(waiting_key="a")
    job = await rows.took()
    await rows.database.write(queue.retry_later, job, rows.clock.time + 3600, "the disk is full")
    assert (await rows.ask(waiting_key="a", due_at=rows.clock.time + 7200)).due_at == rows.clock.time + 3600
    asked = await rows.ask(waiting_key="a")
    assert (asked.id, asked.due_at) == (job.id, rows.clock.time)
    assert (await rows.took()).attempts == 2


async def test_one_that_is_tried_later_says_why(rows: Rows) -> None:
    await rows.ask()
    job = await rows.took()
    later = await rows.database.write(queue.retry_later, job, rows.clock.time + 10, "busy " * 1_000)
    assert later is not None
    assert later.state == "waiting"
    assert later.reason is not None
    assert len(later.reason) == 1_000
    assert await rows.take() is None
    rows.clock.time += 10
    again = await rows.took()
    assert (again.attempts, again.reason) == (2, None)


# --- cancel, again ----------------------------------------------------------------------------------------------


async def test_one_that_waits_is_cancelled_at_once(rows: Rows) -> None:
    asked = await rows.ask(waiting_key="a")
    job = await rows.database.write(queue.cancel, rows.clock, asked.id)
    assert (job.state, job.outcome, job.seconds) == ("ended", Outcome.CANCELLED, 0.0)
    assert await rows.take() is None
    assert (await rows.ask(waiting_key="a")).id != asked.id


async def test_one_that_runs_is_asked_to_stop(rows: Rows) -> None:
    await rows.ask()
    job = await rows.took()
    for _ in range(2):
        asked = await rows.database.write(queue.cancel, rows.clock, job.id)
        assert (asked.state, asked.cancel_requested) == ("running", True)
    assert await rows.database.read(queue.standing, job) is Standing.CANCEL
    assert await rows.database.jot(queue.renew, rows.clock, job, 60.0) is Standing.CANCEL


async def test_what_cannot_be_cancelled_or_done_again(rows: Rows) -> None:
    asked = await rows.ask()
    with pytest.raises(JobUnknown, match="there is no job 17"):
        await rows.database.write(queue.cancel, rows.clock, 17)
    with pytest.raises(JobUnknown):
        await rows.database.write(queue.again, rows.clock, 17, "ada", "")
    with pytest.raises(JobNotEnded, match="has not ended"):
        await rows.database.write(queue.again, rows.clock, asked.id, "ada", "")
    job = await rows.took()
    with pytest.raises(JobNotEnded):
        await rows.database.write(queue.again, rows.clock, job.id, "ada", "")
    await rows.end(job)
    with pytest.raises(JobEnded, match="has ended already"):
        await rows.database.write(queue.cancel, rows.clock, job.id)


async def test_the_same_again(rows: Rows) -> None:
    asked = await rows.ask(arguments={"x": 1}, waiting_key="a", running_key="b", schedule="nightly")
    await rows.end(await rows.took(), Summary(Outcome.ERROR, "broken"))
    job = await rows.database.write(queue.again, rows.clock, asked.id, "bob", "192.0.2.9")
    assert (job.id != asked.id, job.kind, job.arguments) == (True, "work", {"x": 1})
    assert (job.state, job.actor, job.address, job.attempts, job.schedule) == ("waiting", "bob", "192.0.2.9", 0, None)
    # With the same keys as before.
    assert (await rows.database.write(queue.again, rows.clock, asked.id, "eve", "")).id == job.id


# --- bounds -----------------------------------------------------------------------------------------------------


async def test_ten_thousand_that_wait(rows: Rows) -> None:
    def fill(tx: Transaction) -> None:
        for _ in range(10_000):
            queue.enqueue(tx, rows.clock, "work", actor="ada", running_key="work")
        queue.enqueue(tx, rows.clock, "other", actor="ada")

    await rows.database.write(fill)
    job = await rows.took()
    assert (await rows.took()).kind == "other"
    assert await rows.take() is None
    await rows.end(job)
    assert (await rows.took()).id == job.id + 1
    assert len(await rows.database.read(queue.listed)) == 50

    def plan(tx: Transaction) -> str:
        return str(
            tx.all(
                "EXPLAIN QUERY PLAN SELECT id FROM jobs"
                " WHERE state = 'waiting' AND (due_at <= 1 OR created_at > 1 OR started_at > 1) ORDER BY due_at, id"
            )
        )

    # They come from the index in their order: none is looked at behind the one that is taken.
    assert "jobs_by_state" in await rows.database.read(plan)
    assert "TEMP B-TREE" not in await rows.database.read(plan)


async def test_a_progress_has_a_bound(rows: Rows) -> None:
    await rows.ask()
    job = await rows.took()
    await rows.database.jot(queue.report, job, Progress(1, None, "x" * 1_000, "y" * 1_000_000))
    progress = (await rows.job(job.id)).progress
    assert progress is not None
    assert (len(progress.unit), len(progress.text)) == (queue.PROGRESS_CHARACTERS_MAX,) * 2


async def test_no_log_without_a_job(rows: Rows) -> None:
    with pytest.raises(ConstraintViolated):
        await rows.database.write(joblog.say, rows.clock, 1, ["lost"])
