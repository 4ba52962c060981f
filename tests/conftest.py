"""Fixtures that every test may ask for."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Homeport

# Whoever starts the tests in the background of a shell has Ctrl-C ignored, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def homeport(tmp_path: Path) -> Iterator[Homeport]:
    """A server process that is not started yet: `homeport.start(...)`. Ended with the test."""
    folder = tmp_path / "homeport"
    folder.mkdir()
    server = Homeport(folder)
    yield server
    server.kill()
