"""Pushing blobs: end-4a to end-6, end-11, end-13 and end-14 of the distribution-spec, as its text has them and as
clients send them."""

import re
from collections.abc import Callable

import pytest

from tests.http.images import begin_upload, digest_of, push_blob
from tests.http.watching import eventually
from tests.http.wire import Answer, Client, compose

DATA = bytes(range(256)) * 20
DIGEST = digest_of(DATA)
ABSENT = digest_of(b"absent")
ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


def is_here(client: Client, repository: str, data: bytes, algorithm: str = "sha256") -> bool:
    digest = digest_of(data, algorithm)
    got = client.get(f"/v2/{repository}/blobs/{digest}")
    head = client.head(f"/v2/{repository}/blobs/{digest}")
    if got.status == head.status == 200:
        assert got["docker-content-digest"] == head["docker-content-digest"] == digest
        assert head["content-length"] == str(len(data))
        return got.body == data
    assert got.status == head.status == 404
    return False


def is_created(answer: Answer, repository: str, digest: str) -> bool:
    assert answer["location"] == f"/v2/{repository}/blobs/{digest}", answer
    assert answer["docker-content-digest"] == digest
    return (answer.status, answer.body, answer["content-length"]) == (201, b"", "0")


def is_session(answer: Answer, repository: str, received: int, status: int) -> bool:
    """Whether the answer describes a session that has received so many bytes."""
    upload = re.fullmatch(rf"/v2/{repository}/blobs/uploads/([0-9a-f]+)", answer["location"])
    assert upload, answer
    assert answer["docker-upload-uuid"] == upload[1]
    return (answer.status, answer["range"]) == (status, f"0-{max(received - 1, 0)}")


# --- ways to push -----------------------------------------------------------------------------------------------------


def _in_one_request(client: Client, repository: str, data: bytes, digest: str) -> Answer:
    return client.post(f"/v2/{repository}/blobs/uploads/?digest={digest}", data)


def _in_one_chunked_request(client: Client, repository: str, data: bytes, digest: str) -> Answer:
    return client.post(f"/v2/{repository}/blobs/uploads/?digest={digest}", [data[:100], data[100:]])


def _post_and_put(client: Client, repository: str, data: bytes, digest: str) -> Answer:
    location = begin_upload(client, repository)
    return client.put(f"{location}?digest={digest}", data, content_type="application/octet-stream")


def _post_and_chunked_put(client: Client, repository: str, data: bytes, digest: str) -> Answer:
    return client.put(f"{begin_upload(client, repository)}?digest={digest}", [data])


def _as_docker(client: Client, repository: str, data: bytes, digest: str) -> Answer:
    """POST, a PATCH in chunked encoding with neither length nor range, an empty PUT."""
    location = begin_upload(client, repository)
    answer = client.patch(location, [data[:7], data[7:1000], data[1000:]])
    assert is_session(answer, repository, len(data), 202)
    return client.put(f"{answer['location']}?digest={digest}")


def _as_podman(client: Client, repository: str, data: bytes, digest: str) -> Answer:
    """POST, a PATCH with a length, an empty PUT."""
    answer = client.patch(begin_upload(client, repository), data, content_type="application/octet-stream")
    return client.put(f"{answer['location']}?digest={digest}")


def _in_chunks(client: Client, repository: str, data: bytes, digest: str) -> Answer:
    location = begin_upload(client, repository)
    for start in range(0, len(data), 2000):
        part = data[start : start + 2000]
        answer = client.patch(location, part, content_range=f"{start}-{start + len(part) - 1}")
        assert is_session(answer, repository, start + len(part), 202)
        location = answer["location"]
    return client.put(f"{location}?digest={digest}")


def _in_chunks_with_the_last_in_the_put(client: Client, repository: str, data: bytes, digest: str) -> Answer:
    location = begin_upload(client, repository)
    half = len(data) // 2
    if half:
        location = client.patch(location, data[:half], content_range=f"0-{half - 1}")["location"]
    last = f"{half}-{max(len(data) - 1, half)}"
    return client.put(f"{location}?digest={digest}", data[half:], content_range=last)


WAYS = pytest.mark.parametrize(
    "way",
    [
        _in_one_request,
        _in_one_chunked_request,
        _post_and_put,
        _post_and_chunked_put,
        _as_docker,
        _as_podman,
        _in_chunks,
        _in_chunks_with_the_last_in_the_put,
    ],
    ids=lambda way: way.__name__.strip("_"),
)
Way = Callable[[Client, str, bytes, str], Answer]


@WAYS
@ALGORITHMS
@pytest.mark.parametrize("data", [DATA, b"{}", b""], ids=["data", "two-bytes", "no-bytes"])
def test_every_way(client: Client, repository: str, way: Way, algorithm: str, data: bytes) -> None:
    digest = digest_of(data, algorithm)
    assert not is_here(client, repository, data, algorithm)
    assert is_created(way(client, repository, data, digest), repository, digest)
    assert is_here(client, repository, data, algorithm)
    # Once more, now that it is here.
    assert is_created(way(client, repository, data, digest), repository, digest)
    assert is_here(client, repository, data, algorithm)


