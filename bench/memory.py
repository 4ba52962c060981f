"""Resident memory of a server and all that it started: idle, and while it is pushed to and pulled from."""

import time

from bench import loadgen, pulls, servers
from bench.errors import UnexpectedAnswerError
from bench.lines import Bar, Line, Row
from bench.loadgen import Request
from bench.rounds import Bench, in_turn, noting_failure, say
from bench.servers import Server

IDLE = Line("memory-idle", "resident memory, idle", "MiB", Bar(90, at_least=False, of_ratio=False))
BUSY = Line(
    "memory-busy",
    "resident memory, 4 uploads and 8 downloads",
    "MiB",
    Bar(200, at_least=False, of_ratio=False),
)
SAMPLE_SECONDS = 0.05
IDLE_SECONDS = 2.0
UPLOADS, DOWNLOADS = 4, 8


def measure(bench: Bench) -> list[Row]:
    """A fresh server each time, since what a server once took it may keep."""
    rows = {line: Row(line) for line in (IDLE, BUSY) if bench.wants(line)}
    if not rows:
        return []
    compared = [name for name in servers.START if name != servers.NULL]
    for round_number in range(bench.rounds):
        say(f"resident memory: round {round_number + 1} of {bench.rounds}")
        for name in in_turn(compared, round_number):
            with noting_failure(rows.values(), name), bench.server(name) as server:
                if IDLE in rows:
                    time.sleep(IDLE_SECONDS)
                    rows[IDLE].add(name, server.process.resident_bytes() / (1 << 20))
                if BUSY in rows:
                    rows[BUSY].add(name, _peak_bytes(bench, server) / (1 << 20))
    return list(rows.values())


def _peak_bytes(bench: Bench, server: Server) -> int:
    targets = [f"/v2/{pulls.REPOSITORY}/blobs/{digest}" for digest in pulls.push_blobs(server, bench.size.blob_bytes)]
    downloads = loadgen.requests_work(
        [Request("GET", target) for target in targets], connections=DOWNLOADS, seconds=loadgen.LIMIT_SECONDS
    )
    uploads: dict[str, object] = {
        "repository": pulls.REPOSITORY,
        "streams": UPLOADS,
        "each": 1,
        "bytes": bench.size.upload_bytes,
        "seed": 0,
    }
    peak = 0
    with (
        loadgen.running("requests", server, [pulls.SCOPE], downloads) as pulling,
        loadgen.running("blobs", server, [pulls.PUSH_SCOPE], uploads) as pushing,
    ):
        while pushing.poll() is None:
            peak = max(peak, server.process.resident_bytes())
            time.sleep(SAMPLE_SECONDS)
        if pulling.poll() is not None or pushing.returncode != 0:
            raise UnexpectedAnswerError("the transfers that fill the memory ended early")
    return peak
