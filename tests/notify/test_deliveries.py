"""The rows of notifications: positions in the log, and what waits for whom."""

from __future__ import annotations

import pytest

from homeport import events
from homeport.db.database import Transaction
from homeport.db.sqlite import SqliteDatabase
from homeport.events import Event
from homeport.notify import deliveries
from homeport.notify.deliveries import Delivery, Subject
from homeport.notify.errors import DeliveryError
from homeport.notify.notifier import TRIED_SECONDS, next_try
from homeport.notify.sent import Sent
from tests.notify.things import ADA, MovableClock, append

TAKEN = Sent(200, "thanks", "sent")
FAILED = Sent(500, "oh", "retry")
REFUSED = Sent(404, "who?", "refused")


async def fan_out(database: SqliteDatabase, target: str, limit: int = 100) -> list[Event]:
    """Give the target what is ahead of it."""
    found = await database.read(deliveries.ahead, target, limit)
    assert found is not None
    at, log = found
    if log:
        assert await database.write(deliveries.fan_out, target, at, log[-1].position, log)
    return log


async def waiting(database: SqliteDatabase, target: str) -> list[Delivery]:
    found = await database.read(deliveries.listed, target=target, state="waiting")
    return found[::-1]


async def head(database: SqliteDatabase, target: str) -> Delivery:
    found = await database.read(deliveries.head, target)
    assert found is not None
    return found


