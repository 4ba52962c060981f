"""Values are handed to statements some at a time, each once and in their order."""

from __future__ import annotations

import pytest

from homeport.db import batches
from homeport.db.batches import VALUES_MAX


@pytest.mark.parametrize("count", [0, 1, VALUES_MAX, VALUES_MAX + 1, 3 * VALUES_MAX])
def test_each_value_once_with_a_mark_for_it(count: int) -> None:
    found = list(batches.of(iter(range(count))))
    assert [value for some, _ in found for value in some] == list(range(count))
    assert all(1 <= len(some) <= VALUES_MAX and marks.split(",") == ["?"] * len(some) for some, marks in found)
