"""The environment of this process, which nothing else reads."""

from __future__ import annotations

import os
from collections.abc import Mapping


def process_environment() -> Mapping[str, str]:
    """The environment that this process was started with."""
    return dict(os.environ)
