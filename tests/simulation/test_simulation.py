"""Pushes, mounts, deletes, sweeps, restores, crashes and power cuts on real code, drawn by a seed.

Some seeds are looked at by every run; `make simulate STEPS=1000000` takes fresh ones. `SIMULATIONS=5000 pytest
tests/simulation` looks at more, `SIMULATION_SEED=17` at that one: a seed replays its failure exactly, on every machine.
What the simulation sees is shown by `test_faults.py`.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.life import simulate
from tests.simulation.oracle import SWEEP

SEEDS = (
    [int(os.environ["SIMULATION_SEED"])]
    if "SIMULATION_SEED" in os.environ
    else range(int(os.environ.get("SIMULATIONS", "60")))
)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_answered_stays_true(seed: int) -> None:
    simulate(seed)


# --- the simulation itself --------------------------------------------------------------------------------------


def test_a_seed_replays_exactly() -> None:
    for seed in range(3):
        assert simulate(seed).trace == simulate(seed).trace


def test_a_seed_replays_in_another_process() -> None:
    """There strings hash to other numbers, so sets have another order."""
    program = "from tests.simulation.life import simulate; print(*simulate(7).trace, sep='\\n')"
    traces = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert traces == {"\n".join(simulate(7).trace) + "\n"}


def test_much_happens() -> None:
    """A simulation in which nothing goes wrong shows nothing."""
    seen = Counter[str]()
    for seed in range(20):
        for line in simulate(seed).trace:
            words = line.split()[1:]
            seen[
                " ".join(words[1:]) if words[1:2] in (["refused:"], ["failed:"], ["answered"]) else " ".join(words)
            ] += 1
    for happening in (
        "sweep",
        "sweep without grace",
        "walk",
        "the process dies",
        "the power is cut",
        "answered",
        "refused: BlobUnknown",
        "refused: BlobUploadUnknown",
        "refused: BodyIncomplete",
        "refused: DigestInvalid",
        "refused: ManifestBlobUnknown",
        "refused: ManifestUnknown",
        "refused: QuotaExceeded",
        "refused: ReferencedByManifest",
        "refused: UploadOutOfOrder",
        "refused: UploadTakenOver",
    ):
        assert seen[happening] >= 3, f"{happening}: {seen[happening]}"


def test_all_ways_of_going_and_coming_back_are_taken() -> None:
    seen = Counter[tuple[str, bool]]()
    for seed in range(20):
        for told in simulate(seed).told:
            seen[told.change.kind, told.run == SWEEP] += 1
    for kind, swept in (
        ("blob.deleted", True),
        ("manifest.deleted", True),
        ("tag.deleted", True),
        ("blob.restored", False),
        ("blob.deleted", False),
        ("manifest.deleted", False),
        ("tag.deleted", False),
    ):
        assert seen[kind, swept] >= 3, f"{kind} by {'a sweep' if swept else 'others'}: {seen[kind, swept]}"


def test_fresh_seeds_are_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--steps", "1"],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(
        r"1 steps, on the seeds from \d+ on\n\d+ steps on \d+ seeds, nothing wrong, \d+ s\n", done.stdout
    )
