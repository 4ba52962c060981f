"""Pulls: manifests by tag, whole blobs, a range of a blob."""

import random
from collections.abc import Mapping, Sequence

from bench import client, loadgen
from bench.errors import UnexpectedAnswerError
from bench.lines import Bar, Line
from bench.loadgen import Request
from bench.rounds import Bench, Work
from bench.servers import Server

REPOSITORY = "bench/tags"
SCOPE = f"repository:{REPOSITORY}:pull"
PUSH_SCOPE = f"repository:{REPOSITORY}:pull,push"
MANIFEST_HEADERS = {"Accept": client.ACCEPT}

CONFIG = b'{"architecture":"amd64","os":"linux"}'
LAYERS = [bytes([number]) * 4096 for number in range(3)]

MANIFEST_GET = Line("manifest-get", "manifest GET by tag, 32 connections", "/s", Bar(14, at_least=True))
MANIFEST_HEAD = Line("manifest-head", "manifest HEAD by tag, 32 connections", "/s", Bar(14, at_least=True))


def tag(number: int) -> str:
    """The name of a tag by its number."""
    return f"tag-{number:07d}"


def manifest(note: str) -> str:
    """The manifest of the small image that `push_tags` pushes; another note, another manifest."""
    return client.manifest_of(CONFIG, LAYERS, note).decode()


def push_tags(server: Server, count: int, *, distinct: bool) -> None:
    """So many tags in one repository, each with a manifest of its own (`distinct`) or all with the same."""
    authorization = server.authorization(PUSH_SCOPE)
    for data in [CONFIG, *LAYERS]:
        client.push_blob(server.address, authorization, REPOSITORY, data)
    put_manifests(server, {tag(number): manifest(tag(number) if distinct else "") for number in range(count)})


def put_manifests(server: Server, manifests: Mapping[str, str]) -> loadgen.Done:
    """Puts each manifest under its tag, as four clients that have nothing else to do."""
    requests = [Request("PUT", f"/v2/{REPOSITORY}/manifests/{name}", body) for name, body in manifests.items()]
    headers = {"Content-Type": client.MANIFEST_TYPE}
    work = loadgen.requests_work(requests, connections=4, status=201, headers=headers)
    return loadgen.run("requests", server, [PUSH_SCOPE], work)


def ask_manifests(server: Server, method: str, tags: Sequence[int], seconds: float, seed: int) -> loadgen.Done:
    """Requests for the manifests of these tags, picked at random."""
    requests = [Request(method, f"/v2/{REPOSITORY}/manifests/{tag(number)}") for number in tags]
    work = loadgen.requests_work(requests, connections=32, seconds=seconds, seed=seed, headers=MANIFEST_HEADERS)
    return loadgen.run("requests", server, [SCOPE], work)


def manifests(bench: Bench) -> Work:
    """GET and HEAD of manifests by tag."""

    def prepare(server: Server) -> None:
        push_tags(server, bench.size.tags, distinct=True)
        answer = client.ask(
            server.address,
            "GET",
            f"/v2/{REPOSITORY}/manifests/{tag(7)}",
            expect=200,
            authorization=server.authorization(SCOPE),
            headers=MANIFEST_HEADERS,
        )
        if tag(7).encode() not in answer.body:
            raise UnexpectedAnswerError(f"another manifest was served for {tag(7)}")

    def measure(method: str, server: Server, round_number: int) -> float:
        return ask_manifests(server, method, range(bench.size.tags), bench.size.seconds, round_number).per_second

    return Work(
        prepare,
        {
            MANIFEST_GET: lambda server, number: measure("GET", server, number),
            MANIFEST_HEAD: lambda server, number: measure("HEAD", server, number),
        },
    )


BLOBS = 8
BLOB_GET_1 = Line("blob-get-1", "blob GET, 1 stream of 64 MiB blobs", "MB/s", Bar(1.0, at_least=True))
BLOB_GET_8 = Line("blob-get-8", "blob GET, 8 streams of 64 MiB blobs", "MB/s", Bar(1.0, at_least=True))
BLOB_RANGE = Line("blob-range", "blob GET, a range of 16 MiB", "MB/s", Bar(1.0, at_least=True))


def blob_data(number: int, size: int) -> bytes:
    """Incompressible data, the same for every server."""
    return random.Random(number).randbytes(size)


def push_blobs(server: Server, size: int) -> list[str]:
    """The blobs that are pulled; their digests."""
    authorization = server.authorization(PUSH_SCOPE)
    return [
        client.push_blob(server.address, authorization, REPOSITORY, blob_data(number, size)) for number in range(BLOBS)
    ]


def blobs(bench: Bench) -> Work:
    """GET of whole blobs and of a range, from the page cache: what is measured is the server and not the disk."""
    size = bench.size.blob_bytes
    first, last = size // 4 + 1, size // 2  # not aligned to anything
    byte_range = {"Range": f"bytes={first}-{last}"}
    targets: list[str] = []

    def prepare(server: Server) -> None:
        digests = push_blobs(server, size)
        targets[:] = [f"/v2/{REPOSITORY}/blobs/{digest}" for digest in digests]
        authorization = server.authorization(SCOPE)
        whole = client.ask(server.address, "GET", targets[0], expect=200, authorization=authorization).body
        part = client.ask(
            server.address, "GET", targets[0], expect=206, authorization=authorization, headers=byte_range
        ).body
        if client.digest_of(whole) != digests[0] or part != whole[first : last + 1]:
            raise UnexpectedAnswerError("another blob, or another range of it, was served")

    def measure(server: Server, number: int, streams: int, headers: dict[str, str]) -> float:
        work = loadgen.requests_work(
            [Request("GET", target) for target in targets],
            connections=streams,
            status=206 if headers else 200,
            seconds=bench.size.seconds,
            seed=number,
            headers=headers,
        )
        return loadgen.run("requests", server, [SCOPE], work).megabytes_per_second

    return Work(
        prepare,
        {
            BLOB_GET_1: lambda server, number: measure(server, number, 1, {}),
            BLOB_GET_8: lambda server, number: measure(server, number, 8, {}),
            BLOB_RANGE: lambda server, number: measure(server, number, 1, byte_range),
        },
    )
