"""The official `bw`: what it makes our client reads, and what it holds is read through it, or it is said why not."""

import asyncio
import base64
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from homeport.client.settings import ClientSettings, HostSettings
from homeport.client.transport import Transport
from homeport.config.references import parse_reference
from homeport.config.settings import Secrets
from homeport.secretstore.errors import SecretUnavailable
from homeport.secretstore.store import SecretStore
from tests.client.clocks import QuickClock
from tests.secretstore.conftest import PASSWORD, environ_of, secrets_for
from tests.support.certificates import ServerCertificate
from tests.support.components import need
from tests.support.vault import ARGON2, PBKDF2, Account, Json, Organization, vault_serving

pytestmark = pytest.mark.long


@dataclass
class Bw:
    """The program with a state of its own, as on a machine of its own."""

    url: str
    account: Account
    ca: Path
    state: Path
    session: str = ""
    program: Path = field(default_factory=lambda: need("bw"))

    def environ(self) -> dict[str, str]:
        """The environment that Homeport is started with."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.state.parent),
            "NODE_EXTRA_CA_CERTS": str(self.ca),
            "BITWARDENCLI_APPDATA_DIR": str(self.state),
        }

    async def run(self, *words: str, stdin: bytes = b"") -> str:
        environ = self.environ() | {
            "BW_CLIENTID": self.account.client_id,
            "BW_CLIENTSECRET": self.account.client_secret,
            "MASTER_PASSWORD": self.account.password,
            "BW_NOINTERACTION": "true",
            "BW_SESSION": self.session,
        }
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self.program, *words, env=environ, stdin=pipe, stdout=pipe, stderr=pipe
        )
        out, errors = await process.communicate(stdin)
        assert process.returncode == 0, (words, out, errors)
        return out.decode().strip()

    async def login(self) -> None:
        await self.run("config", "server", self.url)
        await self.run("login", "--apikey")

    async def unlock(self) -> str:
        self.session = await self.run("unlock", "--passwordenv", "MASTER_PASSWORD", "--raw")
        return self.session

    async def create(self, item: Json) -> str:
        """Creates an item as people do; its id."""
        words = base64.b64encode(json.dumps(item).encode())
        return str(json.loads(await self.run("create", "item", stdin=words))["id"])


async def no_events(kind: str, reason: str) -> None:
    pass


LOGIN: Json = {
    "type": 1,
    "name": "RegistryWebhook",
    "notes": "line 1\nline 2 é",
    "fields": [{"name": "token", "value": "t0ken", "type": 1}, {"name": "plain", "value": "p", "type": 0}],
    "login": {
        "uris": [{"uri": "https://hooks.lan/one", "match": None}, {"uri": "https://hooks.lan/two"}],
        "username": "ada",
        "password": "https://hooks.lan/x?token=sécret",
    },
}
EXPECTED = {
    "vault:RegistryWebhook": "https://hooks.lan/x?token=sécret",
    "vault:RegistryWebhook#username": "ada",
    "vault:RegistryWebhook#uri": "https://hooks.lan/one",
    "vault:RegistryWebhook#notes": "line 1\nline 2 é",
    "vault:RegistryWebhook#field:token": "t0ken",
    "vault:RegistryWebhook#field:plain": "p",
    "vault:A note#notes": "note of it",
    "vault:Shared": "of all",
}


@pytest.mark.parametrize("kdf", [PBKDF2, ARGON2], ids=["pbkdf2", "argon2id"])
async def test_what_bw_makes_our_client_reads(
    kdf: Json, certificate: ServerCertificate, tmp_path: Path, clock: QuickClock
) -> None:
    async with vault_serving(certificate) as server:
        account = server.add(Account("ada@example.org", PASSWORD, kdf))
        organization = Organization()
        account.join(organization)
        bw = Bw(server.url, account, certificate.ca, tmp_path / "state")
        await bw.login()
        await bw.unlock()
        await bw.create(LOGIN)
        await bw.create({"type": 2, "name": "A note", "notes": "note of it", "secureNote": {"type": 0}})
        shared = {"type": 1, "name": "Shared", "login": {"password": "of all"}}
        await bw.create(shared | {"organizationId": organization.id, "collectionIds": [organization.collection]})
        assert "RegistryWebhook" not in str(account.items)

        # What we make, bw reads: so what the tests make elsewhere is of the real format.
        account.add("Ours", password="ours", own_key=True)
        await bw.run("sync")
        assert await bw.run("get", "password", "Ours") == "ours"

        settings = ClientSettings(hosts={"127.0.0.1": HostSettings(ca=certificate.ca)})
        async with Transport(settings, clock) as transport:
            store = SecretStore(clock, environ_of(account), transport, settings=secrets_for(server.url), tell=no_events)
            found = {text: await store.get(parse_reference(text)) for text in EXPECTED}
            store.close()
        assert found == EXPECTED


def settings_for(bw: Bw, tmp_path: Path, **more: Any) -> Secrets:
    token = tmp_path / "bw_session_token"
    token.write_text(f"{bw.session}\n")
    words = {"program": str(bw.program), "session": f"file:{token}", "state": str(bw.state), **more}
    return Secrets.model_validate({"bw": words})


async def reading(make_store: Callable[..., SecretStore], bw: Bw, tmp_path: Path, reference: str, **more: Any) -> str:
    """What a new store reads through bw, or why it can't."""
    store = make_store(settings_for(bw, tmp_path, **more), bw.environ())
    try:
        return await store.get(parse_reference(reference))
    except SecretUnavailable as error:
        said = str(error)
    assert not bw.session or bw.session not in said
    return said


