"""Listings, read to their end: the tags of a repository, the catalog."""

import json
from urllib.parse import urljoin

from bench import client, loadgen, pulls
from bench.errors import UnexpectedAnswerError
from bench.lines import Bar, Line
from bench.rounds import Bench, Work
from bench.servers import Server

TAGS = Line(
    "tags-list",
    "tags/list of 3,000, no n asked for",
    "ms",
    Bar(1.0, at_least=False),
)
CATALOG = Line("catalog", "_catalog, whole, by 100", "ms", Bar(0.3, at_least=False))
CATALOG_SCOPE = "registry:catalog:*"


def read(server: Server, scope: str, target: str, key: str) -> tuple[list[str], int]:
    """A listing to its end, and how many answers it took."""
    authorization = server.authorization(scope)
    found: list[str] = []
    answers = 0
    following: str | None = target
    while following:
        answer = client.ask(server.address, "GET", following, expect=200, authorization=authorization)
        found += json.loads(answer.body)[key]
        answers += 1
        link = answer.headers["Link"]
        following = urljoin(following, link[1 : link.index(">")]) if link else None
    return found, answers


def _walk(bench: Bench, server: Server, scope: str, target: str) -> float:
    done = loadgen.run("walk", server, [scope], {"target": target, "seconds": bench.size.seconds})
    return 1000 / done.per_second


def tags(bench: Bench) -> Work:
    """All tags of a repository. A server that pages makes the client ask again, and that is timed."""
    target = f"/v2/{pulls.REPOSITORY}/tags/list"

    def prepare(server: Server) -> None:
        pulls.push_tags(server, bench.size.listed_tags, distinct=False)
        found, _ = read(server, pulls.SCOPE, target, "tags")
        if len(set(found)) != bench.size.listed_tags:
            raise UnexpectedAnswerError(f"{len(found)} tags are listed, not {bench.size.listed_tags}")

    return Work(prepare, {TAGS: lambda server, _: _walk(bench, server, pulls.SCOPE, target)})


def catalog(bench: Bench) -> Work:
    """All repositories, by 100."""
    target = "/v2/_catalog?n=100"
    repositories = [f"bench/repository-{number:03d}" for number in range(bench.size.repositories)]

    def prepare(server: Server) -> None:
        work: dict[str, object] = {
            "clients": 4,
            "repositories": repositories,
            "images": len(repositories),
            "tag": "t",
            "seed": 0,
        }
        loadgen.run("images", server, [], work)  # no scopes: a token for all of them would not fit in a header
        found, _ = read(server, CATALOG_SCOPE, target, "repositories")
        if found != repositories:
            raise UnexpectedAnswerError(f"{len(found)} repositories are listed, not {len(repositories)}")

    return Work(prepare, {CATALOG: lambda server, _: _walk(bench, server, CATALOG_SCOPE, target)})
