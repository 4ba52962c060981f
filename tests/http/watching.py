"""Looking at a server from the outside: its log, and the files that it has."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import Config, Homeport

SECONDS_MAX = 10.0


def eventually(holds: Callable[[], bool], seconds: float = SECONDS_MAX) -> bool:
    """Whether it comes true within the time: for what a server does after its answer, or without one."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def log_lines(server: Homeport, after: int = 0) -> list[dict[str, Any]]:
    """The lines of a log in JSON, but for its first `after` characters and a line being written. Each must be JSON."""
    complete = server.log[after:].rpartition("\n")[0]
    lines = [line for line in complete.splitlines() if not line.startswith("homeport: ")]
    return [json.loads(line) for line in lines]


def files(folder: Path) -> dict[str, int]:
    """Every file below the folder with its size, but for the database and what is locked."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("homeport.db") and path.suffix != ".lock"
    }


def reload(server: Homeport, config: Config) -> None:
    """Let the running server read another configuration, and wait until it has."""
    (server.folder / "homeport.yaml").write_text(yaml.safe_dump(server._config(config, tls=False)))
    before = server.log.count('"config.re')
    os.kill(server.pid, signal.SIGHUP)
    assert eventually(lambda: server.log.count('"config.re') > before), server.log
