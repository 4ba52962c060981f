"""What a server answered survives its death: `make crash` kills it 200 times under load (`KILLS=n`: n times)."""

import os
import sys

import pytest

from tests.faults.kill import Harness
from tests.support.processes import Homeport

KILLS = int(os.environ.get("KILLS", "200"))
#: Each round begins with an empty folder. A test may not take longer than five minutes.
KILLS_PER_ROUND = 25
#: More than a kill ever needs, on a busy machine.
SECONDS_PER_KILL_MAX = 8


def test_what_was_answered_survives_a_few_kills(homeport: Homeport) -> None:
    Harness(homeport, seed=1).live(3, 3 * SECONDS_PER_KILL_MAX)


@pytest.mark.crash
@pytest.mark.parametrize("number", range(-(-KILLS // KILLS_PER_ROUND)))
def test_what_was_answered_survives_every_kill(
    homeport: Homeport, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    harness = Harness(homeport, seed=int.from_bytes(os.urandom(4), "big"))
    harness.live(KILLS_PER_ROUND, KILLS_PER_ROUND * SECONDS_PER_KILL_MAX)
    memory = harness.memory
    with capsys.disabled():
        sys.stdout.write(f"\n{KILLS_PER_ROUND} kills, {memory.answered} answers kept, {memory.resumed} uploads resumed")
    assert memory.answered > KILLS_PER_ROUND
    assert memory.resumed > 0
