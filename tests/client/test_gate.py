"""How fast one upstream is asked, by how many at once, and when not at all."""

import asyncio
from collections.abc import Awaitable

import pytest

from homeport.client.gate import GROWING_PAUSE_SECONDS_MAX, PAUSE_SECONDS_MAX, Gate, Pace, Paused
from tests.client.clocks import QuickClock

PATIENT = 2 * PAUSE_SECONDS_MAX


class StandingClock(QuickClock):
    """Time that passes only while somebody sleeps."""

    def monotonic(self) -> float:
        return 1_000.0 + self.offset


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def waits(waiting: Awaitable[None]) -> asyncio.Task[None]:
    """`waiting` as a task that has not ended."""
    task = asyncio.ensure_future(waiting)
    await turns()
    assert not task.done()
    return task


async def test_an_open_gate_lets_everybody_through_at_once(clock: StandingClock) -> None:
    gate = Gate(Pace(clock))
    for _ in range(1_000):
        await gate.enter(0)
    gate.leave()
    gate.pace.moved(10**12)
    await gate.pace.bytes_turn()
    assert clock.slept == []


async def test_places_are_given_in_order_and_given_back(clock: StandingClock) -> None:
    gate = Gate(Pace(clock), at_once=2)
    await gate.enter(0)
    await gate.enter(0)
    third, fourth = await waits(gate.enter(0)), await waits(gate.enter(0))
    gate.leave()
    await third
    await turns()
    assert not fourth.done()
    gate.leave()
    await fourth


async def test_who_is_cancelled_lets_go(clock: StandingClock) -> None:
    gate = Gate(Pace(clock), at_once=1)
    await gate.enter(0)
    second, third = await waits(gate.enter(0)), await waits(gate.enter(0))
    second.cancel()
    gate.leave()
    await third
    gate.leave()
    # Also of one that had its place, and waited for the pause to end.
    sleeping = asyncio.Event()

    async def sleep(seconds: float) -> None:
        sleeping.set()
        await asyncio.Event().wait()

    gate.pace.pause_until(clock.monotonic() + 5)
    usual, clock.sleep = clock.sleep, sleep  # type: ignore[method-assign]
    waiting = await waits(gate.enter(PATIENT))
    assert sleeping.is_set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    clock.sleep = usual  # type: ignore[method-assign]
    await gate.enter(PATIENT)
    assert clock.slept == [5]


async def test_two_gates_share_their_pace_and_not_their_places(clock: StandingClock) -> None:
    pace = Pace(clock, requests_per_second=4)
    runs, people = Gate(pace, at_once=1), Gate(pace, at_once=1)
    await runs.enter(0)
    await waits(runs.enter(0))
    await people.enter(0)
    assert clock.slept == [0.25]


async def test_a_rate_of_requests(clock: StandingClock) -> None:
    pace = Pace(clock, requests_per_second=4)
    gate = Gate(pace)
    await asyncio.gather(*(gate.enter(0) for _ in range(9)))
    assert clock.slept == [0.25] * 8
    pace.requests_per_second = None
    await gate.enter(0)
    await gate.enter(0)
    assert clock.slept == [0.25] * 9
    clock.offset += 60  # what was not used is not saved up
    pace.requests_per_second = 1
    await gate.enter(0)
    await gate.enter(0)
    assert clock.slept[9:] == [1]


async def test_bytes_a_second(clock: StandingClock) -> None:
    pace = Pace(clock, bytes_per_second=1_000)
    for count in (500, 1_000, 0):
        await pace.bytes_turn()
        pace.moved(count)
    assert clock.slept == [0.5, 1]
    pace.moved(1_000)
    pace.moved(2_000)
    await pace.bytes_turn()
    assert clock.slept == [0.5, 1, 3]
    clock.offset += 60  # what was not used is not saved up
    pace.moved(1_000)
    await pace.bytes_turn()
    assert clock.slept[3:] == [1]


async def test_nobody_asks_during_a_pause_and_who_cannot_wait_is_told(clock: StandingClock) -> None:
    gate = Gate(Pace(clock), at_once=1)
    gate.pace.pause_until(clock.monotonic() + 30)
    gate.pace.pause_until(clock.monotonic() + 10)
    with pytest.raises(Paused) as paused:
        await gate.enter(29)
    assert paused.value.seconds == 30
    await gate.enter(30)
    assert clock.slept == [30]
    assert gate.pace.paused_seconds == 0


async def test_a_pause_that_grows_while_somebody_waits(clock: StandingClock) -> None:
    gate = Gate(Pace(clock))
    gate.pace.pause_until(clock.monotonic() + 10)

    async def sleep(seconds: float) -> None:
        clock.slept.append(seconds)
        clock.offset += seconds
        if len(clock.slept) < 3:
            gate.pace.pause_until(clock.monotonic() + 5)

    clock.sleep = sleep  # type: ignore[method-assign]
    await gate.enter(10)
    assert clock.slept == [10, 5, 5]


async def test_a_host_that_complains_is_left_alone_ever_longer(clock: StandingClock) -> None:
    pace = Pace(clock)
    pauses = []
    for _ in range(12):
        pace.too_fast(None)
        pace.too_fast(None)  # the answer to what was asked before the pause
        pauses.append(pace.paused_seconds)
        pace.fast_enough()  # and so is this
        clock.offset += pace.paused_seconds
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == GROWING_PAUSE_SECONDS_MAX
    pace.fast_enough()
    pace.too_fast(None)
    assert pace.paused_seconds == 1
    pace.too_fast(0)
    assert pace.paused_seconds == 1
    pace.too_fast(20)
    assert pace.paused_seconds == 20
    pace.too_fast(10**9)
    assert pace.paused_seconds == PAUSE_SECONDS_MAX
