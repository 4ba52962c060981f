"""What nobody should send: always a 4xx with the spec's error, never a 5xx, never a file that stays, and a server that
goes on as before.

What is not HTTP is refused by the HTTP parser, whose answers have no body. CVE-2024-4956 (encoded separators in paths),
CVE-2024-3727 (digests as paths), CVE-2017-11468 (bodies without a limit), CVE-2023-2253 (page sizes).
"""

import re
import socket
import struct
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.bad import ABSENT, BOUNDED, DIGEST, HELD, LAYER, line, refused
from tests.http.images import MANIFEST, begin_upload, digest_of
from tests.http.watching import eventually
from tests.http.wire import Client, compose

MANIFEST_BYTES_MAX = 4 * 1024 * 1024


@pytest.fixture
def client(watched: Client) -> Client:
    return watched


# --- paths ------------------------------------------------------------------------------------------------------------

BAD_PATHS = [
    "/v2/%2F%2F..%2F..%2Fetc/passwd",
    "/v2/%2e%2e/%2e%2e/etc/passwd",
    "/v2/../../etc/passwd",
    "/v2/..%2f..%2f..%2fetc%2fpasswd/manifests/v1",
    "/v2/..%5c..%5cetc/manifests/v1",
    "/v2/..\\..\\etc/manifests/v1",
    "/v2/team%2Fapp/manifests/v1",
    "/v2/team%252Fapp/manifests/v1",
    "/v2/team%25252Fapp/manifests/v1",
    "/v2/team//app/manifests/v1",
    "/v2//team/app/manifests/v1",
    "//v2/team/app/manifests/v1",
    "/v2/./team/app/manifests/v1",
    "/v2/team/./app/manifests/v1",
    "/v2/team/../team/app/manifests/v1",
    "/v2/team/app/manifests/../manifests/v1",
    "/v2/team/app/manifests/v1/",
    "/v2/team/app/manifests/v1/..",
    "/v2/team/app/manifests/",
    "/v2/team/app/manifests/v1%00",
    "/v2/team/app%00/manifests/v1",
    "/v2/team/app/manifests/v1%0d%0aX-Forged:%20yes",
    "/v2/team/app/manifests/v1%0a",
    "/v2/team/app/manifests/v1%7f",
    "/v2/team/app/manifests/v1%20",
    "/v2/team/app/manifests/..",
    "/v2/team/app/manifests/.hidden",
    "/v2/team/app/manifests/-v1",
    "/v2/team/app/manifests/%e2%80%ae1v",
    "/v2/team/app/manifests/v\u0131",
    "/v2/team/app/manifests/" + "a" * 129,
    "/v2/Team/app/manifests/v1",
    "/v2/TEAM/APP/manifests/v1",
    "/v2/te\u0430m/app/manifests/v1",
    "/v2/team/app_/manifests/v1",
    "/v2/team/_app/manifests/v1",
    "/v2/team/a..b/manifests/v1",
    "/v2/team/a___b/manifests/v1",
    "/v2/team/-app/manifests/v1",
    "/v2/" + "a" * 256 + "/manifests/v1",
    "/v2/" + "a/" * 2000 + "a/manifests/v1",
    "/v2/" + "a" * 60000 + "/manifests/v1",
    "/v2/team/app/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd",
    "/v2/team/app/blobs/sha256:../../etc/passwd",
    "/v2/team/app/blobs/..",
    "/v2/team/app/blobs/uploads/..",
    "/v2/team/app/blobs/uploads/../../../x",
    "/v2/team/app/blobs/uploads/%2e%2e",
    "/v2/team/app/blobs/uploads/" + "0" * 31,
    "/v2/team/app/blobs/uploads/" + "G" * 32,
    "/v2/team/app/blobs/uploads/" + "0" * 5000,
    "/v2/team/app/blobs/uploads/x%00",
    "/v2/team/app/referrers/..",
    "/v2/team/app/referrers/v1",
    "/v2/team/app/referrers/",
    "/v2/team/app/tags/list/",
    "/v2/team/app/tags/",
    "/v2/team/app/tags/list%00",
    "/v2/tags/list",
    "/v2/_catalog/",
    "/v2/_catalog%00",
    "/v2/_Catalog",
    "/v2/%",
    "/v2/%zz",
    "/v2/%u0041/manifests/v1",
    "/v2/%c0%ae%c0%ae/manifests/v1",
    "/v2/%ff%fe/manifests/v1",
    "/v2x/",
    "/v1/",
    "/V2/",
    "/",
    "/etc/passwd",
    "/homeport.db",
    "/metrics/../v2",
    "*",
]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: ascii(path)[1:50])
def test_paths(client: Client, path: str, method: str) -> None:
    """CVE-2024-4956. No spelling of a path reaches something that is spelled otherwise."""
    assert refused(client.raw(line(method, path, "Content-Length: 0")))


