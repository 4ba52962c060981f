"""Targets are told, each in its order and at its own pace, whatever the others do."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from homeport import events
from homeport.client.transport import Transport
from homeport.config.references import SecretReference, parse_reference
from homeport.db.sqlite import SqliteDatabase
from homeport.events import Event
from homeport.notify import deliveries
from homeport.notify.deliveries import Delivery
from homeport.notify.errors import TargetUnknown
from homeport.notify.notifier import TRIED_SECONDS, Notifier
from homeport.secretstore.store import SecretStore
from tests.client.servers import serving
from tests.notify.receiving import receiving
from tests.notify.things import ADA, MovableClock, append, event, notifier_on, target

#: Nothing listens there: port 1 is nobody's.
DEAD = "http://127.0.0.1:1/hook"


def status(number: int, **headers: str) -> web.Response:
    return web.Response(status=number, headers=headers)


async def put(database: SqliteDatabase, clock: MovableClock, *tags: str, **more: Any) -> None:
    for tag in tags:
        await database.write(append, clock, tag=tag, **{"repository": "team/app", **more})


async def listed(database: SqliteDatabase, **wanted: Any) -> list[Delivery]:
    return (await database.read(deliveries.listed, limit=10_000, **wanted))[::-1]


async def told_kinds(database: SqliteDatabase) -> list[str]:
    return [each.kind for each in await database.read(events.after, events.START)]


async def newest(database: SqliteDatabase) -> Event:
    (found,) = await database.read(events.latest, 1)
    return found


# --- in order, at least once ------------------------------------------------------------------------------------


async def test_what_happens_is_told_in_order(notifier: Notifier, database: SqliteDatabase, clock: MovableClock) -> None:
    await put(database, clock, "history")
    async with receiving() as ops:
        await notifier.reconfigure([target("ops", ops.url, on=("tag.set",))])
        await notifier.run_until_idle()
        await put(database, clock, "v1", "v2")
        await database.write(append, clock, "user.added")
        await put(database, clock, "v3")
        await notifier.run_until_idle()
    assert ops.tags == ["v1", "v2", "v3"]
    assert len({arrival.id for arrival in ops.arrivals}) == 3
    assert [(each.state, each.status, each.answer, each.attempts) for each in await listed(database)] == [
        ("sent", 200, "thanks", 1)
    ] * 3


async def test_nothing_is_told_of_a_change_that_was_rolled_back(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    def broken(tx: Any) -> None:
        append(tx, clock, tag="never")
        raise ValueError

    async with receiving() as ops:
        await notifier.reconfigure([target("ops", ops.url)])
        with suppress(ValueError):
            await database.write(broken)
        await put(database, clock, "v1")
        await notifier.run_until_idle()
    assert ops.tags == ["v1"]


async def test_a_try_is_repeated_with_the_same_id_and_a_new_time(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock, environ: dict[str, str]
) -> None:
    key = base64.b64encode(b"k" * 32).decode()
    environ["KEY"] = f"whsec_{key}"
    answers = [status(500), status(503), status(200)]
    async with receiving(lambda: answers.pop(0)) as ops:
        await notifier.reconfigure([target("ops", ops.url, secret=parse_reference("env:KEY"))])
        await put(database, clock, "v1")
        for _ in range(3):
            await notifier.run_until_idle()
            clock.moved += 10
    assert len({arrival.id for arrival in ops.arrivals}) == 1
    times = [int(arrival.headers["webhook-timestamp"]) for arrival in ops.arrivals]
    assert times[0] + 9 <= times[1] <= times[2] - 9
    for arrival in ops.arrivals[:2]:
        assert Webhook(key).verify(arrival.body, arrival.headers) == arrival.json
    (delivery,) = await listed(database)
    assert (delivery.state, delivery.attempts) == ("sent", 3)


async def test_the_next_one_waits_behind_one_that_fails(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    async with receiving(lambda: status(500)) as ops:
        await notifier.reconfigure([target("ops", ops.url)])
        await put(database, clock, "v1", "v2")
        await notifier.run_until_idle()
        assert ops.tags == ["v1"]
        await notifier.run_until_idle()
        assert ops.tags == ["v1"], "it is not due yet"
        ops.answer = lambda: status(200)
        clock.moved += 60
        await notifier.run_until_idle()
        assert ops.tags == ["v1", "v1", "v2"]


async def test_time_is_given_to_who_asks_for_it(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    answers = [web.Response(status=429, headers={"Retry-After": "100"}), status(200)]
    async with receiving(lambda: answers.pop(0)) as ops:
        await notifier.reconfigure([target("ops", ops.url)])
        await put(database, clock, "v1")
        await notifier.run_until_idle()
        clock.moved += 90
        await notifier.run_until_idle()
        assert len(ops.arrivals) == 1
        clock.moved += 11
        await notifier.run_until_idle()
        assert len(ops.arrivals) == 2


async def test_what_is_refused_is_given_up_at_once_and_blocks_nobody(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    answers = [status(410), status(200)]
    async with receiving(lambda: answers.pop(0)) as ops:
        await notifier.reconfigure([target("ops", ops.url, on=("tag.set", "delivery.given_up"))])
        await put(database, clock, "v1", "v2")
        await notifier.run_until_idle()
    assert ops.tags == ["v1", "v2"]
    assert [each.state for each in await listed(database)] == ["given-up", "sent"]
    assert (await told_kinds(database))[-1] == "delivery.given_up"
    assert (await newest(database)).detail == {
        "target": "ops",
        "delivery": 1,
        "event": 1,
        "kind": "tag.set",
        "status": 410,
    }


async def test_after_three_days_it_is_given_up(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    await notifier.reconfigure([target("dead", DEAD, on=("tag.set",))])
    await put(database, clock, "v1", "v2")
    for _ in range(10):
        await notifier.run_until_idle()
        clock.moved += 3600
    assert [each.state for each in await listed(database)] == ["waiting", "waiting"]
    clock.moved += TRIED_SECONDS
    await notifier.run_until_idle()
    first, second = await listed(database)
    assert (first.state, second.state) == ("given-up", "given-up")
    assert first.attempts == 11
    assert "Connection refused" in (first.answer or "")
    assert (await told_kinds(database)) == ["tag.set"] * 2 + ["delivery.given_up"] * 2


async def test_what_waited_while_the_program_was_down_for_long_is_tried_all_the_same(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    async with receiving() as ops:
        await notifier.reconfigure([target("ops", ops.url)])
        await put(database, clock, "v1", "v2")
        clock.moved += TRIED_SECONDS + 3600
        await notifier.run_until_idle()
        assert ops.tags == ["v1", "v2"]


async def test_two_dead_targets_do_not_tell_one_another_for_ever(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    await notifier.reconfigure([target("a", DEAD), target("b", DEAD)])
    await put(database, clock, "v1")
    for _ in range(10):
        await notifier.run_until_idle()
        clock.moved += TRIED_SECONDS + 1
    kinds = await told_kinds(database)
    assert kinds == ["tag.set", "delivery.given_up", "delivery.given_up"]
    assert {each.state for each in await listed(database)} == {"given-up"}
    assert len(await listed(database)) == 4


async def test_a_log_that_is_longer_than_a_batch(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    tags = [f"v{number}" for number in range(1_200)]

    def many(tx: Any) -> None:
        for tag in tags:
            append(tx, clock, tag=tag, repository="app")

    async with receiving() as ops:
        await notifier.reconfigure([target("ops", ops.url), target("dead", DEAD), target("none", DEAD, on=("user.*",))])
        await database.write(many)
        await notifier.run_until_idle()
        assert ops.tags == tags
    assert len(await listed(database, target="dead")) == 500, "the rest stays in the log"


@pytest.mark.parametrize("before", [0, 497, 498, 499, 500])
async def test_a_push_by_tag_is_one_envelope_wherever_the_batch_ends(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock, before: int
) -> None:
    def pushes(tx: Any) -> None:
        for _ in range(before):
            append(tx, clock, "user.added")
        append(tx, clock, "manifest.pushed", repository="app", digest="sha256:1")
        append(tx, clock, "tag.set", repository="app", digest="sha256:1", tag="v1")

    async with receiving() as old:
        await notifier.reconfigure([target("old", old.url, format="distribution")])
        await database.write(pushes)
        await notifier.run_until_idle()
    (arrival,) = old.arrivals
    assert [told["target"]["tag"] for told in arrival.json["events"]] == ["v1"]


# --- side by side -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(notifier: Notifier) -> AsyncIterator[None]:
    task = asyncio.create_task(notifier.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_slow_and_a_dead_target_hold_up_nobody(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    blocked = asyncio.Event()

    async def never(_: web.Request) -> web.Response:
        blocked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with receiving() as ops, receiving() as other, running(notifier), serving(never) as server:
        await notifier.reconfigure(
            [
                target("slow", server.url, timeout_seconds=300),
                target("dead", DEAD),
                target("ops", ops.url),
                target("other", other.url),
            ]
        )
        tags = [f"v{number}" for number in range(20)]
        await put(database, clock, *tags)
        await ops.until(20)
        await other.until(20)
        await blocked.wait()
        await put(database, clock, "last")
        await ops.until(21)
    assert ops.tags == [*tags, "last"]


async def test_a_target_that_fails_is_tried_again_by_itself(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    answers = [status(500), status(200), status(200)]
    async with receiving(lambda: answers.pop(0)) as ops, running(notifier):
        await notifier.reconfigure([target("ops", ops.url)])
        await put(database, clock, "v1")
        await ops.until(1)
        clock.moved += 60
        await ops.until(2)
    assert ops.tags == ["v1", "v1"]


async def test_while_requests_are_answered_there_are_pauses(
    database: SqliteDatabase, transport: Transport, secrets: SecretStore
) -> None:
    class CountingClock(MovableClock):
        pauses = 0

        async def sleep(self, seconds: float) -> None:
            self.pauses += seconds > 0
            await asyncio.sleep(0)

    clock = CountingClock()
    busy = True
    notifier = notifier_on(database, clock, transport, secrets, busy=lambda: busy)
    async with receiving() as ops:
        await notifier.reconfigure([target("ops", ops.url)])
        await put(database, clock, *map(str, range(60)))
        await notifier.run_until_idle()
        assert len(ops.arrivals) == 60
        assert clock.pauses >= 62, "one for each delivery, and for each look at the log"
        busy, paused = False, clock.pauses
        await put(database, clock, *map(str, range(60)))
        await notifier.run_until_idle()
        assert (len(ops.arrivals), clock.pauses) == (120, paused)


# --- another configuration --------------------------------------------------------------------------------------


async def test_targets_come_and_go_while_it_runs(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    async with receiving() as first, receiving() as second, running(notifier):
        await notifier.reconfigure([target("first", first.url)])
        await put(database, clock, "v1")
        await first.until(1)
        await notifier.reconfigure([target("second", second.url)])
        await put(database, clock, "v2")
        await second.until(1)
        await notifier.reconfigure([target("first", first.url), target("second", second.url)])
        await put(database, clock, "v3")
        await first.until(2)
        await second.until(2)
    assert (first.tags, second.tags) == (["v1", "v3"], ["v2", "v3"])
    assert notifier.names == ("first", "second")


async def test_a_target_that_was_mended_is_tried_at_once(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    async with receiving() as ops, running(notifier):
        await notifier.reconfigure([target("ops", DEAD)])
        await put(database, clock, "v1", "v2")
        while not (await listed(database)) or (await listed(database))[0].attempts < 1:
            await asyncio.sleep(0.01)
        await notifier.reconfigure([target("ops", ops.url)])
        await ops.until(2)
    assert ops.tags == ["v1", "v2"]


async def test_a_fresh_start_goes_on_where_the_last_one_was(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock, transport: Transport, secrets: SecretStore
) -> None:
    async with receiving() as ops:
        await notifier.reconfigure([target("ops", ops.url)])
        await put(database, clock, "v1")
        await notifier.run_until_idle()
        await put(database, clock, "v2")
        again = notifier_on(database, clock, transport, secrets)
        await again.reconfigure([target("ops", ops.url)])
        await again.run_until_idle()
    assert ops.tags == ["v1", "v2"]


async def test_a_notification_is_sent_again_on_demand(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    async with receiving() as ops, running(notifier):
        await notifier.reconfigure([target("ops", ops.url, on=("tag.set",))])
        await put(database, clock, "v1")
        await ops.until(1)
        while (await listed(database))[0].state == "waiting":
            await asyncio.sleep(0.01)
        await database.write(deliveries.replay, clock, 1, ADA)
        await ops.until(2)
    assert ops.arrivals[0].id == ops.arrivals[1].id


# --- secrets ----------------------------------------------------------------------------------------------------


async def test_only_who_needs_a_secret_waits_for_it(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock, environ: dict[str, str]
) -> None:
    async with receiving() as ops, receiving() as other:
        await notifier.reconfigure([target("ops", parse_reference("env:HOOK")), target("other", other.url)])
        await put(database, clock, "v1")
        await notifier.run_until_idle()
        assert (ops.tags, other.tags) == ([], ["v1"])
        (waits,) = await listed(database, target="ops")
        assert (waits.state, waits.answer) == ("waiting", "env:HOOK is empty or not set")
        environ["HOOK"] = ops.url
        clock.moved += 60
        await notifier.run_until_idle()
        assert ops.tags == ["v1"]


async def test_headers_are_sent_and_no_secret_is_kept_or_logged(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock, environ: dict[str, str], log: io.StringIO
) -> None:
    received: dict[str, str] = {}

    async def reflect(request: web.Request) -> web.Response:
        received.update(request.headers)
        return web.Response(status=400, text=f"{request.path_qs} {request.headers['X-Token']} is wrong")

    async with serving(reflect) as server:
        environ |= {
            "HOOK": f"{server.url}/services/marker-path?sig=marker-sig",
            "TOKEN": "marker-token",
            "KEY": "marker-key",
        }
        ops = target(
            "ops",
            parse_reference("env:HOOK"),
            headers={"X-Token": parse_reference("env:TOKEN")},
            secret=parse_reference("env:KEY"),
        )
        await notifier.reconfigure([ops])
        await put(database, clock, "v1")
        await notifier.run_until_idle()
    assert received["X-Token"] == "marker-token"
    await notifier.reconfigure([target("ops", parse_reference("env:HOOK"), timeout_seconds=1)])
    environ["HOOK"] = "http://127.0.0.1:1/services/marker-path?sig=marker-sig"
    await put(database, clock, "v2")
    await notifier.run_until_idle()
    log_of_all = await database.read(events.after, events.START)
    kept = [each.answer for each in await listed(database)] + [each.reason for each in log_of_all]
    assert "is wrong" in str(kept)
    assert "Connection refused" in str(kept)
    assert "marker" not in str(kept) + log.getvalue()


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"URL": "hook.lan/path"}, "is no address"),
        ({"URL": "http://127.0.0.1:99999/", "KEY": "key", "TOKEN": "t"}, "is no address"),
        ({"URL": DEAD, "KEY": "whsec_?"}, "whsec_"),
        ({"URL": DEAD, "KEY": "key", "TOKEN": "a\nb"}, "X-Token"),
        ({"URL": DEAD, "KEY": "key"}, "env:TOKEN"),
    ],
)
async def test_a_secret_that_is_no_use_is_told_and_tried_again(
    notifier: Notifier,
    database: SqliteDatabase,
    clock: MovableClock,
    environ: dict[str, str],
    known: dict[str, str],
    said: str,
) -> None:
    environ.update(known)
    ops = target(
        "ops",
        SecretReference("env", "URL"),
        secret=SecretReference("env", "KEY"),
        headers={"X-Token": SecretReference("env", "TOKEN")},
    )
    await notifier.reconfigure([ops])
    await put(database, clock, "v1")
    await notifier.run_until_idle()
    (delivery,) = await listed(database)
    assert (delivery.state, delivery.attempts) == ("waiting", 1)
    assert said in (delivery.answer or "")


# --- samples ----------------------------------------------------------------------------------------------------


async def test_a_sample_is_marked_and_told_of(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    async with receiving() as ops:
        await notifier.reconfigure([target("ops", ops.url, on=("tag.set",))])
        said = await notifier.test("ops", ADA)
    (arrival,) = ops.arrivals
    assert arrival.json["type"] == "notify.tested"
    assert arrival.json["data"]["detail"]["sample"] is True
    assert said.told() == {"status": 200, "answer": "thanks", "outcome": "sent", "receiver": "Standard Webhooks"}
    tested = await newest(database)
    assert (tested.kind, tested.actor, tested.reason) == ("notify.tested", "ada", "ops")
    assert await listed(database) == []


async def test_a_sample_is_sent_once_and_says_why_it_was_not_taken(notifier: Notifier) -> None:
    await notifier.reconfigure([target("ops", DEAD)])
    said = await notifier.test("ops", ADA)
    assert (said.status, said.outcome, said.receiver) == (None, "retry", "Standard Webhooks")
    assert "Connection refused" in said.answer


async def test_a_sample_for_nobody(notifier: Notifier) -> None:
    with pytest.raises(TargetUnknown, match=r"'ops'.*the configuration has none"):
        await notifier.test("ops", ADA)
    await notifier.reconfigure([target("a", DEAD), target("b", DEAD)])
    with pytest.raises(TargetUnknown, match="there are a, b"):
        await notifier.test("ops", ADA)


@pytest.mark.parametrize(
    ("form", "method"), [("standard", "POST"), ("cloudevents", "POST"), ("distribution", "POST"), ("empty", "PUT")]
)
async def test_the_request_of_each_format(notifier: Notifier, form: str, method: str) -> None:
    seen = []

    async def take(request: web.Request) -> web.Response:
        seen.append((request.method, request.headers.get("Content-Type"), len(await request.read())))
        return web.Response()

    async with serving(take) as server:
        await notifier.reconfigure([target("ops", server.url, format=form), target("put", server.url, method="PUT")])
        await notifier.test("ops", ADA)
        await notifier.test("put", ADA)
    assert seen[0][0] == method
    assert (seen[0][2] == 0) == (form == "empty")
    if form == "empty":
        assert seen[0] == ("PUT", seen[0][1], 0)
    assert seen[1][0] == "PUT"


async def test_people_are_told_by_a_child_process(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock, environ: dict[str, str]
) -> None:
    bodies = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.text())
        return web.json_response({"id": "1"})

    async with serving(take) as server:
        environ["CHAT"] = f"{server.url}/secret-topic"
        await notifier.reconfigure([target("chat", parse_reference("env:CHAT"), format="ntfy", on=("tag.set",))])
        await put(database, clock, "v1")
        await notifier.run_until_idle()
    (delivery,) = await listed(database)
    assert (delivery.state, "secret-topic" in str(delivery)) == ("sent", False)
    assert "team/app" in bodies[0]


async def test_a_clock_that_was_set_back_keeps_nobody_waiting(
    notifier: Notifier, database: SqliteDatabase, clock: MovableClock
) -> None:
    answers = [status(500), status(200)]
    async with receiving(lambda: answers.pop(0)) as ops:
        await notifier.reconfigure([target("ops", ops.url)])
        await put(database, clock, "v1")
        await notifier.run_until_idle()
        clock.moved -= 86400
        await notifier.run_until_idle()
    assert ops.tags == ["v1", "v1"]


# --- without a database -----------------------------------------------------------------------------------------


async def test_told_once_without_a_database(transport: Transport, clock: MovableClock, secrets: SecretStore) -> None:
    lone = notifier_on(None, clock, transport, secrets)
    skipped = event(
        "housekeeping.finished",
        repository=None,
        digest=None,
        detail={"outcome": "skipped", "reason": "server-refused"},
    )
    async with receiving() as ops, receiving(lambda: status(500)) as failing:
        await lone.reconfigure(
            [
                target("ops", ops.url, on=("*.finished",)),
                target("failing", failing.url),
                target("none", ops.url, on=("tag.set",)),
            ]
        )
        said = dict(await lone.send_once(skipped))
        tested = await lone.test("ops", ADA)
    assert {name: sent.outcome for name, sent in said.items()} == {"ops": "sent", "failing": "retry"}
    assert tested.outcome == "sent"
    assert json.loads(ops.arrivals[0].body)["data"]["detail"] == {"outcome": "skipped", "reason": "server-refused"}
