"""`homeport in-use`: what runs somewhere and is therefore not deleted, and who uses it."""

from __future__ import annotations

import asyncio
from typing import Any

from homeport.cli.context import Context
from homeport.cli.output import Exit, format_time
from homeport.cli.verbs import Verbs
from homeport.inuse import engine_of, refresh
from homeport.registry import protections
from homeport.registry.protections import EngineState, Listed
from homeport.registry.registry import Registry


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.verb(
        "in-use",
        "List what container engines run, which is never deleted, and what ran last.",
        list_in_use,
        more="The engines are those under 'in_use' in the configuration; `homeport up` and `homeport work` ask them.",
    )
    parser.add_argument("--refresh", action="store_true", help="ask the engines first")


async def list_in_use(context: Context) -> int:
    async with context.registry() as registry:
        failed = await _refresh(context, registry) if context.arguments.refresh else 0
        found = await registry.db.read(protections.listed)
        states = {state.name: state for state in await registry.db.read(protections.engines)}
    configured = context.settings().in_use.engines
    columns = ("digest", "used_by", "where", "state", "last_seen", "image")
    empty = "no engine is configured under 'in_use', so nobody says what runs"
    if configured:
        empty = "nothing is known to run; `homeport in-use --refresh` asks the engines"
    context.output.table([_told(each) for each in found], *columns, empty=empty)
    for name in sorted(states.keys() | configured.keys()):
        if note := _note(name, states.get(name), is_configured=name in configured):
            context.output.note(note)
    if not failed:
        return Exit.DONE
    return Exit.PARTLY if failed < len(configured) else Exit.FAILED


async def _refresh(context: Context, registry: Registry) -> int:
    """Ask every engine of the configuration; how many did not tell."""
    in_use = context.settings().in_use
    answers = await asyncio.gather(
        *(
            refresh(registry.db, context.clock, name, engine_of(engine), in_use.keep_last)
            for name, engine in in_use.engines.items()
        )
    )
    return sum(answer is not None for answer in answers)


def _told(found: Listed) -> dict[str, Any]:
    protection = found.protection
    return {
        "digest": protection.digest,
        "used_by": protection.used_by,
        "where": protection.node or None,
        "state": found.state,
        "last_seen": format_time(found.last_seen_at),
        "image": protection.image.partition("@")[0],
        "first_seen": format_time(protection.first_seen_at),
        "engine": found.engine.name,
        "why": found.sentence,
    }


def _note(name: str, state: EngineState | None, *, is_configured: bool) -> str | None:
    """What is wrong with an engine, if anything is."""
    if state is None or (state.succeeded_at is None and state.failure is None):
        return f"engine {name} has not been asked yet"
    if state.failure is not None:
        last = "it never told what it runs"
        if state.succeeded_at is not None:
            last = f"what it last ran, at {format_time(state.succeeded_at)}, stays"
        return f"engine {name} has not answered since {format_time(state.failing_since)}, and {last}: {state.failure}"
    if not is_configured:
        return f"engine {name} is not in this configuration; its protections go when `homeport work` runs with it"
    return None
