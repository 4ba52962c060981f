"""What another process changes in the same database counts here at once."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeport.auth import tokens, users
from homeport.auth.directory import LoginSettings
from homeport.auth.logins import Logins, basic
from homeport.auth.tokens import Secret, Token
from homeport.clock import SystemClock
from homeport.db.database import Database
from homeport.db.sqlite import SqliteDatabase
from homeport.oci.errors import Unauthorized
from tests.auth.tools import ADDRESS, ORIGIN, PASSWORD, CountedPasswords, HandClock

ADA = basic("ada", PASSWORD)
PULL = "repository:app:pull"

PROGRAM = """
import asyncio, sys
from pathlib import Path
from homeport.auth import tokens, users
from homeport.auth.directory import LoginSettings
from homeport.auth.logins import Logins
from homeport.auth.passwords import Cost, Passwords
from homeport.clock import SystemClock
from homeport.db.sqlite import SqliteDatabase
from homeport.events import Origin

async def main(path, verb, argument):
    clock = SystemClock()
    database = SqliteDatabase(Path(path), clock)
    passwords = Passwords(clock, Cost(8, 1))
    if verb == "passwd":
        await database.write(users.change_password, clock, Origin("cli"), "ada", await passwords.hash(argument))
    elif verb == "remove":
        await database.write(users.remove, clock, Origin("cli"), "ada")
    elif verb == "revoke":
        await database.write(tokens.revoke, clock, Origin("cli"), argument)
    elif verb == "who":
        print(await Logins(database, clock, passwords, LoginSettings()).authenticate(argument, ""))
    passwords.close()
    await database.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def elsewhere(path: Path, verb: str, argument: str = "") -> str:
    """Run the program while this process's event loop goes on, as a server's does."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(path), verb, argument, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(started.communicate(), 60)
    assert started.returncode == 0
    return output.decode().strip()


@pytest.fixture
async def database(tmp_path: Path, clock: HandClock) -> AsyncIterator[Database]:
    opened = SqliteDatabase(tmp_path / "homeport.db", clock)
    yield opened
    await opened.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "homeport.db"


async def test_a_password_changed_elsewhere(logins: Logins, ada: str, path: Path) -> None:
    bearer = f"Bearer {(await logins.token([PULL], ADDRESS, authorization=ADA)).token}"
    for header in (ADA, bearer):
        await logins.authenticate(header, ADDRESS)
    await elsewhere(path, "passwd", "another horse")
    for header in (ADA, bearer):
        with pytest.raises(Unauthorized):
            await logins.authenticate(header, ADDRESS)
    assert (await logins.authenticate(basic("ada", "another horse"), ADDRESS)).name == "ada"


async def test_a_user_removed_elsewhere(logins: Logins, ada: str, path: Path) -> None:
    await logins.authenticate(ADA, ADDRESS)
    await elsewhere(path, "remove")
    with pytest.raises(Unauthorized):
        await logins.authenticate(ADA, ADDRESS)


async def test_a_token_revoked_elsewhere(
    logins: Logins, ada: str, database: Database, clock: HandClock, path: Path
) -> None:
    secret = Secret.new(clock)
    user = await database.read(users.get, "ada")
    token = Token(secret.id, "personal", "ada", user.id, secret.hash(), None, "", clock.now(), None, None)
    await database.write(tokens.add, clock, ORIGIN, token)
    login = basic("ada", str(secret))
    bearer = f"Bearer {(await logins.token([PULL], ADDRESS, authorization=login)).token}"
    for header in (login, bearer):
        await logins.authenticate(header, ADDRESS)
    await elsewhere(path, "revoke", secret.id)
    for header in (login, bearer):
        with pytest.raises(Unauthorized):
            await logins.authenticate(header, ADDRESS)


async def test_a_token_given_here_is_taken_there(
    database: Database, passwords: CountedPasswords, clock: HandClock, ada: str, path: Path
) -> None:
    """Replicas share keys by sharing the database, and need no talk about them."""
    clock.time = SystemClock().now()
    logins = Logins(database, clock, passwords, LoginSettings())
    token = (await logins.token([PULL], ADDRESS, authorization=ADA)).token
    assert await elsewhere(path, "who", f"Bearer {token}") == "user:ada"
