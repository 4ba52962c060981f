"""A small file that is replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, text: str) -> None:
    """Let the file have this text: readers see all of the old or all of the new, also after a power cut.

    Raises `OSError`.
    """
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read(path: Path) -> str | None:
    """The text of the file; None where there is none. Raises `OSError`."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