async def test_the_session_token_of_the_scripts(
    certificate: ServerCertificate, tmp_path: Path, make_store: Callable[..., SecretStore]
) -> None:
    """Row S5: `bw` with the Docker secret bw_session_token, and each way in which such a token fails."""
    async with vault_serving(certificate) as server:
        account = server.add(Account("ada@example.org", PASSWORD))
        account.add("RegistryWebhook", password="https://hooks.lan/x", fields=[("token", "t0ken")])
        account.add("RegistryWebhook 2", password="another")
        account.add("Twice", password="1")
        account.add("Twice", password="2")
        bw = Bw(server.url, account, certificate.ca, tmp_path / "state")

        async def read(reference: str, **more: Any) -> str:
            return await reading(make_store, bw, tmp_path, reference, **more)

        await bw.login()
        bw.session = base64.b64encode(bytes(64)).decode()
        assert (await read("bw:RegistryWebhook")).startswith("bw:RegistryWebhook: bw is locked: ")

        first = await bw.unlock()
        assert await read("bw:RegistryWebhook") == "https://hooks.lan/x"
        assert await read("bw:RegistryWebhook#field:token") == "t0ken"
        assert await read("bw:RegistryWebhook", state=None) == "https://hooks.lan/x"
        assert "the vault has no item 'Registry' that" in await read("bw:Registry")
        assert "the vault has 2 items 'Twice'; write the id of the one that is meant after 'bw:'" in await read(
            "bw:Twice"
        )
        asked = len(server.asked)
        assert "has no username" in await read("bw:RegistryWebhook#username")
        assert len(server.asked) == asked, "bw was made to talk to its server"

        await bw.unlock()
        bw.session = first
        assert "the session token is not that of the last unlock" in await read("bw:RegistryWebhook")

        fresh = await read("bw:RegistryWebhook", state=str(tmp_path / "fresh container"))
        assert f"bw is not logged in here: {tmp_path}/fresh container has no data.json with a login" in fresh
        assert "'vault:ITEM' and 'secrets.vaultwarden'" in fresh


async def test_a_program_that_is_no_bw(
    tmp_path: Path, certificate: ServerCertificate, make_store: Callable[..., SecretStore]
) -> None:
    bw = Bw("", Account("ada@example.org", PASSWORD), certificate.ca, tmp_path / "state", "session-token")

    async def read(text: str) -> str:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        return await reading(make_store, bw, tmp_path, "bw:Item", program=str(program))

    missing = await reading(make_store, bw, tmp_path, "bw:Item", program="no-such-program")
    assert "the program no-such-program cannot be started: No such file" in missing
    assert "'secrets.bw.program'" in missing
    assert "(exit code 3): it says nothing" in await read("exit 3")
    assert "(exit code 0): hello" in await read("echo hello >&2")
    assert "(exit code 1): no *** for you" in await read('echo "no $BW_SESSION for you" >&2; exit 1')
    assert "wrote more than" in await read("yes")
    (tmp_path / "bw_session_token").unlink()
    store = make_store(Secrets.model_validate({"bw": {"session": f"file:{tmp_path}/bw_session_token"}}), {})
    with pytest.raises(SecretUnavailable, match="bw_session_token cannot be read"):
        await store.get(parse_reference("bw:Item"))


async def test_the_session_is_in_no_process_list_and_the_program_sees_only_what_it_needs(
    tmp_path: Path, certificate: ServerCertificate, make_store: Callable[..., SecretStore]
) -> None:
    bw = Bw("", Account("ada@example.org", PASSWORD), certificate.ca, tmp_path / "state", "session-token")
    program, seen = tmp_path / "program", tmp_path / "seen"
    program.write_text(
        f"#!/bin/sh\ntr '\\0' ' ' </proc/$$/cmdline >{seen}.words\nenv >{seen}.environ\n"
        'echo \'{"success": true, "data": {"data": [{"id": "1", "name": "Item", "login": {"password": "x1"}}]}}\'\n'
    )
    program.chmod(0o755)
    store = make_store(settings_for(bw, tmp_path, program=str(program)), bw.environ() | {"HOMEPORT_CI": "hidden"})
    assert await store.get(parse_reference("bw:Item")) == "x1"
    assert "session-token" not in (tmp_path / "seen.words").read_text()
    environ = (tmp_path / "seen.environ").read_text()
    assert "BW_SESSION=session-token" in environ
    assert "HOMEPORT_CI" not in environ
