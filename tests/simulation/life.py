"""A simulation from its seed to its end: lives of clients, keepers and cleaners at once, while an auditor looks on."""

from __future__ import annotations

import asyncio
from typing import Final
from unittest import mock

from homeport.registry import uploads
from homeport.registry.registry import Registry
from tests.simulation.asking import Server
from tests.simulation.cleaners import Cleaner, count_quotas, pass_time
from tests.simulation.clients import Client
from tests.simulation.keepers import Keeper
from tests.simulation.rest import come_to_rest, restore_all
from tests.simulation.world import Faults, World

CLIENTS: Final = 4
SWEEPERS: Final = 2
LIVES: Final = 4


def simulate(seed: int, faults: Faults | None = None) -> World:
    """Run the world of this seed to its end; what goes wrong has its last lines."""
    world = World(seed, faults or Faults())
    try:
        # Uploads of a simulation are small.
        with mock.patch.object(uploads, "RESERVATION_BYTES", 2_000):
            world.live(work, LIVES, restore_all)
            world.rest(come_to_rest)
    except BaseException as error:
        error.add_note("\n".join([*world.trace[-40:], f"replay it with SIMULATION_SEED={seed}"]))
        raise
    return world


async def work(world: World, registry: Registry) -> None:
    """Every client does some things; the others do theirs for as long as there is a client."""
    server = Server(world, registry)
    cleaner = Cleaner(server)
    try:
        async with asyncio.TaskGroup() as group:
            clients = [
                *(group.create_task(Client(server, f"client{number}").work()) for number in range(CLIENTS)),
                group.create_task(Keeper(server, "keeper").work()),
            ]

            def busy() -> bool:
                return not all(client.done() for client in clients)

            for _ in range(SWEEPERS):
                group.create_task(cleaner.sweep_while(busy))
            group.create_task(cleaner.walk_while(busy))
            group.create_task(pass_time(server, busy))
            group.create_task(count_quotas(server))
            group.create_task(_audit_now_and_then(world))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    while not all(task.done() for task in server.hung_up):
        await asyncio.wait(server.hung_up)
    assert not server.sessions.turns, "a request has ended and kept its turn"


async def _audit_now_and_then(world: World) -> None:
    for _ in range(3):
        await world.clock.sleep(world.clock.random())
        await world.audit()
