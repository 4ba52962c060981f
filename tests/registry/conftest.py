"""The kinds of world."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.garbage.cleaning import Cleaning
from tests.registry.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The facts in memory."""
    world = World(tmp_path / "data")
    yield world
    await world.close()


@pytest.fixture
async def durable(tmp_path: Path) -> AsyncIterator[World]:
    """The facts in a file, so that `restart` finds them again."""
    (tmp_path / "data").mkdir()
    world = World(tmp_path / "data", tmp_path / "data/homeport.db")
    yield world
    await world.close()


@pytest.fixture
async def cleaning(tmp_path: Path) -> AsyncIterator[Cleaning]:
    """One that cleans up when it is told to."""
    found = Cleaning(tmp_path / "data")
    assert await found.guard.stopped() is None
    yield found
    await found.close()
