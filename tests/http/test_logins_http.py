"""Logging in over HTTP, as docker does it, as others do, and as those do who guess."""

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.cli.tools import CommandLine
from tests.http.images import push_image
from tests.http.watching import reload
from tests.http.wire import Answer, Client
from tests.support.processes import Homeport

CHALLENGE = re.compile(r'Bearer realm="([^"]*)",service="([^"]*)"(?:,scope="([^"]*)")?(?:,error="([^"]*)")?')
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeport]:
    server = Homeport(tmp_path_factory.mktemp("logins"))
    server.start({"log": {"format": "json"}})
    push_image(Client(server.url).basic("admin", server.passwords["admin"]), "team/app", "v1", b"x")
    yield server
    server.stop()


@pytest.fixture
def nobody(server: Homeport) -> Client:
    return Client(server.url)


def login(server: Homeport, name: str) -> Client:
    return Client(server.url).basic(name, server.passwords[name])


def challenge(answer: Answer) -> tuple[str, str, str | None, str | None]:
    """Realm, service, scope and error of a 401."""
    assert (answer.status, answer.error) == (401, "UNAUTHORIZED")
    found = CHALLENGE.fullmatch(answer["www-authenticate"])
    assert found, answer["www-authenticate"]
    return found[1], found[2], found[3], found[4]


def oauth2(client: Client, **fields: str) -> Answer:
    body = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
    return client.nobody().post("/token", body.encode(), content_type=FORM)


def test_docker_login_push_and_pull(server: Homeport, nobody: Client) -> None:
    """GET /v2/, a token for nothing with a refresh token, then OAuth2 with that for what is to be done."""
    realm, service, scope, error = challenge(nobody.get("/v2/"))
    assert (realm, service, scope, error) == (f"{server.url}/token", "homeport", None, None)
    account = login(server, "writer")
    answer = account.get(f"/token?account=writer&client_id=docker&offline_token=true&service={service}")
    assert answer.status == 200
    assert answer["cache-control"] == "no-store"
    document = answer.json
    assert document["token"] == document["access_token"]
    assert document["expires_in"] >= 60
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["issued_at"])
    assert nobody.bearer(document["token"]).get("/v2/").status == 200

    _, _, scope, _ = challenge(nobody.post("/v2/team/app/blobs/uploads/"))
    assert scope == "repository:team/app:pull,push"
    granted = oauth2(
        nobody,
        grant_type="refresh_token",
        refresh_token=document["refresh_token"],
        service=service,
        client_id="docker",
        scope=scope,
    )
    assert (granted.status, granted["cache-control"]) == (200, "no-store")
    assert (granted.json["scope"], granted.json["token_type"]) == (scope, "Bearer")
    assert granted.json["refresh_token"] == document["refresh_token"]
    pusher = nobody.bearer(granted.json["access_token"])
    assert pusher.post("/v2/team/app/blobs/uploads/").status == 202
    assert pusher.get("/v2/team/app/manifests/v1").status == 200
    assert challenge(pusher.get("/v2/team/other/tags/list"))[2:] == ("repository:team/other:pull", "insufficient_scope")


def test_the_password_grant(server: Homeport, nobody: Client) -> None:
    """As containerd and buildkit log in."""
    fields = {
        "grant_type": "password",
        "username": "reader",
        "password": server.passwords["reader"],
        "service": "homeport",
    }
    answer = oauth2(nobody, **fields, scope="repository:team/app:pull,push", access_type="offline")
    assert answer.status == 200
    assert answer.json["scope"] == "repository:team/app:pull"
    again = oauth2(nobody, grant_type="refresh_token", refresh_token=answer.json["refresh_token"], scope="")
    assert (again.status, again.json["scope"]) == (200, "")
    assert "refresh_token" not in oauth2(nobody, **fields).json


