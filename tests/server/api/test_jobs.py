"""Asking for runs, looking at them, stopping them."""

import json
from typing import Any

import pytest

from homeport import events
from homeport.auth import tokens
from homeport.events import Event
from homeport.jobs.summary import Failure, Summary
from homeport.jobs.work import Run
from homeport.kinds import Outcome
from tests.server.api.world import ADDRESS, World


async def begin(world: World, **arguments: Any) -> int:
    answer = await world.post("/api/v1/jobs", {"kind": "housekeeping", "arguments": arguments})
    assert answer.status == 202, answer
    job_id: int = answer.json["id"]
    return job_id


async def log_of(world: World) -> list[Event]:
    found = await world.database.read(events.after, events.START)
    return [event for event in found if not event.kind.startswith("token.")]


async def test_a_run_from_its_request_to_its_end(world: World) -> None:
    async def work(run: Run) -> Summary:
        await run.say("looking\nand forgetting")
        await run.progress(3, 4, "rows", "events")
        return Summary.of({"events": 3}, [Failure("deliveries", "the disk is full")], done=3)

    world.work = work
    started = await world.post("/api/v1/jobs", {"kind": "housekeeping", "arguments": {"deep": [1, {"a": None}]}})
    assert started.status == 202
    job = started.json
    assert started.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert world.worker_calls == 1
    assert (job["state"], job["actor"], job["address"]) == ("waiting", "robot:cron", ADDRESS)
    assert job["arguments"] == {"deep": [1, {"a": None}]}
    assert (await world.get(started.headers["location"])).json == job

    await world.worker.run_until_idle()
    ended = (await world.get(f"/api/v1/jobs/{job['id']}")).json
    assert (ended["state"], ended["outcome"]) == ("ended", "partial")
    assert ended["summary"]["failures"] == [{"what": "deliveries", "why": "the disk is full"}]
    lines = (await world.get(f"/api/v1/jobs/{job['id']}/log")).json["lines"]
    assert [(line["number"], line["text"]) for line in lines] == [(1, "looking"), (2, "and forgetting")]
    assert (await world.get(f"/api/v1/jobs/{job['id']}/log?after=1&limit=1")).json["lines"] == lines[1:]

    requested, finished = await log_of(world)
    assert (requested.kind, requested.actor, requested.address) == ("job.requested", "robot:cron", ADDRESS)
    assert requested.run == started.headers["x-request-id"]
    assert (finished.kind, finished.run) == ("housekeeping.finished", f"job-{job['id']}")


async def test_what_waits_already_is_not_asked_for_twice(world: World) -> None:
    assert await begin(world) == await begin(world)
    assert await begin(world, other=1) != await begin(world)


async def test_a_list_has_pages_and_filters(world: World) -> None:
    ids = [await begin(world, number=number) for number in range(5)]
    await world.worker.run_one(ids[0])
    found = (await world.get("/api/v1/jobs?limit=2")).json["jobs"]
    assert [job["id"] for job in found] == ids[:2:-1]
    found = (await world.get(f"/api/v1/jobs?limit=1000&before={ids[3]}")).json["jobs"]
    assert [job["id"] for job in found] == ids[2::-1]
    assert [job["id"] for job in (await world.get("/api/v1/jobs?state=ended")).json["jobs"]] == ids[:1]
    assert (await world.get("/api/v1/jobs?kind=mirror")).json == {"jobs": []}


async def test_one_that_waits_is_cancelled_at_once_and_can_be_asked_for_again(world: World) -> None:
    job_id = await begin(world, a=1)
    cancelled = await world.post(f"/api/v1/jobs/{job_id}/cancel", {}, who="admin")
    assert (cancelled.status, cancelled.json["outcome"]) == (200, "cancelled")
    again = await world.post(f"/api/v1/jobs/{job_id}/cancel")
    assert (again.status, again.code) == (409, "CONFLICT")
    assert "has ended already (cancelled)" in again.sentence

    retried = await world.post(f"/api/v1/jobs/{job_id}/retry")
    assert (retried.status, retried.json["arguments"]) == (202, {"a": 1})
    assert world.worker_calls == 2
    assert retried.headers["location"] == f"/api/v1/jobs/{retried.json['id']}"
    refused = await world.post(f"/api/v1/jobs/{retried.json['id']}/retry")
    assert (refused.status, refused.code) == (409, "CONFLICT")
    told = [(event.kind, event.actor, event.reason) for event in await log_of(world)]
    assert told == [
        ("job.requested", "robot:cron", "housekeeping"),
        ("job.cancelled", "user:root", "housekeeping"),
        ("housekeeping.finished", "system", None),
        ("job.retried", "robot:cron", "housekeeping"),
    ]


