"""How the mirror stands: the last run, what is behind, what goes, what quotas are left; its export; a brake's release.

No upstream is asked, so the kind of a run is named here: to import `mirror.job` takes longer than to look.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from homeport.cli.context import Context
from homeport.cli.jobs import failure_lines, say_if_loaded_otherwise
from homeport.cli.mirror_told import copy_told, departure_told, pulls_left, quota_told
from homeport.cli.output import CommandError, Exit, format_time
from homeport.jobs import queue
from homeport.jobs.queue import Job
from homeport.mirror import brake, exporting, keeping, origins, remaining, rules
from homeport.mirror.brake import BrakeError, Stopped
from homeport.mirror.plan import Departure
from homeport.mirror.remaining import Copy
from homeport.upstreams import quotas
from homeport.upstreams.quotas import Standing

#: The kind of job that a run is.
_KIND: Final = "mirror"


async def status(context: Context) -> int:
    settings = context.settings()
    async with context.registry(settings) as registry:
        runs = await registry.db.read(queue.listed, kind=_KIND, limit=1)
        behind = await registry.db.read(remaining.every)
        stopped = [each for each in await registry.db.read(brake.stopped) if each.released_at is None]
        marked = await registry.db.read(origins.leaving)
        left = await registry.db.read(quotas.every)
    going = rules.marked(settings.mirror, marked, context.clock.now())
    otherwise = context.loaded_otherwise(settings, _KIND)
    say_if_loaded_otherwise(context, otherwise)
    last = runs[0] if runs else None
    if not context.output.as_json:
        for line in _status_lines(last, behind, stopped, going, left, context.clock.now()):
            context.output.line(line)
        return Exit.DONE
    told = {
        "last_run": last.told() if last else None,
        "behind": [
            {**copy_told(copy), "since": format_time(copy.planned_at), "failure": copy.failure} for copy in behind
        ],
        "stopped": [{"run": each.run, "source": str(each.source), "reason": each.reason} for each in stopped],
        "leaving": [departure_told(each) for each in going],
        "quotas": [quota_told(standing) for standing in left],
        "loaded_otherwise": otherwise,
    }
    context.output.result(told, "")
    return Exit.DONE


def _status_lines(
    last: Job | None,
    behind: list[Copy],
    stopped: list[Stopped],
    going: list[Departure],
    left: list[Standing],
    now: float,
) -> Iterator[str]:
    if last is None:
        yield "last run: none yet"
    else:
        yield from _run_lines(last)
    for copy in behind:
        yield f"behind: {copy.told}: since {format_time(copy.planned_at)}: {copy.failure or 'waits for its turn'}"
    for stop in stopped:
        yield f"stopped: {stop.source}: {stop.reason} (`homeport mirror release {stop.run}`)"
    for each in going:
        yield _leaving_line(each)
    for standing in left:
        yield _quota_line(standing, now)


def _run_lines(last: Job) -> Iterator[str]:
    ended = f" at {format_time(last.ended_at)}" if last.ended_at else ""
    reason = f": {last.reason}" if last.reason else ""
    yield f"last run: job {last.id}: {last.outcome or last.state}{ended}{reason}"
    if last.summary is not None:
        yield from failure_lines(last.summary.told())


def _leaving_line(departure: Departure) -> str:
    ours = departure.origin
    text = f"{ours.repository}:{ours.tag}: {departure.leaving} since {format_time(departure.since)}"
    if departure.goes_at is None:
        return f"kept: {text}"
    return f"leaving: {text}; goes after {format_time(departure.goes_at)}"


def _quota_line(standing: Standing, now: float) -> str:
    until = standing.limited_until
    limited = "" if until is None or until <= now else f"; it asks to be left alone until {format_time(until)}"
    whose = f" for {standing.source}" if standing.source else ""
    return f"quota: {standing.host}: {pulls_left(standing)}{whose} at {format_time(standing.seen_at)}{limited}"


async def print_export(context: Context) -> int:
    mirror = context.settings().mirror
    async with context.registry() as registry:
        export = await registry.db.read(keeping.exported, mirror)
    text = export.text()
    context.output.line(text.rstrip())
    if (why := exporting.why_too_long(text)) is not None:
        context.output.note(f"this {why}")
    return Exit.DONE


async def release(context: Context) -> int:
    run_id = context.arguments.run
    async with context.registry() as registry:
        try:
            sources = await registry.db.write(brake.release, registry.clock, context.origin, run_id)
        except BrakeError as error:
            raise CommandError(str(error)) from None
    names = [str(source) for source in sources]
    context.output.result({"run": run_id, "sources": names}, f"the next run believes {', '.join(names)}")
    return Exit.DONE
