"""HTTP itself: methods, headers that every answer has, connections that are used again, HTTP/1.0 and HTTP/2."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.images import MANIFEST, begin_upload, digest_of, push_blob, push_image
from tests.http.wire import Client, compose
from tests.support.components import need
from tests.support.processes import Homeport

DATA = b"0123456789" * 100
DIGEST = digest_of(DATA)
ABSENT = digest_of(b"absent")
HELD = "http/app"


@pytest.fixture(scope="module")
def manifest(open_server: Homeport) -> str:
    """The digest of what `HELD` holds under `v1`."""
    return push_image(Client(open_server.url), HELD, "v1", DATA).digest


#: Every address that there is, with the methods that it has.
ADDRESSES = {
    "/v2/": "GET, HEAD",
    "/v2": "GET, HEAD",
    "/v2/_catalog": "GET, HEAD",
    f"/v2/{HELD}/tags/list": "GET, HEAD",
    f"/v2/{HELD}/manifests/v1": "DELETE, GET, HEAD, PUT",
    f"/v2/{HELD}/blobs/{DIGEST}": "DELETE, GET, HEAD",
    f"/v2/{HELD}/referrers/{DIGEST}": "GET, HEAD",
    f"/v2/{HELD}/blobs/uploads/": "POST",
    f"/v2/{HELD}/blobs/uploads/{'0' * 32}": "DELETE, GET, HEAD, PATCH, PUT",
    "/token": "GET, HEAD, POST",
    "/healthz": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/metrics": "GET, HEAD",
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X"]


@pytest.mark.parametrize(
    ("target", "method"),
    [
        (target, method)
        for target, allowed in ADDRESSES.items()
        for method in METHODS
        if method not in allowed.split(", ")
    ],
)
def test_a_method_that_an_address_does_not_have(client: Client, target: str, method: str) -> None:
    answer = client.request(method, target, b"")
    assert answer.status == 405
    assert answer["allow"] == ADDRESSES[target]
    if method != "HEAD":
        assert answer.error == "UNSUPPORTED"
        assert ADDRESSES[target] in answer.sentence


@pytest.mark.parametrize("target", [target for target, allowed in ADDRESSES.items() if "HEAD" in allowed])
def test_head_is_get_without_the_body(client: Client, manifest: str, target: str) -> None:
    got, head = client.get(target), client.head(target)
    varying = {"date", "x-request-id"} | ({"content-length"} if target in {"/metrics", "/token"} else set())

    def compared(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        return sorted(header for header in headers if header[0] not in varying)

    assert (got.status, compared(got.headers)) == (head.status, compared(head.headers))
    assert head.body == b""
    assert got["content-length"] == str(len(got.body))


@pytest.mark.parametrize("target", [*ADDRESSES, "/v2/x/y", "/", "/v2/UPPER/tags/list", f"/v2/{HELD}/blobs/{ABSENT}"])
def test_what_every_answer_has(client: Client, manifest: str, target: str) -> None:
    for method in ("GET", "PUT", "HEAD"):
        answer = client.request(method, target)
        assert answer["docker-distribution-api-version"] == "registry/2.0"
        assert answer["x-request-id"]
        assert answer["date"].endswith(" GMT")
    ids = {client.get(target)["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize("target", ["/v2/", "/v2"])
def test_the_version(client: Client, target: str) -> None:
    """end-1: nobody has to log in here."""
    answer = client.get(target)
    assert (answer.status, answer.body, answer["content-type"]) == (200, b"{}", "application/json")


# --- bodies that nobody reads, connections that go on -----------------------------------------------------------------

REFUSED = [
    ("PUT", "/v2/UPPER/manifests/v1", 400),
    ("PUT", f"/v2/{HELD}/manifests/..", 400),
    ("PUT", "/nowhere", 404),
    ("POST", "/v2/_catalog", 405),
    ("PATCH", f"/v2/{HELD}/blobs/uploads/{'0' * 32}", 404),
    ("PUT", f"/v2/{HELD}/blobs/uploads/{'0' * 32}?digest={DIGEST}", 404),
    ("POST", f"/v2/{HELD}/blobs/uploads/?digest=x", 400),
    ("POST", f"/v2/{HELD}/blobs/uploads/?digest={ABSENT}", 400),
    ("DELETE", f"/v2/{HELD}/manifests/none", 404),
    ("GET", f"/v2/{HELD}/manifests/none", 404),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [0, 10, 300_000, 3_000_000])
@pytest.mark.parametrize(("method", "target", "status"), REFUSED)
def test_a_connection_goes_on_after_a_refusal(
    client: Client, manifest: str, method: str, target: str, status: int, size: int, chunked: bool
) -> None:
    """Whatever of the body was not read: the answer comes, and what follows is not taken for the rest of it."""
    body = b"x" * size
    with client.connect() as connection:
        answer = connection.request(method, target, [body[:1000], body[1000:]] if chunked else body)
        assert (answer.status, bool(answer.error)) == (status, True)
        if answer.headers.count(("connection", "close")):
            assert connection.ended()
        else:
            assert connection.request("GET", f"/v2/{HELD}/blobs/{DIGEST}").body == DATA


def test_an_upload_of_more_than_anybody_waits_for(client: Client) -> None:
    """A client that sends on and on is told why nobody listens, or cut; the server does not read it all."""
    with client.connect() as connection:
        head = compose(client.host, "PUT", "/nowhere", b"", {"Content-Length": str(10**12)})
        connection.send(head)
        sent = 0
        try:
            while sent < 100 * 1024 * 1024:
                connection.send(bytes(1024 * 1024))
                sent += 1024 * 1024
        except ConnectionError:
            pass
        assert sent < 100 * 1024 * 1024


def test_many_requests_on_one_connection(client: Client, manifest: str) -> None:
    with client.connect() as connection:
        for _ in range(50):
            assert connection.request("GET", f"/v2/{HELD}/manifests/v1").status == 200
            assert connection.request("HEAD", f"/v2/{HELD}/blobs/{DIGEST}").status == 200
            assert connection.request("GET", f"/v2/{HELD}/blobs/{DIGEST}").body == DATA
            assert connection.request("GET", f"/v2/{HELD}/blobs/{ABSENT}").status == 404
            etag = {"If-None-Match": f'"{DIGEST}"'}
            assert connection.request("GET", f"/v2/{HELD}/blobs/{DIGEST}", headers=etag).status == 304
            assert connection.request("POST", f"/v2/{HELD}/blobs/uploads/?digest={DIGEST}", DATA).status == 201


def test_pipelining(client: Client, manifest: str) -> None:
    """All requests are sent before an answer is read; the answers come in their order."""
    targets = [
        ("GET", f"/v2/{HELD}/blobs/{DIGEST}"),
        ("HEAD", f"/v2/{HELD}/manifests/v1"),
        ("GET", "/v2/"),
        ("GET", "/none"),
    ]
    with client.connect() as connection:
        connection.send(b"".join(compose(client.host, *target, None, {}) for target in targets * 5))
        for method, target in targets * 5:
            answer = connection.receive(method)
            assert answer.status == (404 if target == "/none" else 200)
            assert target != targets[0][1] or answer.body == DATA


def test_expect_100_continue(client: Client, repository: str) -> None:
    location = begin_upload(client, repository)
    with client.connect() as connection:
        connection.send(compose(client.host, "PATCH", location, DATA, {"Expect": "100-continue"})[: -len(DATA)])
        assert connection.receive().status == 100
        connection.send(DATA)
        assert connection.receive()["range"] == f"0-{len(DATA) - 1}"


@pytest.mark.parametrize(("method", "target", "status"), REFUSED[:3])
def test_expect_100_continue_of_what_is_refused(client: Client, method: str, target: str, status: int) -> None:
    """The client hears of the refusal, before it sends the body or after it."""
    with client.connect() as connection:
        connection.send(compose(client.host, method, target, DATA, {"Expect": "100-continue"})[: -len(DATA)])
        answer = connection.receive()
        if answer.status == 100:
            connection.send(DATA)
            answer = connection.receive()
        assert answer.status == status


def test_connection_close(client: Client, manifest: str) -> None:
    with client.connect() as connection:
        target = f"/v2/{HELD}/blobs/{DIGEST}"
        assert connection.request("GET", target, headers={"Connection": "close"}).body == DATA
        assert connection.ended()


def test_http_1_0(client: Client, manifest: str) -> None:
    with client.connect() as connection:
        connection.send(f"GET /v2/{HELD}/blobs/{DIGEST} HTTP/1.0\r\n\r\n".encode())
        said = b""
        while part := connection.socket.recv(65536):
            said += part
    assert said.startswith(b"HTTP/1.0 200 ")
    assert said.endswith(b"\r\n\r\n" + DATA)


def test_the_absolute_form_of_a_target(client: Client, manifest: str) -> None:
    """RFC 9112, section 3.2.2: as proxies send it."""
    answer = client.raw(f"GET http://elsewhere/v2/{HELD}/tags/list HTTP/1.1\r\nHost: elsewhere\r\n\r\n".encode())
    assert answer.json["tags"] == ["v1"]


def test_no_cookie_and_no_permission_for_web_pages(client: Client, manifest: str) -> None:
    """zot #3980: a page of another site must not be let read with the login of whoever looks at it."""
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    for method in ("GET", "OPTIONS"):
        for target in ADDRESSES:
            answer = client.request(method, target, headers=origin)
            assert "set-cookie" not in answer
            assert not any(name.startswith("access-control-") for name, _ in answer.headers)


