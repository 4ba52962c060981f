"""Servers for these tests, each started once, and a repository of its own for each test."""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.http.bad import DIGEST, HELD, LAYER, WATCHED
from tests.http.images import push_image
from tests.http.watching import eventually, files, log_lines
from tests.http.wire import Client
from tests.support.processes import Config, Homeport

OPEN: Config = {
    "access": {"anonymous": ["pull", "push", "delete"]},
    "repositories": {"sparse": ["sparse/**"]},
    "storage": {"reserve_bytes": 0, "reserve_percent": 0},
}

_numbers = count(1)


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeport]:
    """A server on which anybody may do everything, so that a test is about what it is about."""
    server = Homeport(tmp_path_factory.mktemp("open"))
    server.start(OPEN)
    yield server
    server.stop()


@pytest.fixture
def client(open_server: Homeport) -> Client:
    """Nobody in particular, at the open server."""
    return Client(open_server.url)


@pytest.fixture
def repository() -> str:
    """A repository that no other test uses and that is not there yet."""
    return f"test/r{next(_numbers)}"


@pytest.fixture(scope="session")
def watched_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeport]:
    """A server that is sent bad input. Look at it through `watched`."""
    server = Homeport(tmp_path_factory.mktemp("watched"))
    server.start(WATCHED)
    push_image(Client(server.url), HELD, "v1", LAYER, config=b"{}")
    yield server
    server.stop()
    _check_log(server)


@pytest.fixture
def watched(watched_server: Homeport) -> Iterator[Client]:
    """Nobody in particular, at a server that must be as it was when the test is over: same files, no fault, alive."""
    before, read = files(watched_server.data), len(watched_server.log)
    client = Client(watched_server.url)
    yield client
    assert client.get("/healthz").status == client.get("/readyz").status == 200
    assert client.get(f"/v2/{HELD}/blobs/{DIGEST}").body == LAYER
    assert eventually(lambda: files(watched_server.data) == before), files(watched_server.data).keys() ^ before.keys()
    _check_log(watched_server, read)


def _check_log(server: Homeport, after: int = 0) -> None:
    for line in log_lines(server, after):
        assert line["level"] not in {"warning", "error"}, line
        assert line.get("status", 0) < 500, line
