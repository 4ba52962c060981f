"""No secret comes to light, whatever is done with it: each is a word that nothing else has, and is looked for in every
byte that was written, answered or sent.
"""

import base64
import functools
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from aiohttp import web

from tests.cli.tools import COMMAND, SECONDS_MAX, ask, clean_environment, push
from tests.http.watching import eventually, reload
from tests.support.processes import Config, Homeport
from tests.support.receivers import Answer, Received, Receiver
from tests.support.vault import Account, VaultServer, vault_beside

pytestmark = pytest.mark.long

DELIVERED_SECONDS_MAX = 60.0
#: What becomes of the first delivery to each.
TARGETS = {
    "works": "sent",
    "refuses": "given-up",
    "breaks": "waiting",
    "moves": "waiting",
    "closed": "waiting",
    "garbled": "waiting",
    "chat": "sent",
    "chat-refused": "given-up",
    "listed/1": "sent",
    "vault": "sent",
    "bw": "sent",
}
#: The secrets that receivers are given: in addresses, in a header, in a login.
ARRIVES = (
    "works", "refuses", "breaks", "moves", "chat", "chat-refused", "listed", "token-header", "address in the vault",
    "address in bw",
)  # fmt: skip

#: Stands in for `bw` as far as a page of items; it says its session where programs say what goes wrong.
BW = """#!/bin/sh
echo "session $BW_SESSION" >&2
echo '{{"success": true, "data": {{"data": [{{"id": "1", "name": "Hook", "login": {{"password": "{url}"}}}}]}}}}'
"""


class Planted:
    """Secrets by name, and where Homeport is told to find them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ: dict[str, str] = {}
        self.words: dict[str, str] = {}
        folder.mkdir()

    def word(self, name: str) -> str:
        """The secret itself, a new one at each call."""
        self.words[name] = f"zq{secrets.token_hex(12)}"
        return self.words[name]

    def file(self, name: str, around: str = "{}") -> str:
        """A reference to a file that holds it."""
        return self.keep(name, around.format(self.word(name)))

    def keep(self, name: str, text: str) -> str:
        """A reference to a file that holds just that."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return f"file:{path}"

    def variable(self, name: str, around: str = "{}") -> str:
        """A reference to a variable that holds it."""
        variable = f"PLANTED_{name.upper().replace('-', '_')}"
        self.environ[variable] = around.format(self.word(name))
        return f"env:{variable}"

    def found(self, data: bytes, but: Iterable[str] = ()) -> list[str]:
        """The names of those that are in `data`, as they are or in an encoding that gives them away."""
        names = [name for name in self.words if name not in set(but)]
        return [name for name in names if any(form in data for form in _forms(self.words[name].encode()))]


