"""Targets and deliveries over the API, with a real receiver."""

from aiohttp import web

from homeport import events
from homeport.config.references import SecretReference
from homeport.events import Event
from homeport.notify.targets import Target
from tests.client.servers import serving
from tests.server.api.world import ADDRESS, World

SAMPLE = Target(
    "ops",
    SecretReference("env", "HOOK"),
    on=("tag.*",),
    repositories=("team/**",),
    format="standard",
    headers={"X-Token": SecretReference("file", "/run/secrets/token")},
)


async def log_of(world: World, kind: str) -> list[Event]:
    return [event for event in await world.database.read(events.after, events.START) if event.kind == kind]


async def test_targets_are_shown_without_their_secrets(world: World) -> None:
    assert (await world.get("/api/v1/targets")).json == {"targets": []}
    world.environ["HOOK"] = "https://hooks.example.org/marker"
    await world.targets(SAMPLE, Target("hooks/1", "https://a.example/marker", on=("*",), file="/etc/webhooks.json"))
    answer = await world.get("/api/v1/targets")
    assert b"marker" not in answer.body
    first, second = answer.json["targets"]
    assert (first["name"], first["url"], first["headers"]) == (
        "ops",
        "env:HOOK",
        {"X-Token": "file:/run/secrets/token"},
    )
    assert (second["name"], second["url"]) == ("hooks/1", "/etc/webhooks.json")


async def test_a_sample_is_sent_and_the_receivers_answer_told(world: World) -> None:
    async def receive(_request: web.Request) -> web.Response:
        return web.Response(status=403, text="no entry")

    async with serving(receive) as receiver:
        await world.targets(Target("hooks/1", f"{receiver.url}/hook", on=("tag.*",), format="standard"))
        for path in ("hooks/1", "hooks%2F1"):
            answer = await world.post(f"/api/v1/targets/{path}/test", who="admin")
            assert answer.status == 200
            assert (answer.json["status"], answer.json["outcome"]) == (403, "refused")
            assert "no entry" in answer.json["answer"]
    assert receiver.paths("POST") == ["/hook"] * 2
    first, _ = await log_of(world, "notify.tested")
    assert (first.actor, first.address, first.reason) == ("user:root", ADDRESS, "hooks/1")


async def test_a_target_that_is_not_there(world: World) -> None:
    await world.targets(Target("ops", "https://a.example/", on=("*",)))
    for name in ("op", "ops/1", "no%20such", "..", "a%00b"):
        answer = await world.post(f"/api/v1/targets/{name}/test")
        assert (answer.status, answer.code) == (404, "NOT_FOUND")
        assert "there are ops" in answer.sentence
    assert await log_of(world, "notify.tested") == []


async def test_deliveries_are_listed_and_sent_again(world: World) -> None:
    statuses = [410, 200]

    async def receive(_request: web.Request) -> web.Response:
        return web.Response(status=statuses.pop(0), text="gone" if statuses else "ok")

    async with serving(receive) as receiver:
        await world.targets(Target("ops", f"{receiver.url}/hook", on=("tag.set",), format="standard"))
        for tag in ("v1", "v2"):
            await world.database.write(
                events.append, world.clock, "tag.set", events.SYSTEM, repository="team/app", tag=tag
            )
        await world.notifier.run_until_idle()
        second, first = (await world.get("/api/v1/deliveries")).json["deliveries"]
        assert (first["state"], first["status"], second["state"]) == ("given-up", 410, "sent")
        for query, expected in (
            ("state=sent", [second]),
            ("target=ops&limit=1", [second]),
            (f"before={second['id']}", [first]),
            ("target=other", []),
        ):
            assert (await world.get(f"/api/v1/deliveries?{query}")).json == {"deliveries": expected}

        statuses.append(204)
        replayed = await world.post(f"/api/v1/deliveries/{first['id']}/replay", {}, who="admin-token")
        assert (replayed.status, replayed.json["state"]) == (202, "waiting")
        again = await world.post(f"/api/v1/deliveries/{first['id']}/replay")
        assert (again.status, again.code) == (409, "CONFLICT")
        await world.notifier.run_until_idle()
    ids = [seen.headers["webhook-id"] for seen in receiver.seen]
    assert ids == [first["message"], second["message"], first["message"]]
    (event,) = await log_of(world, "delivery.replayed")
    assert (event.actor, event.address, event.run) == ("user:root", ADDRESS, replayed.headers["x-request-id"])
    missing = await world.post("/api/v1/deliveries/4711/replay")
    assert (missing.status, missing.code) == (404, "NOT_FOUND")
