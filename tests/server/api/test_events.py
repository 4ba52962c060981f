"""The audit log over the API."""

import json
from datetime import UTC, datetime, timedelta

from homeport import events
from homeport.events import Origin
from tests.server.api.world import World

ADA = Origin("user:ada", "192.0.2.1", "request-1")


async def happen(world: World, kind: str = "tag.set", repository: str = "team/app", **more: str) -> None:
    await world.database.write(events.append, world.clock, kind, ADA, repository=repository, **more)  # type: ignore[arg-type]


def tags(answer: str | bytes) -> list[str]:
    return [event["tag"] for event in json.loads(answer)["events"]]


async def test_pages_from_the_newest_and_on_from_there(world: World) -> None:
    for number in range(6):
        await happen(world, tag=f"v{number}", digest="sha256:" + "a" * 64, reason="a \N{SNOWMAN} and \x07")
    first = (await world.get("/api/v1/events?limit=2&kind=tag.*")).json
    assert [event["tag"] for event in first["events"]] == ["v4", "v5"]
    assert first["events"][0]["reason"] == "a \N{SNOWMAN} and \x07"
    await happen(world, tag="v6")
    on = (await world.get(f"/api/v1/events?after={first['next']}")).json
    assert [event["tag"] for event in on["events"]] == ["v6"]
    end = (await world.get(f"/api/v1/events?after={on['next']}")).json
    assert end == {"events": [], "next": on["next"]}
    oldest = await world.get(f"/api/v1/events?after={events.START}&kind=tag.set&limit=3")
    assert tags(oldest.body) == ["v0", "v1", "v2"]


async def test_filters(world: World) -> None:
    await happen(world, tag="a", repository="team/app")
    await happen(world, tag="b", repository="other")
    await happen(world, "tag.deleted", tag="c", repository="team/deep/app")
    for query, expected in (
        ("repository=team/**", ["a", "c"]),
        ("repository=other", ["b"]),
        ("repository=team/**&kind=tag.deleted", ["c"]),
        ("kind=tag.*&limit=1000", ["a", "b", "c"]),
        ("kind=blob.*", []),
    ):
        assert tags((await world.get(f"/api/v1/events?{query}")).body) == expected
        assert tags((await world.get(f"/api/v1/events?{query}&since=3600")).body) == expected


async def test_since_a_moment(world: World) -> None:
    await happen(world, tag="old")
    world.clock.ahead += 3600
    await happen(world, tag="new")
    half_an_hour_ago = datetime.fromtimestamp(world.clock.now(), UTC) - timedelta(minutes=30)
    for since in (
        "1800",
        "1800.5",
        half_an_hour_ago.isoformat().replace("+", "%2B"),
        half_an_hour_ago.strftime("%FT%TZ"),
    ):
        assert tags((await world.get(f"/api/v1/events?kind=tag.*&since={since}")).body) == ["new"]
    for since in ("7200", "9" * 18, "0001-01-01T00:00:00Z"):
        assert tags((await world.get(f"/api/v1/events?kind=tag.*&since={since}")).body) == ["old", "new"]
    for since in ("0", "9999-12-31T23:59:59-14:00"):
        assert tags((await world.get(f"/api/v1/events?kind=tag.*&since={since}")).body) == []


async def test_it_is_followed_from_now_on(world: World) -> None:
    await happen(world, tag="before")
    async with world.asking("GET", "/api/v1/events?follow=true&kind=tag.*") as stream:
        assert await stream.line() is None
        await happen(world, "blob.pushed")
        for number in range(3):
            await happen(world, tag=f"v{number}")
        told = [(await stream.line()) for _ in range(3)]
        assert [each["event"]["tag"] for each in told] == ["v0", "v1", "v2"]
    position = told[1]["event"]["position"]
    async with world.asking("GET", f"/api/v1/events?follow=true&after={position}") as stream:
        assert (await stream.line())["event"]["tag"] == "v2"
        world.context.draining = True
        assert await stream.ends()


async def test_it_is_followed_from_a_moment_on(world: World) -> None:
    for number in range(1200):
        await happen(world, tag=f"v{number}")
    async with world.asking("GET", "/api/v1/events?follow=true&since=60&kind=tag.set") as stream:
        told = [(await stream.line())["event"]["tag"] for _ in range(1200)]
    assert told == [f"v{number}" for number in range(1200)]
