"""Runs the load generator: one process a piece of work, told what to do in JSON and answering in JSON."""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from bench import tools
from bench.errors import UnexpectedAnswerError
from bench.servers import Server

LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Done:
    """What was done: requests answered, blobs or images pushed, listings read; and the bytes of bodies."""

    done: int
    bytes: int
    answers: int
    seconds: float
    p99: float  # of requests: so many seconds at most took 99 of 100 answers

    @property
    def per_second(self) -> float:
        return self.done / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes / self.seconds / 1e6


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    body: str = ""


def _spec(server: Server, scopes: Sequence[str], work: dict[str, object]) -> str:
    return json.dumps({"address": server.address, "authorization": server.authorization(*scopes), **work})


def run(kind: str, server: Server, scopes: Sequence[str], work: dict[str, object]) -> Done:
    """Does the work to its end. The fields of each kind of work stand in bench/loadgen/<kind>.go."""
    spec = _spec(server, scopes, work)
    ended = subprocess.run(
        [tools.loadgen(), kind], input=spec, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    if ended.returncode != 0:
        raise UnexpectedAnswerError(ended.stderr.strip())
    return Done(**json.loads(ended.stdout))


def requests_work(
    requests: Sequence[Request],
    *,
    connections: int,
    status: int = 200,
    seconds: float = 0,
    seed: int = 0,
    headers: dict[str, str] | None = None,
) -> dict[str, object]:
    """Work of the kind "requests": picked at random for so many seconds, or else each of them once."""
    return {
        "connections": connections,
        "seconds": seconds,
        "seed": seed,
        "headers": headers or {},
        "status": status,
        "requests": [asdict(request) for request in requests],
    }


@contextlib.contextmanager
def running(
    kind: str, server: Server, scopes: Sequence[str], work: dict[str, object]
) -> Iterator["subprocess.Popen[str]"]:
    """Work in the background; what is not done at the end of the block is given up."""
    spec = _spec(server, scopes, work)
    with subprocess.Popen(
        [tools.loadgen(), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(spec)
            process.stdin.close()
            yield process
        finally:
            process.kill()
