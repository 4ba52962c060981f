"""TLS from certificate files, which may be replaced while the server runs."""

import ssl
from pathlib import Path

import pytest

from tests.http.images import push_blob
from tests.http.watching import eventually, log_lines
from tests.http.wire import Client, Connection
from tests.support.certificates import Authority, ServerCertificate
from tests.support.processes import Homeport

#: More than the socket's buffers hold, so that a download is under way while it is not read.
DATA = bytes(range(256)) * 256 * 256


def serial(client: Client) -> str:
    """The number of the certificate that a new connection is shown.

    No connection is ever refused. One on which nothing was asked yet may be closed while the server is replaced, as any
    server may close one at any time (RFC 9112, section 9.5): clients ask again.
    """
    for _ in range(3):
        try:
            with client.connect() as connection:
                assert isinstance(connection.socket, ssl.SSLSocket)
                assert connection.request("GET", "/v2/").status == 200
                return str((connection.socket.getpeercert() or {})["serialNumber"])
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            continue
    raise AssertionError("closed three times")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def start(homeport: Homeport, files: ServerCertificate) -> Client:
    tls = {"certificate": str(files.certificate), "key": str(files.key)}
    homeport.start(
        {"server": {"tls": tls}, "access": {"anonymous": ["pull", "push", "delete"]}, "log": {"format": "json"}}
    )
    return Client(homeport.url, ca=files.ca)


def test_certificates_are_replaced_without_a_gap(homeport: Homeport, authority: Authority) -> None:
    client = start(homeport, authority.issue())
    before = serial(client)
    path = f"/v2/tls/app/blobs/{push_blob(client, 'tls/app', DATA)}"
    with Connection(client.url, client.ca) as old:
        old.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        authority.issue()
        # Every connection on the way is accepted, with the old certificate or with the new one.
        assert eventually(lambda: serial(client) != before, seconds=15)
        # What was begun under the old one goes on to its end.
        assert old.receive().body == DATA
    assert client.get(path).status == 200
    # The old server is let go only once the new one has shown that it lives.
    assert eventually(lambda: "certificate.reloaded" in homeport.log, seconds=15)
    homeport.stop()
    assert [line["level"] for line in log_lines(homeport) if line["event"] == "certificate.reloaded"] == ["info"]


def test_files_that_do_not_fit_together_are_waited_for(homeport: Homeport, authority: Authority) -> None:
    """Whoever replaces two files replaces one of them first."""
    files = authority.issue()
    client = start(homeport, files)
    before, old_key = serial(client), files.key.read_bytes()
    authority.issue()
    new_key = files.key.read_bytes()
    files.key.write_bytes(old_key)
    assert eventually(lambda: "certificate.waiting" in homeport.log, seconds=15)
    assert serial(client) == before
    files.key.write_bytes(new_key)
    assert eventually(lambda: serial(client) != before, seconds=15)
    assert not any("PRIVATE KEY" in line for line in homeport.log.splitlines())
    homeport.stop()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_versions(homeport: Homeport, authority: Authority, version: str) -> None:
    client = start(homeport, authority.issue())
    context = ssl.create_default_context(cafile=client.ca)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    with (
        Connection(client.url.replace("https:", "http:")) as connection,
        context.wrap_socket(connection.socket, server_hostname="127.0.0.1") as wrapped,
    ):
        assert wrapped.version() == version
    homeport.stop()


def test_what_speaks_no_tls_learns_nothing(homeport: Homeport, authority: Authority) -> None:
    client = start(homeport, authority.issue())
    with Connection(client.url.replace("https:", "http:")) as plain:
        plain.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert len(plain.socket.recv(1000)) <= 7  # At most a TLS alert.
    assert client.get("/v2/").status == 200
    homeport.stop()
