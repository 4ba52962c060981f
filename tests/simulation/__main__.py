"""`make simulate STEPS=1000000`: the simulation on fresh seeds, in two processes, until there were so many steps.

A step is an operation: a request of a client or keeper, or a whole sweep or walk. A failure is replayed by its seed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from typing import Final

from tests.simulation.life import simulate

PROCESSES: Final = 2
#: What a process simulates before it reports.
SEEDS: Final = 20


class Failed(Exception):
    """A seed and what went wrong with it."""

    def __init__(self, seed: int, text: str) -> None:
        super().__init__(seed, text)
        self.seed = seed
        self.text = text


def _simulate(first: int) -> int:
    """Simulate some seeds; how many steps those were."""
    steps = 0
    for seed in range(first, first + SEEDS):
        try:
            steps += simulate(seed).operations
        except BaseException:  # noqa: BLE001 (whatever it is, its seed has to be told)
            raise Failed(seed, traceback.format_exc()) from None
    return steps


def _run(first: int, steps_wanted: int) -> tuple[int, int]:
    """Simulate from the seed `first` on; how many steps and how many seeds it took. Raises `Failed`."""
    steps = seeds = 0
    running: set[Future[int]] = set()
    firsts = count(first, SEEDS)
    with ProcessPoolExecutor(PROCESSES) as pool:
        while steps < steps_wanted:
            while len(running) < PROCESSES:
                running.add(pool.submit(_simulate, next(firsts)))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            steps += sum(each.result() for each in ended)
            seeds += SEEDS * len(ended)
    return steps, seeds


def main() -> int:
    """Say which seeds are taken, and which one failed."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000, help="so many operations at least (%(default)s)")
    wanted = parser.parse_args().steps
    began, first = time.monotonic(), int.from_bytes(os.urandom(6), "big")
    print(f"{wanted} steps, on the seeds from {first} on", flush=True)
    try:
        steps, seeds = _run(first, wanted)
    except Failed as failed:
        replay = f"SIMULATION_SEED={failed.seed} .venv/bin/python -m pytest tests/simulation/test_simulation.py"
        print(f"{failed.text}\nSeed {failed.seed} failed. To replay it: {replay}", file=sys.stderr)
        return 1
    print(f"{steps} steps on {seeds} seeds, nothing wrong, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
