"""A small client for what is not timed: putting things in place, and checking that answers are right."""

import base64
import hashlib
import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from bench.errors import UnexpectedAnswerError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
ARCHITECTURES = ("amd64", "arm64", "ppc64le", "s390x")
# What clients send, so that no server has to convert or refuse.
ACCEPT = (
    f"{MANIFEST_TYPE}, {INDEX_TYPE}, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(
    address: str,
    method: str,
    target: str,
    *,
    expect: int,
    authorization: str = "",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        sent = dict(headers or {})
        if authorization:
            sent["Authorization"] = authorization
        connection.request(method, target, body or None, sent)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
    if answer.status != expect:
        raise UnexpectedAnswerError(f"{method} {target}: {answer.status}, not {expect}: {answer.body[:600]!r}")
    return answer


def basic(user: str, password: str) -> str:
    """The Authorization header of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(address: str, user: str, password: str, scopes: tuple[str, ...]) -> str:
    """The Authorization header of a token for these scopes, from the server's token endpoint."""
    query = urlencode([("service", "homeport"), *(("scope", scope) for scope in scopes)])
    answer = ask(address, "GET", f"/token?{query}", expect=200, authorization=basic(user, password))
    return "Bearer " + str(json.loads(answer.body)["token"])


def digest_of(data: bytes) -> str:
    """The digest that names these bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def push_blob(address: str, authorization: str, repository: str, data: bytes) -> str:
    """Pushes a blob in two requests and returns its digest."""
    target = f"/v2/{repository}/blobs/uploads/"
    start = ask(address, "POST", target, expect=202, authorization=authorization)
    location = urlsplit(start.headers["Location"])
    query = "&".join(filter(None, [location.query, urlencode({"digest": digest_of(data)})]))
    ask(
        address,
        "PUT",
        f"{location.path}?{query}",
        expect=201,
        authorization=authorization,
        body=data,
        headers={"Content-Type": "application/octet-stream"},
    )
    return digest_of(data)


def config_of(note: str) -> bytes:
    """The config of an image; the note makes it one of its own."""
    return json.dumps({"architecture": "amd64", "os": "linux", "author": note}).encode()


def manifest_of(config: bytes, layers: list[bytes], note: str) -> bytes:
    """A manifest of these blobs; the note makes it one of its own."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": digest_of(config)},
            "layers": [{"mediaType": LAYER_TYPE, "size": len(data), "digest": digest_of(data)} for data in layers],
            "annotations": {"org.opencontainers.image.description": note},
        }
    ).encode()


def index_of(manifests: list[bytes], note: str) -> bytes:
    """An index of these manifests, each for a platform of its own."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [
                {
                    "mediaType": MANIFEST_TYPE,
                    "size": len(manifest),
                    "digest": digest_of(manifest),
                    "platform": {"os": "linux", "architecture": architecture},
                }
                for architecture, manifest in zip(ARCHITECTURES, manifests, strict=True)
            ],
            "annotations": {"org.opencontainers.image.description": note},
        }
    ).encode()
