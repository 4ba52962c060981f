"""A registry on a disk, its sweeper, and a clock that can be put forward."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.garbage.cleaning import Cleaning


@pytest.fixture
async def cleaning(tmp_path: Path) -> AsyncIterator[Cleaning]:
    """A world that cleans up when it is told to."""
    found = Cleaning(tmp_path / "data")
    assert await found.guard.stopped() is None
    yield found
    await found.close()
