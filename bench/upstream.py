"""The registry that others take images from: Debian's docker-registry, whose own log says what it was asked.

So every round is counted, the timed ones too, and nothing stands between it and who asks.
"""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from bench import client, layouts, servers
from bench.layouts import Image, Index
from bench.rounds import Bench
from bench.servers import Server

#: A line comes when an answer is written, which may be a little after its last byte has arrived.
LOGGED_SECONDS = 0.2

_LINE = re.compile(
    r'^127\.0\.0\.1 - - \[[^]]*\] "(\w+) /v2/(?:(\S+)/(manifests|blobs|tags)/([^\s?]+))?\S* HTTP', re.MULTILINE
)


@dataclass(frozen=True)
class Asked:
    """A request. `kind` is manifests, blobs or tags, or empty where it was for the registry itself."""

    method: str
    repository: str
    kind: str
    what: str  # tag or digest


@dataclass
class Upstream:
    """The registry; `digests` says what it holds."""

    server: Server
    digests: dict[tuple[str, str], str]  # by repository and tag

    @property
    def address(self) -> str:
        return self.server.address

    @property
    def repositories(self) -> list[str]:
        return sorted({repository for repository, _ in self.digests})

    def push(self, image: Image | Index) -> None:
        """An image as people push it; its tag moves if it was somewhere else."""
        push(self.server, image)
        self.digests[image.repository, image.tag] = client.digest_of(image.manifest)

    def forget(self) -> None:
        """Counts from here."""
        self.server.process.truncate_log()

    def asked(self) -> list[Asked]:
        """What it was asked since it last forgot; a GET of a manifest by its tag is told as one by its digest."""
        time.sleep(LOGGED_SECONDS)
        found = [Asked(*groups) for groups in _LINE.findall(self.server.process.log())]
        return [self._by_digest(one) if (one.method, one.kind) == ("GET", "manifests") else one for one in found]

    def _by_digest(self, asked: Asked) -> Asked:
        return replace(asked, what=self.digests.get((asked.repository, asked.what), asked.what))

    def looks(self) -> set[Asked]:
        """What it takes to see whether anything changed: is it there, a list a repository, a HEAD a tag."""
        lists = {Asked("GET", repository, "tags", "list") for repository in self.repositories}
        heads = {Asked("HEAD", repository, "manifests", tag) for repository, tag in self.digests}
        return {Asked("GET", "", "", ""), *lists, *heads}


def parts(image: Image | Index) -> set[Asked]:
    """What it takes to fetch all of an image."""
    own = {Asked("GET", image.repository, "manifests", client.digest_of(image.manifest))}
    own |= {Asked("GET", image.repository, "blobs", client.digest_of(data)) for data in image.blobs}
    return own.union(*(parts(one) for one in image.images)) if isinstance(image, Index) else own


def beyond(expected: Collection[Asked], asked: Iterable[Asked]) -> list[Asked]:
    """What was asked that is not expected, or was asked before."""
    left = set(expected)
    rest = []
    for one in asked:
        if one in left:
            left.remove(one)
        else:
            rest.append(one)
    return rest


def summary(asked: Iterable[Asked]) -> str:
    """How many requests of each kind."""
    counts = Counter(f"{one.method} {one.kind or 'of the registry'}" for one in asked)
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())) or "none"


def push(server: Server, image: Image | Index) -> None:
    """All of an image, what others name first."""
    _push(server, image, image.tag)


def _push(server: Server, image: Image | Index, reference: str) -> None:
    if isinstance(image, Index):
        for part in image.images:
            _push(server, part, client.digest_of(part.manifest))
    authorization = server.authorization(f"repository:{image.repository}:pull,push")
    for data in image.blobs:
        client.push_blob(server.address, authorization, image.repository, data)
    client.ask(
        server.address,
        "PUT",
        f"/v2/{image.repository}/manifests/{reference}",
        expect=201,
        authorization=authorization,
        body=image.manifest,
        headers={"Content-Type": image.media_type},
    )


@contextlib.contextmanager
def running(bench: Bench, images: Iterable[Image | Index]) -> Iterator[Upstream]:
    """The registry with these images, which are laid out one by one."""
    with bench.place("upstream") as folder:
        digests = {}
        for image in images:
            layouts.lay_out_image(folder / "data", image)
            digests[image.repository, image.tag] = client.digest_of(image.manifest)
        server = servers.start_registry2(folder)
        try:
            yield Upstream(server, digests)
        finally:
            server.stop()