def test_a_scope_is_cut_to_the_rights(server: Homeport, nobody: Client) -> None:
    """Fewer rights than were asked for are no error, and a token for nothing is a token."""
    wanted = "/token?service=homeport&scope=repository:team/app:pull,push,delete"
    for name, statuses in [("stranger", (401, 401)), ("reader", (200, 401)), ("writer", (200, 202))]:
        bearer = nobody.bearer(login(server, name).get(wanted).json["token"])
        assert bearer.get("/v2/").status == 200
        pull, push = bearer.get("/v2/team/app/tags/list"), bearer.post("/v2/team/app/blobs/uploads/")
        assert (pull.status, push.status) == statuses
        assert challenge(bearer.delete("/v2/team/app/manifests/none"))[2:] == (
            "repository:team/app:delete",
            "insufficient_scope",
        )


def test_a_token_for_several_scopes(server: Homeport, nobody: Client) -> None:
    client = login(server, "writer")
    for query in (
        "scope=repository:a:pull&scope=repository:b:pull,push",
        "scope=repository:a:pull%20repository:b:pull,push",
    ):
        bearer = nobody.bearer(client.get(f"/token?{query}").json["token"])
        assert bearer.get("/v2/a/tags/list").status == 404
        assert bearer.post("/v2/b/blobs/uploads/").status == 202
        assert bearer.post("/v2/a/blobs/uploads/").status == 401


def test_basic_without_asking_for_a_token(server: Homeport) -> None:
    assert login(server, "reader").get("/v2/").status == 200
    assert login(server, "reader").get("/v2/team/app/manifests/v1").status == 200
    for answer in (
        login(server, "reader").post("/v2/team/app/blobs/uploads/"),
        login(server, "stranger").get("/v2/a/tags/list"),
    ):
        assert (answer.status, answer.error) == (403, "DENIED")
        assert "www-authenticate" not in answer


@pytest.mark.parametrize(
    ("request_line", "scope"),
    [
        ("GET /v2/", None),
        ("HEAD /v2/team/app/manifests/v1", "repository:team/app:pull"),
        ("GET /v2/team/app/manifests/v1", "repository:team/app:pull"),
        ("GET /v2/no/such/manifests/v1", "repository:no/such:pull"),
        ("PUT /v2/team/app/manifests/v1", "repository:team/app:pull,push"),
        ("DELETE /v2/team/app/manifests/v1", "repository:team/app:delete"),
        ("GET /v2/team/app/tags/list", "repository:team/app:pull"),
        ("POST /v2/team/app/blobs/uploads/", "repository:team/app:pull,push"),
        ("PATCH /v2/team/app/blobs/uploads/" + "0" * 32, "repository:team/app:pull,push"),
        ("DELETE /v2/team/app/blobs/uploads/" + "0" * 32, "repository:team/app:pull,push"),
        ("GET /v2/_catalog", "registry:catalog:*"),
    ],
)
def test_challenges(server: Homeport, nobody: Client, request_line: str, scope: str | None) -> None:
    method, target = request_line.split(" ")
    answer = nobody.request(method, target, b"" if method.startswith("P") else None)
    if method == "HEAD":
        assert answer.status == 401
        assert CHALLENGE.fullmatch(answer["www-authenticate"])
    else:
        assert challenge(answer) == (f"{server.url}/token", "homeport", scope, None)


def test_nobodys_token(server: Homeport, nobody: Client) -> None:
    """Clients without credentials ask for one; it is good for what anybody may do."""
    answer = nobody.get("/token?service=homeport&scope=repository:team/app:pull&offline_token=true")
    assert answer.status == 200
    assert "refresh_token" not in answer.json
    bearer = nobody.bearer(answer.json["token"])
    assert challenge(bearer.get("/v2/team/app/tags/list"))[2:] == ("repository:team/app:pull", "insufficient_scope")
    reload(server, {"access": {"anonymous": ["pull"]}, "log": {"format": "json"}})
    try:
        challenge(nobody.get("/v2/"))  # Or nobody who wants to push would ever log in.
        bearer = nobody.bearer(nobody.get("/token?scope=repository:team/app:pull,push").json["token"])
        assert bearer.get("/v2/").status == 200
        for client in (bearer, nobody):
            assert client.get("/v2/team/app/manifests/v1").status == 200
            assert client.post("/v2/team/app/blobs/uploads/").status == 401
        empty = nobody.basic("", "")
        assert empty.get("/v2/team/app/manifests/v1").status == 200
    finally:
        reload(server, {"log": {"format": "json"}})


