"""The verbs of administration on a server far away: real servers that die and come back, and hostile little ones."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from homeport.cli.administration.contract import Told, Unreachable
from homeport.cli.administration.remote import RemoteAdministration
from homeport.cli.output import CommandError
from homeport.client.errors import BadAnswer
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from tests.cli.tools import CommandLine, Ran, Terminal
from tests.client.clocks import QuickClock
from tests.client.servers import LittleServer, free_port, moved, serving
from tests.client.test_causes import black_hole
from tests.support.processes import Homeport

pytestmark = pytest.mark.long


class Far:
    """A Homeport, and a folder with an administrator's token for it but nothing else."""

    def __init__(self, homeport: Homeport, folder: Path) -> None:
        self.homeport = homeport
        self.cli = CommandLine(folder)
        self.token = ""

    def start(self, verb: str = "serve", port: int = 0, *, tls: bool = False) -> None:
        self.homeport.start(verb=verb, port=port, tls=tls)
        if not self.token:
            here = CommandLine(self.homeport.folder)
            told = here.run("token", "create", "--user", "admin", "--data", str(self.homeport.data))
            self.token = told.out.strip()
            (self.cli.folder / "token").write_text(told.out)

    def words(self, *words: str, url: str | None = None) -> tuple[str, ...]:
        return (*words, "--server", url or self.homeport.url, "--token-file", "token")

    def run(self, *words: str, code: int = 0, url: str | None = None) -> Ran:
        told = self.cli.run(*self.words(*words, url=url), code=code)
        assert self.token not in told.out + told.err
        return told


@pytest.fixture
def far(homeport: Homeport, tmp_path: Path) -> Far:
    folder = tmp_path / "far"
    folder.mkdir()
    return Far(homeport, folder)


def test_the_verbs_do_the_same_far_away(far: Far) -> None:
    far.start("up")
    told = far.run("jobs", "run", "housekeeping", "--json")
    assert (told.json["outcome"], told.json["arguments"], told.json["actor"]) == ("success", {}, "user:admin")
    assert far.run("jobs", "show", "1", "--json").json == told.json
    assert far.run("jobs", "list", "--json").json == [told.json]
    assert "success" in far.run("jobs", "run", "housekeeping").out
    assert far.run("jobs", "log", "1", "--follow", "--json").err == ""
    assert isinstance(far.run("jobs", "log", "1", "--json").json, list)
    again = far.run("jobs", "retry", "1", "--json").json
    assert again["arguments"] == {}
    kinds = [event["kind"] for event in far.run("events", "--json", "--kind", "job.*").json]
    assert kinds == ["job.requested", "job.requested", "job.retried"]
    assert far.run("events", "--json", "--since", "1h", "--kind", "job.retried").json[0]["address"] == "127.0.0.1"
    assert len(far.run("events", "--since", "1h", "--limit", "2").out.splitlines()) == 2
    assert far.run("notify", "deliveries", "--json").json == []
    secrets = far.run("secret", "check", "--json").json
    assert {secret["name"] for secret in secrets} >= {"access.users.admin.password"}
    assert all(secret["ok"] for secret in secrets)
    for words in ("jobs show 99", "jobs cancel 99", "jobs retry 99", "jobs log 99", "jobs log 99 --follow"):
        assert "there is no job 99" in far.run(*words.split(), code=1).err
    assert "has ended already" in far.run("jobs", "cancel", "1", code=1).err
    assert "mirroring" in far.run("jobs", "run", "mirroring", code=1).err
    assert "no argument 'a'" in far.run("jobs", "run", "housekeeping", "--argument", "a=b", code=1).err
    assert "ops/1" in far.run("notify", "test", "ops/1", code=1).err
    far.run("notify", "replay", "7", code=1)
    assert far.token not in far.homeport.log


