"""`homeport repo`, `homeport tag` and `homeport copy`, on what was pushed."""

import base64
import json
from pathlib import Path

import pytest

from tests.cli.tools import CommandLine, Terminal, ask, push
from tests.support.processes import Homeport


@pytest.fixture
def served(homeport: Homeport) -> Homeport:
    homeport.start()
    return homeport


@pytest.fixture
def cli(served: Homeport) -> CommandLine:
    """In the server's folder, with the login that docker would have left for `writer`."""
    folder = served.folder / "docker"
    folder.mkdir()
    login = base64.b64encode(f"writer:{served.passwords['writer']}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {served.host: {"auth": login}}}))
    return CommandLine(served.folder)


def test_repositories_and_tags_are_listed_shown_and_deleted(served: Homeport, cli: CommandLine) -> None:
    words = ("--data", str(served.data))
    assert cli.run_here("repo", "list", *words).err == "homeport: no repositories; docker push makes one\n"
    assert cli.run_here("repo", "list", "--json", *words).json == []
    login = ("writer", served.passwords["writer"])
    digest = push(served.url, login, "team/app", "1.0")
    other = push(served.url, login, "team/app", "1.1", "another layer")
    push(served.url, login, "solo", "latest")

    assert [row["name"] for row in cli.run("repo", "list", "--json", *words).json] == ["solo", "team/app"]
    rows = cli.run("tag", "list", "team/app", "--json", *words).json
    assert [(row["tag"], row["digest"]) for row in rows] == [("1.0", digest), ("1.1", other)]
    assert digest in cli.run_here("tag", "list", "team/app", *words).out

    shown = cli.run("tag", "show", "team/app:1.0", "--json", *words).json
    assert shown["digest"] == digest
    assert [part["role"] for part in shown["parts"]] == ["config", "layer"]
    assert [change["digest"] for change in shown["history"]] == [digest]
    assert f"digest: {digest}" in cli.run_here("tag", "show", "team/app:1.0", *words).out

    told = cli.run("tag", "delete", "team/app:1.0", "team/app:none", *words, code=3)
    assert told.out == "deleted team/app:1.0\n"
    assert "team/app:none: This repository has no such manifest or tag." in told.err
    assert ask(f"{served.url}/v2/team/app/manifests/1.0", login=login)[0] == 404
    assert ask(f"{served.url}/v2/team/app/manifests/{digest}", login=login)[0] == 200
    assert "There is no such repository here. (nowhere)" in cli.run_here("tag", "list", "nowhere", *words, code=1).err
    assert "'solo' names no tag; write REPOSITORY:TAG" in cli.run_here("tag", "show", "solo", *words, code=2).err


def test_an_image_is_copied_with_its_digest(served: Homeport, cli: CommandLine) -> None:
    login = ("writer", served.passwords["writer"])
    digest = push(served.url, login, "team/app", "1.0", "layer" * 100_000)
    docker = {"DOCKER_CONFIG": str(served.folder / "docker")}
    source, destination = f"{served.host}/team/app:1.0", f"{served.host}/copy:new"

    told = cli.run("copy", source, destination, environ=docker)
    assert told.out.startswith(f"copied {source} to {destination}: {digest}, ")
    assert "homeport: 2 blobs, 500037 bytes\n" in told.err
    assert "\x1b" not in told.err
    status, _, headers = ask(f"{served.url}/v2/copy/manifests/new", login=login)
    assert (status, headers["Docker-Content-Digest"]) == (200, digest)

    again = cli.run("copy", source, destination, "--json", environ=docker)
    assert again.json["bytes_sent"] == 0
    assert again.err == ""
    missing = cli.run("copy", f"{served.host}/team/app:none", destination, environ=docker, code=1)
    assert "team/app" in missing.err


def test_a_copy_to_another_registry_shows_bars_on_a_terminal(
    served: Homeport, cli: CommandLine, tmp_path: Path
) -> None:
    login = ("writer", served.passwords["writer"])
    digest = push(served.url, login, "team/app", "1.0", "layer" * 100_000)
    (tmp_path / "other").mkdir()
    other = Homeport(tmp_path / "other")
    other.start({"access": {"anonymous": ["pull", "push", "delete"]}})
    try:
        names = (f"{served.host}/team/app:1.0", f"{other.host}/app:1")
        terminal = Terminal(cli.folder, "copy", *names, DOCKER_CONFIG=str(served.folder / "docker"))
        assert terminal.end() == 0
        assert ask(f"{other.url}/v2/app/manifests/1")[2]["Docker-Content-Digest"] == digest
    finally:
        other.kill()
    assert "500.0/500.0 kB" in terminal.screen or "488.3/488.3 KiB" in terminal.screen
    assert "2 blobs (500037 bytes) sent, 0 there already" in terminal.screen


def test_a_copy_that_cannot_be_is_said(cli: CommandLine, served: Homeport) -> None:
    destination = f"{served.host}/copy:new"
    for words in (["A/B", destination], [f"{served.host}/team/app:1", "a:b:c"]):
        assert cli.run_here("copy", *words, code=1).err.count("\n") == 1
    told = cli.run("copy", f"{served.host}/private:1", destination, code=1).err
    assert served.host in told
    assert "127.0.0.1:1" in cli.run("copy", "127.0.0.1:1/a:b", destination, code=1).err