@pytest.mark.parametrize(
    "target", ["/v2/", "/v2/team/app/manifests/v1", "/token", "/token?scope=repository:team/app:pull"]
)
def test_what_is_wrong_is_told_the_same_everywhere(server: Homeport, nobody: Client, target: str) -> None:
    for client in (nobody.basic("nobody-here", "x" * 12), nobody.basic("admin", f"wrong for {target}")):
        answer = client.get(target)
        assert answer.status == 401
        assert "wrong user or password" in answer.sentence
        challenge(answer)
    assert nobody.bearer("a.b.c").get(target).status == 401


def test_only_refresh_tokens_refresh(server: Homeport, nobody: Client) -> None:
    access = login(server, "writer").get("/token").json["token"]
    for text in (access, "", "hp_x", server.passwords["writer"]):
        assert oauth2(nobody, grant_type="refresh_token", refresh_token=text).status == 401
    assert nobody.bearer(access).get("/token").status == 401
    for grant in ("client_credentials", "", "PASSWORD"):
        answer = oauth2(nobody, grant_type=grant)
        assert (answer.status, answer.error) == (400, "UNSUPPORTED")


def test_a_revoked_token_is_out_at_once(server: Homeport, nobody: Client) -> None:
    cli = CommandLine(server.folder)
    made = cli.run("token", "create", "--user", "writer", "--data", str(server.data), "--json").json
    client = nobody.basic("writer", made["token"])
    bearer = nobody.bearer(client.get("/token?scope=repository:team/app:pull,push").json["token"])
    for who in (client, bearer):
        assert who.get("/v2/team/app/manifests/v1").status == 200
    cli.run("token", "revoke", made["id"], "--data", str(server.data))
    for who in (client, bearer):
        assert challenge(who.get("/v2/team/app/manifests/v1"))[3] == "invalid_token"
        assert who.post("/v2/team/app/blobs/uploads/").status == 401
    assert client.get("/token").status == 401


def test_a_changed_password_is_out_at_once(server: Homeport, nobody: Client) -> None:
    secret = server.folder / "password-reader"
    client = login(server, "reader")
    refresh = client.get("/token?offline_token=true").json["refresh_token"]
    bearer = nobody.bearer(client.get("/token?scope=repository:team/app:pull").json["token"])
    server.passwords["reader"] = "another password"
    reload(server, {"log": {"format": "json"}})
    assert secret.read_text() == "another password"
    for who in (client, bearer):
        assert who.get("/v2/team/app/manifests/v1").status == 401
    assert oauth2(nobody, grant_type="refresh_token", refresh_token=refresh).status == 401
    assert login(server, "reader").get("/v2/team/app/manifests/v1").status == 200


def test_guessing_is_slowed_down(server: Homeport, nobody: Client) -> None:
    """The last test of this file: this machine's address has to wait after it."""
    known = login(server, "writer")
    assert known.get("/v2/").status == 200
    answer = nobody.basic("writer", "guess").get("/token")
    for number in range(30):
        if answer.status == 429:
            break
        assert answer.status == 401
        answer = nobody.basic("writer", f"guess {number}").get("/token")
    assert answer.error == "TOOMANYREQUESTS"
    assert 1 <= int(answer["retry-after"]) <= 60
    # Also the right password has to wait, or guessing would go on; who was in already stays in.
    assert nobody.basic("admin", "guess").get("/token").status == 429
    assert known.get("/v2/team/app/manifests/v1").status == 200
    assert nobody.get("/healthz").status == 200
