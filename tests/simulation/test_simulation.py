"""Pushes, mounts, deletes, crashes and power cuts on real code, drawn by a seed.

`SIMULATIONS=5000 pytest tests/simulation` looks at more seeds, `SIMULATION_SEED=17` at that one. A seed replays its
failure exactly, on every machine.
"""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from homeport import events
from homeport.clock import Clock
from homeport.db.database import Transaction
from homeport.oci.digest import Digest
from homeport.registry import blobs, manifests, quotas, tags, uploads
from homeport.storage.disk import Disk
from homeport.testing.blobstore_faults import FailingStore
from homeport.testing.disk_faults import FailingDisk
from tests.simulation.clients import work
from tests.simulation.world import Faults, World

LIVES = 4
SEEDS = (
    [int(os.environ["SIMULATION_SEED"])]
    if "SIMULATION_SEED" in os.environ
    else range(int(os.environ.get("SIMULATIONS", "200")))
)
#: How many seeds a fault may pass unseen.
SEEDS_TO_SEE_A_FAULT = 60


def simulate(seed: int, faults: Faults | None = None) -> World:
    """Run the world of this seed to its end; what goes wrong has its last lines."""
    world = World(seed, faults or Faults())
    try:
        # Uploads of a simulation are small.
        with mock.patch.object(uploads, "RESERVATION_BYTES", 2_000):
            world.live(work, LIVES)
    except BaseException as error:
        error.add_note("\n".join([*world.trace[-40:], f"replay it with SIMULATION_SEED={seed}"]))
        raise
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_answered_stays_true(seed: int) -> None:
    simulate(seed)


# --- the simulation itself --------------------------------------------------------------------------------------


def test_a_seed_replays_exactly() -> None:
    for seed in range(3):
        assert simulate(seed).trace == simulate(seed).trace


def test_a_seed_replays_in_another_process() -> None:
    """There strings hash to other numbers, so sets have another order."""
    program = "from tests.simulation.test_simulation import simulate; print(*simulate(7).trace, sep='\\n')"
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


# --- faults that it must see ------------------------------------------------------------------------------------


def is_seen(faults: Faults | None = None) -> bool:
    """Whether one of the first seeds fails."""
    for seed in range(SEEDS_TO_SEE_A_FAULT):
        try:
            simulate(seed, faults)
        except AssertionError:
            return True
    return False


class NoSync(FailingDisk):
    def sync(self, handle: int) -> None:
        pass


class NoFolderSync(FailingDisk):
    def sync_folder(self, path: Path) -> None:
        pass


class EarlyFinish(FailingStore):
    """Says where the bytes are before they are there."""

    async def finish(self, upload: str, digest: Digest) -> str:
        finishing = asyncio.ensure_future(super().finish(upload, digest))
        finishing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return f"docker/registry/v2/blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data"


@pytest.mark.parametrize("disk", [NoSync, NoFolderSync])
def test_the_simulation_sees_a_lost_sync(disk: Callable[[Disk], Disk]) -> None:
    assert is_seen(Faults(disk=disk))


def test_the_simulation_sees_a_row_that_is_live_before_its_bytes() -> None:
    assert is_seen(Faults(store=EarlyFinish))


def test_the_simulation_sees_a_quota_that_a_deletion_does_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "discharge", lambda *_: None)
    assert is_seen()


def test_the_simulation_sees_a_quota_that_counts_ahead_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link behind the place where the counting is counts twice."""
    monkeypatch.setattr(quotas._Rule, "has_passed", lambda *_: True)
    assert is_seen()


def test_the_simulation_sees_a_manifest_without_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "missing", lambda *_: [])
    assert is_seen()


def test_the_simulation_sees_a_manifest_that_is_checked_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its bytes are written, and not again in the transaction that takes it in."""
    record = manifests._record

    def unchecked(*args: Any) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(blobs, "missing", lambda *_: [])
            record(*args)

    monkeypatch.setattr(manifests, "_record", unchecked)
    assert is_seen()


def test_the_simulation_sees_a_change_without_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    append = events.append

    def forgetful(tx: Transaction, clock: Clock, kind: str, *args: Any, **kwargs: Any) -> None:
        if kind != "blob.mounted":
            append(tx, clock, kind, *args, **kwargs)

    monkeypatch.setattr(events, "append", forgetful)
    assert is_seen()


def test_the_simulation_sees_a_tag_without_its_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "_remember", lambda *_: None)
    assert is_seen()


def test_the_simulation_sees_a_promise_that_is_not_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "keep", lambda *_: None)
    assert is_seen()
