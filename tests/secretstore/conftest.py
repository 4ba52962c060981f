"""A vault with an account, and a store that reads it."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.config.settings import Secrets
from homeport.secretstore.store import SecretStore
from tests.client.clocks import QuickClock
from tests.support.certificates import Authority, ServerCertificate
from tests.support.vault import PBKDF2, Account, Json, Organization, VaultServer, vault_serving

PASSWORD = "correct horse battery staple"
#: Where the store of the tests finds what opens the vault.
NAMES = {"client_id": "VAULT_ID", "client_secret": "VAULT_SECRET", "password": "VAULT_PASSWORD"}


@pytest.fixture
def clock() -> QuickClock:
    return QuickClock()


@pytest.fixture
def told() -> list[tuple[str, str]]:
    """What the stores told the audit log: kind and reason."""
    return []


@pytest.fixture
def certificate(tmp_path: Path) -> ServerCertificate:
    return Authority(tmp_path).issue()


@pytest.fixture
async def server() -> AsyncIterator[VaultServer]:
    async with vault_serving() as server:
        yield server


@pytest.fixture(params=[PBKDF2], ids=["pbkdf2"])
def account(server: VaultServer, request: pytest.FixtureRequest) -> Account:
    account = server.add(Account("Ada@example.org", PASSWORD, request.param))
    account.join(Organization())
    return account


@pytest.fixture
def environ(account: Account) -> dict[str, str]:
    return environ_of(account)


def environ_of(account: Account) -> dict[str, str]:
    return {
        "VAULT_ID": account.client_id,
        "VAULT_SECRET": account.client_secret,
        "VAULT_PASSWORD": account.password,
        "OTHER": "from the environment",
    }


def secrets_for(url: str, **more: Any) -> Secrets:
    vault: Json = {"url": url, **{name: f"env:{variable}" for name, variable in NAMES.items()}}
    return Secrets.model_validate({"vaultwarden": vault, **more})


@pytest.fixture
async def transport(clock: QuickClock) -> AsyncIterator[Transport]:
    async with Transport(ClientSettings(), clock) as transport:
        yield transport


@pytest.fixture
def make_store(
    clock: QuickClock, transport: Transport, told: list[tuple[str, str]]
) -> Iterator[Callable[..., SecretStore]]:
    stores: list[SecretStore] = []

    async def tell(kind: str, reason: str) -> None:
        told.append((kind, reason))

    def make(settings: Secrets, environ: dict[str, str]) -> SecretStore:
        stores.append(SecretStore(clock, environ, transport, settings=settings, tell=tell))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(make_store: Callable[..., SecretStore], server: VaultServer, environ: dict[str, str]) -> SecretStore:
    return make_store(secrets_for(server.url), environ)
