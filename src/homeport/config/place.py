"""Where the data folder is, without the other settings: who asks a server that runs for something needs no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from homeport.config.document import read
from homeport.config.errors import ConfigError

#: The folder where nothing says another one.
DATA_FOLDER: Final = "homeport-data"
_VARIABLE: Final = "HOMEPORT_DATA"


def parse_path(value: Any) -> Path:
    """A path. Raises `ValueError`."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a path")
    if value.startswith("~"):
        raise ValueError("must be a path as it stands on disk; '~' is the shell's")
    return Path(value)


def data_folder(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The data folder that `load` would give, of the file at `path` (None: of no file) under `environ`.

    None where that is not plain, or wrong: then `load` tells.
    """
    if f"{_VARIABLE}_FILE" in environ:
        return None
    try:
        value = environ.get(_VARIABLE) or (DATA_FOLDER if path is None else _of_file(path))
        return parse_path(value)
    except (ConfigError, ValueError):
        return None


def _of_file(path: Path) -> Any:
    tree = read(path).value
    return tree.get("data", DATA_FOLDER) if isinstance(tree, dict) else None
