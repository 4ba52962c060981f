"""Pushes: large blobs, small images, the same mounted, and new tags for what is there."""

from collections.abc import Sequence

from bench import loadgen, pulls
from bench.lines import Bar, Line
from bench.rounds import Bench, Work
from bench.servers import Server

LARGE = "bench/large"
BLOB_PUSH_1 = Line("blob-push-1", "blob push, 1 stream of 64 MiB blobs", "MB/s", Bar(2.0, at_least=True))
BLOB_PUSH_4 = Line("blob-push-4", "blob push, 4 streams of 64 MiB blobs", "MB/s", Bar(1.5, at_least=True))

SOURCE = "bench/source"
SOURCE_SEED = 1_000_000  # no round's
CLIENTS = 4
IMAGES = Line("images", "small images, 4 clients", "/s", Bar(4, at_least=True))
MOUNTED = Line("images-mounted", "small images, layers mounted, 4 clients", "/s", Bar(4, at_least=True))

RETAG = Line("retag", "re-tagging, 4 clients", "/s", Bar(4, at_least=True))


def blobs(bench: Bench) -> Work:
    """Large blobs as docker pushes them; each round and each stream has data of its own."""

    def measure(server: Server, round_number: int, streams: int) -> float:
        work: dict[str, object] = {
            "repository": LARGE,
            "streams": streams,
            "each": bench.size.blobs_each,
            "bytes": bench.size.blob_bytes,
            "seed": 100 * round_number + streams,
        }
        return loadgen.run("blobs", server, [f"repository:{LARGE}:pull,push"], work).megabytes_per_second

    return Work(
        lambda _: None,
        {
            BLOB_PUSH_1: lambda server, number: measure(server, number, 1),
            BLOB_PUSH_4: lambda server, number: measure(server, number, 4),
        },
    )


def push_images(
    server: Server, count: int, *, seed: int, repositories: Sequence[str], mount_from: str = ""
) -> loadgen.Done:
    """Small images by four clients, taking the repositories in turn."""
    scopes = [f"repository:{repository}:pull,push" for repository in [*repositories, mount_from] if repository]
    work: dict[str, object] = {
        "clients": CLIENTS,
        "repositories": repositories,
        "images": count,
        "tag": "t",
        "seed": seed,
        "mount_from": mount_from,
        "layers_seed": SOURCE_SEED,
    }
    return loadgen.run("images", server, scopes, work)


def images(bench: Bench) -> Work:
    """Small images, each client into a repository of its own."""

    def prepare(server: Server) -> None:
        push_images(server, bench.size.images, seed=SOURCE_SEED, repositories=[SOURCE])

    def measure(server: Server, number: int, kind: str, mount_from: str) -> float:
        repositories = [f"bench/{kind}-{number}-{index}" for index in range(CLIENTS)]
        seed = 2 * number + (kind == "mounted")
        pushed = push_images(server, bench.size.images, seed=seed, repositories=repositories, mount_from=mount_from)
        return pushed.per_second

    return Work(
        prepare,
        {
            IMAGES: lambda server, number: measure(server, number, "small", ""),
            MOUNTED: lambda server, number: measure(server, number, "mounted", SOURCE),
        },
    )


def retags(bench: Bench) -> Work:
    """A manifest that is there, put again under new names."""

    def prepare(server: Server) -> None:
        pulls.push_tags(server, 1, distinct=False)

    def measure(server: Server, number: int) -> float:
        names = [f"again-{number}-{index}" for index in range(bench.size.retags)]
        return pulls.put_manifests(server, dict.fromkeys(names, pulls.manifest(""))).per_second

    return Work(prepare, {RETAG: measure})
