"""The servers that are compared, each started on a free port and a fresh folder on the same disk.

Homeport checks a Bearer token of a user whose only rights come from a rule. The peers run with Debian's settings but
without access control, which favours them. Every server logs a line a request to a file, as it does by default.
"""

import contextlib
import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import client, tools
from bench.errors import ServerFailedError
from bench.processes import Process

USER = "bench"

_HOMEPORT_CONFIG = """\
access:
  anonymous: []
  signed_in: []
  groups: {{benchmarks: [{user}]}}
  users: {{{user}: {{password: "file:{password_file}"}}}}
  rules: [{{repositories: "**/bench/**", allow: {{benchmarks: [pull, push, delete]}}}}]
"""

_DISTRIBUTION_CONFIG = """\
version: 0.1
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:0
  headers: {{X-Content-Type-Options: [nosniff]}}
health:
  storagedriver: {{enabled: true, interval: 10s, threshold: 3}}
"""

_LISTENING = re.compile(r"listening on (?:http://)?(127\.0\.0\.1:\d+)")


@dataclass
class Server:
    """A running server. `started_at` is when its process was begun, on the monotonic clock."""

    process: Process
    folder: Path
    started_at: float
    address: str = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.address = _wait_for_address(self.process)
        except BaseException:
            self.process.stop()
            raise

    def authorization(self, *_scopes: str) -> str:
        """The Authorization header for work in these scopes, or for any work without; empty if none is needed."""
        return ""

    def stop(self) -> None:
        """Ends it; its folder stays."""
        self.process.stop()


class Homeport(Server):
    """Ours, with access control."""

    def authorization(self, *scopes: str) -> str:
        password = (self.folder / "password").read_text()
        return client.bearer(self.address, USER, password, scopes) if scopes else client.basic(USER, password)


def _wait_for_address(process: Process, *, timeout_seconds: float = 60) -> str:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if found := _LISTENING.search(process.log()):
            return found[1]
        process.check_alive()
        time.sleep(0.002)
    raise ServerFailedError(f"it did not listen within {timeout_seconds} s:\n{process.log()[-3000:]}")


def _start(arguments: Sequence[str | Path], folder: Path) -> tuple[Process, Path, float]:
    started_at = time.monotonic()
    return Process(arguments, folder=folder, log=folder / "log"), folder, started_at


def start_homeport(folder: Path, *, verb: str = "serve", more_settings: str = "") -> Server:
    """Ours; started again on the same folder, it goes on with what is there."""
    password = folder / "password"
    if not password.exists():
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
    config = folder / "homeport.yaml"
    config.write_text(_HOMEPORT_CONFIG.format(user=USER, password_file=password) + more_settings)
    options: list[str | Path] = ["--data", folder / "data", "--listen", "127.0.0.1:0", "--config", config]
    return Homeport(*_start([sys.executable, "-m", "homeport", verb, *options], folder))


def as_settings(sections: Mapping[str, object]) -> str:
    """Sections of the configuration, one a line."""
    return "".join(f"{name}: {json.dumps(section)}\n" for name, section in sections.items())


def distribution_config(folder: Path) -> Path:
    """The configuration of both of distribution's versions, for data below the folder."""
    config = folder / "config.yml"
    config.write_text(_DISTRIBUTION_CONFIG.format(data=folder / "data"))
    return config


def start_registry2(folder: Path) -> Server:
    """Debian's docker-registry, distribution 2.8."""
    return Server(*_start([tools.tool("docker-registry"), "serve", distribution_config(folder)], folder))


def start_registry3(folder: Path) -> Server:
    """Distribution 3, spared from looking for a collector of its traces."""
    untraced = ["env", "OTEL_TRACES_EXPORTER=none"]
    return Server(*_start([*untraced, tools.tool("registry3"), "serve", distribution_config(folder)], folder))


def start_receiver(folder: Path) -> Server:
    """Answers webhooks at once and counts them."""
    return Server(*_start([tools.loadgen(), "receive"], folder))


def start_null(folder: Path) -> Server:
    """Answers at once with nothing behind it: the most that the client can measure."""
    return Server(*_start([tools.loadgen(), "null"], folder))


HOMEPORT, REGISTRY2, REGISTRY3, NULL = "homeport", "registry 2.8", "registry 3", "null"
START: dict[str, Callable[[Path], Server]] = {
    HOMEPORT: start_homeport,
    REGISTRY2: start_registry2,
    REGISTRY3: start_registry3,
    NULL: start_null,
}


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[Server]:
    """A server on this folder, stopped at the end of the block."""
    server = START[name](folder)
    try:
        yield server
    finally:
        server.stop()
