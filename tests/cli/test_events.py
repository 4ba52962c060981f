"""`homeport events` on a data folder."""

import json
import signal

import pytest

from tests.cli.tools import CommandLine, Terminal, push
from tests.support.processes import Homeport


@pytest.fixture
def busy(homeport: Homeport) -> CommandLine:
    """A data folder where something has happened, and happens."""
    homeport.start()
    login = ("admin", homeport.passwords["admin"])
    for repository in ("team/app", "team/web", "other"):
        push(homeport.url, login, repository, "latest")
    return CommandLine(homeport.folder)


def test_the_log_as_people_and_as_scripts_read_it(busy: CommandLine) -> None:
    words = ("events", "--data", "data")
    lines = busy.run(*words, "--kind", "tag.*").out.splitlines()
    assert [line.split()[1:6] for line in lines] == [
        ["tag.set", "user:admin", "from", "127.0.0.1", line.split()[5]] for line in lines
    ]
    assert [line.split()[5].partition("@")[0] for line in lines] == [
        "team/app:latest",
        "team/web:latest",
        "other:latest",
    ]
    events = busy.run(*words, "--json", "--kind", "tag.set", "--repository", "team/*").json
    assert [event["repository"] for event in events] == ["team/app", "team/web"]
    assert set(events[0]) == {
        "id", "position", "time", "kind", "actor", "address", "repository", "digest", "tag", "reason", "run", "detail"
    }  # fmt: skip
    newest = busy.run(*words, "--json", "--limit", "1", "--kind", "tag.set").json
    assert [event["repository"] for event in newest] == ["other"]
    since = busy.run(*words, "--json", "--since", "1h", "--limit", "2", "--kind", "tag.set").json
    assert [event["repository"] for event in since] == ["team/app", "team/web"]
    assert busy.run(*words, "--since", "0s", "--json").json == []
    assert len(busy.run(*words, "--since", "1d", "--json").json) > 5


def test_what_happens_is_followed(busy: CommandLine, homeport: Homeport) -> None:
    words = ("events", "--follow", "--json", "--kind", "tag.set", "--repository", "team/**", "--data", "data")
    terminal = Terminal(busy.folder, *words)
    terminal.wait_for("team/web")
    push(homeport.url, ("admin", homeport.passwords["admin"]), "team/later", "latest", "new")
    terminal.wait_for("team/later")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    followed = [json.loads(line) for line in terminal.screen.splitlines() if line.startswith("{")]
    assert [event["repository"] for event in followed] == ["team/app", "team/web", "team/later"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--kind", "tag.sat"), "did you mean 'tag.set'?"),
        (("--repository", "Team"), "must be a pattern of repository names"),
        (("--since", "yesterday"), "such as 30s, 5m, 12h or 7d"),
        (("--limit", "none"), "must be a number from 1 on"),
    ],
)
def test_what_is_no_question_is_said(cli: CommandLine, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in cli.run_here("events", *words, code=2).err
