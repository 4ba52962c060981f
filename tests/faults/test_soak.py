"""The soak: `make soak` takes five minutes (`SECONDS=n`: n seconds), of which `make test` takes the first eight."""

import os
import sys

import pytest

from tests.faults.soak import Soak
from tests.support.processes import Homeport

SECONDS = float(os.environ.get("SOAK_SECONDS", "300"))
#: Each round begins with an empty folder and ends when all that may go has gone. A test may take five minutes.
ROUND_SECONDS = 60.0


def test_the_first_seconds_of_the_soak(homeport: Homeport, capsys: pytest.CaptureFixture[str]) -> None:
    soak = Soak(homeport, seed=int.from_bytes(os.urandom(4), "big"))
    soak.run(8)
    tell(soak, capsys)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(max(1, round(SECONDS / ROUND_SECONDS))))
def test_the_soak(homeport: Homeport, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    soak = Soak(homeport, seed=int.from_bytes(os.urandom(4), "big"))
    soak.run(min(SECONDS, ROUND_SECONDS))
    tell(soak, capsys)
    did = soak.did
    assert min(did[name] for name in ("pushed", "verified", "deleted", "restored", "sweeps", "left")) > 0, did
    assert did["refused"] < did["pushed"] / 4, did


def tell(soak: Soak, capsys: pytest.CaptureFixture[str]) -> None:
    """What happened, for whoever watches."""
    swept, verified = soak.swept(), soak.memory.verified
    did = ", ".join(f"{name} {count}" for name, count in sorted(soak.did.items()))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{soak.requests:,} requests, {soak.kills} kills, {swept['manifests'] + swept['blobs']:,} links and"
            f" {swept['trashed']:,} blobs swept, {swept['purged']:,} purged, {verified:,} verified ({did})\n"
        )
    assert swept["failures"] == 0
    assert swept["purged"] > 0
