"""`homeport up` and `homeport serve`, on a terminal and off it."""

import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.tools import COMMAND, SECONDS_MAX, CommandLine, Terminal, ask, clean_environment, may_log_in
from tests.support.processes import READY, Homeport

PASSWORD = re.compile(r"its password is +([a-z2-7]{24})\b")


@contextmanager
def started(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """A server with its output in a file: the process, its URL, the file. Ended with Ctrl-C."""
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, *words], cwd=folder, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        deadline = time.monotonic() + SECONDS_MAX
        while not (ready := READY.search(output.read_text())):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process, ready[1], output
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS_MAX) == 0, output.read_text()
    finally:
        process.kill()
        process.wait()


def test_up_needs_nothing_and_tells_no_log_the_password(cli: CommandLine) -> None:
    password_file = cli.folder / "homeport-data/first-password.txt"
    with started(cli.folder, "up", "--listen", "127.0.0.1:0") as (_, url, output):
        told = output.read_text()
        password = password_file.read_text().strip()
        assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
        assert stat.S_IMODE((cli.folder / "homeport-data").stat().st_mode) == 0o700
        assert ask(f"{url}/v2/")[0] == 401
        assert may_log_in(url, "admin", password)
        assert not may_log_in(url, "admin", "guessed-password")
    assert "in the file homeport-data/first-password.txt" in told
    assert "It is private: nobody pulls or pushes without a login." in told
    for command in ("docker login", "docker tag", "docker push", "docker pull"):
        assert command in told
    assert password not in output.read_text()

    password_file.unlink()
    with started(cli.folder, "up", "--listen", "127.0.0.1:0") as (_, url, output):
        assert may_log_in(url, "admin", password)
        assert "first administrator" not in output.read_text()
    assert not password_file.exists()


def test_up_on_a_terminal_shows_the_password_once(cli: CommandLine) -> None:
    terminal = Terminal(cli.folder, "up", "--listen", "127.0.0.1:0")
    screen = terminal.wait_for("Ctrl-C stops it")
    found = PASSWORD.search(screen)
    ready = READY.search(screen.replace("\r", ""))
    assert found, screen
    assert ready, screen
    assert screen.count(found[1]) == 1
    assert may_log_in(ready[1], "admin", found[1])
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert not list((cli.folder / "homeport-data").glob("*password*"))
    for path in (cli.folder / "homeport-data").iterdir():
        assert found[1].encode() not in path.read_bytes()

    again = Terminal(cli.folder, "up", "--listen", "127.0.0.1:0")
    assert "first administrator" not in again.wait_for("Ctrl-C stops it")
    again.process.send_signal(signal.SIGINT)
    assert again.end() == 0


def test_up_makes_nobody_where_somebody_can_log_in(cli: CommandLine) -> None:
    (cli.folder / "secret").write_text("correct-horse")
    (cli.folder / "homeport.yaml").write_text(
        "server: {listen: '127.0.0.1:0'}\n"
        "access: {anonymous: [pull], users: {ada: {password: 'file:secret', admin: true}}}\n"
    )
    with started(cli.folder, "up") as (_, url, output):
        assert may_log_in(url, "ada", "correct-horse")
        told = output.read_text()
    assert "first administrator" not in told
    assert "Anybody may pull, without a login." in told
    assert re.search(r"docker login 127.0.0.1:\d+ -u ada\n", told)


def test_serve_only_serves(cli: CommandLine) -> None:
    words = ("serve", "--data", "elsewhere", "--listen", "127.0.0.1:0")
    with started(cli.folder, *words) as (_, url, output):
        assert ask(f"{url}/healthz")[0] == 200
        told = output.read_text()
    assert told.count("homeport: listening on") == 1
    assert "docker" not in told
    assert (cli.folder / "elsewhere/homeport.db").is_file()


def test_a_data_folder_is_served_once(homeport: Homeport) -> None:
    homeport.start()
    cli = CommandLine(homeport.folder.parent)
    words = ("--data", str(homeport.data), "--listen", "127.0.0.1:0")
    for verb in ("up", "serve"):
        told = cli.run(verb, *words, code=1)
        assert f"process {homeport.pid} serves from" in told.err


def test_a_port_that_answers_is_refused(homeport: Homeport, cli: CommandLine) -> None:
    homeport.start()
    told = cli.run("serve", "--data", "other", "--listen", homeport.host, code=1)
    assert "is taken: another program answers there" in told.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--listen", "5000"), "argument --listen: '5000' must be HOST:PORT"),
        (("--data", "homeport.yaml/x"), "homeport.yaml/x"),
    ],
)
def test_what_cannot_be_served_is_said(cli: CommandLine, words: tuple[str, ...], sentence: str) -> None:
    (cli.folder / "homeport.yaml").write_text("")
    code = 2 if "--listen" in words else 1
    assert sentence in cli.run("serve", *words, code=code).err


def test_a_certificate_that_is_not_there_is_said(cli: CommandLine) -> None:
    (cli.folder / "homeport.yaml").write_text(
        "server: {listen: '127.0.0.1:0', tls: {certificate: none.pem, key: none.key}}"
    )
    assert "none.pem" in cli.run("serve", code=1).err
