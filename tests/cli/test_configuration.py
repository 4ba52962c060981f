"""`homeport init` and `homeport config`."""

import json
import os
import signal

import yaml

from homeport.config.settings import Settings
from tests.cli.tools import CommandLine, ask
from tests.support.processes import Homeport


def test_init_writes_a_file_that_is_right_and_overwrites_none(cli: CommandLine) -> None:
    cli.run("init")
    path = cli.folder / "homeport.yaml"
    written = path.read_text()
    assert "#listen: 127.0.0.1:5000" in written
    assert cli.run_here("config", "check").out == "homeport.yaml: all is right\n"
    path.write_text("data: mine\n")
    assert "is there already and was left as it is" in cli.run_here("init", code=2).err
    assert path.read_text() == "data: mine\n"
    cli.run_here("init", "--config", "other.yaml")
    assert (cli.folder / "other.yaml").read_text() == written


def test_check_names_every_problem_with_its_line(cli: CommandLine) -> None:
    (cli.folder / "homeport.yaml").write_text("server:\n  lisen: x\nlog: {level: loud}\n")
    told = cli.run("config", "check", code=2)
    assert told.err == (
        "homeport: homeport.yaml:2: server.lisen: no such setting; did you mean 'listen'?\n"
        "homeport: homeport.yaml:3: log.level: must be 'info', 'warning' or 'error'\n"
    )
    for words in (["up"], ["serve"], ["user", "list"], ["config", "show"]):
        assert cli.run_here(*words, code=2).err == told.err
    assert not (cli.folder / "homeport-data").exists()


def test_a_yaml_bomb_is_refused_at_once(cli: CommandLine) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    (cli.folder / "homeport.yaml").write_text("\n".join(lines))
    assert "has more than 100000 values" in cli.run_here("config", "check", code=2).err
    (cli.folder / "homeport.yaml").write_text("[" * 1_000_000)
    assert "is nested more than 24 deep" in cli.run("config", "check", code=2).err


def test_a_pasted_password_is_refused_and_not_repeated(cli: CommandLine) -> None:
    (cli.folder / "homeport.yaml").write_text("access: {users: {ada: {password: hunter2secret}}}")
    told = cli.run("config", "check", code=2)
    assert "homeport.yaml:1: access.users.ada.password: write where the secret is" in told.err
    assert "hunter2secret" not in told.err + told.out


def test_check_finds_files_that_cannot_be_read(cli: CommandLine) -> None:
    (cli.folder / "homeport.yaml").write_text(
        "server: {tls: {certificate: none.pem, key: none.key}}\n"
        "access: {users: {ada: {password: 'file:none'}, ci: {password: 'env:CI_PASSWORD'}}}\n"
    )
    problems = cli.run_here("config", "check", "--json", code=2).json["problems"]
    assert problems == [
        "homeport.yaml:2: access.users.ada: none cannot be read: No such file or directory",
        "homeport.yaml:2: access.users.ci: env:CI_PASSWORD is empty or not set",
        "homeport.yaml:1: server.tls.certificate: none.pem cannot be read: No such file or directory",
        "homeport.yaml:1: server.tls.key: none.key cannot be read: No such file or directory",
    ]


def test_show_prints_what_holds_in_the_end(cli: CommandLine) -> None:
    (cli.folder / "homeport.yaml").write_text("data: from-file\nlog: {level: warning}")
    words = ("config", "show", "--data", "from-command-line")
    told = cli.run(*words, environ={"HOMEPORT_LOG_LEVEL": "error"})
    shown = yaml.safe_load(told.out)
    assert shown["data"] == "from-command-line"
    assert shown["log"]["level"] == "error"
    assert shown["server"]["listen"] == "127.0.0.1:5000"
    assert cli.run(*words, "--json", environ={"HOMEPORT_LOG_LEVEL": "error"}).json == shown
    assert set(shown) == set(Settings.model_fields)


def test_what_show_prints_is_a_configuration(cli: CommandLine) -> None:
    shown = cli.run_here("config", "show").out
    (cli.folder / "again.yaml").write_text(shown)
    assert cli.run_here("config", "show", "--config", "again.yaml").out == shown


def test_the_schema_is_json(cli: CommandLine) -> None:
    schema = json.loads(cli.run_here("config", "schema").out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False


def test_reload_without_a_server_says_so(cli: CommandLine) -> None:
    (cli.folder / "homeport-data").mkdir()
    assert "no server runs on homeport-data" in cli.run_here("config", "reload", code=1).err


def test_reload_with_a_wrong_file_says_that_nothing_is_taken_over(cli: CommandLine) -> None:
    (cli.folder / "homeport.yaml").write_text("acces: {}")
    told = cli.run("config", "reload", code=2).err
    assert "nothing is taken over" in told
    assert "homeport.yaml:1: acces: no such setting" in told


def test_a_running_server_takes_a_changed_file_over(homeport: Homeport) -> None:
    url = homeport.start()
    cli = CommandLine(homeport.folder)
    words = ("config", "reload", "--data", str(homeport.data))
    path = homeport.folder / "homeport.yaml"
    document = yaml.safe_load(path.read_text())
    assert ask(f"{url}/v2/")[0] == 401

    document["access"]["anonymous"] = ["pull", "push", "delete"]
    path.write_text(yaml.safe_dump(document))
    assert "access.anonymous" in cli.run(*words).out
    assert ask(f"{url}/v2/")[0] == 200

    document["storage"] = {"reserve_percent": 3}
    path.write_text(yaml.safe_dump(document))
    assert cli.run(*words, "--json").json["answer"].endswith("waits for the next start: storage.reserve_percent")


def test_a_wrong_file_changes_nothing_and_the_server_says_why(homeport: Homeport) -> None:
    url = homeport.start()
    path = homeport.folder / "homeport.yaml"
    good = path.read_text()
    path.write_text("access: {anonymous: all}")
    elsewhere = CommandLine(homeport.folder.parent)
    told = elsewhere.run("config", "reload", "--data", str(homeport.data), code=2)
    assert "homeport.yaml:1: access.anonymous: must be a list" in told.out
    path.write_text(good)
    assert ask(f"{url}/v2/")[0] == 401
    assert ask(f"{url}/v2/", login=("admin", homeport.passwords["admin"]))[0] == 200


def test_a_hangup_signal_alone_does_the_same(homeport: Homeport) -> None:
    homeport.start()
    os.kill(homeport.pid, signal.SIGHUP)
    homeport.stop()
