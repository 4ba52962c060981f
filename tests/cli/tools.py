"""The command line as a person or a script runs it: real processes, on a pipe or on a terminal; and a small client."""

import base64
import contextlib
import hashlib
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from homeport.__main__ import DOORS
from homeport.cli.context import Doors
from homeport.cli.main import run

SECONDS_MAX = 30
COMMAND = (sys.executable, "-m", "homeport")


def clean_environment(**more: str) -> dict[str, str]:
    """The caller's environment without what would reach Homeport or docker from it."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HOMEPORT_", "DOCKER_"))}
    return {**ours, "DOCKER_CONFIG": "/nonexistent", **more}


@dataclass(frozen=True)
class Ran:
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class CommandLine:
    """`homeport` in a folder."""

    folder: Path

    def run(self, *words: str, stdin: str = "", code: int = 0, environ: Mapping[str, str] | None = None) -> Ran:
        """Run it to its end, which must come with `code`."""
        found = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=clean_environment(**(environ or {})),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert found.returncode == code, (words, found.returncode, found.stdout, found.stderr)
        assert "Traceback" not in found.stderr, found.stderr
        return Ran(found.returncode, found.stdout, found.stderr)

    def run_here(self, *words: str, stdin: str = "", code: int = 0, doors: Doors = DOORS) -> Ran:
        """The same without a process of its own, which takes longer than most verbs. For what never gets to serve."""
        out, err, caller_stdin = io.StringIO(), io.StringIO(), sys.stdin
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            sys.stdin = io.StringIO(stdin)
            try:
                found = run(words, doors)
            except SystemExit as exit_:
                found = int(exit_.code or 0)
            finally:
                sys.stdin = caller_stdin
        assert found == code, (words, found, out.getvalue(), err.getvalue())
        return Ran(found, out.getvalue(), err.getvalue())


class Terminal:
    """`homeport`, or a `program` that takes its words, on a terminal of its own."""

    def __init__(self, folder: Path, *words: str, program: Sequence[str] = COMMAND, **environ: str) -> None:
        self._terminal, child = pty.openpty()
        self.process = subprocess.Popen(
            [*program, *words], cwd=folder, env=clean_environment(**environ), stdin=child, stdout=child, stderr=child,
            start_new_session=True,
        )  # fmt: skip
        os.close(child)
        self.screen = ""

    def wait_for(self, text: str) -> str:
        """All that is on the screen, once `text` is."""
        deadline = time.monotonic() + SECONDS_MAX
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen
            self._read(0.1)
        return self.screen

    def type(self, line: str) -> None:
        os.write(self._terminal, f"{line}\n".encode())

    def end(self) -> int:
        """The exit code, once it has ended by itself."""
        while self.process.poll() is None:
            self._read(0.05)
        self._read(0)
        os.close(self._terminal)
        return self.process.returncode

    def _read(self, seconds: float) -> None:
        if select.select([self._terminal], [], [], seconds)[0]:
            try:
                self.screen += os.read(self._terminal, 65536).decode()
            except OSError:  # The other side is closed.
                time.sleep(seconds)


def ask(
    url: str, *, login: tuple[str, str] | None = None, method: str = "GET", data: bytes | None = None, **headers: str
) -> tuple[int, bytes, Message]:
    """Status, body and headers of one request."""
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(":".join(login).encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read(), refused.headers


def may_log_in(url: str, name: str, password: str) -> bool:
    return ask(f"{url}/v2/", login=(name, password))[0] == 200


def push(url: str, login: tuple[str, str], repository: str, tag: str, content: str = "layer") -> str:
    """Push an image of one layer; its digest."""
    config, layer = b'{"architecture":"amd64","os":"linux"}', content.encode()
    for blob in (config, layer):
        started = ask(f"{url}/v2/{repository}/blobs/uploads/", login=login, method="POST")
        assert started[0] == 202, started
        location = started[2]["Location"]
        location = location if location.startswith("http") else url + location
        target = f"{location}{'&' if '?' in location else '?'}digest={_digest(blob)}"
        put = ask(target, login=login, method="PUT", data=blob, **{"Content-Type": "application/octet-stream"})
        assert put[0] == 201, put
    media_type = "application/vnd.oci.image.manifest.v1+json"
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [_descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    manifest = json.dumps(document).encode()
    address = f"{url}/v2/{repository}/manifests/{tag}"
    pushed = ask(address, login=login, method="PUT", data=manifest, **{"Content-Type": media_type})
    assert pushed[0] == 201, pushed
    return _digest(manifest)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}
