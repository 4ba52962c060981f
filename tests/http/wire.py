"""HTTP as bytes: what these tests send is exactly what they say, and what they look at is exactly what came.

Not a client for anything else: no redirects, no retries, nothing is decoded or normalised, and an answer that is not
well-formed HTTP fails the test that asked.
"""

import base64
import json
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

SECONDS_MAX = 20.0

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """One answer. Names of headers are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """The header of this name, which must be there once."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) == 1, f"{len(values)} headers {name}: {self}"
        return values[0]

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self.headers)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The code of the error that it tells, after a look at the form in which it is told."""
        assert self["content-type"] == "application/json", self
        assert set(self.json) == {"errors"}, self
        (told,) = self.json["errors"]
        assert {"code", "message"} <= set(told) <= {"code", "message", "detail"}, self
        assert told["message"].endswith(".") or told["message"][-1].isprintable(), self
        assert len(told["message"].split()) > 3, f"not a sentence: {self}"
        code: str = told["code"]
        return code

    @property
    def sentence(self) -> str:
        """What the error says to people: the message, and the detail where it has one."""
        (told,) = self.json["errors"]
        return f"{told['message']} {told.get('detail', '')}"


class Connection:
    """One TCP connection, with TLS on it where the URL says so."""

    def __init__(self, url: str, ca: Path | None = None, seconds: float = SECONDS_MAX) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.host = parts.netloc
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca)
            self.socket = context.wrap_socket(self.socket, server_hostname=parts.hostname)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, method: str = "GET") -> Answer:
        """The next answer, which is one to `method`. Raises `ConnectionError` where there is none."""
        line = self._stream.readline()
        if not line:
            raise ConnectionResetError("the server closed the connection without an answer")
        assert line.startswith(b"HTTP/1.1 "), line
        status = int(line[9:12])
        headers = []
        while (line := self._stream.readline()) not in {b"\r\n", b""}:
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon, line
            headers.append((name.lower(), value.strip()))
        answer = Answer(status, tuple(headers), b"")
        if method == "HEAD" or status in {204, 304} or status < 200:
            return answer
        return replace(answer, body=self._body(answer))

    def ended(self) -> bool:
        """Whether the server closes the connection without a byte more."""
        try:
            return self._stream.read(1) == b""
        except ConnectionError:
            return True

    def _body(self, answer: Answer) -> bytes:
        if "content-length" in answer:
            length = int(answer["content-length"])
            body = self._stream.read(length)
            if len(body) != length:
                raise ConnectionResetError(f"the body ended after {len(body)} of {length} bytes")
            return body
        if answer["transfer-encoding"] != "chunked":
            raise AssertionError(f"a body without a length: {answer}")
        parts = []
        while size := int(self._stream.readline(), 16):
            parts.append(self._stream.read(size))
            self._stream.readline()
        self._stream.readline()
        return b"".join(parts)

    def request(
        self, method: str, target: str, body: bytes | Iterable[bytes] | None = None, headers: Headers | None = None
    ) -> Answer:
        self.send(compose(self.host, method, target, body, headers or {}))
        return self.receive(method)


def compose(host: str, method: str, target: str, body: bytes | Iterable[bytes] | None, headers: Headers) -> bytes:
    """A request as bytes. A body of bytes is announced with its length, one of many parts is sent in chunks."""
    given = {name.lower() for name in headers}
    fields = dict(headers)
    data = b""
    if "host" not in given:
        fields["Host"] = host
    if isinstance(body, bytes):
        if not {"content-length", "transfer-encoding"} & given:
            fields["Content-Length"] = str(len(body))
        data = body
    elif body is not None:
        fields["Transfer-Encoding"] = "chunked"
        data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in body if part) + b"0\r\n\r\n"
    head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + data


@dataclass(frozen=True)
class Client:
    """Somebody who sends requests to one server, each on a connection of its own."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    ca: Path | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def basic(self, user: str, password: str) -> "Client":
        """The same server, asked by this user."""
        text = base64.b64encode(f"{user}:{password}".encode()).decode()
        return replace(self, authorization=f"Basic {text}")

    def bearer(self, token: str) -> "Client":
        return replace(self, authorization=f"Bearer {token}")

    def nobody(self) -> "Client":
        return replace(self, authorization=None)

    def connect(self, seconds: float = SECONDS_MAX) -> Connection:
        return Connection(self.url, self.ca, seconds)

    def request(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Headers | None = None,
    ) -> Answer:
        fields = dict(headers or {})
        if self.authorization is not None and "Authorization" not in fields:
            fields["Authorization"] = self.authorization
        with self.connect() as connection:
            return connection.request(method, target, body, fields)

    def raw(self, data: bytes, method: str = "GET", seconds: float = SECONDS_MAX) -> Answer:
        """The answer to exactly these bytes."""
        with self.connect(seconds) as connection:
            connection.send(data)
            return connection.receive(method)

    def get(self, target: str, **headers: str) -> Answer:
        return self.request("GET", target, headers=_dashed(headers))

    def head(self, target: str, **headers: str) -> Answer:
        return self.request("HEAD", target, headers=_dashed(headers))

    def post(self, target: str, body: bytes | Iterable[bytes] = b"", **headers: str) -> Answer:
        return self.request("POST", target, body, _dashed(headers))

    def patch(self, target: str, body: bytes | Iterable[bytes] = b"", **headers: str) -> Answer:
        return self.request("PATCH", target, body, _dashed(headers))

    def put(self, target: str, body: bytes | Iterable[bytes] = b"", **headers: str) -> Answer:
        return self.request("PUT", target, body, _dashed(headers))

    def delete(self, target: str, **headers: str) -> Answer:
        return self.request("DELETE", target, headers=_dashed(headers))


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    """`content_type="x"` as a header."""
    return {name.replace("_", "-").title(): value for name, value in headers.items()}
