"""`homeport jobs`: what runs, what ran, how it went; starting a run and following it to its end."""

from __future__ import annotations

import asyncio
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, get_args

from homeport.cli.administration.contract import Administration, Told, Unreachable
from homeport.cli.administration.opening import opened
from homeport.cli.context import Context
from homeport.cli.interrupts import Interrupts
from homeport.cli.options import positive
from homeport.cli.output import Exit, WrongUsage, cell
from homeport.cli.progress import JobProgress, amount
from homeport.cli.verbs import Verbs
from homeport.events import Event
from homeport.jobs.queue import JobError, State
from homeport.jobs.summary import Failure, Summary
from homeport.kinds import JOBS, Outcome

#: A verb's exit code after a run that ended so.
EXITS = {
    Outcome.SUCCESS: Exit.DONE,
    Outcome.PARTIAL: Exit.PARTLY,
    Outcome.ERROR: Exit.FAILED,
    Outcome.SKIPPED: Exit.SKIPPED,
    Outcome.CANCELLED: Exit.FAILED,
}


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    jobs = verbs.family("jobs", "What runs and ran: by its schedule, or because somebody asked.")
    parser = jobs.verb("list", "List the jobs, the newest first.", list_jobs, server=True)
    parser.add_argument("--kind", metavar="KIND", help="only of this kind")
    parser.add_argument("--state", choices=get_args(State), help="only those in this state")
    parser.add_argument("--limit", metavar="N", type=positive, default=50, help="at most so many; 50 unless given")
    parser = jobs.verb("show", "Show one job: who asked for it, how far it is, how it ended.", show_job, server=True)
    parser.add_argument("id", metavar="ID", type=positive)
    parser = jobs.verb(
        "log",
        "Print what a job said.",
        print_log,
        more="Of a long log the newest lines are kept. With --follow and --json it prints one JSON object a line.",
        server=True,
    )
    parser.add_argument("id", metavar="ID", type=positive)
    parser.add_argument("--follow", action="store_true", help="go on until the job ends")
    parser = jobs.verb("cancel", "End a job that waits, or ask one that runs to stop.", cancel_job, server=True)
    parser.add_argument("id", metavar="ID", type=positive)
    parser = jobs.verb("retry", "Ask for the same again that an ended job did.", retry_job, server=True)
    parser.add_argument("id", metavar="ID", type=positive)
    exits = ", ".join(f"{outcome} {code:d}" for outcome, code in EXITS.items())
    kinds = "\n".join(f"  {kind}: {sentence}" for kind, sentence in JOBS.items())
    parser = jobs.verb(
        "run",
        "Start a run and follow it to its end; the exit code is its outcome.",
        run_job,
        more=f"KIND is one of:\n{kinds}\n\n"
        f"Exit codes: {exits}.\n"
        "Where no worker runs on the data folder, it runs in this process. A server that cannot be reached makes it\n"
        "end as skipped, which the targets under 'notify' are told from here. Ctrl-C stops following; a run in this\n"
        "process is cancelled by it.",
        server=True,
    )
    parser.add_argument("kind", metavar="KIND")
    parser.add_argument(
        "--argument", metavar="NAME=VALUE", type=_argument, action="append", default=[], help="may be given again"
    )
    parser.add_argument("--detach", action="store_true", help="start it and do not follow")


async def list_jobs(context: Context) -> int:
    arguments = context.arguments
    async with opened(context) as administration:
        rows = await administration.jobs(kind=arguments.kind, state=arguments.state, limit=arguments.limit)
    columns = ("id", "kind", "state", "outcome", "created", "ended", "actor", "reason")
    context.output.table(rows, *columns, empty="no jobs")
    return Exit.DONE


async def show_job(context: Context) -> int:
    async with opened(context) as administration:
        job = await administration.job(context.arguments.id)
    parts = ("arguments", "progress", "summary")
    lines = [f"{name.replace('_', ' ')}: {cell(value)}" for name, value in job.items() if value and name not in parts]
    lines += [f"argument {name}: {value}" for name, value in job["arguments"].items()]
    if job["progress"]:
        lines.append(f"progress: {amount(job['progress'])} {job['progress']['text']}")
    if job["summary"]:
        lines += _summary_lines(job["summary"])
    context.output.result(job, "\n".join(lines))
    return Exit.DONE


async def print_log(context: Context) -> int:
    async with opened(context) as administration:
        if not context.arguments.follow:
            lines = await administration.log(context.arguments.id)
            context.output.result(lines, "\n".join(map(_line, lines)))
            return Exit.DONE
        async with aclosing(administration.follow(context.arguments.id)) as steps:
            async for step in steps:
                if "line" in step:
                    context.output.result(step["line"], _line(step["line"]))
    return Exit.DONE


async def cancel_job(context: Context) -> int:
    async with opened(context) as administration:
        job = await administration.cancel(context.arguments.id)
    is_over = job["state"] == "ended"
    context.output.result(job, f"job {job['id']} {'is cancelled' if is_over else 'was asked to stop'}")
    return Exit.DONE


async def retry_job(context: Context) -> int:
    async with opened(context) as administration:
        job = await administration.again(context.arguments.id)
        await _say_if_nobody_works(context, administration)
    context.output.result(job, f"job {job['id']} does the same again")
    return Exit.DONE


# --- run --------------------------------------------------------------------------------------------------------


async def run_job(context: Context) -> int:
    arguments = context.arguments
    values = dict(arguments.argument)
    if len(values) < len(arguments.argument):
        raise WrongUsage("an argument is given twice; each NAME has one value")
    return await run_kind(context, arguments.kind, values)


