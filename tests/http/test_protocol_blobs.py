"""Pulling and deleting blobs: end-2 and end-10 of the distribution-spec, with ranges and conditions of RFC 9110."""

import email
import email.policy

import pytest

from tests.http.images import digest_of, image, index, push_blob, push_image, push_manifest
from tests.http.wire import Answer, Client

DATA = bytes(range(256)) * 8
SIZE = len(DATA)
DIGEST = digest_of(DATA)
ABSENT = digest_of(b"absent")


@pytest.fixture
def blob(client: Client, repository: str) -> str:
    """The path of a blob of 2048 bytes."""
    return f"/v2/{repository}/blobs/{push_blob(client, repository, DATA)}"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob(client: Client, repository: str, algorithm: str) -> None:
    digest = push_blob(client, repository, DATA, algorithm)
    got, head = (client.request(method, f"/v2/{repository}/blobs/{digest}") for method in ("GET", "HEAD"))
    assert (got.status, got.body) == (200, DATA)
    assert (head.status, head.body) == (200, b"")
    for answer in (got, head):
        assert answer["content-length"] == str(SIZE)
        assert answer["content-type"] == "application/octet-stream"
        assert answer["docker-content-digest"] == digest
        assert answer["etag"] == f'"{digest}"'
        assert answer["accept-ranges"] == "bytes"
        # Bytes of this digest never change; but only who was let in may keep them.
        assert answer["cache-control"] == "private, max-age=31536000, immutable"
        assert "content-encoding" not in answer


def test_nothing_is_compressed(client: Client, blob: str) -> None:
    answer = client.get(blob, accept_encoding="zstd;q=1.0, gzip;q=0.8, deflate;q=0.5")
    assert (answer.body, answer["content-length"]) == (DATA, str(SIZE))


def test_an_encoded_colon_is_a_colon(client: Client, blob: str) -> None:
    for colon in ("%3A", "%3a"):
        assert client.get(blob.replace("sha256:", f"sha256{colon}")).body == DATA


