"""Notifications of the running program: what a push makes it tell, to whom, and what outlives it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from tests.client.servers import serving
from tests.http.conftest import OPEN
from tests.http.images import push_image
from tests.http.wire import Client
from tests.notify.receiving import receiving
from tests.support.processes import Homeport

KEY = base64.b64encode(b"k" * 32).decode()
LAYER = b"a layer"
SERVER = "https://registry.example"


async def start(homeport: Homeport, notify: dict[str, Any]) -> Client:
    """The program with these targets. It must not be waited for on the loop that receives."""
    config = {**OPEN, "server": {"url": SERVER}, "notify": notify}
    url = await asyncio.to_thread(homeport.start, config, verb="up", environ={"SIGNED": KEY})
    return Client(url)


async def push(client: Client, tag: str) -> None:
    await asyncio.to_thread(push_image, client, "team/app", tag, LAYER, config=f'"{tag}"'.encode())


async def test_a_push_is_told_in_every_format(homeport: Homeport) -> None:
    async with receiving() as standard, receiving() as cloud, receiving() as old, receiving() as empty:
        file = homeport.folder / "webhooks.json"
        file.write_text(json.dumps([empty.url, f"{empty.url}/2"]))
        client = await start(
            homeport,
            {
                "dead": {"url": "http://127.0.0.1:1/", "on": ["*"]},
                "standard": {"url": standard.url, "on": ["tag.*", "manifest.*"], "secret": "env:SIGNED"},
                "cloud": {"url": cloud.url, "on": ["tag.set"], "format": "cloudevents", "repositories": ["team/**"]},
                "other": {"url": cloud.url, "on": ["tag.set"], "repositories": ["other/**"]},
                "old": {"url": old.url, "on": ["*"], "format": "distribution"},
                "build": {"urls_file": str(file), "on": ["tag.set"], "format": "empty"},
            },
        )
        await push(client, "v1")
        await standard.until(2)
        await cloud.until(1)
        await old.until(3)
        await empty.until(2)
        await asyncio.to_thread(homeport.stop)
    assert [arrival.json["type"] for arrival in standard.arrivals] == ["manifest.pushed", "tag.set"]
    public = Webhook(base64.b64encode(KEY.encode()).decode())
    for arrival in standard.arrivals:
        public.verify(arrival.body, arrival.headers)
    (told,) = cloud.arrivals
    assert (told.json["type"], told.json["subject"]) == ("homeport.tag.set", "team/app:v1")
    envelopes = [arrival.json["events"][0] for arrival in old.arrivals]
    assert [(each["action"], each["target"].get("tag")) for each in envelopes] == [
        ("push", None),
        ("push", None),
        ("push", "v1"),
    ]
    sizes = {each["target"]["mediaType"]: each["target"]["size"] for each in envelopes}
    assert sizes["application/octet-stream"] in (len(LAYER), len('"v1"'))
    assert envelopes[-1]["target"]["url"].startswith(f"{SERVER}/v2/team/app/manifests/sha256:")
    assert "vnd.oci.image.manifest" in envelopes[-1]["target"]["mediaType"]
    assert sorted((arrival.path, arrival.body) for arrival in empty.arrivals) == [("/hook", b""), ("/hook/2", b"")]


async def test_a_push_never_waits_for_a_receiver_and_what_was_not_taken_outlives_the_program(
    homeport: Homeport,
) -> None:
    asked = asyncio.Event()
    taken: list[str] = []
    willing = False

    async def take(request: web.Request) -> web.Response:
        asked.set()
        if not willing:
            await asyncio.Event().wait()
        taken.append(json.loads(await request.read())["data"]["tag"])
        if len(taken) == 3:
            asked.set()
        return web.Response()

    async with serving(take) as server:
        notify = {"ops": {"url": server.url, "on": ["tag.set"], "timeout_seconds": 300}}
        client = await start(homeport, notify)
        for tag in ("v1", "v2"):
            await push(client, tag)
        await asked.wait()
        await push(client, "v3")
        await asyncio.to_thread(homeport.kill)
        assert taken == []
        willing = True
        asked.clear()
        await start(homeport, notify)
        while len(taken) < 3:
            asked.clear()
            await asked.wait()
        await asyncio.to_thread(homeport.stop)
    assert taken == ["v1", "v2", "v3"]
