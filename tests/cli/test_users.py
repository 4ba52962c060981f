"""`homeport user` and `homeport token`, beside a running server, as any user of the machine."""

import os
import signal
import subprocess
import time
from pathlib import Path

import bcrypt
import pytest

from tests.cli.tools import COMMAND, CommandLine, Terminal, ask, clean_environment, may_log_in, push
from tests.support.components import need_root
from tests.support.processes import Homeport

SOMEBODY = 12345


@pytest.fixture
def served(homeport: Homeport) -> Homeport:
    homeport.start({"access": {"signed_in": ["pull", "push"]}})
    return homeport


@pytest.fixture
def cli(served: Homeport) -> CommandLine:
    """Beside the server, with its configuration but not in its folder."""
    (served.folder / "cli").mkdir()
    (served.folder / "cli/homeport.yaml").symlink_to(served.folder / "homeport.yaml")
    (served.folder / "cli/homeport-data").symlink_to(served.data)
    return CommandLine(served.folder / "cli")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """On a data folder that nobody serves from and nobody changes; `reader` is in its configuration."""
    cli = CommandLine(tmp_path_factory.mktemp("alone"))
    (cli.folder / "homeport.yaml").write_text("access: {users: {reader: {password: 'env:READER'}}}")
    cli.run("user", "add", "bob", "--generate")
    return cli


def test_what_is_changed_beside_a_running_server_counts_at_once(served: Homeport, cli: CommandLine) -> None:
    cli.run("user", "add", "ada", "--password-stdin", stdin="first-password\n")
    assert may_log_in(served.url, "ada", "first-password")
    cli.run("user", "passwd", "ada", "--password-stdin", stdin="second-password\n")
    assert not may_log_in(served.url, "ada", "first-password")
    assert may_log_in(served.url, "ada", "second-password")
    assert cli.run("user", "remove", "ada").out == "removed ada\n"
    assert not may_log_in(served.url, "ada", "second-password")


def test_users_are_listed_with_where_they_come_from(served: Homeport, cli: CommandLine) -> None:
    added = cli.run("user", "add", "ada", "--admin", "--generate", "--json").json
    assert may_log_in(served.url, "ada", added["password"])
    told = cli.run("user", "list", "--json").json
    assert {user["name"]: (user["admin"], user["from"]) for user in told} == {
        "ada": (True, "data folder"),
        "admin": (True, "configuration"),
        "reader": (False, "configuration"),
        "stranger": (False, "configuration"),
        "writer": (False, "configuration"),
    }
    assert cli.run("user", "list").out.splitlines()[0].split() == ["NAME", "ADMIN", "FROM", "CREATED"]


def test_users_of_the_configuration_are_changed_there(alone: CommandLine) -> None:
    for words in (["add", "reader", "--generate"], ["passwd", "reader", "--generate"], ["remove", "reader"]):
        told = alone.run_here("user", *words, code=1).err
        assert "That user is defined in the configuration; change it there. (reader)" in told


@pytest.mark.parametrize(
    ("words", "stdin", "code", "sentence"),
    [
        (["add", "a b", "--generate"], "", 1, "A user name is"),
        (["add", "ada", "--password-stdin"], "short\n", 1, "shorter than 8 characters"),
        (["add", "ada", "--password-stdin"], "", 1, "That cannot be a password"),
        (["add", "ada"], "", 2, "there is no terminal to ask for a password; use --generate"),
        (["add", "ada", "--password", "pasted-secret"], "", 2, "usage: homeport user add"),
        (["add", "ada", "--password-file", "none"], "", 1, "none cannot be read: No such file or directory"),
        (["passwd", "nobody", "--generate"], "", 1, "There is no user of that name. (nobody)"),
        (["remove", "nobody"], "", 1, "There is no user of that name. (nobody)"),
    ],
)
def test_what_cannot_be_is_said(alone: CommandLine, words: list[str], stdin: str, code: int, sentence: str) -> None:
    assert sentence in alone.run_here("user", *words, stdin=stdin, code=code).err


def test_a_password_is_asked_for_twice_and_not_shown(served: Homeport, cli: CommandLine) -> None:
    terminal = Terminal(cli.folder, "user", "add", "ada")
    terminal.wait_for("New password for ada")
    terminal.type("typed-password")
    terminal.wait_for("The same again")
    terminal.type("typed-password")
    assert terminal.end() == 0
    assert "typed-password" not in terminal.screen
    assert may_log_in(served.url, "ada", "typed-password")

    terminal = Terminal(cli.folder, "user", "passwd", "ada")
    terminal.wait_for("New password for ada")
    terminal.type("typed-password")
    terminal.wait_for("The same again")
    terminal.type("another-password")
    assert terminal.end() == 2
    assert "the two passwords differ; nothing was changed" in terminal.screen
    assert may_log_in(served.url, "ada", "typed-password")


