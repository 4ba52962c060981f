"""Jobs that the schedule of a Docker Swarm starts: docs/how-to/schedules.md, as it stands there, on a real Swarm.

The labels are swarm-cronjob's; the program itself is not run: its module is not in the checksum database that our
builds are verified by. What it does when a service is due, `tick` does with the docker command: it sets the replicas
to one and forces an update.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.tools import COMMAND, CommandLine
from tests.http.watching import eventually
from tests.real.clients import Docker, Sandbox
from tests.real.engines import DockerEngine
from tests.support.components import ROOT, need
from tests.support.processes import Homeport
from tests.support.receivers import Receiver

pytestmark = [pytest.mark.real, pytest.mark.long]

PAGE = (ROOT / "docs/how-to/schedules.md").read_text()
SERVICE = "schedules_housekeeping"
TASK_SECONDS_MAX = 60.0
#: What the page's image would have in it: this Python with the system's libraries, and Homeport.
IN_THE_IMAGE = ("/usr", "/lib", "/lib64", sys.base_prefix, sys.prefix, str(ROOT))


@pytest.fixture
def docker(swarm: DockerEngine, tmp_path: Path) -> Iterator[Docker]:
    """The docker command on the Swarm; the stack of the page is gone at the end."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        f"FROM scratch\nCOPY Dockerfile /\nENTRYPOINT {list(COMMAND)}\n".replace("'", '"')
    )
    docker = Docker("docker", swarm, Sandbox(tmp_path / "docker"), context)
    docker.build("registry.lan/homeport")
    yield docker
    docker.run("stack", "rm", "schedules")
    assert eventually(lambda: not docker.run("container", "ls", "--quiet"), TASK_SECONDS_MAX)


def blocks(language: str) -> list[str]:
    """The blocks of the page in this language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def file_of_page(name: str) -> str:
    """The file that the page shows under this name."""
    (found,) = (block for block in blocks("yaml") if block.startswith(f"# {name}\n"))
    return found


def run_block(block: str, swarm: DockerEngine, homeport: Homeport) -> None:
    """Commands of the page, beside a server's configuration."""
    programs = f"{Path(sys.executable).parent}:{need('docker').parent}"
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DOCKER_HOST": f"unix://{swarm.socket}",
        "HOMEPORT_DATA": str(homeport.data),
    }
    subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=homeport.folder, env=environment, check=True)


def deploy(swarm: DockerEngine, homeport: Homeport, receiver: Receiver) -> None:
    """Do what the page says, for this server and this receiver. What is beside the page stands in a file of its own."""
    folder = homeport.folder
    make_token, deploy_stack = blocks("sh")
    (folder / "schedules.yaml").write_text(file_of_page("schedules.yaml").replace("https://registry.lan", homeport.url))
    job = file_of_page("job.yaml").replace("https://hooks.lan", receiver.url)
    (folder / "job.yaml").write_text(job)
    beside = {
        "version": "3.8",
        "services": {
            "housekeeping": {
                "networks": ["machine"],
                "volumes": [f"{path}:{path}:ro" for path in IN_THE_IMAGE if Path(path).exists()],
            }
        },
        "networks": {"machine": {"external": True, "name": "host"}},
    }
    (folder / "beside.yaml").write_text(yaml.safe_dump(beside))
    run_block(make_token, swarm, homeport)
    more = "--compose-file schedules.yaml --compose-file beside.yaml --resolve-image never"
    run_block(deploy_stack.replace("--compose-file schedules.yaml", more), swarm, homeport)


def tick(docker: Docker) -> None:
    """What swarm-cronjob does when the service is due."""
    docker.run("service", "update", "--detach", "--replicas", "1", "--force", SERVICE)


def tasks(docker: Docker) -> str:
    """What became of the service, for who reads a failed test."""
    return docker.run("service", "ps", "--no-trunc", SERVICE)


def ended(docker: Docker) -> list[int]:
    """The exit codes of the tasks that ended, the newest first."""
    started = docker.run("service", "ps", "--quiet", "--no-trunc", SERVICE).split()
    states = [
        json.loads(docker.run("inspect", "--type", "task", "--format", "{{json .Status}}", task)) for task in started
    ]
    return [state["ContainerStatus"]["ExitCode"] for state in states if state["State"] in {"complete", "failed"}]


def test_a_service_of_the_swarm_runs_a_job(swarm: DockerEngine, docker: Docker, homeport: Homeport) -> None:
    homeport.start({"housekeeping": {"schedule": "never"}}, verb="up")
    cli = CommandLine(homeport.folder)
    with Receiver() as receiver:
        deploy(swarm, homeport, receiver)
        listed = ("jobs", "list", "--server", homeport.url, "--token-file", "token", "--json")
        assert cli.run(*listed).json == []
        assert ended(docker) == []

        tick(docker)
        assert eventually(lambda: len(ended(docker)) == 1, TASK_SECONDS_MAX), tasks(docker)
        logs = docker.run("service", "logs", "--raw", SERVICE)
        assert ended(docker) == [0], logs
        (job,) = cli.run(*listed).json
        assert (job["kind"], job["state"], job["outcome"]) == ("housekeeping", "ended", "success")
        assert "schedules" in job["actor"]
        assert receiver.received == []  # It is the server that tells how a run ended.

        homeport.stop()
        tick(docker)
        assert eventually(lambda: len(ended(docker)) == 2, TASK_SECONDS_MAX), tasks(docker)
        assert ended(docker)[0] == 4, docker.run("service", "logs", "--raw", SERVICE)
        (told,) = receiver.received
        assert told.json["type"] == "housekeeping.finished"
        assert '"skipped"' in told.body.decode()
        assert "server-refused" in told.body.decode()
