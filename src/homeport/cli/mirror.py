"""`homeport mirror`: run it now, see what a run would do and cost, how it stands, and whose tags these are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

from rich.filesize import decimal

from homeport.cli import mirror_files
from homeport.cli.context import Context, Services
from homeport.cli.jobs import EXITS, failure_lines, run_kind
from homeport.cli.options import positive
from homeport.cli.output import CommandError, Exit, counted, format_time
from homeport.cli.verbs import Verbs
from homeport.client.errors import ClientError
from homeport.jobs import queue
from homeport.jobs.queue import Job
from homeport.mirror import adoption, brake, exporting, job, keeping, leaving, origins, remaining, rules
from homeport.mirror.adoption import Adoption
from homeport.mirror.brake import BrakeError, Stopped
from homeport.mirror.decisions import Decided, Decider, hosts
from homeport.mirror.estimate import Cost, Estimate
from homeport.mirror.plan import Departure
from homeport.mirror.remaining import Copy
from homeport.oci import patterns
from homeport.upstreams import quotas
from homeport.upstreams.quotas import Standing

#: How many images a message names.
_LABELS_MAX: Final = 20

#: How many tags are told by name that are not meant for one reason.
_TAGS_MAX = 5


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
    return await run_kind(context, job.NAME, {} if name is None else {"name": name})


@asynccontextmanager
async def _services(context: Context) -> AsyncIterator[Services]:
    settings = context.settings()
    context.folder(settings)
    async with context.doors.open_services(settings) as services:
        yield services


# --- plan -------------------------------------------------------------------------------------------------------


async def print_plan(context: Context) -> int:
    settings, name = context.settings(), context.arguments.name
    wanted = rules.of(settings.mirror)
    if name is not None:
        labels = [rule.label for rule in wanted]
        wanted = rules.named(wanted, name)
        if not wanted:
            there = ", ".join([*labels[:_LABELS_MAX], *(["..."] if len(labels) > _LABELS_MAX else [])]) or "none"
            raise CommandError(f"no image of the configuration is called '{name}'; there are: {there}")
    elif not wanted and not settings.mirror.follow:
        context.output.note(job.NOTHING)
    async with _services(context) as services:
        parts = services.mirror
        decider = Decider(parts.registry, parts.upstreams, parts.settings, quiet=True)
        follow = settings.mirror.follow and name is None
        decided = await decider.decide(wanted, follow=follow, everything=name is None)
        costs = await _costs(services, decided, reads=context.arguments.sizes)
        stays = {each: await parts.registry.db.read(leaving.why_stays, parts.registry, each) for each in _due(decided)}
        await parts.upstreams.flush()
        left = await parts.registry.db.read(quotas.every)
    now = context.clock.now()
    if context.output.as_json:
        context.output.result(_plan_told(decided, costs, stays, left), "")
    else:
        for line in _plan_lines(decided, costs, stays, left, now):
            context.output.line(line)
        for line in _not_meant_lines(decided) if name is not None else ():
            context.output.line(line)
        if any(cost.unread for cost in costs.values()):
            context.output.note("--sizes tells how large they are, and all that they cost")
    for failure in decided.failures:
        context.output.note(f"{failure.what}: {failure.why}")
    if not decided.failures:
        return Exit.DONE
    return Exit.PARTLY if decided.checked else Exit.FAILED


def _due(decided: Decided) -> list[Departure]:
    return [each for each in decided.departures.leaving if each.goes_at is not None]


async def _costs(services: Services, decided: Decided, *, reads: bool) -> dict[Copy, Cost]:
    parts = services.mirror
    estimate = Estimate(parts.registry, parts.upstreams, reads=reads)
    by_label = {rule.label: rule for rule in decided.rules}
    found: dict[Copy, Cost] = {}
    for copy in decided.copies:
        try:
            found[copy] = await estimate.of(copy, by_label[copy.image])
        except ClientError as error:
            decided.failed(str(copy), str(error))
            found[copy] = Cost(unread=1)
    return found


def _plan_lines(
    decided: Decided,
    costs: dict[Copy, Cost],
    stays: dict[Departure, str | None],
    left: list[Standing],
    now: float,
) -> Iterator[str]:
    for copy in decided.copies:
        yield _copy_line(copy, costs[copy])
    for told in decided.waiting:
        yield f"wait {told.name}: {told.why}"
    for told in decided.theirs:
        yield f"leave {told.name}: {told.why}"
    for stop in decided.braked:
        yield f"stop {stop.source}: {stop.reason}; nothing of it would be removed"
    for departure in decided.departures.leaving:
        yield _departure_line(departure, stays.get(departure), now)
    for each in decided.adopted:
        if each.source is not None:
            yield f"follow {each.repository}:{each.tag}: {each.why}"
    total = Cost()
    for cost in costs.values():
        total.add(cost)
    yield f"of {counted(decided.checked, 'tag')} that upstreams have, {decided.unchanged} are here as they are there"
    if not decided.copies:
        yield "a run would copy nothing"
    elif total.unread:
        yield f"a run would copy {counted(len(decided.copies), 'image')}, for at least {counted(total.pulls, 'pull')}"
    else:
        yield f"a run would copy {counted(len(decided.copies), 'image')}: {_cost(total)}"
    for standing in left:
        if standing.remaining is not None:
            yield f"{standing.host} has {_pulls_left(standing)}"


def _not_meant_lines(decided: Decided) -> Iterator[str]:
    for source, reasons in sorted(decided.not_meant.items()):
        for why, tags in sorted(reasons.items()):
            more = f" and {len(tags) - _TAGS_MAX} more" if len(tags) > _TAGS_MAX else ""
            yield f"skip {source}: {why}: {', '.join(tags[:_TAGS_MAX])}{more}"


def _copy_line(copy: Copy, cost: Cost) -> str:
    return f"copy {copy.told}: {copy.why}{'' if cost.unread else f'; {_cost(cost)}'}"


def _cost(cost: Cost) -> str:
    return f"{decimal(cost.bytes)}, {counted(cost.pulls, 'pull')}"


def _departure_line(departure: Departure, why_stays: str | None, now: float) -> str:
    ours = departure.origin
    name = f"{ours.repository}:{ours.tag}"
    since = f"{departure.leaving} since {format_time(departure.since)}"
    if departure.goes_at is None:
        return f"keep {name}: {since}"
    if why_stays is not None:
        return f"keep {name}: {since}, but {why_stays}"
    when = "would be removed now" if departure.is_due(now) else f"goes after {format_time(departure.goes_at)}"
    return f"remove {name}: {since}; {when}"


def _plan_told(
    decided: Decided, costs: dict[Copy, Cost], stays: dict[Departure, str | None], left: list[Standing]
) -> dict[str, Any]:
    return {
        "checked": decided.checked,
        "unchanged": decided.unchanged,
        "copies": [
            {**_copy_told(copy), "bytes": None if cost.unread else cost.bytes, "pulls": cost.pulls}
            for copy, cost in costs.items()
        ],
        "waiting": [{"name": told.name, "why": told.why} for told in decided.waiting],
        "left": [{"name": told.name, "why": told.why} for told in decided.theirs],
        "stopped": [{"source": str(stop.source), "reason": stop.reason} for stop in decided.braked],
        "leaving": [{**_departure_told(each), "stays": stays.get(each)} for each in decided.departures.leaving],
        "adopted": [_adopted_told(each) for each in decided.adopted],
        "not_meant": [
            {"source": str(source), "why": why, "tags": tags}
            for source, reasons in sorted(decided.not_meant.items())
            for why, tags in sorted(reasons.items())
        ],
        "failures": [{"what": failure.what, "why": failure.why} for failure in decided.failures],
        "quotas": [_quota_told(standing) for standing in left],
    }


def _copy_told(copy: Copy) -> dict[str, Any]:
    return {
        "image": copy.image,
        "source": str(copy.source),
        "source_tag": copy.source_tag,
        "repository": copy.repository,
        "tag": copy.tag,
        "digest": copy.digest,
        "why": copy.why,
    }


def _departure_told(departure: Departure) -> dict[str, Any]:
    ours = departure.origin
    return {
        "repository": ours.repository,
        "tag": ours.tag,
        "source": str(ours.source),
        "leaving": departure.leaving,
        "since": format_time(departure.since),
        "goes_at": format_time(departure.goes_at),
    }


def _adopted_told(each: adoption.Adopted) -> dict[str, Any]:
    source = None if each.source is None else str(each.source)
    return {"repository": each.repository, "tag": each.tag, "source": source, "why": each.why}


def _quota_told(standing: Standing) -> dict[str, Any]:
    return {
        "host": standing.host,
        "pulls_max": standing.pulls_max,
        "remaining": standing.remaining,
        "window_seconds": standing.window_seconds,
        "seen": format_time(standing.seen_at),
        "limited_until": format_time(standing.limited_until),
    }


# --- status -----------------------------------------------------------------------------------------------------


async def status(context: Context) -> int:
    mirror = context.settings().mirror
    async with context.registry() as registry:
        runs = await registry.db.read(queue.listed, kind=job.NAME, limit=1)
        behind = await registry.db.read(remaining.every)
        stopped = [each for each in await registry.db.read(brake.stopped) if each.released_at is None]
        marked = await registry.db.read(origins.leaving)
        left = await registry.db.read(quotas.every)
    going = rules.marked(mirror, marked, context.clock.now())
    last = runs[0] if runs else None
    if not context.output.as_json:
        for line in _status_lines(last, behind, stopped, going, left, context.clock.now()):
            context.output.line(line)
        return Exit.DONE
    told = {
        "last_run": last.told() if last else None,
        "behind": [{**_copy_told(copy), "failure": copy.failure} for copy in behind],
        "stopped": [{"run": each.run, "source": str(each.source), "reason": each.reason} for each in stopped],
        "leaving": [_departure_told(each) for each in going],
        "quotas": [_quota_told(standing) for standing in left],
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
        yield f"behind: {copy.told}: {copy.failure or 'waits for its turn'}"
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
    return f"quota: {standing.host}: {_pulls_left(standing)} at {format_time(standing.seen_at)}{limited}"


def _pulls_left(standing: Standing) -> str:
    """An upstream that refuses a pull need not have said how many it allows."""
    of = "" if standing.pulls_max is None else f" of {standing.pulls_max}"
    return f"{standing.remaining}{of} pulls left"


# --- whose tags these are ---------------------------------------------------------------------------------------


async def adopt(context: Context) -> int:
    settings = context.settings()

    def skip(repository: str) -> bool:
        return any(patterns.matches(each, repository) for each in settings.mirror.skip)

    async with _services(context) as services:
        parts = services.mirror
        search = Adoption(parts.registry, parts.upstreams, hosts(settings), skip)
        found = await search.find()
        count = 0
        if not context.arguments.plan:
            count = await parts.registry.db.write(adoption.adopt, parts.registry.clock, context.origin, found)
    columns = ("repository", "tag", "source", "why")
    nothing = "no tag is known to be an upstream's" if search.failures else "every tag here has its origin written down"
    context.output.table([_adopted_told(each) for each in found], *columns, empty=nothing)
    for failure in search.failures:
        context.output.note(f"{failure.what}: {failure.why}")
    if not context.arguments.plan:
        context.output.note(f"written down: {counted(count, 'tag')} came from upstreams")
    return Exit.PARTLY if search.failures else Exit.DONE


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
