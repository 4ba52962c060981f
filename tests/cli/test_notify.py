"""`homeport notify` and `homeport secret`: whether somebody can be told, and whether every secret can be read."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.cli.tools import CommandLine, Ran
from tests.client.servers import LittleServer, free_port, serving
from tests.support.processes import Homeport

MARKER = "marker-of-a-secret"


@pytest.fixture
async def receiver() -> AsyncIterator[LittleServer]:
    async def taken(request: web.Request) -> web.StreamResponse:
        return web.Response(status=410 if "gone" in request.path else 200, text="thank you")

    async with serving(taken) as server:
        yield server


@pytest.fixture
def here(cli: CommandLine, receiver: LittleServer) -> CommandLine:
    data = cli.folder / "homeport-data"
    data.mkdir(mode=0o700)
    (data / "homeport.db").touch()
    (cli.folder / "url").write_text(f"{receiver.url}/{MARKER}\n")
    (cli.folder / "homeport.yaml").write_text(
        "notify:\n"
        "  ops: {url: 'file:url', on: ['user.*']}\n"
        f"  gone: {{url: '{receiver.url}/gone', on: ['*']}}\n"
        "  lost: {url: 'env:LOST_URL', on: ['*']}\n"
    )
    return cli


async def ran(cli: CommandLine, *words: str, code: int = 0) -> Ran:
    return await asyncio.to_thread(cli.run, *words, code=code)


async def test_a_sample_is_sent_and_its_answer_told(here: CommandLine, receiver: LittleServer) -> None:
    told = await ran(here, "notify", "test", "ops", "--json")
    assert told.json == {"target": "ops", "status": 200, "answer": told.json["answer"], "outcome": "sent",
                         "receiver": "Standard Webhooks"}  # fmt: skip
    assert json.loads(receiver.seen[0].body)["type"] == "notify.tested"
    assert "ops (Standard Webhooks) took it" in (await ran(here, "notify", "test", "ops")).out
    assert "gone (Standard Webhooks) refused it: 410" in (await ran(here, "notify", "test", "gone", code=1)).out
    assert "did not take it now" in (await ran(here, "notify", "test", "lost", code=1)).out
    assert "there are ops, gone, lost" in (await ran(here, "notify", "test", "none", code=1)).err
    events = (await ran(here, "events", "--json")).json
    assert [(event["kind"], event["reason"]) for event in events] == [
        ("notify.tested", name) for name in ("ops", "ops", "gone", "lost")
    ]
    assert MARKER not in json.dumps(events) + told.out + told.err


async def test_a_verb_with_another_configuration_forgets_nobody(homeport: Homeport, receiver: LittleServer) -> None:
    """What waits for the targets of a server is no business of who looks at its data folder."""
    config = {"notify": {"ops": {"url": f"{receiver.url}/x", "on": ["user.*"]}}}
    await asyncio.to_thread(homeport.start, config, verb="up")
    other = homeport.folder / "elsewhere"
    other.mkdir()
    cli = CommandLine(other)
    words = ("--data", str(homeport.data))
    for verb in (("jobs", "list"), ("notify", "deliveries"), ("events",), ("jobs", "run", "housekeeping")):
        await ran(cli, *verb, *words)
    with sqlite3.connect(homeport.data / "homeport.db") as database:
        assert database.execute("SELECT target FROM notify_positions").fetchall() == [("ops",)]
    database.close()


async def test_deliveries_are_listed_and_replayed(homeport: Homeport, receiver: LittleServer) -> None:
    config = {
        "notify": {
            "ops": {"url": f"{receiver.url}/x", "on": ["user.*"]},
            "gone": {"url": f"{receiver.url}/gone", "on": ["user.*"]},
        }
    }
    await asyncio.to_thread(homeport.start, config, verb="up")
    cli = CommandLine(homeport.folder)
    words = ("--data", str(homeport.data), "--config", "homeport.yaml")
    await ran(cli, "user", "add", "ada", "--generate", *words)

    async def ended() -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for _ in range(60):
            rows = (await ran(cli, "notify", "deliveries", "--json", *words)).json
            if len(rows) == 2 and not any(row["state"] == "waiting" for row in rows):
                break
        return rows

    rows = await ended()
    assert {(row["target"], row["state"], row["status"]) for row in rows} == {
        ("ops", "sent", 200),
        ("gone", "given-up", 410),
    }
    assert "given-up" in (await ran(cli, "notify", "deliveries", "--state", "given-up", *words)).out
    (sent,) = (await ran(cli, "notify", "deliveries", "--target", "ops", "--json", *words)).json
    again = await ran(cli, "notify", "replay", str(sent["id"]), *words)
    assert f"delivery {sent['id']} of user.added to ops waits again" in again.out
    await ended()
    messages = [seen.headers["webhook-id"] for seen in receiver.seen if seen.path == "/x"]
    assert messages == [sent["message"]] * 2
    assert "there is no delivery 99" in (await ran(cli, "notify", "replay", "99", *words, code=1)).err


def test_secrets_are_checked_without_a_data_folder(cli: CommandLine) -> None:
    (cli.folder / "good").write_text(MARKER)
    (cli.folder / "homeport.yaml").write_text(
        "access: {users: {ada: {password: 'file:good'}, bob: {password: 'env:NOT_THERE'}}}\n"
    )
    told = cli.run("secret", "check", "--json", code=1)
    assert [(row["name"], row["reference"], row["ok"]) for row in told.json] == [
        ("access.users.ada.password", "file:good", True),
        ("access.users.bob.password", "env:NOT_THERE", False),
    ]
    assert "NOT_THERE" in told.json[1]["problem"]
    shown = cli.run("secret", "check", code=1)
    assert "access.users.ada.password" in shown.out
    assert MARKER not in told.out + told.err + shown.out + shown.err
    assert not (cli.folder / "homeport-data").exists()
    assert shown.err == ""
    fine = cli.run("secret", "check", environ={"NOT_THERE": "x"})
    assert " no " not in fine.out
    (cli.folder / "homeport.yaml").write_text("")
    assert "refers to no secret" in cli.run("secret", "check").err


def test_what_the_vault_does_not_give_is_told_in_its_row_only(cli: CommandLine) -> None:
    (cli.folder / "key").write_text("user.1")
    (cli.folder / "homeport.yaml").write_text(
        f"secrets: {{vaultwarden: {{url: 'http://127.0.0.1:{free_port()}', client_id: 'file:key',"
        " client_secret: 'file:key', password: 'file:key'}}\n"
        "access: {users: {ada: {password: 'vault:Ada'}}}\n"
    )
    told = cli.run("secret", "check", code=1)
    assert "the vault cannot be reached" in told.out
    assert told.err == ""
