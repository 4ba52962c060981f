"""Why a connection failed: those who decide what to do next tell these apart."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from yarl import URL

from homeport.client.errors import Cause, ConnectionFailed
from homeport.client.settings import ClientSettings
from homeport.client.transport import Request, Transport
from tests.client.clocks import QuickClock
from tests.client.servers import free_port


@contextmanager
def black_hole() -> Iterator[str]:
    """An address that takes no further connection and refuses none: HOST:PORT."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        queued = [socket.socket() for _ in range(2)]
        try:
            for one in queued:
                one.setblocking(False)
                one.connect_ex(server.getsockname())
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            for one in queued:
                one.close()


async def cause_of(transport: Transport, host: str) -> Cause:
    with pytest.raises(ConnectionFailed) as failure:
        await transport.fetch(Request("GET", URL(f"http://{host}/")), bytes_max=100)
    return failure.value.cause


async def test_causes_are_told_apart(clock: QuickClock) -> None:
    settings = ClientSettings(connect_seconds=0.5, silence_seconds=0.5)
    async with Transport(settings, clock) as transport:
        assert await cause_of(transport, "nowhere.invalid") is Cause.NAME_NOT_FOUND
        assert await cause_of(transport, f"127.0.0.1:{free_port()}") is Cause.REFUSED
        assert await cause_of(transport, f"localhost:{free_port()}") is Cause.REFUSED
        with black_hole() as host:
            assert await cause_of(transport, host) is Cause.TIMED_OUT
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            assert await cause_of(transport, f"127.0.0.1:{silent.getsockname()[1]}") is Cause.TIMED_OUT
