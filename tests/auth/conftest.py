"""A database in memory, and logins on it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from homeport.auth import users
from homeport.auth.directory import LoginSettings
from homeport.auth.logins import Logins
from homeport.db.database import Database
from homeport.db.sqlite import MEMORY, SqliteDatabase
from tests.auth.tools import ORIGIN, PASSWORD, CountedPasswords, HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def database(clock: HandClock) -> AsyncIterator[Database]:
    opened = SqliteDatabase(MEMORY, clock)
    yield opened
    await opened.close()


@pytest.fixture
def passwords(clock: HandClock) -> Iterator[CountedPasswords]:
    made = CountedPasswords(clock)
    yield made
    made.close()


@pytest.fixture
async def ada(database: Database, clock: HandClock, passwords: CountedPasswords) -> str:
    """A user of the database who is called so."""
    password_hash = await passwords.hash(PASSWORD)
    await database.write(users.add, clock, ORIGIN, "ada", password_hash)
    return "ada"


@pytest.fixture
def logins(database: Database, clock: HandClock, passwords: CountedPasswords) -> Logins:
    return Logins(database, clock, passwords, LoginSettings())
