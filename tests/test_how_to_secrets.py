"""The how-to page on secrets does what it says: its files and commands, with a vault of the test."""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from homeport.config.loading import load
from tests.cli.tools import COMMAND, clean_environment
from tests.support.certificates import Authority
from tests.support.components import ROOT, need
from tests.support.vault import Account, vault_serving

pytestmark = pytest.mark.long

PAGE = (ROOT / "docs/how-to/secrets.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


async def run(*words: str, cwd: Path, environ: dict[str, str]) -> tuple[int | None, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, cwd=cwd, env=environ, stdout=pipe, stderr=pipe)
    out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


async def test_the_secrets_of_the_page(tmp_path: Path) -> None:
    vault, program = blocks("yaml")
    _, unlock = blocks("sh")
    certificate = Authority(tmp_path).issue()
    account = Account("homeport@example.org", "correct horse battery staple")
    account.add("Registry CI", password="ci-password", own_key=True)
    account.add("RegistryWebhook", password="http://127.0.0.1:9/hook", uris=["http://127.0.0.1:9/hook"])
    async with vault_serving(certificate) as server:
        server.add(account)

        def ours(text: str) -> str:
            text = text.replace("https://vault.lan", server.url).replace("vault.lan:", "127.0.0.1:")
            text = text.replace("/run/secrets", str(tmp_path)).replace("/srv/homeport/bw", str(tmp_path / "bw"))
            return text.replace("/etc/homeport/lan-ca.crt", str(certificate.ca))

        (tmp_path / "vault_client_id").write_text(account.client_id + "\n")
        (tmp_path / "vault_client_secret").write_text(account.client_secret + "\n")
        (tmp_path / "vault_password").write_text(account.password + "\n")
        environ = clean_environment(NODE_EXTRA_CA_CERTS=str(certificate.ca))
        asked = environ | {"BW_CLIENTID": account.client_id, "BW_CLIENTSECRET": account.client_secret}
        asked |= {"PATH": f"{need('bw').parent}:{os.environ['PATH']}", "MASTER": account.password}

        async def check(text: str) -> list[dict[str, Any]]:
            (tmp_path / "homeport.yaml").write_text(ours(text))
            load(tmp_path / "homeport.yaml", {})
            words = (*COMMAND, "secret", "check", "--json")
            code, out, errors = await run(*words, cwd=tmp_path, environ=asked)
            found: list[dict[str, Any]] = json.loads(out)
            assert (code, [each for each in found if not each["ok"]]) == (0, []), errors
            assert "ci-password" not in out + errors
            return found

        found = {each["reference"] for each in await check(vault)}
        assert {"vault:Registry CI", "vault:RegistryWebhook#uri", f"file:{tmp_path}/vault_password"} <= found

        words = ours(unlock).replace("bw unlock --raw", "bw unlock --raw --passwordenv MASTER")
        code, _, errors = await run("bash", "-euo", "pipefail", "-c", words, cwd=tmp_path, environ=asked)
        assert code == 0, errors
        assert "bw:RegistryWebhook" in {each["reference"] for each in await check(program)}
