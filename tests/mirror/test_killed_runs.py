"""A run that was killed goes on in the middle of a layer: real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from homeport.db.database import Transaction
from homeport.kinds import Outcome
from homeport.registry import uploads
from homeport.testing.blobstore_suite import MIB
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import Mirroring
from tests.mirror.upstream import Kind, Upstream
from tests.support.source import ROOT


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_run_that_was_killed_goes_on_in_the_middle_of_a_layer(
    tmp_path: Path, upstream: Upstream, artifacts: Artifacts, ranges: bool
) -> None:
    image = upstream.put("team/app", artifacts.image(12 * MIB), "1.0")
    layer = max(image.blobs, key=lambda blob: blob.blob.size).blob.digest
    upstream.takes_ranges = ranges
    upstream.fail(Kind.GET_BLOB, faults.trickle(0.02, 256 << 10), of=layer)
    folder = tmp_path / "data"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.mirror.dying", str(folder), f"{upstream.host}/team/app"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
    )
    while not (files := [*(folder / "uploads").glob("*")]) or max(each.stat().st_size for each in files) < 4 * MIB:
        await asyncio.sleep(0.01)
        assert process.returncode is None
    process.send_signal(signal.SIGKILL)
    await process.wait()
    came = max(each.stat().st_size for each in (folder / "uploads").glob("*"))
    upstream.behave()
    upstream.forget()
    mirroring = Mirroring(folder)
    await mirroring.connect()
    mirroring.configure({"source": f"{upstream.host}/team/app", "target": "app"})
    await mirroring.registry.db.write(_lapse)
    await uploads.discard_strays(mirroring.registry)
    await mirroring.worker.run_until_idle()
    assert (await mirroring.run()).outcome is Outcome.SUCCESS
    assert [asked.start for asked in upstream.asked if asked.is_of(layer)] == [came]
    await mirroring.check_image(image, "app", "1.0")
    await mirroring.check_everything()
    assert mirroring.strays() == []
    await mirroring.close()


def _lapse(tx: Transaction) -> None:
    """Let it be later for whoever holds a lease."""
    tx.run("UPDATE jobs SET lease_until = 1 WHERE state = 'running'")
