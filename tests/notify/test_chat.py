"""Apprise in its child process with real receivers: what arrives, what comes back, and who sees the address."""

import asyncio
import email
import email.policy
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session
from yarl import URL

from homeport.client.settings import ClientSettings, HostSettings
from homeport.clock import SystemClock
from homeport.notify import apprise_child, chat
from homeport.notify.messages import Message
from homeport.notify.receivers import Receiver, ReceiverError, recognise
from homeport.notify.sent import Sent
from tests.client.servers import LittleServer, free_port, raw_serving, serving
from tests.support.certificates import Authority

SECRET = "hunter2hunter2"
MESSAGE = Message(
    "Mirror: partial - 12 copied, 1 failed", "partial: Some of it failed.\n- alpine: gone & <b>", "warning"
)
#: A machine in CI is slow.
SECONDS = 30.0


async def tell(
    url: str,
    form: str = "auto",
    *,
    message: Message = MESSAGE,
    seconds: float = SECONDS,
    settings: ClientSettings | None = None,
) -> Sent:
    """What comes of telling `url`; nothing of it is in there."""
    environ = {"PATH": os.environ["PATH"], "HOMEPORT_SECRET": SECRET, "HTTP_PROXY": "http://127.0.0.1:1"}
    receiver = recognise(url, form)
    sent = await chat.send(
        SystemClock(), environ, receiver, message, seconds=seconds, settings=settings or ClientSettings()
    )
    assert SECRET not in repr(sent)
    assert sent.receiver == receiver.name
    return sent


def answering(status: int = 200, body: str = '{"ok": true}') -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        text = "ok" if request.host == "hooks.slack.com" else body  # Each as the service does it.
        return web.Response(status=status, text=text, headers={"Location": "/elsewhere"})

    return answer


def children() -> Iterator[Path]:
    """Our child processes that speak to chat services."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(os.getpid()) and b"apprise_child" in (folder / "cmdline").read_bytes():
                yield folder
        except OSError:
            continue


async def test_ntfy() -> None:
    async with serving(answering()) as server:
        assert await tell(f"{server.url}/{SECRET}", "ntfy") == Sent(None, "", "sent", receiver="ntfy")
    (seen,) = server.seen
    told = json.loads(seen.body)
    assert seen.method == "POST"
    assert told["topic"] == SECRET
    assert (told["title"], told["message"]) == (MESSAGE.title, MESSAGE.body)
    assert "attach" not in told
    assert "icon" not in {name.lower().removeprefix("x-") for name in seen.headers}, "pictures are on other hosts"


async def test_ntfy_with_a_login() -> None:
    async with serving(answering()) as server:
        place = server.url.removeprefix("http://")
        await tell(f"http://:tk_{SECRET}@{place}/topic", "ntfy")
        await tell(f"http://ada:{SECRET}@{place}/topic", "ntfy")
    authorizations = [seen.authorization or "" for seen in server.seen]
    assert [text.partition(" ")[0] for text in authorizations] == ["Bearer", "Basic"]
    assert authorizations[0] == f"Bearer tk_{SECRET}"


async def test_gotify() -> None:
    async with serving(answering()) as server:
        assert (await tell(f"{server.url}/sub/message?token={SECRET}")).outcome == "sent"
    (seen,) = server.seen
    assert seen.path == "/sub/message"
    assert seen.headers["X-Gotify-Key"] == SECRET
    assert json.loads(seen.body)["message"] == MESSAGE.body


@asynccontextmanager
async def impostors(folder: Path, *hosts: str) -> AsyncIterator[tuple[LittleServer, ClientSettings, list[str]]]:
    """A server that has the names of `hosts`, settings with a proxy that leads there, and what the proxy was asked."""
    asked: list[str] = []
    async with serving(answering(), tls=Authority(folder).issue(hosts=hosts)) as server:

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            try:
                await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
            finally:
                there_writer.close()

        async with raw_serving(converse) as proxy:
            yield server, ClientSettings(ca=(folder / "ca.pem",), proxy=URL(f"http://{proxy}")), asked


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


LOGIC = "https://prod-01.westeurope.logic.azure.com/workflows/643e69f8/triggers/manual/paths/invoke"


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        (f"https://ptb.discord.com/api/v9/webhooks/123/{SECRET}", "discord.com", f"/api/webhooks/123/{SECRET}"),
        (
            f"https://hooks.slack.com/services/T1234567/B1234567/{SECRET}",
            "hooks.slack.com",
            f"/services/T1234567/B1234567/{SECRET}",
        ),
        (
            f"{LOGIC}?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={SECRET}",
            "prod-01.westeurope.logic.azure.com",
            "/workflows/643e69f8/triggers/manual/paths/invoke",
        ),
        (f"https://ntfy.sh/{SECRET}", "ntfy.sh", "/"),
        (f"tgram://123456789:{SECRET}abcdefghijklmnopqrstuvw/-100123", "api.telegram.org", None),
    ],
)
async def test_services_elsewhere_through_the_proxy(tmp_path: Path, url: str, host: str, path: str | None) -> None:
    async with impostors(tmp_path, host) as (server, settings, asked):
        sent = await tell(url, settings=settings)
    assert sent.outcome == "sent", sent
    assert set(asked) == {f"{host}:443"}
    (seen,) = server.seen
    assert path is None or seen.path.partition("?")[0] == path
    body = seen.body.decode()
    assert "partial" in body
    assert "<b>" not in body or body.startswith("{"), "text is shown as text"


async def test_a_discord_message_is_whole(tmp_path: Path) -> None:
    long = Message("x" * 150, "y" * 1800, "failure")
    async with impostors(tmp_path, "discord.com") as (server, settings, _):
        await tell(f"https://discord.com/api/webhooks/123/{SECRET}", message=long, settings=settings)
    (seen,) = server.seen
    told = json.loads(seen.body)
    assert "avatar_url" not in told, "pictures are on other hosts"
    assert long.title in seen.body.decode()
    assert long.body in seen.body.decode()


async def test_a_certificate_of_nobody_we_trust(tmp_path: Path) -> None:
    certificate = Authority(tmp_path).issue()
    async with serving(answering(), tls=certificate) as server:
        url = f"https://127.0.0.1:{server.port}/topic"
        refused = await tell(url, "ntfy")
        trusting = await tell(url, "ntfy", settings=ClientSettings(ca=(certificate.ca,)))
        host = f"127.0.0.1:{server.port}"
        for_this = ClientSettings(hosts={host: HostSettings(ca=certificate.ca), "other.lan": HostSettings()})
        assert (await tell(url, "ntfy", settings=for_this)).outcome == "sent"
        assert (
            await tell(url, "ntfy", settings=ClientSettings(hosts={host: HostSettings(insecure=True)}))
        ).outcome == ("sent")
    assert (refused.outcome, trusting.outcome) == ("retry", "sent")
    assert "its certificate is not trusted" in refused.answer


async def test_whom_the_proxy_is_for(tmp_path: Path) -> None:
    url = f"https://ntfy.invalid/{SECRET}"
    async with impostors(tmp_path, "ntfy.invalid") as (_, settings, asked):
        assert (await tell(url, "ntfy", settings=settings)).outcome == "sent"
        direct = await tell(url, "ntfy", settings=replace(settings, direct=("ntfy.invalid",)))
        assert direct.answer.endswith("its name was not found")
        assert len(asked) == 1
    gone = ClientSettings(proxy=URL(f"http://127.0.0.1:{free_port()}"))
    assert (await tell(url, "ntfy", settings=gone)).answer.endswith("the proxy could not be used")
    async with serving(answering()) as server:  # on this machine
        assert (await tell(f"{server.url}/topic", "ntfy", settings=gone)).outcome == "sent"


class Mailbox:
    """A mail server's other end."""

    def __init__(self, code: str = "250 OK") -> None:
        self.code = code
        self.got: list[tuple[list[str], EmailMessage]] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.got.append((list(envelope.rcpt_tos), mail))
        return self.code


