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
from homeport.secretstore.store import SecretStore
from tests.notify.things import MovableClock, notifier_on, secret_store


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
def environ() -> dict[str, str]:
    """Where the secrets are: what a test puts there is found."""
    return {}


@pytest.fixture
def secrets(transport: Transport, environ: dict[str, str]) -> SecretStore:
    return secret_store(SystemClock(), transport, environ)


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def notifier(
    database: SqliteDatabase, clock: MovableClock, transport: Transport, secrets: SecretStore, log: io.StringIO
) -> Notifier:
    return notifier_on(database, clock, transport, secrets, log=log)
