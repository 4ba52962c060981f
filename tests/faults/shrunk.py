"""Homeport with graces of about a second, where no setting allows less than an hour: what the soak runs.

`python tests/faults/shrunk.py up …` takes the words that `homeport` does.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any, Final
from unittest import mock

from homeport.__main__ import main
from homeport.app import core
from homeport.config.settings import Settings
from homeport.garbage import sweep, walk
from homeport.registry import reviews, standing, uploads
from homeport.registry.registry import Rules

GRACES: Final[dict[str, Any]] = {
    "hold_seconds": 5.0,  # Longer than a busy machine needs to take a blob in.
    "keep_seconds": 1.5,
    "keep_renewal_seconds": 0.5,
    "grace_seconds": 1.0,
    "untagged_seconds": 1.0,
    "condemned_seconds": 1.0,
    "uploads_seconds": 6.0,  # Longer than it takes to start again and go on.
    "trash_seconds": 2.0,
    "jitter_seconds": 0.2,
    "moving_seconds": 1.0,
}
#: How often is looked, and how much rest there is meanwhile.
PACES: Final[list[tuple[ModuleType, dict[str, float]]]] = [
    (sweep, {"IDLE_SECONDS": 0.1, "PAUSE_BUSY": 2.0}),
    (walk, {"FIRST_SECONDS": 0.5, "WALK_SECONDS": 1.0}),
    (standing, {"RECHECK_SECONDS": 0.5}),
    (reviews, {"RETRY_SECONDS": 0.5}),
    (uploads, {"MOVED_SECONDS": 0.3}),
]
RULES: Final = Rules(**GRACES)
#: For so long a client may rely on what it was told last: a promise that was renewed just before is not renewed again.
RELIABLE_SECONDS: Final = RULES.keep_seconds - RULES.keep_renewal_seconds


@contextmanager
def shrunk() -> Iterator[None]:
    """Within the block this process goes by the graces of above."""
    rules_of = core.rules_of

    def shrunk_rules_of(settings: Settings) -> Rules:
        return replace(rules_of(settings), **GRACES)

    with mock.patch.object(core, "rules_of", shrunk_rules_of):
        before = [(module, {name: getattr(module, name) for name in paces}) for module, paces in PACES]
        _set(PACES)
        try:
            yield
        finally:
            _set(before)


def _set(paces: list[tuple[ModuleType, dict[str, float]]]) -> None:
    for module, values in paces:
        for name, value in values.items():
            setattr(module, name, value)


if __name__ == "__main__":
    with shrunk():
        sys.exit(main())