@asynccontextmanager
async def mail_server(box: Mailbox) -> AsyncIterator[int]:
    """A mail server; its port."""
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box, hostname="mail.lan"), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def mail_url(port: int) -> str:
    return f"mailto://127.0.0.1:{port}/?from=homeport@example.org&to={SECRET}@example.org"


async def test_mail() -> None:
    box = Mailbox()
    async with mail_server(box) as port:
        assert (await tell(mail_url(port))).outcome == "sent"
    ((recipients, mail),) = box.got
    assert recipients == [f"{SECRET}@example.org"]
    assert mail["Subject"] == MESSAGE.title
    assert "homeport@example.org" in mail["From"]
    for part in mail.walk():
        if part.get_content_type() == "text/html":
            assert "&lt;b&gt;" in part.get_content(), "text is shown as text"
        elif not part.is_multipart():
            assert MESSAGE.body.splitlines()[1] in part.get_content()


async def test_no_header_can_be_added_to_a_mail() -> None:
    """Titles have no line breaks (messages.py); should one ever, the mail library refuses it or folds it away."""
    box = Mailbox()
    title = "Tag set\r\nBcc: everybody@example.org\r\n\r\nNew body"
    async with mail_server(box) as port:
        await tell(mail_url(port), message=Message(title, "body", "info"))
    for recipients, mail in box.got:
        assert recipients == [f"{SECRET}@example.org"]
        assert "Bcc" not in mail
        assert "New body" not in mail.as_string().partition("\n\n")[2]


async def test_mail_that_is_not_taken() -> None:
    async with mail_server(Mailbox("550 5.7.1 no, never")) as port:
        sent = await tell(mail_url(port))
    assert (sent.outcome, sent.status) == ("retry", None)
    assert "failed" in sent.answer or "550" in sent.answer


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, "refused"),
        (401, "refused"),
        (403, "refused"),
        (404, "refused"),
        (408, "retry"),
        (410, "refused"),
        (429, "retry"),
        (500, "retry"),
        (503, "retry"),
    ],
)
async def test_what_an_answer_means(status: int, outcome: str) -> None:
    async with serving(answering(status, f"{SECRET} is wrong")) as server:
        sent = await tell(f"{server.url}/message?token={SECRET}", "gotify")
    assert (sent.status, sent.outcome) == (status, outcome)
    assert f"error={status}" in sent.answer


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with serving(answering(status)) as server:
        sent = await tell(f"{server.url}/message?token={SECRET}", "gotify")
        assert (await tell(f"gotify://{server.host}/{SECRET}?redirect=yes")).outcome == "retry"
    assert (sent.status, sent.outcome) == (status, "retry")
    assert {seen.path for seen in server.seen} == {"/message"}


