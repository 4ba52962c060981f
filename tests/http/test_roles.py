"""The program in its roles: `up` does everything in one process, `serve` and `work` are its halves on one folder."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.http.watching import eventually
from tests.http.wire import Client
from tests.support.processes import Homeport

COMMAND = (sys.executable, "-m", "homeport")
SECONDS_MAX = 60


class Worker:
    """`homeport work` beside a server, in its folder."""

    def __init__(self, homeport: Homeport) -> None:
        self._log = homeport.folder / "work.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "work", "--config", "homeport.yaml", "--data", str(homeport.data)],
                cwd=homeport.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        assert eventually(lambda: "homeport: working on" in self.log), self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(SECONDS_MAX) == 0, self.log


@pytest.fixture
def homeport(tmp_path: Path) -> Iterator[Homeport]:
    server = Homeport(tmp_path)
    yield server
    server.kill()


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What `homeport` with these words came to."""
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, check=False, capture_output=True, text=True, timeout=SECONDS_MAX
    )


def reload(homeport: Homeport) -> subprocess.CompletedProcess[str]:
    return command(homeport.folder, "config", "reload", "--config", "homeport.yaml", "--data", str(homeport.data))


def api(homeport: Homeport, method: str, path: str, body: Any = None) -> Any:
    client = Client(homeport.url).basic("admin", homeport.passwords["admin"])
    data, headers = (b"", {}) if body is None else (json.dumps(body).encode(), {"Content-Type": "application/json"})
    answer = client.request(method, f"/api/v1{path}", data, headers)
    assert answer.status < 300, answer.body
    return json.loads(answer.body)


def outcome(homeport: Homeport, job_id: int) -> Any:
    return api(homeport, "GET", f"/jobs/{job_id}")["outcome"]


def test_who_only_serves_leaves_jobs_to_who_works(homeport: Homeport) -> None:
    homeport.start({"server": {"drain_seconds": 5}})
    job = api(homeport, "POST", "/jobs", {"kind": "housekeeping"})
    time.sleep(1.5)  # Longer than a worker waits between two looks.
    assert outcome(homeport, job["id"]) is None
    worker = Worker(homeport)
    try:
        assert eventually(lambda: outcome(homeport, job["id"]) == "success"), worker.log
        worker.stop()
    finally:
        worker.process.kill()
    homeport.stop()


def test_each_role_is_one_process(homeport: Homeport) -> None:
    homeport.start(verb="up")
    for verb in ("up", "serve", "work"):
        second = command(homeport.folder, verb, "--data", str(homeport.data))
        assert second.returncode == 1
        assert "already" in second.stderr
    homeport.stop()


def test_both_roles_read_the_configuration_again(homeport: Homeport) -> None:
    homeport.start()
    worker = Worker(homeport)
    try:
        file = homeport.folder / "homeport.yaml"
        settings = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({**settings, "notify": {"ops": {"url": "http://127.0.0.1:9/", "on": ["*"]}}}))
        told = reload(homeport)
        assert told.returncode == 0, told.stderr
        assert "notify" in told.stdout
        assert [target["name"] for target in api(homeport, "GET", "/targets")["targets"]] == ["ops"]
        assert eventually(lambda: "config.reloaded" in worker.log)
        # What happens from now on is told by the one that works; the receiver is down, so it waits.
        assert eventually(lambda: bool(api(homeport, "GET", "/deliveries?state=waiting")["deliveries"]))
        worker.stop()
    finally:
        worker.process.kill()
    homeport.stop()


def test_a_configuration_that_is_wrong_changes_nothing_and_stands_in_the_audit_log(homeport: Homeport) -> None:
    homeport.start(verb="up")
    file = homeport.folder / "homeport.yaml"
    settings = yaml.safe_load(file.read_text())
    wrong = {
        "time_zone": "Europe/Pari",
        "housekeeping": {"schedule": "61 * * * *"},
        "notify": {"ops": {"url": "https://discord.com/api/webhooks/1/secret-part", "on": ["tag.sett"]}},
    }
    file.write_text(yaml.safe_dump({**settings, **wrong}))
    told = reload(homeport)
    assert told.returncode == 2  # The verb reads the file itself, and finds the same.
    for part in ("time_zone", "housekeeping.schedule", "notify.ops.url", "notify.ops.on"):
        assert part in told.stderr
    subprocess.run(["kill", "-HUP", str(homeport.pid)], check=True)
    assert eventually(lambda: "config.refused" in homeport.log)
    events = api(homeport, "GET", "/events")["events"]
    (refused,) = [event for event in events if event["kind"] == "config.refused"]
    assert f"{file.name}:" in refused["reason"]
    assert "secret-part" not in json.dumps(events) + told.stderr + homeport.log
    assert api(homeport, "GET", "/targets")["targets"] == []
    homeport.stop()


def test_a_start_with_wrong_notifications_is_refused_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "homeport.yaml"
    file.write_text("notify:\n  ops:\n    on: ['*']\n    urls_file: /nonexistent/webhooks.json\n")
    data = str(tmp_path / "data")
    started = command(tmp_path, "up", "--config", str(file), "--data", data, "--listen", "127.0.0.1:0")
    assert started.returncode == 2
    assert f"{file}:4" in started.stderr or f"{file}:2" in started.stderr, started.stderr
    assert "webhooks.json" in started.stderr
