"""How much is too much, who lets it go, and how often."""

import pytest

from homeport.garbage import brake
from homeport.garbage.brake import BrakeError, Excess, excesses
from tests.garbage.cleaning import DAY, Cleaning
from tests.registry.world import ADA

GOING = {"team/api": (120, 200), "team/web": (3, 4)}


@pytest.mark.parametrize(
    ("going", "total", "stops"),
    [
        ({"a": (20, 20)}, 20, []),
        ({"a": (21, 21)}, 21, ["a"]),
        ({"a": (21, 84)}, 84, []),
        ({"a": (21, 83)}, 83, ["a"]),
        ({"a": (25, 100)}, 10_000, []),
        ({"a": (26, 100)}, 10_000, ["a"]),
        ({"a": (15, 15), "b": (15, 15)}, 30, [None]),
        ({"a": (15, 15), "b": (15, 15)}, 120, []),
        ({"a": (30, 40), "b": (90, 100)}, 140, ["b", "a", None]),
        ({}, 1_000, []),
    ],
)
def test_where_too_many_would_go(going: dict[str, tuple[int, int]], total: int, stops: list[str | None]) -> None:
    assert [each.repository for each in excesses(going, total, {})] == stops


def test_what_a_person_released_may_go_and_no_more() -> None:
    assert excesses({"a": (30, 40)}, 40, {"a": 30}) == []
    assert excesses({"a": (31, 40)}, 40, {"a": 30}) == [Excess("a", 31, 40, 30)]
    assert excesses({"b": (30, 40)}, 1_000, {"a": 30}) == [Excess("b", 30, 40, 20)]
    assert excesses({"a": (30, 40), "b": (5, 40)}, 80, {"a": 30}) == [Excess(None, 35, 80, 30)]


def test_the_reason_says_how_many_where_and_what_to_do() -> None:
    told = brake.reason(excesses(GOING, 204, {}), 12)
    assert told == (
        "no tag was removed: 120 of the 200 tags of team/api would go, and 50 may; 123 of the 204 tags of all"
        " repositories would go, and 51 may. `homeport cleanup plan` shows them, and `homeport cleanup release 12` lets"
        " them go"
    )
    many = {f"r{number}": (30, 30) for number in range(5)}
    assert "; and so in 3 more. " in brake.reason(excesses(many, 150, {}), 1)


async def stop(cleaning: Cleaning, run: int) -> None:
    await cleaning.registry.db.write(brake.stop, cleaning.registry, run, GOING, "too many")


async def release(cleaning: Cleaning, run: int) -> None:
    await cleaning.registry.db.write(brake.release, cleaning.registry, ADA, run)


async def kinds(cleaning: Cleaning) -> list[tuple[str, str | None]]:
    return [(event.kind, event.reason) for event in await cleaning.events()]


async def test_a_run_that_stopped_is_told_once_and_released_once(cleaning: Cleaning) -> None:
    db = cleaning.registry.db
    await stop(cleaning, 7)
    await stop(cleaning, 7)
    with pytest.raises(BrakeError, match="nobody released job 7; `homeport cleanup release 7` does"):
        await db.read(brake.allowed, 7, 8)
    await release(cleaning, 7)
    await release(cleaning, 7)
    assert await kinds(cleaning) == [("cleanup.stopped", "too many"), ("cleanup.released", "job-7")]
    assert await db.read(brake.allowed, 7, 8) == {"team/api": 120, "team/web": 3}
    await db.write(brake.use, 7, 8)
    await db.write(brake.use, 7, 8)  # The same run, after a crash.
    with pytest.raises(BrakeError, match="was made use of by job 8"):
        await db.write(brake.use, 7, 9)
    with pytest.raises(BrakeError, match="released already, and job 8 made use of it"):
        await release(cleaning, 7)


async def test_only_a_run_that_stopped_can_be_released_and_not_for_ever(cleaning: Cleaning) -> None:
    with pytest.raises(BrakeError, match="job 3 is no cleanup that stopped"):
        await release(cleaning, 3)
    await stop(cleaning, 3)
    cleaning.pass_time(91 * DAY)
    await stop(cleaning, 4)
    with pytest.raises(BrakeError, match="job 3 is no cleanup that stopped"):
        await release(cleaning, 3)
