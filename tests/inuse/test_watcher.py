"""The watcher on engines that come, go, hang and lie, with a real database and real sockets."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from homeport import events, inuse
from homeport.client import engines
from homeport.client.engines import Engine
from homeport.clock import SystemClock
from homeport.config import settings as config
from homeport.db.database import DatabaseError
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.inuse import Watcher, refresh
from homeport.observe import Log
from homeport.registry import protections
from homeport.registry.protections import EngineState
from tests.support.engines import DIGEST, ID, LittleEngine, answer, on_socket

SECONDS_MAX = 10.0


class QuickClock(SystemClock):
    """Whose longer sleeps take a hundredth of a second."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


CLOCK = QuickClock()


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(MEMORY, CLOCK)
    yield database
    await database.close()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LittleEngine]:
    async with on_socket(tmp_path / "engine.sock") as engine:
        yield engine


def settings(*watched: LittleEngine, **more: str) -> config.InUse:
    """Engines by the names a, b, ... and those of `more` by their addresses."""
    urls = {name: engine.url for name, engine in zip("abc", watched, strict=False)} | more
    return config.InUse(engines={name: config.Engine(url=url) for name, url in urls.items()})


@asynccontextmanager
async def watching(database: SqliteDatabase, found: config.InUse) -> AsyncIterator[tuple[Watcher, io.StringIO]]:
    log = io.StringIO()
    watcher = Watcher(database, CLOCK, Log(log, CLOCK), found)
    running = asyncio.create_task(watcher.run())
    try:
        yield watcher, log
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not holds():
            await asyncio.sleep(0.01)


async def states(database: SqliteDatabase) -> dict[str, EngineState]:
    return {state.name: state for state in await database.read(protections.engines)}


async def until(database: SqliteDatabase, *names: str, failing: tuple[str, ...] = ()) -> None:
    """Wait until these engines, and no others, are known, and those that fail do."""
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            found = await states(database)
            if set(found) == set(names) and failing == tuple(name for name in found if found[name].failure):
                return
            await asyncio.sleep(0.01)


async def happened(database: SqliteDatabase) -> list[tuple[str, str | None]]:
    return [(event.kind, event.reason) for event in await database.read(events.after, events.START)]


async def protected(database: SqliteDatabase) -> set[str]:
    return set(await database.read(protections.reasons))


# --- one engine -------------------------------------------------------------------------------------------------


async def test_what_it_tells_is_written_down(database: SqliteDatabase, engine: LittleEngine) -> None:
    assert await refresh(database, CLOCK, "here", Engine(engine.url), 2) is None
    assert await database.read(protections.reasons) == dict.fromkeys((ID, DIGEST), "container web runs it on node-1")


async def test_what_cannot_be_understood_takes_nothing_away(database: SqliteDatabase, engine: LittleEngine) -> None:
    await refresh(database, CLOCK, "here", Engine(engine.url), 2)
    engine.says["/containers/json?all=1"][0]["State"] = 7
    why = await refresh(database, CLOCK, "here", Engine(engine.url), 2)
    assert why == f"{engine.url}: it tells of something whose State is no text"
    assert await protected(database) == {ID, DIGEST}
    assert (await states(database))["here"].failure == why
    engine.says["/containers/json?all=1"] = answer(b"[")
    why = await refresh(database, CLOCK, "here", Engine(engine.url), 2)
    assert why is not None
    assert why.count(engine.url) == 1


# --- all of them ------------------------------------------------------------------------------------------------


async def test_one_that_fails_or_hangs_disturbs_no_other(
    database: SqliteDatabase, engine: LittleEngine, tmp_path: Path
) -> None:
    async def hang(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with on_socket(tmp_path / "hangs.sock") as hangs:
        hangs.says["/info"] = hang
        found = settings(engine, hangs, dead=f"unix://{tmp_path}/nothing.sock")
        async with watching(database, found) as (_, log):
            await until(database, "a", "dead", failing=("dead",))
            await eventually(lambda: len(engine.asked) > 10)
    assert await protected(database) == {ID, DIGEST}
    assert await happened(database) == [
        ("engine.unreachable", f"dead: unix://{tmp_path}/nothing.sock: cannot connect: No such file or directory")
    ]
    (line,) = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (line["event"], line["engine"]) == ("engine.unreachable", "dead")


async def test_that_an_engine_goes_and_comes_is_told_once(database: SqliteDatabase, engine: LittleEngine) -> None:
    async with watching(database, settings(engine)) as (_, log):
        await until(database, "a")
        for _ in range(2):
            said, engine.says["/info"] = engine.says["/info"], answer(b"{}", "500 Oh")
            await until(database, "a", failing=("a",))
            before = len(engine.asked)
            await eventually(lambda before=before: len(engine.asked) > before + 5)  # type: ignore[misc]
            assert await protected(database) == {ID, DIGEST}
            engine.says["/info"] = said
            await until(database, "a")
    kinds = [kind for kind, _ in await happened(database)]
    assert kinds == ["engine.unreachable", "engine.reachable"] * 2
    assert log.getvalue().count('"engine.unreachable"') == 2


async def test_other_settings_count_at_once(database: SqliteDatabase, engine: LittleEngine, tmp_path: Path) -> None:
    async with on_socket(tmp_path / "other.sock") as other, watching(database, config.InUse()) as (watcher, _):
        watcher.reconfigure(settings(engine))
        await until(database, "a")
        watcher.reconfigure(settings(engine, other))
        await until(database, "a", "b")
        watcher.reconfigure(settings(other))  # "a" is another engine now
        await until(database, "a")
        before = len(other.asked)
        await eventually(lambda: len(other.asked) > before)
        asked = len(engine.asked)
        await asyncio.sleep(0.1)
        assert len(engine.asked) == asked
        watcher.reconfigure(config.InUse())
        await until(database)
    assert await protected(database) == set()
    assert await happened(database) == [("engine.forgotten", "b"), ("engine.forgotten", "a")]


async def test_what_was_taken_out_while_nothing_ran_is_forgotten(
    database: SqliteDatabase, engine: LittleEngine
) -> None:
    await refresh(database, CLOCK, "old", Engine(engine.url), 2)
    async with watching(database, config.InUse()):
        await until(database)


async def test_a_database_that_fails_for_a_while_ends_nothing(
    database: SqliteDatabase, engine: LittleEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object) -> None:
        raise DatabaseError("no room")

    monkeypatch.setattr(database, "write", fail)
    async with watching(database, settings(engine)) as (_, log):
        await eventually(lambda: log.getvalue().count("no room") > 5)
        monkeypatch.undo()
        await until(database, "a")
    assert await protected(database) == {ID, DIGEST}


async def test_more_than_can_be_written_is_not(
    database: SqliteDatabase, engine: LittleEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refresh(database, CLOCK, "here", Engine(engine.url), 2)
    monkeypatch.setattr(inuse, "USES_MAX", 1)
    assert "more than 1 uses" in (await refresh(database, CLOCK, "here", Engine(engine.url), 2) or "")
    monkeypatch.setattr(engines, "ANSWER_BYTES_MAX", 10)
    assert "more than 10 bytes" in (await refresh(database, CLOCK, "here", Engine(engine.url), 2) or "")
    assert await protected(database) == {ID, DIGEST}