async def test_nobody_listens() -> None:
    sent = await tell(f"http://127.0.0.1:{free_port()}/{SECRET}", "ntfy")
    assert (sent.status, sent.outcome) == (None, "retry")
    assert sent.answer.endswith("it refused the connection")


async def test_a_name_that_is_not_there() -> None:
    sent = await tell(f"http://{SECRET}.invalid/topic", "ntfy")
    assert sent.outcome == "retry"
    assert sent.answer.endswith("its name was not found")


async def test_a_receiver_that_does_not_answer() -> None:
    async def silence(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with raw_serving(silence) as host:
        sent = await tell(f"http://{host}/{SECRET}", "ntfy", seconds=0.5)
    assert sent.outcome == "retry"
    assert sent.answer.endswith("it did not answer in time")


async def test_a_receiver_that_drips_for_ever_is_left_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "START_SECONDS", 2.5)
    seen: list[Path] = []

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(children())
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with raw_serving(drip) as host:
        sent = await tell(f"http://{host}/{SECRET}", "ntfy", seconds=0.5)
    assert sent == Sent(None, "it did not answer within 0.5 seconds", "retry", receiver="ntfy")
    assert not list(children())


async def test_the_address_is_in_no_list_of_processes() -> None:
    shown: list[bytes] = []

    async def look(_: web.Request) -> web.Response:
        for folder in children():
            shown.extend([(folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()])
        return web.Response()

    async with serving(look) as server:
        assert (await tell(f"{server.url}/{SECRET}", "ntfy")).outcome == "sent"
    arguments, environ = shown
    assert arguments.split(b"\0")[1:-1] == [b"-P", b"-m", b"homeport.notify.apprise_child"]
    assert SECRET.encode() not in arguments + environ
    assert b"HTTP_PROXY" not in environ, "what is called is said by the configuration only"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"nosuch://host/{SECRET}", "Apprise cannot use the address"),
        (f"tgram://{SECRET}/1", "Apprise cannot use the address"),
        ("gotify://gotify.lan", "Apprise cannot use the address"),
        (f"https://hooks.example.org/{SECRET}", "Apprise cannot use the address"),
    ],
)
async def test_addresses_that_apprise_cannot_use(url: str, told: str) -> None:
    with pytest.raises(ReceiverError, match=told) as failure:
        await tell(url, "apprise")
    assert SECRET not in str(failure.value)


async def test_no_file_that_an_address_names_is_read(tmp_path: Path) -> None:
    file = tmp_path / "private"
    file.write_text("private things")
    async with serving(answering()) as server:
        await tell(f"ntfy://{server.host}/topic?attach=file://{file}&mode=private")
        with pytest.raises(ReceiverError):
            await tell(f"file://{file}", "apprise")
    assert all(b"private things" not in seen.body for seen in server.seen)


async def test_without_apprise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chat.apprise_is_installed()
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert not chat.apprise_is_installed()
    with pytest.raises(ReceiverError, match=r"ntfy is told by Apprise, .*: pip install 'homeport\[chat\]'"):
        await tell(f"https://ntfy.sh/{SECRET}")


async def test_an_apprise_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "apprise.py").write_text(f"raise ImportError({SECRET!r})\n")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    receiver = Receiver("ntfy", None, f"ntfy://127.0.0.1:1/{SECRET}")
    sent = await chat.send(SystemClock(), environ, receiver, MESSAGE, seconds=SECONDS, settings=ClientSettings())
    assert sent == Sent(None, "the program for chat and mail ended with code 1", "retry", receiver="ntfy")


async def test_nothing_is_left_on_disk(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    async with serving(answering()) as server:
        receiver = recognise(f"{server.url}/{SECRET}", "ntfy")
        await chat.send(SystemClock(), environ, receiver, MESSAGE, seconds=SECONDS, settings=ClientSettings())
    assert server.seen
    assert not list(tmp_path.rglob("*"))


def test_what_a_reason_may_not_repeat() -> None:
    url = f"https://ada:{SECRET}@host.lan:8443/pa%20th/{SECRET.upper()}?token=t%2Fok1&x=yy"
    told: dict[str, Any] = {
        part: apprise_child.redacted(f"before {part} after", url)
        for part in (SECRET, "host.lan", "pa th", "pa%20th", "t/ok1", "8443", SECRET.upper(), "token=t%2Fok1")
    }
    assert set(told.values()) == {"before *** after"}
    assert apprise_child.redacted("https is fine", url) == "https is fine"