async def test_one_that_runs_is_asked_to_stop(world: World) -> None:
    job_id = await begin(world)

    async def work(run: Run) -> Summary:
        answer = await world.post(f"/api/v1/jobs/{job_id}/cancel")
        assert (answer.json["state"], answer.json["cancel_requested"]) == ("running", True)
        return Summary(Outcome.SUCCESS)

    world.work = work
    await world.worker.run_one()
    assert (await world.get(f"/api/v1/jobs/{job_id}")).json["cancel_requested"]


@pytest.mark.parametrize("what", ["", "/log", "/follow"])
async def test_a_job_that_is_not_there(world: World, what: str) -> None:
    for job_id in ("7", "0", str(2**63 - 1)):
        answer = await world.get(f"/api/v1/jobs/{job_id}{what}")
        assert (answer.status, answer.code) == (404, "NOT_FOUND")
        assert f"no job {job_id}" in answer.sentence


@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_nothing_is_done_to_a_job_that_is_not_there(world: World, verb: str) -> None:
    answer = await world.post(f"/api/v1/jobs/7/{verb}")
    assert (answer.status, answer.code) == (404, "NOT_FOUND")
    assert await log_of(world) == []


# --- following --------------------------------------------------------------------------------------------------


async def test_a_run_is_followed_to_its_end(world: World) -> None:
    job_id = await begin(world)
    async with world.asking("GET", f"/api/v1/jobs/{job_id}/follow") as stream:
        assert (await stream.line())["job"]["state"] == "waiting"

        async def work(run: Run) -> Summary:
            told = await stream.line()
            assert told["job"]["state"] == "running"
            await run.say("one")
            await run.progress(1, 2, "steps")
            await run.flush()
            assert (await stream.line())["job"]["progress"] == {"done": 1, "total": 2, "unit": "steps", "text": ""}
            assert (await stream.line())["line"]["text"] == "one"
            await run.say("two")
            return Summary(Outcome.SUCCESS)

        world.work = work
        await world.worker.run_one()
        # What a job said last comes before its end, in whichever moment one looks.
        assert (await stream.line())["line"]["text"] == "two"
        last = (await stream.line())["job"]
        assert (last["state"], last["outcome"]) == ("ended", "success")
        assert await stream.ends()


async def test_one_that_has_ended_is_told_whole_and_from_where_one_was(world: World) -> None:
    async def work(run: Run) -> Summary:
        await run.say("\n".join(f"line {number}" for number in range(1, 1201)))
        return Summary(Outcome.SUCCESS)

    world.work = work
    job_id = await begin(world)
    await world.worker.run_one()
    answer = await world.get(f"/api/v1/jobs/{job_id}/follow")
    assert answer.headers["content-type"] == "application/jsonl"
    *lines, last = map(json.loads, answer.body.splitlines())
    assert [line["line"]["number"] for line in lines] == list(range(1, 1201))
    assert last["job"]["outcome"] == "success"
    answer = await world.get(f"/api/v1/jobs/{job_id}/follow?after=1199")
    assert [list(json.loads(line)) for line in answer.body.splitlines()] == [["line"], ["job"]]


async def test_a_silent_stream_says_that_it_is_there(world: World) -> None:
    job_id = await begin(world)
    async with world.asking("GET", f"/api/v1/jobs/{job_id}/follow") as stream:
        assert (await stream.line())["job"]["id"] == job_id
        # Notifications give way to pushes and pulls, not to whoever looks on.
        assert (world.application.active, world.application.in_front) == (1, 0)
        assert [await stream.line() for _ in range(3)] == [None] * 3


async def test_a_stream_ends_when_the_server_stops(world: World) -> None:
    job_id = await begin(world)
    async with world.asking("GET", f"/api/v1/jobs/{job_id}/follow") as stream:
        await stream.line()
        world.context.draining = True
        assert await stream.ends()
        assert stream.task is not None
        await stream.task
    assert world.application.active == 0


async def test_a_stream_ends_with_the_login(world: World) -> None:
    job_id = await begin(world)
    (token,) = [found for found in await world.database.read(tokens.all_of) if found.description == "robot-all"]
    async with world.asking("GET", f"/api/v1/jobs/{job_id}/follow") as stream:
        await stream.line()
        await world.database.write(tokens.revoke, world.clock, events.SYSTEM, token.id)
        assert await stream.ends()


async def test_a_client_that_leaves_is_no_failure(world: World) -> None:
    job_id = await begin(world)
    async with world.asking("GET", f"/api/v1/jobs/{job_id}/follow") as stream:
        await stream.line()
    assert world.application.active == 0
    world.context.log.flush()
    line = json.loads(world.logged.getvalue().splitlines()[-1])
    assert (line["event"], line["status"], line["error"], line["actor"]) == ("request", 200, None, "robot:cron")
    assert line["bytes"] > 100


async def test_a_head_of_a_stream_is_over_at_once(world: World) -> None:
    job_id = await begin(world)
    answer = await world.ask("HEAD", f"/api/v1/jobs/{job_id}/follow")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "application/jsonl"
    assert "content-length" not in answer.headers
