"""A registry on a disk, its sweeper, and a clock that can be put forward."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.garbage.cleaning import Cleaning, settle


@pytest.fixture
async def cleaning(tmp_path: Path) -> AsyncIterator[Cleaning]:
    """A world that cleans up when it is told to."""
    found = Cleaning(tmp_path / "data")
    await settle(found, found.guard)
    yield found
    await found.close()
