"""`homeport repo delete`, `homeport tag history|restore` and `homeport trash`, beside a running server."""

from collections.abc import Callable

import pytest

from tests.cli.tools import CommandLine, Ran, Terminal, ask, push
from tests.support.processes import Homeport

Run = Callable[..., Ran]


@pytest.fixture
def served(homeport: Homeport) -> Homeport:
    homeport.start()
    return homeport


@pytest.fixture
def cli(served: Homeport) -> CommandLine:
    return CommandLine(served.folder)


@pytest.fixture
def here(served: Homeport, cli: CommandLine) -> Run:
    """Runs a verb on the server's data folder."""
    return lambda *words, **options: cli.run_here(*words, "--data", str(served.data), **options)


@pytest.fixture
def login(served: Homeport) -> tuple[str, str]:
    return ("writer", served.passwords["writer"])


def status(served: Homeport, login: tuple[str, str], reference: str, repository: str = "team/app") -> int:
    return ask(f"{served.url}/v2/{repository}/manifests/{reference}", login=login)[0]


def test_a_repository_is_deleted_and_comes_back_with_its_tags(
    served: Homeport, here: Run, login: tuple[str, str]
) -> None:
    first = push(served.url, login, "team/app", "1.0")
    second = push(served.url, login, "team/app", "1.1", "another layer")
    push(served.url, login, "solo", "latest")
    told = here("repo", "delete", "team/app", "--dry-run", "--json").json["would_delete"]
    assert [(row["tags"], row["manifests"], row["blobs"]) for row in told] == [(2, 2, 3)]
    assert 0 < told[0]["own_bytes"] < told[0]["bytes"]
    assert here("repo", "delete", "team/app", "--dry-run").out.startswith("would delete team/app with 2 tags and 2 man")
    assert "there is no terminal to ask; say --yes" in here("repo", "delete", "team/app", code=2).err
    assert status(served, login, "1.0") == 200

    told = here("repo", "delete", "team/app", "nowhere", "--yes", code=3)
    assert told.out == "deleted team/app: 2 tags, 2 manifests, 3 blobs\n"
    assert "nowhere: There is no such repository here." in told.err
    assert status(served, login, "1.0") == status(served, login, first) == 404
    assert b"team/app" not in ask(f"{served.url}/v2/_catalog", login=login)[1]
    assert status(served, login, "latest", "solo") == 200

    listed = here("trash", "list", "team/app", "--json").json
    assert sorted(row["kind"] for row in listed["trash"]) == ["blob"] * 3 + ["image"] * 2
    assert {row["why"] for row in listed["trash"]} == {"its repository was deleted"}
    assert all(row["by"].startswith("cli:") for row in listed["trash"])
    assert all(row["until"] > row["removed"] for row in listed["trash"])
    assert "5 things, " in here("trash", "list").out

    told = here("trash", "restore", "team/app")
    assert told.out == "restored 5 things of team/app, with 2 tags\n"
    for tag, digest in (("1.0", first), ("1.1", second)):
        assert ask(f"{served.url}/v2/team/app/manifests/{tag}", login=login)[2]["Docker-Content-Digest"] == digest
    assert here("trash", "list").err == "homeport: nothing was deleted that could be brought back\n"
    kinds = [event["kind"] for event in here("events", "--json", "--repository", "team/app").json]
    assert {"repository.deleted", "manifest.deleted", "tag.deleted", "blob.restored"} <= set(kinds)


def test_a_tag_comes_back_as_it_was(served: Homeport, here: Run, login: tuple[str, str]) -> None:
    first = push(served.url, login, "team/app", "latest")
    second = push(served.url, login, "team/app", "latest", "another layer")
    rows = here("tag", "history", "team/app:latest", "--json").json
    assert [(row["digest"], row["by"], row["restorable"]) for row in rows] == [
        (second, "user:writer", True),
        (first, "user:writer", True),
    ]
    assert here("tag", "restore", "team/app:latest").out == f"team/app:latest points at {first}\n"
    here("tag", "delete", "team/app:latest")
    shown = here("tag", "history", "team/app:latest").out.splitlines()
    assert [line.split()[1] for line in shown[1:]] == ["deleted", first, second, first]
    assert here("tag", "restore", "team/app:latest", "--json").json["digest"] == first
    told = here("tag", "restore", "team/app:latest", "--at", "7d", code=1)
    assert "team/app:latest pointed at nothing at that time" in told.err
    assert "must say in which zone" in here("tag", "restore", "a:b", "--at", "2026-01-01T00:00:00", code=2).err
    assert "must be a time such as" in here("tag", "restore", "a:b", "--at", "yesterday", code=2).err
    assert here("tag", "history", "team/app:none", code=1).err.count("\n") == 1


def test_what_was_deleted_comes_back_by_digest_and_goes_for_good(
    served: Homeport, here: Run, login: tuple[str, str]
) -> None:
    digest = push(served.url, login, "team/app", "1.0")
    ask(f"{served.url}/v2/team/app/manifests/{digest}", login=("admin", served.passwords["admin"]), method="DELETE")
    assert status(served, login, digest) == 404
    told = here("trash", "restore", f"team/app@{digest}", "--tag", "2.0", "--tag", "3.0")
    assert told.out == f"restored team/app@{digest}, tagged 2.0, 3.0\n"
    assert status(served, login, "3.0") == 200
    assert "--tag needs to know" in here("trash", "restore", "team/app", "--tag", "x", code=2).err
    assert "not in the trash" in here("trash", "restore", f"team/app@sha256:{'0' * 64}", code=1).err

    here("repo", "delete", "team/app", "--yes")
    assert "say --yes" in here("trash", "purge", code=2).err
    assert here("trash", "purge", "--older-than", "1h", "--yes").out == "purged 0 things, 0 bytes\n"
    told = here("trash", "purge", "team/app", "--yes", "--json").json
    assert told["purged"] == 3
    assert told["later_bytes"] > 0
    assert here("trash", "list", "--json").json["trash"] == []
    assert "not in the trash" in here("trash", "restore", "team/app", code=1).err


def test_a_person_is_asked(served: Homeport, cli: CommandLine, login: tuple[str, str]) -> None:
    push(served.url, login, "team/app", "1.0")
    for answer, expected in (("", 200), ("y", 404)):
        terminal = Terminal(cli.folder, "repo", "delete", "team/app", "--data", str(served.data))
        terminal.wait_for("It can be brought back for 7 days. [y/N]")
        terminal.type(answer)
        assert terminal.end() == (0 if answer else 1)
        assert status(served, login, "1.0") == expected


def test_nothing_of_it_is_done_while_the_registry_is_read_only(
    served: Homeport, cli: CommandLine, login: tuple[str, str]
) -> None:
    push(served.url, login, "team/app", "1.0")
    words = ("--data", str(served.data))
    cli.run_here("tag", "delete", "team/app:1.0", *words)
    (cli.folder / "homeport.yaml").write_text("server: {read_only: we move}\n")
    for verb in (
        ("repo", "delete", "team/app", "--yes"),
        ("tag", "restore", "team/app:1.0"),
        ("trash", "restore", "team/app"),
        ("trash", "purge", "--yes"),
    ):
        assert "we move" in cli.run_here(*verb, *words, code=1).err
