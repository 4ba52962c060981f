"""What a retention plan costs: the verb that a person calls, in a process of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

from bench import layouts, servers
from bench.errors import UnexpectedAnswerError
from bench.layouts import Shape
from bench.lines import Bar, Line, Row
from bench.rounds import Bench, noting_failure, say
from bench.sweeping import DAY, MovableClock

SECONDS = Line("plan-100000", "retention plan over 100,000 tags", "s", Bar(5, at_least=False, of_ratio=False))
MEMORY = Line("plan-memory", "the same, resident memory at its peak", "MiB", Bar(300, at_least=False, of_ratio=False))

#: Ten of the hundred tags of each minor version stay.
POLICY = 'cleanup: {keep: [{repositories: "bench/**", newest: 10, pushed_within: 1d}]}\n'
#: How long ago all of it was pushed.
BACK = 30 * DAY


def measure(bench: Bench) -> list[Row]:
    """Time and memory of the same runs."""
    rows = {line: Row(line) for line in (SECONDS, MEMORY) if bench.wants(line)}
    if not rows:
        return []
    with noting_failure(rows.values(), servers.HOMEPORT), bench.place(servers.HOMEPORT) as folder:
        say(f"{SECONDS.name}: {servers.HOMEPORT} gets ready")
        # An image is a manifest, a config, a layer of its own, and three that all of its repository have.
        shape = Shape(repositories=100, images=bench.size.planned_tags // 100, layers=1, shared=3)
        layouts.lay_out_homeport(folder / "data", shape, MovableClock(-BACK), files=False)
        (folder / "homeport.yaml").write_text(POLICY)
        for round_number in range(bench.rounds):
            say(f"{SECONDS.name}: round {round_number + 1} of {bench.rounds}")
            seconds, peak_bytes = _plan(folder)
            if SECONDS in rows:
                rows[SECONDS].add(servers.HOMEPORT, seconds)
            if MEMORY in rows:
                rows[MEMORY].add(servers.HOMEPORT, peak_bytes / (1 << 20))
    return list(rows.values())


def _plan(folder: Path) -> tuple[float, int]:
    """Seconds, and the bytes of memory at the peak."""
    command = [sys.executable, "-m", "homeport", "cleanup", "plan", "--json"]
    command += ["--data", str(folder / "data"), "--config", str(folder / "homeport.yaml")]
    with (folder / "plan.json").open("wb") as sink, (folder / "errors").open("wb") as errors:
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise UnexpectedAnswerError(
            f"the plan ended with {process.returncode}: {(folder / 'errors').read_text()[:600]}"
        )
    if (folder / "plan.json").stat().st_size == 0:
        raise UnexpectedAnswerError("the plan says nothing")
    return seconds, usage.ru_maxrss << 10
