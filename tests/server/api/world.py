"""The API on real parts, in this process: what comes back is what a client would read, held against its description."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from homeport import administration
from homeport.auth import tokens
from homeport.auth.actors import Limit, Right
from homeport.auth.directory import ConfiguredUser, LoginSettings
from homeport.auth.logins import Logins, basic
from homeport.auth.tokens import Secret, Token
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.clock import Clock, SystemClock
from homeport.config.references import SecretReference
from homeport.config.settings import Secrets
from homeport.db.database import Transaction
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.events import Origin
from homeport.jobs.queue import Job
from homeport.jobs.summary import Summary
from homeport.jobs.work import Kind, Run
from homeport.jobs.worker import Worker
from homeport.kinds import Outcome
from homeport.notify.notifier import Notifier
from homeport.notify.targets import Target
from homeport.observe import Log
from homeport.registry.registry import Registry
from homeport.secretstore.store import SecretStore
from homeport.server.api.application import build
from homeport.server.api.openapi import document
from homeport.server.api.services import ApiServices
from homeport.server.application import Application
from homeport.server.context import Context, Options
from homeport.storage.filesystem import FilesystemStore
from tests.auth.tools import CountedPasswords

ADDRESS = "192.0.2.9"
ORIGIN = Origin("test")
OPENAPI = document()

Work = Callable[[Run], Awaitable[Summary]]


class QuickClock(SystemClock):
    """Sleeps take no time, and yet it passes."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.ahead += seconds
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Answer:
    """One answer. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        code: str = self.json["error"]["code"]
        return code

    @property
    def sentence(self) -> str:
        sentence: str = self.json["error"]["message"]
        return sentence


class StreamEnded(Exception):
    """No line comes any more."""


@dataclass
class Exchange:
    """A request on its way: messages of its answer as they come, and what the client does meanwhile."""

    sent: asyncio.Queue[MutableMapping[str, Any]] = field(default_factory=asyncio.Queue)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    _lines: list[bytes] = field(default_factory=list)

    async def line(self) -> Any:
        """The next object of a stream; None: a heartbeat. Raises `StreamEnded` at its end."""
        while not self._lines:
            message = await self.sent.get()
            if message["type"] == "http.response.start":
                assert message["status"] == 200, message
                continue
            self._lines += message.get("body", b"").splitlines()
            if not message.get("more_body", False):
                raise StreamEnded
        line = self._lines.pop(0)
        return json.loads(line) if line else None

    async def ends(self) -> bool:
        """Wait for its end; whether nothing but heartbeats came until then."""
        try:
            while await self.line() is None:
                pass
        except StreamEnded:
            return True
        return False


class World:
    """The parts, and a few who ask: each with the header that it sends."""

    def __init__(self, folder: Path) -> None:
        self.clock = QuickClock()
        self.database = SqliteDatabase(MEMORY, self.clock)
        self._store = FilesystemStore(folder, self.clock, reserve_percent=0, reserve_bytes=0)
        self._passwords = CountedPasswords(self.clock)
        users = (ConfiguredUser("root", "root-password", admin=True), ConfiguredUser("ada", "ada-password"))
        logins = Logins(self.database, self.clock, self._passwords, LoginSettings(users=users))
        self.logged = io.StringIO()
        log = Log(self.logged, self.clock)
        registry = Registry(self.database, self._store, self.clock)
        self.context = Context(registry, logins, log, gauges=dict, options=Options())
        self.transport = Transport(ClientSettings(), self.clock)
        self.environ: dict[str, str] = {}
        self.secrets = SecretStore(self.clock, self.environ, self.transport, settings=Secrets(), tell=self._tell)
        self.notifier = Notifier(
            self.database,
            self.clock,
            self.transport,
            self.secrets,
            log,
            server_url=lambda: "https://registry.lan",
            busy=lambda: False,
            environ={},
        )
        #: How often those who run jobs were told that there is one.
        self.worker_calls = 0
        #: What the one kind of job does.
        self.work: Work = self._nothing
        kinds = {"housekeeping": Kind("housekeeping", self._run)}
        self.references: list[tuple[str, SecretReference]] = []
        self.worker = Worker(self.database, self.clock, log, kinds, count=1, on_end=partial(_ended, self.clock))
        self.context.api = build(
            ApiServices(
                self.database,
                self.clock,
                logins,
                kinds,
                self.notifier,
                self.secrets,
                lambda: self.references,
                lambda: self.context.draining,
                self._call_worker,
            )
        )
        self.application = Application(self.context)
        self.authorization: dict[str, str | None] = {
            "anonymous": None,
            "admin": basic("root", "root-password"),
            "user": basic("ada", "ada-password"),
        }

    def _call_worker(self) -> None:
        self.worker_calls += 1

    async def open(self) -> None:
        await self.transport.__aenter__()
        everywhere, team = ("**",), ("team/**",)
        admin, pull = frozenset({Right.ADMIN}), frozenset({Right.PULL})
        for name, kind, owner, limits in (
            ("admin-token", "personal", "root", None),
            ("admin-token-limited", "personal", "root", (Limit(everywhere, pull),)),
            ("admin-token-for-all", "personal", "root", (Limit(everywhere, admin),)),
            ("user-token-for-all", "personal", "ada", (Limit(everywhere, admin),)),
            ("robot-team", "robot", "ci", (Limit(team, admin),)),
            ("robot-all", "robot", "cron", (Limit(everywhere, admin),)),
        ):
            secret = Secret.new(self.clock)
            token = Token(
                secret.id, kind, owner, None, secret.hash(), limits, name, self.clock.now(), None, None  # type: ignore[arg-type]
            )  # fmt: skip
            await self.database.write(tokens.add, self.clock, ORIGIN, token)
            self.authorization[name] = f"Bearer {secret}"
        issued = await self.context.logins.token(
            ["repository:a:*", "registry:catalog:*"], ADDRESS, authorization=self.authorization["admin"]
        )
        self.authorization["admin-bearer"] = f"Bearer {issued.token}"

    async def close(self) -> None:
        self.secrets.close()
        await self.transport.__aexit__(None, None, None)
        self._passwords.close()
        await self.database.close()
        await self._store.close()

    async def targets(self, *targets: Target) -> None:
        await self.notifier.reconfigure(targets)

    # --- asking -----------------------------------------------------------------------------------------------------

    async def get(self, target: str, who: str = "robot-all") -> Answer:
        return await self.ask("GET", target, who=who)

    async def post(self, target: str, body: object = None, who: str = "robot-all") -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        return await self.ask("POST", target, data, who=who)

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        who: str = "robot-all",
    ) -> Answer:
        """The whole answer, after a look at whether the description has it."""
        async with self.asking(method, target, body, headers, who=who) as exchange:
            assert exchange.task is not None
            await exchange.task
        start = exchange.sent.get_nowait()
        parts = []
        while not exchange.sent.empty():
            parts.append(exchange.sent.get_nowait().get("body", b""))
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        answer = Answer(start["status"], headers, b"".join(parts))
        assert headers["x-request-id"]
        assert headers["cache-control"] == "no-store"
        assert "set-cookie" not in headers
        assert not [name for name in headers if name.startswith("access-control-")]
        if method != "HEAD":
            check(method, target, answer)
        return answer

    @asynccontextmanager
    async def asking(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        who: str = "robot-all",
    ) -> AsyncIterator[Exchange]:
        """A request, while it is answered. At the end of the block the client is gone."""
        exchange = Exchange()
        parts = urlsplit(target)
        fields = {"host": "registry.lan", **({"content-type": "application/json"} if method == "POST" else {})}
        authorization = self.authorization[who]
        if authorization is not None:
            fields["authorization"] = authorization
        if body:
            fields["content-length"] = str(len(body))
        fields |= headers or {}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items() if value],
            "client": (ADDRESS, 50000),
        }
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> MutableMapping[str, Any]:
            if messages:
                return messages.pop()
            await exchange.gone.wait()
            return {"type": "http.disconnect"}

        exchange.task = asyncio.create_task(self.application(scope, receive, exchange.sent.put))
        try:
            yield exchange
        finally:
            exchange.gone.set()
            if not exchange.task.done():
                await exchange.task

    # --- what happens meanwhile -------------------------------------------------------------------------------------

    async def _run(self, run: Run) -> Summary:
        return await self.work(run)

    async def _nothing(self, run: Run) -> Summary:
        await run.say("nothing to do")
        return Summary(Outcome.SUCCESS, counts={"forgotten": 0})

    async def _tell(self, kind: str, reason: str) -> None:
        raise AssertionError(f"{kind}: {reason}")


def _ended(clock: Clock, tx: Transaction, job: Job) -> None:
    administration.ended(tx, clock, job)


def check(method: str, target: str, answer: Answer) -> None:
    """Fails where the answer is not among those that the OpenAPI document has for this request."""
    if answer.status >= 400:
        _valid({"$ref": "#/components/schemas/Failed"}, answer.json)
        assert len(answer.sentence.split()) > 3, answer
        assert answer.json["error"]["request"] == answer.headers["x-request-id"]
    operation = _described(method, urlsplit(target).path)
    if operation is None:
        return
    responses = operation["responses"]
    assert str(answer.status) in responses or answer.status >= 400, answer
    content = responses.get(str(answer.status), responses["default"])["content"]
    media_type = answer.headers["content-type"]
    assert media_type in content, answer
    documents = answer.body.splitlines() if media_type == "application/jsonl" else [answer.body]
    for text in filter(None, documents):
        _valid(content[media_type]["schema"], json.loads(text))


def _described(method: str, path: str) -> Any:
    asked = path.split("/")
    for template, operations in OPENAPI["paths"].items():
        parts = template.split("/")
        if len(parts) == len(asked) and all(a == b or b.startswith("{") for a, b in zip(asked, parts, strict=True)):
            return operations.get(method.lower())
    return None


def _valid(schema: Mapping[str, Any], told: object) -> None:
    Draft202012Validator({**schema, "components": OPENAPI["components"]}).validate(told)