@WAYS
@ALGORITHMS
def test_the_wrong_digest_in_every_way(client: Client, repository: str, way: Way, algorithm: str) -> None:
    answer = way(client, repository, DATA, digest_of(b"other", algorithm))
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")
    assert digest_of(DATA, algorithm) in answer.sentence
    assert not is_here(client, repository, DATA, algorithm)
    assert not is_here(client, repository, b"other", algorithm)


@ALGORITHMS
def test_the_algorithm_can_be_told_ahead(client: Client, repository: str, algorithm: str) -> None:
    """end-4c."""
    answer = client.post(f"/v2/{repository}/blobs/uploads/?digest-algorithm={algorithm}")
    assert is_session(answer, repository, 0, 202)
    answer = client.patch(answer["location"], DATA)
    digest = digest_of(DATA, algorithm)
    assert is_created(client.put(f"{answer['location']}?digest={digest}"), repository, digest)


@pytest.mark.parametrize("algorithm", ["md5", "sha384", "", "SHA256", "sha256%00"])
def test_an_algorithm_that_is_not_known(client: Client, repository: str, algorithm: str) -> None:
    answer = client.post(f"/v2/{repository}/blobs/uploads/?digest-algorithm={algorithm}")
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")
    assert "sha512" in answer.sentence


def test_a_blob_in_both_algorithms(client: Client, repository: str) -> None:
    push_blob(client, repository, DATA, "sha512")
    assert not is_here(client, repository, DATA, "sha256")
    push_blob(client, repository, DATA, "sha256")
    assert is_here(client, repository, DATA, "sha512")
    assert is_here(client, repository, DATA, "sha256")


# --- the session ------------------------------------------------------------------------------------------------------


def test_a_session_from_begin_to_end(client: Client, repository: str) -> None:
    answer = client.post(f"/v2/{repository}/blobs/uploads/")
    assert is_session(answer, repository, 0, 202)
    assert answer["content-length"] == "0"
    location = answer["location"]
    assert is_session(client.get(location), repository, 0, 204)
    assert is_session(client.patch(location, DATA[:10]), repository, 10, 202)
    for method in ("GET", "HEAD"):
        answer = client.request(method, location)
        assert is_session(answer, repository, 10, 204)
        assert "content-length" not in answer
    assert is_created(client.put(f"{location}?digest={DIGEST}", DATA[10:]), repository, DIGEST)
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = client.request(method, f"{location}?digest={DIGEST}", b"")
        assert (answer.status, answer.error) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_where_a_session_begins_the_slash_may_be_missing(client: Client, repository: str) -> None:
    assert is_session(client.post(f"/v2/{repository}/blobs/uploads"), repository, 0, 202)


def test_parameters_of_the_location_are_kept_and_harmless(client: Client, repository: str) -> None:
    location = begin_upload(client, repository)
    assert is_session(client.get(f"{location}?digest={DIGEST}&_state=abc"), repository, 0, 204)
    assert is_created(client.put(f"{location}?_state=a%2Bb&digest={DIGEST}", DATA), repository, DIGEST)


def test_cancelling(client: Client, repository: str) -> None:
    """end-14."""
    location = begin_upload(client, repository)
    assert client.patch(location, DATA).status == 202
    answer = client.delete(location)
    assert (answer.status, answer.body) == (204, b"")
    for method in ("GET", "DELETE", "PATCH"):
        answer = client.request(method, location, b"x" if method == "PATCH" else None)
        assert (answer.status, answer.error) == (404, "BLOB_UPLOAD_UNKNOWN")


def _refused_in_order(client: Client, repository: str, answer: Answer, received: int) -> None:
    assert (answer.status, answer.error) == (416, "BLOB_UPLOAD_INVALID")
    assert is_session(answer, repository, received, 416)
    assert str(received) in answer.sentence


@pytest.mark.parametrize("received", [0, 1000])
@pytest.mark.parametrize("start", [-1000, 1, 1000])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_out_of_order(client: Client, repository: str, received: int, start: int, method: str) -> None:
    """416 says where to go on, and the session goes on from there."""
    if received + start < 0:
        return
    location = begin_upload(client, repository)
    if received:
        assert client.patch(location, DATA[:received], content_range=f"0-{received - 1}").status == 202
    first = received + start
    target = f"{location}?digest={DIGEST}"
    answer = client.request(method, target, DATA[first:], {"Content-Range": f"{first}-{len(DATA) - 1}"})
    _refused_in_order(client, repository, answer, received)
    assert is_session(client.get(target), repository, received, 204)
    rest = client.request(method, target, DATA[received:], {"Content-Range": f"{received}-{len(DATA) - 1}"})
    if method == "PATCH":
        assert is_session(rest, repository, len(DATA), 202)
        rest = client.put(target)
    assert is_created(rest, repository, DIGEST)
    assert is_here(client, repository, DATA)


@pytest.mark.parametrize("header", ["0-9", "bytes 0-9/*", "bytes=0-9", "0-9/10"])
def test_how_clients_write_a_content_range(client: Client, repository: str, header: str) -> None:
    answer = client.patch(begin_upload(client, repository), DATA[:10], content_range=header)
    assert is_session(answer, repository, 10, 202)