def test_pages_are_put_together(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    far.start()
    for number in range(1, 6):
        far.run("jobs", "run", "housekeeping", "--detach")
        far.run("jobs", "cancel", str(number))
    monkeypatch.setattr("homeport.cli.administration.remote._PAGE", 2)
    monkeypatch.setattr("homeport.cli.events._PAGE", 2)
    for limit, ids in ((300, [5, 4, 3, 2, 1]), (4, [5, 4, 3, 2]), (3, [5, 4, 3])):
        listed = far.cli.run_here(*far.words("jobs", "list", "--json", "--limit", str(limit))).json
        assert [job["id"] for job in listed] == ids
    for more, count in (((), 5), (("--limit", "3"), 3), (("--limit", "4"), 4)):
        words = far.words("events", "--json", "--since", "1h", "--kind", "job.requested", *more)
        events = far.cli.run_here(*words).json
        assert [event["detail"]["job"] for event in events] == [1, 2, 3, 4, 5][:count]


def test_who_may_not_is_told_why(far: Far) -> None:
    far.start()
    here = CommandLine(far.homeport.folder)
    reader = here.run("token", "create", "--user", "reader", "--data", str(far.homeport.data)).out
    file = far.cli.folder / "token"
    for text, why in ((reader, "admin"), ("hp_0123456789abcdef_" + "0" * 40, "the token is not taken")):
        file.write_text(text)
        for verb in (("jobs", "run", "housekeeping"), ("jobs", "list"), ("events",), ("secret", "check")):
            told = far.run(*verb, code=1)
            assert why in told.err
            assert text.strip() not in told.err
    for text, why in (("", "holds no token"), ("two words", "holds no token"), ("\x1b[2J", "holds no token")):
        file.write_text(text)
        assert why in far.run("jobs", "list", code=1).err
    file.unlink()
    assert "token cannot be read" in far.run("jobs", "list", code=1).err


def test_what_excludes_one_another(cli: CommandLine) -> None:
    assert "not allowed with" in cli.run_here("jobs", "list", "--server", "http://a", "--data", "b", code=2).err
    assert "go together" in cli.run_here("jobs", "list", "--server", "http://a", code=2).err
    assert "go together" in cli.run_here("jobs", "list", "--token-file", "a", code=2).err
    assert "must be the address" in cli.run_here("events", "--server", "a/b", "--token-file", "a", code=2).err


def test_a_server_with_a_certificate_of_its_own_authority(far: Far) -> None:
    far.start(tls=True)
    untrusted = far.run("jobs", "run", "housekeeping", code=4)
    assert "skipped: server-unreachable" in untrusted.out
    assert "its authority can be given as client.ca" in untrusted.err
    assert "is not trusted" in far.run("jobs", "list", code=1).err
    (far.cli.folder / "homeport.yaml").write_text(f"client: {{ca: ['{far.homeport.ca}']}}\n")
    assert far.run("jobs", "list", "--json").json == []


# --- a connection that breaks -----------------------------------------------------------------------------------


def test_a_run_is_followed_across_a_restart(far: Far) -> None:
    far.start()  # It serves and does not work: the job waits.
    port = int(far.homeport.url.rpartition(":")[2])
    terminal = Terminal(far.cli.folder, *far.words("jobs", "run", "housekeeping"))
    terminal.wait_for("housekeeping: waiting")
    far.homeport.kill()
    time.sleep(1)  # It is gone for a while.
    far.start("up", port)
    assert "job 1 (housekeeping): success" in terminal.wait_for("(housekeeping): success")
    assert terminal.end() == 0


def test_events_are_followed_across_a_restart(far: Far) -> None:
    far.start()
    port = int(far.homeport.url.rpartition(":")[2])
    here = CommandLine(far.homeport.folder)
    terminal = Terminal(far.cli.folder, *far.words("events", "--follow", "--json", "--kind", "user.*"))
    here.run("user", "add", "one", "--generate", "--data", str(far.homeport.data))
    terminal.wait_for('"one"')
    far.homeport.stop()
    here.run("user", "add", "two", "--generate", "--data", str(far.homeport.data))
    far.start(port=port)
    here.run("user", "add", "three", "--generate", "--data", str(far.homeport.data))
    terminal.wait_for('"three"')
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    lines = [json.loads(line) for line in terminal.screen.splitlines() if line.startswith("{")]
    assert [line["kind"] for line in lines] == ["user.added"] * 3
    assert len({line["id"] for line in lines}) == 3


async def ran(cli: CommandLine, *words: str, code: int = 0) -> Ran:
    return await asyncio.to_thread(cli.run, *words, code=code)


async def test_a_run_is_not_begun_twice_because_an_answer_was_lost(far: Far) -> None:
    await asyncio.to_thread(far.start, "up")
    lost = 0

    async def forward(request: web.Request) -> web.StreamResponse:
        nonlocal lost
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, far.homeport.url + request.raw_path, data=await request.read(), headers=headers
            ) as answer,
        ):
            body = await answer.read()
        if request.method == "POST" and not lost:
            lost += 1
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=answer.status, body=body, content_type="application/json")

    async with serving(forward) as proxy:
        told = await ran(far.cli, *far.words("jobs", "run", "housekeeping", "--json", url=proxy.url))
    assert told.json["outcome"] == "success"
    assert lost == 1
    assert [job["id"] for job in (await asyncio.to_thread(far.run, "jobs", "list", "--json")).json] == [1]


