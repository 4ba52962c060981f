"""Who may do what, over every route: what comes is compared with a model of a few lines that shares nothing with the
program.

CVE-2026-27771 (rights were checked on the repository and forgotten on what lies in it), CVE-2024-39897 (a mount from
what the caller may not read), CVE-2026-32589 (somebody else's upload session).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.tools import CommandLine
from tests.http.images import begin_upload, digest_of, image, push_blob, push_image, push_manifest
from tests.http.wire import Answer, Client
from tests.support.processes import Config, Homeport

PULL, PUSH, DELETE = "pull", "push", "delete"

PUBLIC, PRIVATE = "public/real", "private/real"
#: Repositories that do not exist, under the same rules; their names are as long, so that answers can be compared.
PUBLIC_VOID, PRIVATE_VOID = "public/void", "private/void"
REPOSITORIES = (PUBLIC, PRIVATE, PUBLIC_VOID, PRIVATE_VOID)

PASSWORD_USERS = ("stranger", "outsider", "reader", "writer", "deleter", "admin")

ACCESS: Config = {
    "anonymous": [],
    "signed_in": ["pull"],
    "rules": [
        {
            "repositories": "public/**",
            "visibility": "public",
            "allow": {"writer": ["push"], "outsider": ["push"], "deleter": ["delete"]},
        },
        {
            "repositories": "private/**",
            "visibility": "private",
            "allow": {"reader": ["pull"], "writer": ["pull", "push"], "deleter": ["pull", "delete"]},
        },
        {"repositories": "mine/**", "allow": {"*": ["pull", "push"]}},
    ],
}

#: What each may do: on what is public, and on what is private. The model, with `expected` below.
RIGHTS: dict[str, tuple[set[str], set[str]]] = {
    "anonymous": ({PULL}, set()),
    "stranger": ({PULL}, set()),
    "outsider": ({PULL, PUSH}, set()),
    "reader": ({PULL}, {PULL}),
    "writer": ({PULL, PUSH}, {PULL, PUSH}),
    "deleter": ({PULL, DELETE}, {PULL, DELETE}),
    "admin": ({PULL, PUSH, DELETE}, {PULL, PUSH, DELETE}),
    # A robot's token for other repositories; the admin's own token, for pushing to what is public.
    "robot-elsewhere": ({PULL}, set()),
    "limited-admin": ({PULL, PUSH}, set()),
    # Tokens of the token service: the writer's, once for pulling the private ones and once for nothing at all; and
    # that of nobody, who asked for everything.
    "bearer-private-pull": (set(), {PULL}),
    "bearer-nothing": (set(), set()),
    "bearer-anonymous": ({PULL}, set()),
}

LAYER, CONFIG = b"a layer", b'{"a": "config"}'
ABSENT = digest_of(b"nobody has this")
NEW_UPLOAD = digest_of(b"")
UNKNOWN_UPLOAD = "0" * 32


@dataclass(frozen=True)
class Operation:
    """A request, the rights that it needs, and what comes of it for those who have them."""

    name: str
    method: str
    #: With {repository}, {manifest} and {layer} in it.
    target: str
    needs: frozenset[str]
    #: The statuses where the repository is there, and where it is not.
    there: int
    absent: int
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


def _operation(
    name: str, line: str, needs: set[str], there: int, absent: int, body: bytes | None = None, **headers: str
) -> Operation:
    method, target = line.split(" ", 1)
    fields = tuple((key.replace("_", "-"), value) for key, value in headers.items())
    return Operation(name, method, f"/v2/{{repository}}/{target}", frozenset(needs), there, absent, body, fields)


WRITE = {PULL, PUSH}
IMAGE = image(CONFIG, [LAYER])
#: A manifest that nobody ever gets pushed: the matrix changes nothing.
UNPUSHABLE = image(b"absent config")

OPERATIONS = (
    _operation("manifest-by-tag", "GET manifests/latest", {PULL}, 200, 404),
    _operation("manifest-by-tag-head", "HEAD manifests/latest", {PULL}, 200, 404),
    _operation("manifest-by-digest", "GET manifests/{manifest}", {PULL}, 200, 404),
    _operation("manifest-by-digest-head", "HEAD manifests/{manifest}", {PULL}, 200, 404),
    _operation("manifest-not-modified", "GET manifests/latest", {PULL}, 304, 404, if_none_match=f'"{IMAGE.digest}"'),
    _operation("manifest-unknown", f"GET manifests/{ABSENT}", {PULL}, 404, 404),
    _operation(
        "manifest-push", "PUT manifests/new", WRITE, 400, 400, UNPUSHABLE.data, content_type=UNPUSHABLE.media_type
    ),
    # CVE-2026-31801: `latest`, and tags that come as parameters, are tags like others.
    _operation(
        "manifest-push-latest",
        "PUT manifests/latest",
        WRITE,
        400,
        400,
        UNPUSHABLE.data,
        content_type=UNPUSHABLE.media_type,
    ),
    _operation(
        "manifest-push-by-digest",
        f"PUT manifests/{UNPUSHABLE.digest}?tag=latest&tag=other",
        WRITE,
        400,
        400,
        UNPUSHABLE.data,
        content_type=UNPUSHABLE.media_type,
    ),
    _operation("tag-delete", "DELETE manifests/none", {DELETE}, 404, 404),
    _operation("manifest-delete", f"DELETE manifests/{ABSENT}", {DELETE}, 404, 404),
    _operation("blob", "GET blobs/{layer}", {PULL}, 200, 404),
    _operation("blob-head", "HEAD blobs/{layer}", {PULL}, 200, 404),
    _operation("blob-range", "GET blobs/{layer}", {PULL}, 206, 404, range="bytes=0-0"),
    _operation("blob-ranges", "GET blobs/{layer}", {PULL}, 206, 404, range="bytes=0-0,2-2"),
    _operation("blob-bad-range", "GET blobs/{layer}", {PULL}, 416, 404, range="bytes=900-"),
    _operation("blob-not-modified", "GET blobs/{layer}", {PULL}, 304, 404, if_none_match=f'"{digest_of(LAYER)}"'),
    _operation("blob-unknown", f"GET blobs/{ABSENT}", {PULL}, 404, 404),
    # What is deleted is named by the image, or not there: refused either way.
    _operation("blob-delete", "DELETE blobs/{layer}", {DELETE}, 405, 404),
    _operation("blob-delete-unknown", f"DELETE blobs/{ABSENT}", {DELETE}, 404, 404),
    _operation("upload-start", "POST blobs/uploads/", WRITE, 202, 202, b""),
    _operation("upload-whole", f"POST blobs/uploads/?digest={ABSENT}", WRITE, 400, 400, b"other bytes"),
    _operation("mount", f"POST blobs/uploads/?mount={ABSENT}&from={PRIVATE}", WRITE, 202, 202, b""),
    _operation("mount-anonymous", f"POST blobs/uploads/?mount={ABSENT}", WRITE, 202, 202, b""),
    _operation("upload-status", f"GET blobs/uploads/{UNKNOWN_UPLOAD}", WRITE, 404, 404),
    _operation("upload-status-head", f"HEAD blobs/uploads/{UNKNOWN_UPLOAD}", WRITE, 404, 404),
    _operation("upload-append", f"PATCH blobs/uploads/{UNKNOWN_UPLOAD}", WRITE, 404, 404, b"x"),
    _operation("upload-finish", f"PUT blobs/uploads/{UNKNOWN_UPLOAD}?digest={NEW_UPLOAD}", WRITE, 404, 404, b""),
    _operation("upload-cancel", f"DELETE blobs/uploads/{UNKNOWN_UPLOAD}", WRITE, 404, 404),
    _operation("tags", "GET tags/list", {PULL}, 200, 404),
    _operation("tags-head", "HEAD tags/list", {PULL}, 200, 404),
    _operation("tags-page", "GET tags/list?n=1&last=a", {PULL}, 200, 404),
    _operation("referrers", "GET referrers/{manifest}", {PULL}, 200, 200),
    _operation("referrers-head", "HEAD referrers/{manifest}", {PULL}, 200, 200),
    _operation("referrers-filtered", "GET referrers/{manifest}?artifactType=a/b", {PULL}, 200, 200),
)


def expected(who: str, operation: Operation, repository: str) -> tuple[int, str | None]:
    """The status, and for 401 the `error` of the challenge."""
    public, private = RIGHTS[who]
    if operation.needs <= (public if repository.startswith("public/") else private):
        return (operation.there if repository.endswith("/real") else operation.absent), None
    if who == "anonymous":
        return 401, None
    if who.startswith("bearer-"):
        return 401, "insufficient_scope"
    return 403, None


@dataclass(frozen=True)
class World:
    """The server and everybody who asks it."""

    server: Homeport
    clients: dict[str, Client]

    def ask(self, who: str, operation: Operation, repository: str) -> Answer:
        target = operation.target.format(repository=repository, manifest=IMAGE.digest, layer=digest_of(LAYER))
        return self.clients[who].request(operation.method, target, operation.body, dict(operation.headers))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    server = Homeport(tmp_path_factory.mktemp("matrix"))
    users = {name: {"password": f"file:{_secret(server.folder, name)}"} for name in PASSWORD_USERS}
    server.start({"access": {**ACCESS, "users": {**users, "admin": {**users["admin"], "admin": True}}}})
    nobody = Client(server.url)
    clients = {name: nobody.basic(name, f"{name}-password") for name in PASSWORD_USERS}
    cli = CommandLine(server.folder)

    def token(*words: str) -> str:
        return cli.run("token", "create", "--data", str(server.data), *words).out.strip()

    clients["anonymous"] = nobody
    clients["robot-elsewhere"] = nobody.basic("ci", token("--robot", "ci", "--allow", "other/**=pull,push,delete"))
    clients["limited-admin"] = nobody.basic("admin", token("--user", "admin", "--allow", "public/**=pull,push"))
    everything = [f"repository:{name}:pull,push,delete" for name in REPOSITORIES]
    clients["bearer-private-pull"] = bearer(
        clients["writer"], *(f"repository:{name}:pull" for name in (PRIVATE, PRIVATE_VOID))
    )
    clients["bearer-nothing"] = bearer(clients["writer"])
    clients["bearer-anonymous"] = bearer(nobody, *everything, "registry:catalog:*")
    for repository in (PUBLIC, PRIVATE):
        push_image(clients["admin"], repository, "latest", LAYER, config=CONFIG)
    yield World(server, clients)
    server.stop()


def _secret(folder: Path, name: str) -> Path:
    file = folder / f"secret-{name}"
    file.write_text(f"{name}-password")
    file.chmod(0o600)
    return file


def bearer(client: Client, *scopes: str) -> Client:
    """The same caller with a token of the token service, for these scopes only."""
    query = "&".join(["service=homeport", *(f"scope={scope}" for scope in scopes)])
    answer = client.get(f"/token?{query}")
    assert answer.status == 200, answer
    return client.bearer(answer.json["token"])


@pytest.mark.parametrize("repository", REPOSITORIES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
@pytest.mark.parametrize("who", RIGHTS)
def test_every_route(world: World, who: str, operation: Operation, repository: str) -> None:
    status, reason = expected(who, operation, repository)
    answer = world.ask(who, operation, repository)
    assert answer.status == status, answer
    if status == 401:
        challenge = answer["www-authenticate"]
        asked = re.fullmatch(
            r'Bearer realm="http://[^"]+/token",service="homeport",scope="repository:([^":]+):([^"]+)"(?:,error="(\w+)")?',
            challenge,
        )
        assert asked, challenge
        assert asked[1] == repository
        assert set(asked[2].split(",")) >= operation.needs
        assert asked[3] == reason
    if operation.method == "HEAD":
        assert answer.body == b""
    elif status in {401, 403}:
        assert answer.error == ("UNAUTHORIZED" if status == 401 else "DENIED")


@pytest.mark.parametrize(
    ("who", "operation"),
    [
        pytest.param(who, operation, id=f"{who}-{operation.name}")
        for who, (_, private) in RIGHTS.items()
        for operation in OPERATIONS
        if not operation.needs <= private
    ],
)
def test_private_and_not_there_are_told_the_same(world: World, who: str, operation: Operation) -> None:
    real, void = (world.ask(who, operation, repository) for repository in (PRIVATE, PRIVATE_VOID))
    assert _comparable(real, PRIVATE) == _comparable(void, PRIVATE_VOID)


def _comparable(answer: Answer, repository: str) -> tuple[object, ...]:
    def blind(text: str) -> str:
        return text.replace(repository, "NAME")

    headers = [(name, blind(value)) for name, value in answer.headers if name not in {"date", "x-request-id"}]
    return answer.status, headers, blind(answer.body.decode())


#: Bearers of tokens that were not asked for with `registry:catalog:*`.
NOT_LISTING = ("bearer-private-pull", "bearer-nothing")
LISTING = [who for who in RIGHTS if who not in NOT_LISTING]


@pytest.mark.parametrize("who", NOT_LISTING)
def test_the_catalog_has_a_scope_of_its_own(world: World, who: str) -> None:
    answer = world.clients[who].get("/v2/_catalog")
    assert (answer.status, answer.error) == (401, "UNAUTHORIZED")
    assert answer["www-authenticate"].endswith('scope="registry:catalog:*",error="insufficient_scope"')


@pytest.mark.parametrize("who", LISTING)
def test_the_catalog_shows_what_one_may_pull(world: World, who: str) -> None:
    answer = world.clients[who].get("/v2/_catalog")
    assert answer.status == 200, answer
    public, private = RIGHTS[who]
    shown = [PRIVATE] * (PULL in private) + [PUBLIC] * (PULL in public)
    assert [name for name in answer.json["repositories"] if not name.startswith("mine/")] == shown


@pytest.mark.parametrize("who", LISTING)
def test_pages_of_the_catalog_do_not_count_what_is_not_shown(world: World, who: str) -> None:
    whole = world.clients[who].get("/v2/_catalog").json["repositories"]
    paged: list[str] = []
    target = "/v2/_catalog?n=1"
    while target:
        answer = world.clients[who].get(target)
        assert len(answer.json["repositories"]) <= 1
        paged += answer.json["repositories"]
        target = answer["link"].partition("<")[2].partition(">")[0] if "link" in answer else ""
    assert paged == whole


# --- what lies in one repository is not had through another -----------------------------------------------------------


@pytest.fixture(scope="module")
def secret_blob(world: World) -> str:
    """A blob that only a private repository holds."""
    return push_blob(world.clients["admin"], PRIVATE, b"only here")


@pytest.mark.parametrize("who", RIGHTS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_is_not_read_through_a_repository_that_does_not_hold_it(
    world: World, secret_blob: str, who: str, method: str
) -> None:
    for kind in ("blobs", "manifests"):
        answer = world.clients[who].request(method, f"/v2/{PUBLIC}/{kind}/{secret_blob}")
        assert answer.status == (404 if PULL in RIGHTS[who][0] else 401)


#: Who may push somewhere, whether it may pull what is private, by name and token (not by the bearer token's scope).
MOUNTERS = [
    ("stranger", False),
    ("outsider", False),
    ("reader", True),
    ("writer", True),
    ("deleter", True),
    ("admin", True),
]


@pytest.mark.parametrize(("who", "reads"), MOUNTERS)
@pytest.mark.parametrize("source", ["", f"&from={PRIVATE}"], ids=["anonymous-mount", "from"])
def test_a_mount_takes_only_what_one_may_read(
    world: World, secret_blob: str, who: str, reads: bool, source: str
) -> None:
    """CVE-2024-39897."""
    client = world.clients[who]
    target = f"/v2/mine/{who}{'-from' if source else ''}"
    answer = client.post(f"{target}/blobs/uploads/?mount={secret_blob}{source}")
    assert answer.status == (201 if reads else 202)
    assert client.head(f"{target}/blobs/{secret_blob}").status == (200 if reads else 404)


@pytest.mark.parametrize(("who", "reads"), MOUNTERS)
def test_a_mount_by_a_bearer_asks_who_it_is_and_not_its_scope(
    world: World, secret_blob: str, who: str, reads: bool
) -> None:
    """Clients ask for a token before they know where a blob can be mounted from."""
    target = f"mine/{who}-bearer"
    client = bearer(world.clients[who], f"repository:{target}:pull,push")
    answer = client.post(f"/v2/{target}/blobs/uploads/?mount={secret_blob}&from={PRIVATE}")
    assert answer.status == (201 if reads else 202)


def test_a_mount_by_a_limited_token_stays_within_its_limits(world: World, secret_blob: str) -> None:
    for client in (world.clients["limited-admin"], bearer(world.clients["limited-admin"], f"repository:{PUBLIC}:*")):
        for source in ("", f"&from={PRIVATE}"):
            assert client.post(f"/v2/{PUBLIC}/blobs/uploads/?mount={secret_blob}{source}").status == 202
            assert client.head(f"/v2/{PUBLIC}/blobs/{secret_blob}").status == 404


def test_a_failed_mount_does_not_tell_whether_the_blob_is_somewhere(world: World) -> None:
    """CVE-2024-39897: nobody learns of a digest that is in what they may not read."""
    client = world.clients["outsider"]
    unread = push_blob(world.clients["admin"], PRIVATE, b"nobody mounts this")

    def told(digest: str, source: str) -> tuple[int, list[str], bytes]:
        answer = client.post(f"/v2/{PUBLIC}/blobs/uploads/?mount={digest}{source}")
        return answer.status, [name for name, _ in answer.headers], answer.body

    for source in ("", f"&from={PRIVATE}", f"&from={PRIVATE_VOID}", "&from=..%2Fx"):
        assert told(unread, source) == told(ABSENT, source)


def test_a_manifest_cannot_name_what_another_repository_holds(world: World, secret_blob: str) -> None:
    client = world.clients["outsider"]
    manifest = image(b"only here")
    assert secret_blob in manifest.data.decode()
    answer = client.put(f"/v2/{PUBLIC}/manifests/stolen", manifest.data, content_type=manifest.media_type)
    assert (answer.status, answer.error) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_knowing_a_digest_is_not_having_the_bytes(world: World, secret_blob: str) -> None:
    client = world.clients["outsider"]
    location = begin_upload(client, PUBLIC)
    answer = client.put(f"{location}?digest={secret_blob}", b"something else")
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")
    assert client.head(f"/v2/{PUBLIC}/blobs/{secret_blob}").status == 404


def test_referrers_and_tags_of_the_same_digest_stay_apart(world: World) -> None:
    """The same image is in the public repository, its signature in the private one."""
    writer = world.clients["writer"]
    push_blob(writer, PRIVATE, b"{}")
    signature = image(b"{}", artifactType="a/signature", subject=IMAGE.descriptor)
    push_manifest(writer, PRIVATE, signature, "signed")
    assert len(writer.get(f"/v2/{PRIVATE}/referrers/{IMAGE.digest}").json["manifests"]) == 1
    assert world.clients["anonymous"].get(f"/v2/{PUBLIC}/referrers/{IMAGE.digest}").json["manifests"] == []
    assert writer.get(f"/v2/{PUBLIC}/referrers/{IMAGE.digest}").json["manifests"] == []
    assert world.clients["anonymous"].get(f"/v2/{PUBLIC}/tags/list").json["tags"] == ["latest"]
    assert world.clients["anonymous"].get(f"/v2/{PUBLIC}/manifests/{signature.digest}").status == 404


# --- upload sessions --------------------------------------------------------------------------------------------------

SESSION_REQUESTS = [
    ("GET", "", None),
    ("HEAD", "", None),
    ("PATCH", "", b"mine"),
    ("PUT", f"?digest={digest_of(b'mine')}", b"mine"),
    ("PUT", f"?digest={NEW_UPLOAD}", None),
    ("DELETE", "", None),
]


@pytest.mark.parametrize(("method", "query", "body"), SESSION_REQUESTS, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("who", RIGHTS)
def test_a_session_is_its_owners_alone(world: World, who: str, method: str, query: str, body: bytes | None) -> None:
    """CVE-2026-32589. To others, whatever their rights, it is not there."""
    owner = world.clients["writer"]
    location = begin_upload(owner, PUBLIC)
    assert owner.patch(location, b"the owner's").status == 202
    if who != "writer":
        answer = world.clients[who].request(method, location + query, body)
        unknown = location.rpartition("/")[0] + "/" + UNKNOWN_UPLOAD
        beside = world.clients[who].request(method, unknown + query, body)
        may_push = {PULL, PUSH} <= RIGHTS[who][0]
        assert answer.status == (404 if may_push else 401 if who == "anonymous" or "bearer" in who else 403)
        if may_push and method != "HEAD":
            assert answer.error == "BLOB_UPLOAD_UNKNOWN"
        upload = location.rpartition("/")[2]
        assert answer.body.replace(upload.encode(), b"") == beside.body.replace(UNKNOWN_UPLOAD.encode(), b"")
    status = owner.get(location)
    assert (status.status, status["range"]) == (204, "0-10")
    assert owner.delete(location).status == 204


@pytest.mark.parametrize(("method", "query", "body"), SESSION_REQUESTS, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("elsewhere", [PRIVATE, PUBLIC_VOID, "mine/other"])
def test_a_session_is_of_its_repository_alone(
    world: World, method: str, query: str, body: bytes | None, elsewhere: str
) -> None:
    owner = world.clients["writer"]
    location = begin_upload(owner, PUBLIC)
    answer = owner.request(method, location.replace(PUBLIC, elsewhere) + query, body)
    assert answer.status == 404
    assert owner.delete(location).status == 204


def test_a_session_goes_on_with_another_login_of_the_same_user(world: World) -> None:
    """docker gets a new token in the middle of a push."""
    owner = world.clients["writer"]
    location = begin_upload(bearer(owner, f"repository:{PUBLIC}:pull,push"), PUBLIC)
    assert bearer(owner, f"repository:{PUBLIC}:pull,push").patch(location, b"one ").status == 202
    finished = owner.put(f"{location}?digest={digest_of(b'one two')}", b"two")
    assert finished.status == 201


def test_sessions_of_a_user_and_of_a_robot_of_that_name_are_apart(world: World) -> None:
    cli = CommandLine(world.server.folder)
    words = ("token", "create", "--data", str(world.server.data), "--robot", "writer", "--allow", "public/**=pull,push")
    robot = world.clients["anonymous"].basic("writer", cli.run(*words).out.strip())
    location = begin_upload(world.clients["writer"], PUBLIC)
    assert robot.get(location).status == 404
    assert world.clients["writer"].get(location).status == 204


def test_session_ids_cannot_be_guessed(world: World) -> None:
    ids = {begin_upload(world.clients["writer"], PUBLIC).rpartition("/")[2] for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch(r"[0-9a-f]{32}", upload) for upload in ids)
    # 128 random bits: no two share a beginning or an end of 32 of them.
    assert len({upload[:8] for upload in ids}) == len({upload[-8:] for upload in ids}) == 20


def test_nothing_was_changed_by_all_this(world: World) -> None:
    for repository in (PUBLIC, PRIVATE):
        assert world.clients["admin"].get(f"/v2/{repository}/manifests/latest").body == IMAGE.data
        assert world.clients["admin"].get(f"/v2/{repository}/blobs/{digest_of(LAYER)}").body == LAYER
    assert world.clients["admin"].get(f"/v2/{PUBLIC}/tags/list").json["tags"] == ["latest"]
    for repository in (PUBLIC_VOID, PRIVATE_VOID):
        assert world.clients["admin"].get(f"/v2/{repository}/tags/list").status == 404
