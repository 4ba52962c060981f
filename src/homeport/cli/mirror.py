"""`homeport mirror`: run it now, see what a run would do and cost, how it stands, and whose tags these are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from homeport.cli import mirror_files
from homeport.cli.context import Context
from homeport.cli.jobs import EXITS, failure_lines, run_kind, say_if_loaded_otherwise
from homeport.cli.mirror_told import copy_told, departure_told, pulls_left, quota_told
from homeport.cli.options import positive
from homeport.cli.output import CommandError, Exit, format_time
from homeport.cli.verbs import Verbs
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


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    mirror = verbs.family("mirror", "Upstream images that are here before anybody asks.")
    exits = ", ".join(f"{outcome} {code:d}" for outcome, code in EXITS.items())
    parser = mirror.verb(
        "run",
        "Bring the mirrored images in step with their upstreams, and follow that; the exit code is its outcome.",
        run,
        more=f"NAME is an image's name or source in the configuration; else it is all of them.\n\nExit codes: {exits}.",
        server=True,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this image")
    parser.add_argument("--detach", action="store_true", help="start it and do not follow")
    parser = mirror.verb(
        "plan",
        "Show what a run would copy, move and remove now, why, and what that costs.",
        print_plan,
        more="Nothing is changed, and no pull is spent unless --sizes is given or tags are\n"
        "chosen 'by: created'; what is read for that, the run need not read again.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this image")
    parser.add_argument("--sizes", action="store_true", help="read manifests that are not here to tell their sizes")
    mirror.verb("status", "Show the last run, what is behind, what is about to go, and what quotas are left.", status)
    parser = mirror.verb(
        "adopt",
        "Find out which tags that nobody wrote down are an upstream's, by name and digest, and write it down.",
        adopt,
        more="They are followed from then on where 'mirror.follow' is set. It spends no pull.",
    )
    parser.add_argument("--plan", action="store_true", help="only show what would be written down")
    mirror.verb(
        "export",
        "Print what is mirrored and followed as a configuration by which an empty registry refills itself.",
        export,
        more="Each run writes it beside the data folder as well, or where 'mirror.export' says.",
        as_json=False,
    )
    mirror_files.add(mirror)
    parser = mirror.verb(
        "release",
        "Believe the lists of tags that a run did not, so that what is gone from them may go.",
        release,
        more="Each tag still has its whole grace.",
    )
    parser.add_argument("run", metavar="RUN", type=positive, help="the number of its job")


async def run(context: Context) -> int:
    name = context.arguments.name
    return await run_kind(context, _KIND, {} if name is None else {"name": name})


async def print_plan(context: Context) -> int:
    from homeport.cli import mirror_plan

    return await mirror_plan.print_plan(context)


async def adopt(context: Context) -> int:
    from homeport.cli import mirror_plan

    return await mirror_plan.adopt(context)


# --- status -----------------------------------------------------------------------------------------------------


async def status(context: Context) -> int:
    settings = context.settings()
    async with context.registry(settings) as registry:
        runs = await registry.db.read(queue.listed, kind=_KIND, limit=1)
        behind = await registry.db.read(remaining.every)
        stopped = [each for each in await registry.db.read(brake.stopped) if each.released_at is None]
        marked = await registry.db.read(origins.leaving)
        left = await registry.db.read(quotas.every)
    going = rules.marked(settings.mirror, marked, context.clock.now())
    say_if_loaded_otherwise(context, context.loaded_otherwise(settings, _KIND))
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


async def export(context: Context) -> int:
    async with context.registry() as registry:
        mirrored = await registry.db.read(keeping.mirrored)
    context.output.line(exporting.text(mirrored).rstrip())
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