def _forms(word: bytes) -> Iterator[bytes]:
    yield word
    yield word.hex().encode()
    for before in range(3):  # Where in a text it stands decides what Base64 makes of it.
        encoded = base64.b64encode(bytes(before) + word)
        yield encoded[(before * 8 + 5) // 6 : (before + len(word)) * 8 // 6]


class Descendants(threading.Thread):
    """Keeps the arguments and the environment of every process that a process starts."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self._pid = pid
        self._words = _read(Path(f"/proc/{pid}/cmdline"))
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            self._look(self._pid)

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _look(self, pid: int) -> None:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, _read(children).split()):
                words = _read(Path(f"/proc/{child}/cmdline"))
                if words == self._words:
                    continue  # A copy of the process itself, which has not become the program yet.
                self.seen |= {words, _read(Path(f"/proc/{child}/environ"))}
                self._look(child)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # It has just ended.
        return b""


@dataclass
class World:
    """A server with something to hide, whom it tells, and all that was seen of it so far."""

    homeport: Homeport
    planted: Planted
    receiver: Receiver
    vault: VaultServer
    account: Account
    seen: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def admin(self) -> tuple[str, str]:
        return "admin", self.homeport.passwords["admin"]

    def see(self, where: str, data: bytes) -> None:
        self.seen.append((where, data))

    def verb(self, *words: str) -> str:
        """What a verb prints, whatever comes of it."""
        ran = subprocess.run(
            [*COMMAND, *words],
            cwd=self.homeport.folder,
            env=clean_environment(**self.planted.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert b"Traceback" not in ran.stderr, ran.stderr.decode()
        self.see(f"homeport {' '.join(words)}", ran.stdout + ran.stderr)
        return (ran.stdout or ran.stderr).decode()

    def ask(self, path: str, login: tuple[str, str] | None, **headers: Any) -> None:
        """See what the server answers."""
        status, body, answered = ask(f"{self.homeport.url}{path}", login=login, **headers)
        self.see(f"{path}: {status}", f"{answered}\n".encode() + body)


def answer(received: Received) -> Answer:
    """What the receivers do that do not just take it: all of them say whatever they were told."""
    said = f"{received.target} {received.headers} ".encode() + received.body
    if received.target.startswith("/refuses"):
        return Answer(400, said)
    if received.target.startswith("/breaks"):
        return Answer(500, said)
    if received.target.startswith("/moves"):
        return Answer(301, said, location=f"https://localhost:1{received.target}")
    return Answer(200, said)


async def repeat_the_login(request: web.Request) -> web.Response:
    """A vault that says whatever it was told."""
    return web.json_response({"message": f"no: {dict(await request.post())}"}, status=400)


def notify(planted: Planted, receiver: Receiver) -> Config:
    """Targets of every kind; each address has a secret in it."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    host = receiver.url.removeprefix("http://")
    listed = planted.file("listed", json.dumps([f"{receiver.url}/works/{{}}"]))
    token = {"X-Token": planted.file("token-header")}
    targets: dict[str, Config] = {
        "works": {
            "url": planted.file("works", f"{receiver.url}/works/{{}}"),
            "secret": planted.file("signing-key"),
            "headers": token,
        },
        "refuses": {"url": planted.variable("refuses", f"{receiver.url}/refuses/{{}}?key=1"), "headers": token},
        "breaks": {
            "url": planted.file("breaks", f"{receiver.url}/breaks/{{}}"), "headers": token, "format": "cloudevents"
        },
        "moves": {"url": planted.file("moves", f"{receiver.url}/moves/{{}}"), "headers": token},
        "closed": {"url": planted.file("closed", f"{closed}/{{}}")},
        "garbled": {"url": planted.file("garbled", "htp:/{} is no address")},
        "chat": {"url": planted.file("chat", f"json://{host}/works/{{}}"), "format": "apprise"},
        "chat-refused": {"url": planted.file("chat-refused", f"json://me:{{}}@{host}/refuses"), "format": "apprise"},
        "listed": {"urls_file": listed.removeprefix("file:"), "format": "empty"},
        "vault": {"url": "vault:Hook", "secret": "vault:Hook#notes"},
        "bw": {"url": "bw:Hook"},
    }  # fmt: skip
    return {name: {"on": ["tag.set"], "format": "standard", **target} for name, target in targets.items()}


@pytest.fixture
def world(homeport: Homeport, tmp_path: Path) -> Iterator[World]:
    planted = Planted(tmp_path / "secrets")
    # A server's passwords are in files that the helper writes; these are to be found nowhere else either.
    homeport.passwords = {name: planted.word(f"password of {name}") for name in homeport.passwords}
    temporary = homeport.folder / "temporary"
    temporary.mkdir()
    planted.environ["TMPDIR"] = str(temporary)
    with Receiver(answer) as receiver, vault_beside() as server:
        account = server.add(Account("ops@example.org", planted.word("master password")))
        account.client_secret = planted.word("client secret")
        address = f"{receiver.url}/works/{planted.word('address in the vault')}"
        account.add("Hook", password=address, notes=planted.word("signing key in the vault"))
        account.add("Other", password=planted.word("another item of the vault"))
        program = planted.folder / "bw"
        program.write_text(BW.format(url=f"{receiver.url}/works/{planted.word('address in bw')}"))
        program.chmod(0o700)
        yield World(homeport, planted, receiver, server, account)


def configuration(world: World) -> Config:
    users = {name: world.homeport._user(name) for name in world.homeport.passwords}
    users["of-the-environment"] = {"password": world.planted.variable("password-of-the-environment")}
    return {
        "access": {"users": users},
        "notify": notify(world.planted, world.receiver),
        "secrets": {
            "vaultwarden": {
                "url": world.vault.url,
                "client_id": world.planted.keep("client-id", world.account.client_id),
                "client_secret": world.planted.keep("client-secret", world.account.client_secret),
                "password": world.planted.keep("master-password", world.account.password),
            },
            "bw": {"program": str(world.planted.folder / "bw"), "session": world.planted.file("bw-session")},
        },
        "log": {"format": "json"},
        "storage": {"reserve_bytes": 0, "reserve_percent": 0},
    }


def log_in(world: World) -> None:
    """Logins that succeed and that fail, and secrets in places where people put them who know no better."""
    token = world.verb("token", "create", "--user", "admin", "--data", str(world.homeport.data)).strip()
    world.seen.pop()  # It is printed here, this once.
    world.planted.words["token"] = token
    (world.planted.folder / "token").write_text(token)
    wrong = world.planted.word("a wrong password")
    for login in [None, world.admin, ("admin", wrong), ("admin", token), ("nobody", wrong)]:
        for path in ("/v2/", "/v2/a/tags/list?password=" + wrong, "/api/v1/jobs"):
            world.ask(path, login)
            world.ask(path, None, Authorization=f"Bearer {token[:-1]}", Cookie=wrong)
        path = f"/token?service=homeport&scope=repository:a:pull&password={wrong}"
        status, body, _ = ask(f"{world.homeport.url}{path}", login=login)
        if status == 200:
            world.planted.words[f"the signature of a token of {login}"] = json.loads(body)["token"].rpartition(".")[2]
        else:
            world.see(path, body)


def use_every_verb(world: World) -> None:
    here = ("--data", str(world.homeport.data))
    there = ("--server", world.homeport.url, "--token-file", str(world.planted.folder / "token"))
    for place, form in ((here, ()), (there, ("--json",))):
        for words in ["jobs run housekeeping", "jobs list", "events", "notify deliveries", "secret check"]:
            world.verb(*words.split(), *place, *form)
    world.verb("jobs", "show", "1", *there)
    world.verb("jobs", "log", "1", *here)
    for place in (here, there):
        world.verb("notify", "test", "refuses", *place)
    for words in ["config show", "config show --json", "config check", "user list", "token list"]:
        world.verb(*words.split())


def ask_the_server(world: World) -> None:
    for path in ("jobs", "jobs/1/log", "events?since=3600", "deliveries?limit=500", "targets", "secrets", "nothing"):
        world.ask(f"/api/v1/{path}", world.admin)
    for name in TARGETS:
        path = f"/api/v1/targets/{quote(name, safe='')}/test"
        world.ask(path, world.admin, method="POST", **{"Content-Type": "application/json"})
    world.ask("/metrics", world.admin)


def reload_with_other_secrets(world: World, config: Config) -> None:
    """Others in the files, which counts; a vault that gives nothing away any more; and pasted ones, refused."""
    world.vault.instead["/identity/connect/token"] = repeat_the_login
    world.vault.end_tokens()
    reload(world.homeport, configuration(world))
    pasted = world.planted.word("a pasted password")
    wrong: list[Config] = [
        {"url": f"https://hooks.slack.com/services/{pasted}"},
        {"url": f"http://me:{pasted}@localhost/"},
        {"url": f"vault:Item#{pasted}"},
        {"url": "http://localhost", "secret": pasted},
        {"url": "http://localhost", "headers": {"X-Token": pasted}},
    ]
    targets = {f"pasted-{number}": {"on": ["tag.set"], **target} for number, target in enumerate(wrong)}
    reload(world.homeport, {**config, "notify": targets})
    checked = world.verb("config", "check", "--config", "homeport.yaml")
    assert all(name in world.homeport.log and name in checked for name in targets)
    (world.homeport.folder / "homeport.yaml").write_text(yaml.safe_dump(world.homeport._config(config, tls=False)))


def break_and_crash(world: World) -> None:
    """A fault in the middle of the notifier's work, and the end that leaves a report if any does."""
    with closing(sqlite3.connect(world.homeport.data / "homeport.db", isolation_level=None)) as database:
        database.execute("ALTER TABLE deliveries RENAME TO gone")
    push(world.homeport.url, world.admin, "team/app", "3")
    assert eventually(lambda: "no such table" in world.homeport.log), world.homeport.log
    os.kill(world.homeport.pid, signal.SIGABRT)
    assert eventually(lambda: not Path(f"/proc/{world.homeport.pid}/cmdline").read_bytes())
    world.homeport.kill()


def deliveries(world: World) -> dict[tuple[str, str], int]:
    """How many there are by target and state."""
    with closing(sqlite3.connect(world.homeport.data / "homeport.db")) as database:
        rows = database.execute("SELECT target, state, count(*) FROM deliveries WHERE attempts > 0 GROUP BY 1, 2")
        return {(target, state): count for target, state, count in rows}


def test_no_secret_comes_to_light(world: World) -> None:
    config = configuration(world)
    world.homeport.start(config, verb="up", environ=world.planted.environ)
    children = Descendants(world.homeport.pid)
    children.start()
    push(world.homeport.url, world.admin, "team/app", "1")
    log_in(world)
    assert eventually(lambda: set(deliveries(world)) == {*TARGETS.items()}, DELIVERED_SECONDS_MAX), deliveries(world)
    ask_the_server(world)
    old = dict(world.planted.words)
    world.planted.words |= {f"access token {number}": token for number, token in enumerate(world.vault.tokens)}
    reload_with_other_secrets(world, config)
    push(world.homeport.url, world.admin, "team/app", "2")
    world.planted.words |= {f"the first {name}": word for name, word in old.items()}
    assert eventually(lambda: deliveries(world).get(("works", "sent"), 0) > 1, DELIVERED_SECONDS_MAX)
    use_every_verb(world)
    ask_the_server(world)
    break_and_crash(world)
    children.stop()

    assert any(b"apprise" in shown for shown in children.seen), "no child was seen"
    # `bw` has its session in its environment: it takes it from nowhere else that others could not read.
    sessions = [world.planted.words[name].encode() for name in ("bw-session", "the first bw-session")]
    for shown in children.seen:
        without = functools.reduce(lambda data, word: data.replace(b"BW_SESSION=" + word, b""), sessions, shown)
        world.see(f"child: {without[:60]!r}", without)
    arrived = set()
    for received in world.receiver.received:
        arrived |= set(world.planted.found(f"{received.target} {received.headers}".encode()))
        headers = {name: value for name, value in received.headers.items() if name not in {"x-token", "authorization"}}
        world.see(f"what {received.target[:9]} was sent", f"{headers}".encode() + received.body)
    for path in world.homeport.folder.rglob("*"):
        if path.is_file() and path.name != "homeport.yaml" and not path.name.startswith("password-"):
            world.see(str(path.relative_to(world.homeport.folder)), path.read_bytes())
    assert arrived >= {f"the first {name}" for name in ARRIVES}, "what is looked for was not there to be found"
    leaks = [f"{where}: {found}" for where, data in world.seen if (found := world.planted.found(data))]
    assert not leaks, "\n".join(leaks)
