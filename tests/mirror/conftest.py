"""Registries to bring images into."""

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
async def cleaning(tmp_path: Path) -> AsyncIterator[Cleaning]:
    """One that cleans up when it is told to."""
    cleaning = Cleaning(tmp_path / "data")
    yield cleaning
    await cleaning.close()
