"""Servers for these tests, each started once, and a repository of its own for each test."""

from collections.abc import Iterator
from itertools import count

import pytest

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
