"""A process that tells of thousands of changes is killed again and again: every delivery is made, none too much."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from aiohttp import web

from homeport import events
from homeport.clock import SystemClock
from homeport.db.sqlite import SqliteDatabase
from tests.client.servers import serving
from tests.support.source import ROOT

pytestmark = pytest.mark.long

EVENTS = 10_000
KILLS = 6


async def test_ten_thousand_events_survive_kills(tmp_path: Path) -> None:
    arrived: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    #: How many arrivals the next kill waits for.
    enough, reached = 0, asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        told = json.loads(await request.read())["data"]
        arrived[request.path].append((told["tag"], request.headers["webhook-id"]))
        if sum(map(len, arrived.values())) >= enough:
            reached.set()
        return web.Response()

    path, dice = tmp_path / "homeport.db", random.Random(4)
    async with serving(take) as server:

        async def start() -> asyncio.subprocess.Process:
            places = [f"*={server.url}/all", f"tag.deleted={server.url}/deleted"]
            command = [sys.executable, "-m", "tests.notify.telling", str(path), str(EVENTS), *places]
            return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."})

        for number in range(KILLS):
            enough = number * EVENTS // KILLS + dice.randrange(1, EVENTS // KILLS)
            reached.clear()
            process = await start()
            ended = asyncio.create_task(process.wait())
            await asyncio.wait([ended, asyncio.create_task(reached.wait())], return_when=asyncio.FIRST_COMPLETED)
            assert not ended.done(), "it ended by itself"
            process.kill()
            await ended
        process = await start()
        assert await process.wait() == 0

    database = SqliteDatabase(path, SystemClock())
    log = await database.read(events.after, events.START, 2 * EVENTS)
    await database.close()
    assert len(log) >= EVENTS
    for place, expected in {
        "/all": [event.tag for event in log],
        "/deleted": [event.tag for event in log if event.kind == "tag.deleted"],
    }.items():
        first: dict[str, str] = {}
        for tag, message in arrived[place]:
            assert first.setdefault(tag, message) == message
        assert list(first) == expected
        again = len(arrived[place]) - len(first)
        assert again <= KILLS, "a kill repeats what was being told, and no more"
