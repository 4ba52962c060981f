"""Fixtures that every test may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Homeport


@pytest.fixture
def homeport(tmp_path: Path) -> Iterator[Homeport]:
    """A server process that is not started yet: `homeport.start(...)`. Ended with the test."""
    folder = tmp_path / "homeport"
    folder.mkdir()
    server = Homeport(folder)
    yield server
    server.kill()
