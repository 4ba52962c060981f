"""A running server whose secrets are in a vault: there or not at the start, changed, gone, and back."""

import re
import time

import pytest
from aiohttp import web

from tests.cli.tools import CommandLine, ask
from tests.http.watching import eventually, reload
from tests.support.processes import Config, Homeport
from tests.support.vault import Account, VaultServer, encrypted, vault_beside

pytestmark = pytest.mark.long

#: Generous: a machine of CI is slow, and the first pause after a failure is ten seconds.
SECONDS_MAX = 60.0


async def down(request: web.Request) -> web.Response:
    return web.Response(status=503)


def config(server: VaultServer) -> Config:
    words = ("client_id", "client_secret", "password")
    vault = {"url": server.url, **{word: f"env:VAULT_{word.upper()}" for word in words}}
    return {
        "access": {"users": {"ci": {"password": "vault:Registry CI", "admin": True}}, "signed_in": ["pull"]},
        "secrets": {"vaultwarden": vault, "refresh_seconds": 10},
        "log": {"format": "json"},
    }


def environ(account: Account) -> dict[str, str]:
    return {
        "VAULT_CLIENT_ID": account.client_id,
        "VAULT_CLIENT_SECRET": account.client_secret,
        "VAULT_PASSWORD": account.password,
    }


def may_log_in(url: str, password: str) -> bool:
    return ask(f"{url}/v2/_catalog", login=("ci", password))[0] == 200


def will_log_in(url: str, password: str) -> bool:
    """Whether the password becomes right. Asked seldom: wrong ones are held off, as a guesser's are."""
    deadline = time.monotonic() + SECONDS_MAX
    while not may_log_in(url, password):
        if time.monotonic() > deadline:
            return False
        time.sleep(2)
    return True


def test_a_password_that_is_in_a_vault(homeport: Homeport) -> None:
    with vault_beside() as server:
        account = server.add(Account("ada@example.org", "correct horse battery staple"))
        item = account.add("Registry CI", password="first-password")
        server.instead["/api/sync"] = down

        # The vault is down: the server starts, and only who needs the vault waits.
        url = homeport.start(config(server), environ=environ(account))
        assert ask(f"{url}/healthz")[0] == 200
        assert not may_log_in(url, "first-password")
        server.instead.clear()
        assert will_log_in(url, "first-password"), homeport.log

        # Another password counts at once with a reload.
        account.items[item]["login"]["password"] = encrypted("second-password", account.user_key)
        reload(homeport, config(server))
        assert will_log_in(url, "second-password"), homeport.log
        assert not may_log_in(url, "first-password")

        # One that cannot be a password changes nothing and stops nothing.
        account.items[item]["login"]["password"] = encrypted("x" * 5000, account.user_key)
        asked = len(server.asked)
        assert eventually(lambda: len(server.asked) > asked + 1, SECONDS_MAX), homeport.log
        assert may_log_in(url, "second-password")

        # Without a reload it counts by itself.
        account.items[item]["login"]["password"] = encrypted("third-password", account.user_key)
        assert will_log_in(url, "third-password"), homeport.log
        homeport.stop()
        assert not re.search("(first|second|third)-password|correct horse", homeport.log)
        assert account.client_secret not in homeport.log

    found = events(homeport)
    assert "secret.unavailable" in found
    assert "secret.restored" in found
    assert "-password" not in found


def test_an_unknown_item_is_told(homeport: Homeport) -> None:
    with vault_beside() as server:
        account = server.add(Account("ada@example.org", "correct horse battery staple"))
        homeport.start(config(server), environ=environ(account))
        assert eventually(lambda: "has no item 'Registry CI'" in events(homeport), SECONDS_MAX), homeport.log
        homeport.stop()


def events(homeport: Homeport) -> str:
    return CommandLine(homeport.folder).run("events", "--json", "--data", str(homeport.data)).out
