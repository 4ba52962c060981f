"""Server processes for tests: started on a free port, ready when they say so, stopped by their process id.

The world they see is what the test gives them: no HOMEPORT_ variable of the caller reaches them, and what they
print goes to a file in the test's folder.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.certificates import Authority

READY = re.compile(r"^homeport: listening on (https?://(\S+))$", re.MULTILINE)
READY_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30

Config = dict[str, Any]

USERS = ("admin", "writer", "reader", "stranger")


class ServerFailedError(Exception):
    """The server ended, or did not say that it is ready; the text is its log."""


class Homeport:
    """One `homeport serve` (or `up`) process, in a folder of its own; may be started again and again on the same data.

    Unless the configuration says otherwise there are four users (`passwords` has theirs): `admin`; `writer`, who may
    pull and push everywhere; `reader`, who may pull everywhere; and `stranger`, who has no right at all. Nobody may
    do anything without a login.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.passwords = {name: f"{name}-password" for name in USERS}
        self.url = ""
        self.ca: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def host(self) -> str:
        """HOST:PORT as it stands in an image reference."""
        return self.url.partition("://")[2]

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """All that the last start printed, standard output and error together."""
        return self._log_file.read_text(errors="replace") if self._starts else ""

    def start(
        self,
        config: Config | None = None,
        *,
        tls: bool = False,
        data: Path | None = None,
        port: int = 0,
        verb: str = "serve",
        environ: Mapping[str, str] | None = None,
        program: Sequence[str | Path] = ("-m", "homeport"),
    ) -> str:
        """Start, wait until it is ready, and return the URL. Keys of `config` win over ours, also inside a section.

        `program` is what Python runs.
        """
        assert self._process is None, "already running"
        self.data = data or self.data
        config_file = self.folder / "homeport.yaml"
        config_file.write_text(yaml.safe_dump(self._config(config or {}, tls=tls)))
        command = [sys.executable, *map(str, program), verb, "--config", str(config_file)]
        command += ["--data", str(self.data), "--listen", f"127.0.0.1:{port}"]
        self._starts += 1
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={name: value for name, value in os.environ.items() if not name.startswith("HOMEPORT_")}
                | dict(environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.url = self._wait_until_ready()
        return self.url

    def stop(self) -> None:
        """SIGTERM, and wait: it drains what is running and must exit 0."""
        assert self._process is not None, "not running"
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailedError(f"did not stop within {STOP_SECONDS_MAX} s of SIGTERM:\n{self.log}") from None
        self._process = None
        if code != 0:
            raise ServerFailedError(f"exited {code} on SIGTERM:\n{self.log}")

    def kill(self) -> None:
        """SIGKILL, as a power cut would have it; nothing to do where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def _log_file(self) -> Path:
        return self.folder / f"server-{self._starts}.log"

    def _config(self, overrides: Config, *, tls: bool) -> Config:
        server: Config = {}
        if tls:
            certificate = Authority(self.folder).issue()
            self.ca = certificate.ca
            server["tls"] = {"certificate": str(certificate.certificate), "key": str(certificate.key)}
        access: Config = {
            "anonymous": [],
            "signed_in": [],
            "groups": {"readers": ["reader"], "writers": ["writer"]},
            "users": {name: self._user(name) for name in USERS},
            "rules": [{"repositories": "**", "allow": {"readers": ["pull"], "writers": ["pull", "push"]}}],
        }
        server.update(overrides.get("server", {}))
        access.update(overrides.get("access", {}))
        return {**overrides, "server": server, "access": access}

    def _user(self, name: str) -> Config:
        secret = self.folder / f"password-{name}"
        secret.write_text(self.passwords[name])
        secret.chmod(0o600)
        return {"password": f"file:{secret}", **({"admin": True} if name == "admin" else {})}

    def _wait_until_ready(self) -> str:
        assert self._process is not None
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            if ready := READY.search(self.log):
                return ready[1]
            if (code := self._process.poll()) is not None:
                self._process = None
                raise ServerFailedError(f"exited {code} before it was ready:\n{self.log}")
            time.sleep(0.01)
        self.kill()
        raise ServerFailedError(f"not ready within {READY_SECONDS_MAX} s:\n{self.log}")