async def run_kind(context: Context, kind: str, values: Mapping[str, str]) -> int:
    """Start a run of this kind and follow it to its end, unless the command line has --detach; the exit code."""
    async with opened(context) as administration:
        try:
            job = await administration.start(kind, values, attend=not context.arguments.detach)
        except Unreachable as error:
            return await _skip(context, error, kind, values)
        say_if_loaded_otherwise(context, await administration.loaded_otherwise(kind))
        if context.arguments.detach:
            await _say_if_nobody_works(context, administration)
            context.output.result(
                job, f"job {job['id']} was started; `homeport jobs log {job['id']} --follow` shows it"
            )
            return Exit.DONE
        with Interrupts() as interrupts, JobProgress(context.output, context.clock) as progress:
            ended = await _follow(context, administration, job["id"], progress, interrupts)
    if ended is None:
        return interrupts.exit_code
    context.output.result(ended, _ending(ended))
    return EXITS[Outcome(ended["outcome"])]


async def _follow(
    context: Context, administration: Administration, job_id: int, progress: JobProgress, interrupts: Interrupts
) -> Told | None:
    """The job when it has ended; None where a person did not want to wait for that."""
    after, cancelling = 0, False
    while True:
        try:
            if cancelling:
                with suppress(JobError):  # It may have ended just now.
                    await administration.cancel(job_id)
            async with aclosing(administration.follow(job_id, after)) as steps:
                async for step in steps:
                    if "line" in step:
                        after = step["line"]["number"]
                        progress.said(step["line"]["text"])
                    elif step["job"]["state"] == "ended":
                        ended: Told = step["job"]
                        return ended
                    else:
                        progress.moved(step["job"])
        except asyncio.CancelledError:
            interrupts.go_on()
            if not administration.works:
                context.output.note(
                    f"stopped following; job {job_id} goes on, and `homeport jobs cancel {job_id}` cancels it"
                )
                return None
            if interrupts.urgent:
                context.output.note(f"job {job_id} ran here and goes back to where it waits for a worker")
                return None
            context.output.note(f"cancelling job {job_id}, which runs here; Ctrl-C again leaves it at once")
            cancelling = True


async def _say_if_nobody_works(context: Context, administration: Administration) -> None:
    if not await administration.has_worker():
        context.output.note("no worker runs on this data folder; the job waits for `homeport up` or `homeport work`")


def say_if_loaded_otherwise(context: Context, parts: Sequence[str]) -> None:
    """Say that a run goes by other settings than these: what is shown of it or expected from it may not be so."""
    if parts:
        context.output.note(
            f"a run goes by what the running server has loaded, where {' and '.join(parts)} differ from these settings;"
            " `homeport config reload` makes it read its configuration again"
        )


async def _skip(context: Context, error: Unreachable, kind: str, arguments: Mapping[str, str]) -> int:
    """What a run that could not be asked for comes to: told here and to the targets of the configuration."""
    now = context.clock.now()
    failure = Failure(context.arguments.server, str(error))
    told = {"job": None, **Summary(Outcome.SKIPPED, error.reason, failures=(failure,)).told(), "seconds": 0.0}
    context.output.note(str(error))
    if kind in JOBS:
        actor = context.origin.actor
        event = Event(0, now, f"{kind}.finished", actor, "", None, None, None, error.reason, None, told)
        await _notify(context, event)
    else:
        context.output.note(f"no kind of job is called '{kind}' here, so nobody was notified")
    job = {"id": None, "kind": kind, "arguments": dict(arguments), "state": "ended", "outcome": told["outcome"]}
    context.output.result({**job, "reason": error.reason, "summary": told}, f"{kind}: skipped: {error.reason}")
    return Exit.SKIPPED


async def _notify(context: Context, event: Event) -> None:
    try:
        async with context.doors.open_outgoing(context.settings()) as outgoing:
            sent = await outgoing.notifier.send_once(event)
    except Exception as error:  # noqa: BLE001 (whatever it is, the run stays skipped, and that is what counts)
        context.output.note(f"nobody could be notified: {error}")
        return
    for target, one in sent:
        if one.outcome != "sent":
            context.output.note(f"{target} could not be notified: {one.words}")


# --- texts ------------------------------------------------------------------------------------------------------


def _ending(job: Told) -> str:
    summary = job["summary"]
    after = f" after {summary['seconds']:.1f} s" if summary["seconds"] else ""
    reason = f": {summary['reason']}" if summary["reason"] else ""
    counts = ", ".join(f"{name} {count}" for name, count in summary["counts"].items())
    lines = [f"job {job['id']} ({job['kind']}): {job['outcome']}{after}{reason}", *([counts] if counts else [])]
    return "\n".join(lines + failure_lines(summary))


def _summary_lines(summary: Mapping[str, Any]) -> list[str]:
    counts = [f"{name}: {count}" for name, count in summary["counts"].items()]
    return [f"seconds: {summary['seconds']}", *counts, *failure_lines(summary)]


def failure_lines(summary: Mapping[str, Any]) -> list[str]:
    """What failed, and how many more things than are named."""
    lines = [f"failed: {failure['what']}: {failure['why']}" for failure in summary["failures"]]
    more = summary["failed"] - len(lines)
    return [*lines, *([f"... and {more} more"] if more > 0 else [])]


def _line(line: Told) -> str:
    return f"{line['at']}  {line['text']}"


def _argument(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value