@pytest.mark.parametrize("path", [b"/v2/a\0b/tags/list", b"/v2/a b/tags/list", b"v2/", b"", b'/v2/"<>', b"/v2/\xff"])
def test_paths_that_are_no_path(client: Client, path: bytes) -> None:
    assert refused(client.raw(line("GET", path)))


_pieces = st.one_of(
    st.sampled_from([
        "/", "//", "..", ".", "%2f", "%2F", "%2e", "%5c", "\\", "%00", "%0a", "%25", "%252f", "%", ":", "@", "sha256:",
        "team", "app", "v1", "manifests", "blobs", "uploads", "tags", "list", "referrers", "_catalog", "v2", "?", "#",
        ";", "~", "&", "=", "+", "|", "%e2%80%8b", "%c0%af", "A", "_", "-",
    ]),
    st.text(max_size=4).map(quote),
    st.binary(max_size=4).map(quote_from_bytes),
)  # fmt: skip


@BOUNDED
@given(pieces=st.lists(_pieces, max_size=10), method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]))
def test_any_path(client: Client, pieces: list[str], method: str) -> None:
    answer = client.raw(line(method, "/v2/" + "".join(pieces), "Content-Length: 0"), method)
    assert answer.status < 500
    if answer.status >= 400 and method != "HEAD":
        assert refused(answer)


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:",
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "SHA256:" + "0" * 64,
        "sha256:" + "0" * 64 + "%0a",
        "sha256:" + "0" * 64 + "%00",
        "sha512:" + "0" * 64,
        "sha384:" + "0" * 96,
        "md5:" + "0" * 32,
        "sha256+b64:" + "0" * 64,
        ":",
        ":" * 100,
        "sha256:..",
        "sha256:" + "%30" * 63,
        "sha256:" + "\u0660" * 64,
        "sha256:" + "0" * 10000,
    ],
    ids=lambda digest: ascii(digest)[1:30],
)
def test_digests(client: Client, digest: str) -> None:
    """CVE-2024-3727. In paths and in parameters."""
    for method, path in [
        ("GET", f"blobs/{digest}"),
        ("DELETE", f"blobs/{digest}"),
        ("GET", f"manifests/{digest}"),
        ("PUT", f"manifests/{digest}"),
        ("DELETE", f"manifests/{digest}"),
        ("GET", f"referrers/{digest}"),
        ("POST", f"blobs/uploads/?digest={quote(digest, safe=':%+')}"),
        ("POST", f"blobs/uploads/?mount={quote(digest, safe=':%')}&from={HELD}"),
    ]:
        answer = client.raw(line(method, f"/v2/{HELD}/{path}", f"Content-Type: {MANIFEST}", "Content-Length: 0"))
        assert refused(answer), (method, path)
        assert answer.status in {400, 404}


# --- queries and headers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", ["-1", "x", "1.5", "1e3", "+1", " 1", "0x10", "\u0663", "--", "1,2", "NaN", "\u00b2"], ids=ascii
)
@pytest.mark.parametrize("path", ["/v2/_catalog", f"/v2/{HELD}/tags/list", f"/v2/{HELD}/referrers/{ABSENT}"])
def test_page_sizes_that_are_no_number(client: Client, path: str, number: str) -> None:
    answer = client.get(f"{path}?n={quote(number)}")
    assert (answer.status, answer.error) == (400, "PAGINATION_NUMBER_INVALID")