async def test_a_new_target_begins_at_the_end_of_the_log(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(append, clock, tag="before")
    await database.write(deliveries.sync, ["ops"])
    assert await fan_out(database, "ops") == []
    await database.write(append, clock, tag="after")
    assert [event.tag for event in await fan_out(database, "ops")] == ["after"]
    assert [(each.kind, each.state, each.attempts) for each in await waiting(database, "ops")] == [
        ("tag.set", "waiting", 0)
    ]


async def test_a_target_that_stays_keeps_its_place(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(deliveries.sync, ["ops"])
    await database.write(append, clock, tag="v1")
    await fan_out(database, "ops")
    await database.write(append, clock, tag="v2")
    await database.write(deliveries.sync, ["ops", "chat"])
    assert len(await waiting(database, "ops")) == 1
    assert [event.tag for event in await fan_out(database, "ops")] == ["v2"]
    assert await fan_out(database, "chat") == []


async def test_what_waits_for_a_removed_target_is_dropped_and_it_begins_anew(
    database: SqliteDatabase, clock: MovableClock
) -> None:
    await database.write(deliveries.sync, ["ops"])
    for tag in ("v1", "v2"):
        await database.write(append, clock, tag=tag)
    await fan_out(database, "ops")
    await database.write(deliveries.sent, clock, await head(database, "ops"), TAKEN)
    await database.write(deliveries.sync, [])
    assert [each.state for each in await database.read(deliveries.listed)] == ["sent"]
    assert await database.read(deliveries.ahead, "ops", 10) is None
    await database.write(append, clock, tag="v3")
    await database.write(deliveries.sync, ["ops"])
    assert await fan_out(database, "ops") == []


async def test_who_is_elsewhere_by_now_is_not_moved(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(deliveries.sync, ["ops"])
    await database.write(append, clock)
    found = await database.read(deliveries.ahead, "ops", 10)
    assert found is not None
    at, log = found
    assert await database.write(deliveries.fan_out, "ops", at, log[-1].position, log)
    assert not await database.write(deliveries.fan_out, "ops", at, log[-1].position, log)
    assert not await database.write(deliveries.fan_out, "gone", at, log[-1].position, log)
    assert len(await database.read(deliveries.listed)) == 1


async def test_the_message_id_follows_from_event_and_target(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(deliveries.sync, ["a", "b"])
    await database.write(append, clock)
    await database.write(append, clock)
    await fan_out(database, "a")
    log = await fan_out(database, "b")
    ids = [each.message_id for each in await database.read(deliveries.listed)]
    assert len(set(ids)) == 4
    assert {deliveries.message_id(target, event) for target in "ab" for event in log} == set(ids)


async def test_a_delivery_waits_until_it_is_sent(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(deliveries.sync, ["ops"])
    for tag in ("v1", "v2"):
        await database.write(append, clock, tag=tag)
    await fan_out(database, "ops")
    first, second = await waiting(database, "ops")
    assert await head(database, "ops") == first
    await database.write(deliveries.failed, clock, first, FAILED, clock.now() + 60)
    failed = await head(database, "ops")
    assert (failed.id, failed.attempts, failed.status, failed.answer) == (first.id, 1, 500, "oh")
    assert failed.due_at > clock.now() + 50
    await database.write(deliveries.sent, clock, failed, TAKEN)
    assert await head(database, "ops") == second
    gone = await database.read(deliveries.get, first.id)
    assert gone is not None
    assert (gone.state, gone.attempts, gone.status, gone.answer) == ("sent", 2, 200, "thanks")
    assert gone.tried_at is not None
    told = gone.told()
    assert list(told) == [
        "id", "target", "event", "kind", "message", "state", "time", "due", "attempts", "tried", "status", "answer",
    ]  # fmt: skip
    assert (told["due"], told["state"], told["tried"][-1]) == (None, "sent", "Z")


async def test_what_is_given_up_is_told_once(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(deliveries.sync, ["ops", "chat"])
    await database.write(append, clock)
    await fan_out(database, "ops")
    lost = await head(database, "ops")
    await database.write(deliveries.give_up, clock, lost, REFUSED)
    await database.write(deliveries.give_up, clock, lost, REFUSED)
    (told,) = await database.read(events.latest, 1)
    assert (told.kind, told.actor, told.reason) == ("delivery.given_up", "system", "ops: 404 who?")
    assert told.detail == {
        "target": "ops",
        "delivery": lost.id,
        "event": lost.event_id,
        "kind": "tag.set",
        "status": 404,
    }
    assert len(await database.read(events.after, events.START)) == 2


async def test_nothing_is_told_of_a_given_up_telling_of_a_given_up_delivery(
    database: SqliteDatabase, clock: MovableClock
) -> None:
    await database.write(deliveries.sync, ["ops"])
    await database.write(append, clock, "delivery.given_up")
    (event,) = await fan_out(database, "ops")
    await database.write(deliveries.give_up, clock, await head(database, "ops"), REFUSED)
    assert await database.read(events.end) == event.position


async def test_sending_again(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(deliveries.sync, ["ops"])
    await database.write(append, clock)
    await fan_out(database, "ops")
    before = await head(database, "ops")
    with pytest.raises(DeliveryError, match=f"delivery {before.id} is waiting already"):
        await database.write(deliveries.replay, clock, before.id, ADA)
    await database.write(deliveries.give_up, clock, before, REFUSED)
    again = await database.write(deliveries.replay, clock, before.id, ADA)
    assert again == await head(database, "ops")
    assert (again.id, again.message_id, again.attempts) == (before.id, before.message_id, 0)
    (told,) = await database.read(events.latest, 1)
    assert (told.kind, told.actor, told.reason) == (
        "delivery.replayed",
        "ada",
        f"delivery {before.id} of tag.set to ops",
    )


async def test_what_cannot_be_sent_again(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(deliveries.sync, ["ops"])
    await database.write(append, clock)
    await fan_out(database, "ops")
    delivery = await head(database, "ops")
    await database.write(deliveries.sent, clock, delivery, TAKEN)
    with pytest.raises(DeliveryError, match="there is no delivery 99"):
        await database.write(deliveries.replay, clock, 99, ADA)
    await database.write(append, clock)
    await database.write(events.prune, clock.now() + 1)
    with pytest.raises(DeliveryError, match="not in the audit log any more"):
        await database.write(deliveries.replay, clock, delivery.id, ADA)
    await database.write(deliveries.sync, [])
    with pytest.raises(DeliveryError, match="no target any more"):
        await database.write(deliveries.replay, clock, delivery.id, ADA)


async def test_lists_by_target_state_and_page(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(deliveries.sync, ["a", "b"])
    for _ in range(3):
        await database.write(append, clock)
    await fan_out(database, "a")
    await fan_out(database, "b")
    await database.write(deliveries.sent, clock, await head(database, "a"), TAKEN)
    every = await database.read(deliveries.listed)
    assert [each.id for each in every] == sorted((each.id for each in every), reverse=True)
    assert len(every) == 6
    assert {each.target for each in await database.read(deliveries.listed, target="b")} == {"b"}
    assert len(await database.read(deliveries.listed, target="a", state="waiting")) == 2
    page = await database.read(deliveries.listed, before=every[1].id, limit=2)
    assert page == every[2:4]
    assert await database.read(deliveries.listed, target="a") == [each for each in every if each.target == "a"]
    waiting = [each for each in every if each.state == "waiting"]
    assert await database.read(deliveries.listed, state="waiting") == waiting
    assert await database.read(deliveries.listed, state="waiting", before=waiting[1].id, limit=2) == waiting[2:4]


async def test_old_deliveries_that_wait_no_more_are_forgotten(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(deliveries.sync, ["a", "b"])
    for _ in range(4):
        await database.write(append, clock)
    for target in ("a", "b"):
        await fan_out(database, target)
        await database.write(deliveries.sent, clock, await head(database, target), TAKEN)
        await database.write(deliveries.give_up, clock, await head(database, target), REFUSED)
    await database.write(deliveries.sync, ["b"])
    before = clock.now() + 1
    assert await database.write(deliveries.prune, clock.now() - 60) == 0
    assert await database.write(deliveries.prune, before, 3) == 3
    assert await database.write(deliveries.prune, before, 3) == 1
    assert await database.write(deliveries.prune, before, 3) == 0
    assert [(each.target, each.state) for each in await database.read(deliveries.listed)] == [("b", "waiting")] * 3


def _put(tx: Transaction) -> None:
    """A repository with one blob and one manifest, as the registry writes them."""
    tx.run("INSERT INTO repositories (id, name, created_at) VALUES (1, 'app', 0)")
    for number, digest in enumerate(("sha256:blob", "sha256:manifest")):
        tx.run(
            "INSERT INTO blobs (digest, state, size, location, changed_at) VALUES (?, 'live', ?, 'x', 0)",
            (digest, 10 + number),
        )
        tx.run("INSERT INTO links VALUES (1, ?, 0, 0, 0)", (digest,))
    tx.run(
        "INSERT INTO manifests (repository_id, digest, media_type, data, pushed_at) VALUES (1, ?, 'a/b', ?, 0)",
        ("sha256:manifest", b"12345"),
    )


async def test_what_an_event_is_about_is_looked_up(database: SqliteDatabase, clock: MovableClock) -> None:
    await database.write(_put)
    for kind, digest in (
        ("blob.pushed", "sha256:blob"),
        ("tag.set", "sha256:manifest"),
        ("manifest.pushed", "sha256:gone"),
        ("user.added", None),
    ):
        await database.write(append, clock, kind, repository="app" if digest else None, digest=digest)
    blob, manifest, gone, user = await database.read(events.after, events.START)
    assert await database.read(deliveries.subject, blob) == Subject("application/octet-stream", 10)
    assert await database.read(deliveries.subject, manifest) == Subject("a/b", 5)
    assert await database.read(deliveries.subject, gone) is None
    assert await database.read(deliveries.subject, user) is None


# --- when a try is repeated -------------------------------------------------------------------------------------


def delivery(attempts: int = 0, happened_at: float = 1_000.0) -> Delivery:
    return Delivery(1, "ops", 1, "tag.set", "msg_1", "waiting", happened_at, happened_at, attempts, None, None, None)


def test_tries_come_at_growing_distances_up_to_ten_minutes() -> None:
    waits = [(next_try(delivery(attempts), FAILED, 2_000.0, 1.0) or 0) - 2_000.0 for attempts in range(12)]
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == 600.0
    assert next_try(delivery(100_000), FAILED, 2_000.0, 1.0) == 2_600.0
    assert next_try(delivery(3), FAILED, 2_000.0, 0.0) == 2_008.0


def test_a_receiver_that_asks_for_time_gets_it_within_bounds() -> None:
    assert next_try(delivery(), Sent(429, "", "retry", 120.0), 2_000.0, 1.0) == 2_120.0
    assert next_try(delivery(), Sent(429, "", "retry", 1e9), 2_000.0, 1.0) == 2_000.0 + 3600.0
    assert next_try(delivery(), Sent(503, "", "retry", 0.0), 2_000.0, 1.0) == 2_002.0


def test_the_last_try_is_three_days_after_the_event() -> None:
    end = 1_000.0 + TRIED_SECONDS
    assert next_try(delivery(50), FAILED, end - 100.0, 1.0) == end
    assert next_try(delivery(50), FAILED, end, 1.0) is None


def test_what_is_refused_or_taken_is_not_tried_again() -> None:
    assert next_try(delivery(), REFUSED, 2_000.0, 1.0) is None
    assert next_try(delivery(), TAKEN, 2_000.0, 1.0) is None
