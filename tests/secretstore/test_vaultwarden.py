"""Our client against a server that is true to the protocol, and against one that is not."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from homeport.client.settings import ClientSettings, HostSettings
from homeport.client.transport import Transport
from homeport.config.references import parse_reference
from homeport.secretstore.errors import SecretUnavailable
from homeport.secretstore.store import SecretStore
from homeport.secretstore.vaultcrypto import SymmetricKey
from homeport.secretstore.vaultwarden import device_id, opened
from tests.client.clocks import QuickClock
from tests.secretstore.conftest import PASSWORD, environ_of, secrets_for
from tests.support.certificates import Authority, ServerCertificate
from tests.support.vault import ARGON2, PBKDF2, Account, Json, VaultServer, encrypted, vault_serving

TOKEN, SYNC, PRELOGIN = "/identity/connect/token", "/api/sync", "/identity/accounts/prelogin"

both_kinds = pytest.mark.parametrize("account", [PBKDF2, ARGON2], ids=["pbkdf2", "argon2id"], indirect=True)


async def read(store: SecretStore, reference: str) -> str:
    return await store.get(parse_reference(reference))


async def refused(store: SecretStore, reference: str = "vault:Item") -> str:
    with pytest.raises(SecretUnavailable) as raised:
        await read(store, reference)
    return str(raised.value)


def saying(status: int, body: Any = None, headers: dict[str, str] | None = None) -> Callable[..., Any]:
    async def answer(request: web.Request) -> web.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=data, headers=headers)

    return answer


@both_kinds
@pytest.mark.parametrize("own_key", [False, True], ids=["vault-key", "own-key"])
@pytest.mark.parametrize("organization", [False, True], ids=["personal", "organization"])
@pytest.mark.parametrize("capitals", [False, True], ids=["small", "capitals"])
async def test_every_part_of_an_item(
    server: VaultServer, account: Account, store: SecretStore, own_key: bool, organization: bool, capitals: bool
) -> None:
    server.capitals = capitals
    account.add(
        "Registry Webhook",
        organization=account.organizations[0] if organization else None,
        own_key=own_key,
        password="pässword",
        username="ada",
        uris=["https://one", "https://two"],
        notes="line 1\nline 2",
        fields=[("token", "t0ken"), ("other", "o")],
    )
    assert await read(store, "vault:Registry Webhook") == "pässword"
    assert await read(store, "vault:Registry Webhook#username") == "ada"
    assert await read(store, "vault:Registry Webhook#uri") == "https://one"
    assert await read(store, "vault:Registry Webhook#notes") == "line 1\nline 2"
    assert await read(store, "vault:Registry Webhook#field:token") == "t0ken"


@both_kinds
async def test_a_server_that_does_not_tell_the_derivation_at_the_login_is_asked(
    server: VaultServer, account: Account, store: SecretStore
) -> None:
    server.tells_derivation = False
    account.email = account.email.lower()
    account.add("Item", password="x1")
    assert await read(store, "vault:Item") == "x1"
    assert f"POST {PRELOGIN}" in server.asked


async def test_an_item_by_its_id(account: Account, store: SecretStore) -> None:
    first, second = account.add("Item", password="x1"), account.add("Item", password="x2")
    assert await read(store, f"vault:{second}") == "x2"
    assert await read(store, f"vault:{first.upper()}") == "x1"


async def test_a_name_that_two_items_have_is_no_guess(account: Account, store: SecretStore) -> None:
    ids = sorted(account.add("Item", password="x1") for _ in range(2))
    assert await refused(store) == (
        "vault:Item: the vault has 2 items 'Item'; write the id of the one that is meant after 'vault:':"
        f" {ids[0]}, {ids[1]}"
    )


async def test_a_name_is_the_whole_name(account: Account, store: SecretStore) -> None:
    account.add("Item", password="x1")
    account.add("Item 2", password="x2")
    assert await read(store, "vault:Item") == "x1"
    for other in ("Ite", "item", "Item 3"):
        assert "has no item" in await refused(store, f"vault:{other}")


async def test_what_is_in_the_trash_is_not_there(account: Account, store: SecretStore) -> None:
    account.items[account.add("Item", password="x1")]["deletedDate"] = "2026-01-01T00:00:00Z"
    assert "has no item 'Item'" in await refused(store)
    account.add("Item", password="x2")
    store.use([])
    assert await read(store, "vault:Item") == "x2"


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        ("vault:Item", "has no password"),
        ("vault:Item#username", "has no username"),
        ("vault:Item#uri", "has no address"),
        ("vault:Item#notes", "has no notes"),
        ("vault:Item#field:x", "has no field 'x'"),
        ("vault:Item#field:twice", "has 2 fields 'twice'"),
        ("vault:Item#field:empty", "has no field 'empty'"),
    ],
)
async def test_a_part_that_is_not_there(account: Account, store: SecretStore, reference: str, what: str) -> None:
    account.add("Item", fields=[("twice", "1"), ("twice", "2"), ("empty", "")])
    assert what in await refused(store, reference)


async def test_only_what_can_be_opened_is_there(account: Account, store: SecretStore) -> None:
    account.add("Item", password="x1")
    damaged = account.items[account.add("Damaged", password="x1")]
    damaged["login"]["password"] = encrypted("x", bytes(64))
    account.items[account.add("Foreign", password="x1")]["name"] = encrypted("Foreign", bytes(64))
    account.items[account.add("Alien", password="x1")]["organizationId"] = "unknown"
    account.items[account.add("Newer", password="x1")]["name"] = "7.AAAA"
    account.items["nothing"] = {}
    account.items["odd"] = {"id": 7, "name": ["x"], "login": "x", "key": 3, "fields": {"a": 1}}
    assert await read(store, "vault:Item") == "x1"
    assert "this part of the item is damaged" in await refused(store, "vault:Damaged")
    for name in ("Foreign", "Alien", "Newer"):
        assert "has no item" in await refused(store, f"vault:{name}")


async def test_the_key_is_derived_once_and_one_device_is_known(
    server: VaultServer, account: Account, store: SecretStore, environ: dict[str, str]
) -> None:
    account.add("Item", password="x1")
    store.use([parse_reference("vault:Item")])
    await store.refresh()
    await store.refresh()
    assert len(server.logins) == 1
    server.end_tokens()
    await store.refresh()
    assert len(server.logins) == 2
    assert {login["deviceIdentifier"] for login in server.logins} == {device_id(account.client_id)}
    assert {login["grant_type"] for login in server.logins} == {"client_credentials"}
    assert PASSWORD not in str(server.logins)
    assert store.held(parse_reference("vault:Item")) == "x1"


async def test_it_logs_in_again_before_a_token_ends(
    server: VaultServer, account: Account, store: SecretStore, clock: QuickClock
) -> None:
    account.add("Item", password="x1")
    store.use([parse_reference("vault:Item")])
    await store.refresh()
    clock.offset += server.token_seconds - 60
    await store.refresh()
    assert len(server.logins) == 1
    clock.offset += 40
    await store.refresh()
    assert len(server.logins) == 2


async def test_a_changed_master_password(
    server: VaultServer, account: Account, store: SecretStore, environ: dict[str, str]
) -> None:
    item = account.add("Item", password="x1")
    store.use([parse_reference("vault:Item")])
    await store.refresh()
    account.change_password("another password")
    server.end_tokens()
    account.items[item]["login"]["password"] = encrypted("x2", account.user_key)
    await store.refresh()
    assert store.held(parse_reference("vault:Item")) == "x1"
    environ["VAULT_PASSWORD"] = "another password"  # counts at once: no pause is sat out
    await store.refresh()
    assert store.held(parse_reference("vault:Item")) == "x2"


async def test_a_wrong_password_is_not_tried_again_and_again(
    server: VaultServer, account: Account, store: SecretStore, environ: dict[str, str], clock: QuickClock
) -> None:
    account.add("Item", password="x1")
    environ["VAULT_PASSWORD"] = "wrong"
    assert await refused(store) == "vault:Item: the master password is wrong: it does not open the vault's account"
    store.use([parse_reference("vault:Item")])
    for _ in range(5):
        await store.refresh()
    assert len(server.logins) == 1
    assert "the next login is tried in " in await refused(store)
    # Twice as long each time, up to an hour.
    waits: list[float] = []
    while not waits or waits[-1] < 3600:
        before, logins = clock.monotonic(), len(server.logins)
        while len(server.logins) == logins:
            clock.offset += 10
            await store.refresh()
        waits.append(clock.monotonic() - before)
        assert len(waits) < 20
    assert [round(wait, -1) for wait in waits[:4]] == [30, 60, 120, 240]
    environ["VAULT_PASSWORD"] = PASSWORD
    await store.refresh()
    assert store.held(parse_reference("vault:Item")) == "x1"


async def test_a_server_that_is_broken_is_back_within_minutes(
    server: VaultServer, account: Account, store: SecretStore, clock: QuickClock
) -> None:
    account.add("Item", password="x1")
    store.use([parse_reference("vault:Item")])
    server.instead[TOKEN] = saying(502, b"<html>")
    for _ in range(100):
        clock.offset += 100
        await store.refresh()
    assert 20 <= server.asked.count(f"POST {TOKEN}") <= 40
    server.instead.clear()
    clock.offset += 300
    await store.refresh()
    assert store.held(parse_reference("vault:Item")) == "x1"


async def test_a_revoked_key(
    server: VaultServer, account: Account, store: SecretStore, environ: dict[str, str]
) -> None:
    account.client_secret = "replaced"
    said = await refused(store)
    assert "refuses the API key (it answers 400, Incorrect client_secret)" in said
    assert "copy both anew" in said
    assert environ["VAULT_SECRET"] not in said


async def test_an_organizations_key_is_refused_without_asking(
    server: VaultServer, store: SecretStore, environ: dict[str, str]
) -> None:
    environ["VAULT_ID"] = "organization.123"
    assert "does not begin with 'user.'" in await refused(store)
    assert server.asked == []


async def test_a_secret_that_the_server_repeats_is_not_told(
    server: VaultServer, account: Account, store: SecretStore, environ: dict[str, str]
) -> None:
    server.instead[TOKEN] = saying(400, {"message": f"no {account.client_secret} and no {PASSWORD} here"})
    said = await refused(store)
    assert "no *** and no *** here" in said


async def test_a_login_that_is_limited_is_left_alone_for_as_long_as_the_server_says(
    server: VaultServer, account: Account, store: SecretStore, clock: QuickClock
) -> None:
    account.add("Item", password="x1")
    store.use([parse_reference("vault:Item")])
    server.instead[TOKEN] = saying(429, {"message": "Too many login requests"}, {"Retry-After": "600"})
    said = await refused(store)
    assert "takes no more logins for now: it answers 429, Too many login requests" in said
    server.instead.clear()
    clock.offset += 590
    await store.refresh()
    assert server.logins == []
    clock.offset += 20
    await store.refresh()
    assert store.held(parse_reference("vault:Item")) == "x1"


@pytest.mark.parametrize(
    ("path", "answer", "why"),
    [
        (TOKEN, saying(500, {"message": "boom"}), "none of Bitwarden's: it answers 500, boom"),
        (TOKEN, saying(200, b"<html>"), "none of Bitwarden's: it answers 200"),
        (TOKEN, saying(200, []), "none of Bitwarden's"),
        (TOKEN, saying(200, {"access_token": ["x"]}), "none of Bitwarden's"),
        (TOKEN, saying(200, {"access_token": "é"}), "none of Bitwarden's"),
        (TOKEN, saying(200, {"access_token": "x\ny"}), "none of Bitwarden's"),
        (TOKEN, saying(200, b"[" * 100_000), "none of Bitwarden's"),
        (TOKEN, saying(200, b"x" * (1024 * 1024 + 1)), "answers with more than 1048576 bytes"),
        (TOKEN, saying(301, headers={"Location": "https://evil.example/"}), "redirects with 301"),
        (TOKEN, saying(307, headers={"Location": "http://evil.example/"}), "would pass on what is for"),
        (SYNC, saying(500, {"message": "boom"}), "does not give its items: it answers 500, boom"),
        (SYNC, saying(401, {}), "does not take the token that it has just given"),
        (SYNC, saying(403, b"no"), "does not give its items: it answers 403"),
        (SYNC, saying(200, b"<html>"), "sends as its items is none of Bitwarden's answers"),
        (SYNC, saying(200, {"ciphers": 7, "profile": {}}), "sends as its items is none of Bitwarden's answers"),
        (SYNC, saying(200, {"ciphers": [], "profile": {"organizations": {}}}), "has no item"),
        (SYNC, saying(200, {"ciphers": [7, None, [], {}], "profile": None}), "has no item"),
    ],
)  # fmt: skip
async def test_what_a_broken_server_says(
    server: VaultServer, account: Account, store: SecretStore, path: str, answer: Any, why: str
) -> None:
    server.instead[path] = answer
    assert why in await refused(store)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Kdf": 0, "KdfIterations": 1}, "the server asks for 1 PBKDF2 iterations; 5000 to 10000000 are accepted"),
        ({"Kdf": 0, "KdfIterations": 10**12}, "the server asks for 1000000000000 PBKDF2 iterations"),
        ({"Kdf": 0, "KdfIterations": "600000"}, "the server asks for 0 PBKDF2 iterations"),
        ({"Kdf": 1, "KdfIterations": 3, "KdfMemory": 10**6, "KdfParallelism": 4}, "1000000 MiB of memory"),
        ({"Kdf": 9}, "of kind 9, which is not supported"),
    ],
)
async def test_what_a_hostile_server_asks_the_processor_for(
    server: VaultServer, account: Account, store: SecretStore, changes: Json, why: str
) -> None:
    server.tells_derivation = False
    answer = json.loads(server._login(login_form(account)).text or "")
    server.instead[TOKEN] = saying(200, answer | changes)
    assert why in await refused(store)


def login_form(account: Account) -> dict[str, str]:
    form = {"grant_type": "client_credentials", "scope": "api", "deviceType": "25", "deviceName": "x"}
    return form | {"deviceIdentifier": "x", "client_id": account.client_id, "client_secret": account.client_secret}


@pytest.mark.parametrize(
    ("protected", "why"),
    [
        ("7.AAAA", "newer encryption (V2), which is not supported"),
        ("0.AAAA|AAAA", "without a MAC"),
        ("2.AAAA|AAAA|AAAA", "damaged"),
        ("", "has no key of an account"),
    ],
)
async def test_an_account_that_cannot_be_opened(
    server: VaultServer, account: Account, store: SecretStore, protected: str, why: str
) -> None:
    account.protected_key = protected
    assert why in await refused(store)


async def test_an_account_of_the_newer_kind(account: Account, store: SecretStore) -> None:
    account.user_key = bytes(70)
    account.change_password(PASSWORD)
    assert "accounts with the newer encryption (V2) are not supported" in await refused(store)


async def test_a_vault_that_is_not_there(
    make_store: Callable[..., SecretStore], environ: dict[str, str], server: VaultServer
) -> None:
    nowhere = make_store(secrets_for("http://127.0.0.1:9"), environ)
    assert "the vault cannot be reached: POST http://127.0.0.1:9/identity/connect/token: cannot connect" in (
        await refused(nowhere)
    )
    nameless = make_store(secrets_for("http://vault.invalid"), environ)
    assert "there is no host vault.invalid" in await refused(nameless)


async def test_a_vault_that_says_nothing(
    clock: QuickClock, server: VaultServer, account: Account, environ: dict[str, str]
) -> None:
    forever = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        await forever.wait()
        return web.Response()

    async def tell(kind: str, reason: str) -> None:
        pass

    server.instead[SYNC] = hang
    async with Transport(ClientSettings(silence_seconds=0.2), clock) as transport:
        store = SecretStore(clock, environ, transport, settings=secrets_for(server.url), tell=tell)
        assert "nothing moved for too long" in await refused(store)
        forever.set()
        store.close()


async def test_what_opens_the_vault_is_not_there(store: SecretStore, environ: dict[str, str]) -> None:
    del environ["VAULT_SECRET"]
    assert await refused(store) == "vault:Item: env:VAULT_SECRET is empty or not set"


async def test_an_authority_of_ones_own(clock: QuickClock, certificate: ServerCertificate, tmp_path: Path) -> None:
    async def tell(kind: str, reason: str) -> None:
        pass

    other = tmp_path / "other"
    other.mkdir()
    async with vault_serving(certificate) as server:
        account = server.add(Account("ada@example.org", PASSWORD))
        account.add("Item", password="x1")
        for ca, works in ((certificate.ca, True), (Authority(other).ca, False)):
            settings = ClientSettings(hosts={"127.0.0.1": HostSettings(ca=ca)})
            async with Transport(settings, clock) as transport:
                store = SecretStore(clock, environ_of(account), transport, settings=secrets_for(server.url), tell=tell)
                if works:
                    assert await read(store, "vault:Item") == "x1"
                else:
                    assert "is not trusted" in await refused(store)
                store.close()


@pytest.mark.parametrize("lasts", [None, "3600", -1, 0, 10**300, 1e308, float("inf"), float("nan"), True])
async def test_a_token_that_lasts_oddly_long_is_used_for_a_while(
    server: VaultServer, account: Account, store: SecretStore, lasts: Any
) -> None:
    account.add("Item", password="x1")
    server.token_seconds = lasts
    store.use([parse_reference("vault:Item")])
    for _ in range(3):
        await store.refresh()
    assert store.held(parse_reference("vault:Item")) == "x1"
    assert len(server.logins) == 1


KEY = SymmetricKey.of(bytes(64))
WORDS = st.sampled_from(
    ["ciphers", "profile", "organizations", "id", "key", "name", "login", "password", "fields", "value", "uris", "uri"]
)
TEXTS = st.sampled_from(["", "x", "2.A|B|C", "7.AAAA", *(encrypted(word, bytes(64)) for word in ("Item", "x", ""))])


@limits(deadline=None)
@given(
    st.recursive(
        TEXTS | st.none() | st.booleans() | st.integers() | st.floats(),
        lambda inside: st.lists(inside, max_size=4) | st.dictionaries(WORDS, inside, max_size=6),
    )
)
def test_whatever_the_server_keeps_there_is_a_value_or_a_reason(content: Any) -> None:
    references = [parse_reference(f"vault:Item{part}") for part in ("", "#uri", "#notes", "#field:x")]
    for vault in (content, {"ciphers": [content, {"name": encrypted("Item", bytes(64)), "login": content}]}):
        found = opened(vault, KEY, None, references)
        assert set(found) == set(references)
        assert all(isinstance(each, str | SecretUnavailable) for each in found.values())


def test_the_device_is_a_uuid_and_stays() -> None:
    assert device_id("user.1") == device_id("user.1") != device_id("user.2")
    assert [len(part) for part in device_id("user.1").split("-")] == [8, 4, 4, 4, 12]
