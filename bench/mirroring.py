"""What it costs to keep a registry in step with another one: nothing changed, one tag moved, and the first time."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from bench import client, lines, mirrors, upstream
from bench.layouts import Image, Index, Shape, random_bytes
from bench.lines import Bar, Line, Row
from bench.mirrors import Mirror
from bench.rounds import Bench, Size, in_turn, noting_failure, say, settle
from bench.upstream import Asked, Upstream

UNCHANGED = Line(
    "mirror-unchanged",
    "mirror run, nothing changed: 500 tags of 4 platforms in 50 repositories (theirs: skopeo sync)",
    "tags/s",
    Bar(20, at_least=True),
    peer=mirrors.SKOPEO,
)
UNCHANGED_REGSYNC = Line(
    "mirror-unchanged-regsync", "the same (theirs: regsync)", "tags/s", Bar(1.0, at_least=True), peer=mirrors.REGSYNC
)
LOOKS = Line(
    "mirror-looks",
    "the same, upstream requests beyond a HEAD a tag and a list a repository (theirs: regsync)",
    "",
    Bar(0, at_least=False, of_ratio=False),
    peer=mirrors.REGSYNC,
)
MOVED = Line(
    "mirror-moved",
    "the same when one tag moved, beyond that and what is new (theirs: regsync)",
    "",
    Bar(0, at_least=False, of_ratio=False),
    peer=mirrors.REGSYNC,
)
MEMORY = Line(
    "mirror-memory", "resident memory at its peak in these runs", "MiB", Bar(200, at_least=False, of_ratio=False)
)
FIRST = Line(
    "mirror-first",
    "first mirror run: 50 images of 4 layers of 8 MiB, half of them shared (theirs: skopeo sync)",
    "images/s",
    Bar(3.0, at_least=True),
    peer=mirrors.SKOPEO,
)
FIRST_REGSYNC = Line(
    "mirror-first-regsync", "the same (theirs: regsync)", "images/s", Bar(1.25, at_least=True), peer=mirrors.REGSYNC
)
FIRST_AGAIN = Line(
    "mirror-first-again",
    "the same, times that a blob was fetched again (theirs: regsync)",
    "",
    Bar(0, at_least=False, of_ratio=False),
    peer=mirrors.REGSYNC,
)
FIRST_MEMORY = Line(
    "mirror-first-memory",
    "the same, resident memory at its peak",
    "MiB",
    Bar(200, at_least=False, of_ratio=False),
)


IN_STEP_LINES = (UNCHANGED, UNCHANGED_REGSYNC, LOOKS, MOVED, MEMORY)
FIRST_LINES = (FIRST, FIRST_REGSYNC, FIRST_AGAIN, FIRST_MEMORY)

Figures = dict[Line, float]


# --- in step ----------------------------------------------------------------------------------------------------


def in_step(bench: Bench) -> list[Row]:
    """Small images that all three have: rounds in which nothing changed, and rounds in which a tag has moved."""
    rows = {line: Row(line) for line in IN_STEP_LINES if bench.wants(line)}
    if not rows:
        return []
    names = ", ".join(line.name for line in rows)
    images = list(_small_images(bench.size))
    notes: dict[str, str] = {}
    with (
        noting_failure(rows.values(), "upstream"),
        upstream.running(bench, images) as source,
        contextlib.ExitStack() as stack,
    ):
        running: dict[str, Mirror] = {}
        for name in mirrors.START:
            with noting_failure(rows.values(), name):
                say(f"{names}: {name} gets ready")
                mirror = stack.enter_context(mirrors.running(bench, name, source))
                mirror.run()
                mirror.check(source.digests)
                running[name] = mirror
        for round_number in range(bench.rounds):
            say(f"{names}: round {round_number + 1} of {bench.rounds}, nothing changed")
            for name in in_turn(list(running), round_number):
                with noting_failure(rows.values(), name):
                    figures, notes[name] = _unchanged(running[name], source)
                    lines.add(rows, name, figures)
        running.pop(mirrors.SKOPEO, None)  # it does everything again, whatever moved
        for round_number in range(bench.rounds if MOVED in rows or MEMORY in rows else 0):
            say(f"{names}: round {round_number + 1} of {bench.rounds}, one tag moved")
            moved = _moved(images[round_number % len(images)], round_number)
            source.push(moved)
            for name in in_turn(list(running), round_number):
                with noting_failure(rows.values(), name):
                    lines.add(rows, name, _one_moved(running[name], source, moved))
    if LOOKS in rows:
        rows[LOOKS].note = "; ".join(f"{name} asked for {asked}" for name, asked in notes.items())
    return list(rows.values())


def _small_images(size: Size) -> Iterator[Index]:
    """Each platform has a config and a layer of its own, and three layers that all of its repository have."""
    platforms = len(client.ARCHITECTURES)
    shape = Shape(size.mirrored_repositories, size.mirrored_tags * platforms, layers=1, shared=3)
    for images in shape.all():
        for number in range(size.mirrored_tags):
            yield Index(f"v1.{number}", tuple(images[number * platforms :][:platforms]))


def _unchanged(mirror: Mirror, source: Upstream) -> tuple[Figures, str]:
    """With what upstream was asked for."""
    seconds, asked = _run(mirror, source)
    per_second = len(source.digests) / seconds
    beyond = upstream.beyond(source.looks(), asked)
    return {UNCHANGED: per_second, UNCHANGED_REGSYNC: per_second, LOOKS: len(beyond)}, upstream.summary(asked)


def _moved(index: Index, round_number: int) -> Index:
    """Another image under the same tag: its platforms have a config and a layer that are new."""
    return Index(index.tag, tuple(_changed(image, f"round {round_number}") for image in index.images))


def _changed(image: Image, note: str) -> Image:
    own = f"{image.tag} of {note}"
    return Image(image.repository, own, client.config_of(own), (*image.layers[:-1], f"layer {own}".encode()))


def _one_moved(mirror: Mirror, source: Upstream, moved: Index) -> Figures:
    _, asked = _run(mirror, source)
    mirror.check({(moved.repository, moved.tag): client.digest_of(moved.manifest)})
    beyond = upstream.beyond(source.looks() | upstream.parts(moved), asked)
    return {MOVED: len(beyond), MEMORY: mirror.server.process.peak_bytes() / (1 << 20)}


# --- at first ---------------------------------------------------------------------------------------------------


def at_first(bench: Bench) -> list[Row]:
    """Large images that none of them has: each round begins with empty registries."""
    rows = {line: Row(line) for line in FIRST_LINES if bench.wants(line)}
    if not rows:
        return []
    names = ", ".join(line.name for line in rows)
    with (
        noting_failure(rows.values(), "upstream"),
        upstream.running(bench, _large_images(bench.size)) as source,
    ):
        for round_number in range(bench.rounds):
            say(f"{names}: round {round_number + 1} of {bench.rounds}")
            for name in in_turn(list(mirrors.START), round_number):
                with noting_failure(rows.values(), name), mirrors.running(bench, name, source) as mirror:
                    lines.add(rows, name, _all_new(mirror, source))
    return list(rows.values())


def _large_images(size: Size) -> Iterator[Image]:
    """Each in a repository of its own: two layers that all of them have, and two of its own."""

    def layer(name: str) -> bytes:
        return random_bytes(name, size.first_layer_bytes)

    shared = [layer(f"shared {number}") for number in range(2)]
    for image in range(size.first_images):
        own = [layer(f"{image} {number}") for number in range(2)]
        yield Image(f"bench/first-{image:02d}", "latest", client.config_of(f"first {image}"), (*shared, *own))


def _all_new(mirror: Mirror, source: Upstream) -> Figures:
    seconds, asked = _run(mirror, source)
    mirror.check(source.digests)
    fetched = Counter(one.what for one in asked if (one.method, one.kind) == ("GET", "blobs"))
    per_second = len(source.digests) / seconds
    return {
        FIRST: per_second,
        FIRST_REGSYNC: per_second,
        FIRST_AGAIN: sum(count - 1 for count in fetched.values()),
        FIRST_MEMORY: mirror.server.process.peak_bytes() / (1 << 20),
    }


# --- both -------------------------------------------------------------------------------------------------------


def _run(mirror: Mirror, source: Upstream) -> tuple[float, list[Asked]]:
    """Seconds, and what upstream was asked meanwhile."""
    settle(mirror.server)
    source.forget()
    seconds = mirror.run()
    return seconds, source.asked()
