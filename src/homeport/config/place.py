"""Where the data folder is, without the other settings: who asks a server that runs for something needs no more.

Holds: the folder is told only where somebody said it in so many words, or said nothing at all. A slip, such as a
variable that no setting has, must not lead to another registry: of whatever may be one, `load` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from homeport.config.errors import ConfigError

#: What the variables of all settings begin with.
PREFIX: Final = "HOMEPORT_"
#: The folder where nothing says another one.
DATA_FOLDER: Final = "homeport-data"
_VARIABLE: Final = f"{PREFIX}DATA"


def parse_path(value: Any) -> Path:
    """A path. Raises `ValueError`."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a path")
    if value.startswith("~"):
        raise ValueError("must be a path as it stands on disk; '~' is the shell's")
    return Path(value)


def stamp(path: Path | None) -> str:
    """What the file looks like from outside: another text once somebody has written it anew. A mark of no file, too."""
    if path is None:
        return "no file"
    try:
        found = path.stat()
    except OSError:
        return "unreadable"
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def data_folder(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The data folder that `load` would give, of the file at `path` (None: of no file) under `environ`.

    None where that is not plain, or may be wrong: then `load` tells.
    """
    if f"{_VARIABLE}_FILE" in environ or not is_plain(path):
        return None
    said = environ.get(_VARIABLE)
    if not said and any(name.startswith(PREFIX) and name != _VARIABLE for name in environ):
        return None
    try:
        return parse_path(said or (DATA_FOLDER if path is None else _of_file(path)))
    except (ConfigError, ValueError):
        return None


def is_plain(path: Path | None) -> bool:
    """Whether the file is one that may be read twice; a pipe may not, and one that is not there is a slip."""
    try:
        return path is None or path.is_file()
    except OSError:
        return False


def _of_file(path: Path) -> Any:
    from homeport.config.document import read

    tree = read(path).value
    return tree.get("data") if isinstance(tree, dict) else None