def test_a_namespace_for_mirrors_does_no_harm(client: Client, blob: str) -> None:
    assert client.get(f"{blob}?ns=docker.io").body == DATA


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_blob_that_is_not_here(client: Client, repository: str, method: str) -> None:
    for name in (repository, "no/such"):
        answer = client.request(method, f"/v2/{name}/blobs/{ABSENT}")
        assert answer.status == 404
        assert method == "HEAD" or answer.error == "BLOB_UNKNOWN"


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=500-1499", 500, 1499),
        ("bytes=500-", 500, 2047),
        ("bytes=-500", 1548, 2047),
        ("bytes=-5000", 0, 2047),
        ("bytes=2000-5000", 2000, 2047),
        ("bytes=2047-", 2047, 2047),
        ("bytes=0-", 0, 2047),
        ("bytes=0-2047", 0, 2047),
        ("bytes=0-99999999999999", 0, 2047),
        ("BYTES=1-2", 1, 2),
        ("bytes= 1-2", 1, 2),
        ("bytes=1-2,", 1, 2),
        ("bytes=1-2,9000-", 1, 2),
    ],
)
def test_one_range(client: Client, blob: str, wanted: str, first: int, last: int) -> None:
    answer = client.get(blob, range=wanted)
    assert (answer.status, answer.body) == (206, DATA[first : last + 1])
    assert answer["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer["content-length"] == str(last - first + 1)
    assert answer["content-type"] == "application/octet-stream"
    assert answer["docker-content-digest"] == DIGEST


@pytest.mark.parametrize("wanted", ["bytes=500-0", "bytes=2048-", "bytes=5000-10000", "bytes=-0", "bytes=9000-,8000-"])
def test_a_range_that_is_not_there(client: Client, blob: str, wanted: str) -> None:
    answer = client.get(blob, range=wanted)
    assert (answer.status, answer.error) == (416, "RANGE_INVALID")
    assert answer["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "wanted", ["items=0-1", "bytes", "bytes=", "bytes=x-y", "bytes=1", "bytes=-", "bytes=1-2-3", "0-1"]
)
def test_a_range_that_is_not_understood_is_the_whole(client: Client, blob: str, wanted: str) -> None:
    answer = client.get(blob, range=wanted)
    assert (answer.status, answer.body) == (200, DATA)


def parts_of(answer: Answer) -> list[tuple[str, bytes]]:
    """The parts of a multipart answer, read by the standard library: their Content-Range and their bytes."""
    assert answer["content-type"].startswith("multipart/byteranges; boundary=")
    head = f"Content-Type: {answer['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.body, policy=email.policy.HTTP)
    found = []
    for part in message.iter_parts():
        assert part["content-type"] == "application/octet-stream"
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.append((str(part["content-range"]), content))
    return found


@pytest.mark.parametrize(
    "ranges",
    [[(0, 9), (20, 29)], [(20, 29), (0, 9)], [(0, 0), (2047, 2047)], [(n * 4, n * 4 + 1) for n in range(300)]],
    ids=["two", "backwards", "ends", "many"],
)
def test_several_ranges(client: Client, blob: str, ranges: list[tuple[int, int]]) -> None:
    """As clients ask that pull only parts of a layer (zstd:chunked)."""
    answer = client.get(blob, range="bytes=" + ",".join(f"{first}-{last}" for first, last in ranges))
    assert answer.status == 206
    assert "content-range" not in answer
    assert answer["content-length"] == str(len(answer.body))
    assert parts_of(answer) == [(f"bytes {a}-{b}/{SIZE}", DATA[a : b + 1]) for a, b in ranges]


def test_several_ranges_in_random_bytes(client: Client, repository: str) -> None:
    """Bytes that look like the end of a part."""
    data = b"\r\n--\r\n\r\ncontent-range: bytes 0-1/2\r\n" * 50
    path = f"/v2/{repository}/blobs/{push_blob(client, repository, data)}"
    assert [part for _, part in parts_of(client.get(path, range="bytes=3-90,100-200"))] == [data[3:91], data[100:201]]


def test_ranges_that_overlap_are_the_whole(client: Client, blob: str) -> None:
    assert client.get(blob, range="bytes=0-,0-,0-").status == 200


def test_a_range_of_nothing(client: Client, repository: str) -> None:
    path = f"/v2/{repository}/blobs/{push_blob(client, repository, b'')}"
    assert (client.get(path).status, client.get(path)["content-length"]) == (200, "0")
    assert client.get(path, range="bytes=0-0").status == 416
    assert client.get(path, range="bytes=-1").status == 416


def test_a_head_ignores_ranges(client: Client, blob: str) -> None:
    """RFC 9110, section 14.2: a range is only for GET."""
    answer = client.head(blob, range="bytes=0-9")
    assert (answer.status, answer["content-length"]) == (200, str(SIZE))


def test_if_range(client: Client, blob: str) -> None:
    wanted = "bytes=0-9"
    assert client.get(blob, range=wanted, if_range=f'"{DIGEST}"').status == 206
    for other in (f'"{ABSENT}"', f'W/"{DIGEST}"', "Wed, 21 Oct 2015 07:28:00 GMT"):
        answer = client.get(blob, range=wanted, if_range=other)
        assert (answer.status, answer.body) == (200, DATA)


# --- conditions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [f'"{DIGEST}"', f'W/"{DIGEST}"', f'"x", "{DIGEST}"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match(client: Client, blob: str, known: str, method: str) -> None:
    answer = client.request(method, blob, headers={"If-None-Match": known, "Range": "bytes=0-1"})
    assert (answer.status, answer.body, answer["etag"]) == (304, b"", f'"{DIGEST}"')
    assert "content-length" not in answer


@pytest.mark.parametrize("known", [f'"{ABSENT}"', '""', "", "x"])
def test_if_none_match_of_something_else(client: Client, blob: str, known: str) -> None:
    assert client.get(blob, if_none_match=known).body == DATA


def test_not_modified_is_not_told_of_what_is_not_here(client: Client, repository: str) -> None:
    assert client.get(f"/v2/{repository}/blobs/{ABSENT}", if_none_match=f'"{ABSENT}"').status == 404
    assert client.get(f"/v2/{repository}/blobs/{ABSENT}", if_none_match="*").status == 404


# --- deletes ----------------------------------------------------------------------------------------------------------


def test_a_delete_counts_at_once(client: Client, repository: str, blob: str) -> None:
    other = f"{repository}/other"
    push_blob(client, other, DATA)
    answer = client.delete(blob)
    assert (answer.status, answer.body) == (202, b"")
    for method in ("GET", "HEAD", "DELETE"):
        assert client.request(method, blob).status == 404
    assert client.get(f"/v2/{other}/blobs/{DIGEST}").body == DATA
    # Through another repository it does not come back (CVE-2026-35172); by pushing it does.
    assert client.get(blob).status == 404
    push_blob(client, repository, DATA)
    assert client.get(blob).body == DATA


def test_a_delete_of_what_a_manifest_names(client: Client, repository: str) -> None:
    manifest = push_image(client, repository, "v1", DATA, config=b"{}")
    for digest in (DIGEST, digest_of(b"{}")):
        answer = client.delete(f"/v2/{repository}/blobs/{digest}")
        assert (answer.status, answer.error) == (405, "UNSUPPORTED")
        assert manifest.digest in answer.sentence
    assert client.delete(f"/v2/{repository}/manifests/{manifest.digest}").status == 202
    assert client.delete(f"/v2/{repository}/blobs/{DIGEST}").status == 202


def test_a_manifest_is_not_deleted_as_a_blob(client: Client, repository: str) -> None:
    manifest = push_image(client, repository, "v1", DATA)
    push_manifest(client, repository, index([manifest]), "all")
    for digest in (manifest.digest, index([manifest]).digest):
        assert client.delete(f"/v2/{repository}/blobs/{digest}").status == 405
    assert client.get(f"/v2/{repository}/manifests/v1").status == 200


def test_a_blob_that_another_manifest_needs_too(client: Client, repository: str) -> None:
    first = push_image(client, repository, "v1", DATA)
    second = image(b"{}", [DATA], annotations={"a": "b"})
    push_manifest(client, repository, second, "v2")
    assert client.delete(f"/v2/{repository}/manifests/{first.digest}").status == 202
    assert client.delete(f"/v2/{repository}/blobs/{DIGEST}").status == 405
    assert client.delete(f"/v2/{repository}/manifests/{second.digest}").status == 202
    assert client.delete(f"/v2/{repository}/blobs/{DIGEST}").status == 202
