"""A process that changes things and tells of it, to be killed: DATABASE EVENTS TARGET=URL..."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from homeport import events
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.clock import SystemClock
from homeport.db.database import Transaction
from homeport.db.sqlite import SqliteDatabase
from homeport.events import SYSTEM
from homeport.notify import deliveries
from tests.notify.things import notifier_on, target

EVENTS_PER_CHANGE = 25


class RolledBack(Exception):
    """A change that did not come to be."""


def change(tx: Transaction, clock: SystemClock, first: int, *, broken: bool) -> None:
    for number in range(first, first + EVENTS_PER_CHANGE):
        kind = "tag.deleted" if number % 10 == 0 else "tag.set"
        events.append(tx, clock, kind, SYSTEM, repository="app", tag=f"{'undone' if broken else 'v'}{number}")
    if broken:
        raise RolledBack


async def main(path: Path, count: int, places: dict[str, str]) -> None:
    clock = SystemClock()
    database = SqliteDatabase(path, clock)
    async with Transport(ClientSettings(), clock) as transport:
        notifier = notifier_on(database, clock, transport, log=sys.stderr)
        await notifier.reconfigure(target(kinds, url, on=(kinds,)) for kinds, url in places.items())
        telling = asyncio.create_task(notifier.run())
        while (end := await database.read(events.end)).id < count:
            with suppress(RolledBack):
                await database.write(change, clock, end.id + 1, broken=True)
            await database.write(change, clock, end.id + 1, broken=False)
            await clock.sleep(0.01)
        while await database.read(_is_to_be_told, list(places)):
            await clock.sleep(0.1)
        telling.cancel()
    await database.close()


def _is_to_be_told(tx: Transaction, names: list[str]) -> bool:
    return any(deliveries.head(tx, name) or (deliveries.ahead(tx, name, 1) or (0, ()))[1] for name in names)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), dict(place.split("=", 1) for place in sys.argv[3:])))