def test_a_password_is_in_no_process_list_and_no_log(served: Homeport, cli: CommandLine) -> None:
    words = [*COMMAND, "user", "add", "ada", "--password-stdin"]
    secret = "a-password-to-find"
    with subprocess.Popen(words, cwd=cli.folder, env=clean_environment(), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(secret.encode())
        process.stdin.close()
        while process.poll() is None:
            assert secret not in _everything_in_proc(process.pid)
            time.sleep(0.01)
        assert process.returncode == 0
    assert may_log_in(served.url, "ada", secret)
    assert not may_log_in(served.url, "ada", "a-wrong-password-to-find")
    assert ask(f"{served.url}/v2/?account=ada", login=("ada", secret))[0] == 200
    served.stop()
    assert "password-to-find" not in served.log
    for path in served.data.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def _everything_in_proc(pid: int) -> str:
    try:
        return "".join(Path(f"/proc/{pid}/{name}").read_text() for name in ("cmdline", "environ"))
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_users_come_in_from_htpasswd_and_caddyfile(served: Homeport, cli: CommandLine) -> None:
    hashed = bcrypt.hashpw(b"their-password", bcrypt.gensalt(4, b"2b")).decode()
    (cli.folder / "users").write_text(f"ada:{hashed}\nreader:{hashed}\nold:$apr1$x$y\n")
    told = cli.run("user", "import", "users", code=3)
    assert told.out == "added 1 of 2 users\n"
    assert "users: reader: is in the configuration" in told.err
    assert "users: line 3: old: " in told.err
    assert may_log_in(served.url, "ada", "their-password")

    (cli.folder / "Caddyfile").write_text(f"registry.lan {{\n  basic_auth {{\n    bob {hashed}\n  }}\n}}\n")
    assert cli.run("user", "import", "Caddyfile", "--json").json == {"added": ["bob"], "problems": []}
    assert may_log_in(served.url, "bob", "their-password")
    assert "bob: is here already and was left as it is" in cli.run("user", "import", "Caddyfile", code=1).err
    assert "none: No such file or directory" in cli.run("user", "import", "none", code=1).err


def test_a_token_logs_in_until_it_is_revoked(served: Homeport, cli: CommandLine) -> None:
    cli.run("user", "add", "ada", "--generate")
    made = cli.run("token", "create", "--user", "ada", "--description", "laptop", "--json").json
    assert may_log_in(served.url, "ada", made["token"])
    listed = cli.run("token", "list").out
    assert "laptop" in listed
    assert made["token"] not in listed
    assert cli.run("token", "revoke", made["id"]).out == f"revoked {made['id']}\n"
    assert not may_log_in(served.url, "ada", made["token"])
    assert "There is no such token." in cli.run("token", "revoke", made["id"], code=1).err


def test_a_token_of_a_configured_user_and_of_a_robot(served: Homeport, cli: CommandLine) -> None:
    token = cli.run("token", "create", "--user", "writer", "--expires", "1h").out.strip()
    push(served.url, ("writer", token), "team/app", "1")
    robot = ("ci", cli.run("token", "create", "--robot", "ci", "--allow", "team/**=pull").out.strip())
    manifest = f"{served.url}/v2/team/app/manifests/1"
    assert ask(manifest, login=robot)[0] == 200
    assert ask(manifest, login=robot, method="DELETE")[0] == 403
    rows = cli.run("token", "list", "--owner", "ci", "--json").json
    assert [(row["kind"], row["allow"], row["expires"]) for row in rows] == [("robot", ["team/**=pull"], None)]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--user", "nobody"], 1, "There is no user of that name. (nobody)"),
        (["--robot", "ci"], 1, "a robot has only the rights of its token, so say which"),
        (["--robot", "ci", "--allow", "team=fly"], 2, "'team=fly' is not REPOSITORIES=RIGHTS"),
        (["--robot", "ci", "--allow", "Team=pull"], 1, "'Team' is not a pattern of repository names"),
        (["--user", "reader", "--expires", "soon"], 2, "'soon' must be a number of seconds, or a duration"),
        (["--user", "reader", "--robot", "ci"], 2, "not allowed with argument"),
        ([], 2, "one of the arguments --user --robot is required"),
    ],
)
def test_a_token_that_cannot_be_is_said(alone: CommandLine, words: list[str], code: int, sentence: str) -> None:
    assert sentence in alone.run_here("token", "create", *words, code=code).err


def test_root_leaves_nothing_of_its_own_in_the_folder_of_another(cli: CommandLine, tmp_path: Path) -> None:
    need_root()
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, SOMEBODY, SOMEBODY)
    words = ("--data", str(folder))
    cli.run("user", "add", "ada", "--generate", *words)
    assert _owners(folder) == {SOMEBODY}
    serve = [*COMMAND, "serve", "--listen", "127.0.0.1:0", *words]
    with subprocess.Popen(serve, cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(b"homeport: listening on")
        cli.run("user", "add", "bob", "--generate", *words)
        cli.run("token", "create", "--user", "bob", *words)
        assert {path.name for path in folder.iterdir()} >= {"homeport.db", "homeport.db-wal", "homeport.db-shm"}
        assert _owners(folder) == {SOMEBODY}
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    cli.run("user", "remove", "bob", *words)
    assert _owners(folder) == {SOMEBODY}


def _owners(folder: Path) -> set[int]:
    return {owner for path in folder.rglob("*") for owner in (path.stat().st_uid, path.stat().st_gid)}
