"""What the sweep costs: with nothing to do, with much, and whoever pulls and pushes meanwhile."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import layouts, pulls, pushes, servers, sweeping, tools
from bench.errors import UnexpectedAnswerError
from bench.layouts import Image, Shape
from bench.lines import Bar, Line, Row
from bench.loadgen import Done
from bench.rounds import Bench, in_turn, noting_failure, say, settle
from bench.servers import Server
from bench.sweeping import DAY, HOUR, MovableClock, Sweep

FEW = "homeport, 10,000 blobs"
NOTHING = Line(
    "sweep-nothing",
    "a sweep that finds nothing, 1,000,000 blobs (theirs: ours, 10,000)",
    "ms",
    Bar(1_000, at_least=False, of_ratio=False),
    peer=FEW,
)
MUCH = Line(
    "sweep-10000", "sweeping 10,000 of 100,000 blobs (theirs: --delete-untagged)", "s", Bar(0.1, at_least=False)
)
UNSWEPT = "homeport, nothing to sweep"
PULLS = Line(
    "sweep-pulls",
    "manifest GET while sweeping, p99 (theirs: ours, nothing to sweep)",
    "ms",
    Bar(2.0, at_least=False),
    peer=UNSWEPT,
)
PUSHES = Line(
    "sweep-pushes",
    "small images while sweeping (theirs: ours, nothing to sweep)",
    "/s",
    Bar(0.8, at_least=True),
    peer=UNSWEPT,
)

#: Behind every grace of the defaults, behind what is between condemning and moving, and behind the trash.
GRACES, CONDEMNED, TRASH = 9 * DAY, 11 * 60.0, 8 * DAY
#: Where the clock stood when what is swept now was pushed.
BACK = 30 * DAY
#: The same for a server, which would not believe a clock that nobody has seen for three days.
BACK_FOR_SERVER = 2 * DAY
SHORT_GRACES = "cleanup: {grace: 1h, untagged_after: 1h}\n"


# --- nothing to do ----------------------------------------------------------------------------------------------


def nothing(bench: Bench) -> list[Row]:
    """All that is due, of which there is nothing, and then what `homeport cleanup run` looks at besides."""
    if not bench.wants(NOTHING):
        return []
    row = Row(NOTHING)
    # An image is a manifest, a config and eight layers.
    shapes = {
        servers.HOMEPORT: Shape(repositories=100, images=bench.size.kept_blobs // 1_000, layers=8),
        FEW: Shape(repositories=100, images=bench.size.kept_blobs // 100_000 or 1, layers=8),
    }
    with noting_failure([row], servers.HOMEPORT), bench.place(servers.HOMEPORT) as many, bench.place(FEW) as few:
        folders = {servers.HOMEPORT: many, FEW: few}
        for name, folder in folders.items():
            say(f"{NOTHING.name}: {name} gets ready")
            layouts.lay_out_homeport(folder, shapes[name], MovableClock(-BACK), files=False)
        for round_number in range(bench.rounds):
            say(f"{NOTHING.name}: round {round_number + 1} of {bench.rounds}")
            for name in in_turn(list(folders), round_number):
                sweeps = [Sweep(), Sweep(everything=True)]
                done = sweeping.sweep(folders[name], back_seconds=BACK, sweeps=sweeps)
                if any(count for swept in done for count in swept.went.values()):
                    raise UnexpectedAnswerError(f"there was something to sweep: {done}")
                row.add(name, 1000 * sum(swept.seconds for swept in done))
    return [row]


# --- much to do -------------------------------------------------------------------------------------------------


def much(bench: Bench) -> list[Row]:
    """A tenth of all images lose their tag; in each repository five of fifty. One round: each takes its folder with it.

    Ours is from the moment when they are due to that when the last of their bytes lies in the trash, without the ten
    minutes in between; theirs is the whole run, during which nobody may push.
    """
    if not bench.wants(MUCH):
        return []
    row = Row(MUCH)
    # An image is a manifest, a config and three layers.
    shape = Shape(repositories=bench.size.laid_blobs // 250, images=50, layers=3)
    untagged = 5
    gone = shape.repositories * untagged * 5
    with noting_failure([row], servers.HOMEPORT), bench.place(servers.HOMEPORT) as folder:
        say(f"{MUCH.name}: {servers.HOMEPORT}")
        _lay_out_untagged(folder, shape, untagged, MovableClock(-BACK))
        sweeps = [Sweep(GRACES), Sweep(CONDEMNED), Sweep(TRASH)]
        links, retired, purged = sweeping.sweep(folder, back_seconds=BACK, sweeps=sweeps)
        if (retired.went["trashed"], purged.went["purged"]) != (gone, gone):
            raise UnexpectedAnswerError(f"not all of it went: {retired.went}, {purged.went}")
        row.add(servers.HOMEPORT, links.seconds + retired.seconds)
        row.note = (
            f"{shape.repositories} repositories of {shape.images} images; ours in {links.seconds:.1f} s for links,"
            f" {retired.seconds:.1f} s for bytes, and {purged.seconds:.1f} s to purge the trash a week later,"
            " beside a server that goes on serving"
        )
    with noting_failure([row], servers.REGISTRY2), bench.place(servers.REGISTRY2) as folder:
        say(f"{MUCH.name}: {servers.REGISTRY2}")
        layouts.lay_out_distribution(folder / "data", shape, untagged)
        row.add(servers.REGISTRY2, _collect_garbage(folder, gone))
    return [row]


def _lay_out_untagged(data: Path, shape: Shape, untagged: int, clock: MovableClock) -> None:
    layouts.lay_out_homeport(data, shape, clock, files=True)
    layouts.untag(data, [image for images in shape.all() for image in images[-untagged:]], clock)
    os.sync()


def _collect_garbage(folder: Path, gone: int) -> float:
    config = servers.distribution_config(folder)
    os.sync()
    started = time.monotonic()
    done = subprocess.run(
        [tools.tool("docker-registry"), "garbage-collect", "--delete-untagged", config],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    found = done.stdout.count("blob eligible for deletion")
    if done.returncode != 0 or found != gone:
        raise UnexpectedAnswerError(f"{found} blobs went, not {gone}: {done.stderr[-1000:]}")
    return seconds


# --- meanwhile --------------------------------------------------------------------------------------------------


def meanwhile(bench: Bench) -> list[Row]:
    """The same requests to two Homeports, of which one has images to sweep all the time: links, then bytes.

    Only one of them runs at a time, since the other one would go on sweeping.
    """
    rows = {line: Row(line) for line in (PULLS, PUSHES) if bench.wants(line)}
    if not rows:
        return []
    with (
        noting_failure(rows.values(), servers.HOMEPORT),
        bench.place(servers.HOMEPORT) as swept,
        bench.place(UNSWEPT) as unswept,
    ):
        folders = {servers.HOMEPORT: swept, UNSWEPT: unswept}
        for name, folder in folders.items():
            say(f"{', '.join(line.name for line in rows)}: {name} gets ready")
            _lay_out_due(folder / "data", bench.size.due_images, is_due=name == servers.HOMEPORT)
            with _running(folder) as server:
                pulls.push_tags(server, bench.size.tags, distinct=True)
        due = layouts.due(swept / "data", MovableClock(0))
        for round_number in range(bench.rounds):
            say(f"{', '.join(line.name for line in rows)}: round {round_number + 1} of {bench.rounds}")
            for name in in_turn(list(folders), round_number):
                with _running(folders[name]) as server:
                    settle(server)
                    pulled, pushed = _use(bench, server, round_number)
                if PULLS in rows:
                    rows[PULLS].add(name, 1000 * pulled.p99)
                if PUSHES in rows:
                    rows[PUSHES].add(name, pushed.per_second)
        left = layouts.due(swept / "data", MovableClock(0))
        if left == 0:
            raise UnexpectedAnswerError("the sweep was over before the measurement was")
        for row in rows.values():
            row.note = f"{due - left:,} looks were taken meanwhile, {left:,} more were due in the end"
    return list(rows.values())


def _lay_out_due(data: Path, count: int, *, is_due: bool) -> None:
    """So many images, pushed two days ago. `is_due`: half of them lost their tag and are condemned, half are to be."""
    shape = Shape(repositories=count // 50, images=50, layers=3)
    layouts.lay_out_homeport(data, shape, MovableClock(-BACK_FOR_SERVER), files=True)
    if is_due:
        first, second = _halves(shape)
        layouts.untag(data, first, MovableClock(-BACK_FOR_SERVER))
        # Where the promises of the pushes are over.
        sweeping.sweep(data, back_seconds=BACK_FOR_SERVER, sweeps=[Sweep(25 * HOUR, everything=True)])
        # So that links come due when bytes do.
        layouts.untag(data, second, MovableClock(25 * HOUR - BACK_FOR_SERVER - layouts.GRACE + CONDEMNED))
    os.sync()


def _halves(shape: Shape) -> tuple[list[Image], list[Image]]:
    everything = [image for images in shape.all() for image in images]
    return everything[::2], everything[1::2]


@contextmanager
def _running(folder: Path) -> Iterator[Server]:
    server = servers.start_homeport(folder, verb="up", more_settings=SHORT_GRACES)
    try:
        yield server
    finally:
        server.stop()


def _use(bench: Bench, server: Server, round_number: int) -> tuple[Done, Done]:
    """Pull for a while, and then push."""
    pulled = pulls.ask_manifests(server, "GET", range(bench.size.tags), bench.size.seconds, round_number)
    repositories = [f"bench/meanwhile-{index}" for index in range(pushes.CLIENTS)]
    return pulled, pushes.push_images(server, bench.size.images, seed=round_number, repositories=repositories)