# --- HTTP/2 -----------------------------------------------------------------------------------------------------------


class Curl:
    """The curl of this machine, as a client that speaks HTTP/2."""

    def __init__(self, url: str, ca: Path) -> None:
        self._url = url
        self._ca = ca
        self._program = need("curl")

    def __call__(self, target: str, *words: str, stdin: bytes = b"") -> tuple[dict[str, object], bytes]:
        """What curl knows of the answer, and its body."""
        command = [
            str(self._program),
            "--silent",
            "--show-error",
            "--http2",
            "--cacert",
            str(self._ca),
            "--max-time",
            "20",
        ]
        write = ["--write-out", "%{stderr}%{json}"]
        ran = subprocess.run(
            [*command, *write, *words, f"{self._url}{target}"], input=stdin, capture_output=True, check=True
        )
        return json.loads(ran.stderr), ran.stdout


@pytest.fixture(scope="module")
def curl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Curl]:
    server = Homeport(tmp_path_factory.mktemp("http2"))
    server.start({"access": {"anonymous": ["pull", "push", "delete"]}}, tls=True)
    assert server.ca is not None
    push_blob(Client(server.url, ca=server.ca), HELD, DATA)
    yield Curl(server.url, server.ca)
    server.stop()


def test_http_2_downloads(curl: Curl) -> None:
    told, body = curl(f"/v2/{HELD}/blobs/{DIGEST}")
    assert (told["http_version"], told["http_code"], body) == ("2", 200, DATA)
    told, body = curl(f"/v2/{HELD}/blobs/{DIGEST}", "--range", "10-19")
    assert (told["http_code"], body) == (206, DATA[10:20])
    told, body = curl(f"/v2/{HELD}/blobs/{DIGEST}", "--head")
    assert told["http_code"] == 200
    assert f"content-length: {len(DATA)}".encode() in body


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
@pytest.mark.parametrize("stream", [False, True], ids=["length", "no-length"])
def test_http_2_uploads(curl: Curl, size: int, stream: bool) -> None:
    data = bytes(size)
    words = ["--upload-file", "-"] if stream else ["--data-binary", "@-", "--header", "Content-Type:"]
    told, _ = curl(f"/v2/{HELD}/blobs/uploads/", "--request", "POST", "--dump-header", "-")
    location = next(line for line in _.decode().splitlines() if line.startswith("location: ")).partition(": ")[2]
    told, _ = curl(f"{location}?digest={digest_of(data)}", "--request", "PUT", *words, stdin=data)
    assert (told["http_version"], told["http_code"]) == ("2", 201)
    assert curl(f"/v2/{HELD}/blobs/{digest_of(data)}")[1] == data


def test_http_2_refusals(curl: Curl) -> None:
    for target, code in [("/v2/UPPER/manifests/v1", 400), ("/nowhere", 404), (f"/v2/{HELD}/manifests/x", 400)]:
        told, body = curl(
            target, "--upload-file", "-", "--request", "PUT", "--header", f"Content-Type: {MANIFEST}", stdin=DATA * 1000
        )
        assert (told["http_version"], told["http_code"]) == ("2", code)
        assert json.loads(body)["errors"]
