"""A verb that is told to end takes with it what it started."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

DEADLINE_SECONDS = 60.0


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_credential_helper_ends_with_us(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    helper = tmp_path / "docker-credential-slow"
    helper.write_text(f"#!/bin/sh\nsleep 1000 & echo $$ $! > {pids}\nwait\n")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "slow"}))
    environ = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "DOCKER_CONFIG": str(tmp_path)}
    words = [sys.executable, "-m", "homeport", "copy", "a.example/a:1", "b.example/b:1"]
    with subprocess.Popen(words, env=environ, stderr=subprocess.DEVNULL) as copying:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not pids.exists() or len(pids.read_text().split()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        copying.send_signal(signal.SIGTERM)
        assert copying.wait(DEADLINE_SECONDS) == 128 + signal.SIGTERM
    for pid in map(int, pids.read_text().split()):
        while is_running(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
