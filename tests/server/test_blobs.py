"""Blobs over HTTP: what HEAD promises, and to whom."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeport.auth.actors import ANONYMOUS
from homeport.auth.directory import LoginSettings
from homeport.auth.logins import Logins
from homeport.auth.passwords import Passwords
from homeport.auth.permissions import Policy, Right
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown
from homeport.server.access import SERVICE
from homeport.server.context import Call, Context, Options
from homeport.server.distribution import blobs
from tests.registry.world import HOUR, REPOSITORY, World
from tests.server.requests import request

HELLO = b"hello, world"
DIGEST = Digest.of(HELLO)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.blob(HELLO)
    yield world
    await world.close()


def call(world: World, *rights: Right, method: str = "HEAD") -> Call:
    """A request for the blob by somebody who has these rights."""
    settings = LoginSettings(Policy(anonymous=frozenset(rights)), (), 300, SERVICE)
    registry = world.registry
    logins = Logins(registry.db, world.clock, Passwords(world.clock), settings)
    context = Context(registry, logins, Log(io.StringIO(), world.clock), dict, Options())
    return Call(context, request(method=method), ANONYMOUS, REPOSITORY, DIGEST)


async def promised(world: World) -> float:
    link = await world.link(DIGEST)
    assert link is not None
    return link[0] - world.clock.now()


async def test_head_promises_only_to_those_who_may_push(world: World) -> None:
    world.pass_time(2 * HOUR)
    assert (await blobs.head(call(world, Right.PULL))).body_bytes == len(HELLO)
    assert await promised(world) < 23 * HOUR
    assert (await blobs.head(call(world, Right.PULL, Right.PUSH))).body_bytes == len(HELLO)
    assert await promised(world) > 24 * HOUR - 5


@pytest.mark.parametrize("rights", [(Right.PULL,), (Right.PULL, Right.PUSH)])
@pytest.mark.parametrize("damage", ["gone", "short"])
async def test_a_damaged_blob_is_absent_so_that_it_is_pushed_again(
    world: World, rights: tuple[Right, ...], damage: str
) -> None:
    if damage == "gone":
        world.file(DIGEST).unlink()
    else:
        world.file(DIGEST).write_bytes(HELLO[:-1])
    for ask in (blobs.head, blobs.get):
        with pytest.raises(BlobUnknown, match="push it again"):
            await ask(call(world, *rights))
    await world.blob(HELLO)
    assert (await blobs.head(call(world, *rights))).status == 200
