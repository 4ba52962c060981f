"""Real programs that tests run against: found by name, never silently left out.

`scripts/test-setup` gets them, `scripts/tool` says where they are. With CI=true a missing one is a failure.
"""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]


class MissingComponentError(Exception):
    """A real program that the tests need is not on this machine."""


@cache
def find(name: str) -> Path:
    """The program's path, or MissingComponentError with one line that says how to get it."""
    found = subprocess.run([ROOT / "scripts/tool", name], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise MissingComponentError(found.stderr.strip())
    return Path(found.stdout.strip())


def need(name: str) -> Path:
    """The program's path. Where it is missing the test is skipped with one line, or with CI=true fails."""
    try:
        return find(name)
    except MissingComponentError as missing:
        _give_up(str(missing))


def need_root() -> None:
    """Docker's engine, containerd and mounts need root: skip, or fail with CI=true, where we are not."""
    if os.geteuid() != 0:
        _give_up("needs root")


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
