"""`homeport mirror`: run it now, see what a run would do and cost, how it stands, and whose tags these are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from homeport.cli import mirror_files
from homeport.cli.context import Context
from homeport.cli.jobs import EXITS, run_kind
from homeport.cli.mirror_told import copy_told, quota_told
from homeport.cli.options import positive
from homeport.cli.output import CommandError, Exit, format_time
from homeport.cli.verbs import Verbs
from homeport.jobs import queue
from homeport.mirror import brake, exporting, keeping, origins, remaining
from homeport.mirror.brake import BrakeError, Stopped
from homeport.mirror.origins import TagOrigin
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
        more="Nothing is written, and no pull is spent unless --sizes is given; what that reads, the run need not.",
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
    async with context.registry() as registry:
        runs = await registry.db.read(queue.listed, kind=_KIND, limit=1)
        behind = await registry.db.read(remaining.every)
        stopped = [each for each in await registry.db.read(brake.stopped) if each.released_at is None]
        going = await registry.db.read(origins.leaving)
        left = await registry.db.read(quotas.every)
    last = runs[0].told() if runs else None
    if not context.output.as_json:
        for line in _status_lines(last, behind, stopped, going, left):
            context.output.line(line)
        return Exit.DONE
    told = {
        "last_run": last,
        "behind": [{**copy_told(copy), "failure": copy.failure} for copy in behind],
        "stopped": [{"run": each.run, "source": str(each.source), "reason": each.reason} for each in stopped],
        "leaving": [_leaving_told(each) for each in going],
        "quotas": [quota_told(standing) for standing in left],
    }
    context.output.result(told, "")
    return Exit.DONE


def _status_lines(
    last: dict[str, Any] | None,
    behind: list[Copy],
    stopped: list[Stopped],
    going: list[TagOrigin],
    left: list[Standing],
) -> Iterator[str]:
    if last is None:
        yield "last run: none yet"
    else:
        ended = f" at {last['ended']}" if last["ended"] else ""
        yield f"last run: job {last['id']}: {last['outcome'] or last['state']}{ended}"
    for copy in behind:
        yield f"behind: {copy}: {copy.failure or 'waits for its turn'}"
    for stop in stopped:
        yield f"stopped: {stop.source}: {stop.reason} (`homeport mirror release {stop.run}`)"
    for each in going:
        yield f"leaving: {each.repository}:{each.tag}: {each.leaving} since {format_time(each.leaving_since)}"
    for standing in left:
        yield _quota_line(standing)


def _leaving_told(each: TagOrigin) -> dict[str, Any]:
    return {
        "repository": each.repository,
        "tag": each.tag,
        "source": str(each.source),
        "leaving": each.leaving,
        "since": format_time(each.leaving_since),
    }


def _quota_line(standing: Standing) -> str:
    limited = (
        f"; it asks to be left alone until {format_time(standing.limited_until)}" if standing.limited_until else ""
    )
    seen = format_time(standing.seen_at)
    return f"quota: {standing.host}: {standing.remaining} of {standing.pulls_max} pulls left at {seen}{limited}"


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
