"""Who may: every operation and everybody. What is expected is a table that shares nothing with the program.

CVE-2026-27771 (rights were checked at one door and forgotten at another), CVE-2022-31667 (a robot of one project
changed what belongs to others).
"""

import pytest

from homeport import events
from homeport.auth.logins import basic
from homeport.jobs import queue
from homeport.notify import deliveries
from homeport.server.api.operations import OPERATIONS, PREFIX, Operation
from tests.server.api.world import World

WHO = {
    "anonymous": 401,
    "user": 403,
    "user-token-for-all": 403,
    "admin-token-limited": 403,
    "admin-bearer": 403,
    "robot-team": 403,
    "robot-all": None,
    "admin": None,
    "admin-token": None,
    "admin-token-for-all": None,
}


def address(operation: Operation) -> str:
    """One that is there only as far as the route goes, so that nobody changes anything."""
    return PREFIX + operation.path.replace("{id}", "4711").replace("{name:path}", "no/such")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_every_operation(world: World, operation: Operation) -> None:
    before = await world.database.read(events.after, events.START)
    for who, refused in WHO.items():
        for method in (operation.method, *(["HEAD"] if operation.method == "GET" else [])):
            answer = await world.ask(
                method, address(operation), b"" if method != "POST" else b'{"kind": "no"}', who=who
            )
            if refused is None:
                assert answer.status not in {401, 403}, (who, answer)
            else:
                assert answer.status == refused, (who, answer)
            assert answer.headers.get("www-authenticate") == (
                'Basic realm="homeport", charset="UTF-8"' if refused == 401 else None
            )
    assert await world.database.read(events.after, events.START) == before
    assert await world.database.read(queue.listed) == []
    assert await world.database.read(deliveries.listed) == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_who_may_not_learns_nothing_else(world: World, operation: Operation) -> None:
    """Neither what is there nor what the request should have been."""
    for who in ("anonymous", "robot-team"):
        there = await world.ask(operation.method, address(operation), who=who)
        wrong = await world.ask(
            operation.method, f"{address(operation)}?wrong=1", b"[", {"content-type": "text/plain"}, who=who
        )
        assert (wrong.status, wrong.code, wrong.sentence) == (there.status, there.code, there.sentence)


async def test_a_wrong_login_is_told_so(world: World) -> None:
    for header in ("Basic cm9vdDp3cm9uZw==", "Bearer hp_0000000000000000_" + "0" * 40, "Bearer x", "Digest x"):
        answer = await world.ask("GET", "/api/v1/jobs", headers={"authorization": header})
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")


async def test_who_guesses_is_slowed_down(world: World) -> None:
    statuses = []
    for number in range(20):
        world.authorization["guess"] = basic("root", f"wrong{number}")
        statuses.append((await world.get("/api/v1/jobs", who="guess")).status)
    assert statuses[0] == 401
    assert statuses[-1] == 429
    answer = await world.get("/api/v1/jobs", who="guess")
    assert (answer.code, int(answer.headers["retry-after"]) > 0) == ("TOOMANYREQUESTS", True)
