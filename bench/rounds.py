"""How work is measured: every server on a fresh folder, in turn, round after round."""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from bench import servers
from bench.errors import BenchError
from bench.lines import Line, Row
from bench.servers import Server


@dataclass(frozen=True)
class Size:
    """How much work there is. Quick is a smoke test: its figures mean little."""

    seconds: float = 3.0  # of each timed measurement
    blob_bytes: int = 64 << 20
    blobs_each: int = 2  # pushed by each stream in a round
    images: int = 200
    retags: int = 1_000
    tags: int = 1_000
    listed_tags: int = 3_000
    repositories: int = 500
    upload_bytes: int = 1 << 30
    start_tags: int = 100_000
    many_tags: int = 1_000_000
    kept_blobs: int = 1_000_000  # among which a sweep finds nothing
    laid_blobs: int = 100_000  # of which a sweep takes a tenth
    due_images: int = 10_000  # that are swept meanwhile
    planned_tags: int = 100_000
    mirrored_repositories: int = 50
    mirrored_tags: int = 10  # of each of them
    first_images: int = 50
    first_layer_bytes: int = 8 << 20
    pulled_layer_bytes: int = 32 << 20
    crowd: int = 50
    crowd_bytes: int = 256 << 20


QUICK = Size(
    seconds=0.3,
    blob_bytes=16 << 20,
    blobs_each=1,
    images=12,
    retags=60,
    tags=100,
    listed_tags=300,
    repositories=110,
    upload_bytes=32 << 20,
    start_tags=2_000,
    many_tags=5_000,
    kept_blobs=50_000,
    laid_blobs=5_000,
    due_images=1_500,
    planned_tags=5_000,
    mirrored_repositories=5,
    mirrored_tags=4,
    first_images=5,
    first_layer_bytes=1 << 20,
    pulled_layer_bytes=2 << 20,
    crowd=8,
    crowd_bytes=16 << 20,
)


@dataclass(frozen=True)
class Bench:
    """One run of the benchmark."""

    folder: Path  # for the servers' data; emptied at the end
    size: Size
    rounds: int
    only: str | None = None  # the name of the one line that is wanted

    def wants(self, line: Line) -> bool:
        """Is this line to be measured?"""
        return self.only in (None, line.name)

    @contextlib.contextmanager
    def place(self, name: str) -> Iterator[Path]:
        """A fresh folder for a server, gone at the end of the block."""
        folder = self.folder / re.sub(r"\W+", "-", name)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def server(self, name: str) -> Iterator[Server]:
        """A server on a fresh folder, both gone at the end of the block."""
        with self.place(name) as folder, servers.running(name, folder) as server:
            yield server


@dataclass(frozen=True)
class Work:
    """Lines that are measured on the same prepared servers."""

    prepare: Callable[[Server], None]
    measure: Mapping[Line, Callable[[Server, int], float]]  # given the server and the round


def say(text: str) -> None:
    """What goes on now, for the person who waits; the table alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def in_turn(names: Sequence[str], round_number: int) -> list[str]:
    """Each round begins with another one, so that none is always the first or always follows the same."""
    start = round_number % len(names)
    return [*names[start:], *names[:start]]


def settle(server: Server) -> None:
    """What was written before is on disk before the next clock starts, and logs stay small."""
    os.sync()
    server.process.truncate_log()


def compare(bench: Bench, work: Work) -> list[Row]:
    """Every line on every server, in alternating rounds."""
    rows = {line: Row(line) for line in work.measure if bench.wants(line)}
    if not rows:
        return []
    running: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:
        for name in servers.START:
            with noting_failure(rows.values(), name):
                say(f"{', '.join(line.name for line in rows)}: {name} gets ready")
                server = stack.enter_context(bench.server(name))
                if name != servers.NULL:
                    work.prepare(server)
                running[name] = server
        for round_number in range(bench.rounds):
            for line, row in rows.items():
                say(f"{line.name}: round {round_number + 1} of {bench.rounds}")
                for name in in_turn(list(running), round_number):
                    with noting_failure([row], name):
                        settle(running[name])
                        row.add(name, work.measure[line](running[name], round_number))
    return list(rows.values())


@contextlib.contextmanager
def noting_failure(rows: Iterable[Row], server: str) -> Iterator[None]:
    """A server that fails leaves its column of these rows empty; the others go on."""
    try:
        yield
    except (BenchError, OSError, HTTPException) as failure:
        for row in rows:
            row.failures[server] = f"{type(failure).__name__}: {failure}"