@pytest.mark.parametrize("number", ["10001", str(2**31), str(2**63), str(2**64), "9" * 300])
@pytest.mark.parametrize("path", ["/v2/_catalog", f"/v2/{HELD}/tags/list", f"/v2/{HELD}/referrers/{ABSENT}"])
def test_huge_page_sizes_are_clamped(client: Client, path: str, number: str) -> None:
    """CVE-2023-2253."""
    assert client.get(f"{path}?n={number}").body == client.get(path).body


@BOUNDED
@given(query=st.one_of(st.text(max_size=60).map(quote), st.binary(max_size=60).map(quote_from_bytes)))
@pytest.mark.parametrize("name", ["n", "last", "artifactType"])
def test_any_query(client: Client, name: str, query: str) -> None:
    for path in ("/v2/_catalog", f"/v2/{HELD}/tags/list", f"/v2/{HELD}/referrers/{DIGEST}"):
        answer = client.get(f"{path}?{name}={query}")
        assert answer.status == 200 or refused(answer)


@pytest.mark.parametrize(
    "query",
    [
        "&" * 5000,
        "a=1&" * 300,
        "=" * 5000,
        "%" * 999,
        "n=1&" * 200,
        "n",
        "n=&last=",
        ";",
        "digest",
        "mount=&from=",
        "?",
    ],
    ids=lambda query: query[:12],
)
def test_queries(client: Client, query: str) -> None:
    for method, path in [
        ("GET", "/v2/_catalog"),
        ("GET", f"/v2/{HELD}/tags/list"),
        ("GET", f"/v2/{HELD}/blobs/{ABSENT}"),
    ]:
        answer = client.request(method, f"{path}?{query}")
        assert answer.status == 200 or refused(answer)
    answer = client.post(f"/v2/{HELD}/blobs/uploads/?{query}")
    if answer.status == 202:
        assert client.delete(answer["location"]).status == 204
    else:
        assert refused(answer)


def test_a_query_as_long_as_a_book(client: Client) -> None:
    assert client.raw(line("GET", "/v2/_catalog?" + "a" * 300_000)).status == 414
    assert client.get("/v2/_catalog?last=" + "a" * 60_000).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["X-Long: " + "a" * 70_000], 431),
        (["X-Long: " + "a" * 300_000], 431),
        ([f"X-{number}: a" for number in range(2000)], 431),
        ([f"X-{number}: {'a' * 1000}" for number in range(80)], 431),
        (["Authorization: Basic " + "A" * 60_000], 401),
        (["Authorization: Bearer " + "a." * 20_000], 401),
        (["X: a\0b"], 400),
        (["X: a\x01b"], 400),
        (["X : a"], 400),
        (["X"], 400),
        ([": a"], 400),
        (["X: a\r b"], 400),
        ([" X: folded"], 400),
        (["Content-Length: -1"], 400),
        (["Content-Length: +1"], 400),
        (["Content-Length: 1e3"], 400),
        (["Content-Length: 0x10"], 400),
        (["Content-Length: " + "9" * 40], 400),
        (["Content-Length: 3, 3"], 400),
        (["Content-Length: 3", "Content-Length: 4"], 400),
        (["Transfer-Encoding: identity"], 400),
        (["Transfer-Encoding: xchunked"], 400),
        (["Transfer-Encoding: chunked, gzip"], 400),
    ],
    ids=lambda value: ascii(value)[1:30],
)
def test_headers(client: Client, headers: list[str], status: int) -> None:
    answer = client.raw(line("POST", f"/v2/{HELD}/blobs/uploads/?digest={ABSENT}", *headers))
    assert answer.status == status
    assert answer.body == b"" or answer.error


@pytest.mark.parametrize(
    "data",
    [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50, b"GET /v2/ HTTP/9.9\r\n\r\n"],
    ids=["words", "tls", "version"],
)
def test_what_is_not_http(client: Client, data: bytes) -> None:
    assert refused(client.raw(data))


@pytest.mark.parametrize("authorization", [
    "", "Basic", "Basic ", "Basic !!!", "Basic QUJD", "Basic w6Q6w6Q=", "Basic //86/w==", "Bearer", "Bearer ",
    "Bearer a.b.c", "Bearer a b", "Digest username=x", "Negotiate AAAA", "\xff\xfe", "basic", "Basic Og", "Bearer ...",
    "Bearer " + "." * 5000,
], ids=ascii)  # fmt: skip
def test_authorization(client: Client, authorization: str) -> None:
    """Whoever sends credentials that are none is refused, also where nobody needs any."""
    answer = client.get("/v2/", authorization=authorization)
    assert (answer.status, answer.error) == (401, "UNAUTHORIZED")
    assert answer["www-authenticate"].startswith("Bearer realm=")


