"""What holds for every verb: help, exit codes, one sentence an error, JSON."""

import subprocess
import sys
from collections.abc import Iterable

from homeport.cli.main import FAMILIES, build
from homeport.cli.output import cell, printable
from tests.cli.tools import COMMAND, CommandLine, clean_environment
from tests.support.processes import Homeport


def test_help_names_every_verb(cli: CommandLine) -> None:
    told = cli.run("--help").out
    for verb in build()[1].all:
        assert f"    {verb.name.split()[0]} " in told
    assert "exit codes: 0 done, 1 failed, 2 wrong usage or configuration" in told


def test_every_verb_has_help(cli: CommandLine) -> None:
    for verb in build()[1].all:
        assert verb.parser.format_help().startswith(f"usage: homeport {verb.name} ")
    assert "--password-stdin" in cli.run("user", "add", "--help").out


def test_a_first_word_brings_its_verbs_and_no_others() -> None:
    every = [verb.name for verb in build()[1].all]
    words = [word for family in FAMILIES.values() for word in family]
    assert words == list(dict.fromkeys(name.split()[0] for name in every))
    for family in FAMILIES.values():
        assert [verb.name for verb in build(family[0])[1].all] == [name for name in every if name.split()[0] in family]
    assert build("--version")[1].all == []
    assert [verb.name for verb in build("what")[1].all] == every


SLOW = ("aiohttp", "granian", "homeport.client.transport", "homeport.mirror.run", "homeport.secretstore.store")


def imported(cli: CommandLine, words: str, modules: Iterable[str]) -> list[str]:
    """Which of the modules the verb imports."""
    program = f"""if True:
        import sys
        from homeport.__main__ import DOORS
        from homeport.cli.main import run
        code = run(sys.argv[1:], DOORS)
        print(code, *sorted({set(modules)} & sys.modules.keys()), file=sys.stderr)
    """
    command = [sys.executable, "-c", program, *words.split()]
    told = subprocess.run(command, cwd=cli.folder, env=clean_environment(), capture_output=True, text=True, check=False)
    code, *found = told.stderr.splitlines()[-1].split()
    assert code == "0", told.stderr
    return found


def test_a_verb_that_only_asks_does_not_import_what_it_does_not_need(cli: CommandLine) -> None:
    """So it starts in a third of the time. Whoever imports such a thing at the top of a module sees it here."""
    cli.run("user", "add", "ada", "--generate")
    for words in ("jobs list", "jobs run housekeeping --detach", "mirror status", "repo list", "config show", "events"):
        assert imported(cli, words, SLOW) == [], words


def test_a_verb_beside_a_server_does_not_build_the_settings(homeport: Homeport) -> None:
    """So it is over in a tenth of a second: the server has read them, and says which database it works on."""
    homeport.start(verb="up")
    slow = (*SLOW, "pydantic", "yaml", "rich.progress", "importlib.metadata", "homeport.registry.manifests")
    place = f"--data {homeport.data} --config {homeport.folder / 'homeport.yaml'}"
    for words in ("jobs list", "mirror run", "jobs run housekeeping", "events"):
        assert imported(CommandLine(homeport.folder), f"{words} {place}", slow) == [], words


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
