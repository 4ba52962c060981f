"""What a server answered survives its death: `make crash` kills it 200 times under load (`KILLS=n`: n times)."""

import os
import sys

import pytest

from tests.faults.kill import Harness
from tests.support.processes import Homeport

#: More than a kill ever needs, on a busy machine.
SECONDS_PER_KILL_MAX = 6


def test_what_was_answered_survives_a_few_kills(homeport: Homeport) -> None:
    Harness(homeport, seed=1).live(3, 60)


@pytest.mark.crash
def test_what_was_answered_survives_every_kill(homeport: Homeport, capsys: pytest.CaptureFixture[str]) -> None:
    kills = int(os.environ.get("KILLS", "200"))
    harness = Harness(homeport, seed=int.from_bytes(os.urandom(4), "big"))
    harness.live(kills, kills * SECONDS_PER_KILL_MAX)
    memory = harness.memory
    with capsys.disabled():
        sys.stdout.write(f"{kills} kills, {memory.answered} answers kept, {memory.resumed} uploads resumed\n")
    assert memory.answered > kills
    assert memory.resumed > kills / 20
