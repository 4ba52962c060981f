"""`python -m bench`: does the work of each line on every server and prints the table. Slowness never fails it."""

import argparse
import compileall
import contextlib
import fcntl
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import homeport
from bench import (
    caching,
    growth,
    listings,
    memory,
    mirroring,
    plans,
    pulls,
    pushes,
    report,
    subscriptions,
    sweeps,
    tools,
)
from bench.lines import Row
from bench.rounds import QUICK, Bench, Size, compare, say

PARTS: tuple[Callable[[Bench], list[Row]], ...] = (
    lambda bench: compare(bench, pulls.manifests(bench)),
    lambda bench: compare(bench, pulls.blobs(bench)),
    lambda bench: compare(bench, pushes.blobs(bench)),
    lambda bench: compare(bench, pushes.images(bench)),
    lambda bench: compare(bench, pushes.retags(bench)),
    subscriptions.measure,
    lambda bench: compare(bench, listings.tags(bench)),
    lambda bench: compare(bench, listings.catalog(bench)),
    memory.measure,
    growth.start,
    growth.million,
    sweeps.nothing,
    sweeps.much,
    sweeps.meanwhile,
    plans.measure,
    mirroring.in_step,
    mirroring.at_first,
    caching.pulls,
    caching.crowd,
)
LINES = (
    pulls.MANIFEST_GET,
    pulls.MANIFEST_HEAD,
    pulls.BLOB_GET_1,
    pulls.BLOB_GET_8,
    pulls.BLOB_RANGE,
    pushes.BLOB_PUSH_1,
    pushes.BLOB_PUSH_4,
    pushes.IMAGES,
    pushes.MOUNTED,
    pushes.RETAG,
    subscriptions.SUBSCRIBED,
    listings.TAGS,
    listings.CATALOG,
    memory.IDLE,
    memory.BUSY,
    growth.START,
    growth.MILLION,
    sweeps.NOTHING,
    sweeps.MUCH,
    sweeps.PULLS,
    sweeps.PUSHES,
    plans.SECONDS,
    plans.MEMORY,
    *mirroring.IN_STEP_LINES,
    *mirroring.FIRST_LINES,
    *caching.PULL_LINES,
    *caching.CROWD_LINES,
)
ROUNDS, QUICK_ROUNDS = 5, 1


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """An empty folder on the disk of the repository; what an earlier run left when it was killed is removed."""
    tools.BUILD.mkdir(parents=True, exist_ok=True)
    folder = tools.BUILD / "work"
    with (tools.BUILD / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another benchmark is running here; two at once measure one another")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few minutes; its figures mean little")
    names = [line.name for line in LINES]
    parser.add_argument("--only", metavar="NAME", choices=names, help=f"one line: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    return parser.parse_args()


def main() -> int:
    """Exit code 0 when every figure could be measured, whatever it is."""
    given = arguments()
    # So that being told to end ends the servers too, and prints what was measured until then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # As pip leaves what it installs: an editable install compiles at each start what was changed since the last.
    compileall.compile_dir(str(Path(homeport.__file__).parent), quiet=1)
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    rows: list[Row] = []
    started = time.monotonic()
    with work_folder() as folder:
        bench = Bench(folder, QUICK if given.quick else Size(), rounds, given.only)
        print(report.conditions(bench))
        try:
            for part in PARTS:
                rows += part(bench)
        finally:
            print(report.table(rows))
    say(f"{time.monotonic() - started:.0f} s")
    return 1 if any(row.failures for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
