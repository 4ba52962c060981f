"""What holds for every verb: help, exit codes, one sentence an error, JSON."""

import subprocess

from homeport.cli.main import build
from homeport.cli.output import cell, printable
from tests.cli.tools import COMMAND, CommandLine, clean_environment


def test_help_names_every_verb(cli: CommandLine) -> None:
    told = cli.run("--help").out
    for verb in build()[1].all:
        assert f"    {verb.name.split()[0]} " in told
    assert "exit codes: 0 done, 1 failed, 2 wrong usage or configuration" in told


def test_every_verb_has_help(cli: CommandLine) -> None:
    for verb in build()[1].all:
        assert verb.parser.format_help().startswith(f"usage: homeport {verb.name} ")
    assert "--password-stdin" in cli.run("user", "add", "--help").out


def test_what_is_no_verb_is_wrong_usage(cli: CommandLine) -> None:
    assert "invalid choice: 'pu'" in cli.run("pu", code=2).err
    for words in ([], ["user"], ["tag", "list"]):
        cli.run_here(*words, code=2)


def test_an_error_is_one_sentence(cli: CommandLine) -> None:
    told = cli.run("user", "list", code=1)
    assert told.err == (
        "homeport: homeport-data is not there; give the data folder with --data, or start a server first\n"
    )
    assert told.out == ""
    assert not (cli.folder / "homeport-data").exists()


def test_debug_shows_where_it_came_from(cli: CommandLine) -> None:
    words = [*COMMAND, "user", "list", "--debug"]
    told = subprocess.run(words, cwd=cli.folder, env=clean_environment(), stderr=subprocess.PIPE, check=False).stderr
    assert b"Traceback" in told


def test_who_reads_no_further_ends_nothing_badly(cli: CommandLine) -> None:
    words = [*COMMAND, "config", "schema"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=cli.folder, env=clean_environment(), stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_names_of_strangers_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2Jb\x9bc\nd") == "a\\x1b[2Jb\\x9bc\nd"
    assert cell("a\x07") == "a\\x07"
    assert cell(["a", "b"]) == "a, b"
    assert [cell(None), cell(True), cell(())] == ["-", "yes", "-"]
