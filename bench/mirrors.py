"""What keeps a registry in step with another one: ours, skopeo and regsync, each as a person runs it from a shell.

Ours fills the registry that it is; the peers fill a docker-registry. None of them waits for a schedule.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import client, servers, tools
from bench.errors import UnexpectedAnswerError
from bench.rounds import Bench
from bench.servers import Server
from bench.upstream import Upstream

SKOPEO, REGSYNC = "skopeo sync", "regsync"
LIMIT_SECONDS = 1_800

#: What ours and regsync ask of one registry at once; skopeo has no such setting. For regsync 4 are as fast as 64 here.
AT_ONCE = 16


@dataclass
class Mirror:
    """Images land in `server`; `command` is one run, from a shell."""

    server: Server
    command: Sequence[str | Path]

    def run(self) -> float:
        """Seconds until it is done."""
        started = time.monotonic()
        done = subprocess.run(
            self.command,
            cwd=self.server.folder,
            env={**os.environ, "HOME": str(self.server.folder)},  # nobody's logins and caches
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise UnexpectedAnswerError(f"{' '.join(map(str, self.command))}: {(done.stdout + done.stderr)[-1500:]}")
        return seconds

    def check(self, digests: Mapping[tuple[str, str], str]) -> None:
        """Each of these tags is here, as it is upstream."""
        authorization = functools.cache(lambda name: self.server.authorization(f"repository:{name}:pull"))
        for (repository, tag), digest in digests.items():
            answer = client.ask(
                self.server.address,
                "HEAD",
                f"/v2/{repository}/manifests/{tag}",
                expect=200,
                authorization=authorization(repository),
                headers={"Accept": client.ACCEPT},
            )
            if answer.headers["Docker-Content-Digest"] != digest:
                raise UnexpectedAnswerError(f"{repository}:{tag} is not here as it is upstream")


def _start_homeport(folder: Path, upstream: str, repositories: Sequence[str]) -> Mirror:
    images = [
        {"source": f"{upstream}/{repository}", "target": repository, "referrers": False} for repository in repositories
    ]
    settings = {"mirror": {"schedule": "never", "images": images}, "upstreams": {upstream: {"at_once": AT_ONCE}}}
    server = servers.start_homeport(folder, verb="up", more_settings=servers.as_settings(settings))
    options: list[str | Path] = ["--data", folder / "data", "--config", folder / "homeport.yaml"]
    return Mirror(server, [sys.executable, "-m", "homeport", "mirror", "run", *options])


def _start_skopeo(folder: Path, upstream: str, repositories: Sequence[str]) -> Mirror:
    """One command for all; of a repository's name it keeps the last part, and puts it below `bench`."""
    images = {upstream: {"tls-verify": False, "images": {repository: [] for repository in repositories}}}
    (folder / "skopeo.yaml").write_text(json.dumps(images))
    server = servers.start_registry2(folder)
    options = ["--all", "--preserve-digests", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false"]
    command = [tools.tool("skopeo"), "--insecure-policy", "sync", *options, "skopeo.yaml", f"{server.address}/bench"]
    return Mirror(server, command)


def _start_regsync(folder: Path, upstream: str, repositories: Sequence[str]) -> Mirror:
    server = servers.start_registry2(folder)
    config = {
        "version": 1,
        "creds": [
            {"registry": address, "tls": "disabled", "reqConcurrent": AT_ONCE} for address in (upstream, server.address)
        ],
        "defaults": {"parallel": AT_ONCE, "skipDockerConfig": True},
        "sync": [
            {"source": f"{upstream}/{repository}", "target": f"{server.address}/{repository}", "type": "repository"}
            for repository in repositories
        ],
    }
    (folder / "regsync.yaml").write_text(json.dumps(config))
    return Mirror(server, [tools.tool("regsync"), "once", "--config", "regsync.yaml"])


#: Given a fresh folder, the address of the upstream and its repositories.
START: dict[str, Callable[[Path, str, Sequence[str]], Mirror]] = {
    servers.HOMEPORT: _start_homeport,
    SKOPEO: _start_skopeo,
    REGSYNC: _start_regsync,
}


@contextlib.contextmanager
def running(bench: Bench, name: str, source: Upstream) -> Iterator[Mirror]:
    """One on a fresh folder, which is told to mirror all that upstream has; gone at the end of the block."""
    with bench.place(name) as folder:
        mirror = START[name](folder, source.address, source.repositories)
        try:
            yield mirror
        finally:
            mirror.server.stop()
