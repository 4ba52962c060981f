"""Fixtures of the client's tests: connections, and registries to talk to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from homeport.client.settings import ClientSettings, HostSettings
from homeport.client.transport import Transport
from tests.client.clocks import QuickClock
from tests.client.servers import DockerRegistry

#: Tests of what the two loops do in ways of their own: the program has uvloop, most tests have asyncio's.
BOTH_LOOPS = frozenset({"test_engines.py", "test_programs.py", "test_proxy.py", "test_transport.py"})


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """On which loops a test runs. uvloop does not ask `names`, but the system itself."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in BOTH_LOOPS and "names" not in getattr(item, "fixturenames", ()):
        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture
def clock() -> QuickClock:
    return QuickClock()


@pytest.fixture
async def transport(clock: QuickClock) -> AsyncIterator[Transport]:
    """127.0.0.2 is another host, which one that we talk to may send us to."""
    async with Transport(ClientSettings(hosts={"127.0.0.2": HostSettings()}), clock) as transport:
        yield transport


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """Open to everybody, over plain http."""
    folder = tmp_path / "docker-registry"
    folder.mkdir()
    registry = DockerRegistry.start(folder)
    yield registry
    registry.stop()


@pytest.fixture
def private_docker_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """With a login (Basic) and TLS."""
    folder = tmp_path / "private-docker-registry"
    folder.mkdir()
    registry = DockerRegistry.start(folder, login=True, tls=True)
    yield registry
    registry.stop()