async def test_a_run_that_may_have_begun_is_not_told_as_skipped() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if len(server.seen) == 1:
            return web.json_response({"jobs": []})
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with serving(handler) as server, Transport(ClientSettings(), QuickClock()) as transport:
        administration = RemoteAdministration(transport, server.url, "token")
        with pytest.raises(CommandError, match="it may have begun") as failure:
            await administration.start("housekeeping", {}, attend=True)
    assert not isinstance(failure.value, Unreachable)
    assert len(server.paths("POST")) == 1


def following(job: dict[str, object], *lines: str) -> bytes:
    told: list[object] = [{"job": job}, *({"line": {"number": n, "text": text}} for n, text in enumerate(lines, 1))]
    return b"".join(json.dumps(each).encode() + b"\n" for each in told)


async def heard(administration: RemoteAdministration) -> list[Told]:
    return [told async for told in administration.follow(7)]


async def test_a_stream_that_breaks_goes_on_behind_its_last_line() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        after = request.query["after"]
        if after == "0":  # It breaks off in the middle of a line.
            return web.Response(body=following({"state": "running"}, "one", "two") + b'{"line": {"num')
        if len(server.seen) < 4:
            return web.Response(status=503, text="draining")
        assert after == "2"
        return web.Response(body=b'\n\n{"line": {"number": 3, "text": "three"}}\n{"job": {"state": "ended"}}\n')

    async with serving(handler) as server, Transport(ClientSettings(), QuickClock()) as transport:
        administration = RemoteAdministration(transport, server.url, "token")
        told = await heard(administration)
    assert [each["line"]["text"] for each in told if "line" in each] == ["one", "two", "three"]
    assert told[-1] == {"job": {"state": "ended"}}
    assert len(server.seen) == 4


async def test_a_server_that_stays_away_is_given_up_after_a_quarter_of_an_hour() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=200 if len(server.seen) == 1 else 503, body=following({"state": "running"}))

    clock = QuickClock()
    async with serving(handler) as server, Transport(ClientSettings(), clock) as transport:
        administration = RemoteAdministration(transport, server.url, "token")
        with pytest.raises(CommandError, match="lost the server"):
            await heard(administration)
    assert 900 < clock.offset < 960
    assert 150 < len(clock.slept) < 250


async def test_a_line_without_an_end_is_refused() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 2_000_000)

    async with serving(handler) as server, Transport(ClientSettings(), QuickClock()) as transport:
        administration = RemoteAdministration(transport, server.url, "token")
        with pytest.raises(BadAnswer, match="sends a line of more than"):
            await heard(administration)


# --- servers that mean harm -------------------------------------------------------------------------------------


@pytest.fixture
def folder(cli: CommandLine) -> CommandLine:
    (cli.folder / "token").write_text("hp_0123456789abcdef_secretsecretsecret\n")
    return cli


def asked(server: str, *words: str) -> tuple[str, ...]:
    return (*words, "--server", server, "--token-file", "token")