def test_no_header_is_taken_for_another(client: Client) -> None:
    """Names that a proxy might turn into each other."""
    answer = client.raw(
        line("GET", "/v2/team/app/tags/list", "X_Forwarded_For: 1.1.1.1", "X-HTTP-Method-Override: DELETE")
    )
    assert answer.json["tags"] == ["v1"]


@BOUNDED
@given(
    value=st.one_of(
        st.from_regex(r"bytes=[-0-9, ]{0,40}", fullmatch=True),
        st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=40),
    )
)
def test_any_range(client: Client, value: str) -> None:
    answer = client.request("GET", f"/v2/{HELD}/blobs/{DIGEST}", headers={"Range": value})
    assert answer.status in {200, 206, 416}
    assert len(answer.body) <= len(LAYER) * 3
    if answer.status == 206 and not answer["content-type"].startswith("multipart/"):
        first, last, size = map(int, re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer["content-range"]).groups())  # type: ignore[union-attr]
        assert size == len(LAYER)
        assert answer.body == LAYER[first : last + 1]


def test_many_ranges_do_not_multiply_the_bytes(client: Client) -> None:
    for wanted in [",".join(["0-"] * 500), ",".join(["0-0"] * 1024), ",".join(f"{n}-{n}" for n in range(5000))]:
        answer = client.get(f"/v2/{HELD}/blobs/{DIGEST}", range=f"bytes={wanted}")
        assert len(answer.body) < 200_000


@pytest.mark.parametrize("value", [
    "", "x", "0", "0-", "-5", "5-4", "0-4-5", "bytes", "bytes 0-4/x", "1.5-2", "0x0-0x4", "-1-4", "0-4, 5-6",
    "\u0660-\u0664", "0-" + "9" * 30, "9" * 30 + "-" + "9" * 31, "bytes */5", "0 - 4",
], ids=ascii)  # fmt: skip
def test_content_ranges(client: Client, value: str) -> None:
    location = begin_upload(client, HELD)
    for method in ("PATCH", "PUT"):
        data = compose("x", method, f"{location}?digest={DIGEST}", b"01234", {"Content-Range": "RANGE"})
        answer = client.raw(data.replace(b"RANGE", value.encode()))
        assert refused(answer)
        assert answer.status in {400, 416}
    status = client.get(location)
    assert (status.status, status["range"]) == (204, "0-0")
    assert client.delete(location).status == 204


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [
    b"zz\r\nabc\r\n0\r\n\r\n", b"-3\r\nabc\r\n0\r\n\r\n", b"f" * 20 + b"\r\nabc", b"3\r\nabcd\r\n0\r\n\r\n",
    b"\r\n\r\n", b"3\r\nab", b"3;" + b"a" * 40_000 + b"\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX\r\n\r\n",
    b"3\r\nabc\r\n", b"",
], ids=lambda body: ascii(body)[2:20])  # fmt: skip
@pytest.mark.parametrize("kind", ["session", "whole", "manifest"])
def test_chunks_that_are_none(client: Client, kind: str, body: bytes) -> None:
    location = begin_upload(client, HELD)
    target = {
        "session": ("PATCH", location),
        "whole": ("POST", f"/v2/{HELD}/blobs/uploads/?digest={ABSENT}"),
        "manifest": ("PUT", f"/v2/{HELD}/manifests/new"),
    }[kind]
    with client.connect() as connection:
        connection.send(line(*target, "Transfer-Encoding: chunked", f"Content-Type: {MANIFEST}", body=body))
        connection.socket.shutdown(socket.SHUT_WR)
        try:
            answer = connection.receive()
        except ConnectionError:
            pass  # Who goes away in the middle is told nothing.
        else:
            assert answer.status in {400, 408}
            assert answer.error
    assert client.delete(location).status == 204


