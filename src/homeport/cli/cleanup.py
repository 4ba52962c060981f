"""`homeport cleanup`: run it now, see what would go and why, and let go what a run stopped at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich.filesize import decimal

from homeport.cli.context import Context
from homeport.cli.jobs import EXITS, run_kind
from homeport.cli.options import duration, positive, repositories
from homeport.cli.output import CommandError, Exit, WrongUsage, format_time
from homeport.cli.verbs import Verbs
from homeport.config.loading import load
from homeport.config.plans import NEVER
from homeport.config.settings import Settings
from homeport.garbage import brake, guard, job, plan, why
from homeport.garbage.brake import BrakeError
from homeport.garbage.holdings import Going
from homeport.garbage.plan import Amount, Group, Plan, RepositoryPlan
from homeport.garbage.why import Found, Reason
from homeport.jobs.schedule import next_time
from homeport.oci.digest import Digest
from homeport.oci.reference import check_repository, check_tag
from homeport.registry import protections
from homeport.registry.registry import Registry
from homeport.registry.uploads import Resting

#: The pattern of every repository.
_EVERY: Final = "**"
#: With --all: more than any repository has.
_ALL: Final = 10_000_000

_BRAKE = f"""\
A run that would remove more than {brake.TAGS_MAX} tags and more than {brake.PART_MAX:.0%} of a repository, or of all,
removes none, whoever started it; `homeport cleanup release RUN` lets them go."""


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    cleanup = verbs.family("cleanup", "What goes: by the retention policy, and because nothing refers to it.")
    _add_run(cleanup)
    parser = cleanup.verb(
        "plan",
        "Show what a run would remove now and what goes by itself, when, why, and how many bytes come back.",
        print_plan,
        more="Nothing is removed. Bytes come back when the trash is purged; what several images share is counted once.",
    )
    parser.add_argument("--policy", metavar="FILE", help="with the sections 'cleanup' and 'repositories' of this file")
    parser.add_argument("--repository", metavar="PATTERN", type=repositories, default=_EVERY, help="only of these")
    parser.add_argument("--all", action="store_true", help="every tag and manifest, not only the first of each reason")
    parser = cleanup.verb(
        "why",
        "Say why something is kept, or when it goes.",
        print_why,
        more="Of a repository: every tag, and every manifest that no tag points at.",
    )
    parser.add_argument("what", metavar="REPOSITORY[:TAG|@DIGEST]")
    parser = cleanup.verb(
        "release",
        "Let go the tags that a run stopped at, in a new run, and follow that.",
        release,
        more="The new run removes at most as many tags of each repository as RUN would have; if more would go by\n"
        "now, it stops as well.",
    )
    parser.add_argument("run", metavar="RUN", type=positive, help="the number of its job")
    parser.add_argument("--detach", action="store_true", help="start it and do not follow")
    parser.set_defaults(server=None, token_file=None)
    cleanup.verb(
        "confirm-clock",
        "Say that the clock is right, so that things are deleted again.",
        confirm_clock,
        more="After the clock has jumped nothing is deleted until somebody does.",
    )


def _add_run(cleanup: Verbs) -> None:
    exits = ", ".join(f"{outcome} {code:d}" for outcome, code in EXITS.items())
    parser = cleanup.verb(
        "run",
        "Remove the tags that no rule keeps, sweep, and print the summary; the exit code is its outcome.",
        run,
        more=f"{_BRAKE}\n\nExit codes: {exits}.",
        server=True,
    )
    parser.add_argument(
        "--untagged-after",
        metavar="DURATION",
        type=_duration_text,
        help="let untagged manifests go after this instead of the configured time; 0 is at once",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what the summary would be")
    parser.add_argument("--detach", action="store_true", help="start it and do not follow")


def _duration_text(text: str) -> str:
    duration(text)
    return text


async def run(context: Context) -> int:
    values = {}
    if context.arguments.untagged_after is not None:
        values["untagged_after"] = context.arguments.untagged_after
    if context.arguments.dry_run:
        values["dry_run"] = "true"
    return await run_kind(context, job.NAME, values)


async def release(context: Context) -> int:
    run_id = context.arguments.run
    async with context.registry() as registry:
        try:
            await registry.db.write(brake.release, registry, context.origin, run_id)
        except BrakeError as error:
            raise CommandError(str(error)) from None
    return await run_kind(context, job.NAME, {"released": str(run_id)})


async def confirm_clock(context: Context) -> int:
    async with context.registry() as registry:
        stopped = await registry.db.write(guard.confirm, registry, context.origin)
    text = (
        "nothing had been stopped" if stopped is None else f"things are deleted again; it had been stopped: {stopped}"
    )
    context.output.result({"stopped": stopped}, text)
    return Exit.DONE


# --- plan -------------------------------------------------------------------------------------------------------


async def print_plan(context: Context) -> int:
    arguments = context.arguments
    settings = _tried(context)
    listed = _ALL if arguments.all else plan.LISTED
    async with context.registry(settings) as registry:
        unknown = await registry.db.read(protections.unknown_engines, settings.in_use.engines)
        found = await plan.plan(registry, matching=arguments.repository, listed=listed)
    dates = _Dates(settings, found.at)
    if context.output.as_json:
        context.output.result(_plan_told(found, dates, settings.cleanup.uploads_after), "")
    else:
        for line in _plan_lines(found, dates, settings, is_all=arguments.all):
            context.output.line(line)
    for excess in brake.excesses(found.going, found.tags, {}):
        if excess.repository is None and arguments.repository != _EVERY:
            continue  # Of all repositories not all are in this plan.
        context.output.note(f"a run would stop and remove no tag: {excess.sentence}")
    for engine in unknown:
        context.output.note(f"engine {engine} has never told what it runs: no tag goes until it does")
    return Exit.DONE


def _tried(context: Context) -> Settings:
    """The settings, with those sections that --policy replaces."""
    settings, file = context.settings(), context.arguments.policy
    if file is None:
        return settings
    tried = load(Path(file), {})
    both = {"cleanup": tried.cleanup, "repositories": tried.repositories}
    sections = {name: section for name, section in both.items() if name in tried.model_fields_set}
    if not sections:
        raise WrongUsage(f"{file} has neither 'cleanup' nor 'repositories', so there is nothing to try")
    return settings.model_copy(update=sections)


class _Dates:
    """Times as people read them, in the time zone of the configuration."""

    def __init__(self, settings: Settings, now: float) -> None:
        self._zone = ZoneInfo(settings.time_zone)
        self._now = now
        expression = settings.cleanup.schedule
        #: When the next run is due; None: none is.
        self.next_run = None if expression == NEVER else next_time(expression, settings.time_zone, now)

    def day(self, seconds: float) -> str:
        """`3 Dec`; with the year where it is not this one."""
        at, now = (datetime.fromtimestamp(each, self._zone) for each in (seconds, self._now))
        return f"{at.day} {at:%b}" + (f" {at.year}" if at.year != now.year else "")

    def goes(self, seconds: float | None) -> str:
        """`goes on 3 Dec`, `goes today at 14:05`, `goes now`; without a time: with the next run."""
        if seconds is None:
            return "goes with the next run" if self.next_run is None else f"goes on {self.day(self.next_run)}"
        if seconds <= self._now:
            return "goes now"
        at, now = (datetime.fromtimestamp(each, self._zone) for each in (seconds, self._now))
        return f"goes today at {at:%H:%M}" if at.date() == now.date() else f"goes on {self.day(seconds)}"


def _plan_lines(found: Plan, dates: _Dates, settings: Settings, *, is_all: bool) -> Iterator[str]:
    for each in found.repositories:
        if is_all or each.goes or each.unreferenced_count or each.tags:
            yield from _repository_lines(each, dates)
    for upload in found.uploads:
        at = upload.moved_at + settings.cleanup.uploads_after
        yield f"upload to {upload.repository} by {upload.actor}: {dates.goes(at)} unless it moves"
    when = "; none is scheduled" if dates.next_run is None else f", on {dates.day(dates.next_run)}"
    yield f"with the next run{when}: {found.tags_going} of {found.tags} tags"
    total = found.in_all
    yield f"in the end: {total.manifests} manifests, {total.blobs} blobs, {decimal(total.bytes)} come back"


def _repository_lines(each: RepositoryPlan, dates: _Dates) -> Iterator[str]:
    yield f"{each.repository}: {each.tags_going} of {each.tags} tags go"
    for verb, groups in (("goes", each.goes), ("kept", each.stays)):
        for group in groups:
            yield f"  {verb}: {group.reason}: {_names(group)}"
    for going in each.unreferenced:
        yield f"  {going.digest} {dates.goes(going.at)}: {_what(going)} since {dates.day(going.since)}"
    if (more := each.unreferenced_count - len(each.unreferenced)) > 0:
        yield f"  ... and {more} more that nothing refers to"


def _names(group: Group) -> str:
    more = group.count - len(group.tags)
    return f"{', '.join(group.tags)}{f' and {more} more' if more else ''}"


def _what(going: Going) -> str:
    return "untagged" if going.is_manifest else "no manifest names it"


def _plan_told(found: Plan, dates: _Dates, uploads_after: float) -> dict[str, Any]:
    return {
        "at": format_time(found.at),
        "next_run": format_time(dates.next_run),
        "tags": found.tags,
        "tags_going": found.tags_going,
        "in_all": _amount_told(found.in_all),
        "at_once": _amount_told(found.at_once),
        "repositories": [_repository_told(each) for each in found.repositories],
        "uploads": [_upload_told(upload, uploads_after) for upload in found.uploads],
    }


def _amount_told(amount: Amount) -> dict[str, int]:
    return {"manifests": amount.manifests, "blobs": amount.blobs, "freed": amount.freed, "bytes": amount.bytes}


def _repository_told(each: RepositoryPlan) -> dict[str, Any]:
    return {
        "repository": each.repository,
        "tags": each.tags,
        "tags_going": each.tags_going,
        "protected_by": each.protected_by,
        "goes": _groups_told(each.goes),
        "stays": _groups_told(each.stays),
        "unreferenced": [
            {
                "digest": going.digest,
                "bytes": going.size,
                "reason": _what(going),
                "since": format_time(going.since),
                "goes_at": format_time(going.at),
            }
            for going in each.unreferenced
        ],
        "unreferenced_count": each.unreferenced_count,
    }


def _groups_told(groups: Iterable[Group]) -> list[dict[str, Any]]:
    return [{"reason": group.reason, "count": group.count, "tags": group.tags} for group in groups]


def _upload_told(upload: Resting, uploads_after: float) -> dict[str, Any]:
    return {
        "repository": upload.repository,
        "actor": upload.actor,
        "started": format_time(upload.started_at),
        "moved": format_time(upload.moved_at),
        "goes_at": format_time(upload.moved_at + uploads_after),
    }


# --- why --------------------------------------------------------------------------------------------------------


async def print_why(context: Context) -> int:
    settings = context.settings()
    text = context.arguments.what
    async with context.registry(settings) as registry:
        dates = _Dates(settings, registry.clock.now())
        found, is_one = await _found(registry, text)
    if context.output.as_json:
        told = [_why_told(each, dates) for each in found]
        context.output.result(told[0] if is_one else told, "")
        return Exit.DONE
    for each in found:
        for reason in each.reasons:
            sentence = _sentence(reason, dates)
            context.output.line(sentence if is_one else f"{each.name}  {sentence}")
    return Exit.DONE


async def _found(registry: Registry, text: str) -> tuple[list[Found], bool]:
    """What the text names, and whether that is one thing."""
    repository, at, digest = text.partition("@")
    if at:
        return [await why.of_digest(registry, check_repository(repository), Digest.parse(digest))], True
    repository, colon, tag = text.partition(":")
    if colon:
        return [await why.of_tag(registry, check_repository(repository), check_tag(tag))], True
    return [each async for each in why.of_repository(registry, check_repository(repository))], False


def _sentence(reason: Reason, dates: _Dates) -> str:
    if not reason.keeps:
        since = "" if reason.since is None else f" since {dates.day(reason.since)}"
        return f"{dates.goes(reason.until)}: {reason.text}{since}"
    until = "" if reason.until is None else f" until {dates.day(reason.until)}"
    return f"kept{until}: {reason.text}"


def _why_told(found: Found, dates: _Dates) -> dict[str, Any]:
    return {
        "name": found.name,
        "digest": found.digest,
        "keeps": any(reason.keeps for reason in found.reasons),
        "reasons": [
            {
                "keeps": reason.keeps,
                "reason": reason.text,
                "since": format_time(reason.since),
                "until": format_time(reason.until if reason.keeps or reason.until is not None else dates.next_run),
            }
            for reason in found.reasons
        ],
    }
