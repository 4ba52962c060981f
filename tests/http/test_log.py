"""The log: one line a request, which nobody can forge, and no secret in it."""

import pytest

from tests.http.bad import line
from tests.http.images import MANIFEST
from tests.http.watching import eventually, log_lines
from tests.http.wire import Client
from tests.support.processes import Homeport


@pytest.fixture
def client(watched: Client) -> Client:
    return watched


def test_a_line_of_the_log_cannot_be_forged(client: Client, watched_server: Homeport) -> None:
    client.get("/v2/before-the-forgery/tags/list")
    assert eventually(lambda: "/before-the-forgery/" in watched_server.log)
    read = len(watched_server.log)
    forged = '"} {"event":"forged"} \u2028\x85'
    for data in [
        line("GET", "/v2/%0a%7B%22event%22:%22forged%22%7D/tags/list"),
        line("GET", '/v2/{"event":"forged"}/tags/list'),
        line("GET", "/v2/x/tags/list", "User-Agent: \u0085{}", "X-Forwarded-For: 1.1.1.1\x85 event=forged"),
        line("GET", b"/v2/\xe2\x80\xa8/tags/list"),
        line("GET", "/v2/x/tags/list", f"X-Request-Id: {forged!a}", "Authorization: Basic IiBmb3JnZWQKOg=="),
        line("FORGED", "/v2/x/tags/list"),
    ]:
        client.raw(data)
    assert eventually(lambda: len(log_lines(watched_server, read)) >= 6)
    lines = log_lines(watched_server, read)
    assert len(lines) == 6
    assert {entry["event"] for entry in lines} == {"request"}
    assert {entry["address"] for entry in lines} == {"127.0.0.1"}
    assert watched_server.log.isascii()


def test_no_secret_is_in_the_log(homeport: Homeport) -> None:
    homeport.start({"log": {"format": "json", "level": "info"}})
    nobody = Client(homeport.url)
    writer = nobody.basic("writer", homeport.passwords["writer"])
    token = writer.get("/token?service=homeport&offline_token=true&scope=repository:a:pull").json
    grant = f"grant_type=refresh_token&refresh_token={token['refresh_token']}"
    access = nobody.post("/token", grant.encode(), content_type="application/x-www-form-urlencoded").json[
        "access_token"
    ]
    wrong = "hunter2-is-not-my-password"
    form = f"grant_type=password&username=writer&password={wrong}".encode()
    secrets = [homeport.passwords["writer"], token["token"], token["refresh_token"], access, wrong]
    for asked in [writer, nobody.bearer(token["token"]), nobody.basic("writer", wrong), nobody.bearer(access[:-4])]:
        asked.get("/v2/a/tags/list")
        asked.put("/v2/a/manifests/x", b"{", content_type=MANIFEST)
        secrets.append((asked.authorization or "").partition(" ")[2])
    nobody.post("/token", form)
    nobody.post("/token", form + b"&" * 300)
    for secret in secrets:  # Where people put them who know no better.
        nobody.get(f"/v2/a/tags/list?password={secret}")
        nobody.get(f"/token?account=writer&password={secret}")
        nobody.get("/v2/", authorization=secret)
        nobody.get("/v2/", x_api_key=secret, cookie=secret)
    homeport.stop()
    assert len(log_lines(homeport)) > 30
    for secret in secrets:
        assert secret not in homeport.log
