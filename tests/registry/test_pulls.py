"""The last pull of each tag and digest: counted in memory, written together."""

from __future__ import annotations

import pytest

from homeport.db.database import DatabaseError
from homeport.registry import pulls
from homeport.registry.pulls import Pulled, Pulls
from tests.registry.world import OTHER, REPOSITORY, World


async def last(world: World, reference: str = "latest", repository: str = REPOSITORY) -> Pulled | None:
    return await world.registry.db.read(pulls.last, repository, reference)


async def test_nothing_is_written_before_its_time(world: World) -> None:
    counted = Pulls()
    counted.note(REPOSITORY, "latest", 1.0)
    assert await last(world) is None
    assert await counted.flush(world.registry) == 1
    assert await last(world) == Pulled(1.0, 1)
    assert await counted.flush(world.registry) == 0


async def test_pulls_add_up(world: World) -> None:
    counted = Pulls()
    for when in (1.0, 2.0, 3.0):
        counted.note(REPOSITORY, "latest", when)
    counted.note(REPOSITORY, "1.0", 2.5)
    counted.note(OTHER, "latest", 2.5)
    assert await counted.flush(world.registry) == 3
    counted.note(REPOSITORY, "latest", 4.0)
    await counted.flush(world.registry)
    assert await last(world) == Pulled(4.0, 4)
    assert await last(world, "1.0") == Pulled(2.5, 1)
    assert await last(world, repository=OTHER) == Pulled(2.5, 1)


async def test_what_could_not_be_written_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Pulls()
    counted.note(REPOSITORY, "latest", 1.0)
    counted.note(REPOSITORY, "1.0", 1.0)

    async def fail(*args: object) -> None:
        counted.note(REPOSITORY, "latest", 2.0)  # somebody pulls meanwhile
        counted.note(OTHER, "latest", 2.0)
        raise DatabaseError("no")

    monkeypatch.setattr(world.registry.db, "jot", fail)
    with pytest.raises(DatabaseError):
        await counted.flush(world.registry)
    monkeypatch.undo()
    assert await counted.flush(world.registry) == 3
    assert await last(world) == Pulled(2.0, 2)
    assert await last(world, "1.0") == Pulled(1.0, 1)
    assert await last(world, repository=OTHER) == Pulled(2.0, 1)


async def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulls, "PENDING_MAX", 3)
    counted = Pulls()
    for number in range(10):
        counted.note(REPOSITORY, str(number), 1.0)
    counted.note(REPOSITORY, "0", 2.0)
    assert counted.overflowing
    assert await counted.flush(world.registry) == 3
    assert not counted.overflowing
    assert await last(world, "0") == Pulled(2.0, 2)


async def test_a_pull_is_no_event(world: World) -> None:
    counted = Pulls()
    counted.note(REPOSITORY, "latest", 1.0)
    await counted.flush(world.registry)
    assert await world.events() == []


async def test_it_is_there_after_a_restart(durable: World) -> None:
    counted = Pulls()
    counted.note(REPOSITORY, "latest", 1.0)
    await counted.flush(durable.registry)
    await durable.restart()
    assert await last(durable) == Pulled(1.0, 1)
