"""What the pull-through cache costs who pulls: an image that is not here yet, one that is, and many at one layer."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import client, lines, loadgen, servers, tools, upstream
from bench.errors import UnexpectedAnswerError
from bench.layouts import Image, random_bytes
from bench.lines import Bar, Line, Row
from bench.loadgen import Done, Request
from bench.rounds import Bench, in_turn, noting_failure, say, settle
from bench.servers import Server
from bench.upstream import Upstream
from homeport.mirror import addresses
from homeport.mirror.addresses import Source

STRAIGHT, PUSHED = "straight from upstream", "homeport, pushed here"
COLD = Line(
    "cache-cold",
    "image of 6 layers of 32 MiB pulled through, cold (theirs: straight from upstream)",
    "MB/s",
    Bar(0.8, at_least=True),
    peer=STRAIGHT,
)
WARM = Line("cache-warm", "the same, warm (theirs: ours, pushed here)", "MB/s", Bar(0.95, at_least=True), peer=PUSHED)
MEMORY = Line("cache-memory", "the same, resident memory at its peak", "MiB", Bar(200, at_least=False, of_ratio=False))
CROWD = Line(
    "cache-crowd",
    "50 clients at one cold layer of 256 MiB, fetches from upstream (theirs: straight from there)",
    "",
    Bar(1, at_least=False, of_ratio=False),
    peer=STRAIGHT,
)
CROWD_MEMORY = Line(
    "cache-crowd-memory", "the same, resident memory at its peak", "MiB", Bar(200, at_least=False, of_ratio=False)
)

PULL_LINES, CROWD_LINES = (COLD, WARM, MEMORY), (CROWD, CROWD_MEMORY)

LAYERS = 6
#: How long skopeo may take for an image.
LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Place:
    """Where an image is pulled from."""

    server: Server
    repository: str
    tag: str

    @property
    def scope(self) -> str:
        return f"repository:{self.repository}:pull"

    def authorization(self) -> str:
        return self.server.authorization(self.scope)


# --- one image --------------------------------------------------------------------------------------------------


def pulls(bench: Bench) -> list[Row]:
    """An image for each round, so that what is cold is cold; what is warm is the same image again."""
    rows = {line: Row(line) for line in PULL_LINES if bench.wants(line)}
    if not rows:
        return []
    names = ", ".join(line.name for line in rows)
    size = bench.size.pulled_layer_bytes
    pushed = _image("bench/pushed", bench.rounds, LAYERS, size)
    images = (_image("bench/pulled", number, LAYERS, size) for number in range(bench.rounds))
    with noting_failure(rows.values(), servers.HOMEPORT), _cache(bench, images) as (source, server):
        upstream.push(server, pushed)
        for round_number, (repository, tag) in enumerate(source.digests):
            say(f"{names}: round {round_number + 1} of {bench.rounds}")
            through = Place(server, _cached(source, repository), tag)
            cold = {servers.HOMEPORT: through, STRAIGHT: Place(source.server, repository, tag)}
            for name in in_turn(list(cold), round_number):
                lines.add(rows, name, {COLD: _pull(bench, cold[name])})
            warm = {servers.HOMEPORT: through, PUSHED: Place(server, pushed.repository, pushed.tag)}
            for name in in_turn(list(warm), round_number):
                lines.add(rows, name, {WARM: _pull(bench, warm[name])})
            lines.add(rows, servers.HOMEPORT, {MEMORY: server.process.peak_bytes() / (1 << 20)})
    return list(rows.values())


def _pull(bench: Bench, place: Place) -> float:
    """Megabytes a second by skopeo, which checks each digest and writes what it pulls to a folder."""
    authorization = place.authorization()
    token = ["--src-registry-token", authorization.removeprefix("Bearer ")] if authorization else []
    folder = bench.folder / "pulled"
    command = [tools.tool("skopeo"), "--insecure-policy", "copy", "--src-tls-verify=false", *token]
    command += [f"docker://{place.server.address}/{place.repository}:{place.tag}", f"dir:{folder}"]
    settle(place.server)
    try:
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise UnexpectedAnswerError(f"skopeo copy of {place.repository}:{place.tag}: {done.stderr[-1500:]}")
        return sum(file.stat().st_size for file in folder.iterdir()) / seconds / 1e6
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- a crowd ----------------------------------------------------------------------------------------------------


def crowd(bench: Bench) -> list[Row]:
    """Many that want the same layer at the same time; each round has another one."""
    rows = {line: Row(line) for line in CROWD_LINES if bench.wants(line)}
    if not rows:
        return []
    names = ", ".join(line.name for line in rows)
    images = (_image("bench/crowded", number, 1, bench.size.crowd_bytes) for number in range(bench.rounds))
    notes: dict[str, str] = {}
    with noting_failure(rows.values(), servers.HOMEPORT), _cache(bench, images) as (source, server):
        for round_number, (repository, tag) in enumerate(source.digests):
            say(f"{names}: round {round_number + 1} of {bench.rounds}")
            places = {
                servers.HOMEPORT: Place(server, _cached(source, repository), tag),
                STRAIGHT: Place(source.server, repository, tag),
            }
            for name in in_turn(list(places), round_number):
                layer = _layer(places[name])
                settle(places[name].server)
                source.forget()
                done = _rush(places[name], layer, bench.size.crowd)
                fetches = [one for one in source.asked() if (one.method, one.what) == ("GET", layer)]
                lines.add(rows, name, {CROWD: len(fetches)})
                notes[name] = f"all had it within {done.seconds:.1f} s"
            lines.add(rows, servers.HOMEPORT, {CROWD_MEMORY: server.process.peak_bytes() / (1 << 20)})
    if CROWD in rows:
        rows[CROWD].note = "; ".join(f"{name}: {note}" for name, note in notes.items())
    return list(rows.values())


def _layer(place: Place) -> str:
    """The digest of an image's only layer, from its manifest, which who pulls has asked for before."""
    answer = client.ask(
        place.server.address,
        "GET",
        f"/v2/{place.repository}/manifests/{place.tag}",
        expect=200,
        authorization=place.authorization(),
        headers={"Accept": client.ACCEPT},
    )
    (layer,) = json.loads(answer.body)["layers"]
    return str(layer["digest"])


def _rush(place: Place, layer: str, clients: int) -> Done:
    requests = [Request("GET", f"/v2/{place.repository}/blobs/{layer}")] * clients
    work = loadgen.requests_work(requests, connections=clients)
    return loadgen.run("requests", place.server, [place.scope], work)


# --- both -------------------------------------------------------------------------------------------------------


def _image(repository: str, number: int, layers: int, size: int) -> Image:
    """One whose layers no other one has."""
    name = f"{repository} {number}"
    blobs = (random_bytes(f"{name} {layer}", size) for layer in range(layers))
    return Image(repository, f"v{number}", client.config_of(name), tuple(blobs))


def _cached(source: Upstream, repository: str) -> str:
    return addresses.cached_at(Source(source.address, repository))


@contextmanager
def _cache(bench: Bench, images: Iterable[Image]) -> Iterator[tuple[Upstream, Server]]:
    """An upstream with these images, and a Homeport that is its cache."""
    with upstream.running(bench, images) as source, bench.place(servers.HOMEPORT) as folder:
        settings = servers.as_settings({"cache": {"upstreams": [source.address]}})
        server = servers.start_homeport(folder, verb="up", more_settings=settings)
        try:
            yield source, server
        finally:
            server.stop()