@pytest.mark.parametrize("announced", [1, 10, 10_000_000, 10**15])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_body_that_ends_early(client: Client, announced: int, how: str) -> None:
    location = begin_upload(client, HELD)
    for method, target in [
        ("POST", f"/v2/{HELD}/blobs/uploads/?digest={digest_of(b'')}"),
        ("PUT", f"/v2/{HELD}/manifests/new"),
        ("PUT", f"{location}?digest={digest_of(b'')}"),
        ("PATCH", location),
    ]:
        with client.connect() as connection:
            connection.send(line(method, target, f"Content-Length: {announced}", f"Content-Type: {MANIFEST}"))
            if how == "reset":
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The session is there, as empty as it was: nothing of it was taken for the whole.
    assert eventually(lambda: client.get(location).status == 204)
    assert client.get(location)["range"] == "0-0"
    assert client.head(f"/v2/{HELD}/blobs/{digest_of(b'')}").status == 404
    assert client.delete(location).status == 204


def test_more_than_was_announced_is_the_next_request(client: Client) -> None:
    location = begin_upload(client, HELD)
    with client.connect() as connection:
        connection.send(line("PATCH", location, "Content-Length: 3", body=b"abcGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert (connection.receive()["range"], connection.receive().body) == ("0-2", b"{}")
    assert client.delete(location).status == 204


@pytest.mark.parametrize("headers", [["Content-Length: 6"], ["Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_a_body_that_stands_still(client: Client, headers: list[str]) -> None:
    """It is ended, and the session goes on from what came."""
    body = b"abc" if "Content" in headers[0] else b"3\r\nabc\r\n"
    location = begin_upload(client, HELD)
    answer = client.raw(line("PATCH", location, *headers, body=body))
    assert (answer.status, answer.error) == (408, "BLOB_UPLOAD_INVALID")
    assert client.get(location)["range"] == "0-2"
    assert client.patch(location, b"def", content_range="3-5")["range"] == "0-5"
    assert client.delete(location).status == 204


def test_a_manifest_that_stands_still(client: Client) -> None:
    answer = client.raw(
        line("PUT", f"/v2/{HELD}/manifests/v", f"Content-Type: {MANIFEST}", "Content-Length: 9", body=b"{")
    )
    assert (answer.status, answer["content-type"]) == (408, "application/json")


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_manifest_that_is_too_large(client: Client, chunked: bool) -> None:
    """CVE-2017-11468."""
    data = b"{" + b" " * MANIFEST_BYTES_MAX
    body = [data[start : start + 65536] for start in range(0, len(data), 65536)] if chunked else data
    answer = client.put(f"/v2/{HELD}/manifests/large", body, content_type=MANIFEST)
    assert (answer.status, answer.error) == (413, "MANIFEST_INVALID")


def test_a_form_that_is_too_large(client: Client) -> None:
    answer = client.post("/token", b"a=" + b"b" * 70_000, content_type="application/x-www-form-urlencoded")
    assert answer.status == 413
    assert answer.error


@BOUNDED
@given(body=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_any_form(client: Client, body: bytes) -> None:
    assert refused(client.post("/token", body, content_type="application/x-www-form-urlencoded"))
    typed = client.post("/token", b"grant_type=refresh_token&refresh_token=" + body.replace(b"&", b""))
    assert refused(typed)


# --- many -------------------------------------------------------------------------------------------------------------


def test_many_sessions(client: Client) -> None:
    """Each costs a row until it is written to."""
    start = f"/v2/{HELD}/blobs/uploads/"
    with client.connect() as connection:
        locations = [connection.request("POST", start, b"")["location"] for _ in range(300)]
        for location in locations:
            assert connection.request("DELETE", location).status == 204


def test_many_connections_that_say_nothing(client: Client) -> None:
    connections = [client.connect() for _ in range(200)]
    try:
        for connection in connections[::2]:
            connection.send(b"GET /v2/ HTT")
        assert client.get(f"/v2/{HELD}/tags/list").status == 200
    finally:
        for connection in connections:
            connection.close()


def test_an_upload_with_the_wrong_digest_leaves_nothing(client: Client) -> None:
    answer = client.post(f"/v2/{HELD}/blobs/uploads/?digest={ABSENT}", b"something else")
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")
    location = begin_upload(client, HELD)
    answer = client.put(f"{location}?digest={ABSENT}", b"something else")
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")
    assert client.get(location).status == 404