@pytest.mark.parametrize(("header", "body"), [("0-9", b"123"), ("0-1", b"123"), ("0-2", b"12345")])
def test_a_range_and_a_length_that_disagree(client: Client, repository: str, header: str, body: bytes) -> None:
    location = begin_upload(client, repository)
    answer = client.patch(location, body, content_range=header)
    assert (answer.status, answer.error) == (400, "SIZE_INVALID")
    assert is_session(client.get(location), repository, 0, 204)


def test_a_range_and_chunks_that_disagree(client: Client, repository: str) -> None:
    location = begin_upload(client, repository)
    for parts in ([b"123"], [b"12345", b"6"]):
        answer = client.patch(location, parts, content_range="0-4")
        assert (answer.status, answer.error) in {(400, "SIZE_INVALID"), (416, "BLOB_UPLOAD_INVALID")}
    assert client.delete(location).status == 204


@pytest.mark.parametrize(
    ("query", "code"), [("", "DIGEST_INVALID"), ("?digest=", "DIGEST_INVALID"), ("?digest=x:y", "DIGEST_INVALID")]
)
def test_an_end_without_a_digest_can_be_put_right(client: Client, repository: str, query: str, code: str) -> None:
    location = begin_upload(client, repository)
    assert client.patch(location, DATA).status == 202
    answer = client.put(location + query)
    assert (answer.status, answer.error) == (400, code)
    assert is_created(client.put(f"{location}?digest={DIGEST}"), repository, DIGEST)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_upload_goes_on_where_it_stopped(client: Client, repository: str, chunked: bool) -> None:
    location = begin_upload(client, repository)
    with client.connect() as connection:
        if chunked:
            request = compose(client.host, "PATCH", location, [DATA[:1000]], {}).removesuffix(b"0\r\n\r\n")
        else:
            request = compose(client.host, "PATCH", location, DATA, {})[: -len(DATA) + 1000]
        connection.send(request)
    assert eventually(lambda: client.get(location)["range"] == "0-999")
    assert is_session(
        client.patch(location, DATA[1000:], content_range=f"1000-{len(DATA) - 1}"), repository, len(DATA), 202
    )
    assert is_created(client.put(f"{location}?digest={DIGEST}"), repository, DIGEST)


def test_a_newer_request_takes_over(client: Client, repository: str) -> None:
    """The older is most likely a connection that died without anybody's noticing."""
    data = DATA * 700
    location = begin_upload(client, repository)
    with client.connect() as old:
        old.send(compose(client.host, "PATCH", location, data, {})[:-100_000])
        assert eventually(lambda: client.get(location)["range"] != "0-0")
        answer = client.patch(location, b"x", content_range=f"{len(data)}-{len(data)}")
        received = int(answer["range"].removeprefix("0-")) + 1
        _refused_in_order(client, repository, answer, received)
        told = old.receive()
        assert (told.status, told.error) == (409, "BLOB_UPLOAD_INVALID")
    rest = client.put(
        f"{location}?digest={digest_of(data)}", data[received:], content_range=f"{received}-{len(data) - 1}"
    )
    assert is_created(rest, repository, digest_of(data))


# --- mounts -----------------------------------------------------------------------------------------------------------


@ALGORITHMS
def test_a_mount(client: Client, repository: str, algorithm: str) -> None:
    source, digest = f"{repository}/source", push_blob(client, f"{repository}/source", DATA, algorithm)
    answer = client.post(f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}")
    assert is_created(answer, repository, digest)
    assert is_here(client, repository, DATA, algorithm)
    # Each repository holds it for itself.
    assert client.delete(f"/v2/{source}/blobs/{digest}").status == 202
    assert is_here(client, repository, DATA, algorithm)


def test_a_mount_without_a_source(client: Client, repository: str) -> None:
    data = repository.encode() * 3
    digest = push_blob(client, f"{repository}/source", data)
    assert is_created(client.post(f"/v2/{repository}/blobs/uploads/?mount={digest}"), repository, digest)
    assert is_here(client, repository, data)


@pytest.mark.parametrize("source", ["", "&from=no/such", "&from=UPPER", "&from=", "&from=..%2F.."])
def test_a_mount_that_cannot_be_is_a_session(client: Client, repository: str, source: str) -> None:
    data = f"{repository} mounts nothing".encode()
    answer = client.post(f"/v2/{repository}/blobs/uploads/?mount={digest_of(data)}{source}")
    assert is_session(answer, repository, 0, 202)
    assert is_created(client.put(f"{answer['location']}?digest={digest_of(data)}", data), repository, digest_of(data))


def test_a_mount_from_itself(client: Client, repository: str) -> None:
    digest = push_blob(client, repository, DATA)
    assert is_created(
        client.post(f"/v2/{repository}/blobs/uploads/?mount={digest}&from={repository}"), repository, digest
    )


def test_a_mount_of_what_is_no_digest(client: Client, repository: str) -> None:
    answer = client.post(f"/v2/{repository}/blobs/uploads/?mount=x&from={repository}")
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")
