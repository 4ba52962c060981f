"""How many pulls are left, as one process knows it."""

from __future__ import annotations

import pytest

from homeport.client.ratelimits import Quota
from homeport.db.sqlite import SqliteDatabase
from homeport.upstreams import quotas
from homeport.upstreams.quotas import WINDOW_SECONDS, Budget
from tests.registry.world import MovableClock, World

HUB = "docker.io"


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def budget(clock: MovableClock) -> Budget:
    budget = Budget(HUB, clock)
    budget.reserve = 20
    return budget


def told(remaining: int, limit: int = 100, window: int | None = 21_600) -> Quota:
    return Quota(limit, remaining, window)


def pull(budget: Budget) -> None:
    with budget.pull():
        pass


def test_an_upstream_that_never_said_anything_has_no_limit(budget: Budget) -> None:
    pull(budget)
    assert (budget.remaining, budget.left_for_runs, budget.standing) == (None, None, None)


def test_pulls_are_counted_until_the_upstream_says_better(budget: Budget, clock: MovableClock) -> None:
    budget.learned(told(50))
    for _ in range(3):
        pull(budget)
    assert (budget.remaining, budget.left_for_runs) == (47, 27)
    clock.ahead += 60
    budget.learned(told(40))
    assert (budget.remaining, budget.left_for_runs) == (40, 20)


def test_what_is_on_its_way_counts_beside_what_the_upstream_says_meanwhile(budget: Budget) -> None:
    budget.learned(told(22))
    with budget.pull():
        budget.learned(told(22))  # Of a HEAD that overtook it.
        assert budget.left_for_runs == 1
        with budget.pull():
            assert budget.left_for_runs == 0
            budget.learned(told(21))
            assert budget.left_for_runs == 0
        budget.learned(told(20))
    assert budget.left_for_runs == 0


def test_answers_that_overtook_one_another_do_not_give_pulls_back(budget: Budget, clock: MovableClock) -> None:
    budget.learned(told(10))
    budget.learned(told(12))
    assert budget.remaining == 10
    clock.ahead += 10
    budget.learned(told(12))
    assert budget.remaining == 12


@pytest.mark.parametrize(("limit", "left"), [(100, 80), (10, 5), (30, 15), (1, 1), (0, 0)])
def test_the_reserve_is_at_most_half_of_a_small_quota(budget: Budget, limit: int, left: int) -> None:
    budget.learned(told(limit, limit))
    assert budget.left_for_runs == left


def test_after_a_window_all_pulls_are_there_again(budget: Budget, clock: MovableClock) -> None:
    budget.learned(told(0, window=3_600))
    assert budget.remaining == 0
    clock.ahead += 3_599
    assert budget.remaining == 0
    clock.ahead += 1
    assert budget.remaining == 100
    pull(budget)
    assert budget.remaining == 99
    clock.ahead += 3_599
    assert budget.remaining == 99


def test_a_clock_that_went_back_does_not_keep_anybody_waiting(budget: Budget, clock: MovableClock) -> None:
    budget.learned(told(0))
    clock.wrong -= 86_400
    assert budget.remaining == 100


@pytest.mark.parametrize(("seconds", "until"), [(600.0, 600.0), (None, WINDOW_SECONDS)])
def test_a_refusal_counts_for_as_long_as_it_says_or_a_window(
    budget: Budget, clock: MovableClock, seconds: float | None, until: float
) -> None:
    budget.learned(told(50))
    budget.limited(seconds)
    assert (budget.remaining, budget.left_for_runs) == (0, 0)
    clock.ahead += until - 1
    assert budget.remaining == 0
    clock.ahead += 1
    assert budget.remaining == 100
    pull(budget)
    assert budget.remaining == 99


def test_a_refusal_by_one_that_never_told_of_a_quota(budget: Budget, clock: MovableClock) -> None:
    budget.limited(60)
    assert budget.remaining == 0
    clock.ahead += 61
    assert budget.remaining is None


async def test_it_is_written_down_once_and_read_by_the_next_process(world: World, clock: MovableClock) -> None:
    database: SqliteDatabase = world.registry.db  # type: ignore[assignment]
    first = Budget(HUB, clock)
    first.learned(told(50))
    pull(first)
    standing = first.take_change()
    assert standing is not None
    assert first.take_change() is None
    await database.write(quotas.write, standing)
    (known,) = await database.read(quotas.every)
    assert known == standing
    second = Budget(HUB, clock)
    second.load(known)
    assert second.remaining == 49
    second.learned(told(30))
    second.load(known)  # What is newer stays.
    assert second.remaining == 30
