"""The store: what it remembers, what it tells, and that nothing of it shows a value."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from homeport.config.errors import SecretUnreadable
from homeport.config.references import SecretReference, parse_reference
from homeport.config.settings import Secrets, Vaultwarden
from homeport.secretstore.errors import SecretUnavailable
from homeport.secretstore.store import RETRY_SECONDS, SecretStore
from tests.client.clocks import QuickClock
from tests.secretstore.conftest import PASSWORD, secrets_for
from tests.support.vault import Account, VaultServer, encrypted

ITEM = parse_reference("vault:Item")
Told = list[tuple[str, str]]


async def down(request: web.Request) -> web.Response:
    return web.Response(status=503)


@pytest.fixture
def item(account: Account) -> str:
    return account.add("Item", password="value-1")


def rotate(account: Account, item: str, value: str) -> None:
    account.items[item]["login"]["password"] = encrypted(value, account.user_key)


async def test_local_secrets_are_read_at_each_use(store: SecretStore, tmp_path: Path, server: VaultServer) -> None:
    path = tmp_path / "secret"
    path.write_text("first\n")
    file, variable = SecretReference("file", str(path)), parse_reference("env:OTHER")
    assert (await store.get(file), store.held(file)) == ("first", "first")
    path.write_text("second")
    assert (await store.get(file), store.held(file)) == ("second", "second")
    assert await store.get(variable) == "from the environment"
    path.unlink()
    with pytest.raises(SecretUnreadable, match="cannot be read: No such file"):
        store.held(file)
    with pytest.raises(SecretUnavailable, match="cannot be read: No such file"):
        await store.get(file)
    with pytest.raises(SecretUnreadable, match="is empty or not set"):
        store.held(parse_reference("env:NOBODY"))
    assert server.asked == []


async def test_a_value_in_use_is_read_once_and_refreshed(
    store: SecretStore, server: VaultServer, account: Account, item: str, told: Told
) -> None:
    changes = []
    store.on_change = lambda: changes.append(store.held(ITEM))
    store.use([ITEM])
    assert store.held(ITEM) is None
    await store.refresh()
    assert store.held(ITEM) == await store.get(ITEM) == "value-1"
    asked = len(server.asked)
    for _ in range(10):
        await store.get(ITEM)
    assert len(server.asked) == asked
    await store.refresh()
    rotate(account, item, "value-2")
    assert await store.get(ITEM) == "value-1"
    await store.refresh()
    assert await store.get(ITEM) == "value-2"
    assert changes == ["value-1", "value-2"]
    assert told == []


async def test_a_value_that_is_not_in_use_gets_as_old_as_the_settings_say(
    store: SecretStore, server: VaultServer, account: Account, item: str, clock: QuickClock
) -> None:
    assert await store.get(ITEM) == "value-1"
    rotate(account, item, "value-2")
    assert await store.get(ITEM) == "value-1"
    clock.offset += 301
    assert await store.get(ITEM) == "value-2"
    store.use([])
    assert store.held(ITEM) is None


async def test_the_last_value_serves_on_and_that_is_told_once(
    store: SecretStore, server: VaultServer, account: Account, item: str, told: Told, clock: QuickClock
) -> None:
    account.add("Other", password="value-3")
    other, missing = parse_reference("vault:Other"), parse_reference("vault:Missing")
    store.use([ITEM, other, missing])
    await store.refresh()
    assert told == [("secret.unavailable", "vault:Missing: the vault has no item 'Missing' that this account can read")]
    told.clear()
    server.instead["/api/sync"] = down
    for _ in range(3):
        await store.refresh()
        clock.offset += 100
    assert (await store.get(ITEM), await store.get(other)) == ("value-1", "value-3")
    assert told == [
        ("secret.unavailable", "vault:Item, vault:Other: the vault does not give its items: it answers 503")
    ]
    told.clear()
    server.instead.clear()
    await store.refresh()
    await store.refresh()
    assert told == [("secret.restored", "vault:Item, vault:Other")]
    account.add("Missing", password="value-4")
    await store.refresh()
    assert told[1:] == [("secret.restored", "vault:Missing")]


async def test_a_vault_that_just_failed_is_not_asked_at_once(
    store: SecretStore, server: VaultServer, account: Account, item: str, clock: QuickClock
) -> None:
    server.instead["/api/sync"] = down
    for _ in range(20):
        with pytest.raises(SecretUnavailable, match="answers 503"):
            await store.get(ITEM)
    assert server.asked.count("GET /api/sync") == 1
    server.instead.clear()
    clock.offset += RETRY_SECONDS + 1
    assert await store.get(ITEM) == "value-1"


async def test_many_who_ask_at_once_are_one_question(store: SecretStore, server: VaultServer, item: str) -> None:
    assert set(await asyncio.gather(*(store.get(ITEM) for _ in range(50)))) == {"value-1"}
    assert server.asked.count("GET /api/sync") == 1
    assert len(server.logins) == 1


async def test_what_is_in_use_may_change_while_the_vault_is_asked(
    store: SecretStore, server: VaultServer, account: Account, item: str
) -> None:
    account.add("Other", password="value-3")
    other = parse_reference("vault:Other")
    asked, answering = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        asked.set()
        await answering.wait()
        return web.json_response(account.sync())

    await store.get(other)
    server.instead["/api/sync"] = slow
    getting = asyncio.create_task(store.get(ITEM))
    checking = asyncio.create_task(store.check([ITEM, other]))
    await asked.wait()
    store.use([])
    store.use([other])
    answering.set()
    assert await getting == "value-1"
    assert [each.ok for each in await checking] == [True, True]
    await store.refresh()
    assert store.held(other) == "value-3"


async def test_one_vault_at_a_time_and_local_ones_wait_for_none(
    store: SecretStore, server: VaultServer, account: Account, item: str
) -> None:
    forever = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        await forever.wait()
        return web.Response(status=500)

    server.instead["/api/sync"] = hang
    store.use([ITEM])
    refreshing = asyncio.create_task(store.refresh())
    await asyncio.sleep(0.05)
    assert await store.get(parse_reference("env:OTHER")) == "from the environment"
    assert store.held(ITEM) is None
    forever.set()
    await refreshing


async def test_the_loop_refreshes_wakes_when_others_are_in_use_and_ends_when_cancelled(
    store: SecretStore, server: VaultServer, account: Account, item: str
) -> None:
    changed = asyncio.Event()
    store.on_change = changed.set
    running = asyncio.create_task(store.run())
    await asyncio.sleep(0)
    store.use([ITEM])
    async with asyncio.timeout(30):
        await changed.wait()
    assert store.held(ITEM) == "value-1"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_check_says_of_each_where_it_comes_from_and_never_its_value(
    store: SecretStore, server: VaultServer, item: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("in a file")
    texts = ["env:OTHER", "env:NOBODY", f"file:{tmp_path}/secret", "file:/nowhere", "vault:Item", "vault:None"]
    found = await store.check(map(parse_reference, texts))
    assert [each.reference for each in found] == texts
    assert [each.ok for each in found] == [True, False, True, False, True, False]
    assert [each.source for each in found][3:5] == ["file /nowhere", f"item of the vault at {server.url}"]
    assert found[0].source == "environment variable OTHER"
    assert [each.problem is None for each in found] == [each.ok for each in found]
    assert "value-1" not in str(found)
    assert server.asked.count("GET /api/sync") == 1


async def test_other_settings_count_at_once(
    make_store: Callable[..., SecretStore],
    server: VaultServer,
    account: Account,
    item: str,
    environ: dict[str, str],
    told: Told,
) -> None:
    store = make_store(secrets_for("http://127.0.0.1:9"), environ)
    store.use([ITEM])
    await store.refresh()
    assert store.held(ITEM) is None
    store.reconfigure(secrets_for(server.url))
    assert await store.get(ITEM) == "value-1"
    store.reconfigure(secrets_for("http://127.0.0.1:9"))
    await store.refresh()
    assert await store.get(ITEM) == "value-1"
    store.reconfigure(Secrets())
    with pytest.raises(SecretUnavailable, match=r"no vault is known: say with 'secrets\.vaultwarden' which"):
        await store.get(parse_reference("vault:Other"))


async def test_what_is_held_can_be_taken_out_of_texts_and_is_in_none(
    store: SecretStore, server: VaultServer, account: Account, item: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store.use([ITEM])
    await store.refresh()
    await store.get(parse_reference("env:OTHER"))
    secrets = {"value-1", "from the environment", account.client_secret, PASSWORD, account.client_id}
    assert store.values() == secrets
    hidden = [*(secrets - {account.client_id}), *server.tokens]
    shown = shown_everywhere(store)
    assert [secret for secret in hidden if secret in shown] == []
    store.close()
    assert store.values() == frozenset()
    printed = capsys.readouterr()
    assert not any(secret in printed.out + printed.err for secret in hidden)


def shown_everywhere(store: SecretStore) -> str:
    """The repr and str of the store and of what hangs on it, down to our own objects."""
    found: list[str] = []
    seen: set[int] = set()
    waiting: list[object] = [store]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or not type(each).__module__.startswith("homeport.secretstore"):
            continue
        seen.add(id(each))
        found += [repr(each), str(each)]
        names = [*getattr(each, "__dict__", {}), *getattr(type(each), "__slots__", ())]
        for name in names:
            with contextlib.suppress(AttributeError):
                value = getattr(each, name)
                waiting += value.values() if isinstance(value, dict) else [value]
    assert len(found) > 10
    return "\n".join(found)


async def test_a_value_that_is_damaged_on_the_way_is_not_in_the_traceback(
    store: SecretStore, server: VaultServer, account: Account, item: str
) -> None:
    account.add("Two", fields=[("x", "hidden-1"), ("x", "hidden-2")])
    with pytest.raises(SecretUnavailable) as raised:
        await store.get(parse_reference("vault:Two#field:x"))
    report = str(raised.getrepr(style="short", showlocals=False))
    assert "hidden-" not in report
    assert raised.value.__cause__ is None


def test_settings_name_places_only() -> None:
    settings = secrets_for("http://vault.lan")
    assert isinstance(settings.vaultwarden, Vaultwarden)
    assert "env:VAULT_PASSWORD" in settings.model_dump_json()
