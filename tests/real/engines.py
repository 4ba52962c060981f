"""Container engines of our own: private sockets, data and settings; no network is made and no firewall touched."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.components import need, need_root

READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60


class Daemon:
    """A daemon with a folder of its own, which ends when the tests do, even if they are killed."""

    def __init__(self, program: str, ready: str) -> None:
        need_root()
        # A socket's path may have 108 characters at most: not below pytest's folders.
        self.folder = Path(tempfile.mkdtemp(prefix="homeport-"))
        self.socket = self.folder / "engine.sock"
        self.environment: Mapping[str, str] = os.environ
        #: What the daemon finds at a path of the machine instead of what is there: a folder of the tests.
        self.replaced: Mapping[str, Path] = {}
        self._program = need(program)
        self._ready = ready
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("wb") as log:
            command = ["setpriv", "--pdeathsig", "TERM", *self._unshared(), str(self._program), *self.arguments()]
            self._process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while self._ready not in self._log.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text(errors="replace")
                self.stop()
                raise AssertionError(f"{self._program.name} does not start:\n{said}")
            time.sleep(0.05)

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def _unshared(self) -> list[str]:
        """What starts it with mounts of its own, so that nothing is changed for anybody else."""
        if not self.replaced:
            return []
        mounts = [f"mkdir -p {path} && mount --bind {folder} {path}" for path, folder in self.replaced.items()]
        return ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]

    def end(self) -> None:
        """End the process; what it keeps stays, so that it can be started again."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        finally:
            self._process.kill()

    def stop(self) -> None:
        """End it, and take its folder away."""
        try:
            self.end()
        finally:
            # The network namespace that containers share with the machine is left mounted.
            for point in re.findall(rf"(?m)^\S+ ({self.folder}/\S+) ", Path("/proc/mounts").read_text()):
                subprocess.run(["umount", point], check=False)
            shutil.rmtree(self.folder, ignore_errors=True)


class DockerEngine(Daemon):
    """A dockerd with a containerd of its own."""

    def __init__(self, program: str, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(program, ready="API listen on")
        self._settings = settings or {}

    def arguments(self) -> list[str]:
        settings = self.folder / "daemon.json"
        settings.write_text(json.dumps(self._settings))
        own = {
            "--host": f"unix://{self.socket}",
            "--data-root": f"{self.folder}/data",
            "--exec-root": f"{self.folder}/exec",
            "--pidfile": f"{self.folder}/pid",
            "--config-file": f"{settings}",
            "--bridge": "none",
        }
        switched_off = ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        return [f"{name}={value}" for name, value in own.items()] + switched_off


class Containerd(Daemon):
    """A containerd."""

    def __init__(self) -> None:
        super().__init__("containerd", ready="containerd successfully booted")

    def arguments(self) -> list[str]:
        settings = self.folder / "config.toml"
        settings.write_text("version = 3\n")
        return [
            f"--config={settings}",
            f"--root={self.folder}/root",
            f"--state={self.folder}/state",
            f"--address={self.socket}",
        ]


class Buildkitd(Daemon):
    """A buildkitd; `settings` is the text of its file."""

    def __init__(self, settings: str) -> None:
        super().__init__("buildkitd", ready="running server on")
        self._settings = settings

    def arguments(self) -> list[str]:
        settings = self.folder / "buildkitd.toml"
        settings.write_text(self._settings)
        return [
            f"--config={settings}",
            f"--root={self.folder}/root",
            f"--addr=unix://{self.socket}",
            f"--otel-socket-path={self.folder}/otel.sock",
            "--containerd-worker=false",
            "--oci-worker-snapshotter=native",  # also where the machine's own disk is an overlay
            "--oci-worker-net=host",
        ]
