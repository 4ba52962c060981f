"""What a large database costs: the time to the first answer, and manifests by tag among a million."""

import random
import time
from pathlib import Path

from bench import client, filling, pulls, servers
from bench.lines import Bar, Line, Row
from bench.rounds import Bench, in_turn, noting_failure, say, settle
from bench.servers import Server

START = Line("start", "start to first manifest, 100,000 tags (peers: 1)", "s", Bar(1.5, at_least=False, of_ratio=False))
FEW = "homeport, 1,000 tags"
MILLION = Line(
    "manifest-get-million",
    "manifest GET, 1,000,000 tags (theirs: ours, 1,000 tags)",
    "/s",
    Bar(0.8, at_least=True),
    peer=FEW,
)
#: Requests that the client holds ready, of all that there could be.
SAMPLE = 100_000


def start(bench: Bench) -> list[Row]:
    """From the start of the process to the first manifest that it serves; the peers read nothing when they start."""
    if not bench.wants(START):
        return []
    row = Row(START)
    for name in (servers.HOMEPORT, servers.REGISTRY2, servers.REGISTRY3):
        with noting_failure([row], name), bench.place(name) as folder:
            say(f"{START.name}: {name} gets ready")
            _fill(name, folder, min(bench.size.tags, bench.size.start_tags), bench.size.start_tags)
            # A token of an earlier process is good for the next one, so no password is checked in what is timed.
            with servers.running(name, folder) as server:
                authorization = server.authorization(pulls.SCOPE)
            for round_number in range(bench.rounds):
                say(f"{START.name}: {name}, round {round_number + 1} of {bench.rounds}")
                with servers.running(name, folder) as server:
                    _get_manifest(server, authorization)
                    row.add(name, time.monotonic() - server.started_at)
                    authorization = server.authorization(pulls.SCOPE)
    return [row]


def _fill(name: str, folder: Path, pushed: int, wanted: int) -> None:
    with servers.running(name, folder) as server:
        pulls.push_tags(server, pushed if name == servers.HOMEPORT else 1, distinct=True)
    if name == servers.HOMEPORT:
        filling.add_tags(folder / "data", pushed, wanted)


def _get_manifest(server: Server, authorization: str) -> None:
    client.ask(
        server.address,
        "GET",
        f"/v2/{pulls.REPOSITORY}/manifests/{pulls.tag(0)}",
        expect=200,
        authorization=authorization,
        headers=pulls.MANIFEST_HEADERS,
    )


def million(bench: Bench) -> list[Row]:
    """The same requests to two Homeports that differ only in how many tags (of 1,000 manifests) they hold."""
    if not bench.wants(MILLION):
        return []
    row = Row(MILLION)
    counts = {servers.HOMEPORT: bench.size.many_tags, FEW: bench.size.tags}
    with noting_failure([row], servers.HOMEPORT), bench.place(FEW) as few, bench.place(servers.HOMEPORT) as many:
        folders = {servers.HOMEPORT: many, FEW: few}
        for name, folder in folders.items():
            say(f"{MILLION.name}: {name} gets ready")
            _fill(servers.HOMEPORT, folder, bench.size.tags, counts[name])
        samples = {name: random.Random(0).sample(range(count), min(count, SAMPLE)) for name, count in counts.items()}
        with (
            servers.running(servers.HOMEPORT, many) as large,
            servers.running(servers.HOMEPORT, few) as small,
        ):
            both = {servers.HOMEPORT: large, FEW: small}
            for round_number in range(bench.rounds):
                say(f"{MILLION.name}: round {round_number + 1} of {bench.rounds}")
                for name in in_turn(list(both), round_number):
                    settle(both[name])
                    asked = pulls.ask_manifests(both[name], "GET", samples[name], bench.size.seconds, round_number)
                    row.add(name, asked.per_second)
    return [row]
