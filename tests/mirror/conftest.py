"""Registries to bring images into."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.garbage.cleaning import Cleaning
from tests.mirror.artifacts import Artifacts
from tests.mirror.caching import Caching
from tests.mirror.mirroring import Mirroring
from tests.mirror.upstream import Upstream
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


@pytest.fixture
async def mirroring(tmp_path: Path) -> AsyncIterator[Mirroring]:
    """One that mirrors when it is told to."""
    mirroring = Mirroring(tmp_path / "data")
    await mirroring.connect()
    yield mirroring
    await mirroring.close()


@pytest.fixture
async def caching(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Caching]:
    """One that caches the upstream."""
    async with Caching.running(tmp_path / "data", upstream) as caching:
        yield caching


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A registry that does what the test's script says."""
    async with Upstream.running() as upstream:
        yield upstream


@pytest.fixture
def artifacts() -> Artifacts:
    """What upstreams hold."""
    return Artifacts()
