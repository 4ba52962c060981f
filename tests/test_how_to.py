"""The commands of the how-to pages do what the pages say, run as they stand there on folders of the test."""

import re
import shutil
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

from pydantic import TypeAdapter

from homeport.config.plans import Cron
from tests.cli.tools import ask, push
from tests.support.components import ROOT, need
from tests.support.processes import Homeport


def commands(page: str) -> list[str]:
    """The blocks of shell commands of a page."""
    return re.findall(r"```sh\n(.*?)```", (ROOT / "docs/how-to" / page).read_text(), re.DOTALL)


def run(block: str, folder: Path) -> str:
    """What the commands print; the first that fails ends them, and the test."""
    words = ["bash", "-euo", "pipefail", "-c", block]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_backup_of_a_running_server_can_be_restored(homeport: Homeport, tmp_path: Path) -> None:
    backup, restore, verify = commands("backup.md")
    login = ("writer", homeport.passwords["writer"])
    digest = push(homeport.start(), login, "team/app", "1.0")
    (tmp_path / "backup").mkdir()
    moved = backup.replace("/srv/homeport", str(homeport.data)).replace("/backup", str(tmp_path / "backup"))
    run(moved, tmp_path)
    homeport.stop()
    shutil.rmtree(homeport.data)

    restored = restore.replace("/srv/homeport", str(homeport.data)).replace("/backup", str(tmp_path / "backup"))
    assert restored.splitlines()[-1].startswith("homeport serve --data ")
    run("\n".join(restored.splitlines()[:-1]), tmp_path)
    assert run(verify.replace("/srv/homeport", str(homeport.data)), tmp_path) == ""
    url = homeport.start()
    assert ask(f"{url}/v2/team/app/manifests/{digest}", login=login)[0] == 200
    assert ask(f"{url}/v2/team/app/manifests/1.0", login=login)[0] == 200


def test_an_authority_of_ones_own(homeport: Homeport, tmp_path: Path) -> None:
    need("openssl")
    (made,) = commands("tls.md")
    run(made.replace("registry.lan", "localhost").replace("rsa:4096", "rsa:2048"), tmp_path)
    files = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    url = homeport.start({"server": {"tls": files}})
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    address = url.replace("127.0.0.1", "localhost") + "/healthz"
    with urllib.request.urlopen(address, context=trusting) as answer:
        assert answer.status == 200


def test_a_list_of_another_tool_and_the_files_of_nodes(tmp_path: Path) -> None:
    files, imported = (block for block in commands("mirror.md") if "client-config" in block or "import" in block)
    program = f'homeport() {{ "{sys.executable}" -m homeport "$@"; }}\n'
    (tmp_path / "homeport.yaml").write_text("cache: {upstreams: [docker.io]}\n")
    assert '"registry-mirrors"' in run(program + files, tmp_path)
    assert 'server = "https://ghcr.io"' in run(program + files, tmp_path)
    (tmp_path / "mirror.json").write_text('["alpine:3.13.2"]')
    assert run(program + imported, tmp_path) == "new.yaml: all is right\n"


def test_what_the_page_about_schedules_lists_is_what_there_is() -> None:
    page = (ROOT / "docs/how-to/schedules.md").read_text()
    rows = [re.findall(r"`([^`]+)`", row) for row in re.findall(r"(?m)^\| (`.*) \|$", page)]
    for words in rows:
        if "*" in words[0] or words[0].startswith("@"):
            lines = [TypeAdapter(Cron).validate_python(word) for word in words]
            if words[0].startswith("@"):  # As many lines follow, which say the same.
                assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
