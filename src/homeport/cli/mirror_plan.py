"""What of `homeport mirror` asks upstreams and changes nothing there: what a run would do, and whose tags these are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

from rich.filesize import decimal

from homeport.cli.context import Context, Services
from homeport.cli.jobs import say_if_loaded_otherwise
from homeport.cli.mirror_told import copy_told, departure_told, pulls_left, quota_told
from homeport.cli.output import CommandError, Exit, counted, format_time
from homeport.client.errors import ClientError
from homeport.mirror import adoption, job, leaving, rules
from homeport.mirror.adoption import Adoption
from homeport.mirror.estimate import Cost, Estimate
from homeport.mirror.plan import Departure
from homeport.mirror.planning import Decided, Planner, hosts
from homeport.mirror.remaining import Copy
from homeport.oci import patterns
from homeport.upstreams import quotas
from homeport.upstreams.quotas import Standing

#: How many images a message names.
_LABELS_MAX: Final = 20
#: How many tags are told by name that are not meant for one reason.
_TAGS_MAX: Final = 5


@asynccontextmanager
async def _services(context: Context) -> AsyncIterator[Services]:
    settings = context.settings()
    async with (
        context.registry(settings) as registry,
        context.doors.open_services(settings, registry) as services,
    ):
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
        planner = Planner(parts.registry, parts.upstreams, parts.settings(), quiet=True)
        follow = settings.mirror.follow and name is None
        decided = await planner.decide(wanted, follow=follow, everything=name is None)
        costs = await _costs(services, decided, reads=context.arguments.sizes)
        stays = {each: await parts.registry.db.read(leaving.why_stays, parts.registry, each) for each in _due(decided)}
        await parts.upstreams.flush()
        left = await parts.registry.db.read(quotas.every)
    now = context.clock.now()
    otherwise = context.loaded_otherwise(settings, job.NAME)
    if context.output.as_json:
        told = _plan_told(decided, costs, stays, left)
        context.output.result({**told, "loaded_otherwise": otherwise}, "")
    else:
        for line in _plan_lines(decided, costs, stays, left, now):
            context.output.line(line)
        for line in _not_meant_lines(decided) if name is not None else ():
            context.output.line(line)
        if any(cost.unread for cost in costs.values()):
            context.output.note("--sizes tells how large they are, and all that they cost")
    for failure in decided.failures:
        context.output.note(f"{failure.what}: {failure.why}")
    say_if_loaded_otherwise(context, otherwise)
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
            yield f"{standing.host} has {pulls_left(standing)}"


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
            {**copy_told(copy), "bytes": None if cost.unread else cost.bytes, "pulls": cost.pulls}
            for copy, cost in costs.items()
        ],
        "waiting": [{"name": told.name, "why": told.why} for told in decided.waiting],
        "left": [{"name": told.name, "why": told.why} for told in decided.theirs],
        "stopped": [{"source": str(stop.source), "reason": stop.reason} for stop in decided.braked],
        "leaving": [{**departure_told(each), "stays": stays.get(each)} for each in decided.departures.leaving],
        "adopted": [_adopted_told(each) for each in decided.adopted],
        "not_meant": [
            {"source": str(source), "why": why, "tags": tags}
            for source, reasons in sorted(decided.not_meant.items())
            for why, tags in sorted(reasons.items())
        ],
        "failures": [{"what": failure.what, "why": failure.why} for failure in decided.failures],
        "quotas": [quota_told(standing) for standing in left],
    }


def _adopted_told(each: adoption.Adopted) -> dict[str, Any]:
    source = None if each.source is None else str(each.source)
    return {"repository": each.repository, "tag": each.tag, "source": source, "why": each.why}


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