async def test_the_token_goes_along_no_redirect(folder: CommandLine) -> None:
    async def ok(request: web.Request) -> web.StreamResponse:
        return web.json_response({"jobs": []})

    async with serving(ok, address="127.0.0.2") as other:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return moved(f"{other.url}{request.path}", 307)

        async with serving(redirect) as server:
            for words in (("jobs", "list"), ("jobs", "run", "housekeeping"), ("jobs", "cancel", "1")):
                told = await ran(folder, *asked(server.url, *words), code=1)
                assert "would pass on what is for 127.0.0.1 only" in told.err
            assert {seen.authorization for seen in server.seen} == {"Bearer hp_0123456789abcdef_secretsecretsecret"}
        assert other.seen == []


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="<html>hello</html>", content_type="text/html"),
        web.Response(text="[1, 2]", content_type="application/json"),
        web.Response(status=404, text="404 page not found"),
        web.Response(status=403, text="{}", content_type="application/json"),
    ],
    ids=["page", "list", "404", "403"],
)
async def test_what_is_no_homeport_is_said(folder: CommandLine, answer: web.Response) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=answer.status, text=answer.text, content_type=answer.content_type)

    async with serving(handler) as server:
        told = await ran(folder, *asked(server.url, "jobs", "run", "housekeeping"), code=1)
    assert "is it the right address?" in told.err
    assert "secretsecret" not in told.err


# --- a server that cannot be reached ----------------------------------------------------------------------------


@pytest.fixture
async def receiver() -> AsyncIterator[LittleServer]:
    """Somebody who is told."""

    async def taken(request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async with serving(taken) as server:
        yield server


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1:{port}", "server-refused"), ("homeport.invalid", "server-name-not-found")],
)
async def test_a_run_is_skipped_and_that_is_told_from_here(
    folder: CommandLine, receiver: LittleServer, host: str, reason: str
) -> None:
    (folder.folder / "secret-url").write_text(f"{receiver.url}/hook/topsecret")
    (folder.folder / "job.yaml").write_text(
        "notify:\n"
        "  ops: {url: 'file:secret-url', on: ['*.finished']}\n"
        "  others: {url: 'http://127.0.0.1:1/', on: ['tag.set']}\n"
        f"  dead: {{url: 'http://127.0.0.1:{free_port()}/', on: ['housekeeping.*']}}\n"
    )
    server = f"http://{host.format(port=free_port())}"
    words = asked(server, "jobs", "run", "housekeeping", "--config", "job.yaml", "--json")
    told = await ran(folder, *words, code=4)
    assert (told.json["outcome"], told.json["reason"], told.json["id"]) == ("skipped", reason, None)
    assert "dead could not be notified" in told.err
    assert "topsecret" not in told.err + told.out
    (seen,) = receiver.seen
    payload = json.loads(seen.body)
    assert payload["type"] == "housekeeping.finished"
    assert f'"{reason}"' in seen.body.decode()
    assert '"skipped"' in seen.body.decode()
    assert server in seen.body.decode()
    assert not (folder.folder / "homeport-data").exists()


async def test_what_cannot_tell_is_skipped_all_the_same(folder: CommandLine) -> None:
    (folder.folder / "job.yaml").write_text("notify: {ops: {url: 'file:not-there', on: ['*']}}\n")
    server = f"http://127.0.0.1:{free_port()}"
    told = await ran(folder, *asked(server, "jobs", "run", "housekeeping", "--config", "job.yaml"), code=4)
    assert "housekeeping: skipped: server-refused" in told.out
    assert "ops could not be notified" in told.err
    told = await ran(folder, *asked(server, "jobs", "run", "of-tomorrow"), code=4)
    assert "nobody was notified" in told.err
    assert "cannot connect" in (await ran(folder, *asked(server, "jobs", "list"), code=1)).err


async def test_a_gateway_without_a_server_behind_it_is_a_skip(folder: CommandLine) -> None:
    status = 502

    async def gateway(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="Bad Gateway", headers={"Retry-After": "0"})

    async with serving(gateway) as server:
        told = await ran(folder, *asked(server.url, "jobs", "run", "housekeeping"), code=4)
        assert "skipped: server-unreachable" in told.out
        status = 504
        told = await ran(folder, *asked(server.url, "jobs", "run", "housekeeping"), code=4)
        assert "skipped: server-timed-out" in told.out


async def test_a_server_that_swallows_connections_timed_out() -> None:
    clock = QuickClock()
    async with Transport(ClientSettings(connect_seconds=0.2, answer_seconds=0.5), clock) as transport:
        with black_hole() as host:
            administration = RemoteAdministration(transport, f"http://{host}", "token")
            with pytest.raises(Unreachable) as failure:
                await administration.start("housekeeping", {}, attend=True)
    assert failure.value.reason == "server-timed-out"
    assert len(clock.slept) == 4
