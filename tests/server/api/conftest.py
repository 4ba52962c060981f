"""A world for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.api.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.open()
    yield made
    await made.close()
