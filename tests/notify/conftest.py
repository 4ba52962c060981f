"""A database in memory, connections, and a notifier on both."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pytest

from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.clock import SystemClock
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.notify.notifier import Notifier
from homeport.observe import Log
from tests.notify.things import SERVER, KnownSecrets, MovableClock


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def database(clock: MovableClock) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(MEMORY, clock)
    yield database
    await database.close()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(ClientSettings(connect_seconds=5), SystemClock()) as transport:
        yield transport


@pytest.fixture
def secrets() -> KnownSecrets:
    return KnownSecrets()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def notifier(
    database: SqliteDatabase, clock: MovableClock, transport: Transport, secrets: KnownSecrets, log: io.StringIO
) -> Notifier:
    return Notifier(
        database,
        clock,
        transport,
        secrets,
        Log(log, clock),
        server_url=lambda: SERVER,
        busy=lambda: False,
        environ={},
    )
