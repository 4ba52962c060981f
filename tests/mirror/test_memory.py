"""What is remembered is bounded, and what several wait for is done once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.mirror import memory
from homeport.mirror.memory import Flights, Memory
from homeport.oci.errors import Unavailable
from tests.registry.world import MovableClock


def test_what_is_remembered_is_forgotten_at_its_time() -> None:
    clock = MovableClock()
    known: Memory[str, int] = Memory(clock, 10)
    known.put("a", 1, 60)
    known.put("never", 1, 0)
    clock.ahead += 59
    assert known.get("a") == 1
    assert known.get("never") is None
    clock.ahead += 1
    assert known.get("a") is None
    known.put("a", 1, 60)
    known.put("a", 2, 120)
    clock.ahead += 60
    assert known.get("a") == 2
    known.forget("a")
    known.forget("a")
    assert known.get("a") is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12), st.booleans()), max_size=40))
def test_it_never_weighs_too_much_and_the_oldest_goes(puts: list[tuple[int, int, bool]]) -> None:
    known: Memory[int, int] = Memory(MovableClock(), 10)
    expected: dict[int, int] = {}
    for key, weight, forget in puts:
        expected.pop(key, None)
        if forget:
            known.forget(key)
        else:
            known.put(key, weight, 60, weight=weight)
            if weight <= 10:
                expected[key] = weight
        while sum(expected.values()) > 10:
            del expected[next(iter(expected))]
        assert {each: known.get(each) for each in range(6) if known.get(each) is not None} == expected
    known.clear()
    known.put(1, 1, 60, weight=10)
    assert known.get(1) == 1


async def test_whoever_joins_gets_the_same() -> None:
    flights, begun = Flights(), asyncio.Event()
    calls = 0

    async def work() -> int:
        nonlocal calls
        calls += 1
        await begun.wait()
        return calls

    asking = [asyncio.create_task(flights.join("key", work)) for _ in range(10)]
    other = asyncio.create_task(flights.join("other", work))
    await asyncio.sleep(0)
    asking[0].cancel()
    asking[5].cancel()
    await asyncio.sleep(0)
    begun.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert found[1:5] + found[6:] == [2] * 8
    assert await other == 2
    assert calls == 2
    assert await flights.join("key", work) == 3  # Nothing of it is remembered.


async def test_a_failure_is_everybodys_and_the_next_one_tries_anew() -> None:
    flights, fails = Flights(), [True, False]

    async def work() -> str:
        await asyncio.sleep(0)
        if fails.pop(0):
            raise ValueError("no")
        return "yes"

    found = await asyncio.gather(*(flights.join("key", work) for _ in range(3)), return_exceptions=True)
    assert [str(each) for each in found] == ["no"] * 3
    assert await flights.join("key", work) == "yes"


async def test_nobody_is_left_to_hear_of_a_failure() -> None:
    flights, ended = Flights(), asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        ended.set()
        raise ValueError("nobody hears this")

    asking = asyncio.create_task(flights.join("key", work))
    await asyncio.sleep(0)
    asking.cancel()
    await ended.wait()
    await asyncio.gather(asking, return_exceptions=True)
    await flights.close()


async def test_there_is_an_end_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FLIGHTS_MAX", 2)
    flights = Flights()

    async def work() -> None:
        await asyncio.Event().wait()

    asking = [asyncio.create_task(flights.join(key, work)) for key in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="too much"):
        await flights.join(2, work)
    await flights.close()
    for each in asking:
        with pytest.raises(Unavailable, match="stops"):
            await each
    with pytest.raises(Unavailable, match="stops"):
        await flights.join(0, work)
